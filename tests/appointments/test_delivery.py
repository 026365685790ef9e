"""From a topic to what a patient reads: what came later goes over what came before, and nobody sees what is another's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.outcomes import Reason, State
from tests.appointments.agenda import LOCAL, Agenda, Made
from tests.appointments.visits import EXPECTED, adt, pv2
from tests.partners.medmij_samples import BSN, PID, siu

DELIVERED = (State.DELIVERED, None)
MARCH_MS = 1_772_362_800_000
"""2026-03-01T12:00:00+01:00, when the records of a test are made."""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    agendas: list[Agenda] = []

    def make(**settings: object) -> Agenda:
        agendas.append(Agenda(tmp_path, **settings))
        return agendas[-1]

    yield make
    for one in agendas:
        one.close()


# admissions


NOT_KNOWN = (State.FILTERED, Reason.APPOINTMENT_NOT_KNOWN)


def test_an_admission_shows_from_when_it_is_announced_to_its_end_and_of_one_that_was_not_nothing_shows(made: Made) -> None:
    """Seen to fail without `only: known` in mappings/events.yaml."""
    agenda = made()
    assert agenda.take(adt("A01", 1, EXPECTED), adt("A08", 2, EXPECTED), adt("A03", 3), adt("A13", 4)) == [NOT_KNOWN] * 4
    assert agenda.sees(BSN) == []
    seen: list[str] = []
    for trigger in ("A05", "A05", "A01", "A11", "A01", "A03", "A13", "A03"):
        assert agenda.take(adt(trigger, 5 + len(seen), EXPECTED, visit="V-2^^^HIS"))[-1] == DELIVERED
        seen += agenda.statuses(BSN)
    assert seen == ["booked", "booked", "arrived", "booked", "arrived", "fulfilled", "arrived", "fulfilled"]


@pytest.mark.parametrize(("announced", "cancelled"), [("A05", "A38"), ("A14", "A27"), ("A05", "A23")])
def test_what_is_cancelled_is_found_where_it_was_though_the_message_says_nothing_of_when(
    made: Made, announced: str, cancelled: str
) -> None:
    """Seen to fail without `times` among the words (pipeline/appointments/told.py)."""
    agenda = made()
    moved = pv2("20260708080000+0200")
    assert agenda.take(adt(announced, 1, EXPECTED), adt(announced, 2, moved), adt(cancelled, 3)) == [DELIVERED] * 3
    (seen,) = agenda.sees(BSN)
    assert (seen["status"], seen["start"], seen["end"]) == (
        "cancelled",
        "2026-07-08T08:00:00.000+02:00",
        "2026-07-08T23:59:00.000+02:00",
    )


def test_an_update_leaves_what_became_of_an_admission_unless_the_visit_says_it(made: Made) -> None:
    """Seen to fail with `status` for whatever an A08 says (pipeline/partners/medmij/admissions.py)."""
    agenda, seen = made(), []
    admitted = adt("A01", 2, EXPECTED)
    for message in (adt("A05", 1, EXPECTED), admitted, adt("A08", 3, EXPECTED), adt("A11", 4, EXPECTED), adt("A08", 5, EXPECTED)):
        assert agenda.take(message)[-1] == DELIVERED
        seen += agenda.statuses(BSN)
    assert seen == ["booked", "arrived", "arrived", "booked", "booked"]
    assert agenda.take(adt("A38", 6), adt("A08", 7, pv2("20260708080000+0200")))[5:] == [DELIVERED] * 2
    (cancelled,) = agenda.sees(BSN)
    assert (cancelled["status"], cancelled["start"]) == ("cancelled", "2026-07-08T08:00:00.000+02:00")


def test_an_update_makes_no_admission_needless_that_waits_before_it(made: Made) -> None:
    """Seen to fail with A08 as a snapshot in mappings/events.yaml."""
    agenda = made()
    assert agenda.take(adt("A05", 1, EXPECTED), adt("A01", 2, EXPECTED), adt("A08", 3, EXPECTED)) == [DELIVERED] * 3
    assert agenda.statuses(BSN) == ["arrived"]


def test_what_is_cancelled_shows_so_though_a_message_before_waits_for_a_person(made: Made) -> None:
    """Seen to fail without `behind: pass` in mappings/events.yaml."""
    agenda = made()
    ends = agenda.take(adt("A05", 1, EXPECTED), adt("A05", 2, pv2("20260701")), adt("A38", 3))
    assert ends == [DELIVERED, (State.PARKED, Reason.TIME_MISSING), DELIVERED]
    assert agenda.statuses(BSN) == ["cancelled"]


def test_a_visit_and_an_appointment_of_the_same_number_and_authority_are_two(made: Made) -> None:
    agenda = made()
    assert (
        agenda.take(siu(number="1^HIS"), adt("A05", 2, EXPECTED, visit="1^^^HIS"), adt("A38", 3, visit="1^^^HIS"))
        == [DELIVERED] * 3
    )
    assert agenda.statuses(BSN) == ["booked", "cancelled"]


def test_an_admission_that_comes_while_its_announcement_waits_for_a_person_waits_behind_it(made: Made) -> None:
    agenda = made()
    ends = agenda.take(adt("A05", 1, pv2("20260701")), adt("A01", 2, EXPECTED))
    assert ends == [(State.PARKED, Reason.TIME_MISSING), (State.PARKED, Reason.BLOCKED_BEHIND)]


def test_what_says_nothing_of_when_leaves_what_was_announced(made: Made) -> None:
    agenda = made()
    nothing = (State.FILTERED, Reason.EXPECTED_MISSING)
    assert agenda.take(adt("A05", 1, EXPECTED), adt("A05", 2), adt("A08", 3)) == [DELIVERED, nothing, nothing]
    assert agenda.statuses(BSN) == ["booked"]


# one schedule, several patients

OTHER = "999911132"
BERT = f"PID|1||99000112^^^ZGDEMO^PI~{OTHER}^^^NLMINBIZA^NNNLD||Bos^Bert||19700203|M"


def at(trigger: str, minute: int, pid: str = PID, **more: str) -> bytes:
    return siu(trigger, pid=pid, sent=f"202603011200{minute:02}+0100", **more)


def test_a_schedule_that_another_patient_has_booked_parks_and_nobody_sees_more(made: Made) -> None:
    agenda = made()
    parked = (State.PARKED, Reason.PART_OF_ANOTHER)
    assert agenda.take(at("S12", 1), at("S12", 2, BERT), at("S14", 3)) == [DELIVERED, parked, DELIVERED]
    assert (agenda.statuses(BSN), agenda.statuses(OTHER)) == (["booked"], [])


def test_a_schedule_that_was_taken_back_from_a_wrong_patient_goes_to_the_right_one(made: Made) -> None:
    """Seen to fail without is_over (pipeline/appointments/changes.py)."""
    agenda = made()
    assert agenda.take(at("S12", 1), at("S15", 2, status="Cancelled")) == [DELIVERED] * 2
    assert agenda.take(at("S12", 3, BERT), at("S13", 4, BERT)) == [DELIVERED] * 4
    assert (agenda.statuses(BSN), agenda.statuses(OTHER)) == (["cancelled"], ["booked"])


def test_each_of_a_group_has_a_copy_of_its_own_that_follows_its_own_messages(made: Made) -> None:
    """Seen to fail with `subjects` where `compared` stands (pipeline/model.py)."""
    agenda = made(shared_numbers="group")
    assert agenda.take(at("S12", 5), at("S12", 4, BERT), at("S15", 6, BERT, status="Cancelled")) == [DELIVERED] * 3
    (anna,), (bert,) = agenda.sees(BSN), agenda.sees(OTHER)
    assert (anna["status"], bert["status"]) == ("booked", "cancelled")
    assert anna["id"] != bert["id"]
    shown = json.dumps([anna, bert])
    assert (shown.count("Bert Bos"), "Bert" in json.dumps(anna), "Anna" in json.dumps(bert)) == (1, False, False)
    assert agenda.take(at("S14", 7, BERT), at("S17", 8))[3:] == [DELIVERED] * 2
    assert (agenda.statuses(BSN), agenda.statuses(OTHER)) == (["entered-in-error"], ["booked"])
    assert agenda.take(at("S13", 1, BERT))[5] == (State.SUPERSEDED, Reason.STALE)


ANNA_ELSEWHERE = f"PID|2||99000199^^^ZGDEMO^PI~{BSN}^^^NLMINBIZA^NNNLD||de Vries^Anna"


@pytest.mark.parametrize("second", [ANNA_ELSEWHERE, PID.replace("PID|1", "PID|2")])
def test_a_schedule_whose_several_pid_share_a_number_is_one_patients(made: Made, second: str) -> None:
    """Seen to fail where every further PID parks (pipeline/stages/route.py)."""
    agenda = made()
    assert agenda.take(at("S12", 1, f"{PID}\r{second}")) == [DELIVERED]
    assert agenda.statuses(BSN) == ["booked"]
    assert agenda.statuses("99000199", LOCAL) == (["booked"] if "99000199" in second else [])


@pytest.mark.parametrize(
    ("others", "end"),
    [
        ([BERT], (State.PARKED, Reason.SEVERAL_PATIENTS)),
        ([ANNA_ELSEWHERE, BERT], (State.PARKED, Reason.SEVERAL_PATIENTS)),
        ([f"PID|2||99000111^^^ZGDEMO^PI~{OTHER}^^^NLMINBIZA^NNNLD||Bos^Bert"], (State.PARKED, Reason.IDENTITY_CONFLICT)),
    ],
)
def test_a_schedule_of_several_patients_parks_and_nobody_sees_it(
    made: Made, others: list[str], end: tuple[State, Reason]
) -> None:
    agenda = made(shared_numbers="group")
    assert agenda.take(at("S12", 1, "\r".join([PID, *others]))) == [end]
    assert (agenda.sees(BSN), agenda.sees(OTHER)) == ([], [])


def test_who_booked_first_keeps_the_id_that_it_has_without_the_setting(
    made: Made, tmp_path_factory: pytest.TempPathFactory
) -> None:
    alone, group = made(), Agenda(tmp_path_factory.mktemp("group"), shared_numbers="group")
    for agenda in (alone, group):
        agenda.take(at("S12", 1))
    assert alone.sees(BSN) == group.sees(BSN)
    group.close()


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([PID, BERT]), st.sampled_from(["S12", "S14", "S15", "S17"])), min_size=1, max_size=5))
def test_whatever_comes_of_a_group_each_sees_one_appointment_with_nobody_elses_name(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, str]]
) -> None:
    agenda = Agenda(tmp_path_factory.mktemp("group"), shared_numbers="group")
    agenda.take(*(at(trigger, minute, pid) for minute, (pid, trigger) in enumerate(story)))
    for value, name, pid in ((BSN, "Anna", PID), (OTHER, "Bert", BERT)):
        seen = agenda.sees(value)
        mine = [trigger for one, trigger in story if one == pid]
        assert len(seen) == bool(mine)
        if mine:
            ends = {"S12": "booked", "S14": "booked", "S15": "cancelled", "S17": "entered-in-error"}
            assert seen[0]["status"] == ends[mine[-1]]
            names = [one["actor"]["display"] for one in seen[0]["participant"] if "Patient" in one["actor"]["reference"]]
            assert [one.partition(" ")[0] for one in names] == [name]
    agenda.close()


# a clock that is ahead


def test_a_message_of_a_clock_that_is_years_ahead_keeps_no_later_one_out(made: Made) -> None:
    """Seen to fail with the guard of stages/route.py switched off, and with that of appointments/writes.py."""
    agenda = made()
    ahead, later, older = siu("S12", sent="20990101000000"), siu("S15", sent="20260301115900+0100"), siu("S14")
    assert agenda.take(ahead, later, at_ms=MARCH_MS) == [DELIVERED] * 2
    assert agenda.statuses(BSN) == ["cancelled"]
    assert agenda.take(siu("S14", sent="20260201120000+0100"), at_ms=MARCH_MS)[2] == (State.SUPERSEDED, Reason.STALE)
    assert agenda.take(siu("S26", sent="20990101000000"), at_ms=MARCH_MS)[3:] == [DELIVERED]
    assert agenda.statuses(BSN) == ["noshow"]
    assert agenda.take(older, at_ms=MARCH_MS)[4:] == [DELIVERED]
    assert agenda.statuses(BSN) == ["booked"]
