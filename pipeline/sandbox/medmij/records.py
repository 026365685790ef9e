"""The appointments that MedMij's stand-in has: three patients of a hospital that does not exist, in the shape of contracts/medmij.md section 8.

Days count from today, as the official suite has it: the first patient has three from 150 days ago on, the second two in the last month and one before
it, the third none within a year. Elements stand in FHIR's order, since the XML is written as they stand. No search here.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

NICTIZ: Final = "http://nictiz.nl/fhir/StructureDefinition"
CORE: Final = "http://fhir.nl/fhir/StructureDefinition"
NAMING: Final = "http://fhir.nl/fhir/NamingSystem"
HUMANNAME: Final = "http://hl7.org/fhir/StructureDefinition/humanname-own"
ABSENT: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
HOUSE: Final = "http://polikliniek-zuid.example/fhir/NamingSystem"

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    """A patient."""

    id: str
    bsn: str
    """Of the range that is never given out."""
    local: str
    given: str
    prefix: str
    family: str
    gender: str
    born: str

    @property
    def display(self) -> str:
        """As others name it."""
        return " ".join(filter(None, (f"{self.given[0]}.", self.prefix, self.family)))


@dataclass(frozen=True, slots=True)
class Care:
    """Who is seen: a professional, in a role, in a place."""

    key: str
    name: str
    agb: str
    specialty: str
    place: str


@dataclass(frozen=True, slots=True)
class Planned:
    """An appointment."""

    id: str
    person: str
    days: int
    at: str
    minutes: int
    status: str
    care: str
    what: str
    instruction: str = ""


PEOPLE: Final = {
    one.id: one
    for one in (
        Person("p-1", "999900201", "71001", "Noor", "van", "Duinen", "female", "1984-03-09"),
        Person("p-2", "999900213", "71002", "Sami", "", "Rahman", "male", "1971-11-23"),
        Person("p-3", "999900225", "71003", "Bram", "ter", "Linden", "male", "1959-06-30"),
    )
}
CARE: Final = {
    one.key: one
    for one in (
        Care("1", "H. Molenaar", "0303", "Medisch specialisten, chirurgie", "Polikliniek chirurgie, route 12"),
        Care("2", "T. Scholten", "0408", "Fysiotherapeuten, sportfysiotherapie", "Oefenzaal, begane grond"),
        Care("3", "R. Yilmaz", "0360", "Medisch specialisten, radiologie", "Radiologie, route 30"),
    )
}
PLANNED: Final = (
    Planned("a-1", "p-1", -150, "09:00:00", 15, "fulfilled", "1", "Nacontrole operatie"),
    Planned("a-2", "p-1", 20, "10:30:00", 30, "booked", "2", "Sportfysiotherapie"),
    Planned("a-3", "p-1", 42, "13:45:00", 20, "booked", "3", "CT-scan", "Drie uur voor het onderzoek niets eten"),
    Planned("a-4", "p-2", -30, "08:20:00", 10, "fulfilled", "1", "Controle"),
    Planned("a-5", "p-2", -28, "11:00:00", 30, "fulfilled", "2", "Intake"),
    Planned("a-6", "p-2", -60, "15:10:00", 20, "fulfilled", "3", "Echo"),
    Planned("a-7", "p-3", -700, "12:00:00", 10, "fulfilled", "1", "Controle"),
)
ORGANIZATION: Final = "Polikliniek Zuid"


def appointments(person: str, now: float, zone: str) -> list[Tree]:
    """Of a patient, by their start."""
    found = [_appointment(one, now, ZoneInfo(zone)) for one in PLANNED if one.person == person]
    return sorted(found, key=lambda one: dt.datetime.fromisoformat(one["start"]))


def _appointment(one: Planned, now: float, zone: ZoneInfo) -> Tree:
    day = dt.datetime.fromtimestamp(now, zone).date() + dt.timedelta(one.days)
    start = dt.datetime.combine(day, dt.time.fromisoformat(one.at), zone)
    end = (start.astimezone(dt.UTC) + dt.timedelta(minutes=one.minutes)).astimezone(zone)
    care, person = CARE[one.care], PEOPLE[one.person]
    instruction = {"url": f"{NICTIZ}/eAfspraak-Appointment-PatientInstructions", "valueString": one.instruction}
    return {
        "resourceType": "Appointment",
        "id": one.id,
        "meta": {"profile": [f"{NICTIZ}/eAfspraak-Appointment"]},
        **({"extension": [instruction]} if one.instruction else {}),
        "identifier": [{"system": f"{HOUSE}/afspraak", "value": one.id}],
        "status": one.status,
        "specialty": [_specialty(care)],
        "appointmentType": {"coding": [{"system": "http://hl7.org/fhir/v3/ActCode", "code": "AMB", "display": "Ambulatory"}]},
        "description": one.what,
        "start": start.isoformat(),
        "end": end.isoformat(),
        "minutesDuration": one.minutes,
        "participant": [
            {"actor": {"reference": f"Patient/{person.id}", "display": person.display}, "status": "accepted"},
            {"actor": _with_role(care), "status": "accepted"},
            {"actor": {"reference": f"Location/l-{care.key}", "display": care.place}, "status": "accepted"},
        ],
    }


def _specialty(care: Care) -> Tree:
    return {"coding": [{"system": "urn:oid:2.16.840.1.113883.2.4.6.7", "code": care.agb, "display": care.specialty}]}


def _with_role(care: Care) -> Tree:
    role = {"reference": f"PractitionerRole/r-{care.key}", "display": f"{care.name}, {care.specialty}"}
    return {
        "extension": [{"url": f"{NICTIZ}/practitionerrole-reference", "valueReference": role}],
        "reference": f"Practitioner/d-{care.key}",
        "display": care.name,
    }


def referenced(person: str) -> dict[tuple[str, str], Tree]:
    """What the appointments of a patient reference, by type and id; of another patient's it has nothing."""
    cares = {one.care for one in PLANNED if one.person == person}
    found = [_patient(PEOPLE[person]), _organization()]
    for key in sorted(cares):
        found += _care(CARE[key])
    return {(one["resourceType"], one["id"]): one for one in found}


def _patient(one: Person) -> Tree:
    prefix = [{"url": f"{HUMANNAME}-prefix", "valueString": one.prefix}] if one.prefix else []
    masked = {"system": f"{NAMING}/bsn", "_value": {"extension": [{"url": ABSENT, "valueCode": "masked"}]}}
    family = {"extension": [*prefix, {"url": f"{HUMANNAME}-name", "valueString": one.family}]}
    name = {"family": " ".join(filter(None, (one.prefix, one.family))), "_family": family, "given": [one.given]}
    return {
        "resourceType": "Patient",
        "id": one.id,
        "meta": {"profile": [f"{CORE}/nl-core-patient"]},
        "identifier": [masked, {"system": f"{HOUSE}/patient", "value": one.local}],
        "name": [name],
        "gender": one.gender,
        "birthDate": one.born,
        "managingOrganization": _the_organization(),
    }


def _care(care: Care) -> list[Tree]:
    given, _, family = care.name.partition(" ")
    practitioner = {
        "resourceType": "Practitioner",
        "id": f"d-{care.key}",
        "meta": {"profile": [f"{CORE}/nl-core-practitioner"]},
        "identifier": [{"system": f"{HOUSE}/zorgverlener", "value": care.key}],
        "name": [{"family": family, "given": [given]}],
    }
    role = {
        "resourceType": "PractitionerRole",
        "id": f"r-{care.key}",
        "meta": {"profile": [f"{CORE}/nl-core-practitionerrole"]},
        "identifier": [{"system": f"{HOUSE}/rol", "value": care.key}],
        "practitioner": {"reference": f"Practitioner/d-{care.key}", "display": care.name},
        "organization": _the_organization(),
        "specialty": [_specialty(care)],
    }
    location = {
        "resourceType": "Location",
        "id": f"l-{care.key}",
        "meta": {"profile": [f"{CORE}/nl-core-location"]},
        "name": care.place,
        "managingOrganization": _the_organization(),
    }
    return [practitioner, role, location]


def _organization() -> Tree:
    return {
        "resourceType": "Organization",
        "id": "o-1",
        "meta": {"profile": [f"{CORE}/nl-core-organization"]},
        "identifier": [{"system": f"{NAMING}/ura", "value": "00001234"}],
        "name": ORGANIZATION,
    }


def _the_organization() -> Mapping[str, str]:
    return {"reference": "Organization/o-1", "display": ORGANIZATION}
