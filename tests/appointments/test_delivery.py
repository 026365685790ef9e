"""From a topic to what a patient reads: what came later goes over what came before, and nobody sees what is another's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.outcomes import Reason, State
from tests.appointments.agenda import Agenda, Made
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


def pv2(expected: str) -> str:
    return f"PV2||||||||{expected}|"


def adt(trigger: str, day: int, *group: str, visit: str = "V-1^^^HIS", pid: str = PID) -> bytes:
    """A visit's message of that day in March."""
    sent = f"202603{day:02}120000+0100"
    msh = f"MSH|^~\\&|HIS|ZIEKENHUIS|PIPE|MEDMIJ|{sent}||ADT^{trigger}^ADT_A01|M-{trigger}-{day}|P|2.5|||||NLD|UNICODE UTF-8"
    pv1 = f"PV1|1|I|C4^12|||||||0320{'|' * 9}{visit}"
    return "\r".join((msh, f"EVN|{trigger}|{sent}", pid, pv1, *group, "")).encode()


EXPECTED = pv2("20260701080000+0200")
NOT_KNOWN = (State.FILTERED, Reason.APPOINTMENT_NOT_KNOWN)


def test_an_admission_shows_from_when_it_is_announced_to_its_end_and_of_one_that_was_not_nothing_shows(made: Made) -> None:
    """Seen to fail without `only: known` in mappings/events.yaml."""
    agenda = made()
    assert agenda.take(adt("A01", 1, EXPECTED), adt("A08", 2, EXPECTED), adt("A03", 3), adt("A38", 4)) == [NOT_KNOWN] * 4
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
    """Seen to fail without with_times_of (pipeline/appointments/changes.py)."""
    agenda = made()
    moved = pv2("20260708080000+0200")
    assert agenda.take(adt(announced, 1, EXPECTED), adt(announced, 2, moved), adt(cancelled, 3)) == [DELIVERED] * 3
    (seen,) = agenda.sees(BSN)
    assert (seen["status"], seen["start"], seen["end"]) == (
        "cancelled",
        "2026-07-08T08:00:00.000+02:00",
        "2026-07-08T23:59:00.000+02:00",
    )


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
