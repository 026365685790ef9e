"""A message by path: segments are split once, fields when they are asked for. Made by er7.parse; never changes.

No bytes are read here and nothing is printed: a message's repr shows no content, and errors name paths, which are ours.
"""

import re
from functools import lru_cache
from typing import Final

from pipeline.hl7.charsets import DAMAGE, encode
from pipeline.hl7.delimiters import Delimiters
from pipeline.hl7.paths import Path, locate
from pipeline.model import Finding
from schemas.event import NULL, Null, Text

NAME_LENGTH: Final = 3
_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")


@lru_cache(maxsize=1024)
def is_name(text: str) -> bool:
    """Whether a segment can be called so."""
    return _NAME.fullmatch(text) is not None


class Message:
    """An HL7 v2 message by path (model.Hl7). Made by `parse`; never changes."""

    __slots__ = ("_fields", "_index", "_lines", "_prefix", "codec", "damaged", "delimiters", "findings", "plain", "strays")

    def __init__(
        self, lines: list[str], separators: Delimiters, codec: str, *, plain: bool, damaged: bool, prefix: bytes
    ) -> None:
        self.delimiters = separators
        self.codec = codec
        """Python's codec that the bytes were read with."""
        self.plain = plain
        """No text of it needs unescaping, and there is no explicit null."""
        self.damaged = damaged
        """It has bytes that its character set does not have."""
        self.findings: tuple[Finding, ...] = ()
        """What was noticed while reading: charset, delimiters, escapes, lines that are no segment, undecodable bytes."""
        self._prefix = prefix
        self._lines = lines
        self._fields: dict[int, list[str]] = {}
        self._index: dict[str, list[int]] = {}
        self.strays: list[int] = []
        """Numbers from 0 of the lines that are no segment."""
        index, separator = self._index, separators.field
        for number, line in enumerate(lines):
            name = line[:3]
            if line[3:4] != separator and len(line) != NAME_LENGTH:
                self.strays.append(number)
            elif name in index:
                index[name].append(number)
            elif is_name(name):
                index[name] = [number]
            else:
                self.strays.append(number)

    def __call__(self, path: str) -> Text:
        """The text at a path, unescaped; NULL for an explicit null; None where there is nothing. ValueError: not a path."""
        where = locate(path)
        if not where.field:
            raise ValueError(f"a path to a value names a field, as PID-3: {path[:40]!r}")
        if self.is_header(where):
            return self._raw(where) or None
        whole = self.repetition(where.segment, where.nth, where.field, where.repetition or 1)
        if whole == '""':
            return NULL
        marks = self.delimiters
        component = part(whole, marks.component, where.component or 1)
        if component == '""':
            return NULL
        return self.text(part(component, marks.subcomponent, where.subcomponent or 1))

    def count(self, path: str) -> int:
        """How many segments (`DG1`) or repetitions (`PID-3`) there are; an empty field has none."""
        where = locate(path)
        if not where.field:
            return len(self._index.get(where.segment, ()))
        raw = self.field(where.segment, where.nth, where.field)
        if not raw:
            return 0
        mark = self.delimiters.repetition
        return 1 if not mark or self.is_header(where) else raw.count(mark) + 1

    def raw(self, path: str) -> str | None:
        """What stands at a path, not unescaped: a segment (`PID`), a field with its repetitions, or a part of it. None: not there."""
        where = locate(path)
        raw = self._raw(where)
        return None if raw is None else DAMAGE.sub("\ufffd", raw) if self.damaged else raw

    def _raw(self, where: Path) -> str | None:
        numbers = self._index.get(where.segment, ())
        if where.nth > len(numbers):
            return None
        if not where.field:
            return self._lines[numbers[where.nth - 1]]
        raw = self.field(where.segment, where.nth, where.field)
        if self.is_header(where):
            return raw if max(where[3:]) <= 1 else None
        marks = self.delimiters
        if where.repetition or where.component:
            raw = part(raw, marks.repetition, where.repetition or 1)
        if where.component:
            raw = part(raw, marks.component, where.component)
        if where.subcomponent:
            raw = part(raw, marks.subcomponent, where.subcomponent)
        return raw or None

    def segments(self) -> tuple[str, ...]:
        """The names of the segments in order; a line that is no segment has an empty name."""
        names = [""] * len(self._lines)
        for name, numbers in self._index.items():
            for number in numbers:
                names[number] = name
        return tuple(names)

    def fields(self, segment: str, nth: int = 1) -> list[str]:
        """A segment's raw fields, its name at 0 (so that [3] is PID-3; MSH-1 is put in its place); empty where it is not there."""
        numbers = self._index.get(segment)
        if numbers is None or nth > len(numbers):
            return []
        number = numbers[nth - 1]
        found = self._fields.get(number)
        if found is None:
            found = self._lines[number].split(self.delimiters.field)
            if segment == "MSH":
                found.insert(1, self.delimiters.field)
            self._fields[number] = found
        return found

    def positions(self, segment: str) -> list[int]:
        """Where the segments of this name stand among all."""
        return self._index.get(segment, [])

    def field(self, segment: str, nth: int, number: int) -> str:
        """A raw field with all its repetitions; empty where it is not there."""
        fields = self.fields(segment, nth)
        return fields[number] if number < len(fields) else ""

    def repetition(self, segment: str, nth: int, number: int, repetition: int) -> str:
        """One raw repetition of a field."""
        return part(self.field(segment, nth, number), self.delimiters.repetition, repetition)

    def is_header(self, where: Path) -> bool:
        """MSH-1 and MSH-2 are delimiters, not delimited."""
        return where.segment == "MSH" and where.field in {1, 2}

    def text(self, raw: str) -> Text:
        """The text of the smallest part of a field."""
        if not raw:
            return None
        if self.plain:
            return raw
        if raw == '""':
            return NULL
        if self.damaged:
            raw = DAMAGE.sub("\ufffd", raw)
        if self.delimiters.escape and self.delimiters.escape in raw:
            return self.delimiters.unescape(raw, self.codec) or None
        return raw

    def escape(self, text: str | Null | None) -> str:
        """Text as it stands in this message, so that reading it gives it back. ValueError: it needs an escape character that MSH-2 lacks."""
        if text is None:
            return ""
        return '""' if isinstance(text, Null) else self.delimiters.escape_text(text, self.codec)

    def encode(self) -> bytes:
        """The message as bytes: every segment as it was, each ended by CR, in the character set that it was read with."""
        return self._prefix + encode("\r".join((*self._lines, "")), self.codec)

    def lines(self) -> list[str]:
        """The raw lines."""
        return list(self._lines)

    def __repr__(self) -> str:
        return f"<Message, {len(self._lines)} segments>"


def part(raw: str, delimiter: str, number: int) -> str:
    """The n-th part (from 1), empty where there are fewer."""
    if not delimiter or not raw:
        return raw if number == 1 else ""
    parts = raw.split(delimiter, number)
    return parts[number - 1] if number <= len(parts) else ""
