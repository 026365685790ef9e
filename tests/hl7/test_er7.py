"""Reading a message: paths, delimiters, line ends, framing, nulls, what is refused; round trips by Hypothesis."""

from time import process_time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import Parked
from pipeline.hl7.batch import split
from pipeline.hl7.er7 import Message, parse
from pipeline.hl7.event import typed
from pipeline.model import Finding, Hl7
from schemas.event import NULL
from schemas.outcomes import FindingCode, Reason, Severity
from tests.hl7.samples import HEADER, message

PID = "PID|1||123^^^AMC&1.2.3&ISO^PI~999^^^NLMINBIZA^NNNLD||Berg&van den&Berg^Jo~Jansen"


def test_a_message_satisfies_the_port_of_the_model() -> None:
    port: Hl7 = message(PID)
    assert port("PID-3") == "123"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("MSH-1", "|"),
        ("MSH-2", "^~\\&"),
        ("MSH-9.2", "A01"),
        ("MSH-10", "MSG1"),
        ("PID-3", "123"),
        ("PID-3.4", "AMC"),
        ("PID-3.4.2", "1.2.3"),
        ("PID-3[2]", "999"),
        ("PID-3[2].5", "NNNLD"),
        ("PID-3[2].4.1", "NLMINBIZA"),
        ("PID-5.1.2", "van den"),
        ("PID-5[2].1.1", "Jansen"),
        ("DG1[2]-3", "E11"),
        ("DG1[2]-3.1", "E11"),
        ("ZPI-3.2", "b"),
        ("PID-3[3]", None),
        ("PID-3.9", None),
        ("PID-3.4.9", None),
        ("PID-99", None),
        ("DG1[3]-3", None),
        ("NK1-2", None),
        ("PID-2", None),
        ("MSH-1.2", None),
    ],
)
def test_a_path_gives_its_text(path: str, expected: str | None) -> None:
    assert message(PID, "DG1|1||E10", "DG1|2||E11", "ZPI|1||a^b")(path) == expected


@pytest.mark.parametrize("path", ["PID", "pid-3", "PID-0", "PID-3.", "PID-3[0]", "PID 3", "", "PID-3.1.1.1", "PID-3[a]"])
def test_what_is_no_path_to_a_value_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        message(PID)(path)


def test_segments_and_repetitions_are_counted() -> None:
    found = message(PID, "DG1|1", "DG1|2", "PV1|1||a~b~")
    assert [found.count(path) for path in ("PID-3", "DG1", "NK1", "PID-4", "PID-77", "PV1-3", "MSH-2", "DG1[2]-1")] == [
        2, 2, 0, 0, 0, 3, 1, 1,
    ]  # fmt: skip


def test_the_raw_text_of_each_kind_of_place() -> None:
    found = message("PID|1||a\\T\\b^c&d~e")
    places = ("PID", "PID-3", "PID-3[2]", "PID-3[1]", "PID-3.1", "PID-3.2.2", "PID-9", "PV1", "MSH-2", "PID-3[3]")
    assert [found.raw(place) for place in places] == [
        "PID|1||a\\T\\b^c&d~e", "a\\T\\b^c&d~e", "e", "a\\T\\b^c&d", "a\\T\\b", "d", None, None, "^~\\&", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("PID-5", NULL),
        ("PID-5.2", NULL),
        ("PID-6.1", "a"),
        ("PID-6.2", NULL),
        ("PID-6.2.2", NULL),
        ("PID-6.3", None),
        ("PID-7[2]", NULL),
    ],
)
def test_two_quotes_are_the_explicit_null(path: str, expected: object) -> None:
    assert message('PID|||1||""|a^""|x~""')(path) is expected or message('PID|||1||""|a^""|x~""')(path) == expected


def test_quotes_inside_a_text_are_text() -> None:
    assert message('PID|||1||"Bobby"')("PID-5") == '"Bobby"'


@pytest.mark.parametrize(
    ("header", "path", "expected"),
    [
        ("MSH#!@%*#A#B#C#D#2026##ADT!A01#1#P#2.5\rPID#1##1!!!X*Y@2!!!Z", "PID-3[2].4", "Z"),
        ("MSH#!@%*#A#B#C#D#2026##ADT!A01#1#P#2.5\rPID#1##1!!!X*Y@2!!!Z", "PID-3.4.2", "Y"),
        ("MSH|^_\\&|A\rPID|1||1^^^X_2^^^Z", "PID-3[2].4", "Z"),
        ("MSH|^_\\&|A\rPID|1||a~b", "PID-3", "a~b"),
        ("MSH|^~\\&#|A\rPID|1||a\\P\\b#", "PID-3", "a#b#"),
        ("MSH|^~&|A\rPID|1||a\\T\\b&c", "PID-3", "a\\T\\b"),
        ("MSH|^~&|A\rPID|1||a\\T\\b&c", "PID-3.1.2", "c"),
        ("MSH|^|A\rPID|1||a&b~c\\F\\^d", "PID-3", "a&b~c\\F\\"),
        ("MSH|^|A\rPID|1||a&b~c\\F\\^d", "PID-3.2", "d"),
        ("MSH||A\rPID|1||a&b~c\\F\\^d", "PID-3[2].1", "c|"),
        ("MSH|^~\\\\&|A\rPID|1||a&b", "PID-3.1.2", "b"),
        ("MSH|^~\\&", "MSH-2", "^~\\&"),
    ],
)
def test_delimiters_are_the_messages_own(header: str, path: str, expected: str) -> None:
    assert parse(header.encode(), charset="utf-8")(path) == expected


@pytest.mark.parametrize("characters", ["^~&", "^", "", "^~\\\\&", "^^\\&", "^~\\&#$", "ADT"])
def test_odd_delimiters_are_reported(characters: str) -> None:
    assert message("PID|1", header=f"MSH|{characters}|A").findings[0] == Finding(FindingCode.DELIMITERS, hl7="MSH-2")


@pytest.mark.parametrize("characters", ["^~\\&", "^~\\&#", "^_\\&", "!@%*"])
def test_usual_delimiters_are_not(characters: str) -> None:
    assert message("PID|1", header=f"MSH|{characters}|A").findings == ()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("\\F\\\\S\\\\T\\\\R\\\\E\\", "|^&~\\"),
        ("Jan\\T\\Piet", "Jan&Piet"),
        ("a\\.br\\b", "a\nb"),
        ("a\\.BR\\b", "a\nb"),
        ("a\\.sp\\b\\.sp2\\c\\.sp+3\\d", "a\nb\n\nc\n\n\nd"),
        ("a\\.ce\\b\\.fi\\\\.nf\\\\.in+4\\\\.ti-2\\\\.sk3\\c", "a\nb   c"),
        ("a\\H\\b\\N\\c", "abc"),
        ("\\X4869\\", "Hi"),
        ("\\XC3\\\\XA9\\", "é"),
        ("\\xC3A9\\", "é"),
        ("\\X0D0A\\", "\r\n"),
        ("\\P\\", "#"),
        ("\\C2842\\x", "\\C2842\\x"),
        ("\\M2842\\x", "\\M2842\\x"),
        ("\\Z01\\F\\Z02\\", "\\Z01\\F\\Z02\\"),
        ("C:\\temp\\file", "C:\\temp\\file"),
        ("\\XZZ\\", "\\XZZ\\"),
        ("\\X123\\", "\\X123\\"),
        ("\\.zz\\", "\\.zz\\"),
        ("end\\", "end\\"),
        ("\\\\", "\\\\"),
    ],
)
def test_an_escape_stands_for_its_text(raw: str, text: str) -> None:
    assert message(f"NTE|1||{raw}")("NTE-3") == text


@pytest.mark.parametrize(
    ("raw", "code", "severity"),
    [
        ("\\C2842\\", FindingCode.CHARSET_ESCAPE, Severity.WARNING),
        ("\\M2842\\", FindingCode.CHARSET_ESCAPE, Severity.WARNING),
        ("\\Z01\\", FindingCode.ESCAPE_UNKNOWN, Severity.INFORMATION),
        ("\\.zz\\", FindingCode.ESCAPE_UNKNOWN, Severity.INFORMATION),
        ("C:\\x", FindingCode.ESCAPE_UNKNOWN, Severity.INFORMATION),
        ("\\XFF\\", FindingCode.UNDECODABLE, Severity.WARNING),
    ],
)
def test_an_escape_that_is_left_is_reported_with_its_place(raw: str, code: FindingCode, severity: Severity) -> None:
    assert message("OBX|1", f"OBX|2|ST|||a~b^{raw}").findings == (Finding(code, severity, hl7="OBX[2]-5[2].2"),)


def test_plain_escapes_are_not_reported() -> None:
    assert message("NTE|1||\\F\\\\.br\\\\X41\\").findings == ()


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r", "\n\n", "\r\n\r\n"])
def test_any_line_end_ends_a_segment(end: str) -> None:
    found = parse(end.join((HEADER, "PID|1||7", "DG1|1||E11")).encode(), charset="utf-8")
    assert (found.segments(), found("PID-3"), found("DG1-3"), found.findings) == (("MSH", "PID", "DG1"), "7", "E11", ())


def test_a_line_feed_inside_a_segment_that_cr_ends_is_text() -> None:
    found = parse(f"{HEADER}\rNTE|1||one\ntwo\nPID|1||7\r".encode(), charset="utf-8")
    assert (found("NTE-3"), found("PID-3")) == ("one\ntwo", "7")


@pytest.mark.parametrize("prefix", [b"", b"\x0b", b"\r\n", b"\xef\xbb\xbf", b"\x0b\xef\xbb\xbf", b"  "])
@pytest.mark.parametrize("suffix", [b"", b"\r", b"\x1c\r", b"\r\x1c\r\n", b"\r\n\x1a"])
def test_framing_marks_and_blanks_around_are_stripped(prefix: bytes, suffix: bytes) -> None:
    found = parse(prefix + HEADER.encode() + b"\rPID|1||7^Z" + suffix, charset="utf-8")
    assert (found("MSH-10"), found("PID-3.2"), found.segments(), found.findings) == ("MSG1", "Z", ("MSH", "PID"), ())


def test_lines_that_are_no_segment_are_kept_and_reported() -> None:
    found = message("pid|1", "PID|1||7", "hello", "P1D1|x", "PI", "ZZ1")
    assert found.segments() == ("MSH", "", "PID", "", "", "", "ZZ1")
    assert [finding.about for finding in found.findings] == ["line 2", "line 4", "line 5", "line 6"]
    assert b"\rhello\rP1D1|x\rPI\r" in found.encode()


@pytest.mark.parametrize(
    ("value", "reason", "where"),
    [
        (None, Reason.EMPTY, None),
        (b"", Reason.EMPTY, None),
        (b"\x0b\x1c\r", Reason.EMPTY, None),
        (b" \r\n", Reason.EMPTY, None),
        (b"\xef\xbb\xbf", Reason.EMPTY, None),
        (b"PID|1", Reason.NOT_HL7, None),
        (b'{"a": 1}', Reason.NOT_HL7, None),
        (b"MSH", Reason.NOT_HL7, "MSH-1"),
        (b"MSHA^~", Reason.NOT_HL7, "MSH-1"),
        (b"MSH\r|", Reason.NOT_HL7, "MSH-1"),
        (b"BHS|^~\\&\rMSH|^~\\&|A", Reason.NOT_HL7, "BHS"),
        ("hello".encode("utf-16"), Reason.NOT_HL7, None),
    ],
)
def test_what_is_no_message_is_parked_with_one_line(value: bytes | None, reason: Reason, where: str | None) -> None:
    with pytest.raises(Parked) as caught:
        parse(value, charset="utf-8")
    assert (caught.value.reason, caught.value.where, "\n" in str(caught.value)) == (reason, where, False)


def test_a_repr_shows_no_content() -> None:
    assert repr(message("PID|1||secret")) == "<Message, 2 segments>"


def test_encode_gives_every_segment_back_ended_by_cr() -> None:
    raw = f"{HEADER}\n  PID|1||\\F\\x^^~\n\nZZZ|a|\n"
    assert parse(raw.encode(), charset="utf-8").encode() == f"{HEADER}\rPID|1||\\F\\x^^~\rZZZ|a|\r".encode()


def test_text_that_needs_an_escape_character_is_refused_without_one() -> None:
    with pytest.raises(ValueError, match="MSH-2"):
        message(header="MSH|^~&|A").escape("a|b")


def test_null_and_nothing_are_escaped_as_such() -> None:
    assert (message().escape(NULL), message().escape(None), message().escape("")) == ('""', "", "")


DELIMITED = st.sampled_from(["|^~\\&", "|^~\\&#", "#!@%*", "|^_\\&", "$:;?,", "_|~\\&"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(DELIMITED, st.lists(TEXT, min_size=1, max_size=4))
def test_text_escaped_encoded_and_parsed_is_the_same(delimiters: str, texts: list[str]) -> None:
    separator, characters = delimiters[0], delimiters[1:]
    header = f"MSH{separator}{characters}{separator}A"
    marks = parse(header.encode(), charset="utf-8")
    field = delimiters[1].join(delimiters[2].join([marks.escape(text)] * 1) for text in texts)
    found = parse(f"{header}\rZZZ{separator}{field}".encode(), charset="utf-8")
    assert [found(f"ZZZ-1.{number}") for number in range(1, len(texts) + 1)] == texts


def _parsed(value: bytes, charset: str) -> Message | None:
    try:
        return parse(value, charset=charset)
    except Parked:
        return None


MSH_LIKE = st.builds(
    lambda head, tail: head + tail,
    st.sampled_from(
        [
            b"",
            b"MSH|^~\\&|",
            b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|1|P|2.5||||||8859/1\rPID|",
            b"\x0bMSH#",
            b"\xff\xfeM\x00S\x00H\x00|\x00",
            b"MSH|^~&|\r",
        ]
    ),
    st.binary() | st.text(alphabet='|^~\\&\r\nAPIDMSH1"\x1c.XFé').map(str.encode),
)


@given(MSH_LIKE, st.sampled_from(["utf-8", "iso8859-1", "cp1252", "ascii", "utf-16", "gb18030"]))
@example(b"MSH|^~\\&|\x00\r\t", "utf-8")
def test_arbitrary_bytes_are_parked_or_read_and_encoding_is_a_fixpoint(value: bytes, charset: str) -> None:
    found = _parsed(value, charset)
    if found is not None:
        once = found.encode()
        again = parse(once, charset=charset)
        assert again.encode() == once
        assert again.segments() == found.segments()
        for name in set(found.segments()) - {""}:
            assert [again(f"{name}-{field}") for field in (1, 2, 3)] == [found(f"{name}-{field}") for field in (1, 2, 3)]


HOSTILE = {
    "stray escapes in one field": b"MSH|^~\\&|A\rOBX|1|TX|||" + b"\\ x" * 300_000,
    "stray escapes in many fields": b"MSH|^~\\&|A\rOBX" + b"|\\ x" * 200_000,
    "undecodable bytes": b"MSH|^~\\&|A\rOBX|" + b"\xff" * 1_000_000,
    "line feeds": b"MSH|^~\\&|A\r" + b"\n" * 1_000_000 + b"x\r",
    "blanks and line feeds": b"MSH|^~\\&|A\r" + b" \n" * 500_000 + b"x\r",
    "lines that are no segment": b"MSH|^~\\&|A\r" + b"x\r" * 500_000,
    "segments": b"MSH|^~\\&|A\r" + b"OBX\r" * 200_000,
    "an endless MSH-2": b"MSH|" + b"^" * 1_000_000,
    "unfinished hex": b"MSH|^~\\&|A\rOBX|" + b"\\X41" * 200_000,
    "repetitions": b"MSH|^~\\&|A\rPID|||" + b"~" * 1_000_000,
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_a_hostile_megabyte_is_read_in_a_moment(name: str) -> None:
    start = process_time()
    found = parse(HOSTILE[name], charset="utf-8")
    typed(found, zone="UTC")
    assert len(list(split(HOSTILE[name]))) == 1
    assert process_time() - start < 5
    assert len(found.findings) <= 100
