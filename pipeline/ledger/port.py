"""What a ledger does: intents before bytes, outcomes, identities. Durable when a call returns. No implementation here.

No row holds patient data or a secret: patients, lanes and subjects stand as keyed hashes, partner ids sealed (pseudonyms.py).
Every method raises LedgerError where the ledger cannot be read or written.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from pipeline.errors import Refused
from pipeline.ledger.plans import Deed, Item, Replay, Replays
from pipeline.ledger.watching import Watches
from pipeline.model import Identity, Intent, Knowledge, Learned, Outcome, Position, Routed, Seen
from schemas.outcomes import State

T_co = TypeVar("T_co", covariant=True)


STARTING: Final = "starting"
"""How what is recorded of a first start begins that has not come to its end: the group's offsets may be there, or not yet."""


class Held(Refused):
    """Not now: the lane or the patient is another delivery's, or the ledger knows more than the caller read. Wait, then read `knowledge` again."""

    def __init__(self, message: str, *, by: Position | None = None, route: str | None = None) -> None:
        super().__init__(message, where=str(by) if by else None)
        self.by = by
        self.route = route
        """Whose record that is: two routes of one partner may read one topic."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An intent: what is about to be sent, written before the first byte."""

    routed: Routed
    step: int
    """Of the request."""
    attempt: int
    intent: Intent
    operation: str
    request_id: str
    mapping_version: str
    deadline_ms: int
    at_ms: int
    probe: bool = False
    after: int = 0
    """How many intents the caller knows of (`Seen.intents`, its own included): where the row has another count, another process was there."""
    crashed: bool = False
    """A crash had left it open: its results say so until it is closed."""
    replay: str | None = None
    """The plan of which this record is a taken item: the one way to begin a closed record."""
    creates: tuple[Identity, ...] | None = field(default=None, repr=False)
    """Of a create: what the partner is to have by it that it has not, the patient or a part. None: the patient."""
    knowledge: Knowledge | None = field(default=None, repr=False)
    """What the caller read: a snapshot is Held where something else of its subject was delivered since. None: whatever was."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge to be recorded with an outcome: from now on `prior` is `survivor`."""

    prior: tuple[Identity, ...]
    survivor: Identity
    event_ms: int | None
    waiting: tuple[Identity, ...] = ()
    """The survivor's identities, where the partner has only the prior: until an operator imports one of them with the partner's id, or forgets it,
    both patients' messages find an open create (`Knowledge.open_create`)."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """An outcome with all that must become durable in the same transaction."""

    outcome: Outcome
    result_id: str
    result: str = field(repr=False)
    """The result record as JSON (schemas/result.py), so that a restart can emit the same again."""
    at_ms: int
    learned: tuple[Learned, ...] = ()
    merged: Merged | None = None
    subjects: tuple[str, ...] = ()
    """Keyed hashes of what the partner has the newest of by now."""
    after: int | None = None
    """As in Begun: settled only where the row still has so many intents, but for `delivered`, which is true whoever learned it. None: whatever it has."""
    keeps_open: bool = False
    """Parked, and what became of the intent that a crash left open is not known yet: it stays open, so that whoever goes on knows of it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of the ledger, for `find` and for a restart."""

    route: str
    position: Position
    state: State
    reason: str | None
    where: str | None
    event: str | None
    control_id: str | None
    patient: str | None
    """Keyed hash."""
    request_id: str
    attempt: int
    result_id: str | None
    http_status: int | None
    response_ms: float | None
    at_ms: int
    mapping_version: str | None
    pointer: str | None = None
    """Of a duplicate: the position of the one before."""
    open: bool = False
    """An intent without an answer that tells."""
    replay: str | None = None
    """The replay plan that settled it last."""
    sent: str | None = field(default=None, repr=False)
    """Keyed hashes of what went out, by element (fingerprint.py)."""
    step: int = 0
    """The step that is open, where it is not the first: what is below was done."""
    dedupe: str | None = None
    """As in Seen."""
    operation: str | None = None
    """Of the last intent that was no probe."""
    claims: bool = False
    """It holds a patient still: a create of it may have been done, whatever its reason says; or it is a merge that waits."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person says of a parked record, with all that must become durable in the same transaction."""

    deed: Deed
    """Its route, position and what was decided; the audit."""
    settlement: Settlement | None = None
    """`delivered` or `discarded`; None where the record stays parked until `then` has sent it: after `resolve --absent`, or with `arrived`."""
    partner_id: str | None = field(default=None, repr=False)
    """The partner's own id of the patient, of `resolve --delivered`."""
    arrived: int | None = None
    """Of `resolve --delivered`, where further requests of the record follow: the step that arrived."""
    then: tuple[Replay, Item] | None = None
    """The plan, released, that sends the record, or what is left of it."""
    gone: bool = False
    """Its bytes are nowhere any more: no worker goes on with what a crash left open of it, and a person may end that."""


@dataclass(frozen=True, slots=True)
class Query:
    """What `find` asks for; None is any."""

    route: str | None = None
    state: State | None = None
    in_doubt: bool = False
    """Only what may or may not have arrived, whatever its state is: an intent without an answer that tells, unknown, or parked so that a person may resolve it."""
    reason: str | None = None
    event: str | None = None
    control_id: str | None = None
    patients: tuple[str, ...] = ()
    """Keyed hashes, any of them: a patient has another one on each route and for each number."""
    request_id: str | None = None
    position: Position | None = None
    last_offset: int | None = None
    """With `position`: up to this offset of its partition, included."""
    since_ms: int | None = None
    until_ms: int | None = None
    http_status: int | None = None
    mapping_version: str | None = None
    replay: str | None = None
    """The records of this plan."""
    most: int = 100


class Promised(Protocol[T_co]):
    """What was asked for, and shares the next turn of the database with what others ask."""

    def result(self) -> T_co:
        """It, waited for; or its error. Once."""
        ...


class Ledger(Protocol):
    """See the module."""

    @property
    def alone(self) -> bool:
        """Whether no other process can work on a route while this one has claimed it: what is found open was begun by one that is gone."""
        ...

    def check(self) -> None:
        """Migrate where needed, then compare the key's check value: Refused where the key is another one.

        Refused where the ledger's schema is newer than this program. The first time it makes the tables and keeps the check value.
        """
        ...

    def start(self, route: str, group: str, partner: str, how: str) -> str | None:
        """Record a route's first start (`earliest`, `latest`, `committed`, a time; before it STARTING and for whom); returns what was recorded before, else None.

        What was recorded stays, but for what begins with STARTING. Refused as `fits` has it.
        """
        ...

    def fits(self, route: str, group: str, partner: str) -> None:
        """Refused where the route was started otherwise, or the group is another route's. Takes and writes nothing.

        Of another group it would read everything again (RELIABILITY R8), to another partner's name create every patient again: by that name they are
        known. What another route has parked is found by that one's name only.
        """
        ...

    def started(self, route: str) -> str | None:
        """What `start` recorded."""
        ...

    def claim(self, route: str, group: str, partner: str) -> None:
        """Take the route for this process until `close`; a worker's first call, before it joins the group (RELIABILITY R8).

        Refused as `fits` has it, and on SQLite where another worker has it (on PostgreSQL they share it). Where no partner is recorded, it is from now on.
        """
        ...

    def claimed(self, route: str) -> bool | None:
        """Whether a worker has the route; None where nobody can tell (on PostgreSQL workers share it)."""
        ...

    def knowledge(self, routed: Routed) -> Knowledge:
        """All that identify needs, in one read transaction."""
        ...

    def knowledge_soon(self, routed: Routed) -> Promised[Knowledge]:
        """`knowledge` in two parts, so that many ask together: it waits for nothing and raises nothing, its result does. So with all that end so."""
        ...

    def seen(self, route: str, position: Position) -> Seen | None:
        """One delivery, by its record: also of what could not be decoded."""
        ...

    def begin(self, begun: Begun) -> None:
        """Write the intent; durable when this returns, so that a byte may leave.

        Held: another record has an open intent on one of these lanes, or another process has begun this record since it was read (`by` and `route` are then
        its own), or a create of this patient is open, or the partner knows the patient already (or it was merged away under all its identities) and
        this is a create. Refused: the record is closed already, and is no taken item of the plan that `begun` names.
        A closed record that is begun by a replay keeps its state; only its intent is open.
        """
        ...

    def begin_soon(self, begun: Begun) -> Promised[None]:
        """`begin` in two parts: durable when its result is there."""
        ...

    def retry(self, route: str, position: Position, outcome: Outcome, at_ms: int, after: int) -> None:
        """An attempt that did not settle: `outcome.state` says whether nothing was done (PENDING: the intent is open no longer) or UNKNOWN.

        It changes nothing where the row has another count of intents than `after`: another process has gone on with the record.
        """
        ...

    def retry_soon(self, route: str, position: Position, outcome: Outcome, at_ms: int, after: int) -> Promised[None]:
        """`retry` in two parts."""
        ...

    def advance(self, settlement: Settlement, step: int) -> None:
        """A request was delivered that is not the last of its record: what was learned, `step` as the one that is open from now on, no open intent.

        One transaction. The settlement's outcome is PENDING, and neither its result nor its result id is kept. What was learned is true whoever did it;
        the rest changes nothing where the row has another count of intents than `after`, or is closed by now. Of a replay of a closed record the state
        stays, and the step rises.
        """
        ...

    def advance_soon(self, settlement: Settlement, step: int) -> Promised[None]:
        """`advance` in two parts."""
        ...

    def settle(self, settlement: Settlement) -> bool:
        """Write the outcome, what was learned and the merge, in one transaction; whether it changed anything.

        What was learned takes no identity away from another patient: a partner's id that is there stays (only an import replaces it).
        Settling the same twice changes nothing. A closed record stays as it is, except that a late `delivered` is true whatever stood there;
        then `seen` has the settlement that counts. Of a replay of a closed record (`Outcome.again`) the intent is closed and the result kept
        until it is on its topic, and the state changes where it was delivered. Held: the merge would make a patient its own survivor,
        or a create of either patient is open.
        """
        ...

    def settle_soon(self, settlement: Settlement) -> Promised[bool]:
        """`settle` in two parts."""
        ...

    def emitted(self, route: str, results: Sequence[tuple[Position, str]]) -> None:
        """The result records (and the dead letters) of these are on their topics: each by its record and its result id.

        A record that has another result by now (parked, it came back) keeps that one until it was emitted itself.
        """
        ...

    def unemitted(self, route: str, topic: str, partition: int) -> list[Position]:
        """Settled, and not known to be on the results topic: what the end of a process left, in source order.

        What a worker reads again by itself is among it; what a replay, a lane that came free, or an operator settled is nowhere else.
        """
        ...

    def decide(self, decided: Decided) -> None:
        """What an operator says of a parked record. Its result is then to be emitted, and `emitted` told, as of any settlement.

        SettingsError: there is no such record. Refused: it is not parked, it is no outcome that is unknown (resolve), or it is one, or a merge
        that waits (discard).
        """
        ...

    def tell(self, deeds: Sequence[Deed]) -> None:
        """Lines of the audit, of what was done elsewhere than in the ledger."""
        ...

    @property
    def replays(self) -> Replays:
        """Replay plans and the audit."""
        ...

    @property
    def watches(self) -> Watches:
        """What is read of partners, and put onto topics."""
        ...

    def seen_between(self, route: str, first: Position, last: Position) -> dict[Position, Seen]:
        """What it has of the records of one partition, both ends included."""
        ...

    def waiting(self, route: str, topic: str, partition: int) -> list[tuple[Position, tuple[str, ...]]]:
        """What goes on by itself, with its lanes, in source order: parked for so long (schemas/outcomes.py, COMES_BACK), or begun and not settled.

        Of the latter, those below where reading begins were parked once, came back, and were on their way when their process ended. What a plan has begun is not among them: `replays.next` gives it again.
        """
        ...

    def former(self, route: str, source: str) -> list[tuple[str, int]]:
        """Topic and partition of what it has of this route beside `source`: the topics that were its source before, the oldest first."""
        ...

    def holding(self, partner: str, positions: Sequence[Position]) -> set[Position]:
        """Those of these whose create, or merge, still holds a patient at this partner."""
        ...

    def ended(self, route: str, positions: Sequence[Position]) -> set[Position]:
        """Those of these that do not go on by themselves: closed, or parked for a person; but not what a released plan is about to send."""
        ...

    def counts(self, route: str | None = None) -> dict[str, dict[State, int]]:
        """Deliveries per route and state."""
        ...

    def find(self, query: Query) -> Iterator[Delivery]:
        """Newest first."""
        ...

    def forget(
        self,
        partner: str,
        identities: Iterable[Identity],
        *,
        by_operator: bool = False,
        told: tuple[str, Position, int] | None = None,
        deed: Deed | None = None,
    ) -> None:
        """The partner turned out not to have these: the next message of the patient creates.

        `told`: whose answer says so, as route, record and how many intents it had. Nothing is forgotten where that has another count: another process
        has gone on with it, and may have created them since.
        `by_operator`: that ends an open create or a waiting merge of theirs as well, where it is parked.
        `deed` is kept in the audit: of each record whose create or merge that ended, else of none.
        """
        ...

    def unknown(self, partner: str, identities: Iterable[Identity]) -> tuple[Identity, ...]:
        """Those that the partner neither knows nor has an open create or a waiting merge of."""
        ...

    def import_identities(self, partner: str, rows: Iterable[Learned]) -> int:
        """What a partner knows already; returns how many were new or changed. It ends an open create or a waiting merge of theirs that is parked."""
        ...

    def export_identities(self, partner: str) -> Iterator[tuple[str, str, str, str | None]]:
        """(kind, identifier system, keyed hash of the value, partner's id)."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
