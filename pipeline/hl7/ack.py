"""Acknowledgements: building them for what came in, reading them where we are the sender (HL7 v2.5.1 chapters 2.9, 2.10.3, 2.15.5, 2.15.8).

No I/O. Nothing of a message goes into an acknowledgement but what its header says about sender, receiver, control id, version and charset,
and these byte for byte: the header is read as Latin-1, in which every byte is a character, and written back the same way.
"""

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, Literal

Level = Literal["A", "C"]

_SEGMENT_END: Final = re.compile("[\r\n]")
_VERSION: Final = re.compile(r"\d+(\.\d+)*")
_DEFAULT_VERSION: Final = "2.5"
_UTF16: Final = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_CODES: Final = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})


class Problem(Enum):
    """Why a message is not taken: MSA-1's second letter, code and text of table 0357, the place, a sentence."""

    NOT_HL7 = ("R", "100", "Segment sequence error", "MSH", "no readable MSH segment")
    TOO_LARGE = ("R", "207", "Application internal error", "", "the message is larger than this receiver takes")
    STORE_AWAY = ("E", "207", "Application internal error", "", "the message could not be stored; send it again later")

    def __init__(self, letter: str, code: str, text: str, segment: str, sentence: str) -> None:
        self.letter = letter
        self.code = code
        self.text = text
        self.segment = segment
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Header:
    """An MSH, FHS or BHS segment as it came."""

    segment: str
    fields: tuple[str, ...] = field(repr=False)
    """By number: fields[10] is MSH-10; fields[0] is empty."""
    codec: str = "latin-1"
    mark: bytes = b""
    """The byte order mark that a UTF-16 message began with."""

    def __getitem__(self, number: int) -> str:
        """The field as it stands there; empty where there is none."""
        return self.fields[number] if number < len(self.fields) else ""

    def first(self, number: int) -> str:
        """The field's first component of its first repetition."""
        component = self[2][:1] or "^"
        repetition = self[2][1:2] or "~"
        return self[number].split(repetition, 1)[0].split(component, 1)[0].strip()

    @property
    def version(self) -> tuple[int, ...]:
        """MSH-12.1 as numbers: (2, 3, 1)."""
        found = _VERSION.match(self.first(12) or _DEFAULT_VERSION) or _VERSION.match(_DEFAULT_VERSION)
        assert found is not None  # noqa: S101 - the default matches
        return tuple(int(part[:4]) for part in found[0].split("."))

    @property
    def level(self) -> Level:
        """C (accept acknowledgement, enhanced mode) where MSH-15 is valued, else A."""
        return "C" if self.first(15) else "A"

    @property
    def is_acknowledgement(self) -> bool:
        """Whether the message is itself an acknowledgement: those are never acknowledged."""
        return self.first(9) in {"ACK", "MCF"}

    def wants(self, *, accepted: bool) -> bool:
        """Whether the sender wants an answer (table 0155).

        MSH-15 decides; where it is empty, MSH-16 does, for then the only answer that the sender knows is that of the application; where
        both are empty, always (original mode). Codes that the table does not have count as AL.
        """
        if self.is_acknowledgement:
            return False
        condition = (self.first(15) or self.first(16)).upper()
        return {"NE": False, "ER": not accepted, "SU": accepted}.get(condition, True)


_ABSENT: Final = Header("MSH", ("", "|", "^~\\&"))


def read_header(content: bytes) -> Header | None:
    """The MSH, FHS or BHS segment that the content begins with; None where there is none.

    Lenient: a byte order mark and white space before it, LF or CRLF after segments, a missing or short MSH-2.
    """
    codec, mark = _codec_of(content)
    # the header alone: a message may be large, and its charset another than its header's
    text = (
        content[len(mark) : len(mark) + 8192].decode(codec, errors="replace").removeprefix("\xef\xbb\xbf").lstrip(" \t\r\n\x00")
    )
    separator = text[3:4]
    if text[:3] not in {"MSH", "FHS", "BHS"} or not separator or separator not in string.punctuation:
        return None
    line = _SEGMENT_END.split(text, maxsplit=1)[0]
    return Header(line[:3], ("", separator, *line[4:].split(separator)), codec, mark)


def _codec_of(content: bytes) -> tuple[str, bytes]:
    """How the header's bytes become characters, and the byte order mark."""
    for mark, codec in _UTF16:
        if content.startswith(mark):
            return codec, mark
    if content[1:2] == b"\x00" and content[3:4] == b"\x00":
        return "utf-16-le", b""
    if content[:1] == b"\x00" and content[2:3] == b"\x00":
        return "utf-16-be", b""
    return "latin-1", b""


def acknowledge(header: Header | None, problem: Problem | None, *, control_id: str, now: datetime) -> bytes | None:
    """The acknowledgement of a message with this header; None where its sender wants none.

    `header`: None where it could not be read. `problem`: None accepts. `control_id`: our own MSH-10. `now`: with an offset.
    """
    header = header or _ABSENT
    if not header.wants(accepted=problem is None):
        return None
    code = header.level + (problem.letter if problem else "A")
    segments = [_msh(header, control_id, now), _msa(header, code, problem)]
    if problem is not None:
        segments.append(_err(header, problem))
    return _encode(header, segments)


def acknowledge_batch(headers: Sequence[Header], answers: Sequence[bytes], *, control_id: str, now: datetime) -> bytes:
    """The batch of acknowledgements that answers a batch (chapter 2.10.3.3): one BHS…BTS, in FHS…FTS where the batch had one.

    `headers`: the FHS and BHS that the batch began with, one of them at least. `answers`: what `acknowledge` gave for its messages.
    """
    lead = headers[0]
    opening = [_batch_header(header, f"{control_id}{header.segment[0]}", now) for header in headers]
    closing = [f"BTS{lead[1]}{len(answers)}"]
    if lead.segment == "FHS":
        closing.append(f"FTS{lead[1]}1")
        if len(headers) == 1:
            opening.append("BHS" + opening[0][3:])
    return (
        _encode(lead, opening)
        + b"".join(answer.removeprefix(lead.mark) for answer in answers)
        + _encode(lead, closing).removeprefix(lead.mark)
    )


def _encode(header: Header, segments: Sequence[str]) -> bytes:
    return header.mark + "".join(segment + "\r" for segment in segments).encode(header.codec, errors="replace")


def _msh(header: Header, control_id: str, now: datetime) -> str:
    version = header.version
    fields = [""] * 18
    fields[0:8] = ["MSH", header[2] or "^~\\&", header[5], header[6], header[3], header[4], _time(version, now), ""]
    fields[8] = _message_type(header)
    fields[9] = control_id
    fields[10] = header[11] or "P"
    fields[11] = header[12] or _DEFAULT_VERSION
    if header.level == "C":
        fields[14] = fields[15] = "NE"
    fields[17] = header[18]
    while not fields[-1]:
        fields.pop()
    return header[1].join(fields)


def _message_type(header: Header) -> str:
    """MSH-9: ACK, ACK^A01 (from 2.2), ACK^A01^ACK (from 2.3.1)."""
    parts = header[9].split(header[2][:1] or "^")
    event = parts[1].strip() if len(parts) > 1 else ""
    if not event or header.version < (2, 2):
        return "ACK"
    return (header[2][:1] or "^").join(("ACK", event, "ACK") if header.version >= (2, 3, 1) else ("ACK", event))


def _msa(header: Header, code: str, problem: Problem | None) -> str:
    """MSA-3 (a text) was withdrawn in 2.7, ERR says it there."""
    parts = ["MSA", code, header[10]]
    if problem is not None and header.version < (2, 7):
        parts.append(problem.sentence)
    return header[1].join(parts)


def _err(header: Header, problem: Problem) -> str:
    """ERR-1 (segment^sequence^field^code&text&table) up to 2.4; ERR-2 place, ERR-3 code, ERR-4 severity, ERR-8 sentence from 2.5."""
    component = header[2][:1] or "^"
    place = component.join((problem.segment, "1")) if problem.segment else ""
    if header.version < (2, 5):
        sub = header[2][3:4] or "&"
        coded = sub.join((problem.code, problem.text, "HL70357"))
        return header[1].join(("ERR", component.join((place, "", coded) if place else ("", "", "", coded))))
    coded = component.join((problem.code, problem.text, "HL70357"))
    return header[1].join(("ERR", "", place, coded, "E", "", "", "", problem.sentence))


def _batch_header(header: Header, control_id: str, now: datetime) -> str:
    fields = [
        "",
        header[2] or "^~\\&",
        header[5],
        header[6],
        header[3],
        header[4],
        _time((2, 5), now),
        "",
        "",
        "",
        control_id,
        header[11],
    ]
    fields[0] = header.segment
    return header[1].join(fields).rstrip(header[1])


def _time(version: tuple[int, ...], now: datetime) -> str:
    """To the second, with the offset where the version has one (from 2.2)."""
    return now.strftime("%Y%m%d%H%M%S%z" if version >= (2, 2) else "%Y%m%d%H%M%S")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a receiver answered: codes only, no text of its own making."""

    code: str
    """MSA-1: AA, AE, AR, CA, CE, CR."""
    control_id: str = field(repr=False)
    """MSA-2."""
    error: str | None = None
    """A code of table 0357, where an ERR segment has one."""

    @property
    def accepted(self) -> bool:
        """AA or CA."""
        return self.code in {"AA", "CA"}


def read_acknowledgement(content: bytes) -> Acknowledgement | None:
    """The acknowledgement in a frame's content; None where it is none."""
    header = read_header(content)
    if header is None or header.segment != "MSH":
        return None
    text = content[len(header.mark) :].decode(header.codec, errors="replace")
    segments = [line.split(header[1]) for line in _SEGMENT_END.split(text)]
    msa = next((parts for parts in segments if parts[0] == "MSA" and len(parts) > 1), None)
    if msa is None or msa[1].strip() not in _CODES:
        return None
    control_id = msa[2].strip() if len(msa) > 2 else ""  # noqa: PLR2004 - MSA-2
    return Acknowledgement(msa[1].strip(), control_id, _error_code(header, segments))


def _error_code(header: Header, segments: Sequence[Sequence[str]]) -> str | None:
    component, sub = header[2][:1] or "^", header[2][3:4] or "&"
    for parts in segments:
        if parts[0] != "ERR":
            continue
        newer = parts[3].split(component)[0] if len(parts) > 3 else ""  # noqa: PLR2004 - ERR-3
        older = (parts[1].split(component) + [""] * 4)[3].split(sub)[0] if len(parts) > 1 else ""
        for code in (newer.strip(), older.strip()):
            if re.fullmatch(r"\d{1,3}", code, re.ASCII):
                return code
    return None
