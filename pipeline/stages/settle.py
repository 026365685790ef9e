"""settle: what became of a message → its result record, its dead letter, its settlement. Pure: the worker writes them, in that order.

Nothing here may hold patient data or a secret: findings are places, partner ids that are business ids are hashed.
"""

from dataclasses import dataclass, field, replace
from typing import Final

from pipeline.bus.port import Record
from pipeline.ids import uuid5
from pipeline.ledger.port import Merged, Settlement
from pipeline.model import Action, Decision, Finding, Learned, Outcome, Received, Routed, Subject
from pipeline.pseudonyms import event_name
from pipeline.stages.plan import Plan
from pipeline.stages.route import NAMESPACE
from schemas.dead_letter import PREFIX, DeadLetter, LeftOut
from schemas.outcomes import CLOSED, COMES_BACK, Reason, State
from schemas.result import Result, ResultFinding

SETTLED: Final = CLOSED | {State.PARKED}
"""States after which the offset may pass."""


@dataclass(frozen=True, slots=True)
class Written:
    """All that has to become durable for one outcome."""

    settlement: Settlement
    result: Record = field(repr=False)
    letters: tuple[Record, ...] = field(default=(), repr=False)
    """See `letters`."""

    @property
    def dead_letter(self) -> Record | None:
        """The whole one."""
        return self.letters[0] if self.letters else None


def settle(
    outcome: Outcome,
    plan: Plan,
    *,
    results_topic: str,
    dead_letter_topic: str,
    at_ms: int,
    after: int | None = None,
    keeps_open: bool = False,
) -> Written:
    """The settlement for the ledger and the records for the topics. `after`: how many intents its caller knows of; `keeps_open`: see Settlement."""
    result = result_of(outcome, plan, at_ms, after)
    text = result.model_dump_json(exclude_none=True)
    settlement = Settlement(
        outcome=outcome,
        result_id=result.result_id,
        result=text,
        at_ms=at_ms,
        learned=_learned(outcome),
        merged=_merged(outcome),
        subjects=_subjects(outcome),
        after=after,
        keeps_open=keeps_open,
    )
    return Written(
        settlement,
        result_record(text, result.request_id, results_topic),
        letters(outcome.received, result, dead_letter_topic),
    )


def advanced(outcome: Outcome, *, at_ms: int, after: int) -> Settlement:
    """What the ledger is told of a request that was delivered, and is not the last of its message."""
    return Settlement(outcome, "", "", at_ms, learned=_learned(outcome), subjects=_subjects(outcome), after=after)


def result_of(outcome: Outcome, plan: Plan, at_ms: int, after: int | None = None) -> Result:
    """The result record of a settlement, or of an attempt that did not settle (schemas/result.py)."""
    routed, answer, position = outcome.routed, outcome.answer, outcome.received.position
    reply = answer.reply if answer else None
    attempt = answer.attempt if answer else 0
    settled = outcome.state in SETTLED and not (outcome.again and outcome.state is not State.DELIVERED)
    event = outcome.decoded.event if outcome.decoded else None
    public, hashed = _partner_id(outcome, plan)
    return Result(
        result_id=_result_id(outcome, attempt, settled, at_ms, after),
        request_id=answer.request.request_id if answer and not answer.probe else routed.request_id if routed else None,
        route=outcome.route,
        partner=outcome.partner,
        settled=settled,
        state=outcome.state,
        reason=outcome.reason,
        where=outcome.where,
        operation=answer.request.operation if answer else None,
        kind=routed.rule.kind if routed else None,
        event=event_name(event) if event else None,
        control_id=plan.pseudonyms.control_id(event) if event else None,
        event_time_ms=routed.event_ms if routed else None,
        patient=routed.lane if routed else None,
        source_topic=position.topic,
        source_partition=position.partition,
        source_offset=position.offset,
        attempt=attempt,
        step=answer.request.step if answer else None,
        http_status=reply.status if reply else None,
        issue_codes=answer.verdict.issue_codes if answer else (),
        response_ms=round(reply.elapsed_ms, 3) if reply else None,
        sent_ms=reply.sent_ms if reply else None,
        settled_ms=at_ms,
        confirmed_by=outcome.confirmed_by,
        partner_id=public,
        partner_id_hash=hashed,
        mapping_version=outcome.packed.mapped.mapping_version if outcome.packed else None,
        replay_id=outcome.replay_id,
        possible_duplicate=outcome.possible_duplicate,
        duplicate_of=outcome.pointer,
        findings=tuple(_finding(finding) for finding in outcome.findings),
    )


def result_record(text: str, request_id: str | None, topic: str) -> Record:
    """A record of the results topic, keyed by x-origin-request-id."""
    return Record(topic, text.encode(), key=(request_id or _place(text)).encode())


def _place(text: str) -> str:
    """What nobody could read has no request id: its results stand in one partition by its place, so that the last of them comes last."""
    result = Result.model_validate_json(text)
    return f"{result.source_topic}/{result.source_partition}/{result.source_offset}"


def letters(received: Received, result: Result, topic: str) -> tuple[Record, ...]:
    """A parked message's dead letter, its original bytes with its reason in the headers; then what stands for it where the topic takes no such size.

    Nothing for any other state, or where a replay left the record what it was.
    """
    if result.state is not State.PARKED or result.reason is None or not result.settled:
        return ()
    ways = (None, LeftOut.VALUE, LeftOut.RECORD) if received.value else (None, LeftOut.RECORD)
    return tuple(_letter(received, result, result.reason, topic, left_out) for left_out in ways)


def _letter(received: Received, result: Result, reason: Reason, topic: str, left_out: LeftOut | None) -> Record:
    position = received.position
    letter = DeadLetter(
        route=result.route,
        partner=result.partner,
        reason=reason,
        where=result.where,
        request_id=result.request_id,
        result_id=result.result_id,
        source_topic=position.topic,
        source_partition=position.partition,
        source_offset=position.offset,
        parked_ms=result.settled_ms,
        attempt=result.attempt,
        mapping_version=result.mapping_version,
        left_out=left_out,
        source_bytes=None if left_out is None else len(received.value or b""),
    )
    headers = tuple((PREFIX + name, str(value).encode()) for name, value in letter.model_dump(exclude_none=True).items())
    value = received.value if left_out is None else None
    if left_out is LeftOut.RECORD:
        return Record(topic, None, key=result.result_id.encode(), headers=headers)
    # a record must have a key or a value
    key = result.result_id.encode() if received.key is None and value is None else received.key
    return Record(topic, value, key=key, headers=headers + received.headers)


def _result_id(outcome: Outcome, attempt: int, settled: bool, at_ms: int, after: int | None) -> str:
    """A settlement has one id however often it is emitted, and another in each replay; attempts that did not settle differ by their time too."""
    moment = "" if settled or (outcome.again and outcome.state in SETTLED) else f"\x00{at_ms}"
    # it may be parked again: for good, or once more for the same reason after it came back and was tried
    waits = f"\x00{outcome.reason}\x00{after or 0}" if outcome.reason in COMES_BACK else ""
    replay = f"\x00{outcome.replay_id}" if outcome.replay_id else ""
    name = f"{outcome.route}\x00{outcome.received.position}\x00{attempt}\x00{outcome.state}{waits}{moment}{replay}"
    return uuid5(NAMESPACE, name.encode())


def _partner_id(outcome: Outcome, plan: Plan) -> tuple[str | None, str | None]:
    learned = outcome.answer.verdict.learned if outcome.answer else ()
    for one in learned:
        if one.partner_id is not None:
            public = plan.partner.public_partner_id(one.identity, one.partner_id)
            return (public, None) if public else (None, plan.pseudonyms.hash("partner-id", outcome.partner, one.partner_id))
    return None, None


def _learned(outcome: Outcome) -> tuple[Learned, ...]:
    """What a delivered request taught: every identity that went out is known from now on."""
    delivered = outcome.answer is not None and outcome.answer.verdict.decision is Decision.DELIVERED
    return learned_of(outcome) if delivered else ()


def learned_of(outcome: Outcome) -> tuple[Learned, ...]:
    """What an answer taught, a part with the patient that it belongs to."""
    learned = outcome.answer.verdict.learned if outcome.answer else ()
    if all(one.identity.kind is Subject.PATIENT for one in learned):
        return learned
    told = (one.partner_id for one in learned if one.identity.kind is Subject.PATIENT)
    had = outcome.packed.mapped.identified.partner_id if outcome.packed else None
    patient = had or next((one for one in told if one is not None), None)
    return tuple(one if one.identity.kind is Subject.PATIENT else replace(one, belongs_to=patient) for one in learned)


def _subjects(outcome: Outcome) -> tuple[str, ...]:
    """What the partner has the newest of by now; after a request that is not the last, the patient, and the visit where it has that."""
    routed = outcome.routed
    if routed is None:
        return ()
    if outcome.state is State.DELIVERED:
        return (*routed.subjects, *routed.patient_subjects)
    known = outcome.packed.mapped.identified.part_ids if outcome.packed else {}
    has_visit = any(part.kind is routed.rule.subject for part in known)
    return (*(routed.subjects if has_visit or not routed.patient_subjects else ()), *routed.patient_subjects)


def _merged(outcome: Outcome) -> Merged | None:
    """A merge that is filtered is recorded with it; one that needs a re-key as well, and stays open until an operator ends it."""
    routed = outcome.routed
    if routed is None or routed.rule.action is not Action.MERGE:
        return None
    if outcome.state is State.PARKED and outcome.reason is Reason.MERGE_NEEDS_REKEY:
        return replace(merge_of(routed), waiting=routed.identities)
    return merge_of(routed) if outcome.state is State.FILTERED else None


def merge_of(routed: Routed) -> Merged:
    """The merge that an A18, A34 or A40 tells."""
    return Merged(routed.prior, routed.identities[0], routed.event_ms)


def _finding(finding: Finding) -> ResultFinding:
    return ResultFinding(code=finding.code, severity=finding.severity, hl7=finding.hl7, fhir=finding.fhir, about=finding.about)
