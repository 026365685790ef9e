"""`appointments persons`, `join`, `part`, `forget`, `audit`: the way out of each refusal, as the runbook has it, and no word of a patient."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import main
from pipeline.partners.medmij.parts import FILLER, own_id
from pipeline.settings import load
from tests.appointments.house import BSN, LOCAL, ROUTE, House, a40, house, siu

Say = Callable[..., tuple[int, str]]
ANNA, BERT = "999911120", "999911132"
DELIVERED = ("delivered", None)


@pytest.fixture
def zuid(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as one:
        yield one


@pytest.fixture
def say(zuid: House, capsys: pytest.CaptureFixture[str]) -> Say:
    """A command; its exit code and all that it printed."""

    def command(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main([*words, "--settings", str(zuid.path)])
        said = capsys.readouterr()
        assert not any(secret in said.out + said.err for secret in ("CANARY", "Vries", ANNA, BERT))
        return code, said.out + said.err

    return command


def keys(*values: str) -> list[str]:
    numbers = (f"{BSN}|{value}" if value in {ANNA, BERT} else f"{LOCAL}|{value}" for value in values)
    return [word for number in numbers for word in ("--key", number)]


def settings_with(zuid: House, **changed: dict[str, Any]) -> None:
    """Its settings with these instead; of a partner, beside what it has."""
    tree = yaml.safe_load(zuid.path.read_text())
    for name, partner in changed.pop("partners", {}).items():
        tree["partners"][name] = tree["partners"].get(name, {}) | partner
    zuid.path.write_text(yaml.safe_dump(tree | changed))
    zuid.settings = load(zuid.path)


def replayed(zuid: House, say: Say, position: str) -> None:
    code, said = say("replay", "plan", "--route", ROUTE, "--position", position)
    assert code == 0, said
    plan = said.split("--plan ")[1].split()[0]
    assert say("replay", "run", "--plan", plan)[0] == 0
    zuid.work()


def test_two_numbers_that_are_one_person_are_joined_and_the_message_goes(zuid: House, say: Say) -> None:
    zuid.work(siu("CANARY-1", "1"), siu("CANARY-2", "2"), siu("CANARY-1^^^ZGDEMO^PI~CANARY-2", "3", at=3))
    both = keys("CANARY-1", "CANARY-2")
    assert "not one person" in say("appointments", "persons", *both)[1]
    dry = say("appointments", "join", *both, "--why", "ticket 12")
    assert (dry[0], dry[1].splitlines()[-1]) == (
        0,
        "they would be one person with 2 appointments; nothing was done: --yes does it",
    )
    assert zuid.seen_by("CANARY-1") == ["1"]
    for last in ("they are one person", "they are one person already: nothing to do"):
        code, said = say("appointments", "join", *both, "--why", "ticket 12", "--yes")
        assert (code, said.splitlines()[-1]) == (0, last)
    replayed(zuid, say, "his.siu/0/2")
    assert zuid.ends() == [DELIVERED] * 3
    assert zuid.seen_by("CANARY-2") == ["1", "2", "3"]


def test_a_merge_of_two_bsns_goes_once_the_wrong_bsn_is_parted(zuid: House, say: Say) -> None:
    zuid.work(siu("CANARY-1", "1", bsn=ANNA), siu("CANARY-2", "2", bsn=BERT), a40("CANARY-2", "CANARY-1"))
    code, said = say("appointments", "join", *keys("CANARY-1", "CANARY-2"), "--why", "ticket 13", "--yes")
    assert (code, "BSN" in said) == (4, True)
    part = ["appointments", "part", *keys(BERT), "--why", "ticket 13"]
    dry = say(*part)
    assert (dry[0], "say --both stay or --both go" in dry[1], "--yes does it" in dry[1]) == (0, True, True)
    assert say(*part, "--yes")[0] == 4
    assert say(*part, "--both", "stay", "--yes")[0] == 0
    assert "nothing to do" in say(*part, "--yes")[1]
    replayed(zuid, say, "his.siu/0/2")
    assert zuid.ends() == [DELIVERED] * 3
    assert (zuid.seen_by(ANNA, BSN), zuid.seen_by(BERT, BSN)) == (["1", "2"], [])


def test_an_appointment_that_is_another_persons_is_taken_from_there_and_comes_again(zuid: House, say: Say) -> None:
    moved = siu("CANARY-1", "1", at=3)
    zuid.work(siu("CANARY-2", "1"))
    zuid.work(moved)
    name = own_id("Appointment", f"{FILLER}AGENDA", "1")
    forget = ["appointments", "forget", "--appointment", name, "--why", "booked on the wrong patient"]
    assert "--yes does it" in say(*forget)[1]
    assert zuid.seen_by("CANARY-2") == ["1"]
    assert say(*forget, "--yes") == (0, "the appointment is removed from 1 person\n")
    assert say(*forget, "--yes") == (0, "there is no such appointment: nothing to do\n")
    replayed(zuid, say, "his.siu/0/1")
    assert (zuid.seen_by("CANARY-1"), zuid.seen_by("CANARY-2")) == (["1"], [])


def test_a_number_that_the_his_gave_to_the_next_patient_shows_with_him_and_the_first_keeps_his(zuid: House, say: Say) -> None:
    before = [siu("CANARY-1", "1"), siu("CANARY-2", "1", at=3), siu("CANARY-1", "1", at=4, trigger="S14")]
    first, parked, late = (each.replace(b"20260301", b"20200301") for each in before)  # before the release by any clock
    zuid.work(first)
    zuid.work(parked)
    assert zuid.ends()[1] == ("parked", "part_of_another")
    name = own_id("Appointment", f"{FILLER}AGENDA", "1")
    release = ["appointments", "release", "--appointment", name, "--why", "number given out again"]
    assert say(*release)[1].startswith("the appointment of 1 person would stay as it is")
    assert say(*release, *keys("CANARY-2"))[1].endswith("there is no such appointment: nothing to do\n")
    assert say(*release, "--yes")[0] == 0
    assert say(*release, "--yes") == (0, "there is no such appointment: nothing to do\n")
    zuid.work(late)
    assert zuid.ends()[2] == ("parked", "part_of_another")
    replayed(zuid, say, "his.siu/0/1")
    zuid.work(siu("CANARY-2", "1", at=5, trigger="S13"))
    assert [zuid.ends()[place] for place in (1, 3)] == [DELIVERED] * 2
    assert (zuid.seen_by("CANARY-1"), zuid.seen_by("CANARY-2")) == (["1"], ["1"])
    zuid.work(siu("CANARY-1", "1", at=9, trigger="S15"))
    assert zuid.ends()[4] == ("parked", "part_of_another")
    assert "released by" in say("appointments", "audit")[1]


def test_of_a_group_one_is_taken_out_by_a_number_of_hers_or_all_are(zuid: House, say: Say) -> None:
    settings_with(zuid, partners={"medmij": {"shared_numbers": "group"}})
    zuid.work(siu("CANARY-1", "1"), siu("CANARY-2", "1"), siu("CANARY-3", "1"))
    name = own_id("Appointment", f"{FILLER}AGENDA", "1")
    forget = ["appointments", "forget", "--appointment", name, "--why", "ticket 15"]
    assert "removed from 3 persons" in say(*forget)[1]
    assert "removed from 1 person\n" in say(*forget, *keys("CANARY-2"), "--yes")[1]
    assert [zuid.seen_by(f"CANARY-{number}") for number in (1, 2, 3)] == [["1"], [], ["1"]]
    assert "removed from 2 persons\n" in say(*forget, "--yes")[1]
    assert [zuid.seen_by(f"CANARY-{number}") for number in (1, 2, 3)] == [[], [], []]


def test_of_a_number_that_moved_nothing_goes_until_somebody_has_said_whose_it_is(zuid: House, say: Say) -> None:
    """A43. What comes under it, and under any number of the two, would show one patient what is the other's."""
    settings_with(zuid, delivery={"hold": 1})
    zuid.work(siu("CANARY-1^^^ZGDEMO^PI~CANARY-2", "1"), a40("CANARY-2", "CANARY-3", at=2, event="A43"))
    zuid.work(
        siu("CANARY-3^^^ZGDEMO^PI~CANARY-2", "2", at=3),
        siu("CANARY-2", "3", at=4),
        siu("CANARY-1", "4", at=5),
        siu("CANARY-4", "5", at=6),
    )
    assert zuid.ends() == [DELIVERED, ("parked", "number_moved"), *[("parked", "blocked_behind")] * 2, DELIVERED, DELIVERED]
    assert zuid.seen_by("CANARY-3") == []
    assert say("appointments", "part", *keys("CANARY-2"), "--both", "stay", "--why", "ticket 17", "--yes")[0] == 0
    zuid.work()
    assert zuid.ends()[2:4] == [("parked", "blocked_behind")] * 2
    assert say("discard", "his.siu/0/1", "--route", ROUTE, "--why", "ticket 17")[0] == 0
    zuid.work()
    assert zuid.ends()[2:] == [DELIVERED] * 4
    assert [zuid.seen_by(f"CANARY-{number}") for number in (1, 2, 3, 4)] == [["1", "4"], ["2", "3"], ["2", "3"], ["5"]]


@pytest.mark.parametrize("partner", ["medmij", "medmij-other"])
def test_a_number_that_moved_on_another_route_into_the_store_holds_as_well(zuid: House, say: Say, partner: str) -> None:
    """Admissions come on a topic of their own, and schedules do not say that a number moved."""
    tree = yaml.safe_load(zuid.path.read_text())
    other = {"partner": partner, "source": "his.adt", "start": "earliest"}
    settings_with(
        zuid,
        partners={"medmij-other": tree["partners"]["medmij"]},
        routes=tree["routes"] | {"admissions": other},
        delivery={"hold": 1},
    )
    zuid.work(siu("CANARY-1^^^ZGDEMO^PI~CANARY-2", "1"))
    zuid.work(a40("CANARY-2", "CANARY-3", at=2, event="A43"), route="admissions")
    zuid.work(siu("CANARY-3^^^ZGDEMO^PI~CANARY-2", "2", at=3), siu("CANARY-1", "3", at=4))
    assert [zuid.seen_by(f"CANARY-{number}") for number in (1, 3)] == [["1", "3"], []]
    assert say("appointments", "part", *keys("CANARY-2"), "--both", "stay", "--why", "ticket 17", "--yes")[0] == 0
    assert say("discard", "his.adt/0/0", "--route", "admissions", "--why", "ticket 17")[0] == 0
    zuid.work()
    assert [zuid.seen_by(f"CANARY-{number}") for number in (1, 2, 3)] == [["1", "3"], ["2"], ["2"]]


def test_whom_a_moved_number_made_one_before_it_was_told_are_two_again(zuid: House, say: Say) -> None:
    """Its new patient's first message has both numbers, and was read before the A43."""
    zuid.work(siu("CANARY-1^^^ZGDEMO^PI~CANARY-2", "1"))
    zuid.work(siu("CANARY-3^^^ZGDEMO^PI~CANARY-2", "2", at=3), a40("CANARY-2", "CANARY-3", at=2, event="A43"))
    assert zuid.ends()[2] == ("parked", "number_moved")
    both, old = keys("CANARY-2", "CANARY-3"), keys("CANARY-1")
    assert "\none person" in say("appointments", "persons", *both, *old)[1]
    part = ["appointments", "part", *both, "--why", "ticket 17"]
    assert "with 1 appointment, and 1 appointment that came with numbers of both sides" in say(*part)[1]
    assert say(*part, "--both", "stay", "--yes")[0] == 0
    assert "\none person" in say("appointments", "persons", *both)[1]
    assert "not one person" in say("appointments", "persons", *both, *old)[1]
    assert [zuid.seen_by(each) for each in ("CANARY-1", "CANARY-2", "CANARY-3")] == [["1"], ["2"], ["2"]]


def test_a_person_is_removed_and_the_audit_says_so_without_a_word_of_whom(zuid: House, say: Say) -> None:
    zuid.work(siu("CANARY-1", "1", bsn=ANNA))
    forget = ["appointments", "forget", *keys("CANARY-1"), "--why", "ticket 14"]
    assert "the person, every number and 1 appointment would be removed" in say(*forget)[1]
    assert say(*forget, "--yes")[0] == 0
    assert "nobody is known by it: nothing to do" in say(*forget, "--yes")[1]
    assert zuid.seen_by(ANNA, BSN) == []
    (line,) = json.loads(say("appointments", "audit", "--json")[1])
    assert (line["did"], line["why"], line["keys"], line["appointments"]) == ("forgotten", "ticket 14", 2, 1)
    assert "forgotten by" in say("appointments", "audit")[1]


def test_what_was_done_and_by_what_message_is_shown_with_the_person(zuid: House, say: Say) -> None:
    zuid.work(siu("CANARY-1", "1"), siu("CANARY-2", "2"), a40("CANARY-2", "CANARY-1"))
    told = json.loads(say("appointments", "persons", *keys("CANARY-1", "CANARY-2"), "--json")[1])
    (one,) = told["persons"]
    assert told["numbers"] == [one["person"]] * 2
    assert (one["numbers"], one["appointments"], [(line["did"], line["who"]) for line in one["done"]]) == (
        2,
        2,
        [("merged", "his.siu/0/2")],
    )


@pytest.mark.parametrize(
    "words",
    [
        ["persons"],
        ["persons", "--key", "CANARY"],
        ["persons", "--key", f"{BSN}|999999999"],
        ["join", "--key", f"{LOCAL}|CANARY", "--why", "one is no pair"],
        ["forget", "--why", "nobody"],
        ["forget", "--key", f"{LOCAL}|CANARY", "--appointment", "", "--why", "not the whole person"],
        ["release", "--key", f"{LOCAL}|CANARY", "--appointment", " ", "--why", "of which appointment"],
        ["part", "--key", f"{LOCAL}|CANARY", "--why", " "],
    ],
)
def test_what_is_not_said_as_it_has_to_be_is_refused(say: Say, words: list[str]) -> None:
    assert say("appointments", *words)[0] == 2


def test_numbers_are_read_from_stdin_where_a_shell_would_keep_them(
    zuid: House, say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    zuid.work(siu("CANARY-1", "1", bsn=ANNA))
    (tmp_path / "numbers").write_text(f"{LOCAL}|CANARY-1\n{BSN}|{ANNA}\n")
    with (tmp_path / "numbers").open() as numbers:
        monkeypatch.setattr("sys.stdin", numbers)
        assert "one person\n" in say("appointments", "persons", "--key", "-")[1]


def test_whose_numbers_are_whose_is_not_changed_in_the_ledger(say: Say, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("kind,system,value,partner_id\n")
    for action, *why in (("import",), ("forget", "--why", "asked")):
        code, said = say("identities", action, "--partner", "medmij", str(tmp_path / "rows.csv"), *why)
        assert (code, "emr-pipeline appointments" in said) == (2, True)


@pytest.mark.parametrize("most", ["0", "-1", "99999999999999999999"])
def test_a_number_of_lines_that_no_database_has_is_refused(say: Say, most: str) -> None:
    code, said = say("appointments", "audit", "--most", most)
    assert (code, "--most" in said) == (2, True)
