"""The appointment of a message (SCH) with its services, resources, people and places (AIS, AIG, AIP, AIL) and their notes (NTE).

The resources of all groups (RGS) stand in one list each: what a group means, senders do not agree on. Read as the segments in segments.py are.
"""

from functools import lru_cache
from typing import Final, NamedTuple, TypeVar

from pipeline.hl7.datatypes import Reader, Where
from pipeline.hl7.fields import Fields, Make, Table, each_of, fields_of, one, read
from pipeline.hl7.message import Message
from pipeline.hl7.parts import Members, built
from schemas.event import (
    Appointment,
    Coded,
    EntityIdentifier,
    Frozen,
    Location,
    Note,
    Null,
    Personnel,
    Place,
    Practitioner,
    Resource,
    Service,
    Telecom,
    Text,
    Timestamp,
)

LINE: Final = "\\.br\\"
"""HL7's own escape for the end of a line (v2.5 chapter 2.7.6), which the reading of texts leaves as it is."""
BETWEEN: Final = frozenset({"NTE", "TQ1"})
"""What may stand between a segment and a note of it."""


def _part_of(component: int) -> Make:
    """A time that is a component of its field (TQ.4, TQ.5)."""

    def make(reader: Reader, raw: str, where: Where) -> Timestamp | Null | None:
        return reader.component_time(raw, where, component)

    return make


def _lines(reader: Reader, raw: str, _where: Where) -> Text:
    """All repetitions of a formatted text, one to a line; NULL of an explicit null."""
    texts = [reader.text(each) for each in reader.repetitions(raw)]
    lines = [text.replace(LINE, "\n") for text in texts if isinstance(text, str)]
    return "\n".join(lines).strip() or None if lines else next(iter(texts), None)


_CODED: Final = one(Coded, Reader.ce)
_ENTITY: Final = one(EntityIdentifier, Reader.ei)
_PRACTITIONERS: Final = each_of(Practitioner, Reader.xcn)

_SCH: Final[Table] = {
    1: ("placer", _ENTITY),
    2: ("filler", _ENTITY),
    3: ("occurrence", Reader.first),
    5: ("schedule", _CODED),
    6: ("event_reason", _CODED),
    7: ("reason", _CODED),
    8: ("type", _CODED),
    9: ("duration", Reader.first),
    10: ("duration_units", _CODED),
    11: ("start", _part_of(4)),
    16: ("contact", _PRACTITIONERS),
    17: ("contact_telecoms", each_of(Telecom, Reader.xtn)),
    20: ("entered_by", _PRACTITIONERS),
    25: ("status", _CODED),
}
_SCH_END: Final[Table] = {11: ("end", _part_of(5))}
_TQ1: Final[Table] = {7: ("start", Reader.time), 8: ("end", Reader.time)}
_AIS: Final[Table] = {
    2: ("action", Reader.first),
    3: ("code", _CODED),
    4: ("start", Reader.time),
    5: ("offset", Reader.first),
    6: ("offset_units", _CODED),
    7: ("duration", Reader.first),
    8: ("duration_units", _CODED),
    10: ("status", _CODED),
}
_AIG: Final[Table] = {
    2: ("action", Reader.first),
    3: ("resource", _CODED),
    4: ("type", _CODED),
    5: ("group", _CODED),
    8: ("start", Reader.time),
    11: ("duration", Reader.first),
    12: ("duration_units", _CODED),
    14: ("status", _CODED),
}
_USE: Final[Table] = {
    2: ("action", Reader.first),
    4: ("type", _CODED),
    5: ("group", _CODED),
    6: ("start", Reader.time),
    9: ("duration", Reader.first),
    10: ("duration_units", _CODED),
    12: ("status", _CODED),
}
"""What AIP and AIL have alike."""
_AIP: Final[Table] = {3: ("person", one(Practitioner, Reader.xcn)), **_USE}
_AIL: Final[Table] = {3: ("location", one(Location, Reader.pl)), **_USE}
_NTE: Final[Table] = {3: ("comment", _lines), 4: ("type", _CODED)}


class Chosen(NamedTuple):
    """What is read of an appointment."""

    sch: Fields
    sch_end: Fields
    tq1: Fields
    nte: Fields
    services: Fields
    resources: Fields
    personnel: Fields
    places: Fields


@lru_cache(maxsize=64)
def _chosen(only: frozenset[str] | None) -> Chosen:
    return Chosen(
        fields_of(_SCH, Appointment, only),
        fields_of(_SCH_END, Appointment, only),
        fields_of(_TQ1, Appointment, only),
        fields_of(_NTE, Note, only),
        fields_of(_AIS, Service, only),
        fields_of(_AIG, Resource, only),
        fields_of(_AIP, Personnel, only),
        fields_of(_AIL, Place, only),
    )


def appointment(message: Message, reader: Reader, only: frozenset[str] | None) -> Appointment:
    """SCH, the first where there are several, and all that stands behind it."""
    what = _chosen(only)
    notes = _notes(message, reader, what)
    timing = read(message, reader, "TQ1", 1, what.tq1)
    members = timing | read(message, reader, "SCH", 1, what.sch) | read(message, reader, "SCH", 1, what.sch_end)
    members |= _noted(notes, message.positions("SCH")[0], what.sch)
    for name, segment, model, fields in (
        ("services", "AIS", Service, what.services),
        ("resources", "AIG", Resource, what.resources),
        ("personnel", "AIP", Personnel, what.personnel),
        ("places", "AIL", Place, what.places),
    ):
        if name in what.sch.missing and (parts := _all((message, reader, notes), segment, model, fields)):
            members[name] = parts
    return built(Appointment, what.sch.missing, members)


P = TypeVar("P", bound=Frozen)
Notes = dict[int, list[Note]]
"""By the position of the segment that they stand behind."""


def _all(read_from: tuple[Message, Reader, Notes], segment: str, model: type[P], fields: Fields) -> tuple[P, ...]:
    (message, reader, notes), parts = read_from, []
    for nth, at in enumerate(message.positions(segment), 1):
        members = read(message, reader, segment, nth, fields) | _noted(notes, at, fields)
        parts.append(built(model, fields.missing, members | {"nth": nth}))
    return tuple(parts)


def _noted(notes: Notes, at: int, fields: Fields) -> Members:
    return {"notes": tuple(notes[at])} if at in notes and "notes" in fields.missing else {}


def _notes(message: Message, reader: Reader, what: Chosen) -> Notes:
    """Each note with what it stands behind."""
    positions = message.positions("NTE")
    if not positions or "notes" not in what.sch.missing:
        return {}
    names, notes = message.segments(), Notes()
    for nth, at in enumerate(positions, 1):
        owner = next((before for before in range(at - 1, -1, -1) if names[before] not in BETWEEN), 0)
        members = read(message, reader, "NTE", nth, what.nte)
        notes.setdefault(owner, []).append(built(Note, what.nte.missing, members | {"nth": nth}))
    return notes
