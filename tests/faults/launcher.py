"""`emr-pipeline` with failpoints armed, a shifted clock, guards taken away, in this very process: `launcher.py --at POINT:N=DEED … -- COMMAND …`.

A deed happens at the N-th passing of its point: `kill` (SIGKILL), `stop` (SIGSTOP), or `clock+3600` (the wall clock jumps by so many seconds).
`--clock +3600` shifts it from the start; `--without` names guards (guards.py), by commas. The product itself has no switch for any of this.
"""

import os
import signal
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from itertools import count
from typing import Final

from pipeline import failpoints, wiring
from pipeline.cli import main
from pipeline.failpoints import Point
from tests.faults import guards

real_clock: Final = wiring.clock


class Shift:
    """The wall clock of the worker, so many seconds off."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        wiring.clock = self.now

    def now(self) -> int:
        return real_clock() + int(self.seconds * 1000)


def deed_of(name: str, shift: Shift) -> Callable[[], None]:
    if name.startswith("clock"):

        def jump() -> None:
            shift.seconds += float(name.removeprefix("clock"))

        return jump
    number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[name]
    return lambda: os.kill(os.getpid(), number)


def at_passing(number: int, deed: Callable[[], None]) -> Callable[[], None]:
    passed = count(1)
    lock = threading.Lock()

    def passing() -> None:
        with lock:
            if next(passed) == number:
                deed()

    return passing


def run() -> int:
    parser = ArgumentParser()
    parser.add_argument("--at", action="append", default=[])
    parser.add_argument("--clock", type=float, default=0.0)
    parser.add_argument("--without", default="")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    guards.take_away(filter(None, arguments.without.split(",")))
    shift = Shift(arguments.clock)
    for one in arguments.at:
        place, _, deed = one.partition("=")
        point, _, number = place.partition(":")
        failpoints.arm(Point(point), at_passing(int(number), deed_of(deed, shift)))
    return main(arguments.command)


if __name__ == "__main__":
    sys.exit(run())
