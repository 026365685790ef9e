"""Acknowledgements: codes, versions, delimiters, charsets, batches; hl7apy and our own reader agree with what is built."""

import string
from datetime import datetime, timedelta, timezone

import pytest
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st

from pipeline.hl7.ack import (
    Acknowledgement,
    Header,
    Problem,
    acknowledge,
    acknowledge_batch,
    read_acknowledgement,
    read_header,
)
from pipeline.hl7.er7 import parse

NOW = datetime(2026, 1, 31, 12, 30, 5, tzinfo=timezone(timedelta(hours=1)))
A04 = b"MSH|^~\\&|HIS|ZH|EMR|ZIS|20260131123000||ADT^A04^ADT_A01|C1|P|2.5\rPID|1||1\r"


def header_of(message: bytes) -> Header:
    header = read_header(message)
    assert header is not None
    return header


def answer(message: bytes, problem: Problem | None = None) -> bytes | None:
    return acknowledge(header_of(message), problem, control_id="own", now=NOW)


def enhanced(accept: bytes = b"", application: bytes = b"") -> bytes:
    return b"MSH|^~\\&|HIS|ZH|EMR|ZIS|20260131||ADT^A04|C1|P|2.5|||" + accept + b"|" + application + b"\r"


def test_an_accept_swaps_sender_and_receiver_and_names_the_message() -> None:
    assert answer(A04) == b"MSH|^~\\&|EMR|ZIS|HIS|ZH|20260131123005+0100||ACK^A04^ACK|own|P|2.5\rMSA|AA|C1\r"


def test_a_refusal_from_2_5_on_has_code_severity_and_sentence_in_err() -> None:
    assert (answer(A04, Problem.NOT_HL7) or b"").split(b"\r")[1:] == [
        b"MSA|AR|C1|no readable MSH segment",
        b"ERR||MSH^1|100^Segment sequence error^HL70357|E||||no readable MSH segment",
        b"",
    ]


def test_a_refusal_up_to_2_4_has_the_old_err_1() -> None:
    message = A04.replace(b"|2.5", b"|2.3.1")
    assert (answer(message, Problem.TOO_LARGE) or b"").split(b"\r")[1:] == [
        b"MSA|AR|C1|the message is larger than this receiver takes",
        b"ERR|^^^207&Application internal error&HL70357",
        b"",
    ]


def test_msa_3_is_not_written_from_2_7_on() -> None:
    assert b"\rMSA|AE|C1\r" in (answer(A04.replace(b"|2.5", b"|2.7"), Problem.STORE_AWAY) or b"")


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.1", "ACK"),
        ("2.2", "ACK^A04"),
        ("2.3", "ACK^A04"),
        ("2.3.1", "ACK^A04^ACK"),
        ("2.5^NLD", "ACK^A04^ACK"),
        ("2.8.2", "ACK^A04^ACK"),
        ("", "ACK^A04^ACK"),
        ("x", "ACK^A04^ACK"),
    ],
)
def test_the_message_type_has_the_form_of_the_version(version: str, expected: str) -> None:
    assert header_of(answer(A04.replace(b"|2.5", b"|" + version.encode())) or b"")[9] == expected


def test_the_version_and_processing_id_of_the_sender_stay() -> None:
    built = header_of(answer(A04.replace(b"|P|2.5", b"|T^A|2.5^NLD^1")) or b"")
    assert (built[11], built[12]) == ("T^A", "2.5^NLD^1")


def test_2_1_has_no_offset_in_its_times() -> None:
    assert header_of(answer(A04.replace(b"|2.5", b"|2.1")) or b"")[7] == "20260131123005"


def test_the_delimiters_of_the_sender_are_used() -> None:
    message = b"MSH#!@%*#HIS#ZH#EMR#ZIS#20260131##ADT!A04#C1#P#2.4\r"
    assert answer(message, Problem.NOT_HL7) == (
        b"MSH#!@%*#EMR#ZIS#HIS#ZH#20260131123005+0100##ACK!A04!ACK#own#P#2.4\r"
        b"MSA#AR#C1#no readable MSH segment\rERR#MSH!1!!100*Segment sequence error*HL70357\r"
    )


def test_the_charset_is_named_and_its_bytes_go_back_as_they_came() -> None:
    message = b"MSH|^~\\&|Zieken\xa4huis|\xe9|EMR|ZIS|20260131||ADT^A04|C\xfc1|P|2.5||||||8859/15\r"
    built = answer(message) or b""
    assert b"|Zieken\xa4huis|\xe9|" in built
    assert b"\rMSA|AA|C\xfc1\r" in built
    assert header_of(built)[18] == "8859/15"


@pytest.mark.parametrize(
    ("codec", "mark"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff"), ("utf-16-le", b""), ("utf-16-be", b"")]
)
def test_a_utf16_message_is_answered_in_utf16(codec: str, mark: bytes) -> None:
    built = answer(mark + A04.decode().replace("HIS", "Łódź").encode(codec)) or b""
    assert built.startswith(mark)
    assert built[len(mark) :].decode(codec).split("\r")[1] == "MSA|AA|C1"
    assert "|Łódź|" in built[len(mark) :].decode(codec)
    assert read_acknowledgement(built) == Acknowledgement("AA", "C1")


@pytest.mark.parametrize(
    ("accept", "application", "accepted", "refused"),
    [
        (b"", b"", "AA", "AR"),
        (b"AL", b"", "CA", "CR"),
        (b"AL", b"NE", "CA", "CR"),
        (b"NE", b"", None, None),
        (b"NE", b"AL", None, None),
        (b"ER", b"AL", None, "CR"),
        (b"SU", b"AL", "CA", None),
        (b"al", b"", "CA", "CR"),
        (b"Y", b"", "CA", "CR"),
        (b"", b"AL", "AA", "AR"),
        (b"", b"NE", None, None),
        (b"", b"ER", None, "AR"),
    ],
)
def test_msh_15_and_16_decide_whether_and_with_which_code(
    accept: bytes, application: bytes, accepted: str | None, refused: str | None
) -> None:
    codes = []
    for problem in (None, Problem.NOT_HL7):
        built = answer(enhanced(accept, application), problem)
        acknowledgement = read_acknowledgement(built) if built else None
        codes.append(acknowledgement.code if acknowledgement else None)
    assert codes == [accepted, refused]


def test_an_enhanced_acknowledgement_wants_none_itself() -> None:
    built = header_of(answer(enhanced(b"AL")) or b"")
    assert (built[15], built[16]) == ("NE", "NE")


def test_an_acknowledgement_is_never_acknowledged() -> None:
    assert answer(answer(A04) or b"") is None


def test_what_has_no_header_is_refused_in_the_standard_form() -> None:
    assert acknowledge(None, Problem.NOT_HL7, control_id="own", now=NOW) == (
        b"MSH|^~\\&|||||20260131123005+0100||ACK|own|P|2.5\rMSA|AR||no readable MSH segment\r"
        b"ERR||MSH^1|100^Segment sequence error^HL70357|E||||no readable MSH segment\r"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"MSH", b"MSHA", b"MSH a", b"PID|1", b"\x00\xff\x01", b"msh|^~\\&|", b"hello", b"{}", b"\xff\xfe", b"MSH\r|"],
)
def test_what_is_no_header_is_none(content: bytes) -> None:
    assert read_header(content) is None


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\r\n", b"  \t"])
def test_a_mark_or_white_space_before_the_header_is_forgiven(before: bytes) -> None:
    assert header_of(before + A04)[10] == "C1"


def test_a_header_without_anything_behind_it_is_acknowledged() -> None:
    assert (answer(b"MSH|^~\\&\r") or b"").split(b"\r")[1] == b"MSA|AA|"


def test_a_batch_is_answered_by_a_batch_that_names_it() -> None:
    headers = [header_of(b"FHS|^~\\&|HIS|ZH|EMR|ZIS|2026||||F1"), header_of(b"BHS|^~\\&|HIS|ZH|EMR|ZIS|2026||||B1")]
    one = answer(A04) or b""
    assert acknowledge_batch(headers, [one, one], control_id="own", now=NOW) == (
        b"FHS|^~\\&|EMR|ZIS|HIS|ZH|20260131123005+0100||||ownF|F1\r"
        b"BHS|^~\\&|EMR|ZIS|HIS|ZH|20260131123005+0100||||ownB|B1\r" + one + one + b"BTS|2\rFTS|1\r"
    )


def test_a_batch_without_a_file_around_it_is_answered_without_one() -> None:
    built = acknowledge_batch([header_of(b"BHS|^~\\&|HIS|ZH|EMR|ZIS|2026||||B1")], [], control_id="own", now=NOW)
    assert built.split(b"\r")[1:] == [b"BTS|0", b""]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"MSH|^~\\&|||||||ACK|1|P|2.5\rMSA|AA|C1\r", Acknowledgement("AA", "C1")),
        (b"MSH|^~\\&|||||||ACK|1|P|2.5\nMSA|CE|C1\nERR||PID^1|101^Secret^HL70357|E", Acknowledgement("CE", "C1", "101")),
        (b"MSH|^~\\&|||||||ACK|1|P|2.3\rMSA|AR|C1|text\rERR|PID^1^3^203&Unknown&HL70357", Acknowledgement("AR", "C1", "203")),
        (b"MSH|^~\\&|||||||ACK|1|P|2.3\rMSA|AR|C1\rERR|Jansen^^^Jansen", Acknowledgement("AR", "C1")),
        (b"MSH|^~\\&|||||||ACK|1|P|2.5\rMSA|OK|C1", None),
        (b"MSH|^~\\&|||||||ACK|1|P|2.5\r", None),
        (b"\x06", None),
        (b"", None),
    ],
)
def test_an_answer_is_read_for_its_codes_only(content: bytes, expected: Acknowledgement | None) -> None:
    assert read_acknowledgement(content) == expected


word = st.text(string.ascii_letters + string.digits + " -._é", max_size=12)


@given(
    fields=st.tuples(word, word, word, word),
    control_id=st.text(string.ascii_letters + string.digits, min_size=1, max_size=20),
    version=st.sampled_from(["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8.2"]),
    marks=st.sampled_from([("|", "^~\\&"), ("#", "!@%*"), ("|", "^~\\&#")]),
    event=st.sampled_from(["", "A01", "A08"]),
    problem=st.sampled_from([None, *Problem]),
)
def test_what_is_built_reads_back(  # noqa: PLR0917 - Hypothesis gives them by name
    fields: tuple[str, str, str, str], control_id: str, version: str, marks: tuple[str, str], event: str, problem: Problem | None
) -> None:
    separator, characters = marks
    kind = "ADT" + (characters[0] + event if event else "")
    line = (
        separator.join(["MSH", characters, *fields, "20260131", "", kind, control_id, "P", version, *[""] * 5, "UNICODE UTF-8"])
        + "\r"
    )
    built = answer(line.encode(), problem)
    assert built is not None
    message = parse(built, charset="ascii")
    code = "A" + (problem.letter if problem else "A")
    assert (message("MSA-1"), message("MSA-2"), message("MSH-12")) == (code, control_id, version)
    swapped = tuple(message(f"MSH-{number}") or "" for number in (5, 6, 3, 4))
    assert tuple(map(str.strip, map(str, swapped))) == tuple(map(str.strip, fields))
    assert (message("ERR-1.4.1") or message("ERR-3.1")) == (problem.code if problem else None)
    assert message.findings == ()


@pytest.mark.parametrize("version", ["2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6"])
@pytest.mark.parametrize("problem", [None, Problem.NOT_HL7, Problem.STORE_AWAY])
def test_hl7apy_reads_and_validates_it(version: str, problem: Problem | None) -> None:
    built = answer(A04.replace(b"|2.5", b"|" + version.encode()), problem)
    assert built is not None
    message = parse_message(built.decode(), find_groups=False)
    assert (message.msa.msa_1.value, message.msa.msa_2.value) == ("A" + (problem.letter if problem else "A"), "C1")
    # up to 2.3 an acknowledgement names no structure (MSH-9.3), so hl7apy has segments to validate only
    assert all(part.validate() for part in (message.children if version in {"2.2", "2.3"} else [message]))
