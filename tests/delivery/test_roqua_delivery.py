"""RoQua's responses through attempts and a real ledger: a correction meets its response, one that is gone is posted anew, what is lost is sent again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.errors import NoAnswer
from pipeline.model import Outcome, Reply, Request
from pipeline.stages.settle import settle
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import House, Script
from tests.delivery.test_attempts import Desk
from tests.partners.roqua_responses_samples import oru, packed, plan_with

LOST = NoAnswer(Reason.TIMEOUT)
OWN = str(orjson.loads(packed(oru(), plan_with()).requests[0].body)["external_id"])
BASE = "/api/v1/dossiers/2075/responses"


def reply(status: int, body: bytes = b"") -> Reply:
    return Reply(status, {}, body, 12.0, 0, 12)


MADE = reply(201, b'{"id": 1, "questionnaire_key": "oq45"}')
CHANGED = reply(200, b'{"id": 1, "questionnaire_key": "oq45"}')
GONE = reply(204)


class Meanwhile(Script):
    """Makes what it is sent; the first time something else goes all its way before the answer."""

    def __init__(self, other: Callable[[], object]) -> None:
        super().__init__()
        self.others = [other]

    def exchange(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.others:
            self.others.pop()()
        return {"POST": MADE, "PUT": CHANGED, "DELETE": GONE}[request.method]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    house = House(tmp_path)
    desk = Desk(house)
    desk.plan = plan_with()
    yield desk
    house.close()


def run(desk: Desk, value: bytes, *answers: Any, offset: int = 0) -> Outcome:  # noqa: ANN401 - replies and errors
    """To its end, and into the ledger."""
    outcome = desk.run(value, *answers, offset=offset)
    settled(desk, outcome)
    return outcome


def settled(desk: Desk, outcome: Outcome) -> None:
    written = settle(outcome, desk.plan, results_topic="results", dead_letter_topic="letters", at_ms=desk.house.clock())
    desk.house.ledger.settle(written.settlement)


def later(status: str, minute: int, **more: Any) -> bytes:  # noqa: ANN401 - as oru
    return oru(status=status, control=f"M{minute}", when=f"202604191{minute:03}00+0200", **more)


def test_a_response_is_posted_then_corrected_then_deleted_and_then_posted_anew(desk: Desk) -> None:
    run(desk, oru(), MADE)
    run(desk, later("C", 510), CHANGED, offset=1)
    run(desk, later("D", 520), GONE, offset=2)
    outcome = run(desk, later("F", 530), reply(404), MADE, offset=3)
    assert outcome.state is State.DELIVERED
    assert desk.house.paths() == [
        f"POST {BASE}",
        f"PUT {BASE}/{OWN}",
        f"DELETE {BASE}/{OWN}",
        f"PUT {BASE}/{OWN}",
        f"POST {BASE}",
    ]


def test_a_response_that_is_gone_there_is_posted_anew_or_by_the_setting_parked(desk: Desk) -> None:
    run(desk, oru(), MADE)
    assert run(desk, later("C", 510), reply(404), MADE, offset=1).state is State.DELIVERED
    desk.plan = plan_with(on_absent="park")
    outcome = run(desk, later("C", 520), reply(404), offset=2)
    assert (outcome.state, outcome.reason) == (State.PARKED, Reason.REJECTED_NOT_FOUND)
    assert desk.house.paths()[1:] == [f"PUT {BASE}/{OWN}", f"POST {BASE}", f"PUT {BASE}/{OWN}"]


def test_the_dossier_and_its_other_responses_stay_known_when_one_is_gone(desk: Desk) -> None:
    run(desk, oru(), MADE)
    run(desk, oru("R-78", control="M2"), MADE, offset=1)
    run(desk, later("C", 510), reply(404), MADE, offset=2)
    run(desk, later("C", 520, number="R-78"), CHANGED, offset=3)
    assert desk.house.paths()[-1].startswith("PUT ")


def test_a_lost_answer_is_sent_again_with_the_same_external_id_after_a_pause(desk: Desk) -> None:
    outcome = run(desk, oru(), LOST, reply(502), MADE)
    first, *again = desk.house.script.requests
    assert (outcome.state, outcome.confirmed_by) == (State.DELIVERED, "response")
    assert [one.body for one in again] == [first.body, first.body]
    assert all(wait >= 10 for wait in desk.waits[:2])


def test_a_correction_that_is_refused_as_stored_is_parked_and_not_tried_again(desk: Desk) -> None:
    run(desk, oru(), MADE)
    outcome = run(desk, later("C", 510), LOST, reply(403), offset=1)
    assert (outcome.state, outcome.reason, len(desk.house.paths())) == (State.PARKED, Reason.REJECTED_STORED, 3)


def test_a_correction_that_is_older_than_what_went_is_superseded(desk: Desk) -> None:
    run(desk, later("C", 520), MADE)
    outcome = run(desk, later("F", 510), offset=1)
    assert (outcome.state, outcome.reason) == (State.SUPERSEDED, Reason.STALE)


def test_a_questionnaire_that_roqua_does_not_know_parks_after_put_and_post(desk: Desk) -> None:
    run(desk, oru(), MADE)
    outcome = run(desk, later("C", 510), reply(404), reply(404), offset=1)
    assert (outcome.state, outcome.reason) == (State.PARKED, Reason.TARGET_UNKNOWN)


@pytest.mark.parametrize("first", ["wrong", "right"])
def test_what_takes_a_result_from_the_wrong_patient_is_not_old_by_what_went_for_the_right_one(desk: Desk, first: str) -> None:
    """Two patients' messages have no order among each other: both go at once. Whose the ledger learns first has the number; the other's is a person's."""
    other: list[Outcome] = []
    desk.house.script = Meanwhile(lambda: other.append(desk.run(later("F", 520, dossier="2076"), offset=1)))
    one = desk.run(later("F", 510))
    for outcome in (one, *other) if first == "wrong" else (*other, one):
        settled(desk, outcome)
    taken = run(desk, later("W", 515), offset=2)
    there = {"wrong": (State.DELIVERED, None), "right": (State.PARKED, Reason.PART_OF_ANOTHER)}
    assert (taken.state, taken.reason) == there[first]
    assert desk.house.paths()[2:] == ([f"DELETE {BASE}/{OWN}"] if first == "wrong" else [])


def test_what_was_never_sent_of_the_wrong_patient_is_old_once_the_right_ones_is_there(desk: Desk) -> None:
    run(desk, later("F", 520, dossier="2076"), MADE)
    outcome = run(desk, later("W", 515), offset=1)
    assert (outcome.state, outcome.reason) == (State.SUPERSEDED, Reason.STALE)


def test_the_right_patients_result_is_not_taken_for_old_by_what_became_of_the_wrong_ones(desk: Desk) -> None:
    run(desk, later("F", 510), MADE)
    run(desk, later("W", 530), GONE, offset=1)
    outcome = run(desk, later("F", 520, dossier="2076"), offset=2)
    assert (outcome.state, outcome.reason, outcome.where) == (State.PARKED, Reason.PART_OF_ANOTHER, "OBR-3.1")


@pytest.mark.parametrize("status", ["C", "D"])
def test_an_old_message_of_a_result_is_old_whichever_of_the_patients_numbers_it_has(desk: Desk, status: str) -> None:
    run(desk, later("F", 520, dossier="2075^^^ZGDEMO^PI~2076"), MADE)
    outcome = run(desk, later(status, 510, dossier="2076"), offset=1)
    assert (outcome.state, outcome.reason) == (State.SUPERSEDED, Reason.STALE)


def test_what_is_taken_back_and_never_went_is_filtered(desk: Desk) -> None:
    outcome = run(desk, oru(status="D"))
    assert (outcome.state, outcome.reason) == (State.FILTERED, Reason.RESULT_NOT_KNOWN)


def test_without_upsert_a_lost_post_is_looked_for_by_a_put_and_posted_again_only_where_it_is_not_there(desk: Desk) -> None:
    desk.plan = plan_with(upsert=False)
    assert run(desk, oru(), LOST, reply(403)).confirmed_by == "probe"
    assert run(desk, oru("R-78", control="M2"), LOST, reply(404), MADE, offset=1).confirmed_by == "response"
    verbs = [path.partition(" ")[0] for path in desk.house.paths()]
    assert verbs == ["POST", "PUT", "POST", "PUT", "POST"]
