"""Reading HL7 v2 in ER7, its delimited form: bytes to a Message. The hot path: what need not be looked at is not looked at.

No I/O, no grammar (structure.py has one), no value in any error or finding. Lossless: `Message.encode` gives back every segment as it was.
"""

import re
from collections.abc import Iterator
from typing import Final

from pipeline.errors import Parked
from pipeline.hl7.charsets import DAMAGE, Decoding, codec_of, decode, decode_wide, signature
from pipeline.hl7.delimiters import Delimiters, delimiters
from pipeline.hl7.message import Message
from pipeline.hl7.paths import place
from pipeline.model import Finding
from schemas.outcomes import FindingCode, Reason, Severity

__all__ = ["Message", "parse"]

_PADDING: Final = b"\x0b\x1c\r\n\x00\x1a"
"""MLLP's frame bytes, line ends, the end-of-file mark of DOS. Blanks are none: they may end the last field."""
_PADDING_TEXT: Final = _PADDING.decode("ascii")
_BEFORE: Final = _PADDING + b" \t"
_ENVELOPE: Final = frozenset({b"FHS", b"BHS", b"BTS", b"FTS"})
_NEXT_SEGMENT: Final = re.compile(r"\n(?=[ \t]*[A-Z][A-Z0-9]{2}(?:[^\w\s]|_|\n|\Z))")
_CHARSET_FIELD: Final = 17
"""Where MSH-18 stands when MSH is split: MSH-1 is the separator itself."""
_MOST_FINDINGS: Final = 100
_LONGEST_NAME: Final = 40
_LONGEST: Final = 8
"""Of MSH-2 no more is looked at."""
_NAME_END: Final = 3
_UNREADABLE: Final = re.compile("[\udc80-\udcff\ufffd]")


def parse(value: bytes | None, *, charset: str) -> Message:
    """Read one message. `charset`: Python's codec of the site's default, for where MSH-18 says nothing (Settings.site.charset).

    Raises Parked: EMPTY, or NOT_HL7 where no MSH can be read.
    """
    if not value:
        raise Parked(Reason.EMPTY)
    if value[:3] == b"MSH" and value[3:4] != b"\0":
        return _parse_narrow(value, charset)
    framed = value[:1] == b"\x0b"
    value = value.lstrip(b"\x0b\r\n\t ")
    codec, mark = signature(value)
    prefix, body = value[:mark], value[mark:]
    if codec is None or codec == "utf-8":
        return _parse_narrow(body.lstrip(_BEFORE), charset, marked=codec is not None, prefix=prefix)
    return _parse_wide(decode_wide(body.removesuffix(b"\x1c\r") if framed else body, codec), prefix)


def _parse_narrow(data: bytes, charset: str, *, marked: bool = False, prefix: bytes = b"") -> Message:
    """A message whose MSH can be read byte by byte. `marked`: a byte order mark said UTF-8."""
    if data[:3] != b"MSH" or not _is_separator(data[3:4]):
        raise _no_message(data)
    if data[-1] in _PADDING:
        data = data.rstrip(_PADDING)
    separator = data[3:4]
    header = data.split(b"\r", 1)[0].split(b"\n", 1)[0].split(separator)
    declared = ""
    if len(header) > _CHARSET_FIELD and header[_CHARSET_FIELD]:
        declared = _first(header[_CHARSET_FIELD].decode("ascii", "replace"), header[1][1:2].decode("ascii", "replace"))
    decoding = decode(data, "UNICODE UTF-8" if marked else declared, charset)
    if marked and declared and codec_of(declared) != "utf-8":
        decoding = decoding._replace(codes=(*decoding.codes, FindingCode.CHARSET_WRONG))
    return _build(decoding, prefix)


def _parse_wide(decoding: Decoding, prefix: bytes) -> Message:
    """A message in UTF-16 or UTF-32, its MSH included."""
    text = decoding.text.lstrip(_BEFORE.decode("ascii")).rstrip(_PADDING_TEXT)
    if text[:3] != "MSH" or not _is_separator(text[3:4].encode("utf-8", "replace")):
        raise _no_message(text[:4].encode("utf-8", "replace"))
    header = text.split("\r", 1)[0].split("\n", 1)[0].split(text[3])
    declared = _first(header[_CHARSET_FIELD], header[1][1:2]) if len(header) > _CHARSET_FIELD else ""
    known = codec_of(declared) if declared else None
    if declared and (known is None or known[:6] != decoding.codec[:6]):
        decoding = decoding._replace(codes=(*decoding.codes, FindingCode.CHARSET_WRONG))
    return _build(decoding._replace(text=text), prefix)


def _build(decoding: Decoding, prefix: bytes) -> Message:
    text, codec, codes = decoding
    lines = _lines(text)
    header = lines[0]
    end = header.find(header[3], 4)
    end = len(header) if end < 0 else end
    marks = delimiters(header[3], header[4 : min(end, 4 + _LONGEST)])
    damaged = FindingCode.UNDECODABLE in codes
    escape = marks.escape
    plain = not damaged and text.find('""', end) < 0 and (not escape or text.find(escape, end) < 0)
    message = Message(lines, marks, codec, plain=plain, damaged=damaged, prefix=prefix)
    if codes or marks.odd or not plain or message.strays:
        message.findings = tuple(_findings(message, codes))
    return message


def _lines(text: str) -> list[str]:
    """The lines of a message. CR ends a segment; where a message has CR, a line feed in it is text unless a segment follows.

    Blanks before a segment go, empty lines too.
    """
    if "\n" in text:
        text = text.replace("\r\n", "\r")
        text = _NEXT_SEGMENT.sub("\r", text) if "\r" in text else text.replace("\n", "\r")
    lines = text.split("\r")
    if "\n" in text or "" in lines or "\r " in text or "\r\t" in text:
        lines = [kept for line in lines if (kept := line.lstrip(" \t\n").rstrip("\n"))]
        while not (last := lines[-1].rstrip(_PADDING_TEXT)):  # MSH ends it: it is not empty
            lines.pop()
        lines[-1] = last
    return lines


def _is_separator(byte: bytes) -> bool:
    """MSH-1 is a printable ASCII character that is no letter, digit or space."""
    return len(byte) == 1 and byte.isascii() and not byte.isalnum() and b" " < byte < b"\x7f"


def _first(field: str, repetition: str) -> str:
    """The first repetition of MSH-18: the one that the message is in; the others are for escape sequences."""
    return (field.split(repetition, 1)[0] if repetition else field).strip()[:_LONGEST_NAME]


def _no_message(data: bytes) -> Parked:
    if not data.strip(_BEFORE):
        return Parked(Reason.EMPTY)
    if data[:3] in _ENVELOPE:
        return Parked(
            Reason.NOT_HL7,
            where=data[:3].decode("ascii"),
            message="a batch or its envelope, not one message: split it (`emr-pipeline send` and `map` do)",
        )
    if data[:3] == b"MSH":
        return Parked(Reason.NOT_HL7, where="MSH-1", message="no field separator after MSH (a punctuation character, as |)")
    return Parked(Reason.NOT_HL7, message="it does not begin with an MSH segment")


def _findings(message: Message, codes: tuple[FindingCode, ...]) -> list[Finding]:
    """What reading noticed, each place once, not more than a hundred (a broken message has thousands)."""
    found: dict[Finding, None] = {}
    for code in codes:
        if code is not FindingCode.UNDECODABLE:
            found[Finding(code, hl7="MSH-18")] = None
    if message.delimiters.odd:
        found[Finding(FindingCode.DELIMITERS, hl7="MSH-2")] = None
    for number in message.strays:
        found[Finding(FindingCode.SEGMENT_UNREADABLE, about=f"line {number + 1}")] = None
        if len(found) >= _MOST_FINDINGS:
            return list(found)
    if not message.plain:
        for code, where in _odd_places(message):
            severity = Severity.INFORMATION if code is FindingCode.ESCAPE_UNKNOWN else Severity.WARNING
            found[Finding(code, severity, hl7=where)] = None
            if len(found) >= _MOST_FINDINGS:
                break
    return list(found)


def _odd_places(message: Message) -> Iterator[tuple[FindingCode, str | None]]:
    """Undecodable bytes and escapes that are left as they are, with their places."""
    marks = message.delimiters
    counts: dict[str, int] = {}
    unreadable = _UNREADABLE if message.codec[:3] == "utf" else DAMAGE
    for name, line in zip(message.segments(), message.lines(), strict=True):
        nth = counts[name] = counts.get(name, 0) + 1
        start = 0
        if name == "MSH":
            start = line.find(marks.field, 4)
            start = len(line) if start < 0 else start
        past: dict[
            FindingCode, int
        ] = {}  # where the part ends that a code was told of: a part is told of once, however full it is
        if message.damaged:
            for found in unreadable.finditer(line, start):
                if found.start() >= past.get(FindingCode.UNDECODABLE, 0):
                    past[FindingCode.UNDECODABLE] = marks.end_of_part(line, found.start())
                    yield FindingCode.UNDECODABLE, _place(marks, name, nth, line, found.start())
        if marks.sequence is not None and marks.escape in line:
            for found in marks.sequence.finditer(line, start):
                code = marks.judge(found, message.codec)
                if code is not None and found.start() >= past.get(code, 0):
                    past[code] = marks.end_of_part(line, found.start())
                    yield code, _place(marks, name, nth, line, found.start())


def _place(marks: Delimiters, name: str, nth: int, line: str, at: int) -> str | None:
    """The place of the character at `at`; None in a line that is no segment. A component is named where the field has several."""
    if not name:
        return None
    before = line[:at]
    field = before.count(marks.field) + (name == "MSH")
    if not field:
        return place(name, nth)
    whole = line[before.rfind(marks.field) + 1 :].split(marks.field, 1)[0]
    inside = before[before.rfind(marks.field) + 1 :]
    repetition, inside, whole = _within(inside, whole, marks.repetition)
    component, inside, part = _within(inside, whole, marks.component)
    subcomponent, _, smallest = _within(inside, part, marks.subcomponent)
    has_sub = smallest != part
    if not has_sub and part == whole:
        return place(name, nth, field, repetition=repetition)
    return place(name, nth, field, repetition=repetition, component=component, subcomponent=subcomponent if has_sub else 0)


def _within(before: str, whole: str, delimiter: str) -> tuple[int, str, str]:
    """Which part it is, what stands before it in that part, and that part."""
    if not delimiter:
        return 1, before, whole
    number = before.count(delimiter)
    return number + 1, before.rsplit(delimiter, maxsplit=1)[-1], whole.split(delimiter)[number]
