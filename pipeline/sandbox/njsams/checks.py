"""What NJSAMS would say of a transaction: the stand-in's own reading of contracts/njsams.md sections 4, 5 and 8, and of R4.

Written from the dossier, not from our profile: it shares no table with it. Texts name places, never values.
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.sandbox.njsams.knobs import NjsamsKnobs
from pipeline.sandbox.njsams.records import CLIENT_ID, IG, Resource
from pipeline.sandbox.roche.shapes import Issue

LABEL: Final = f"{IG}/fhir/security/provider-id"
PROFILE: Final = f"{IG}/StructureDefinition/"
SSN: Final = "http://hl7.org/fhir/sid/us-ssn"
LEVEL_OF_CARE: Final = f"{IG}/CodeSystem/LevelOfCare"
LEVELS: Final = frozenset({*(str(number) for number in range(1, 19)), "500"})
ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CLASSES: Final = frozenset(["AMB", "EMER", "FLD", "HH", "IMP", "ACUTE", "NONAC", "OBSENC", "PRENC", "SS", "VR"])
MAIN: Final = ("Patient", "Encounter", "Coverage")
VERBS: Final = frozenset({"POST", "PUT"})
REQUEST: Final = frozenset({"id", "extension", "method", "url"})
GIVEN: Final = {"client-id": CLIENT_ID, "ssn": SSN}

_RESOURCE: Final = "resourceType id meta implicitRules language"
_DOMAIN: Final = f"{_RESOURCE} text"
_ONE: Final = {
    "Bundle": f"{_RESOURCE} identifier type timestamp total signature",
    "Patient": f"{_DOMAIN} active gender birthDate deceasedBoolean deceasedDateTime maritalStatus multipleBirthBoolean "
    "multipleBirthInteger managingOrganization",
    "Encounter": f"{_DOMAIN} status class serviceType priority subject period length hospitalization serviceProvider partOf",
    "Coverage": f"{_DOMAIN} status type policyHolder subscriber subscriberId beneficiary dependent relationship period order network "
    "subrogation",
}
_MANY: Final = {
    "Bundle": "link entry",
    "Patient": "identifier name telecom address photo contact communication generalPractitioner link",
    "Encounter": "identifier statusHistory classHistory type episodeOfCare basedOn participant appointment reasonCode reasonReference "
    "diagnosis account location",
    "Coverage": "identifier payor class costToBeneficiary contract",
}
_ALL_MANY: Final = ("contained", "extension", "modifierExtension")
STATUSES: Final = {
    "Encounter": frozenset(
        ["planned", "arrived", "triaged", "in-progress", "onleave", "finished", "cancelled", "entered-in-error", "unknown"]
    ),
    "Coverage": frozenset(["active", "cancelled", "draft", "entered-in-error"]),
}
GENDERS: Final = frozenset(["male", "female", "other", "unknown"])
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_URN: Final = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_DATETIME: Final = re.compile(r"\d{4}(-\d{2}(-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?)?)?")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry that was read."""

    method: str
    type: str
    id: str | None
    """Of an update: the logical id."""
    full_url: str | None
    resource: Resource = field(repr=False)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A bundle that was read."""

    bundle: Resource = field(repr=False)
    entries: tuple[Entry, ...]


def structure(bundle: Resource, method: str, knobs: NjsamsKnobs) -> list[Issue]:
    """Whether it is a transaction of entries at all (section 5)."""
    issues = list(_elements("Bundle", bundle, "Bundle", knobs))
    if bundle.get("type") != "transaction":
        issues.append(Issue("invalid", "Bundle.type is not transaction"))
    entries = bundle.get("entry")
    if not isinstance(entries, list):
        return [*issues, Issue("required", "Bundle.entry is missing")]
    for index, entry in enumerate(entries):
        issues += _entry(entry, f"Bundle.entry[{index}]", method, knobs)
    if issues:
        return issues
    given = [entry["fullUrl"] for entry in entries if "fullUrl" in entry]
    targets = [entry["request"]["url"] for entry in entries if entry["request"]["method"] == "PUT"]
    if any(times > 1 for times in Counter(given).values()):
        issues.append(Issue("invalid", "Bundle.entry.fullUrl is not unique"))
    if any(times > 1 for times in Counter(targets).values()):
        issues.append(Issue("invalid", "Bundle.entry: two entries update the same resource"))
    return issues


def transaction(bundle: Resource) -> Transaction:
    """Of a bundle that `structure` accepted."""
    return Transaction(bundle, tuple(_read(entry) for entry in bundle["entry"]))


def _read(entry: Mapping[str, Any]) -> Entry:
    kind, _, wanted = entry["request"]["url"].partition("/")
    return Entry(entry["request"]["method"], kind, wanted or None, entry.get("fullUrl"), entry["resource"])


def _entry(entry: Any, path: str, method: str, knobs: NjsamsKnobs) -> Iterator[Issue]:  # noqa: ANN401 - JSON
    if not isinstance(entry, dict) or not isinstance(entry.get("resource"), dict) or not isinstance(entry.get("request"), dict):
        yield Issue("required", f"{path} has no resource or no request")
        return
    resource, request = entry["resource"], entry["request"]
    kind, verb, url = resource.get("resourceType"), request.get("method"), request.get("url")
    if not (isinstance(kind, str) and isinstance(url, str) and _of(verb, VERBS)):
        yield Issue("required", f"{path} needs a resourceType, request.method POST or PUT, and request.url")
        return
    if verb != method and knobs.mixed == "refused":
        yield Issue("not-supported", f"{path}.request.method is not the verb of the request")
    if not REQUEST.issuperset(request) and knobs.conditional == "refused":
        yield Issue("not-supported", f"{path}.request has a condition")
    if kind not in MAIN and knobs.other_types == "refused":
        yield Issue("not-supported", f"{path}.resource is of a type that is not taken")
    yield from _url(url, verb, resource, path, knobs)
    full_url = entry.get("fullUrl")
    if full_url is None and knobs.full_url == "required":
        yield Issue("required", f"{path}.fullUrl is missing")
    if full_url is not None and not (isinstance(full_url, str) and _URN.fullmatch(full_url)):
        yield Issue("invalid", f"{path}.fullUrl is not urn:uuid")


def _url(url: str, verb: str, resource: Resource, path: str, knobs: NjsamsKnobs) -> Iterator[Issue]:
    kind, slash, wanted = url.partition("/")
    if kind != resource["resourceType"]:
        yield Issue("invalid", f"{path}.request.url is of another type than the resource")
    if verb == "POST" and slash:
        yield Issue("invalid", f"{path}.request.url of a create is the bare type")
    if verb == "PUT":
        if not _ID.fullmatch(wanted):
            yield Issue("invalid", f"{path}.request.url of an update is the type and the logical id")
        if resource.get("id", wanted) != wanted or (knobs.update_id == "required" and "id" not in resource):
            yield Issue("invalid", f"{path}.resource.id is not that of request.url")


def unlabelled(entries: tuple[Entry, ...], knobs: NjsamsKnobs) -> list[Issue]:
    """Entries without the label, or with that of another provider (section 4)."""
    if knobs.label == "ignored":
        return []
    found = ((index, _labels(one.resource)) for index, one in enumerate(entries))
    return [
        Issue(
            "forbidden", f"Bundle.entry[{index}].resource has {'the label of another provider' if codes else 'no security label'}"
        )
        for index, codes in found
        if not codes or not codes.issubset(knobs.provider_ids)
    ]


def _labels(resource: Resource) -> set[str]:
    security = _object(resource.get("meta")).get("security")
    labels = [one for one in _list(security) if _object(one).get("system") == LABEL]
    return {str(one.get("code", "")) for one in labels}


def profiles(entries: tuple[Entry, ...], knobs: NjsamsKnobs) -> list[Issue]:
    """What the resources must be (section 8)."""
    return [
        issue for index, one in enumerate(entries) for issue in _resource(one.resource, f"Bundle.entry[{index}].resource", knobs)
    ]


def _resource(resource: Resource, path: str, knobs: NjsamsKnobs) -> Iterator[Issue]:
    kind = resource["resourceType"]
    given = _list(_object(resource.get("meta")).get("profile"))
    if not given and knobs.profiles == "required":
        yield Issue("required", f"{path}.meta.profile is missing")
    if given and knobs.profiles != "ignored" and f"{PROFILE}NJSAMS{kind}" not in given:
        yield Issue("invalid", f"{path}.meta.profile is another profile")
    if any(_labels(_object(one)) for one in _list(resource.get("contained"))):
        yield Issue("invalid", f"{path}.contained has a security label (dom-5)")
    if kind not in _ONE:
        return
    wrong = list(_elements(kind, resource, path, knobs))
    yield from wrong or {"Patient": _patient, "Encounter": _encounter, "Coverage": _coverage}[kind](resource, path, knobs)


def _elements(kind: str, resource: Resource, path: str, knobs: NjsamsKnobs) -> Iterator[Issue]:
    """Names that R4 does not have, and arrays where none belong."""
    one = {*_ONE[kind].split()}
    many = {*_MANY[kind].split(), *(_ALL_MANY if kind != "Bundle" else ())}
    for name, value in resource.items():
        plain = name.removeprefix("_")
        if plain not in one | many:
            if knobs.unknown_elements == "invalid":
                yield Issue("structure", f"{path} has an element that R4 does not have")
        elif isinstance(value, list) != (plain in many):
            yield Issue("structure", f"{path}.{name} is {'not ' if plain in many else ''}an array")


def _patient(patient: Resource, path: str, knobs: NjsamsKnobs) -> Iterator[Issue]:
    identifiers = [_object(one) for one in _list(patient.get("identifier"))]
    yield from _identifiers(patient, path)
    for name in knobs.required_identifiers:
        if not any(one.get("system") == GIVEN.get(name, name) for one in identifiers):
            yield Issue("required", f"{path}.identifier: njsams-{name} is missing")
    names = [_object(one) for one in _list(patient.get("name"))]
    if not all(names) or not all(_text(one.get("family", "?")) for one in names):
        yield Issue("structure", f"{path}.name is not made of names")
    if not any(_text(one.get("family")) or _list(one.get("given")) for one in names):
        yield Issue("required", f"{path}.name needs family or given (us-core-8)")
    if not _of(patient.get("gender"), GENDERS):
        yield Issue("required", f"{path}.gender is missing or not of the value set")
    if "birthDate" in patient and not _is_date(patient["birthDate"]):
        yield Issue("invalid", f"{path}.birthDate is no date")


def _identifiers(resource: Resource, path: str) -> Iterator[Issue]:
    for index, one in enumerate(_list(resource.get("identifier"))):
        if not (_text(_object(one).get("system")) and _text(_object(one).get("value"))):
            yield Issue("required", f"{path}.identifier[{index}] needs system and value")


def _encounter(encounter: Resource, path: str, knobs: NjsamsKnobs) -> Iterator[Issue]:
    if not _of(encounter.get("status"), STATUSES["Encounter"]):
        yield Issue("required", f"{path}.status is missing or not of the value set")
    kind = _object(encounter.get("class"))
    if not kind or (
        knobs.encounter_class == "checked" and (kind.get("system") != ACT_CODE or not _of(kind.get("code"), CLASSES))
    ):
        yield Issue("required", f"{path}.class is missing or not of v3-ActCode")
    types = [_object(one) for one in _list(encounter.get("type"))]
    if not types or not all(_list(one.get("coding")) or _text(one.get("text")) for one in types):
        yield Issue("required", f"{path}.type is missing (US Core)")
    codings = [_object(one) for one in _list(_object(encounter.get("serviceType")).get("coding"))]
    if knobs.level_of_care == "required" and not any(
        one.get("system") == LEVEL_OF_CARE and _of(one.get("code"), LEVELS) for one in codings
    ):
        yield Issue("required", f"{path}.serviceType is missing or not of LevelOfCare")
    if not _text(_object(encounter.get("subject")).get("reference")):
        yield Issue("required", f"{path}.subject is missing")
    yield from _period(encounter, path, required=True)
    yield from _identifiers(encounter, path)


def _period(resource: Resource, path: str, *, required: bool = False) -> Iterator[Issue]:
    period = _object(resource.get("period"))
    if not period:
        if required or "period" in resource:
            yield Issue("required", f"{path}.period is missing")
        return
    given = [period[name] for name in ("start", "end") if name in period]
    if not all(_text(one) and _is_time(one) for one in given):
        yield Issue("invalid", f"{path}.period is no period")
    elif len(given) > 1 and _after(given[0], given[1]):
        yield Issue("invalid", f"{path}.period ends before it starts (per-1)")


def _is_time(value: str) -> bool:
    if not _DATETIME.fullmatch(value) or not _is_date(value[:10]):
        return False
    try:
        return "T" not in value or bool(dt.datetime.fromisoformat(value))
    except ValueError:
        return False


def _after(start: str, end: str) -> bool:
    """Two times by the clock; else as far as both are told."""
    if "T" in start and "T" in end:
        return dt.datetime.fromisoformat(start) > dt.datetime.fromisoformat(end)
    told = min(len(start), len(end), len("2000-01-01"))
    return start[:told] > end[:told]


def _coverage(coverage: Resource, path: str, knobs: NjsamsKnobs) -> Iterator[Issue]:
    if not _of(coverage.get("status"), STATUSES["Coverage"]):
        yield Issue("required", f"{path}.status is missing or not of the value set")
    if not _text(_object(coverage.get("beneficiary")).get("reference")):
        yield Issue("required", f"{path}.beneficiary is missing")
    payors = [_object(one).get("reference") for one in _list(coverage.get("payor"))]
    if not payors or not all(_text(one) for one in payors):
        yield Issue("required", f"{path}.payor is missing")
    if knobs.payors and not all(one in knobs.payors for one in payors):
        yield Issue("invalid", f"{path}.payor is not known")
    if not _text(coverage.get("subscriberId", "?")):
        yield Issue("structure", f"{path}.subscriberId is no text")
    yield from _period(coverage, path)
    yield from _identifiers(coverage, path)


def references(tree: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    """Every literal reference in it."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == "reference" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(tree, list):
        for one in tree:
            yield from references(one)


def _object(value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, list) else []


def _text(value: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, str) and bool(value.strip())


def _of(value: Any, codes: frozenset[str]) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, str) and value in codes


def _is_date(value: Any) -> bool:  # noqa: ANN401 - JSON
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}(-\d{2}(-\d{2})?)?", value):
        return False
    try:
        dt.date.fromisoformat(f"{value}-01-01"[:10] if len(value) < len("2000-01") else f"{value}-01"[:10])
    except ValueError:
        return False
    return True
