"""What Roche would say of a body: the stand-in's own reading of contracts/roche.md section 5 and of STU3. Every issue at once, as codes and texts.

Written from the contract, not from our validator: it shares no table with it. Codes: `structure` (cannot be read, wrong JSON type),
`required` (missing), `invalid` (against specification or profile), `too-long`. Texts name places, never values.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipeline.sandbox import bodies
from pipeline.sandbox.knobs import Knobs
from pipeline.sandbox.roche.shapes import BUNDLE, CONDITION, MESSAGE_HEADER, PATIENT, Issue, walk

PROFILE: Final = "http://roche.com/fhir/rdc/StructureDefinition/"
MESSAGE_TYPE: Final = ("http://roche.com/fhir/rdc/message-type", "new-bundle")
SYSTEMS: Final = ("urn:oid:1.3.6.1.4.1.56221.2.2", "urn:oid:2.16.724.4.41")
"""Meteda, CIP."""
SNOMED: Final = "http://snomed.info/sct"
LONGEST_IDENTIFIER: Final = 64
_NAMES: Final = frozenset({"entry", "resource", *MESSAGE_HEADER.elements, *PATIENT.elements, *CONDITION.elements})
"""Names that an issue's text may repeat; any other is the sender's own text."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A bundle that was read, with what the stand-in needs of it."""

    bundle: dict[str, Any]
    header: dict[str, Any] | None
    patient: dict[str, Any]

    @property
    def identifiers(self) -> list[tuple[str, str]]:
        """(system, value) of the patient."""
        return identifiers_of(self.patient)

    @property
    def emails(self) -> list[str]:
        """The patient's e-mail addresses."""
        return emails_of(self.patient)


def identifiers_of(patient: dict[str, Any]) -> list[tuple[str, str]]:
    """(system, value) of each identifier."""
    return [(one["system"], one["value"]) for one in patient["identifier"]]


def emails_of(patient: dict[str, Any]) -> list[str]:
    """E-mail addresses in lower case: case does not make another address."""
    return [one["value"].lower() for one in patient.get("telecom", ()) if one.get("system") == "email" and "value" in one]


def read(body: bytes) -> dict[str, Any]:
    """JSON to a Bundle; Refusal `structure` where it is none."""
    return bodies.read(body, _NAMES)


def check(bundle: dict[str, Any], api: str, knobs: Knobs) -> list[Issue]:
    """All that is wrong with it; empty where it is accepted. `api` is v1 or v2."""
    issues = list(walk(bundle, BUNDLE, "Bundle"))
    if issues:  # entries that are no entries cannot be looked into
        return issues
    if bundle["type"] != "message":
        issues.append(Issue("invalid", "Bundle.type is not message"))
    issues += _full_urls(bundle["entry"], knobs)
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {"MessageHeader": [], "Patient": [], "Condition": []}
    for index, entry in enumerate(bundle["entry"]):
        resource = entry["resource"]
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if not isinstance(kind, str):
            issues.append(Issue("structure", f"Bundle.entry[{index}].resource has no resourceType"))
        elif kind not in found:
            issues.append(Issue("invalid", f"Bundle.entry[{index}].resource is of a type that the message does not have"))
        else:
            found[kind].append((index, resource))
    issues += _composition(found, knobs)
    for kind, shape in (("MessageHeader", MESSAGE_HEADER), ("Patient", PATIENT), ("Condition", CONDITION)):
        for index, resource in found[kind]:
            path = f"Bundle.entry[{index}].resource"
            of_shape = list(walk(resource, shape, path, loose=knobs.extra_elements == "accepted"))
            issues += of_shape or list(_of_kind(kind, resource, path, api, knobs))
            issues += _profile(kind, resource, path, knobs)
    if not issues and knobs.references == "checked":
        issues += _references(bundle["entry"], found)
    return issues


def submission(bundle: dict[str, Any]) -> Submission:
    """What the stand-in needs of a bundle that `check` accepted."""
    resources = [entry["resource"] for entry in bundle["entry"]]
    header = next((one for one in resources if one["resourceType"] == "MessageHeader"), None)
    return Submission(bundle, header, next(one for one in resources if one["resourceType"] == "Patient"))


def _composition(found: dict[str, list[tuple[int, dict[str, Any]]]], knobs: Knobs) -> Iterator[Issue]:
    headers, patients = found["MessageHeader"], found["Patient"]
    if not headers and knobs.message_header != "optional":
        yield Issue("required", "Bundle.entry: MessageHeader is missing")
    if headers and knobs.message_header == "first" and headers[0][0] != 0:
        yield Issue("invalid", "Bundle.entry: MessageHeader is not the first resource")
    if not patients:
        yield Issue("required", "Bundle.entry: Patient is missing")
    for kind, resources in (("MessageHeader", headers), ("Patient", patients)):
        if len(resources) > 1:
            yield Issue("invalid", f"Bundle.entry: more than one {kind}")
    if not found["Condition"] and knobs.condition == "required":
        yield Issue("required", "Bundle.entry: Condition is missing")


def _full_urls(entries: list[dict[str, Any]], knobs: Knobs) -> Iterator[Issue]:
    given = Counter(entry["fullUrl"] for entry in entries if "fullUrl" in entry)
    if given and knobs.full_url == "invalid":
        yield Issue("invalid", "Bundle.entry.fullUrl is not accepted")
    if any(times > 1 for times in given.values()):  # bdl-7
        yield Issue("invalid", "Bundle.entry.fullUrl is not unique")
    if any(not url.startswith(("urn:uuid:", "urn:oid:", "http://", "https://")) for url in given):
        yield Issue("invalid", "Bundle.entry.fullUrl is not an absolute URL")


def _profile(kind: str, resource: dict[str, Any], path: str, knobs: Knobs) -> Iterator[Issue]:
    if knobs.profiles == "ignored":
        return
    meta = resource.get("meta")
    given = meta.get("profile") if isinstance(meta, dict) else None
    wanted = PROFILE + {"MessageHeader": "message-header", "Patient": "patient-v2", "Condition": "condition"}[kind]
    if given is None and knobs.profiles == "required":
        yield Issue("required", f"{path}.meta.profile is missing")
    if isinstance(given, list) and wanted not in given:
        yield Issue("invalid", f"{path}.meta.profile is another profile")


def _of_kind(kind: str, resource: dict[str, Any], path: str, api: str, knobs: Knobs) -> Iterator[Issue]:
    if kind == "MessageHeader":
        if (resource["event"].get("system"), resource["event"].get("code")) != MESSAGE_TYPE:
            yield Issue("invalid", f"{path}.event is not in the value set message-type")
    elif kind == "Patient":
        yield from _patient(resource, path, api, knobs)
    else:
        yield from _condition(resource, path, knobs)


def _patient(patient: dict[str, Any], path: str, api: str, knobs: Knobs) -> Iterator[Issue]:
    for index, one in enumerate(patient["identifier"]):
        if one["system"] not in SYSTEMS:
            yield Issue("invalid", f"{path}.identifier[{index}].system is not one of the accepted assigning authorities")
        if len(one["value"]) > LONGEST_IDENTIFIER:
            yield Issue(knobs.identifier_too_long, f"{path}.identifier[{index}].value is longer than 64 characters")
    for index, one in enumerate(patient.get("telecom", ())):
        if "value" in one and "system" not in one:  # cpt-2
            yield Issue("invalid", f"{path}.telecom[{index}] has a value without a system")
        if one.get("system") == "email" and "@" not in one.get("value", "@"):
            yield Issue("invalid", f"{path}.telecom[{index}].value is not an e-mail address")
    if api == "v1" and "managingOrganization" in patient and knobs.extra_elements == "invalid":
        yield Issue("invalid", f"{path}.managingOrganization is accepted from v2 on")


def _condition(condition: dict[str, Any], path: str, knobs: Knobs) -> Iterator[Issue]:
    codings = condition["code"].get("coding", [])
    if not codings and knobs.code_text_only == "invalid":
        yield Issue("invalid", f"{path}.code has no coding of the value set diabetes-type")
    good = [one for one in codings if one.get("system") == SNOMED and one.get("code") in knobs.diabetes_codes]
    if codings and not good:
        yield Issue("invalid", f"{path}.code is not in the value set diabetes-type")


def _references(entries: list[dict[str, Any]], found: dict[str, list[tuple[int, dict[str, Any]]]]) -> Iterator[Issue]:
    position, patient = found["Patient"][0]
    good = {f"Patient/{patient['id']}", f"urn:uuid:{patient['id']}"} if "id" in patient else set()
    good |= {entries[position]["fullUrl"]} if "fullUrl" in entries[position] else set()
    for index, condition in found["Condition"]:
        if condition["subject"].get("reference") not in good:
            yield Issue("invalid", f"Bundle.entry[{index}].resource.subject does not point at the Patient of the bundle")
