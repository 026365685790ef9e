"""Named points between the steps of a delivery, where a test may stop or kill the process (RELIABILITY section 3, R1).

`reach` does nothing unless a point is armed, and nothing in the product arms one: no setting, no environment variable, no command. Only
the launcher of tests/faults does, in its own process, before it calls the command line; a test holds this to it.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final


class Point(StrEnum):
    """After what; the rows of the crash table. Each thread that delivers passes all of them for each message, in this order; AFTER_STEP where it has several requests."""

    AFTER_POLL = "after_poll"
    """A record is taken up; the ledger has nothing of it."""
    AFTER_INTENT = "after_intent"
    """The intent is durable, no byte has left."""
    AFTER_BYTES_SENT = "after_bytes_sent"
    """The request is in the socket whole, nothing is read yet."""
    AFTER_ANSWER = "after_answer"
    """The answer, or that there is none, is judged and written nowhere."""
    AFTER_STEP = "after_step"
    """A request that is not its message's last is delivered, and the ledger knows; nothing of the next one."""
    AFTER_LEDGER_SETTLED = "after_ledger_settled"
    """The outcome is in the ledger, its result on no topic."""
    AFTER_RESULT_PRODUCED = "after_result_produced"
    """The result is on its topic, and the ledger does not know it."""
    AFTER_COMMIT = "after_commit"
    """The offset is with the bus."""


_armed: Final[dict[Point, Callable[[], None]]] = {}


def reach(point: Point) -> None:
    """Called where the point is passed, by any thread."""
    action = _armed.get(point)
    if action is not None:
        action()


def arm(point: Point, action: Callable[[], None]) -> None:
    """Call `action` at each passing from now on, in the passing thread. For tests/faults alone."""
    _armed[point] = action


def disarm() -> None:
    """Nothing is armed any more."""
    _armed.clear()
