"""The loop of a watch, on a real bus and a real ledger: each completion once, killed wherever; who is asked, when, and what halts it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BusUnavailable, NoAnswer, Refused
from pipeline.fhir.validator import Release, Validator
from pipeline.health import NotReady
from pipeline.model import Reply, Request
from pipeline.watch.watcher import Watcher
from schemas.outcomes import Reason
from tests.delivery.partner_script import adt
from tests.partners.roqua_recorded import answered, completed, invited
from tests.watch.house import Death, House, Mortal


def later(**other: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON's own types
    return completed(id=5, completed_at="2025-12-01T10:00:00.000+01:00") | other


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path / "house")
    made.partner.responses = {"2075": [completed(), invited(), later()], "2076": [completed(id=6)]}
    return made


ALL = [("2075", 4, "new"), ("2075", 5, "new"), ("2076", 6, "new")]


def test_each_completion_goes_onto_the_topic_once_however_often_it_is_listed(house: House) -> None:
    for _ in range(3):
        assert house.run()
        assert house.there == ALL
    (one, *_) = (json.loads(one.value or b"") for one in house.records if one.key == b"2075")
    assert (one["dossier_id"], "completing_url" in one) == ("2075", False)


def test_a_corrected_one_goes_out_again_and_says_so(house: House) -> None:
    assert house.run()
    house.partner.responses["2075"][0] = completed(values={"v_1": 1})
    for _ in range(2):
        assert house.run()
        assert house.there == sorted([*ALL, ("2075", 4, "corrected")])


def test_what_is_asked_for_is_completed_and_begins_an_overlap_before_the_newest(house: House) -> None:
    assert house.run()
    assert house.run()
    first, second = [query for dossier, query in house.partner.asked if dossier == "2075"]
    assert first == {"status": ["completed"]}
    assert second == {"status": ["completed"], "completed_after": ["2025-11-24T09:00:00.000+00:00"]}


@pytest.mark.parametrize("how", ["before", "after", "half"])
def test_killed_at_any_call_nothing_is_lost_and_nothing_is_there_twice(house: House, tmp_path: Path, how: Any) -> None:  # noqa: ANN401 - a word
    """Guards: the intent before the append; Appender.look_back."""
    fresh = tmp_path / "fresh"
    house.copy(fresh)
    number, lived = 0, False
    while not lived:
        one = _again(fresh, tmp_path / f"{how}-{number}", house)
        death = Death(number, how)
        lived = one.run(death)
        assert one.run(), death.calls
        assert one.there == ALL, (number, death.calls)
        one.partner.responses["2075"][0] = completed(values={"v_1": 1})
        second = Death(number, how)
        one.run(second)
        assert one.run(), second.calls
        assert one.there == sorted([*ALL, ("2075", 4, "corrected")]), (number, second.calls)
        number += 1
    assert number > 8


def _again(fresh: Path, folder: Path, house: House) -> House:
    """As it was before anything ran."""
    made = House.__new__(House)
    made.__dict__.update(house.__dict__)
    house.folder = fresh
    house.copy(folder)
    made.folder = folder
    made.partner = type(house.partner)({key: list(each) for key, each in house.partner.responses.items()})
    return made


def test_an_append_of_which_nobody_knows_what_it_did_is_looked_at_before_it_is_done_again(house: House) -> None:
    """Guard: `tried` in Appender._putting."""

    class Lost(Death):
        lost = 0

        def of(self, name: str, call: Any, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any call
            found = call(*arguments, **named)
            if name == "append" and self.lost < 3:
                self.lost += 1
                raise BusUnavailable("the answer was lost")
            return found

    assert house.run(Lost())
    assert house.there == ALL


def test_as_observations_each_completion_is_a_bundle_of_right_ones(tmp_path: Path) -> None:
    house = House(tmp_path, form="observations", dossiers=["2075"])
    house.partner.responses = {"2075": [completed()]}
    assert house.run()
    house.partner.responses = {"2075": [completed(values={"v_1": 1})]}
    assert house.run()
    first, second = (json.loads(one.value or b"") for one in house.records)
    assert Validator(Release.STU3).check(first) == ()
    assert [{one["resource"]["status"] for one in bundle["entry"]} for bundle in (first, second)] == [{"final"}, {"corrected"}]
    assert first["entry"][0]["fullUrl"] == second["entry"][0]["fullUrl"]


def test_the_dossiers_of_a_topics_patients_are_asked_for_and_remembered(tmp_path: Path) -> None:
    house = House(tmp_path, source="his.adt")
    house.partner.responses = {"P1": [completed()], "P2": [later()]}
    house.send(adt(patient="P1"), b"no message", adt(patient="P2"), adt(patient="P1", authority="OTHER"), adt(patient="P3"))
    assert house.run()
    assert [one[:2] for one in house.there] == [("P1", 4), ("P2", 5)]
    assert sorted(dossier for dossier, _ in house.partner.asked) == ["P1", "P2", "P3"]
    assert house.run()
    assert sorted(dossier for dossier, _ in house.partner.asked) == sorted(["P1", "P2", "P3"] * 2)


@pytest.mark.parametrize("number", ["..", "."])
def test_a_patients_number_that_no_url_can_say_is_not_asked_for_and_stops_nobody_elses(
    tmp_path: Path, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House(tmp_path, source="his.adt")
    house.partner.responses = {"P1": [completed()], "P2": [later()]}
    house.send(adt(patient=number), adt(patient="P1"), adt(patient=number))
    assert house.run()
    house.send(adt(patient="P2"))
    assert house.run()
    assert [one[:2] for one in house.there] == [("P1", 4), ("P2", 5)]
    assert {dossier for dossier, _ in house.partner.asked} == {"P1", "P2"}
    assert "watch_not_read" in capsys.readouterr().err


def test_from_now_counts_from_when_a_dossier_was_first_known(tmp_path: Path) -> None:
    house = House(tmp_path, dossiers=["2075"], **{"from": "now"})
    after = later(completed_at="2026-01-02T10:00:00.000+01:00")
    house.partner.responses = {"2075": [completed(), after]}
    assert house.run()
    assert house.there == [("2075", 5, "new")]
    assert house.partner.asked[0][1]["completed_after"] == ["2026-01-01T00:00:00.000+00:00"]


def test_from_a_time_counts_from_there(tmp_path: Path) -> None:
    house = House(tmp_path, dossiers=["2075"], **{"from": "2025-06-01T00:00:00+02:00"})
    house.partner.responses = {"2075": [completed(), later()]}
    assert house.run()
    assert house.there == [("2075", 5, "new")]


def test_a_dossier_that_is_taken_off_the_list_is_asked_for_no_more(house: House) -> None:
    assert house.run()
    house.settings = house.settings.model_copy(update={"dossiers": ("2076",)})
    house.partner.asked.clear()
    assert house.run()
    assert [dossier for dossier, _ in house.partner.asked] == ["2076"]


def test_a_partner_without_the_dossier_or_with_another_idea_of_the_question_is_said_once(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.partner.responses = {}
    assert house.run()
    house.partner.answers = [answered(b'{"errors":{"completed_after":["canary"]}}', 422)]
    assert house.run()
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["reason"] for one in said if one["event"] == "watch_not_read"] == [
        "target_unknown",
        "rejected_other",
        "target_unknown",
    ]
    assert "2075" not in str(said)
    assert "canary" not in str(said)


def test_what_fails_for_a_while_is_asked_again(house: House) -> None:
    house.partner.answers = [answered(b"", 503), NoAnswer(Reason.TIMEOUT), answered(b"<html>", 200), answered(b"", 429)]
    assert house.run()
    assert house.there == ALL


@pytest.mark.parametrize("status", [401, 403])
def test_a_partner_that_refuses_us_halts_and_a_drain_ends(house: House, capsys: pytest.CaptureFixture[str], status: int) -> None:
    house.partner.answers = [answered(b"", status)] * 100
    with pytest.raises(Refused, match="refuses us as a whole"):
        house.run()
    assert len(house.partner.asked) == 1
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["reason"] for one in said if one["event"] == "route_halted"] == ["refused_client"]
    assert house.there == []


def test_a_halted_watch_goes_on_by_itself_when_that_is_mended(house: House) -> None:
    house.partner.answers = [answered(b"", 401)] * 3
    watchers: list[Watcher] = []
    stop_at(house, 5, watchers)
    assert house.run(drain=False, prepare=watchers.append)
    assert house.there == ALL
    assert watchers[0].reasons() == [NotReady.WORKER_STOPPED]


def stop_at(house: House, number: int, watchers: list[Watcher]) -> None:
    """A stop comes while this question is on its way."""
    exchange = house.partner.exchange

    def stopping(request: Request) -> Reply:
        if len(house.partner.asked) == number - 1:
            watchers[0].stop.set()
        return exchange(request)

    house.partner.exchange = stopping  # type: ignore[method-assign]


def test_a_stop_in_the_middle_of_a_question_ends_after_it(house: House) -> None:
    watchers: list[Watcher] = []
    stop_at(house, 1, watchers)
    assert house.run(drain=False, prepare=watchers.append)
    assert {one[0] for one in house.there} in ({"2075"}, {"2076"})
    watchers.clear()
    assert house.run(prepare=watchers.append)
    assert house.there == ALL


def test_another_process_on_the_same_ledger_is_refused(house: House) -> None:
    first, second = house.ledger(), house.ledger()
    first.claim("roqua-watch", "emr-pipeline.roqua-watch", "roqua")
    with house.bus() as bus, pytest.raises(Refused):
        house.watcher(bus, second).run()
    first.close()
    second.close()


def test_no_dossier_value_or_link_stands_in_the_ledger_or_in_a_header(house: House) -> None:
    house.partner.responses = {"2075": [completed(questionnaire_name="canary-name", values={"v_1": "canary-value"})]}
    house.settings = house.settings.model_copy(update={"dossiers": ("canary-dossier",)})
    house.partner.responses["canary-dossier"] = house.partner.responses["2075"]
    assert house.run()
    written = b"".join(path.read_bytes() for path in house.folder.glob("ledger.sqlite*"))
    assert b"canary" not in written
    assert all(b"canary" not in value for one in house.records for _, value in one.headers)


def test_a_mortal_house_lives_where_nothing_kills_it(house: House) -> None:
    death = Death()
    assert house.run(death)
    assert {"take", "learn", "begin", "append", "done", "polled"} == set(death.calls)
    assert Mortal(house, death, frozenset()).folder == house.folder
