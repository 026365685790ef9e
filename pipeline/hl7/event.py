"""The typed event of a message (schemas/event.py), and the key of its source record. What cannot be read is absent, with a finding.

No text of a message goes into a finding. Each segment has a function that names its fields by number; data types are in datatypes.py.
"""

import sys
from itertools import pairwise
from typing import Final

from pipeline.hl7.appointments import appointment
from pipeline.hl7.datatypes import Reader
from pipeline.hl7.message import Message
from pipeline.hl7.parts import Members, built
from pipeline.hl7.segments import Chosen, chosen, coverage, diagnosis, header, merge, patient, report, visit
from pipeline.model import Finding
from schemas.event import Event, PatientGroup, Report
from schemas.outcomes import FindingCode, Severity

__all__ = ["source_key", "typed"]

_KEY_TYPES: Final = ("PI", "MR")


def typed(message: Message, *, zone: str, only: frozenset[str] | None = None) -> tuple[Event, tuple[Finding, ...]]:
    """All that schemas/event.py names. `zone`: IANA zone of times without an offset.

    `only`: names of fields (`patient`, `names`, `birth`, …) that somebody is going to read; nothing else of the event's own fields and
    those of its segments is built, reading it raises AttributeError, and what is wrong with it is not found. A name counts in every
    segment that has it; data types (a name, an address, a time) are built whole. None builds all.

    Where a message has several PID segments, what stands before the second is the event, and the others come with their MRG in
    `others` (PATIENTS_SEVERAL): a second pair of a merge must never be taken for a prior id of the first patient.
    """
    what = chosen(only)
    reader = Reader(message, zone)
    patients = message.positions("PID")
    end = patients[1] if len(patients) > 1 else None
    members = header(message, reader, what)
    if patients and "patient" in what.event:
        members["patient"] = patient(message, reader, 1, what)
    for name, segment, make in (("prior", "MRG", merge), ("diagnoses", "DG1", diagnosis), ("coverages", "IN1", coverage)):
        if name in what.event and (found := _among(message, segment, 0, end)):
            members[name] = tuple([make(message, reader, nth, what) for nth in found])
    if "visit" in what.event:
        visits, details = _among(message, "PV1", 0, end), _among(message, "PV2", 0, end)
        if visits or details:
            nowhere = len(message.positions("PV1")) + len(message.positions("PV2")) + 1
            members["visit"] = visit(message, reader, (visits or [nowhere])[0], (details or [nowhere])[0], what)
    if "reports" in what.event and (reports := _reports(message, reader, end, what)):
        members["reports"] = reports
    if "appointment" in what.event and message.positions("SCH"):
        members["appointment"] = appointment(message, reader, only)
    if end is not None and "others" in what.event:
        members["others"] = _others(message, reader, patients, what)
    return built(Event, what.event, members), tuple(reader.findings)


def source_key(message: Message) -> bytes | None:
    """The Kafka key of a source record: assigning authority and patient id as `authority|id` in UTF-8; None without a patient.

    The rule, so that one patient's messages meet in one partition: of PID-3's repetitions with a value the first of type PI, else the
    first of type MR, else the first (PID-2 where PID-3 has none). The authority is CX.4.1, else CX.4.2, else nothing.
    """
    reader = Reader(message, "UTC")
    for number in (3, 2):
        raws = reader.repetitions(message.field("PID", 1, number))
        found = [one for raw in raws if isinstance((one := reader.cx(raw, ("PID", 1, number))).get("value"), str)]
        if found:
            chosen = next((one for kind in _KEY_TYPES for one in found if one.get("type") == kind), found[0])
            return f"{chosen.get('authority') or chosen.get('authority_oid') or ''}|{chosen['value']}".encode()
    return None


def _among(message: Message, segment: str, start: int, end: int | None) -> list[int]:
    """Which of the segments of this name (from 1) stand between two positions."""
    positions = message.positions(segment)
    if not positions:
        return []
    return [nth for nth, at in enumerate(positions, 1) if at >= start and (end is None or at < end)]


def _reports(message: Message, reader: Reader, end: int | None, what: Chosen) -> tuple[Report, ...]:
    """Each OBR with the OBX up to the next; those before the first stand in a report of their own."""
    found: list[tuple[int, list[int]]] = []
    heads = [(message.positions("OBR")[nth - 1], nth) for nth in _among(message, "OBR", 0, end)]
    rest = [(message.positions("OBX")[nth - 1], nth) for nth in _among(message, "OBX", 0, end)]
    for (start, head), (stop, _) in pairwise([(-1, 0), *heads, (sys.maxsize, 0)]):
        below = [nth for at, nth in rest if start < at < stop]
        if head or below:
            found.append((head, below))
    return tuple([report(message, reader, head, below, what) for head, below in found])


def _others(message: Message, reader: Reader, patients: list[int], what: Chosen) -> tuple[PatientGroup, ...]:
    others = []
    for nth, (start, end) in enumerate(zip(patients[1:], [*patients[2:], None], strict=True), 2):
        group: Members = {}
        if "prior" in what.group and (merges := _among(message, "MRG", start, end)):
            group["prior"] = tuple([merge(message, reader, at, what) for at in merges])
        if "patient" in what.group:
            group["patient"] = patient(message, reader, nth, what)
        others.append(built(PatientGroup, what.group, group))
    finding = Finding(FindingCode.PATIENTS_SEVERAL, Severity.WARNING, hl7="PID[2]", about=f"{len(patients)} PID segments")
    reader.findings.append(finding)
    return tuple(others)
