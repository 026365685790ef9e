"""The delimiters of a message and its escape sequences (HL7 v2.8.2 chapters 2.5.4 and 2.7). Text in, text out; findings are the reader's.

An escape that cannot be understood stays as it is: nothing vanishes but highlighting and layout commands.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from schemas.outcomes import FindingCode

STANDARD: Final = "^~\\&"
_TWICE: Final = "\\\\"
_ESCAPE_AT: Final = 2
_MOST: Final = 5
_FORMATS: Final = {".br": "\n", ".ce": "\n", ".fi": "", ".nf": "", ".in": "", ".ti": ""}
_COMMAND: Final = re.compile(r"(\.[a-z]{2})([+-]?\d{0,3})", re.IGNORECASE)
_CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f]")


class Delimiters:
    """MSH-1 and MSH-2. An empty character is one that the message does not use. Made once for each pair by `delimiters`."""

    __slots__ = (
        "_border",
        "component",
        "escape",
        "field",
        "letters",
        "odd",
        "repetition",
        "sequence",
        "subcomponent",
        "truncation",
    )

    def __init__(self, separator: str, characters: Sequence[str], *, odd: bool = False) -> None:
        self.field = separator
        self.component, self.repetition, self.escape, self.subcomponent = characters[:4]
        self.truncation = characters[4] if len(characters) == _MOST else ""
        self.odd = odd
        """MSH-2 is not what the standard says; what could be read of it is used."""
        self.letters = {
            "F": self.field,
            "S": self.component or STANDARD[0],
            "R": self.repetition or STANDARD[1],
            "E": self.escape,
            "T": self.subcomponent or STANDARD[3],
            "P": self.truncation or "#",
            "H": "",
            "N": "",
        }
        self._border = re.compile(f"[{re.escape(self.field + self.component + self.repetition + self.subcomponent)}]")
        self.sequence = re.compile(_sequence(self)) if self.escape else None
        """Finds escape sequences: a run of hex ones, a letter, a layout command, one that we leave, or a stray escape character."""

    def end_of_part(self, line: str, at: int) -> int:
        """Where the smallest part ends that the character at `at` stands in."""
        found = self._border.search(line, at + 1)
        return len(line) if found is None else found.start()

    def unescape(self, raw: str, codec: str) -> str:
        """The text that `raw` stands for; hexadecimal escapes hold bytes of `codec`."""
        return raw if self.sequence is None else self.sequence.sub(lambda found: self._meaning(found, codec), raw)

    def judge(self, found: re.Match[str], codec: str) -> FindingCode | None:
        """What is to be reported about a sequence that `sequence` found."""
        if found["left"] is not None:
            return FindingCode.CHARSET_ESCAPE if found["left"][0] in "CM" else FindingCode.ESCAPE_UNKNOWN
        if found["layout"] is not None:
            return None if _layout(found["layout"]) is not None else FindingCode.ESCAPE_UNKNOWN
        if found["hex"] is not None:
            try:
                self._bytes(found["hex"]).decode(codec)
            except UnicodeDecodeError:
                return FindingCode.UNDECODABLE
        return FindingCode.ESCAPE_UNKNOWN if found["stray"] is not None else None

    def escape_text(self, text: str, codec: str) -> str:
        """Write text so that a reader gets the same text back. Line feeds become a break command, control characters hexadecimal.

        Raises ValueError where the message has no escape character and the text needs one.
        """
        esc = self.escape
        table = {char: f"{esc}{letter}{esc}" for letter, char in self.letters.items() if char and letter != "P"}
        table["\n"] = f"{esc}.br{esc}"
        if text == '""':  # as it stands it would be the explicit null
            table['"'] = self._hex('"', codec)
        needed = {char for char in text if char in table or _CONTROL.match(char)}
        if needed and not esc:
            raise ValueError("the message has no escape character (MSH-2), and the text needs one")
        return "".join(char if char not in needed else table.get(char) or self._hex(char, codec) for char in text)

    def _meaning(self, found: re.Match[str], codec: str) -> str:
        letter, layout, hexed = found["letter"], found["layout"], found["hex"]
        if letter is not None:
            return self.letters[letter]
        if layout is not None:
            text = _layout(layout)
            return found[0] if text is None else text
        return found[0] if hexed is None else self._bytes(hexed).decode(codec, "replace")

    def _bytes(self, hexed: str) -> bytes:
        return bytes.fromhex("".join(part[1:] for part in hexed.split(self.escape) if part))

    def _hex(self, char: str, codec: str) -> str:
        return f"{self.escape}X{char.encode(codec).hex().upper()}{self.escape}"


def _sequence(marks: Delimiters) -> str:
    esc = re.escape(marks.escape)
    used = (marks.field, marks.component, marks.repetition, marks.escape, marks.subcomponent)
    inner = f"[^{re.escape(''.join(used))}\\r\\n]"
    return (
        f"(?P<hex>(?:{esc}[Xx](?:[0-9A-Fa-f]{{2}})+{esc})+)|{esc}(?P<letter>[FSTREPHN]){esc}"
        f"|{esc}(?P<layout>\\.[A-Za-z]{{2}}[+-]?\\d{{0,3}}){esc}|{esc}(?P<left>[ZCMXx.]{inner}*){esc}|(?P<stray>{esc})"
    )


def _layout(command: str) -> str | None:
    """A layout command's text: line breaks and skipped lines or spaces; None for one that the standard does not have."""
    found = _COMMAND.fullmatch(command)
    if found is None:
        return None
    name, count = found[1].lower(), abs(int(found[2])) if found[2].strip("+-") else 1
    if name == ".sp":
        return "\n" * max(1, count)
    return " " * count if name == ".sk" else _FORMATS.get(name)


@lru_cache(maxsize=256)
def delimiters(separator: str, characters: str) -> Delimiters:
    """The delimiters from MSH-1 and MSH-2. A shortened MSH-2 means that what it leaves out is not used.

    A doubled backslash (MSH-2 out of somebody's source code) is one. Of three characters the last is the sub-component separator where it is `&` (`^~&` has lost its escape character). An
    MSH-2 with letters, digits or spaces in it is none (it was left out): the standard's characters are taken.
    """
    if not characters or any(char.isalnum() or char.isspace() for char in characters):
        return Delimiters(separator, STANDARD, odd=True)
    given = list(characters.replace(_TWICE, "\\")[:_MOST])
    if characters[_ESCAPE_AT:] == STANDARD[3]:
        given.insert(_ESCAPE_AT, "")
    seen = {separator}
    chars: list[str] = []
    for char in given:
        chars.append("" if char in seen else char)
        seen.add(char)
    chars += [""] * (_MOST - len(chars))
    odd = len(characters) not in (4, 5) or _TWICE in characters or "" in chars[:4]
    return Delimiters(separator, chars, odd=odd)
