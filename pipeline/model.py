"""The value at each hop, frozen: Received → Decoded → Routed → Identified → Mapped → Packed → Answer → Outcome.

No dict travels and nothing is filled in later. Values here hold patient data; their `repr` never shows it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from schemas.event import Event, Null
from schemas.outcomes import FindingCode, Reason, Severity, State

Resource = dict[str, Any]
"""A FHIR resource as JSON's own types."""
Variable = str | bool | tuple[str | None, ...] | None
"""What a partner computes for its templates: `partner.<name>`. A list goes with what stands in the message in the same order."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a source record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was noticed on the way: places and codes, never values."""

    code: FindingCode
    severity: Severity = Severity.WARNING
    hl7: str | None = None
    """HL7 place, as PID-3[2].4.1 (field, repetition from 1, component, sub-component; DG1[2] is the second DG1)."""
    fhir: str | None = None
    """FHIR path, as Bundle.entry[1].resource.name[0].family or Patient.gender."""
    about: str | None = None
    """A name of ours that helps: a code table, a rule of the profile. Never a value of the message."""


@dataclass(frozen=True, slots=True)
class Received:
    """A topic record, as it was read."""

    position: Position
    value: bytes | None = field(repr=False)
    key: bytes | None = field(default=None, repr=False)
    headers: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    timestamp_ms: int = 0
    """When the record was appended, milliseconds since 1970."""


class Hl7(Protocol):
    """A message by path. Paths: `PID-3[2].4.1`, `DG1[2]-3.1`, `ZPI-3.1`; without indexes the first."""

    def __call__(self, path: str) -> str | Null | None:
        """The text at the path, unescaped; NULL for an explicit null; None where there is nothing."""
        ...

    def count(self, path: str) -> int:
        """How many segments (`DG1`) or repetitions (`PID-3`) there are."""
        ...


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message that could be read."""

    received: Received
    hl7: Hl7 = field(repr=False)
    event: Event = field(repr=False)
    findings: tuple[Finding, ...] = ()
    fields: frozenset[str] | None = field(default=None, repr=False)
    """The fields that the templates said to read, beside which the event has only what this program reads itself; None: it has all."""


class Kind(StrEnum):
    """What an event does to its subject (RELIABILITY section 2)."""

    SNAPSHOT = "snapshot"
    FACT = "fact"
    CANCEL = "cancel"
    MERGE = "merge"
    CHANGE_OF_ID = "change_of_id"
    MOVE = "move"
    LINK = "link"


class Subject(StrEnum):
    """What an event is about; supersede and stale compare within one subject only."""

    PATIENT = "patient"
    VISIT = "visit"
    COVERAGE = "coverage"
    APPOINTMENT = "appointment"
    RESULT = "result"


class Behind(StrEnum):
    """What a message does behind one of its subject that is parked for a person (RELIABILITY section 2)."""

    PASS = "pass"  # noqa: S105 - no password
    HOLD = "hold"


class Action(StrEnum):
    """What the route does with an event."""

    UPSERT = "upsert"
    MERGE = "merge"
    """No partner but us knows of it: the ledger records it."""
    JOIN = "join"
    """A merge that the partner takes: a request of its own."""
    FILTER = "filter"
    PARK = "park"


@dataclass(frozen=True, slots=True)
class EventRule:
    """A row of mappings/events.yaml for one partner."""

    event: str
    kind: Kind
    subject: Subject
    action: Action
    reason: Reason | None = None
    """Why it is filtered or parked."""
    behind: Behind = Behind.PASS
    only_known: bool = False
    """It is nothing to a partner that has nothing of its subject."""
    older_goes: bool = False
    """The partner weighs versions itself: what is older than the last delivered goes all the same."""

    @property
    def holds_all(self) -> bool:
        """Whether all later messages of its patients wait until a person has dealt with it: by a number that moved (A43) nobody can tell whose they are."""
        return self.action is Action.PARK and (self.kind, self.subject) == (Kind.MOVE, Subject.PATIENT)


@dataclass(frozen=True, slots=True)
class Identity:
    """Something that a partner may know under an id of its own: (kind, identifier system, value)."""

    kind: Subject
    system: str
    value: str = field(repr=False)
    place: str | None = field(default=None, compare=False)
    """Where in the message it stood."""
    under: str = ""
    """Of a partner that keeps each sender's records apart: whose it is there. Two senders' equal numbers are then two."""


@dataclass(frozen=True, slots=True)
class Routed:
    """A message with its place in the order: which patient, which subject, what to do."""

    decoded: Decoded
    route: str
    partner: str
    rule: EventRule
    identities: tuple[Identity, ...]
    """The patient's identities that the partner accepts, the first is the one that it is known by. Empty: it accepts none."""
    prior: tuple[Identity, ...]
    """Of a merge: the identities that end."""
    lanes: tuple[str, ...]
    """Keyed hashes of the patient on this route, one for each identity, the least first (the order of PID-3 does not matter); of a merge those of the
    prior patient as well. Two messages that share one go one after the other."""
    subjects: tuple[str, ...]
    """Keyed hashes of the subject: what stale and supersede compare within. One for each of the patient's identities, or that of the visit; or that of the
    result or appointment and, behind it, one of it with each of the patient's identities."""
    sender: str
    """Keyed hash of sending application and facility."""
    dedupe: str
    """Hash of route, sender, control id and body."""
    request_id: str
    """UUIDv5 of route and raw message (DESIGN decision 8)."""
    event_ms: int | None
    """Event time in milliseconds since 1970; None where the message has none, an ambiguous one, or one far ahead of its record."""
    findings: tuple[Finding, ...] = ()
    parts: tuple[Identity, ...] = ()
    """What else the message brings that the partner keeps under an id of its own: its visit, its coverages, its result (Partner.parts)."""
    lanes_beside: tuple[str, ...] = ()
    """The same patients on the other routes to this partner: a number that moved there (EventRule.holds_all) holds this as well."""
    patient_subjects: tuple[str, ...] = ()
    """Of a message about a visit or a result, which brings the patient along: the patient's keyed hashes, as `subjects` of one about the patient."""

    @property
    def about(self) -> str | None:
        """Keyed hash of the visit or the result that it is about; None where it is about the patient."""
        return self.subjects[0] if self.patient_subjects else None

    @property
    def needs_known(self) -> bool:
        """Whether it goes only where the partner has what it is about: what takes it back, or tells more of it."""
        return self.about is not None and (self.rule.kind is Kind.CANCEL or self.rule.only_known)

    @property
    def held_against(self) -> tuple[str, ...]:
        """Those of `subjects` whose last delivery this may be too old for, where there was one.

        What takes a result back from a patient never is for what came of it for another: the partner would keep it with the wrong one.
        """
        return self.subjects[1:] or self.subjects if self.about and self.rule.kind is Kind.CANCEL else self.compared

    @property
    def compared(self) -> tuple[str, ...]:
        """Those of `subjects` within which it is newer or older. A schedule may have several patients: what came of it for one says nothing of another."""
        return self.subjects[1:] if self.about and self.rule.subject is Subject.APPOINTMENT else self.subjects

    @property
    def lane(self) -> str:
        """The patient in the ledger and in results."""
        return self.lanes[0]


class Intent(StrEnum):
    """What is asked of the partner."""

    CREATE = "create"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Seen:
    """A delivery that the ledger has."""

    position: Position
    state: State
    reason: Reason | None
    request_id: str
    attempt: int = 0
    intent: Intent | None = None
    sent_ms: int | None = None
    """Wall clock of the last intent that was no probe, milliseconds since 1970; None once an answer told what became of it."""
    open: bool = False
    """An intent without an answer that tells: in flight, unknown, or found after a crash."""
    intents: int = 0
    """How many were written for it: who begins the next has to name it, so that of two processes one does."""
    deadline_ms: int | None = None
    """Of an open one: until then the process that began it may still be sending (wall clock, milliseconds since 1970)."""
    result: str | None = field(default=None, repr=False)
    """The result record of its settlement, as JSON; None once it is on its topic."""
    result_emitted: bool = False
    dedupe: str | None = None
    """Keyed hash of the record that was read here: of the message, or of the bytes alone where it went no further; None in rows of an older version."""
    replay: str | None = None
    """The replay plan that settled it last."""
    step: int = 0
    """The step that is open: what is below it was done."""
    sent_step: int = 0
    """That of the last intent that was no probe."""
    crashed: bool = False
    """It went out again after a crash had left it open."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a partner has of one identity."""

    partner_id: str | None = field(repr=False)
    """The partner's own id; None where the partner knows it by the identifier alone."""
    merged_into: str | None = None
    """Keyed hash of the survivor, where it was merged away."""
    merged_ms: int | None = None
    """Event time of the merge, milliseconds since 1970."""
    created_with: bool = False
    """The create went out under it."""
    belongs_to: str | None = field(default=None, repr=False)
    """Of a part: the partner's id of the patient that it has it with."""


@dataclass(frozen=True, slots=True)
class ParkedBefore:
    """A message of the patient that waits for a person."""

    position: Position
    kind: Kind
    subject: Subject
    about: str | None = None
    """See Routed."""
    event_ms: int | None = None
    """Its event time, as Routed has it."""

    @property
    def holds_all(self) -> bool:
        """A number that moved, on whichever route to the partner: see EventRule."""
        return (self.kind, self.subject) == (Kind.MOVE, Subject.PATIENT)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the ledger knows about a routed message, read when the lane reaches it."""

    same: Seen | None = None
    """Another record with the same route, sender, control id and body."""
    control_id_reused: bool = False
    known: Mapping[Identity, Known] = field(default_factory=dict, repr=False)
    """Of the routed identities, prior ones and parts included: those that the partner knows or that were merged."""
    last_event_ms: int | None = None
    """Event time of the newest that was delivered of this subject (under whichever of its identities) and sender."""
    last_position: Position | None = None
    """Where that stood: with equal or missing event times the position decides."""
    patient_event_ms: int | None = None
    """The same of the patient, where the message is about something else."""
    patient_position: Position | None = None
    open_create: Position | None = None
    """Another record's create of this patient, or of a part of this message (of a merge: of the prior, too) at this partner that is unknown, or parked as unknown; or a merge that
    waits for the partner to change an identifier."""
    creating: Position | None = None
    """The same, where it is merely in flight: `begin` raises Held, and its answer tells."""
    creating_route: str | None = None
    """Whose record that is (or the open one): two routes to one partner may read one topic."""
    merge_cycle: bool = False
    """Of a merge: it would make a patient its own survivor."""
    parked: tuple[ParkedBefore, ...] = ()
    """Of the patient on this route, and the numbers that moved on the partner's other routes."""
    part_open: Position | None = None
    """Of what needs_known: another record of the same that is neither closed nor known to be a later one."""

    @property
    def of_one_begun(self) -> "Knowledge":
        """For a message of which something went out: it has to come to its end, whichever number moved since, and whoever says the same after it."""
        return replace(self, same=None, parked=tuple(one for one in self.parked if not one.holds_all))


@dataclass(frozen=True, slots=True)
class Identified:
    """A message that is to go: as a create, or as an update of what the partner knows."""

    routed: Routed
    """Without the identities that were merged away: they are not sent under the survivor's."""
    intent: Intent
    partner_id: str | None = field(default=None, repr=False)
    """The partner's own id of the patient, on an update, where it gave one."""
    identity: Identity | None = None
    """The identity that the partner knows the patient by: on a create the first accepted one, on an update one with the partner's own id first,
    then the one it was created with."""
    findings: tuple[Finding, ...] = ()
    part_ids: Mapping[Identity, str] = field(default_factory=dict, repr=False)
    """Of the routed `parts`, those that the partner knows, with its own id."""
    stale_patient: bool = False
    """Something newer of the patient was delivered with another subject: what this message says of the patient stays at home."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """Rendered and checked resources, in the order of the mapping."""

    identified: Identified
    resources: tuple[Resource, ...] = field(repr=False)
    mapping_version: str
    """Hash of all that made it: templates, tables, overlay."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `total` bounds the whole exchange, connect to last byte."""

    connect: float
    read: float
    total: float


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, ready to go. Secrets are not in it: the transport adds them."""

    operation: str
    """The partner's operation, as patient-create: what verdicts, time-outs and figures are kept by."""
    method: str
    path: str = field(repr=False)
    """Path below the partner's base URL; it may hold a patient's id."""
    path_template: str
    """The same with {id}: for logs and metrics."""
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)
    request_id: str
    """x-origin-request-id, whether or not the partner has such a header."""
    timeouts: Timeouts
    intent: Intent
    step: int = 0
    """Its place in the delivery. A number means the same in every message of a partner, whether or not the message has a request of it."""
    subject: str | None = field(default=None, repr=False)
    """Whom the token is made for, where the partner wants one for each patient: the partner's id of the patient."""


@dataclass(frozen=True, slots=True)
class Packed:
    """The requests of one delivery, by rising `step`."""

    mapped: Mapped
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, as it came."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """Lower-case names."""
    body: bytes = field(repr=False)
    elapsed_ms: float
    sent_ms: int
    """Wall clock when the request began, milliseconds since 1970."""
    answered_ms: int


class Decision(StrEnum):
    """What an answer, or the lack of one, means."""

    DELIVERED = "delivered"
    STALE = "stale"
    """Something newer is there: nothing was done, and nothing has to be."""
    FAILED = "failed"
    """Nothing was done there: try again after a pause."""
    THROTTLED = "throttled"
    """Wait as told; not an attempt."""
    EXISTS = "exists"
    """A create of what is there already: go on as an update."""
    ABSENT = "absent"
    """An update of what is not there."""
    PARKED = "parked"
    UNKNOWN = "unknown"
    HALTED = "halted"
    """The partner refuses us as a whole: nobody's message, stop the route."""


@dataclass(frozen=True, slots=True)
class Learned:
    """An identity and the partner's own id of it, from an answer."""

    identity: Identity
    partner_id: str | None = field(repr=False)
    created_with: bool = field(default=False, compare=False)
    """The create went out under it."""
    belongs_to: str | None = field(default=None, repr=False, compare=False)
    """Of a part: the partner's id of the patient that it has it with."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer, judged by the partner's table."""

    decision: Decision
    reason: Reason | None = None
    issue_codes: tuple[str, ...] = ()
    """The partner's own issue codes, as it sent them, of its closed list only."""
    learned: tuple[Learned, ...] = ()
    retry_after: float | None = None
    """Seconds."""
    suspect: bool = False
    """A fresh connection ended before any answer, which a refused certificate may look like: no further create out until this is settled."""


class OpenEnd(Protocol):
    """A request that has left, whose time is over, and whose connection is open still. Whoever has it reads it or closes it."""

    def read(self, seconds: float) -> Reply:
        """The answer, and the connection is closed. NoAnswer: none came within so many seconds, or what came was none."""
        ...

    def close(self) -> None:
        """Let go of it, from any thread; a `read` that waits ends."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """One attempt: what went out, what came back, what it means."""

    request: Request
    reply: Reply | None
    """None where no answer came."""
    verdict: Verdict
    attempt: int
    probe: bool = False
    end: OpenEnd | None = field(default=None, repr=False, compare=False)
    """Where no answer came in time: the connection, open still; whoever has this reads it or closes it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message on a route, or of one attempt of it."""

    received: Received
    route: str
    partner: str
    state: State
    reason: Reason | None = None
    where: str | None = None
    """HL7 place or FHIR path of the reason."""
    message: str | None = None
    """One line for a person: what, and what to do. It stays on this machine."""
    decoded: Decoded | None = None
    routed: Routed | None = None
    packed: Packed | None = None
    answer: Answer | None = None
    findings: tuple[Finding, ...] = ()
    pointer: str | None = None
    """Of a duplicate: the position of the one before."""
    confirmed_by: str | None = None
    """`response`, `probe` or `operator`, of a delivered one."""
    possible_duplicate: bool = False
    replay_id: str | None = None
    """The replay plan that this is an outcome of."""
    again: bool = False
    """The record was closed before the replay: it stays what it was, unless this is `delivered`."""


Clock = Callable[[], int]
"""Wall clock, milliseconds since 1970."""
