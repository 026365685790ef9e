"""What the ledger keeps of a watch: its dossiers, how far each was read, what stands on its topic, and what it is about to append. The port.

Dossiers and responses stand as keyed hashes, a dossier's id sealed beside its own. Every method raises LedgerError where the ledger cannot be read or
written, and is durable when it returns.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Dossier:
    """One that is watched."""

    key: str
    """Keyed hash."""
    id: str = field(repr=False)
    """The partner's own."""
    from_ms: int | None
    """What was completed before is not wanted; None: all is."""
    after_ms: int | None
    """When the newest that was seen was completed; None where none was."""
    polled_ms: int | None
    """When it was asked for last."""


@dataclass(frozen=True, slots=True)
class Item:
    """A response that goes onto the topic."""

    response: str
    """Keyed hash of its id."""
    content: str
    """Keyed hash of what it says."""
    record: str
    """What its record is known by on the topic."""


@dataclass(frozen=True, slots=True)
class Appending:
    """An intent: what is about to be appended."""

    ends: Mapping[int, int]
    """The topic's ends before, by partition: what this intent made of it stands behind them."""
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a watch stands, for people."""

    dossiers: int
    never_polled: int
    oldest_polled_ms: int | None
    responses: int
    appending: bool


class Watches(Protocol):
    """See the module. One process has a watch at a time (`take`), and writes for it with its name as `holder`."""

    def take(self, watch: str, holder: str, until_ms: int, now_ms: int, *, alone: bool) -> bool:
        """Have the watch until then; False where another has it still. `alone`: a lock says that no other is there."""
        ...

    def learn(self, watch: str, dossiers: Iterable[str], from_ms: int | None) -> int:
        """Dossiers that are to be watched; those that are known stay as they are. How many were new."""
        ...

    def dossiers(self, watch: str) -> list[Dossier]:
        """All of them."""
        ...

    def seen(self, watch: str, responses: Sequence[str]) -> dict[str, str]:
        """Of these, what stands on the topic: response to content."""
        ...

    def begin(self, watch: str, holder: str, appending: Appending) -> None:
        """Write the intent, before the first record. Refused where another process has the watch by now, or another intent is open."""
        ...

    def appending(self, watch: str) -> Appending | None:
        """The intent that is open."""
        ...

    def done(self, watch: str, items: Iterable[Item], at_ms: int) -> None:
        """These stand on the topic, and no intent is open any more."""
        ...

    def polled(self, watch: str, dossier: str, after_ms: int | None, at_ms: int) -> None:
        """It was asked for, and all that came stands on the topic."""
        ...

    def standing(self, watch: str) -> Standing:
        """See Standing."""
        ...
