"""BSNs in what patients read: wherever a text has one of a patient that came with it, it gets stars. No I/O, and no value in any error.

Identifiers are masked as MedMij wants it before; this is for narratives, remarks, instructions, displays, and numbers of other systems that are one.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

BSN: Final = "http://fhir.nl/fhir/NamingSystem/bsn"
DIGITS: Final = 9
STARS: Final = "*" * DIGITS
NAMES: Final = frozenset({"id", "reference", "fullUrl"})
"""What others refer to: with stars in it, it would lead nowhere."""
_RUN: Final = re.compile(r"\d{9,}", re.ASCII)
_APART: Final = tuple(re.compile(rf"(?<!\d)(?=(\d(?:[ .\u00a0]?\d){{{more}}})(?!\d))", re.ASCII) for more in (8, 7))
"""As people write one: 9999.00.006, or without the zero that it begins with. One may begin within another number that ends in it."""


def known(identifiers: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The BSNs among identifiers (system, value)."""
    return frozenset(value for system, value in identifiers if system == BSN and len(value) == DIGITS and value.isdigit())


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
    windows = {run[begin : begin + DIGITS] for run in _RUN.findall(text) for begin in range(len(run) - DIGITS + 1)}
    apart = {found for pattern in _APART for found in pattern.findall(text) if _whole(found) in bsns}
    for found in sorted((windows & bsns) | apart, key=len, reverse=True):
        text = text.replace(found, STARS)
    return text


def _whole(written: str) -> str:
    return re.sub(r"\D", "", written).zfill(DIGITS)
