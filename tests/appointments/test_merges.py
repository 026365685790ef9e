"""From the message to what a patient reads: a merge moves the prior's appointments, whatever comes before or after it, and whenever the worker is killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.appointments.port import Deed, Did
from pipeline.failpoints import Point
from tests.appointments.house import BSN, LOCAL, House, a40, house, siu
from tests.delivery.partner_script import Killed
from tests.delivery.two_steps import reaching

ANNA, BERT = "999911120", "999911132"
DELIVERED = ("delivered", None)
STALE = ("superseded", "stale")


@pytest.fixture
def zuid(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as one:
        yield one


@pytest.mark.parametrize("event", ["A40", "A47"])
def test_what_came_under_the_old_number_before_and_after_a_merge_is_the_survivors(zuid: House, event: str) -> None:
    zuid.work(siu("old", "1"), siu("new", "2", bsn=ANNA), a40("old", "new", event=event))
    assert zuid.seen_by(ANNA, BSN) == zuid.seen_by("old") == ["1", "2"]
    zuid.work(siu("old", "1", at=40, trigger="S15"), siu("old", "3", at=2), siu("old", "4", at=41))
    zuid.work(siu("new", "1", at=50))
    assert zuid.ends() == [DELIVERED] * 7
    assert zuid.seen_by(ANNA, BSN) == zuid.seen_by("new") == ["1", "2", "3", "4"]


def test_a_merge_before_the_first_appointment_is_remembered(zuid: House) -> None:
    zuid.work(a40("old", "new"), siu("old", "1", at=40), siu("new", "2", at=41, bsn=ANNA))
    assert zuid.ends() == [DELIVERED] * 3
    assert zuid.seen_by(ANNA, BSN) == ["1", "2"]


def test_a_message_that_has_both_numbers_goes_once_they_are_merged(zuid: House) -> None:
    both = siu("old^^^ZGDEMO^PI~new", "3", at=20), siu("old^^^ZGDEMO^PI~new", "4", at=40)
    zuid.work(siu("old", "1"), siu("new", "2"), both[0], a40("old", "new"), both[1])
    assert zuid.ends() == [DELIVERED, DELIVERED, ("parked", "identity_conflict"), DELIVERED, DELIVERED]
    assert zuid.seen_by("old") == ["1", "2", "4"]


def test_two_who_have_each_a_bsn_stay_two_and_the_merge_waits_for_an_operator(zuid: House) -> None:
    bert = siu("bert", "2", bsn=BERT)
    zuid.work(siu("anna", "1", bsn=ANNA), bert, a40("bert", "anna"), a40("bert", "anna", at=31, bsn=ANNA, prior_bsn=BERT))
    assert zuid.ends() == [DELIVERED, DELIVERED, ("parked", "merge_refused"), ("parked", "merge_refused")]
    assert (zuid.seen_by("anna"), zuid.seen_by(BERT, BSN)) == (["1"], ["2"])


def test_an_appointment_that_is_another_persons_waits_for_an_operator(zuid: House) -> None:
    zuid.work(siu("anna", "1"))
    zuid.work(siu("bert", "1", at=2))
    assert zuid.ends() == [DELIVERED, ("parked", "part_of_another")]
    assert (zuid.seen_by("anna"), zuid.seen_by("bert")) == (["1"], [])


def test_a_merge_that_is_told_again_after_an_operator_parted_the_two_is_superseded(zuid: House) -> None:
    zuid.work(siu("old", "1"), siu("new", "2"), a40("old", "new"))
    zuid.store.part(frozenset({zuid.pseudonyms.person(LOCAL, "old")}), None, Deed("an operator", "sealed"))
    zuid.work(a40("old", "new", at=31))
    assert zuid.ends()[3:] == [STALE]
    assert (zuid.seen_by("old"), zuid.seen_by("new")) == (["1"], ["2"])


def test_what_the_store_has_newer_is_superseded_and_counts_as_no_delivery(zuid: House) -> None:
    zuid.work(siu("anna", "1", at=5))
    other = siu("anna", "1", at=2).replace(b"|AGENDA|", b"|ELSEWHERE|")  # another sender: the ledger does not compare the two
    zuid.work(other)
    assert zuid.ends() == [DELIVERED, STALE]
    last = zuid.results()[-1]
    assert (last.http_status, last.settled, last.confirmed_by) == (412, True, None)


@pytest.mark.parametrize(
    "point", [Point.AFTER_INTENT, Point.AFTER_ANSWER, Point.AFTER_LEDGER_SETTLED, Point.AFTER_RESULT_PRODUCED]
)
def test_killed_anywhere_the_two_are_one_and_the_merge_is_told_once(zuid: House, point: Point) -> None:
    zuid.work(siu("old", "1"), siu("new", "2"))

    def die(reached: str) -> None:
        if reached is point:
            raise Killed

    with reaching(die), pytest.raises(Killed):
        zuid.work(a40("old", "new"))
    was = zuid.seen_by("new")
    assert was == (["2"] if point is Point.AFTER_INTENT else ["1", "2"])
    zuid.work(siu("old", "3", at=40))
    assert zuid.seen_by("new") == ["1", "2", "3"]
    assert zuid.ends() == [DELIVERED] * 4
    assert len({one.result_id for one in zuid.results() if one.settled and one.source_offset == 2}) == 1
    assert [one.did for one in zuid.store.done(9)] == [Did.MERGED]
