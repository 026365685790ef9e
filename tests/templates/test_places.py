"""Where an accepted identity's system came from, and an observation that stands below the second OBR."""

import pytest

from pipeline.hl7.event import typed
from pipeline.model import Identity, Subject
from pipeline.templates.places import place_of, placed_event, placed_identity
from schemas.event import Event, Identifier, Patient
from tests.hl7.samples import ZONE, message


@pytest.mark.parametrize(
    ("cx", "number", "place"),
    [
        (Identifier(value="1", authority="CIP", authority_oid="2.16", type="PI"), "", "PID-3.4"),
        (Identifier(value="1", authority_oid="2.16", type="PI"), "", "PID-3.4.2"),
        (Identifier(value="1", authority="CIP", type="PI"), "", "PID-3.4.1"),
        (Identifier(value="1", type="PI"), "[2]", "PID-3[2].5"),
        (Identifier(value="1"), "", "PID-3"),
    ],
)
def test_the_system_has_the_place_of_what_decided_it(cx: Identifier, number: str, place: str) -> None:
    event = Event.model_construct(patient=Patient(identifiers=(Identifier(value="0"), cx) if number else (cx,)))
    placed = placed_identity(Identity(Subject.PATIENT, "urn:oid:2.16", "1", f"PID-3{number}.1"), event)
    assert (place_of(placed.system), place_of(placed.value)) == (place, f"PID-3{number}.1")


def test_an_identity_of_elsewhere_keeps_its_place() -> None:
    event = Event.model_construct(patient=None)
    placed = placed_identity(Identity(Subject.PATIENT, "urn:oid:2.16", "1", "MRG-1.1"), event)
    assert (place_of(placed.system), place_of(placed.value)) == ("MRG-1.1", "MRG-1.1")


def test_an_observation_knows_which_obx_of_the_message_it_is() -> None:
    early, *obx = [f"OBX|{number}|CWE|q{number}||a{number}^text||||||F" for number in range(1, 6)]
    found = typed(message("PID|||1", early, "OBR|1||F1", *obx[:2], "OBR|2||F2" + "|" * 12 + "key", *obx[2:]), zone=ZONE)[0]
    placed = placed_event(found)
    none, first, second = placed.reports
    assert [place_of(report.filler.value if report.filler else None) for report in placed.reports] == [
        None,
        "OBR-3.1",
        "OBR[2]-3.1",
    ]
    assert second.source is not None
    assert place_of(second.source.code) == "OBR[2]-15.1.1"
    places = [place_of(each.value) for report in (none, first, second) for each in report.observations]
    assert places == ["OBX-5", "OBX[2]-5", "OBX[3]-5", "OBX[4]-5", "OBX[5]-5"]
    coded, code = second.observations[1].coded, second.observations[1].code
    assert coded is not None
    assert code is not None
    assert (place_of(coded.text), place_of(code.code)) == ("OBX[5]-5.2", "OBX[5]-3.1")
