"""Samples of a run → its rates: what was reached while it started, what in steady state, and what share of Little's bound that is. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

START_UP: Final = 10.0
"""Seconds that are left out of the steady state, and shown."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen of a run at one moment."""

    seconds: float
    """Since the worker started its route."""
    delivered: int
    cpu_seconds: float
    """Of all workers."""
    partner_cpu_seconds: float
    in_flight: int = 0
    commit_gap: int = 0
    rss_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second."""

    whole: float
    """From the start of the route on."""
    start_up: float
    """In the first ten seconds, or all of a shorter run."""
    steady: float | None
    """After them; None where the run was shorter."""
    cpu_ms: float | None
    """CPU milliseconds of the workers for each message delivered, in steady state."""
    partner_cpu_ms: float | None
    seconds: float


def rates(samples: Sequence[Sample]) -> Rates:
    """Of samples in order of time, the first of them at the start."""
    first, last = samples[0], samples[-1]
    begun = next((sample for sample in samples if sample.seconds >= START_UP), last)
    steady = last.seconds - begun.seconds >= 1
    base = begun if steady else first
    return Rates(
        whole=_rate(first, last),
        start_up=_rate(first, begun),
        steady=_rate(begun, last) if steady else None,
        cpu_ms=_each(base, last, last.cpu_seconds - base.cpu_seconds),
        partner_cpu_ms=_each(base, last, last.partner_cpu_seconds - base.partner_cpu_seconds),
        seconds=last.seconds,
    )


def bound(in_flight: int, latency: float) -> float | None:
    """Little's: deliveries a second of so many that are on their way for so long each; None where the partner answers at once."""
    return in_flight / latency if latency else None


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _rate(first: Sample, last: Sample) -> float:
    passed = last.seconds - first.seconds
    return (last.delivered - first.delivered) / passed if passed > 0 else 0.0


def _each(first: Sample, last: Sample, cpu_seconds: float) -> float | None:
    delivered = last.delivered - first.delivered
    return 1000 * cpu_seconds / delivered if delivered else None
