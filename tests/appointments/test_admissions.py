"""Messages of one admission in whichever order they come: what its patient reads is what they say in the order in which they happened."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.outcomes import Reason, State
from tests.appointments.agenda import Agenda, Made
from tests.appointments.visits import EXPECTED, MOVED, adt, pv2
from tests.partners.medmij_samples import BSN

DELIVERED = (State.DELIVERED, None)
STALE = (State.SUPERSEDED, Reason.STALE)
FIRST = "2026-07-01T08:00:00.000+02:00"
SECOND = "2026-07-08T08:00:00.000+02:00"
BERT = "PID|1||99000112^^^ZGDEMO^PI~999911132^^^NLMINBIZA^NNNLD||Bos^Bert||19700203|M"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    agendas: list[Agenda] = []

    def make(**settings: object) -> Agenda:
        agendas.append(Agenda(tmp_path, **settings))
        return agendas[-1]

    yield make
    for one in agendas:
        one.close()


def shown(agenda: Agenda, value: str = BSN) -> list[tuple[str, str | None]]:
    return [(one["status"], one.get("start")) for one in agenda.sees(value)]


# a cancel that comes first


@pytest.mark.parametrize(("announced", "cancelled"), [("A05", "A38"), ("A14", "A27")])
@pytest.mark.parametrize("told", [(), (EXPECTED,)])
def test_what_was_cancelled_before_its_announcement_is_read_never_shows_as_booked(
    made: Made, announced: str, cancelled: str, told: tuple[str, ...]
) -> None:
    """Seen to fail with `only: known` of A27 and A38, and without what is remembered (pipeline/appointments/writes.py)."""
    agenda = made()
    assert agenda.take(adt(cancelled, 2, *told)) == [DELIVERED]
    assert shown(agenda) == ([("cancelled", FIRST)] if told else [])
    assert agenda.take(adt(announced, 1, EXPECTED))[1] == (STALE if told else DELIVERED)
    assert shown(agenda) == [("cancelled", FIRST)]
    assert agenda.take(adt(announced, 3, MOVED))[2] == DELIVERED
    assert shown(agenda) == [("booked", SECOND)]


def test_a_cancel_without_a_time_links_nobody_and_shows_nothing(made: Made) -> None:
    agenda = made()
    assert agenda.take(adt("A38", 2), adt("A01", 3, EXPECTED)) == [DELIVERED, (State.FILTERED, Reason.APPOINTMENT_NOT_KNOWN)]
    assert agenda.store.person(agenda.pseudonyms.person("http://fhir.nl/fhir/NamingSystem/bsn", BSN)) is None


def test_what_was_cancelled_for_another_patient_is_booked_for_this_one(made: Made) -> None:
    """Seen to fail without the keys in _of_keys (pipeline/appointments/writes.py)."""
    agenda = made()
    assert agenda.take(adt("A38", 2, pid=BERT), adt("A05", 1, EXPECTED)) == [DELIVERED] * 2
    assert shown(agenda) == [("booked", FIRST)]


def test_what_was_deleted_before_its_announcement_is_read_shows_nothing_and_then_as_deleted(made: Made) -> None:
    agenda = made()
    assert agenda.take(adt("A23", 2, EXPECTED)) == [DELIVERED]
    assert shown(agenda) == []
    assert agenda.take(adt("A05", 1, EXPECTED))[1] == DELIVERED
    assert shown(agenda) == [("entered-in-error", FIRST)]


# updates


def test_an_update_of_a_pending_visit_announces_it_where_the_announcement_had_no_time(made: Made) -> None:
    """Seen to fail without the row of class P in mappings/events.yaml."""
    agenda = made()
    nothing = (State.FILTERED, Reason.EXPECTED_MISSING)
    pending = {"patient_class": "P"}
    assert agenda.take(adt("A05", 1), adt("A08", 2, **pending), adt("A08", 3, EXPECTED, **pending)) == [
        nothing,
        nothing,
        DELIVERED,
    ]
    assert shown(agenda) == [("booked", FIRST)]
    assert agenda.take(adt("A38", 4), adt("A08", 5, MOVED, **pending))[3:] == [DELIVERED] * 2
    assert shown(agenda) == [("cancelled", SECOND)]


def test_an_update_of_a_pending_visit_does_not_book_what_was_cancelled_unseen(made: Made) -> None:
    agenda = made()
    assert agenda.take(adt("A38", 1), adt("A08", 2, EXPECTED, patient_class="P")) == [DELIVERED] * 2
    assert shown(agenda) == [("cancelled", FIRST)]


ADMITTED = {"admitted": "20260701081200+0200"}
LEFT = ADMITTED | {"discharged": "20260703104500+0200"}


def test_an_update_undoes_no_event_and_tells_of_none_that_was_taken_back(made: Made) -> None:
    """Seen to fail with `status` for `least`, and with `status` for `again` (pipeline/partners/medmij/admissions.py)."""
    agenda, seen = made(), []
    story = (
        adt("A05", 1, EXPECTED),
        adt("A08", 2, EXPECTED, **ADMITTED),  # no A01 came: the update tells
        adt("A03", 3, EXPECTED, **LEFT),
        adt("A08", 4, EXPECTED, **ADMITTED),
        adt("A13", 5, EXPECTED, **LEFT),
        adt("A08", 6, EXPECTED, **LEFT),
        adt("A11", 7, EXPECTED, **ADMITTED),
        adt("A08", 8, EXPECTED, **ADMITTED),
        adt("A38", 9, EXPECTED),
        adt("A08", 10, EXPECTED, **ADMITTED),
    )
    for message in story:
        assert agenda.take(message)[-1] == DELIVERED
        seen += agenda.statuses(BSN)
    assert seen == [
        *("booked", "arrived", "fulfilled", "fulfilled", "arrived"),
        *("arrived", "booked", "booked", "cancelled", "cancelled"),
    ]


# messages without a time


def test_an_event_without_any_time_leaves_the_time_that_was_told(made: Made) -> None:
    """Seen to fail without the marks (mappings/medmij/appointment.json.j2)."""
    agenda, seen = made(), []
    for day, trigger in enumerate(("A05", "A01", "A11", "A04", "A03", "A13"), 1):
        group = (EXPECTED,) if trigger == "A05" else ()
        assert agenda.take(adt(trigger, day, *group))[-1] == DELIVERED
        seen += shown(agenda)
    assert seen == [(status, FIRST) for status in ("booked", "arrived", "booked", "arrived", "fulfilled", "arrived")]
    assert "_start" not in agenda.sees(BSN)[0]


def test_what_was_taken_back_is_no_time_of_the_admission(made: Made) -> None:
    agenda = made()
    assert agenda.take(adt("A05", 1, EXPECTED), adt("A01", 2, **ADMITTED), adt("A11", 3, **ADMITTED)) == [DELIVERED] * 3
    assert [status for status, _ in shown(agenda)] == ["booked"]


def test_an_event_whose_time_nobody_ever_told_parks_and_says_so(made: Made) -> None:
    """Seen to fail without Untimed (pipeline/appointments/told.py)."""
    agenda = made()
    assert agenda.take(adt("A05", 1, pv2('""')), adt("A01", 2)) == [DELIVERED, (State.PARKED, Reason.TIME_MISSING)]
    assert shown(agenda) == [("proposed", None)]
    assert agenda.take(adt("A05", 3, EXPECTED))[1:] == [(State.SUPERSEDED, Reason.OLDER_SNAPSHOT), DELIVERED]
    assert shown(agenda) == [("booked", FIRST)]


# any order


ANNOUNCE = ("A05", "A08")
"""A08 of a pending visit: it announces as well."""
ANYWHERE = (*ANNOUNCE, "A27", "A38", "A23")
TIMES = tuple(f"202607{day:02}080000+0200" for day in range(1, 4))
Told = tuple[int, str, str | None]
"""Day, event, when the patient is expected."""
History = tuple[list[Told], list[Told]]
"""What happened in its order, and an order in which it comes."""
LATE_CANCEL: History = (
    [(1, "A05", TIMES[0]), (2, "A38", None), (3, "A08", TIMES[1])],
    [(1, "A05", TIMES[0]), (3, "A08", TIMES[1]), (2, "A38", None)],
)
LATE_MOVE: History = (
    [(1, "A05", TIMES[0]), (2, "A08", TIMES[1]), (3, "A38", None)],
    [(3, "A38", None), (2, "A08", TIMES[1]), (1, "A05", TIMES[0])],
)
LATE_START: History = (
    [(1, "A05", TIMES[0]), (2, "A05", TIMES[1]), (3, "A03", None), (4, "A13", None)],
    [(1, "A05", TIMES[0]), (4, "A13", None), (3, "A03", None), (2, "A05", TIMES[1])],
)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """What only goes of what is known comes behind an announcement."""
    triggers = draw(st.lists(st.sampled_from(["A05", "A08", "A38", "A01", "A11", "A03", "A13", "A23"]), min_size=2, max_size=6))
    days: list[Told] = [(1, "A05", TIMES[0])]
    for day, trigger in enumerate(triggers, 2):
        days.append((day, trigger, draw(st.sampled_from(TIMES if trigger in ANNOUNCE else [None, *TIMES]))))
    shuffled = draw(st.permutations(days))
    first = next(index for index, (_, trigger, _) in enumerate(shuffled) if trigger in ANNOUNCE)
    before = shuffled[:first]
    anywhere, known = ([one for one in before if (one[1] in ANYWHERE) is which] for which in (True, False))
    return days, [*anywhere, shuffled[first], *known, *shuffled[first + 1 :]]


OF_WORDS = ("status", "start", "end")


def shows_at_once(message: Told) -> bool:
    _, trigger, when = message
    return trigger in ANNOUNCE or (trigger == "A38" and when is not None)


def visit_of(story: list[Told], number: str) -> list[bytes]:
    return [
        adt(
            trigger, day, *((pv2(when),) if when else ()), visit=f"{number}^^^HIS", patient_class="P" if trigger == "A08" else "I"
        )
        for day, trigger, when in story
    ]


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example(several=[LATE_CANCEL, LATE_MOVE, LATE_START])
@given(several=st.lists(histories(), min_size=4, max_size=4))
def test_any_order_of_an_admissions_messages_ends_as_their_own(
    tmp_path_factory: pytest.TempPathFactory, several: list[History]
) -> None:
    """Seen to fail without `older: goes` in mappings/events.yaml, and without what comes late (_told_late, pipeline/appointments/writes.py)."""
    agenda = Agenda(tmp_path_factory.mktemp("any"))
    for number, (happened, came) in enumerate(several):
        agenda.take(*visit_of(happened, f"H-{number}"), *visit_of(came, f"C-{number}"))
    seen = {one["identifier"][0]["value"]: one for one in agenda.sees(BSN)}
    agenda.close()
    for number, (_, came) in enumerate(several):
        in_order, as_it_came = (seen[f"{kind}-{number}"] for kind in "HC")
        # of a cancel that showed nothing only its word was kept: not whom it names
        names = OF_WORDS if not shows_at_once(came[0]) else in_order.keys() - {"id", "identifier"}
        assert [as_it_came.get(name) for name in names] == [in_order.get(name) for name in names]
