"""Where an accepted identity's system came from."""

import pytest

from pipeline.model import Identity, Subject
from pipeline.templates.places import place_of, placed_identity
from schemas.event import Event, Identifier, Patient


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
