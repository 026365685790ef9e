"""Sample resources of the project's own, valid FHIR STU3: what the tests of the checks start from and break. No real person is in them."""

import copy
from typing import Any, Final

HEADER_ID: Final = "0b1f6f0e-6c1a-5d0f-9a51-1c1f8f3f0a01"
PATIENT_ID: Final = "0b1f6f0e-6c1a-5d0f-9a51-1c1f8f3f0a02"
CONDITION_ID: Final = "0b1f6f0e-6c1a-5d0f-9a51-1c1f8f3f0a03"
ROCHE: Final = "http://roche.com/fhir/rdc/StructureDefinition"

_HEADER: Final[dict[str, Any]] = {
    "resourceType": "MessageHeader",
    "id": HEADER_ID,
    "meta": {"profile": [f"{ROCHE}/message-header"]},
    "event": {"system": "http://roche.com/fhir/rdc/message-type", "code": "new-bundle", "display": "New bundle generated"},
    "timestamp": "2024-05-02T10:15:30.000Z",
    "source": {"endpoint": "urn:oid:2.16.724.4.2", "software": "emr-pipeline", "version": "1.0.0"},
}
_PATIENT: Final[dict[str, Any]] = {
    "resourceType": "Patient",
    "id": PATIENT_ID,
    "meta": {"profile": [f"{ROCHE}/patient-v2"]},
    "identifier": [{"system": "urn:oid:2.16.724.4.41", "value": "TEST0000000001"}],
    "active": True,
    "name": [{"family": "Ejemplo", "given": ["Ana"]}],
    "telecom": [
        {"system": "phone", "value": "600000001", "use": "home"},
        {"system": "email", "value": "ana@example.org"},
    ],
    "gender": "female",
    "birthDate": "1980-02-03",
    "managingOrganization": {"reference": "Organization/7"},
}
_CONDITION: Final[dict[str, Any]] = {
    "resourceType": "Condition",
    "id": CONDITION_ID,
    "meta": {"profile": [f"{ROCHE}/condition"]},
    "clinicalStatus": "active",
    "code": {"coding": [{"system": "http://snomed.info/sct", "code": "46635009", "display": "Diabetes mellitus type 1"}]},
    "subject": {"reference": f"Patient/{PATIENT_ID}"},
}
_FULL_PATIENT: Final[dict[str, Any]] = {
    "resourceType": "Patient",
    "id": "rich",
    "language": "nl",
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>J. de Vries</p></div>'},
    "contained": [{"resourceType": "Organization", "id": "clinic", "name": "Polikliniek"}],
    "extension": [
        {
            "url": "http://example.org/consent",
            "extension": [{"url": "given", "valueBoolean": True}, {"url": "since", "valueDate": "2020-05"}],
        }
    ],
    "identifier": [
        {
            "use": "official",
            "type": {"coding": [{"system": "http://hl7.org/fhir/v2/0203", "code": "MR"}]},
            "system": "urn:oid:2.16.840.1.113883.2.4.99",
            "value": "0001",
            "period": {"start": "2019-01-01", "end": "2020-01-01T10:00:00+01:00"},
            "assigner": {"reference": "#clinic", "display": "Polikliniek"},
        }
    ],
    "active": True,
    "name": [
        {
            "use": "official",
            "family": "de Vries",
            "_family": {
                "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/humanname-own-prefix", "valueString": "de"}]
            },
            "given": ["Jan", None, "P."],
            "_given": [
                None,
                {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}]},
                {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/iso21090-EN-qualifier", "valueCode": "IN"}]},
            ],
            "prefix": ["dr."],
        }
    ],
    "telecom": [{"system": "phone", "value": "+31 20 000 0000", "use": "mobile", "rank": 1}],
    "gender": "male",
    "_gender": {"id": "g1"},
    "birthDate": "1970-02-28",
    "_birthDate": {
        "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime", "valueDateTime": "1970-02-28T04:05:06Z"}
        ]
    },
    "deceasedBoolean": False,
    "address": [{"use": "home", "type": "both", "line": ["Dorpsstraat 1", "bij de molen"], "city": "Ons Dorp", "country": "NL"}],
    "maritalStatus": {"text": "gehuwd"},
    "multipleBirthInteger": 2,
    "photo": [{"contentType": "image/png", "data": "iVBORw0KGgo=", "size": 8, "title": "pasfoto"}],
    "contact": [
        {
            "relationship": [{"text": "moeder"}],
            "name": {"text": "A. de Vries"},
            "telecom": [{"system": "phone", "value": "020-1"}],
            "gender": "female",
        }
    ],
    "communication": [{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": "nl"}]}, "preferred": True}],
    "generalPractitioner": [{"reference": "Practitioner/12"}],
    "link": [{"other": {"reference": "Patient/old"}, "type": "replaces"}],
}
_OBSERVATION: Final[dict[str, Any]] = {
    "resourceType": "Observation",
    "id": "weight",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
    "subject": {"reference": "Patient/rich"},
    "effectiveDateTime": "2021-03-04T05:06:07.89+01:00",
    "issued": "2021-03-04T05:06:07Z",
    "performer": [{"reference": "Practitioner/12"}],
    "valueQuantity": {"value": 71.5, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
    "referenceRange": [
        {
            "low": {"value": 50, "unit": "kg"},
            "high": {"value": 90.0, "unit": "kg"},
            "age": {"low": {"value": 18, "code": "a", "system": "http://unitsofmeasure.org"}},
        }
    ],
    "component": [{"code": {"text": "with clothes"}, "valueString": "yes"}],
}
_APPOINTMENT: Final[dict[str, Any]] = {
    "resourceType": "Appointment",
    "id": "first",
    "status": "booked",
    "start": "2024-11-02T09:00:00+01:00",
    "end": "2024-11-02T09:20:00+01:00",
    "minutesDuration": 20,
    "priority": 5,
    "requestedPeriod": [{"start": "2024-11"}],
    "participant": [
        {"actor": {"reference": "Patient/rich"}, "required": "required", "status": "accepted"},
        {"type": [{"text": "arts"}], "status": "needs-action"},
    ],
}
_SEARCH: Final[dict[str, Any]] = {
    "resourceType": "Bundle",
    "type": "searchset",
    "total": 1,
    "link": [{"relation": "self", "url": "https://example.org/fhir/Appointment?patient=1"}],
    "entry": [{"fullUrl": "https://example.org/fhir/Appointment/first", "resource": _APPOINTMENT, "search": {"mode": "match"}}],
}


def header() -> dict[str, Any]:
    """Roche's MessageHeader."""
    return copy.deepcopy(_HEADER)


def patient() -> dict[str, Any]:
    """Roche's Patient."""
    return copy.deepcopy(_PATIENT)


def condition() -> dict[str, Any]:
    """Roche's Condition."""
    return copy.deepcopy(_CONDITION)


def message() -> dict[str, Any]:
    """Roche's message: MessageHeader, Patient, Condition, without fullUrls, as in the partner's samples."""
    return {
        "resourceType": "Bundle",
        "type": "message",
        "entry": [{"resource": one} for one in (header(), patient(), condition())],
    }


def message_with_full_urls() -> dict[str, Any]:
    """The same as FHIR wants it: fullUrls, and references that resolve by them."""
    bundle = message()
    for entry in bundle["entry"]:
        entry["fullUrl"] = f"urn:uuid:{entry['resource']['id']}"
    bundle["entry"][1]["resource"]["managingOrganization"] = {"display": "Hospital"}
    bundle["entry"][2]["resource"]["subject"]["reference"] = f"urn:uuid:{PATIENT_ID}"
    return bundle


def full_patient() -> dict[str, Any]:
    """A Patient with much of what JSON can look like: contained, extensions, `_` beside values and in arrays, choices."""
    return copy.deepcopy(_FULL_PATIENT)


def everything() -> dict[str, dict[str, Any]]:
    """All samples by name."""
    return {
        "message": message(),
        "message_with_full_urls": message_with_full_urls(),
        "full_patient": full_patient(),
        "observation": copy.deepcopy(_OBSERVATION),
        "appointment": copy.deepcopy(_APPOINTMENT),
        "search": copy.deepcopy(_SEARCH),
    }
