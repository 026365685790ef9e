"""Splitting: batches, files of several messages, frames, wide characters; nothing is lost."""

import codecs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.hl7.batch import split
from pipeline.hl7.er7 import parse

A = b"MSH|^~\\&|A|||||||1\rPID|1||7"
B = b"MSH|^~\\&|B|||||||2\rPID|1||8\rZZZ|x"
ENVELOPE = (b"FHS|^~\\&|F\rBHS|^~\\&|B\r", b"\rBTS|2\rFTS|1\r")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\r\n \n", []),
        (b"\xef\xbb\xbf", []),
        (A, [A]),
        (A + b"\r" + B + b"\r", [A, B]),
        (A + b"\r\n\r\n" + B, [A, B]),
        (A.replace(b"\r", b"\n") + b"\n" + B, [A.replace(b"\r", b"\n"), B]),
        (ENVELOPE[0] + A + b"\r" + B + ENVELOPE[1], [A, B]),
        (b"BHS:-+?*:x\n" + A + b"\nBTS|1", [A]),
        (b"FHS|^~\\&\r\nBHS|^~\\&\r\nBTS|0\r\nFTS|0", []),
        (b"\x0b" + A + b"\x1c\r\x0b" + B + b"\r\x1c\r", [A, B]),
        (b"\x0b" + A + b"\x1c\x0b" + B + b"\x1c", [A, B]),
        (b"\x0b" + A + b"\r" + B + b"\x1c\r", [A, B]),
        (b"\xef\xbb\xbf" + A + b"\r" + B, [b"\xef\xbb\xbf" + A, B]),
        (A + b"\r\x1a", [A]),
        (b"hello", [b"hello"]),
        (b"hello\r\n" + A, [b"hello", A]),
        (b"\x0b" + A + b"\x1c\rgarbage\x0b" + B + b"\x1c\r", [A, b"garbage", B]),
        (A + b"\rBTS|1\rgarbage\rmore\r" + B, [A, b"garbage\rmore", B]),
        (b"\n\x0b" + A + b"\x1c\rgarbage\r\x0b" + B + b"\x1c\r", [A, b"garbage", B]),
        (A + b"\rBHS|^~\\&\rPID|2\r", [A, b"PID|2"]),
        (A + b"\rnot a segment\r" + B, [A + b"\rnot a segment", B]),
        (b"MSHX|1\r" + A, [b"MSHX|1", A]),
        (b"MSH", [b"MSH"]),
        (b"  " + A + b"\r  " + B, [b"  " + A, b"  " + B]),
    ],
)
def test_each_message_and_each_piece_of_garbage_is_an_item(data: bytes, expected: list[bytes]) -> None:
    assert list(split(data)) == expected


def test_a_message_named_inside_a_field_is_no_message() -> None:
    value = A + b"\rOBX|1|TX|||MSH|^~\\&|"
    assert list(split(value)) == [value]


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("marked", [True, False])
def test_a_file_of_wide_characters_is_split_into_readable_messages(codec: str, marked: bool) -> None:
    mark = {
        "utf-16-le": codecs.BOM_UTF16_LE,
        "utf-16-be": codecs.BOM_UTF16_BE,
        "utf-32-le": codecs.BOM_UTF32_LE,
        "utf-32-be": codecs.BOM_UTF32_BE,
    }[codec]
    text = f"FHS|^~\\&\r{A.decode()}Ћ李\r{B.decode()}\rFTS|1\r"
    items = list(split((mark if marked else b"") + text.encode(codec)))
    assert [parse(item, charset="utf-8")("PID-3") for item in items] == ["7Ћ李", "8"]


def test_frames_of_wide_characters_are_split() -> None:
    frames = b"".join(b"\x0b" + message.decode().encode("utf-16-le") + b"\x1c\r" for message in (A, B))
    assert [parse(item, charset="utf-8")("MSH-3") for item in split(frames)] == ["A", "B"]


def test_a_broken_wide_character_loses_no_message() -> None:
    data = f"{A.decode()}\ud800\r{B.decode()}\r".encode("utf-16-le", "surrogatepass") + b"X"
    assert [parse(item, charset="utf-8")("MSH-3") for item in list(split(data))[:2]] == ["A", "B"]
    assert list(split(data))[2] == b"X"


SAFE = st.binary(max_size=20).map(
    lambda data: bytes(byte for byte in data if byte not in b"\x0b\x1c\r\n\x00\x1a \tMFB\xef\xbb\xbf")
)


@given(st.lists(SAFE, min_size=1, max_size=5), st.sampled_from([b"\r", b"\n", b"\r\n"]), st.booleans(), st.booleans())
def test_as_many_messages_come_out_as_went_in(tails: list[bytes], end: bytes, framed: bool, batch: bool) -> None:
    messages = [b"MSH|^~\\&|" + tail + end + b"PID|1" for tail in tails]
    body = b"".join(b"\x0b" + each + b"\x1c\r" for each in messages) if framed else end.join(messages) + end
    data = b"BHS|^~\\&" + end + body + b"BTS|9" + end if batch and not framed else body
    assert list(split(data)) == messages


ENVELOPES = (b"FHS", b"BHS", b"BTS", b"FTS")
NOTHING = b"\r\n\x0b\x1c\x1a\x00 \t\xef\xbb\xbf\xfe\xff"
"""Bytes that may go: line ends, frames, blanks, byte order marks."""


@given(st.binary() | st.text(alphabet="MSHFBT|\r\n\x0b\x1c x").map(str.encode))
@example(b"\xfe\xff")
@example(b"\xff\xfex\x00\r\x00M\x00S\x00H\x00|\x00y")
def test_no_byte_but_blanks_frames_and_envelopes_vanishes(data: bytes) -> None:
    kept = b"".join(split(data))
    if not any(name in data.replace(b"\x00", b"") for name in ENVELOPES):
        assert sorted(byte for byte in kept if byte not in NOTHING) == sorted(byte for byte in data if byte not in NOTHING)
