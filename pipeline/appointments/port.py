"""What the store of appointments promises. Start here.

- An older version never goes over a newer one, in whichever order they come: the event time decides, then the place in the topic. It still tells of the
  status or the times where nothing newer did.
- A person is a set of keys (keyed hashes of identifiers). Keys that are two persons' link nothing: Put.CONFLICT, and somebody has to decide.
- Two persons become one where the sender's merge says so, or an operator; two that have each a key of which a person has one never do.
- All that is read is read of one person; what is another's is not told apart from what is not there.
- A search goes on (`after`) at the snapshot that it began at, whatever changes meanwhile.

Every method raises StoreError where the store cannot be read or written. No key, id or body is in any error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Final, Literal, NamedTuple, Protocol

from pipeline.model import Position

Range = tuple[int | None, int | None]
"""Milliseconds since 1970, from (inclusive) and until (exclusive); None is open."""
Alternatives = Sequence[Range]
"""One search parameter: the start lies in one of them (OR). Several parameters are ANDed."""
Snapshot = int
"""How far a search sees: the version of its person when it began. It means nothing for another person."""


class Gone(Enum):
    """What was there, and is no more."""

    GONE = "gone"


GONE: Final = Gone.GONE


class Key(NamedTuple):
    """One identifier of a person, as a keyed hash."""

    hash: str
    """Pseudonyms.person."""
    sole: bool = False
    """A person has one of these at most (a BSN): two mean two persons."""


class Says(StrEnum):
    """What a message means by the status that it comes with."""

    STATUS = "status"
    """This is what became of it."""
    AGAIN = "again"
    """The same, of an event that takes back another: an update that still has the older word does not undo it."""
    LEAST = "least"
    """It is at least so: where no event has told of it."""
    NOTHING = "nothing"
    """It says nothing of what became of it: whoever came, left or was cancelled stays so."""


@dataclass(frozen=True, slots=True)
class Change:
    """One version of an appointment, with all that it references."""

    appointment: str = field(repr=False)
    """Its id."""
    keys: tuple[Key, ...] = field(repr=False)
    """Of its patient."""
    event_ms: int | None
    """None: it is not known, and the place in the topic decides."""
    position: Position | None
    """Where the record of its event stands: decides between equal event times."""
    start_ms: int | None = field(repr=False)
    """Appointment.start."""
    resources: Mapping[tuple[str, str], bytes] = field(repr=False)
    """By type and id: the Appointment itself and what it references, each as JSON."""
    own: str | None = field(default=None, repr=False)
    """The id of this person's own copy, where the appointment's is another person's: one schedule, several patients."""
    shared: bool = False
    """It may have several patients: the other one's stays as it is. Else only where the other one's is cancelled or was an error."""
    says: Says = Says.STATUS
    """What its status counts for."""
    announces: bool = True
    """Where nothing of it is there yet, it shows from now on. Else only what it says is remembered, for when it is announced."""
    copy_of: str | None = field(default=None, repr=False)
    """The id by which messages name it, where its id is that of a copy."""


@dataclass(frozen=True, slots=True)
class Merge:
    """What a sender says: the prior's keys are the survivor's from now on."""

    prior: tuple[Key, ...]
    survivor: tuple[Key, ...]
    event_ms: int | None
    """None: it is not known, and whatever an operator said counts as newer."""
    who: str
    """The record that told it, for the audit."""


class Put(StrEnum):
    """What became of a change, or of a merge."""

    CREATED = "created"
    UPDATED = "updated"
    STALE = "stale"
    """A newer version is there (of a merge: a person parted the two since): nothing was written."""
    CONFLICT = "conflict"
    """The keys are two persons': nothing was written and nothing linked."""
    ANOTHERS = "anothers"
    """The appointment is another person's, or its number was released for another and this does not book it anew since: as above.
    But a cancel of what is another's is remembered: should the two turn out to be one, it counts."""
    REMEMBERED = "remembered"
    """Nobody announced it: nothing shows and nothing is linked, and what it said counts once somebody does."""
    UNTIMED = "untimed"
    """It has a status that needs a time, and nothing ever told one: nothing was written."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What an operator does to persons, for the audit."""

    who: str
    why: str = field(repr=False)
    """Sealed."""


class Did(StrEnum):
    """What was done to persons."""

    MERGED = "merged"
    JOINED = "joined"
    PARTED = "parted"
    FORGOTTEN = "forgotten"
    WITHDRAWN = "withdrawn"
    RELEASED = "released"


class Done(NamedTuple):
    """A line of the audit."""

    at_ms: int
    did: Did
    who: str
    why: str | None
    """Sealed; None of a merge."""
    person: int
    other: int | None
    keys: int
    appointments: int


class Person(NamedTuple):
    """What an operator may know of a person."""

    id: int
    keys: int
    sole: bool
    """Whether one of them is a BSN."""
    appointments: int
    asked: frozenset[str]
    """Those of the keys asked for that are this person's."""
    came: int
    """Appointments that came with none but these."""
    both: int
    """Appointments that came with one of these and another one of the person's, or nobody knows with which."""
    done: tuple[Done, ...]
    """Oldest first."""


class Both(Enum):
    """What becomes of appointments that came with keys of both sides, as a person is parted."""

    STAY = "stay"
    GO = "go"


class Cursor(NamedTuple):
    """Behind which appointment a page begins."""

    start_ms: int | None
    id: str


class Found(NamedTuple):
    """An appointment."""

    id: str
    version: int
    start_ms: int | None
    body: bytes


class Page(NamedTuple):
    """Some of what was found, by start and id, or backwards; those without a start come last."""

    found: tuple[Found, ...]
    after: Cursor | None
    """Where the next page begins; None: there is none."""
    at: Snapshot


class Store(Protocol):
    """The store. Serves many threads."""

    def put(self, change: Change) -> Put:
        """Write a version, durable when it returns."""
        ...

    def put_all(self, changes: Sequence[Change]) -> tuple[Put, ...]:
        """Write all of them, or none where one of them is CONFLICT, ANOTHERS or UNTIMED (the others are then STALE, CREATED or UPDATED as they would have been)."""
        ...

    def merge(self, merge: Merge) -> Put:
        """Make one person of two, or remember that keys nobody is known by yet are one's. CONFLICT: each has a sole key, or the survivor's keys are two persons'."""
        ...

    def person(self, key: str) -> int | None:
        """The person whom a keyed hash names; None where nobody is known by it."""
        ...

    def sole_key(self, person: int) -> str | None:
        """The hash of the person's own sole key (a BSN); None where it has none."""
        ...

    def search(
        self,
        person: int,
        ranges: Sequence[Alternatives] = (),
        *,
        after: Cursor | None = None,
        count: int,
        at: Snapshot | None = None,
        backwards: bool = False,
    ) -> Page | Literal[Gone.GONE]:
        """Appointments whose start lies in one range of each parameter; without parameters all. `backwards`: the latest first; those without a start are last all the same.

        GONE: the snapshot is too old, or the person became another's meanwhile: ask who it is, and search anew.
        """
        ...

    def read(self, person: int, kind: str, name: str) -> bytes | Literal[Gone.GONE] | None:
        """An appointment of the person, or what one of them references, by type and id; GONE: none of them does any more."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
