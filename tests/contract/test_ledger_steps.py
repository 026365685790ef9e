"""Steps and parts on both ledgers: SQLite and a real PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from pipeline.errors import LedgerError
from pipeline.ledger.port import Begun, Held, Query, Settlement
from pipeline.ledger.sql import SqlLedger
from pipeline.ledger.tables import IDENTITIES
from pipeline.model import Answer, Decision, Identity, Intent, Kind, Known, Learned, Outcome, Routed, Subject
from schemas.outcomes import Reason, State
from tests import postgres_server
from tests.ledger.samples import PARTNER, PSEUDONYMS, ROUTE, Message, answer, begun, identity, settled

VISIT = Identity(Subject.VISIT, "urn:visits", "V1", "PV1-19")
COVERAGE = Identity(Subject.COVERAGE, "urn:coverages", "MEDICAID|1", "IN1-36")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlLedger]:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}" if request.param == "sqlite" else postgres_server.a_schema()
    ledger = SqlLedger(url, PSEUDONYMS, clock=lambda: 9_000)
    ledger.check()
    yield ledger
    ledger.close()


def routed(message: Message, *parts: Identity, kind: Kind = Kind.SNAPSHOT) -> Routed:
    """A message about the first of its parts, with its patient beside it."""
    plain = message.routed()
    about = (PSEUDONYMS.hash("subject", parts[0].value),) if parts else plain.subjects
    rule = replace(plain.rule, kind=kind, subject=Subject.VISIT)
    return replace(plain, rule=rule, parts=parts, subjects=about, patient_subjects=plain.subjects if parts else ())


def intent(message: Message, what: Routed, step: int, *, after: int = 0, creates: tuple[Identity, ...] | None = None) -> Begun:
    one = begun(message, Intent.CREATE if step else Intent.UPDATE, after=after)
    return replace(one, routed=what, step=step, creates=creates)


def answered(step: int, decision: Decision = Decision.DELIVERED) -> Answer:
    one = answer(decision)
    return replace(one, request=replace(one.request, step=step, intent=Intent.CREATE if step else Intent.UPDATE))


def done(message: Message, what: Routed, state: State, step: int, *learned: Learned, after: int | None = None) -> Settlement:
    one = settled(message, state, learned=learned)
    outcome: Outcome = replace(one.outcome, routed=what, answer=answered(step))
    return replace(one, outcome=outcome, subjects=(*what.subjects, *what.patient_subjects), after=after)


MESSAGE = Message(1)
WITH_VISIT = routed(MESSAGE, VISIT)
LATER = Message(2, event_ms=2_000)


def advanced(ledger: SqlLedger) -> None:
    """The patient is known, and its update with the first visit's message is done."""
    ledger.import_identities(PARTNER, [Learned(identity("CIP1"), "P1")])
    ledger.begin(intent(MESSAGE, WITH_VISIT, 0))
    ledger.advance(done(MESSAGE, WITH_VISIT, State.PENDING, 0, after=1), 1)


def test_a_step_that_is_done_is_remembered_with_no_open_intent(ledger: SqlLedger) -> None:
    advanced(ledger)
    seen = ledger.seen(ROUTE, MESSAGE.position)
    assert seen is not None
    assert (seen.step, seen.state, seen.open, seen.sent_ms) == (1, State.PENDING, False, None)
    assert [position for position, _ in ledger.waiting(ROUTE, "his.adt", 0)] == [MESSAGE.position]
    assert [row.step for row in ledger.find(Query(route=ROUTE))] == [1]
    ledger.begin(intent(LATER, routed(LATER), 0))  # the lane is free


def test_an_intent_says_which_step_may_have_arrived_and_leaves_open_which_is_done(ledger: SqlLedger) -> None:
    ledger.begin(intent(MESSAGE, WITH_VISIT, 1, creates=(VISIT,)))
    seen = ledger.seen(ROUTE, MESSAGE.position)
    assert seen is not None
    assert (seen.step, seen.sent_step, seen.open) == (0, 1, True)


def test_a_record_that_is_closed_has_no_step_left_and_one_that_is_parked_keeps_it(ledger: SqlLedger) -> None:
    advanced(ledger)
    ledger.settle(replace(settled(MESSAGE, State.PARKED, Reason.REJECTED_INVALID), result_id="parked"))
    assert ledger.seen(ROUTE, MESSAGE.position).step == 1  # type: ignore[union-attr]
    ledger.settle(done(MESSAGE, WITH_VISIT, State.DELIVERED, 1))
    assert ledger.seen(ROUTE, MESSAGE.position).step == 0  # type: ignore[union-attr]


def test_a_step_that_another_process_has_passed_changes_nothing_but_what_was_learned(ledger: SqlLedger) -> None:
    advanced(ledger)
    ledger.begin(intent(MESSAGE, WITH_VISIT, 1, after=1, creates=(VISIT,)))
    late = done(MESSAGE, WITH_VISIT, State.PENDING, 0, Learned(identity("CIP1"), "P1", created_with=True), after=1)
    ledger.advance(late, 1)
    seen = ledger.seen(ROUTE, MESSAGE.position)
    assert seen is not None
    assert (seen.open, seen.intents) == (True, 2)
    knowledge = ledger.knowledge(routed(LATER, VISIT))
    assert (knowledge.creating, VISIT in knowledge.known) == (MESSAGE.position, False)


def test_a_step_is_done_with_all_that_was_learned_or_not_at_all(ledger: SqlLedger) -> None:
    ledger.begin(intent(MESSAGE, WITH_VISIT, 0))
    broken = done(MESSAGE, replace(WITH_VISIT, sender="\0"), State.PENDING, 0, Learned(VISIT, "E1"), after=1)
    broken = replace(broken, subjects=(object(),))  # type: ignore[arg-type]
    with pytest.raises(LedgerError):
        ledger.advance(broken, 1)
    seen = ledger.seen(ROUTE, MESSAGE.position)
    assert seen is not None
    assert (seen.step, seen.open, VISIT in ledger.knowledge(routed(LATER, VISIT)).known) == (0, True, False)


def test_parts_are_known_with_the_patient_that_they_belong_to(ledger: SqlLedger) -> None:
    ledger.begin(intent(MESSAGE, WITH_VISIT, 1, creates=(identity("CIP1"), VISIT)))
    learned = Learned(identity("CIP1"), "P1", created_with=True), Learned(VISIT, "E1", belongs_to="P1")
    ledger.settle(done(MESSAGE, WITH_VISIT, State.DELIVERED, 1, *learned))
    known = ledger.knowledge(routed(LATER, VISIT, COVERAGE)).known
    assert known == {identity("CIP1"): Known("P1", created_with=True), VISIT: Known("E1", belongs_to="P1")}


def test_a_part_whose_create_is_open_holds_who_names_it_and_nobody_else(ledger: SqlLedger) -> None:
    advanced(ledger)
    ledger.begin(intent(MESSAGE, WITH_VISIT, 1, after=1, creates=(VISIT,)))
    ledger.settle(replace(settled(MESSAGE, State.PARKED, Reason.AWAITING_PROBE), result_id="waits"))
    assert ledger.knowledge(routed(LATER, VISIT)).open_create == MESSAGE.position
    other = replace(VISIT, value="V2")
    assert ledger.knowledge(routed(LATER, other)).open_create is None
    with pytest.raises(Held):
        ledger.begin(intent(LATER, routed(LATER, VISIT), 1, creates=(VISIT,)))
    ledger.begin(intent(LATER, routed(LATER, other), 1, creates=(other,)))


def test_a_create_of_nothing_that_is_kept_under_an_id_claims_nothing(ledger: SqlLedger) -> None:
    ledger.begin(intent(MESSAGE, routed(MESSAGE), 1, creates=()))
    assert ledger.knowledge(LATER.routed()).creating is None


def test_an_operator_who_names_the_patients_id_does_not_give_it_to_its_visit(ledger: SqlLedger) -> None:
    """The visit was created with it, and its id is not known; it belongs to the patient that was found."""
    ledger.begin(intent(MESSAGE, WITH_VISIT, 1, creates=(identity("CIP1"), VISIT)))
    ledger.settle(replace(settled(MESSAGE, State.PARKED, Reason.PROBE_CANNOT_TELL), result_id="parked"))
    ledger.import_identities(PARTNER, [Learned(identity("CIP1"), "P1")])
    known = ledger.knowledge(routed(LATER, VISIT)).known
    assert known == {identity("CIP1"): Known("P1"), VISIT: Known(None, belongs_to="P1")}
    ledger.import_identities(PARTNER, [Learned(VISIT, "E1")])
    assert ledger.knowledge(routed(LATER, VISIT)).known[VISIT] == Known("E1")


def test_what_an_answer_says_takes_no_part_from_another_patient(ledger: SqlLedger) -> None:
    ledger.import_identities(PARTNER, [Learned(VISIT, "E1", belongs_to="P1")])
    ledger.begin(intent(MESSAGE, WITH_VISIT, 0))
    ledger.settle(done(MESSAGE, WITH_VISIT, State.DELIVERED, 0, Learned(VISIT, "E9", belongs_to="P9")))
    assert ledger.knowledge(routed(LATER, VISIT)).known[VISIT] == Known("E1", belongs_to="P1")


def test_the_newest_of_a_visit_and_of_its_patient_are_told_apart(ledger: SqlLedger) -> None:
    ledger.settle(done(MESSAGE, WITH_VISIT, State.DELIVERED, 0))
    of_other = ledger.knowledge(routed(LATER, replace(VISIT, value="V2")))
    assert (of_other.last_event_ms, of_other.patient_event_ms, of_other.patient_position) == (None, 1_000, MESSAGE.position)
    of_patient = ledger.knowledge(LATER.routed())
    assert (of_patient.last_event_ms, of_patient.patient_event_ms) == (1_000, None)


def test_a_message_is_held_where_its_patient_was_brought_up_to_date_since_it_was_read(ledger: SqlLedger) -> None:
    """With another visit, so that its own is as it was read."""
    other = routed(LATER, replace(VISIT, value="V2"), kind=Kind.FACT)
    read = ledger.knowledge(other)
    ledger.settle(done(MESSAGE, WITH_VISIT, State.DELIVERED, 0))
    with pytest.raises(Held, match="delivered meanwhile"):
        ledger.begin(replace(intent(LATER, other, 0), knowledge=read))
    ledger.begin(replace(intent(LATER, other, 0), knowledge=ledger.knowledge(other)))


@pytest.mark.parametrize("state", [State.PARKED, State.DELIVERED])
def test_who_takes_back_a_visit_sees_what_of_it_is_not_closed(ledger: SqlLedger, state: State) -> None:
    ledger.settle(done(MESSAGE, WITH_VISIT, state, 0))
    cancel = routed(LATER, VISIT, kind=Kind.CANCEL)
    assert ledger.knowledge(cancel).part_open == (MESSAGE.position if state is State.PARKED else None)
    assert ledger.knowledge(routed(LATER, replace(VISIT, value="V2"), kind=Kind.CANCEL)).part_open is None
    assert ledger.knowledge(routed(LATER, VISIT)).part_open is None  # nobody else asks
    assert ledger.knowledge(routed(Message(0), VISIT, kind=Kind.CANCEL)).part_open is None  # what is later is not waited for


def test_what_is_parked_says_which_visit_it_is_about(ledger: SqlLedger) -> None:
    one = done(MESSAGE, WITH_VISIT, State.PARKED, 0)
    ledger.settle(replace(one, outcome=replace(one.outcome, reason=Reason.REJECTED_INVALID)))
    assert [parked.about for parked in ledger.knowledge(LATER.routed()).parked] == [WITH_VISIT.about]


def test_no_id_of_a_part_stands_in_the_ledger(ledger: SqlLedger) -> None:
    ledger.import_identities(PARTNER, [Learned(VISIT, "CANARY-E", belongs_to="CANARY-P")])
    rows = list(ledger.export_identities(PARTNER))
    assert [(kind, partner_id) for kind, _, _, partner_id in rows] == [("visit", "CANARY-E")]
    with ledger._read() as connection:
        assert "CANARY" not in str(connection.execute(select(IDENTITIES)).all())
