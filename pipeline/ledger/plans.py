"""Replay plans: what stands in one, and what a ledger does with them. No implementation here; replays.py is it.

A plan is made without any side effect at a partner, and never changed afterwards but for its state. No value of a message stands in it: a
patient is a keyed hash, what a person wrote (`why`) is sealed. Every method raises LedgerError where the ledger cannot be read or written.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, Self

from pipeline.model import Position
from schemas.outcomes import State


class ItemClass(StrEnum):
    """What a replay would do with a record, judged when it is planned."""

    sentence: str

    def __new__(cls, code: str, sentence: str) -> Self:
        """Keep the sentence beside the code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member

    WILL_SEND = "will_send", "is sent"
    UNKNOWN_NEEDS_PROBE = (
        "unknown_needs_probe",
        "may have arrived: the partner is asked first, and it is sent only where it is not there",
    )
    ALREADY_DELIVERED = "already_delivered", "was delivered; --include-delivered sends it again"
    STALE = "stale", "something newer of the subject was delivered; --force sends it all the same"
    SUPERSEDED = "superseded", "something newer carries it already"
    BLOCKED_BEHIND = "blocked_behind", "is in work, or waits for another record: it goes on by itself"
    STILL_PARKED = "still_parked", "today's mapping and settings still cannot send it: mend the cause first"
    FILTERED = "filtered", "nobody wants it: filtered by today's tables, a duplicate, or discarded"
    PAYLOAD_GONE = "payload_gone", "its bytes are neither on the source topic nor on the dead-letter topic"


class PlanState(StrEnum):
    """Where a plan stands."""

    PLANNED = "planned"
    RELEASED = "released"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"


MOVES: Final[Mapping[PlanState, frozenset[PlanState]]] = {
    PlanState.RELEASED: frozenset({PlanState.PLANNED, PlanState.PAUSED}),
    PlanState.PAUSED: frozenset({PlanState.RELEASED}),
    PlanState.CANCELLED: frozenset({PlanState.PLANNED, PlanState.RELEASED, PlanState.PAUSED}),
}
"""To which state a person may move a plan, and from which. DONE comes by itself."""


class ItemState(StrEnum):
    """Where an item stands."""

    WAITING = "waiting"
    TAKEN = "taken"
    """A worker has it; until it is done it is given again to the partition's next worker."""
    DONE = "done"
    LEFT_OUT = "left_out"
    """Its class is not sent, or the plan was cancelled before it was begun."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What a plan may do beyond sending what never arrived."""

    latest_only: bool = False
    """Of the snapshots of one subject only the newest."""
    include_delivered: bool = False
    force: bool = False
    """What is stale, or was discarded, too."""


@dataclass(frozen=True, slots=True)
class Item:
    """A record of a plan."""

    position: Position
    lanes: tuple[str, ...]
    item_class: ItemClass
    was: State
    """Its state when it was planned."""
    payload: Position | None = None
    """Where its bytes are: the source record, or its dead letter."""
    reason: str | None = None
    where: str | None = None
    state: ItemState = ItemState.WAITING
    outcome: State | None = None
    """What the replay came to."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A plan without its items."""

    id: str
    route: str
    created_ms: int
    who: str
    why: str | None
    filter: str
    """What was asked for, as JSON; a patient as its keyed hash."""
    hash: str
    """Over route, mode and items: what was shown is what is released."""
    rate: float
    """Items per second."""
    mode: Mode
    state: PlanState = PlanState.PLANNED


@dataclass(frozen=True, slots=True)
class Taken:
    """An item that a worker is to execute."""

    replay: str
    route: str
    mode: Mode
    rate: float
    item: Item


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a plan is."""

    classes: Mapping[ItemClass, int]
    states: Mapping[ItemState, int]
    outcomes: Mapping[State, int]
    """Of the items that are done."""


class What(StrEnum):
    """What a person did; stands in the audit."""

    PLAN = "replay plan"
    RUN = "replay run"
    PAUSE = "replay pause"
    RESUME = "replay resume"
    CANCEL = "replay cancel"
    RESOLVE_DELIVERED = "resolve --delivered"
    RESOLVE_ABSENT = "resolve --absent"
    DISCARD = "discard"
    FORGET = "identities forget"
    START = "topics start"
    """Its position is the first record that is read from then on."""


@dataclass(frozen=True, slots=True)
class Deed:
    """A line of the audit."""

    at_ms: int
    who: str
    what: What
    why: str | None = field(default=None, repr=False)
    """A person's own words: sealed in the ledger, shown to people only."""
    route: str | None = None
    position: Position | None = None
    replay: str | None = None
    plan_hash: str | None = None


class Replays(Protocol):
    """See the module."""

    def plan(self, replay: Replay, items: Sequence[Item], deed: Deed) -> None:
        """Keep a plan. An item whose state is WAITING will be executed once the plan is released, the others are left out."""
        ...

    def get(self, replay: str) -> Replay | None:
        """A plan."""
        ...

    def all(self, route: str | None = None) -> list[Replay]:
        """Newest first."""
        ...

    def items(self, replay: str) -> list[Item]:
        """In (partition, offset) order, which is the order of execution."""
        ...

    def progress(self, replay: str) -> Progress:
        """How far it is."""
        ...

    def move(self, replay: str, to: PlanState, deed: Deed) -> Replay:
        """Release, pause or cancel it (MOVES). Cancelled, what was not taken is left out; what was taken is the worker's to give back, or bring to its end.

        Refused: its state does not allow it, there is nothing in it to be sent, or another plan that is not at its end has a record of it. SettingsError:
        there is no such plan.
        """
        ...

    def next(self, route: str, topic: str, holders: Mapping[int, str], most: int, beside: Collection[str] = ()) -> list[Taken]:
        """The next items of released plans for these partitions, of each plan in (partition, offset) order; they are taken when this returns.

        Of a plan no more than its rate brings in a second (one at least): what is taken is begun soon, or not at all where the plan is stopped.
        Of the plans named by `beside` nothing: who asks has something of them in hand.
        `holders`: partition → who takes, a name that is new with every process, every time that the partition is assigned, and after a LedgerError:
        they may be taken although no answer came. What another holder took and did not finish comes again (of a paused plan only what was begun), so that a crash loses nothing; that nothing is
        sent twice is the delivery's own row's doing.
        """
        ...

    def stopped(self, replay: str) -> bool:
        """Whether the plan was paused or cancelled."""
        ...

    def give_back(self, replay: str, position: Position) -> bool:
        """A taken item that was not begun, of a plan that was paused (it waits again) or cancelled (it is left out). False: the plan goes on, and so should it."""
        ...

    def done(self, replay: str, position: Position, outcome: State) -> None:
        """An item is at its end, its result on its topic. The last one ends the plan."""
        ...

    def of_position(self, route: str, position: Position) -> list[str]:
        """The plans that have this record, oldest first."""
        ...

    def audit(
        self, *, replays: Iterable[str] = (), positions: Iterable[tuple[str, Position]] = (), most: int = 100
    ) -> list[Deed]:
        """What people did to these plans and to these (route, position), oldest first; where none is named, to any."""
        ...
