"""Places in an HL7 v2 message, read and written: `PID-3[2].4.1` is segment, field, repetition, component, sub-component.

`DG1[2]-3` is in the second DG1. What is left out is the first. No message is touched here.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

_PATH: Final = re.compile(
    r"(?P<segment>[A-Z][A-Z0-9]{2})(?:\[(?P<nth>[1-9]\d{0,3})\])?"
    r"(?:-(?P<field>[1-9]\d{0,3})(?:\[(?P<repetition>[1-9]\d{0,3})\])?"
    r"(?:\.(?P<component>[1-9]\d{0,3})(?:\.(?P<subcomponent>[1-9]\d{0,3}))?)?)?"
)


class Path(NamedTuple):
    """A place; 0 means "not said". `nth` and what follows count from 1."""

    segment: str
    nth: int
    field: int
    repetition: int
    component: int
    subcomponent: int


@lru_cache(maxsize=8192)
def locate(text: str) -> Path:
    """Read a place. Raises ValueError where it is none: paths come from templates and from us, never from a message."""
    found = _PATH.fullmatch(text)
    if found is None:
        raise ValueError(f"not an HL7 path, as PID-3[2].4.1 or DG1[2]-3: {text[:40]!r}")
    segment, nth, field, repetition, component, subcomponent = found.groups("0")
    return Path(segment, int(nth) or 1, int(field), int(repetition), int(component), int(subcomponent))


def place(segment: str, nth: int = 1, field: int = 0, *, repetition: int = 1, component: int = 0, subcomponent: int = 0) -> str:
    """Write a place. The first segment and the first repetition go without an index, so that one place has one name."""
    text = segment if nth <= 1 else f"{segment}[{nth}]"
    if field:
        text += f"-{field}" if repetition <= 1 else f"-{field}[{repetition}]"
        if component:
            text += f".{component}" + (f".{subcomponent}" if subcomponent else "")
    return text
