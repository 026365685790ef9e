"""identify: Routed and what the ledger knows → Identified. Create or update, or that it is not to go at all.

It is asked when the lane reaches the message, and again on every attempt: two A04s decoded together must not both create.
"""

from pipeline.errors import Duplicate, Filtered, Parked, Superseded
from pipeline.model import Action, Finding, Identified, Intent, Kind, Knowledge, Known, Routed
from schemas.outcomes import FindingCode, Reason


def identify(routed: Routed, knowledge: Knowledge) -> Identified:
    """Decide by what the ledger knows; Duplicate, Superseded, Filtered or Parked where the message ends here."""
    if knowledge.same is not None:
        raise Duplicate(str(knowledge.same.position))
    if routed.rule.action is Action.MERGE:
        _merge(routed, knowledge)
    if _stale(routed, knowledge):
        raise Superseded(Reason.STALE, where="EVN-2")
    _not_merged_away(routed, knowledge)
    if knowledge.open_create is not None:
        raise Parked(Reason.BLOCKED_BEHIND)
    known_by = next((identity for identity in routed.identities if identity in knowledge.known), None)
    findings = (Finding(FindingCode.CONTROL_ID_REUSED, hl7="MSH-10"),) if knowledge.control_id_reused else ()
    if known_by is None:
        return Identified(routed, Intent.CREATE, None, routed.identities[0], findings)
    return Identified(routed, Intent.UPDATE, knowledge.known[known_by].partner_id, known_by, findings)


def _stale(routed: Routed, knowledge: Knowledge) -> bool:
    """Only snapshots, by event time; equal, missing or ambiguous: the position decides (RELIABILITY section 2)."""
    if routed.rule.kind is not Kind.SNAPSHOT:
        return False
    mine, last = routed.event_ms, knowledge.last_event_ms
    if mine is not None and last is not None and mine != last:
        return mine < last
    here, there = routed.decoded.received.position, knowledge.last_position
    return there is not None and (here.topic, here.partition) == (there.topic, there.partition) and here.offset < there.offset


def _not_merged_away(routed: Routed, knowledge: Knowledge) -> None:
    """A patient who was merged away is never created again, and its identifier never written under the survivor's id."""
    for identity in routed.identities:
        known = knowledge.known.get(identity)
        if known is None or known.merged_into is None:
            continue
        older = routed.event_ms is not None and known.merged_ms is not None and routed.event_ms < known.merged_ms
        if older and routed.rule.kind is Kind.SNAPSHOT:
            raise Superseded(Reason.OLDER_SNAPSHOT, where=identity.place)
        raise Parked(Reason.MERGED_PRIOR, where=identity.place)


def _merge(routed: Routed, knowledge: Knowledge) -> None:
    """No partner so far offers a merge: the ledger records it, and says where the partner is left with something to mend."""

    def at_partner(identities: tuple[object, ...]) -> list[Known]:
        return [known for identity, known in knowledge.known.items() if identity in identities and known.merged_into is None]

    if not routed.prior:
        raise Parked(Reason.PATIENT_MISSING, where="MRG-1")
    if knowledge.merge_cycle:
        raise Parked(Reason.MERGE_CYCLE, where="MRG-1")
    prior_there, survivor_there = at_partner(routed.prior), at_partner(routed.identities)
    if prior_there and not survivor_there:
        raise Parked(Reason.MERGE_NEEDS_REKEY, where="MRG-1")
    raise Filtered(Reason.MERGE_LEAVES_TWO if prior_there else Reason.PARTNER_HAS_NO_MERGE, where="MRG-1")
