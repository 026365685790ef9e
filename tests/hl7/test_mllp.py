"""The framer: whatever the cuts, the same frames; careless senders; limits."""

import re
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.hl7.mllp import ABANDON, Frame, Framer, TooLarge, frame

MOST = 40


def frames(*reads: bytes, most: int = 1000) -> list[Frame | TooLarge]:
    framer = Framer(most)
    return [item for read in reads for item in framer.feed(read)]


def contents(*reads: bytes, most: int = 1000) -> list[bytes]:
    return [item.content for item in frames(*reads, most=most) if isinstance(item, Frame)]


def test_a_frame_is_what_stands_between_vt_and_fs() -> None:
    assert contents(b"\x0bMSH|a\r\x1c\r") == [b"MSH|a\r"]


def test_what_frame_writes_the_framer_reads() -> None:
    assert contents(frame(b"MSH|a\r")) == [b"MSH|a\r"]


def test_a_frame_may_come_in_many_reads() -> None:
    assert contents(*(bytes([byte]) for byte in b"\x0bMSH|a\r\x1c\r")) == [b"MSH|a\r"]


def test_several_frames_may_come_in_one_read() -> None:
    assert contents(b"\x0bMSH|a\x1c\r\x0bMSH|b\x1c\r\x0bMSH|c") == [b"MSH|a", b"MSH|b"]


def test_fs_alone_ends_a_frame_at_once() -> None:
    assert contents(b"\x0bMSH|a\r\x1c") == [b"MSH|a\r"]


def test_line_feeds_and_second_fs_between_frames_are_not_stray() -> None:
    framer = Framer(1000)
    assert framer.feed(b"\r\n\x0bMSH|a\x1c\r\n\x1c\x0bMSH|b\x1c\n") == [Frame(b"MSH|a"), Frame(b"MSH|b")]
    assert framer.stray == 0


def test_other_bytes_between_frames_are_skipped_and_counted() -> None:
    framer = Framer(1000)
    assert framer.feed(b"hello\x0bMSH|a\x1c\rxyz") == [Frame(b"MSH|a")]
    assert framer.stray == 8


def test_a_sender_without_frames_gets_nothing_and_costs_no_memory() -> None:
    framer = Framer(1000)
    assert [framer.feed(b"MSH|^~\\&|HIS\rPID|1\r") for _ in range(100)] == [[]] * 100
    assert framer.stray == 100 * len(b"MSH|^~\\&|HISPID|1")
    assert not framer._buffer


def test_a_frame_that_begins_anew_is_the_last_one() -> None:
    framer = Framer(1000)
    assert framer.feed(b"\x0bMSH|broken off\r\x0bMSH|whole\r\x1c\r") == [Frame(b"MSH|whole\r")]
    assert framer.unterminated == 1


def test_a_vertical_tab_within_a_text_is_kept() -> None:
    assert contents(b"\x0bMSH|a\rOBX|\x0bMSA\x1c\r") == [b"MSH|a\rOBX|\x0bMSA"]


def test_an_empty_frame_is_a_frame() -> None:
    assert contents(b"\x0b\x1c\r") == [b""]


def test_an_unterminated_frame_is_no_frame() -> None:
    framer = Framer(1000)
    assert framer.feed(b"\x0bMSH|a\r") == []
    assert framer.is_open


def test_utf16_content_may_hold_the_byte_of_fs() -> None:
    content = "MSH|^~\\&|Ĝ\u1c01|\r".encode("utf-16-le")
    assert b"\x1c" in content
    assert contents(frame(content)) == [content]
    assert contents(*(bytes([byte]) for byte in frame(content))) == [content]


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    assert contents(frame(b"M" * MOST), most=MOST) == [b"M" * MOST]


def test_a_frame_over_the_limit_gives_its_head_and_the_next_one_follows() -> None:
    assert frames(frame(b"M" * (MOST + 1)) + frame(b"next"), most=MOST) == [TooLarge(b"M" * MOST), Frame(b"next")]


def test_a_large_frame_is_not_kept_while_it_comes() -> None:
    framer = Framer(MOST)
    framer.feed(b"\x0b")
    for _ in range(ABANDON - 1):
        assert framer.feed(b"x" * MOST) == []
        assert len(framer._buffer) <= MOST + 1
    assert framer.feed(b"\x1c") == [TooLarge(b"x" * MOST)]


def test_a_frame_without_end_is_abandoned_and_nothing_more_comes_out() -> None:
    framer = Framer(MOST)
    assert framer.feed(b"\x0b" + b"x" * (MOST * ABANDON + 1)) == [TooLarge(b"x" * MOST, abandoned=True)]
    assert framer.feed(frame(b"next")) == []


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


token = st.sampled_from(
    [b"\x0b", b"\x1c", b"\r", b"\n", b"MSH|", b"BHS|", b"M\x00", b"\xff\xfe", b"a", b"x" * 15, b"y" * 400, b"z" * 700]
)


@given(st.lists(token, max_size=30).map(b"".join), st.lists(st.integers(0, 1500), max_size=12))
@example(b"\x0b\xff\xfe" + b"x" * 60 + b"\x1c\x1c\r", [62, 63, 64])
def test_any_cuts_give_the_same_frames(stream: bytes, cuts: list[int]) -> None:
    whole = Framer(MOST)
    expected = whole.feed(stream)
    cut = Framer(MOST)
    actual = [item for piece in pieces(stream, cuts) for item in cut.feed(piece)]
    assert actual == expected
    assert (cut.unterminated, cut.is_open) == (whole.unterminated, whole.is_open)
    if not any(isinstance(item, TooLarge) and item.abandoned for item in expected):
        assert cut.stray == whole.stray


plain = (
    st.binary(min_size=1, max_size=60)
    .map(lambda content: re.sub(rb"[\x0b\x1c\x00]", b"", content))
    .map(lambda content: b"MSH|" + content)
)


@given(st.lists(plain, max_size=6), st.lists(st.integers(0, 400), max_size=12))
def test_clean_frames_come_out_as_they_went_in(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, messages))
    assert contents(*pieces(stream, cuts)) == messages
