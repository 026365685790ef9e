"""Why a message did not arrive, or a command did not run. The type is the decision, the reason is a code.

    PipelineError
    ├── Ended             this message goes no further on this route          state and reason are known
    │   ├── Filtered      nobody wants it                                     closed
    │   ├── Duplicate     it was here before                                  closed
    │   ├── Superseded    something newer was delivered                       closed
    │   └── Parked        it cannot go as it is: original bytes to the dead-letter topic, a person or a replay ends it
    │       └── ProfileNotMet   readable and mapped, but not what the partner accepts (exit 3; the others 2)
    ├── NotSent           nothing left this machine: retry freely             transport
    ├── NoAnswer          bytes left, no answer that tells: unknown           transport
    ├── BusError          a topic cannot be read or written
    │   ├── BusUnavailable    try again later
    │   │   └── BusRebalancing  no outage: the group is being divided anew; poll, then try again
    │   ├── BusLost           what this member held is another's now: forget it and poll on
    │   └── BusRefused        trying again does not help: no such topic, no right, too large
    │       ├── BusGap            where to read on is gone (topic made anew, retention): a person decides, nothing is skipped (exit 4)
    │       └── BusTooLarge       this record is larger than the topic takes: it alone, others go
    ├── DatabaseError     a database of ours cannot be read or written
    │   ├── LedgerError       the ledger: no new work
    │   └── StoreError        the store of appointments: nothing goes in, nothing is served
    ├── SettingsError     wrong settings or input (exit 2)
    └── Refused           a guard said no (exit 4)

No error carries a value of a message: `where` names places (PID-3.4, Patient.gender, a file and line, a setting), `message` says
what is wrong and what to do. `raise … from None` where the cause would carry values.
"""

import os
import traceback
from pathlib import Path

from schemas.outcomes import Reason, State


class PipelineError(Exception):
    """The root. `str()` is one line: what, where, what to do."""

    def __init__(self, message: str, *, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Ended(PipelineError):
    """This message goes no further on this route."""

    state: State

    def __init__(self, reason: Reason | None, *, where: str | None = None, message: str | None = None) -> None:
        super().__init__(message or (reason.sentence if reason else self.state.value), where=where)
        self.reason = reason


class Filtered(Ended):
    """Nobody wants it."""

    state = State.FILTERED


class Duplicate(Ended):
    """It was here before; `pointer` says where (topic/partition/offset)."""

    state = State.DUPLICATE

    def __init__(self, pointer: str) -> None:
        super().__init__(None)
        self.pointer = pointer


class Superseded(Ended):
    """Something newer of the same subject was delivered."""

    state = State.SUPERSEDED


class Parked(Ended):
    """It cannot go as it is."""

    state = State.PARKED


class ProfileNotMet(Parked):
    """Readable and mapped, but not what the partner accepts."""


class NotSent(PipelineError):
    """Nothing left this machine."""

    def __init__(self, reason: Reason, message: str | None = None) -> None:
        super().__init__(message or reason.sentence)
        self.reason = reason


class NoAnswer(PipelineError):
    """Bytes left this machine, and no answer came that tells."""

    def __init__(self, reason: Reason, message: str | None = None, *, fresh: bool = False) -> None:
        super().__init__(message or reason.sentence)
        self.reason = reason
        self.fresh = fresh
        """A fresh connection ended before any answer: a refused client certificate may look like this (RELIABILITY section 1)."""


class BusError(PipelineError):
    """A topic cannot be read or written."""


class BusUnavailable(BusError):
    """Try again later."""


class BusRebalancing(BusUnavailable):
    """No outage: the group is being divided anew; poll, then try again."""


class BusRefused(BusError):
    """Trying again does not help."""


class BusGap(BusRefused):
    """Where to read on is gone: a topic made anew, retention, no offset. Nothing is skipped; a person decides."""


class BusTooLarge(BusRefused):
    """This record is larger than its topic takes, or the bus. It was not appended; it says nothing of any other."""


class BusLost(BusError):
    """What this member held is another's now: forget it and poll on."""


class DatabaseError(PipelineError):
    """A database of ours cannot be read or written."""

    in_the_way = False
    """PostgreSQL ended this transaction because it and another stood in each other's way: the same once more goes through."""


class LedgerError(DatabaseError):
    """The ledger cannot be read or written."""


class StoreError(DatabaseError):
    """The store of appointments cannot be read or written."""


class SettingsError(PipelineError):
    """Wrong settings or input."""


class Refused(PipelineError):
    """A guard said no."""


def place_of(error: BaseException) -> str:
    """Where in our code a defect showed itself, as file.py:line: all that may be said of an error whose text may hold values."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "nowhere"
    last = next((frame for frame in reversed(frames) if f"{os.sep}pipeline{os.sep}" in frame.filename), frames[-1])
    return f"{Path(last.filename).name}:{last.lineno}"
