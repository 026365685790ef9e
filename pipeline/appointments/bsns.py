"""BSNs in what patients read: wherever a text has one of a patient that came with it, it gets stars. No I/O, and no value in any error.

Identifiers are masked as MedMij wants it before; this is for narratives, remarks, instructions, displays, and numbers of other systems that are one.

What gets stars: the nine digits of one in a row, also within a longer number; and in what people write all of a number that is one but for blanks, dots
and hyphens between its digits, or without the zero that it begins with. Any other number stays: it would have to be the patient's own BSN, digit by digit. A
date stays though its digits are one without its zero, and in what software reads (a time, a URI) only the nine digits in a row count.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

BSN: Final = "http://fhir.nl/fhir/NamingSystem/bsn"
DIGITS: Final = 9
STARS: Final = "*" * DIGITS
NAMES: Final = frozenset({"id", "reference", "fullUrl"})
"""What others refer to: with stars in it, it would lead nowhere."""
GIVEN: Final = re.compile(r"[0-9]{8,9}")
"""As senders give one: some lose the zero that it begins with."""
_BETWEEN: Final = r"(?:[ \t\n\r\u00a0\u2000-\u2015\u202f.\-]|&nbsp;|&#160;){0,3}"
_ROW: Final = re.compile(rf"(?=([0-9]{{{DIGITS}}}))")
_APART: Final = tuple(
    re.compile(rf"(?<![0-9])(?=([0-9](?:{_BETWEEN}[0-9]){{{more}}})(?![0-9]))") for more in (DIGITS - 1, DIGITS - 2)
)
"""One may begin within another number that ends in it."""
_DATE: Final = re.compile(r"(?:19|20)\d\d([-. ])(?:0[1-9]|1[0-2])\1[0-3]\d|[0-3]\d([-. ])(?:0[1-9]|1[0-2])\2(?:19|20)\d\d")
_FOR_SOFTWARE: Final = re.compile(r"\d{4}-\d\d(?:-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:\d\d)?)?)?|(?:urn:|https?://)\S*")


def known(identifiers: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The BSNs among identifiers (system, value), with all of their digits."""
    return frozenset(value.zfill(DIGITS) for system, value in identifiers if system == BSN and GIVEN.fullmatch(value))


def without(node: Any, bsns: frozenset[str]) -> Any:  # noqa: ANN401 - JSON
    """The same JSON with stars for each of them. Ids and references stay: see `named_by`."""
    if not bsns:
        return node
    if isinstance(node, str):
        return starred(node, bsns)
    if isinstance(node, list):
        return [without(each, bsns) for each in node]
    if isinstance(node, dict):
        return {name: value if name in NAMES else without(value, bsns) for name, value in node.items()}
    return node


def named_by(node: Any, bsns: frozenset[str]) -> bool:  # noqa: ANN401 - as above
    """Whether an id or a reference has one of them."""
    if isinstance(node, list):
        return any(named_by(each, bsns) for each in node)
    if not isinstance(node, dict):
        return False
    return any(
        isinstance(value, str) and starred(value, bsns) != value if name in NAMES else named_by(value, bsns)
        for name, value in node.items()
    )


def starred(text: str, bsns: frozenset[str]) -> str:
    """The text with stars for each of them, as people write it too."""
    told, end = [], 0
    for begin, until in sorted(_spans(text, bsns)):
        if begin >= end:
            told += [text[end:begin], STARS]
        end = max(end, until)
    return "".join([*told, text[end:]])


def _spans(text: str, bsns: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Where one stands; they may overlap."""
    for match in _ROW.finditer(text):
        if match[1] in bsns:
            yield match.span(1)
    if _FOR_SOFTWARE.fullmatch(text):
        return
    for pattern in _APART:
        for match in pattern.finditer(text):
            if _whole(match[1]) in bsns and not _DATE.fullmatch(match[1]):
                yield match.span(1)


def _whole(written: str) -> str:
    return re.sub(r"&#160;|[^0-9]", "", written).zfill(DIGITS)
