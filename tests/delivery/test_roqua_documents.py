"""RoQua's documents through attempts and a real ledger: a correction goes over what it corrects, what is lost is the same again, a delete is a person's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.errors import NoAnswer
from pipeline.model import Outcome, Reply
from pipeline.stages.settle import settle
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import House
from tests.delivery.test_attempts import Desk
from tests.partners.roqua_samples import SCORES, answered, oru, packed, plan_with, reply

LOST = NoAnswer(Reason.TIMEOUT)
PATH = packed(oru(), plan_with()).requests[0].path
MADE, CHANGED = reply(201), reply(200)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    house = House(tmp_path)
    desk = Desk(house)
    desk.plan = plan_with()
    yield desk
    house.close()


def run(desk: Desk, value: bytes, *answers: Reply | NoAnswer, offset: int = 0) -> Outcome:
    """To its end, and into the ledger."""
    outcome = desk.run(value, *answers, offset=offset)
    written = settle(outcome, desk.plan, results_topic="results", dead_letter_topic="letters", at_ms=desk.house.clock())
    desk.house.ledger.settle(written.settlement)
    return outcome


def later(status: str, minute: int, **more: Any) -> bytes:  # noqa: ANN401 - as oru
    """The same questionnaire, sent at that minute."""
    return oru(status=status, control=f"M{minute}", sent=f"202604191{minute:03}00+0200", **more)


def test_a_correction_is_put_over_what_it_corrects(desk: Desk) -> None:
    assert run(desk, later("F", 500), MADE).state is State.DELIVERED
    corrected = later("C", 510, lines=answered(SCORES | {"1": 3}, status="C"))
    assert run(desk, corrected, CHANGED, offset=1).state is State.DELIVERED
    assert desk.house.paths() == [f"PUT {PATH}"] * 2
    first, second = (
        orjson.loads(one.body)["entry"][1]["resource"]["valueQuantity"]["value"] for one in desk.house.script.requests
    )
    assert (first, second) == (0, 3)


def test_what_comes_late_does_not_go_over_its_correction(desk: Desk) -> None:
    run(desk, later("C", 520), MADE)
    outcome = run(desk, later("F", 510), offset=1)
    assert (outcome.state, outcome.reason, len(desk.house.paths())) == (State.SUPERSEDED, Reason.STALE, 1)


def test_another_questionnaire_of_the_dossier_is_a_subject_of_its_own(desk: Desk) -> None:
    run(desk, later("F", 520), MADE)
    outcome = run(desk, later("F", 510, number="F-2^EPD"), MADE, offset=1)
    assert (outcome.state, len(set(desk.house.paths()))) == (State.DELIVERED, 2)


def test_what_is_lost_is_the_same_put_again_and_holds_nobody_up(desk: Desk) -> None:
    outcome = run(desk, oru(), LOST, reply(502), MADE)
    assert (outcome.state, outcome.confirmed_by) == (State.DELIVERED, "response")
    assert len({(one.path, one.body) for one in desk.house.script.requests}) == 1
    assert all(wait >= 10 for wait in desk.waits[:2])


def test_what_is_taken_back_waits_for_a_person_where_roqua_has_it_and_is_filtered_where_it_does_not(desk: Desk) -> None:
    assert run(desk, later("D", 500)).reason is Reason.RESULT_NOT_KNOWN
    run(desk, later("F", 510), MADE, offset=1)
    outcome = run(desk, later("D", 520), offset=2)
    assert (outcome.state, outcome.reason, len(desk.house.paths())) == (State.PARKED, Reason.PARTNER_HAS_NO_DELETE, 1)


def test_what_is_not_whole_leaves_no_trace_at_the_partner_and_its_completion_goes(desk: Desk) -> None:
    left = {item: score for item, score in SCORES.items() if item != "Q"}
    outcome = run(desk, later("F", 500, lines=answered(left)))
    assert (outcome.state, outcome.where, desk.house.paths()) == (State.PARKED, "Bundle.entry (item Q)", [])
    assert run(desk, later("F", 510), MADE, offset=1).state is State.DELIVERED
