"""How long Roche takes: the published average and worst time of each operation (contracts/roche.md section 8) as a distribution.

Only the two figures are published. The shape is ours: a beta distribution from a fifth of the average to the worst, whose mean is the
published one exactly and which never exceeds the worst: many short times and a long tail for create, nearly even for update.

`mixed` is simpler, for figures: one in fifty at the published worst time, all others alike, 1.5 s on average.
"""

import random
from typing import Final

from pipeline.sandbox.knobs import Common

CREATE: Final = (1.50717, 10.0)
UPDATE: Final = (1.95007, 4.0)
PUBLISHED: Final = {"create": CREATE, "update": UPDATE, "read": UPDATE}
"""Average and worst, seconds. Nothing is published for the others: update's times are taken."""
TIMED: Final = frozenset({*PUBLISHED, "search", "token", "document", "delete", "list"})
"""Operations that take time at all."""
_ALPHA: Final = 1.0
SLOW_SHARE: Final = 0.02
SLOW: Final = 10.0
MIXED: Final = 1.5
"""The average of `mixed`, seconds."""
USUAL: Final = (MIXED - SLOW_SHARE * SLOW) / (1 - SLOW_SHARE)


class Latency:
    """Draws response times; reproducible by its seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - reproducible on purpose

    def seconds(self, operation: str, knobs: Common) -> float:
        """How long the next answer to this operation takes."""
        if knobs.latency == "none" or operation not in TIMED:
            return 0.0
        if knobs.latency == "mixed":
            return (SLOW if self._random.random() < SLOW_SHARE else USUAL) * knobs.latency_scale
        if knobs.latency != "published":
            return float(knobs.latency)
        average, worst = PUBLISHED.get(operation, UPDATE)
        least = average / 5
        mean = (average - least) / (worst - least)
        drawn = self._random.betavariate(_ALPHA, _ALPHA * (1 - mean) / mean)
        return (least + drawn * (worst - least)) * knobs.latency_scale
