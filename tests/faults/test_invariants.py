"""The checker finds each sort of violation: a checker that cannot fail is worth nothing. One good run, and then one thing wrong with it."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import create_engine, text

from pipeline.bus.port import TopicPartition
from pipeline.model import Position
from pipeline.sandbox.log import CREATED, UPDATED, Effect
from pipeline.trial.invariants import Evidence, bundle_id, tables, violations
from pipeline.trial.traffic import seeded
from schemas.outcomes import Reason, State
from schemas.result import Result
from tests.faults.conftest import Make
from tests.faults.hospital import ROUTE, Hospital

WRONG: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {}


def wrong(expected: str) -> Callable[[Callable[[Evidence], Evidence]], Callable[[Evidence], Evidence]]:
    """Something that is wrong, and how the checker says it."""

    def keep(change: Callable[[Evidence], Evidence]) -> Callable[[Evidence], Evidence]:
        WRONG[change.__name__] = (change, expected)
        return change

    return keep


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A run in which nothing went wrong."""
    folder = tmp_path_factory.mktemp("good")
    hospital = Hospital(folder, {"kind": "embedded", "path": str(folder / "bus")})
    hospital.partner()
    hospital.fill(seeded(1))
    assert hospital.drain() == 0, hospital.logs()
    evidence = hospital.evidence()
    hospital.close()
    return evidence


def test_a_resend_of_the_newest_is_no_violation(good: Evidence) -> None:
    again = resent(good, updates(good)[-1])
    assert violations(replace(good, replays=["r1"], effects=[*good.effects, again])) == []


def test_a_good_run_has_no_violations_and_ends_as_its_traffic_says(good: Evidence) -> None:
    assert violations(good) == []
    assert good.states == good.traffic.states
    assert {one.identifier for one in good.effects if one.effect == CREATED} == good.traffic.created


def first(evidence: Evidence) -> TopicPartition:
    return next(partition for partition, records in evidence.sent.items() if records)


def updates(evidence: Evidence) -> list[Effect]:
    """Of one patient, at least two."""
    for patient in evidence.traffic.patients:
        found = [one for one in evidence.effects if one.identifier == patient.name and one.effect == UPDATED]
        if len(found) > 1:
            return found
    raise AssertionError("no patient has two updates")


@wrong("records have no state")
def a_record_without_a_state(good: Evidence) -> Evidence:
    return replace(good, rows=good.rows[1:])


@wrong("deliveries of records that are not there")
def a_state_without_a_record(good: Evidence) -> Evidence:
    position = replace(good.rows[0].position, offset=10_000)
    return replace(good, rows=[*good.rows, replace(good.rows[0], position=position)])


@wrong("in more than one state")
def a_record_in_two_states(good: Evidence) -> Evidence:
    return replace(good, rows=[*good.rows, replace(good.rows[0], state=State.FILTERED)])


@wrong("still pending")
def something_pending(good: Evidence) -> Evidence:
    return replace(good, rows=[replace(good.rows[0], state=State.PENDING), *good.rows[1:]])


@wrong("still unknown")
def something_unknown(good: Evidence) -> Evidence:
    return replace(good, rows=[replace(good.rows[0], state=State.UNKNOWN), *good.rows[1:]])


@wrong("no result says so")
def a_result_that_is_missing(good: Evidence) -> Evidence:
    return replace(good, results=good.results[1:])


@wrong("different results settle it")
def two_results(good: Evidence) -> Evidence:
    delivered = next(one for one in good.results if one.state is State.DELIVERED)
    return replace(good, results=[*good.results, delivered.model_copy(update={"result_id": "another"})])


@wrong("the ledger says delivered, its result filtered")
def a_result_that_says_something_else(good: Evidence) -> Evidence:
    return replace(
        good,
        results=[
            one.model_copy(update={"state": State.FILTERED}) if one.state is State.DELIVERED else one for one in good.results
        ],
    )


@wrong("no dead letter has it")
def a_dead_letter_that_is_missing(good: Evidence) -> Evidence:
    return replace(good, letters=good.letters[1:])


@wrong("its dead letter has other bytes")
def a_dead_letter_of_something_else(good: Evidence) -> Evidence:
    return replace(good, letters=[replace(letter, value=b"something else") for letter in good.letters])


@wrong("which no record becomes")
def an_effect_of_nothing(good: Evidence) -> Evidence:
    return replace(good, effects=[replace(good.effects[0], bundle_id="another"), *good.effects[1:]])


@wrong("with something else in between")
def an_effect_twice_with_another_in_between(good: Evidence) -> Evidence:
    before = updates(good)[0]
    return replace(good, effects=[*good.effects, replace(before, number=10_000)])


@wrong("the ledger has no intent of it")
def an_effect_without_an_intent(good: Evidence) -> Evidence:
    value = next(value for records in good.sent.values() for value in records.values() if value and good.effects_of(value))
    return replace(good, rows=[row for row in good.rows if row.position != good.place_of(value)])


@wrong("the ledger knows of 1 attempts")
def an_effect_more_than_attempts(good: Evidence) -> Evidence:
    return replace(good, effects=[one for effect in good.effects for one in (effect, effect)])


def sent_twice(good: Evidence) -> Evidence:
    twice = [one for effect in good.effects for one in ((effect, effect) if effect.effect == UPDATED else (effect,))]
    return replace(good, effects=twice, rows=[replace(row, attempt=2) for row in good.rows])


@wrong("sent again 1 times without a reason, with 0 crashes")
def an_update_that_is_repeated_without_a_reason(good: Evidence) -> Evidence:
    return sent_twice(good)


@wrong("not flagged possible_duplicate")
def an_update_that_is_repeated_after_a_crash_and_not_flagged(good: Evidence) -> Evidence:
    return replace(sent_twice(good), crashes=1)


@wrong("was created 2 times")
def a_second_create(good: Evidence) -> Evidence:
    one = updates(good)[0]
    return replace(good, effects=[replace(each, effect=CREATED) if each is one else each for each in good.effects])


@wrong("was created 2 times")
def a_second_create_under_another_identifier_of_the_patient(good: Evidence) -> Evidence:
    several = next(one for one in good.traffic.patients if one.several)
    created = next(one for one in good.effects if one.identifier == several.name and one.effect == CREATED)
    other = {"identifier": [{"value": several.second}]}
    return replace(good, effects=[*good.effects, replace(created, number=10_000, patient=other, bundle_id="x")])


@wrong("effects came in the order")
def effects_out_of_order(good: Evidence) -> Evidence:
    one, two, *_ = updates(good)
    swapped = {one.number: two, two.number: one}
    return replace(good, effects=[swapped.get(each.number, each) for each in good.effects])


def resent(evidence: Evidence, effect: Effect) -> Effect:
    """The same message, as the replay `r1` sends it again."""
    values = [value for records in evidence.sent.values() for value in records.values() if value]
    value = next(value for value in values if bundle_id(ROUTE, value) == effect.bundle_id)
    return replace(effect, bundle_id=bundle_id(ROUTE, value, "r1"))


@wrong("resent 2 times by one replay without a reason")
def a_resend_that_goes_twice(good: Evidence) -> Evidence:
    again = resent(good, updates(good)[-1])
    return replace(good, replays=["r1"], effects=[*good.effects, again, again])


@wrong("an older version after a newer one")
def an_old_version_that_a_replay_sends_again(good: Evidence) -> Evidence:
    return replace(good, replays=["r1"], effects=[*good.effects, resent(good, updates(good)[0])])


@wrong("an older version after a newer one")
def an_older_version_after_a_newer_one(good: Evidence) -> Evidence:
    one, _, *_ = updates(good)
    return replace(good, effects=[*good.effects, replace(one, number=10_000)])


def test_a_newer_one_that_was_parked_may_go_after_an_old_one_that_was_sent_again(good: Evidence) -> None:
    one, two, *_ = updates(good)
    ages = {bundle_id(ROUTE, message.value): message for message in good.traffic.messages if message.value}
    newer = ages[two.bundle_id or ""]
    younger = [replace(message, minute=0) if message == newer else message for message in good.traffic.messages]
    swapped = {one.number: two, two.number: one}
    evidence = replace(
        good,
        traffic=replace(good.traffic, messages=tuple(younger)),
        effects=[
            each
            for each in (swapped.get(each.number, each) for each in good.effects)
            if each.identifier != one.identifier or each in (one, two)
        ],
    )
    assert not [said for said in violations(evidence) if "order" in said or "after a newer" in said]


def test_what_was_parked_with_an_unknown_outcome_may_be_sent_again_without_a_crash(good: Evidence) -> None:
    one, *_ = updates(good)
    place = next(
        place
        for value in (message.value for message in good.traffic.messages if message.value)
        if bundle_id(ROUTE, value) == one.bundle_id and (place := good.place_of(value))
    )
    row = good.row_at(place)
    assert row is not None
    twice = replace(
        good,
        effects=[each for number in good.effects for each in ((number, number) if number == one else (number,))],
        rows=[replace(each, attempt=2) if each == row else each for each in good.rows],
        results=[
            replace_result(each, reason)
            for each in good.results
            for reason in ((Reason.CONNECTION_LOST, None) if at(each) == place else (None,))
        ],
    )
    assert violations(twice) == []
    assert any("without a reason" in said for said in violations(replace(twice, results=good.results)))


def replace_result(result: Result, reason: Reason | None) -> Result:
    """Parked for the reason, under an id of its own; as it is where there is none."""
    return (
        result
        if reason is None
        else result.model_copy(update={"state": State.PARKED, "reason": reason, "result_id": f"{result.result_id}-before"})
    )


def at(result: Result) -> Position:
    return Position(result.source_topic, result.source_partition, result.source_offset)


@wrong("is not known at all")
def an_offset_that_passed_what_is_not_known(good: Evidence) -> Evidence:
    offset = min(good.sent[first(good)])
    return replace(good, over=False, rows=[row for row in good.rows if row.position.offset != offset])


@wrong("is pending")
def an_offset_that_passed_what_is_pending(good: Evidence) -> Evidence:
    return replace(good, over=False, rows=[replace(row, state=State.PENDING) for row in good.rows])


@wrong("no result tells of")
def an_offset_that_passed_a_result(good: Evidence) -> Evidence:
    return replace(good, over=False, results=())


@wrong("is parked without a dead letter")
def an_offset_that_passed_a_dead_letter(good: Evidence) -> Evidence:
    return replace(good, over=False, letters=())


@wrong("drained, and committed is 0")
def an_offset_that_stands_still(good: Evidence) -> Evidence:
    return replace(good, committed=dict.fromkeys(good.committed))


@pytest.mark.parametrize("name", WRONG)
def test_the_checker_finds(good: Evidence, name: str) -> None:
    change, expected = WRONG[name]
    found = violations(change(good))
    assert any(expected in one for one in found), found


@pytest.mark.parametrize(
    ("dress", "text_of"),
    [
        ("plain", lambda canary: canary),
        ("in other case", str.lower),
        ("quoted in a URL", lambda canary: canary.replace("@", "%40")),
        ("as base64", lambda canary: b64encode(canary.encode()).decode()),
        ("as hex", lambda canary: canary.encode().hex()),
    ],
)
def test_the_checker_finds_a_canary_in_every_dress(good: Evidence, dress: str, text_of: Callable[[str], str]) -> None:
    for canary, what in good.canaries.items():
        found = violations(replace(good, texts={"a log": f'{{"event": "x{text_of(canary)}y"}}'}))
        assert any(what.partition(" of patient")[0] in one and "a log" in one for one in found), (dress, canary)


def test_there_are_canaries_of_every_sort_and_every_sort_of_place_is_looked_at(good: Evidence) -> None:
    sorts = {what.partition(" of patient")[0] for what in good.canaries.values()}
    assert sorts == {*good.traffic.patients[0].canaries, "partner id", "client secret"}
    places = " ".join(good.texts)
    for place in (
        "worker-0.log",
        "worker-0.out",
        "ledger.sqlite",
        "result record",
        "header of dead letter",
        "ledger table deliveries",
        "request ids",
    ):
        assert place in places
    assert not any("bus" in place.rpartition("/hospital")[2].split("/")[0] for place in good.texts)


@pytest.mark.parametrize("ledger", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_the_checker_finds_a_canary_in_any_table_of_the_ledger(make_hospital: Make, ledger: str) -> None:
    hospital = make_hospital(ledger=ledger)
    hospital.partner()
    traffic = seeded(3, patients=1, updates=1, merges=0, garbage=0)
    hospital.fill(traffic)
    assert hospital.violations(over=False) == []
    canary = traffic.patients[0].canaries["family name"]
    engine = create_engine(hospital.settings.ledger.url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO facts (name, value) VALUES ('note', :value)"), {"value": canary})
    engine.dispose()
    assert canary in tables(hospital.settings.ledger.url)["facts"]
    assert any("ledger table facts holds a family name" in one for one in hospital.violations(over=False))


def test_a_bundle_id_is_the_messages_own(good: Evidence) -> None:
    ids = [bundle_id(ROUTE, value) for records in good.sent.values() for value in records.values() if value]
    assert len(set(ids)) == len(ids)
