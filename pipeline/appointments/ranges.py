"""What several search parameters leave over: stretches of time, disjoint and in order. Pure."""

from collections.abc import Sequence
from typing import Final

from pipeline.appointments.port import Alternatives, Range
from pipeline.appointments.tables import NEVER

Stretch = tuple[int, int]
"""From (inclusive) and until (exclusive)."""
FIRST: Final = -NEVER
ALL: Final[tuple[Stretch, ...]] = ((FIRST, NEVER + 1),)
"""Also what has no start."""
TIME: Final[tuple[Stretch, ...]] = ((FIRST, NEVER),)


def meet(parameters: Sequence[Alternatives]) -> tuple[Stretch, ...]:
    """Where all parameters hold; what has no start holds where there is none."""
    if not parameters:
        return ALL
    left = TIME
    for alternatives in parameters:
        right = joined(alternatives)
        both = ((max(a, c), min(b, d)) for a, b in left for c, d in right)
        left = tuple(sorted((a, b) for a, b in both if a < b))
    return left


def last_first(stretches: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """The same from the last one to the first; what has no start stays behind all others."""
    timed = [(a, min(b, NEVER)) for a, b in reversed(stretches) if a < NEVER]
    return (*timed, *((NEVER, b) for _, b in stretches if b > NEVER))


def joined(alternatives: Sequence[Range]) -> tuple[Stretch, ...]:
    """The alternatives of one parameter without overlaps."""
    bounded = sorted((_bound(a, FIRST), _bound(b, NEVER)) for a, b in alternatives)
    found: list[Stretch] = []
    for a, b in bounded:
        if a >= b:
            continue
        if found and a <= found[-1][1]:
            found[-1] = (found[-1][0], max(b, found[-1][1]))
        else:
            found.append((a, b))
    return tuple(found)


def _bound(value: int | None, default: int) -> int:
    return default if value is None else max(FIRST, min(value, NEVER))
