"""`emr-pipeline` with a wall clock that jumps: SIGUSR1 sets it an hour forward, SIGUSR2 an hour back. The product itself has no switch for this."""

import runpy
import signal
from typing import Final

from pipeline import wiring

HOUR: Final = 3_600_000
real_clock: Final = wiring.clock


class Jumping:
    """The wall clock, so many milliseconds off."""

    def __init__(self) -> None:
        self.off = 0

    def __call__(self) -> int:
        """See wiring.clock."""
        return real_clock() + self.off

    def jump(self, number: int, _frame: object) -> None:
        """What the signals do."""
        self.off += HOUR if number == signal.SIGUSR1 else -HOUR


if __name__ == "__main__":
    jumping = Jumping()
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, jumping.jump)
    wiring.clock = jumping
    runpy.run_module("pipeline.cli", run_name="__main__")
