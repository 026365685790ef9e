"""identify: Routed and what the ledger knows → Identified. Create or update, or that it is not to go at all.

It is asked when the lane reaches the message, and again on every attempt: two A04s decoded together must not both create.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from pipeline.errors import Duplicate, Filtered, Parked, Superseded
from pipeline.model import (
    Action,
    Behind,
    Decoded,
    Finding,
    Identified,
    Identity,
    Intent,
    Kind,
    Knowledge,
    Known,
    ParkedBefore,
    Position,
    Routed,
    Subject,
)
from schemas.outcomes import FindingCode, Reason

NONE: Final[Mapping[Identity, str]] = {}


def identify(routed: Routed, knowledge: Knowledge) -> Identified:
    """Decide by what the ledger knows; Duplicate, Superseded, Filtered or Parked where the message ends here."""
    if knowledge.same is not None:
        raise Duplicate(str(knowledge.same.position))
    if routed.rule.holds_all:
        raise Parked(routed.rule.reason, where="MRG-1")
    if _has_moved(routed, knowledge):
        raise Parked(Reason.BLOCKED_BEHIND)
    if routed.rule.action is Action.MERGE:
        _merge(routed, knowledge)
    if routed.rule.action is Action.JOIN and not routed.prior:
        raise Parked(Reason.PATIENT_MISSING, where="MRG-1")
    if _stale(routed, knowledge):
        raise Superseded(Reason.STALE, where="EVN-2" if routed.decoded.event.recorded else "MSH-7")
    if knowledge.open_create is not None or _holds(routed, knowledge):
        raise Parked(Reason.BLOCKED_BEHIND)
    if routed.needs_known:
        _is_known(routed, knowledge)
    left = _without_merged_away(routed, knowledge)
    routed = routed if left == routed.identities else replace(routed, identities=left)
    known_by = _known_by(routed, knowledge)
    findings = (Finding(FindingCode.CONTROL_ID_REUSED, hl7="MSH-10"),) if knowledge.control_id_reused else ()
    intent = Intent.CREATE if known_by is None else Intent.UPDATE
    partner_id = None if known_by is None else knowledge.known[known_by].partner_id
    return Identified(
        routed,
        intent,
        partner_id,
        known_by or routed.identities[0],
        findings,
        part_ids=_part_ids(routed, knowledge, partner_id) if routed.parts else NONE,
        stale_patient=bool(routed.patient_subjects) and _older(routed, knowledge.patient_event_ms, knowledge.patient_position),
    )


def _stale(routed: Routed, knowledge: Knowledge) -> bool:
    """Only what says all of its subject, by event time; equal, missing or ambiguous: the position decides (RELIABILITY section 2).

    That is a snapshot, and what takes back a visit or a result: it goes out whole with it, and sent in its order the newer one would have gone over it.
    A partner that weighs what is older itself gets it (`older: goes`).
    """
    whole = routed.rule.kind is Kind.SNAPSHOT or (routed.rule.kind is Kind.CANCEL and routed.about is not None)
    if not whole or routed.rule.older_goes or not _older(routed, knowledge.last_event_ms, knowledge.last_position):
        return False
    return routed.rule.kind is Kind.CANCEL or not _is_of_another(routed, knowledge)


def _is_of_another(routed: Routed, knowledge: Knowledge) -> bool:
    """A result that the partner has with another patient: what was delivered last of it says nothing of this one's."""
    whose = {None, *(knowledge.known[identity].partner_id for identity in routed.identities if identity in knowledge.known)}
    results = (knowledge.known[part] for part in routed.parts if part.kind is Subject.RESULT and part in knowledge.known)
    return any(known.belongs_to not in whose for known in results)


def _older(routed: Routed, last: int | None, there: Position | None) -> bool:
    """Whether what was delivered last, of that event time and there, is newer than this."""
    mine = routed.event_ms
    if mine is not None and last is not None and mine != last:
        return mine < last
    here = routed.decoded.received.position
    return there is not None and (here.topic, here.partition) == (there.topic, there.partition) and here.offset < there.offset


def _holds(routed: Routed, knowledge: Knowledge) -> bool:
    """Whether it waits behind a parked message of its subject, by its row of the events table."""
    here = routed.decoded.received.position
    return routed.rule.behind is Behind.HOLD and any(
        parked.subject is routed.rule.subject and parked.about in (None, routed.about) and not _after(parked.position, here)
        for parked in knowledge.parked
    )


def _has_moved(routed: Routed, knowledge: Knowledge) -> bool:
    """Whether a number of its patient, or one that came with it, went to another patient (EventRule.holds_all), and nobody has dealt with that yet."""
    return any(parked.holds_all and not _is_before(routed, parked) for parked in knowledge.parked)


def _is_before(routed: Routed, parked: ParkedBefore) -> bool:
    """Known to be the earlier one: in its partition by its place, else by its event time."""
    here, there = routed.decoded.received.position, parked.position
    if (here.topic, here.partition) == (there.topic, there.partition):
        return here.offset < there.offset
    return routed.event_ms is not None and parked.event_ms is not None and routed.event_ms < parked.event_ms


NOT_KNOWN: Final = {
    Subject.RESULT: Reason.RESULT_NOT_KNOWN,
    Subject.VISIT: Reason.VISIT_NOT_KNOWN,
    Subject.APPOINTMENT: Reason.APPOINTMENT_NOT_KNOWN,
}


def _is_known(routed: Routed, knowledge: Knowledge) -> None:
    """What the partner never got needs no taking back, unless it is on its way still."""
    theirs = [part for part in routed.parts if part.kind is routed.rule.subject]
    if any(part in knowledge.known for part in theirs):
        return
    if knowledge.creating is not None or knowledge.part_open is not None:
        raise Parked(Reason.BLOCKED_BEHIND)
    raise Filtered(NOT_KNOWN[routed.rule.subject], where=theirs[0].place)


def _part_ids(routed: Routed, knowledge: Knowledge, partner_id: str | None) -> dict[Identity, str]:
    """What the partner has of the message's parts. What it has with another patient (merged, or the part moved) stays there."""
    ids: dict[Identity, str] = {}
    for part in routed.parts:
        known = knowledge.known.get(part)
        if known is None:
            continue
        if known.partner_id is None:
            raise Parked(Reason.PART_ID_MISSING, where=part.place)
        if known.belongs_to not in (None, partner_id):
            raise Parked(Reason.PART_OF_ANOTHER, where=part.place)
        ids[part] = known.partner_id
    return ids


def _after(position: Position, here: Position) -> bool:
    """Known to be later: of another partition it is not known."""
    return (position.topic, position.partition) == (here.topic, here.partition) and position.offset > here.offset


def makes_needless(newer: Routed, older: Routed) -> bool:
    """Whether a delivered snapshot carries all that an older one would have brought: of one subject and sender, with all its diagnoses and coverages."""
    mine, its = newer.event_ms, older.event_ms
    before = its < mine if mine is not None and its is not None and mine != its else _after(*_places(newer, older))
    same = (newer.sender, newer.rule.subject) == (older.sender, older.rule.subject) and bool(
        set(newer.compared) & set(older.compared)
    )
    snapshots = newer.rule.kind is Kind.SNAPSHOT is older.rule.kind
    return same and snapshots and before and _brings(older.decoded) <= _brings(newer.decoded)


def _places(newer: Routed, older: Routed) -> tuple[Position, Position]:
    return newer.decoded.received.position, older.decoded.received.position


BESIDE: Final = (("DG1", "3.1"), ("DG1", "3.3"), ("IN1", "36"), ("OBX", "3.1"))
"""What a message tells beside the patient: segment and the field that says which."""


def _brings(decoded: Decoded) -> set[tuple[str, str]]:
    hl7 = decoded.hl7
    return {
        (f"{segment}-{field}", str(told))
        for segment, field in BESIDE
        for number in range(1, hl7.count(segment) + 1)
        if (told := hl7(f"{segment}[{number}]-{field}"))
    }


def _without_merged_away(routed: Routed, knowledge: Knowledge) -> tuple[Identity, ...]:
    """A survivor's message may still list the number that ended: it is left out, never written under the survivor's id.

    A message of none but such is the prior patient's, who is never created again: superseded where it is older than the merge, else parked.
    An identity that the partner has under the same id as one that was merged away is the prior patient's as well.
    """
    if not knowledge.known:
        return routed.identities
    away = {identity: known for identity in routed.identities if (known := knowledge.known.get(identity)) and known.merged_into}
    if not away:
        return routed.identities
    ids = {known.partner_id for known in away.values()} - {None}
    left = tuple(
        identity
        for identity in routed.identities
        if identity not in away and not (identity in knowledge.known and knowledge.known[identity].partner_id in ids)
    )
    if left:
        return left
    identity, known = next(iter(away.items()))
    older = routed.event_ms is not None and known.merged_ms is not None and routed.event_ms < known.merged_ms
    if older and routed.rule.kind is Kind.SNAPSHOT:
        raise Superseded(Reason.OLDER_SNAPSHOT, where=identity.place)
    raise Parked(Reason.MERGED_PRIOR, where=identity.place)


def _known_by(routed: Routed, knowledge: Knowledge) -> Identity | None:
    """The identity to update by: one with the partner's own id, then the one that was created with, then as the message has them."""
    if not knowledge.known:
        return None
    known = {identity: knowledge.known[identity] for identity in routed.identities if identity in knowledge.known}
    if len({one.partner_id for one in known.values()} - {None}) > 1:
        raise Parked(Reason.IDENTITY_CONFLICT, where="PID-3")
    return min(known, key=lambda one: (known[one].partner_id is None, not known[one].created_with), default=None)


def _merge(routed: Routed, knowledge: Knowledge) -> None:
    """The partner offers no merge: the ledger records it, and says where the partner is left with something to mend."""

    def at_partner(identities: tuple[object, ...]) -> list[Known]:
        return [known for identity, known in knowledge.known.items() if identity in identities and known.merged_into is None]

    if not routed.prior:
        raise Parked(Reason.PATIENT_MISSING, where="MRG-1")
    if knowledge.merge_cycle:
        raise Parked(Reason.MERGE_CYCLE, where="MRG-1")
    if knowledge.open_create is not None or knowledge.creating is not None:
        # it is not known yet whether the partner has one of the two
        raise Parked(Reason.BLOCKED_BEHIND, where="MRG-1")
    prior_there, survivor_there = at_partner(routed.prior), at_partner(routed.identities)
    if prior_there and not survivor_there:
        raise Parked(Reason.MERGE_NEEDS_REKEY, where="MRG-1")
    raise Filtered(Reason.MERGE_LEAVES_TWO if prior_there else Reason.PARTNER_HAS_NO_MERGE, where="MRG-1")
