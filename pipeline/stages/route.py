"""route: Decoded → Routed. What the event is on this route, which patient's lane it belongs to, or that nobody wants it."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final, NoReturn

from pipeline.errors import Filtered, Parked, ProfileNotMet
from pipeline.ids import uuid5
from pipeline.model import Action, Decoded, EventRule, Finding, Identity, Outcome, Received, Routed, Subject
from pipeline.stages.decode import as_it_stands
from pipeline.stages.plan import Plan
from schemas.event import Event, Identifier, Merge, Timestamp
from schemas.outcomes import FindingCode, Reason

NAMESPACE: Final = bytes.fromhex("6f0a0f6e53a55f0c9d0a6d1d3c1f7a52")
"""Namespace of our UUIDv5 request ids (RFC 9562 section 5.5)."""

MOST_NUMBERS: Final = 1000
"""Of patients in one message, and of parts. The ledger is asked for all of them at once, and a statement holds no more than some ten thousand values."""
MOST_LANES: Final = 10 * MOST_NUMBERS
"""Of one message: each number has one on its route, and one on each route beside it."""
OF_THE_PATIENT: Final = frozenset({Subject.VISIT, Subject.RESULT, Subject.APPOINTMENT})
"""What a patient has several of: each is a subject of its own, and the patient comes along."""


def route(decoded: Decoded, plan: Plan) -> Routed:
    """Find the row of the events table and the patient's identities; Filtered or Parked where the message ends here."""
    event = decoded.event
    rule = _rule(decoded, plan)
    identities, prior = (_all_numbers(event, plan), ()) if rule.holds_all else _identities(event, plan)
    _few_numbers(len(identities) + len(prior), plan)
    value = decoded.received.value or b""
    event_ms, noticed = _event_ms(decoded, plan)
    pseudonyms = plan.pseudonyms
    parts = plan.partner.parts(event) if rule.action is Action.UPSERT else ()  # the others say of patients' numbers alone
    if len(parts) > MOST_NUMBERS:
        raise Parked(Reason.TOO_LARGE, where=parts[MOST_NUMBERS].place, message=f"{len(parts)} parts; {MOST_NUMBERS} at most")
    ordered = sorted([(identity.system, identity.value) for identity in identities])  # senders change the order of PID-3
    ending = sorted([(identity.system, identity.value) for identity in prior])
    own = _subjects(parts, rule, plan, ordered) if parts else ()
    subject = Subject.PATIENT if rule.subject in OF_THE_PATIENT else rule.subject
    patients = tuple([pseudonyms.hash("subject", plan.name, subject, *patient) for patient in ordered])
    return Routed(
        decoded=decoded,
        route=plan.name,
        partner=plan.route.partner,
        rule=rule,
        identities=identities,
        prior=prior,
        lanes=tuple([pseudonyms.lane(plan.name, *patient) for patient in (*ordered, *ending)]),
        lanes_beside=tuple([pseudonyms.lane(each, *patient) for each in plan.beside for patient in (*ordered, *ending)]),
        subjects=own or patients,
        sender=pseudonyms.sender(_sender(event)),
        dedupe=dedupe_of(decoded, plan),
        request_id=request_id(plan.name, value),
        event_ms=event_ms,
        findings=noticed,
        parts=parts,
        patient_subjects=patients if own else (),
    )


def _few_numbers(many: int, plan: Plan) -> None:
    """What the ledger cannot be asked for would count as a ledger that is away, for ever."""
    most = min(MOST_NUMBERS, MOST_LANES // (1 + len(plan.beside)))
    if many > most:
        raise Parked(Reason.TOO_LARGE, where="PID-3", message=f"{many} numbers of patients; {most} at most")


def dedupe_of(decoded: Decoded, plan: Plan) -> str:
    """Keyed hash of the message: bytes, sender and control id. Of those two not what is not ASCII: the site's charset, which may be corrected, says what it is."""
    sender, control_id = _sender(decoded.event), _control_id(decoded.event)
    return _dedupe(decoded, plan, *((sender, control_id) if f"{sender}{control_id}".isascii() else ()))


def _dedupe(decoded: Decoded, plan: Plan, *names: str) -> str:
    return plan.pseudonyms.hash("dedupe", plan.name, *names, sha256(decoded.received.value or b"").hexdigest())


def is_known_as(dedupe: str | None, received: Received, read: Routed | Outcome, plan: Plan) -> bool:
    """Whether a record, as it is read today, is the one of which the ledger has this hash (None: of an older version, which kept none; any is).

    A message that was routed then, and is not wanted today, is still the same; what is no message is known by its bytes alone.
    """
    if dedupe is None or dedupe == plan.pseudonyms.record(plan.name, received.value):
        return True
    decoded = read.decoded or as_it_stands(received, plan)
    if decoded is None:
        return False
    # an older version had the names whatever they are
    return dedupe in {dedupe_of(decoded, plan), _dedupe(decoded, plan, _sender(decoded.event), _control_id(decoded.event))}


def _control_id(event: Event) -> str:
    return str(event.control_id or "")


def _sender(event: Event) -> str:
    return f"{event.sending_application or ''}^{event.sending_facility or ''}"


def _event_ms(decoded: Decoded, plan: Plan) -> tuple[int | None, tuple[Finding, ...]]:
    """What versions are ordered by. One far ahead of its own record counts as missing: taken at its word, it would make all later ones stale."""
    event, recorded_ms = decoded.event, decoded.received.timestamp_ms
    when = event.time
    if when is None or when.epoch_ms is None:
        return None, ()
    latest_ms = recorded_ms + plan.site.most_ahead * 1000
    if when.epoch_ms > latest_ms and recorded_ms > 0:  # a record may have no time of its own (Kafka: -1)
        place = "EVN-2" if isinstance(event.recorded, Timestamp) else "MSH-7"
        return None, (Finding(FindingCode.EVENT_TIME_AHEAD, hl7=place),)
    return None if when.ambiguous else when.epoch_ms, ()


def _subjects(parts: Iterable[Identity], rule: EventRule, plan: Plan, patients: list[tuple[str, str]]) -> tuple[str, ...]:
    """Of an event that is about a part: of a result or an appointment, which may be another patient's too, with each of the patient's numbers behind it."""
    about = [("subject", plan.name, part.kind, part.system, part.value) for part in parts if part.kind is rule.subject]
    whose = patients if rule.subject in {Subject.RESULT, Subject.APPOINTMENT} else []
    return tuple(plan.pseudonyms.hash(*names) for names in (*about, *((*one, *each) for one in about for each in whose)))


def request_id(route_name: str, value: bytes) -> str:
    """UUIDv5 of route and raw message: the same on every attempt (DESIGN decision 8)."""
    return uuid5(NAMESPACE, route_name.encode() + b"\x00" + value)


def _rule(decoded: Decoded, plan: Plan) -> EventRule:
    event = decoded.event
    if str(event.processing_id or "") not in plan.site.processing_ids:
        raise Filtered(Reason.NOT_PRODUCTION, where="MSH-11")
    if plan.route.facilities is not None and str(event.sending_facility or "") not in plan.route.facilities:
        raise Filtered(Reason.FACILITY_NOT_ROUTED, where="MSH-4")
    rules = plan.catalogue.rules(plan.partner.name)
    rule, where = rules.of(event), "OBX-11" if event.type in rules.by_status else "MSH-9"
    if rule is None:
        raise Parked(
            Reason.EVENT_UNLISTED,
            where="MSH-9",
            message=f"mappings/events.yaml has no row for this event below {plan.partner.name}: add one",
        )
    if rule.action is Action.FILTER:
        raise Filtered(rule.reason, where=where)
    if rule.action is not Action.MERGE and not rule.holds_all and plan.partner.part2:  # they end here, and nothing of them goes
        _part2(decoded, plan)
    if rule.action is Action.PARK and not rule.holds_all:
        raise Parked(rule.reason, where=where)
    if event.others and event.type != "SIU" and not rule.holds_all:
        raise Parked(Reason.SEVERAL_PATIENTS, where="PID[2]")
    return rule


def _part2(decoded: Decoded, plan: Plan) -> None:
    """42 CFR Part 2: what the route does not name by facility and program stays here."""
    facility, path = str(decoded.event.sending_facility or ""), plan.route.part2_program
    program = str(decoded.hl7(path) or "")
    if not any(facility == one.facility and program in one.programs for one in plan.route.part2 or ()):
        raise Filtered(Reason.PART2_NOT_ALLOWED, where=path)


def _identities(event: Event, plan: Plan) -> tuple[tuple[Identity, ...], tuple[Identity, ...]]:
    """The patient's, and of a merge those that end."""
    identities = _of_patient(event, plan)
    if not identities:
        _nobody(event)
    if event.others:
        identities = _of_one_patient(event, identities, plan)
    # A number that stands in PID-3 and MRG-1 alike, as a national one does, is the survivor's: it does not end.
    return identities, tuple(identity for identity in _of_merges(event.prior, event, plan) if identity not in identities)


def _all_numbers(event: Event, plan: Plan) -> tuple[Identity, ...]:
    """Of a number that goes to another patient (A43): those of all whom it names. Which of them goes where, a person says.

    One that is garbled parks it only where there is no other: the others' messages would go meanwhile.
    """
    told = _named(event)
    found = [
        one
        for identifiers, place in told
        for one in _accepted(filter(_is_whole, identifiers), place, plan, plan.partner.under(event))
    ]
    if not found:
        for identifiers, place in told:
            _accepted(identifiers, place, plan, plan.partner.under(event))
    return tuple(dict.fromkeys(found)) or _nobody(event)


def _named(event: Event) -> list[tuple[Sequence[Identifier], str]]:
    """All whom it names, with their places."""
    patients = [event.patient, *(other.patient for other in event.others)]
    merges = (*event.prior, *(merge for other in event.others for merge in other.prior))
    return [
        *((one.identifiers, f"PID[{nth}]-3" if nth > 1 else "PID-3") for nth, one in enumerate(patients, 1) if one is not None),
        *((one.identifiers, f"MRG[{nth}]-1" if nth > 1 else "MRG-1") for nth, one in enumerate(merges, 1)),
    ]


def _is_whole(identifier: Identifier) -> bool:
    return "\N{REPLACEMENT CHARACTER}" not in str(identifier.value)


def _nobody(event: Event) -> NoReturn:
    patient = event.patient
    if patient is None or not any(identifier.value for identifier in patient.identifiers):
        raise Parked(Reason.PATIENT_MISSING, where="PID-3" if patient else "PID")
    raise ProfileNotMet(
        Reason.IDENTIFIER_SYSTEM,
        where="PID-3.4",
        message=Reason.IDENTIFIER_SYSTEM.sentence + "; add the assigning authority to the identifier systems table of the site",
    )


def _of_patient(event: Event, plan: Plan) -> tuple[Identity, ...]:
    patient = event.patient
    return tuple(dict.fromkeys(_accepted(patient.identifiers, "PID-3", plan, plan.partner.under(event)))) if patient else ()


def _of_other(event: Event, nth: int, plan: Plan) -> list[Identity]:
    """Of the PID of this number; the second is 2."""
    return _accepted(event.others[nth - 2].patient.identifiers, f"PID[{nth}]-3", plan, plan.partner.under(event))


def _of_merges(merges: tuple[Merge, ...], event: Event, plan: Plan) -> tuple[Identity, ...]:
    under = plan.partner.under(event)
    return tuple(
        identity
        for nth, merge in enumerate(merges, 1)
        for identity in _accepted(merge.identifiers, f"MRG[{nth}]-1" if nth > 1 else "MRG-1", plan, under)
    )


def _of_one_patient(event: Event, identities: tuple[Identity, ...], plan: Plan) -> tuple[Identity, ...]:
    """Of a schedule with several PID (HL7's SIU_S12 lets them repeat) that share a number: one patient's, with all numbers. Else there are several patients."""
    every = dict.fromkeys(identities)
    for nth, _ in enumerate(event.others, 2):
        theirs = _of_other(event, nth, plan)
        if not every.keys() & set(theirs):
            raise Parked(Reason.SEVERAL_PATIENTS, where=f"PID[{nth}]")
        every |= dict.fromkeys(theirs)
    return tuple(every)


def _accepted(identifiers: Iterable[Identifier], place: str, plan: Plan, under: str) -> list[Identity]:
    accepted = []
    for number, identifier in enumerate(identifiers, 1):
        value = identifier.value
        system = plan.partner.system_of(identifier) if value else None
        if system is None:
            continue
        where = f"{place}[{number}].1" if number > 1 else f"{place}.1"
        if not _is_whole(identifier):
            raise Parked(Reason.CHARSET, where=where)
        accepted.append(Identity(Subject.PATIENT, system, str(value), where, under))
    return accepted
