"""Small routed messages, intents and settlements: what the ledger's tests speak in."""

from dataclasses import dataclass, field, replace

from pipeline.ledger.port import Begun, Merged, Settlement
from pipeline.model import (
    Action,
    Answer,
    Decision,
    Decoded,
    EventRule,
    Identity,
    Intent,
    Kind,
    Learned,
    Outcome,
    Position,
    Received,
    Reply,
    Request,
    Routed,
    Subject,
    Timeouts,
    Verdict,
)
from pipeline.pseudonyms import Pseudonyms
from schemas.event import Event, Null
from schemas.outcomes import Reason, State

KEY = "a key of at least sixteen bytes"
PSEUDONYMS = Pseudonyms(KEY)
CIP = "urn:oid:2.16.724.4.41"
ROUTE, PARTNER = "roche-patients", "roche"


class NoHl7:
    """A message without any path."""

    def __call__(self, path: str) -> str | Null | None:
        del path
        return None

    def count(self, path: str) -> int:
        del path
        return 0


@dataclass(frozen=True)
class Message:
    """One message of one patient; what is not said is usual."""

    offset: int
    patient: str = "CIP1"
    control_id: str | None = None
    body: str | None = None
    event_ms: int | None = 1_000
    prior: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    route: str = ROUTE
    sender: str = "HIX^OLVG"
    partition: int = 0
    subject: str | None = None
    identities: tuple[Identity, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "identities", tuple(identity(value) for value in (self.patient, *self.others)))

    @property
    def position(self) -> Position:
        return Position("his.adt", self.partition, self.offset)

    def routed(self) -> Routed:
        control_id = self.control_id or f"MSG{self.partition}-{self.offset}"
        event = Event(type="ADT", trigger="A40" if self.prior else "A08", control_id=control_id)
        decoded = Decoded(Received(self.position, b"MSH|"), NoHl7(), event)
        kind, action = (Kind.MERGE, Action.MERGE) if self.prior else (Kind.SNAPSHOT, Action.UPSERT)
        return Routed(
            decoded=decoded,
            route=self.route,
            partner=PARTNER,
            rule=EventRule(f"ADT^{event.trigger}", kind, Subject.PATIENT, action),
            identities=self.identities,
            prior=tuple(identity(value) for value in self.prior),
            lanes=tuple(PSEUDONYMS.hash("lane", self.route, CIP, one) for one in (self.patient, *self.others, *self.prior)),
            subjects=tuple(
                PSEUDONYMS.hash("subject", one) for one in ((self.subject,) if self.subject else (self.patient, *self.others))
            ),
            sender=self.sender,
            dedupe=PSEUDONYMS.hash("dedupe", self.route, self.sender, control_id, self.body or f"{self.position}"),
            request_id=f"request-{self.position}",
            event_ms=self.event_ms,
        )


def identity(value: str) -> Identity:
    return Identity(Subject.PATIENT, CIP, value, "PID-3.1")


def begun(
    message: Message,
    intent: Intent = Intent.CREATE,
    *,
    attempt: int = 1,
    at_ms: int = 5_000,
    probe: bool = False,
    after: int = 0,
) -> Begun:
    return Begun(
        routed=message.routed(),
        step=0,
        attempt=attempt,
        intent=intent,
        operation="patient-create",
        request_id=f"request-{message.position}",
        mapping_version="v",
        deadline_ms=at_ms + 20_000,
        at_ms=at_ms,
        probe=probe,
        after=after,
    )


def answer(decision: Decision, status: int | None = 200, attempt: int = 1) -> Answer:
    request = Request("patient-create", "POST", "/Bundle", "/Bundle", (), b"{}", "request", Timeouts(1, 2, 3), Intent.CREATE)
    reply = Reply(status, {}, b"", 12.5, 5_000, 5_012) if status else None
    return Answer(request, reply, Verdict(decision), attempt)


def outcome(message: Message, state: State, reason: Reason | None = None, *, answered: Answer | None = None) -> Outcome:
    routed = message.routed()
    return Outcome(
        routed.decoded.received, message.route, PARTNER, state, reason, None, None, routed.decoded, routed, None, answered
    )


def settled(
    message: Message,
    state: State = State.DELIVERED,
    reason: Reason | None = None,
    *,
    answered: Answer | None = None,
    learned: tuple[Learned, ...] = (),
    merged: Merged | None = None,
    result_id: str | None = None,
    at_ms: int = 6_000,
) -> Settlement:
    return Settlement(
        outcome=outcome(message, state, reason, answered=answered),
        result_id=result_id or f"result-{message.route}-{message.position}-{state}",
        result=f'{{"result":"{message.position}"}}',
        at_ms=at_ms,
        learned=learned,
        merged=merged,
        subjects=message.routed().subjects,
    )


def result_of(message: Message, state: State = State.DELIVERED) -> tuple[Position, str]:
    """What `emitted` is told of a message that `settled` settled so."""
    return message.position, settled(message, state).result_id


def unreadable(message: Message, reason: Reason = Reason.NOT_HL7) -> Settlement:
    """A record of which nothing could be read."""
    whole = settled(message, State.PARKED, reason)
    return replace(whole, outcome=replace(whole.outcome, decoded=None, routed=None))
