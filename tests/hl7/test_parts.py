"""Parts built without validation are what pydantic makes of the same members; an event of which only a part is read has that part as the
whole has it, and nothing else.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.errors import Parked
from pipeline.hl7.batch import split
from pipeline.hl7.er7 import Message, parse
from pipeline.hl7.event import typed
from pipeline.hl7.parts import absent, built
from schemas.event import (
    Appointment,
    Coverage,
    Diagnosis,
    Event,
    Identifier,
    Merge,
    Note,
    Observation,
    Patient,
    PatientGroup,
    Personnel,
    Place,
    Report,
    Resource,
    Service,
    Timestamp,
    Visit,
)
from schemas.outcomes import FindingCode
from tests.hl7.samples import ZONE, files, message, needs_samples

OWNERS = (
    *(Event, Patient, PatientGroup, Visit, Diagnosis, Coverage, Merge, Report, Observation),
    *(Appointment, Service, Resource, Personnel, Place, Note),
)
"""The message and its segments: `only` chooses among their fields."""
ALWAYS = frozenset({"nth"})
"""What says where a part stands is there whenever the part is."""
NAMES = sorted({name for model in OWNERS for name in model.model_fields})
TEXT = st.text(alphabet='aB1 é\\"^&~.+', max_size=8) | st.sampled_from(
    [
        "20240502101530+0200",
        "19800203",
        "202410270230",
        "20240331023000",
        "nonsense",
        '""',
        "A^B^C^D&1.2&ISO^MR",
        "x\\S\\y",
        "2024^D",
        "CWE",
        "NM",
    ]
)
SEGMENT = st.builds(
    lambda name, fields: "|".join([name, *fields]),
    st.sampled_from(
        [
            *("EVN", "PID", "MRG", "PV1", "PV2", "DG1", "IN1", "OBR", "OBX", "OBX", "ZPI"),
            *("SCH", "TQ1", "NTE", "AIS", "AIG", "AIP", "AIL"),
        ]
    ),
    st.lists(TEXT, max_size=50),
)
MESSAGES = st.lists(SEGMENT, max_size=10).map(lambda segments: message(*segments))


def members(value: Any) -> Any:  # noqa: ANN401 - any part
    """A built value as plain members: what validation would be given."""
    if isinstance(value, BaseModel) and not isinstance(value, Timestamp):
        return {name: members(getattr(value, name)) for name in value.model_fields_set}
    return tuple(members(item) for item in value) if isinstance(value, tuple) else value


def validated(event: Event) -> Event:
    return Event.model_validate(members(event), strict=True)


def public_messages() -> list[Message]:
    found = []
    for path in files():
        for item in split(path.read_bytes()):
            try:
                found.append(parse(item, charset="utf-8"))
            except Parked:  # refused, which other tests look at
                continue
    return found


@given(MESSAGES)
def test_a_built_event_is_the_validated_one(made: Message) -> None:
    event = typed(made, zone=ZONE)[0]
    assert event == validated(event)
    assert event.model_dump() == validated(event).model_dump()


@needs_samples
def test_the_built_events_of_all_public_samples_are_the_validated_ones() -> None:
    events = [typed(each, zone=ZONE)[0] for each in public_messages()]
    assert len(events) > 100
    assert [event for event in events if event != validated(event)] == []


def test_a_built_part_can_be_copied_compared_and_hashed_and_not_changed() -> None:
    part = built(Identifier, absent(Identifier), {"value": "1"})
    assert (part, hash(part), part.model_copy(update={"type": "MR"})) == (
        Identifier(value="1"),
        hash(Identifier(value="1")),
        Identifier(value="1", type="MR"),
    )
    with pytest.raises(ValueError, match="frozen"):
        part.value = "2"


def read_of(whole: Any, part: Any, only: frozenset[str]) -> None:  # noqa: ANN401 - any part
    """Hold what was read against the whole, and see that nothing else is there."""
    if isinstance(whole, tuple):
        assert len(whole) == len(part)
        for one, other in zip(whole, part, strict=True):
            read_of(one, other, only)
    elif isinstance(whole, OWNERS):
        assert set(part.__dict__) == set(type(whole).model_fields) & (only | ALWAYS)
        for name in part.__dict__:
            read_of(getattr(whole, name), getattr(part, name), only)
    else:
        assert (type(whole), whole) == (type(part), part)


@given(MESSAGES, st.frozensets(st.sampled_from(NAMES)))
def test_what_is_read_is_there_as_in_the_whole_and_nothing_else_is(made: Message, only: frozenset[str]) -> None:
    whole, found = typed(made, zone=ZONE)
    part, found_of_part = typed(made, zone=ZONE, only=only)
    read_of(whole, part, only)
    assert [one for one in found_of_part if one.code is not FindingCode.ZONE_ASSUMED and one not in found] == []


@given(MESSAGES)
def test_naming_every_field_is_the_same_as_naming_none(made: Message) -> None:
    assert typed(made, zone=ZONE, only=frozenset(NAMES)) == typed(made, zone=ZONE)


def test_a_field_that_nobody_said_to_read_is_no_absent_field_but_an_error() -> None:
    made = message("PID|1||1^^^A^MR||Berg^Jo||20260231|F")
    event, found = typed(made, zone=ZONE, only=frozenset({"patient", "gender"}))
    assert event.patient is not None
    assert (event.patient.gender, found) == ("F", ())
    with pytest.raises(AttributeError):
        _ = event.patient.names
    with pytest.raises(AttributeError):
        _ = event.visit


def test_what_is_wrong_with_a_field_is_found_where_the_field_is_read() -> None:
    made = message("PID|1||1^^^A^MR||Berg^Jo||20260231|F", header="MSH|^~\\&|||||||ADT^A01|1|P|2.5")
    (finding,) = typed(made, zone=ZONE, only=frozenset({"patient", "birth"}))[1]
    assert (finding.code, finding.hl7) == (FindingCode.TIMESTAMP, "PID-7")


def test_two_parts_share_the_names_of_their_members_and_a_copy_of_one_leaves_the_other_as_it_is() -> None:
    one, other = (typed(message(f"PID|1||{number}^^^A^MR||Berg^Jo||19800203|F"), zone=ZONE)[0].patient for number in (1, 2))
    assert one is not None
    assert other is not None
    assert one.model_fields_set is other.model_fields_set
    before = set(other.model_fields_set)
    assert one.model_copy(update={"death": None}).model_fields_set - before == {"death"}
    assert one.model_fields_set == other.model_fields_set == before
