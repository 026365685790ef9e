"""Appointments, SIU: what is written of a schedule is read back, with each note where it belongs; the samples' are what python-hl7 reads."""

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.hl7.er7 import Message
from pipeline.hl7.event import typed
from pipeline.hl7.structure import check
from schemas.event import NULL, Appointment, Event, Timestamp
from schemas.outcomes import FindingCode, Severity
from tests.hl7.samples import ZONE, message, needs_samples
from tests.hl7.test_samples import messages

HEADER = "MSH|^~\\&|AGENDA|ZIEKENHUIS|PIPE|EPD|20260301120000||SIU^S12^SIU_S12|MSG1|P|2.5"
PID = "PID|1||2075^^^ZH^PI||Berg^Jo||19610312|F"
BODY = [
    (
        "SCH|P1^AGENDA|F1^AGENDA^1.2.3^ISO|2||S^schema|E^reden|K^controle|AMB^poli^L|30|min^minuten|^^30^20260620093000+0200^20260620100000+0200"
        "|||||88^Bel&de&Bel^A|^WPN^PH^^^^0301234567||||||||Booked^^HL70278"
    ),
    "NTE|1||Nuchter komen|PI",
    "NTE|2||Regel een~regel \\T\\ twee\\.br\\drie",
    PID,
    "RGS|1|A",
    "AIS|1|A|CT^CT-scan^L|20260620093500+0200|5|min|20|min||Booked",
    "NTE|1||Voor het contrast",
    "AIG|1|A|SCAN1^Scanner 1|EQ^apparaat||||20260620093500+0200|||20|min||Booked",
    "AIP|1|A|0123^de Kiek&de&Kiek^F|ARTS^arts||20260620093000+0200|||30|min||Confirmed",
    "AIL|1|A|POLI^12^^ZH^^^OOST^2^Oost vleugel|C^kliniek||20260620093000+0200|||30|min||Booked",
    "NTE|1||Volg de blauwe lijn",
]


def read(*body: str, header: str = HEADER) -> Event:
    return typed(message(*body, header=header), zone=ZONE)[0]


def booked(*body: str) -> Appointment:
    found = read(*body).appointment
    assert found is not None
    return found


def test_an_appointment_is_read_part_by_part() -> None:
    found = booked(*BODY)
    assert found.placer
    assert found.filler
    assert (found.placer.value, found.filler.value, found.filler.authority_oid, found.occurrence) == ("P1", "F1", "1.2.3", "2")
    assert found.type
    assert found.status
    assert (found.type.code, found.status.code, found.duration, found.start, found.end) == (
        "AMB",
        "Booked",
        "30",
        read("EVN||20260620093000+0200").recorded,
        read("EVN||20260620100000+0200").recorded,
    )
    (service,), (resource,), (person,), (place,) = found.services, found.resources, found.personnel, found.places
    assert (service.code and service.code.text, service.offset, service.duration) == ("CT-scan", "5", "20")
    assert resource.resource
    assert resource.resource.text == "Scanner 1"
    assert person.person
    assert (person.person.identifier, person.person.family, person.person.own_prefix, person.person.own_family) == (
        *("0123", "de Kiek", "de"),
        "Kiek",
    )
    assert place.location
    assert (place.location.point_of_care, place.location.room, place.location.description) == ("POLI", "12", "Oost vleugel")


def test_a_note_belongs_to_the_segment_that_it_stands_behind() -> None:
    found = booked(*BODY)
    assert [(note.nth, note.comment, note.type and note.type.code) for note in found.notes] == [
        (1, "Nuchter komen", "PI"),
        (2, "Regel een\nregel & twee\ndrie", None),
    ]
    assert [note.comment for note in found.services[0].notes] == ["Voor het contrast"]
    assert [note.comment for note in found.places[0].notes] == ["Volg de blauwe lijn"]
    assert (found.resources[0].notes, found.personnel[0].notes) == ((), ())


def test_a_note_of_somebody_else_is_nobodys_here() -> None:
    found = booked("SCH|1", PID, "NTE|1||of the patient", "RGS|1", "NTE|1||of the group", "AIS|1||CT")
    assert (found.notes, found.services[0].notes) == ((), ())


def test_the_times_of_tq1_stand_in_where_sch_has_none_and_nowhere_else() -> None:
    tq1 = "TQ1|1|||||30|20260620093000+0200|20260620100000+0200"
    found = booked("SCH|1", tq1, "NTE|1||here")
    assert (found.start, found.end) == (booked(*BODY).start, booked(*BODY).end)
    assert [note.comment for note in found.notes] == ["here"]
    other = booked("SCH|1||||||||||^^^20260101080000+0100", tq1)
    assert isinstance(other.start, Timestamp)
    assert other.start.datetime == "2026-01-01T08:00:00+01:00"


def test_a_time_that_cannot_be_read_is_absent_with_its_place_and_a_deleted_one_is_deleted() -> None:
    event, found = typed(message("SCH|1||||||||||^^^20260231^20260101080000+0100", header=HEADER), zone=ZONE)
    assert event.appointment
    assert (event.appointment.start, event.appointment.end and event.appointment.end.date) == (None, "2026-01-01")
    assert [(one.code, one.hl7) for one in found if one.code is not FindingCode.ZONE_ASSUMED] == [
        (FindingCode.TIMESTAMP, "SCH-11.4")
    ]
    assert booked('SCH|1||||||||||^^^""').start is NULL


def test_what_stands_behind_a_second_patient_is_still_of_the_appointment() -> None:
    event = read("SCH|1", PID, "PID|2||2076", "RGS|1", "AIS|1||CT")
    assert event.appointment
    assert len(event.appointment.services) == 1
    assert len(event.others) == 1


def test_a_message_without_a_schedule_has_no_appointment() -> None:
    assert read(PID, "AIS|1||CT", "NTE|1||x").appointment is None


TEXT = st.text(alphabet="aZ09 |^~\\\\&é_-.", min_size=1, max_size=8).map(str.strip).filter(bool)
USES = st.lists(st.tuples(st.sampled_from(["AIS", "AIG", "AIP", "AIL"]), TEXT, st.lists(TEXT, max_size=2)), max_size=8)


@given(TEXT, st.lists(TEXT, max_size=2), USES)
def test_what_is_written_of_an_appointment_is_read_back(
    number: str, notes: list[str], uses: list[tuple[str, str, list[str]]]
) -> None:
    escape = message(header=HEADER).escape
    body = [f"SCH||{escape(number)}", *(f"NTE|||{escape(note)}" for note in notes)]
    for segment, code, below in uses:
        body += [f"{segment}|||{escape(code)}", *(f"NTE|||{escape(note)}" for note in below)]
    found = booked(*body)
    assert found.filler
    assert (found.filler.value, [note.comment for note in found.notes]) == (number, notes)
    seen = {
        "AIS": [(one.code and one.code.code, [note.comment for note in one.notes]) for one in found.services],
        "AIG": [(one.resource and one.resource.code, [note.comment for note in one.notes]) for one in found.resources],
        "AIP": [(one.person and one.person.identifier, [note.comment for note in one.notes]) for one in found.personnel],
        "AIL": [(one.location and one.location.point_of_care, [note.comment for note in one.notes]) for one in found.places],
    }
    assert seen == {kind: [(code, below) for segment, code, below in uses if segment == kind] for kind in seen}


@needs_samples
def test_the_samples_appointments_are_those_that_python_hl7_has() -> None:
    compared = 0
    for _, sample in messages():
        found = typed(sample, zone=ZONE)[0].appointment
        if found is None or not sample("MSH-2"):
            continue
        parsed = hl7.parse(sample.encode().decode(sample.codec))
        for kind, parts in (("AIS", found.services), ("AIG", found.resources), ("AIP", found.personnel), ("AIL", found.places)):
            assert len(parts) == sum(str(segment[0]) == kind for segment in parsed)
        assert (found.filler.value if found.filler else None) == _first(parsed, 2, sample)
        compared += 1
    assert compared >= 3


def _first(parsed: hl7.Message, field: int, sample: Message) -> str | None:
    segment = parsed.segment("SCH")
    raw = str(segment[field]) if len(segment) > field else ""
    return raw.split(sample.delimiters.component)[0].strip() or None


@pytest.mark.parametrize("version", ["2.3.1", "2.4", "2.5", "2.5.1"])
def test_the_strict_check_takes_a_siu_as_its_version_has_it(version: str) -> None:
    body = [
        "SCH|1^A|2^A||||R^reden|K^controle|AMB^poli|30|min^minuten|^^30^20260620093000^20260620100000|||||88^Bel^A||||88^Bel^A|||||Booked",
        PID,
        "RGS|1|A",
        "AIS|1|A|CT^CT-scan",
        "AIL|1|A|POLI|C",
    ]
    header = HEADER.replace("|2.5", f"|{version}")
    errors = [each for each in check(message(*body, header=header)) if each.severity is Severity.ERROR]
    assert errors == []
