"""A process's memory, handles and threads as it grows older: slopes by least squares, and the bounds that they are judged by. Pure.

What a process holds in its first minutes says nothing of the hundredth day: connections, threads, page caches and caches of a bounded size fill
up. So a life is judged after it has warmed up, and only where it was long enough for a slope to be more than noise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline.trial.process import Usage

WARM: Final = 240.0
"""Seconds of a process that say nothing of its slope."""
JUDGED: Final = 300.0
"""Seconds after that, that a slope needs to be judged: over less, one garbage collection more or less is a slope."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """What may not grow."""

    name: str
    unit: str
    of: Callable[[Usage], float]
    a_minute: float
    """The steepest slope that counts as none."""
    most: float
    """What it may never exceed."""


@dataclass(slots=True)
class Life:
    """One process."""

    name: str
    rows: list[tuple[float, Usage]] = field(default_factory=list)
    """Monotonic seconds, and what it used then."""

    @property
    def seconds(self) -> float:
        """How old it was when it was last looked at."""
        return self.rows[-1][0] - self.rows[0][0] if self.rows else 0.0

    @property
    def judged(self) -> bool:
        """Whether it lived for long enough."""
        return self.seconds >= WARM + JUDGED

    def slope(self, of: Callable[[Usage], float]) -> float:
        """Per minute after it had warmed up."""
        return slope([(at / 60, of(used)) for at, used in self.rows if at - self.rows[0][0] >= WARM])

    def values(self, of: Callable[[Usage], float]) -> list[float]:
        """All that was seen."""
        return [of(used) for _, used in self.rows]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line through the points that leaves the least squares."""
    middle = sum(at for at, _ in points) / len(points)
    level = sum(value for _, value in points) / len(points)
    return sum((at - middle) * (value - level) for at, value in points) / sum((at - middle) ** 2 for at, _ in points)


def bounds(in_flight: int) -> tuple[Bounded, ...]:
    """For a worker of so many messages in flight, each of which may have a thread and a connection of its own; the rest is what bus and ledger need."""
    return (
        Bounded("memory", "MB", lambda used: used.rss_mb, 0.5, 200),
        Bounded("handles", "", lambda used: used.handles, 0.5, in_flight + 100),
        Bounded("threads", "", lambda used: used.threads, 0.5, in_flight + 40),
    )


def told(life: Life, bounded: Sequence[Bounded]) -> str:
    """One line of a life."""
    parts = []
    for each in bounded:
        values = life.values(each.of)
        grows = f", {life.slope(each.of):+.2f} a minute" if life.judged else ""
        parts.append(f"{each.name} {min(values):.0f} to {max(values):.0f}{f' {each.unit}' if each.unit else ''}{grows}")
    return f"{life.name}, {life.seconds:.0f} s: {'; '.join(parts)}"


def broken(life: Life, bounded: Sequence[Bounded]) -> Iterator[str]:
    """The bounds that it did not keep, in plain words."""
    for each in bounded:
        unit = f" {each.unit}" if each.unit else ""
        if life.rows and (most := max(life.values(each.of))) > each.most:
            yield f"{life.name}: {each.name} came to {most:.0f}{unit}, and {each.most:g} is the most that it may be"
        if life.judged and (grows := life.slope(each.of)) > each.a_minute:
            yield f"{life.name}: {each.name} grew by {grows:.2f}{unit} a minute after it had warmed up, and {each.a_minute:g} counts as none"
