"""What RoQua would say of a HoNOS+ document: the stand-in's own reading of contracts/roqua.md section 4.1 and 4.2.

Written from the dossier, not from our mapping: it shares no table with it. Texts name places, never values.
"""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.sandbox.roche.shapes import Issue
from pipeline.sandbox.roqua.knobs import RoquaKnobs

Tree = dict[str, Any]
ITEMS: Final = (*(str(number) for number in range(1, 14)), "A", "B", "C", "D", "E", "Q")
QUESTION: Final = "https://zorgprestatiemodel.nl/fhir/CodingSystem/HoNOSQuestion"
ANSWER: Final = "https://zorgprestatiemodel.nl/fhir/CodingSystem/HoNOSAnswer"
ITEM8: Final = ("https://code24.nl/fhir/CodingSystem/HoNOSItem8Question", "I8")
ITEM8_ANSWER: Final = "https://code24.nl/fhir/CodingSystem/HoNOSItem8Answer"
MEASUREMENT: Final = "http://nictiz.nl/fhir/StructureDefinition/zib-GeneralMeasurement"
COMPOSITION: Final = "http://hl7.org/fhir/STU3/Composition"
HIGHEST: Final = 4
UNKNOWN: Final = 9
LATEST: Final = 253_402_210_000
"""A Unix time beyond the year 9999."""
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})")
_KEYS: Final = {
    "Bundle": {"id", "meta", "resourceType", "type", "entry", "identifier"},
    "Composition": {"resourceType", "id", "meta", "status", "type", "date", "title", "subject", "author", "section"},
    "Observation": {
        "resourceType",
        "id",
        "meta",
        "status",
        "code",
        "subject",
        "effectiveDateTime",
        "valueQuantity",
        "component",
    },
}


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read."""

    id: str
    dossier: str
    professional: str | None
    answers: dict[str, int] = field(repr=False)
    """Item and value."""
    item8: str | None
    """Which other problem."""
    at: float
    """When it was filled out, Unix time."""


def check(bundle: Tree, path_id: str, knobs: RoquaKnobs) -> list[Issue]:
    """All that is wrong with it; empty where it makes a response."""
    if issues := list(_frame(bundle, path_id, knobs)):
        return issues
    resources = [_object(_object(entry).get("resource")) for entry in bundle["entry"]]
    if resources[0].get("resourceType") != "Composition":
        return [Issue("invalid", "Bundle.entry[0].resource is not the Composition")]
    issues = list(_composition(resources[0], bundle, knobs))
    for index, one in enumerate(resources[1:], 1):
        issues += _observation(one, f"Bundle.entry[{index}]", resources[0], knobs)
    issues += _complete(resources[1:])
    if not issues and knobs.document_shape == "published":
        issues += _published(bundle, resources)
    return issues


def document(bundle: Tree) -> Document:
    """Of a bundle that `check` accepted."""
    composition, *observations = (entry["resource"] for entry in bundle["entry"])
    by_item = {_item(one): one for one in observations}
    author = _first(composition.get("author"))
    component = _first(by_item["8"].get("component"))
    coding = _first(_object(component.get("valueCodeableConcept")).get("coding"))
    return Document(
        bundle["id"],
        composition["subject"]["identifier"]["value"],
        _object(author.get("identifier")).get("value"),
        {item: _value(by_item[item]) for item in ITEMS},
        coding.get("code"),
        dt.datetime.fromisoformat(by_item["1"]["effectiveDateTime"]).timestamp(),
    )


def dossier_of(bundle: Tree) -> str | None:
    """Whose it says that it is, whatever else it is."""
    entries = bundle.get("entry")
    resource = _object(_first(entries).get("resource"))
    value = _object(_object(resource.get("subject")).get("identifier")).get("value")
    return value if isinstance(value, str) else None


# parts


def _frame(bundle: Tree, path_id: str, knobs: RoquaKnobs) -> Iterator[Issue]:
    wanted = bundle.get("id")
    if not (isinstance(wanted, str) and _ID.fullmatch(wanted)):
        yield Issue("required", "Bundle.id is missing or no id")
    elif wanted != path_id:
        yield Issue("invalid", "Bundle.id is not the id of the URL")
    if bundle.get("type") != "document":
        yield Issue("invalid", "Bundle.type is not document")
    identifier = bundle.get("identifier")
    if identifier is None and knobs.bundle_identifier == "required":
        yield Issue("required", "Bundle.identifier is missing (bdl-9)")
    if identifier is not None:
        if knobs.bundle_identifier == "refused":
            yield Issue("invalid", "Bundle.identifier is not taken")
        if not (_text(_object(identifier).get("system")) and _text(_object(identifier).get("value"))):
            yield Issue("required", "Bundle.identifier needs system and value (bdl-9)")
    entries = bundle.get("entry")
    if not isinstance(entries, list) or not entries:
        yield Issue("required", "Bundle.entry is missing")
    elif not all(_object(_object(one).get("resource")) for one in entries):
        yield Issue("required", "Bundle.entry has an entry without a resource")


def _composition(composition: Tree, bundle: Tree, knobs: RoquaKnobs) -> Iterator[Issue]:
    path = "Bundle.entry[0].resource"
    if composition.get("status") != "final":
        yield Issue("invalid", f"{path}.status is not final")
    yield from _party(_object(composition.get("subject")), f"{path}.subject", knobs.dossier_system)
    authors = composition.get("author")
    if not isinstance(authors, list) or len(authors) != 1:
        yield Issue("required", f"{path}.author is not one")
    else:
        yield from _party(_object(authors[0]), f"{path}.author", knobs.professional_system)
    if knobs.document_shape == "loose":
        return
    sections = composition.get("section")
    listed = [_object(one).get("reference") for one in _list(_first(sections).get("entry"))]
    if listed != [f"Observation/{bundle['id']}-{item}" for item in ITEMS] or len(_list(sections)) != 1:
        yield Issue("invalid", f"{path}.section does not refer to the 19 Observations in order")


def _party(one: Tree, path: str, system: str) -> Iterator[Issue]:
    identifier = _object(one.get("identifier"))
    if not _text(identifier.get("value")):
        yield Issue("required", f"{path}.identifier.value is missing")
    if not _text(identifier.get("system")) or identifier["system"] != (system or identifier["system"]):
        yield Issue("invalid", f"{path}.identifier.system is missing or not the organization's")


def _observation(one: Tree, path: str, composition: Tree, knobs: RoquaKnobs) -> Iterator[Issue]:
    path = f"{path}.resource"
    item = _item(one)
    if one.get("resourceType") != "Observation" or item is None:
        yield Issue("invalid", f"{path} is not the Observation of an item: code.coding is not HV01 to HV19")
        return
    if one.get("status") != "final":
        yield Issue("invalid", f"{path}.status is not final")
    quantity = _object(one.get("valueQuantity"))
    if quantity.get("system") != ANSWER or not _answered(quantity, ITEMS.index(item), knobs):
        yield Issue("invalid", f"{path}.valueQuantity is no answer to its question")
    effective = one.get("effectiveDateTime")
    if not (isinstance(effective, str) and _is_time(effective)):
        yield Issue("invalid", f"{path}.effectiveDateTime is missing or has no offset")
    if _object(one.get("subject")).get("reference") != _object(composition.get("subject")).get("reference"):
        yield Issue("invalid", f"{path}.subject is not the Composition's")
    yield from _components(one, path, item, knobs)


def _components(one: Tree, path: str, item: str, knobs: RoquaKnobs) -> Iterator[Issue]:
    given = one.get("component")
    if item != "8":
        if given is not None:
            yield Issue("invalid", f"{path}.component: item 8 alone has one")
        return
    if given is None:
        if knobs.item8 == "required" and _value(one):
            yield Issue("required", f"{path}.component is missing")
        return
    first = _first(given)
    asked = _first(_object(first.get("code")).get("coding"))
    answer = _first(_object(first.get("valueCodeableConcept")).get("coding"))
    code = answer.get("code")
    lettered = answer.get("system") == ITEM8_ANSWER and isinstance(code, str) and re.fullmatch("[A-K]", code)
    if len(_list(given)) != 1 or (asked.get("system"), asked.get("code")) != ITEM8 or not lettered:
        yield Issue("invalid", f"{path}.component does not say which other problem")


def _complete(observations: list[Tree]) -> list[Issue]:
    items = [_item(one) for one in observations]
    missing = [item for item in ITEMS if item not in items]
    if missing:
        return [Issue("required", f"Bundle.entry: no answer to item {', '.join(missing)}")]
    return [Issue("invalid", "Bundle.entry: an item is answered twice")] if len(items) != len(ITEMS) else []


def _published(bundle: Tree, resources: list[Tree]) -> Iterator[Issue]:
    """What of the example's form an answer does not need."""
    ids = [bundle["id"], *(f"{bundle['id']}-{item}" for item in ITEMS)]
    for index, (entry, one, wanted) in enumerate(zip(bundle["entry"], resources, ids, strict=True)):
        path, kind = f"Bundle.entry[{index}]", str(one["resourceType"])
        if one.get("id") != wanted or entry.get("fullUrl") != f"urn:uuid:{wanted}" or set(entry) != {"fullUrl", "resource"}:
            yield Issue("invalid", f"{path}: id and fullUrl are not {'the Bundle' if index == 0 else 'its item'}'s")
        if _object(one.get("meta")).get("profile") != [COMPOSITION if index == 0 else MEASUREMENT]:
            yield Issue("invalid", f"{path}.resource.meta.profile is not that of the example")
        if not set(one) <= _KEYS[kind]:
            yield Issue("invalid", f"{path}.resource has an element that the example does not have")
        if not _text(_object(one.get("subject")).get("display")):
            yield Issue("required", f"{path}.resource.subject.display is missing")
    composition = resources[0]
    if not str(_object(composition["subject"]).get("reference")).startswith("Patient/"):
        yield Issue("required", "Bundle.entry[0].resource.subject.reference is missing")
    if not set(bundle) <= _KEYS["Bundle"] or not _is_time(str(_object(bundle.get("meta")).get("lastUpdated"))):
        yield Issue("invalid", "Bundle has an element that the example does not have, or no meta.lastUpdated")
    if composition.get("type") != {"text": "HoNOS+"} or not _text(composition.get("title")):
        yield Issue("invalid", "Bundle.entry[0].resource: type or title is not that of the example")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(composition.get("date"))):
        yield Issue("invalid", "Bundle.entry[0].resource.date is no day")


# values


def _item(observation: Tree) -> str | None:
    codings = _list(_object(observation.get("code")).get("coding"))
    one = _first(codings)
    code = one.get("code")
    if len(codings) != 1 or one.get("system") != QUESTION or not isinstance(code, str):
        return None
    found = re.fullmatch(r"HV(\d\d)", code, re.ASCII)
    return ITEMS[int(found[1]) - 1] if found and 1 <= int(found[1]) <= len(ITEMS) else None


def _answered(quantity: Tree, index: int, knobs: RoquaKnobs) -> bool:
    """Answer code = 5 * (question - 1) + value + 1; or a code for `unknown`."""
    value, code = quantity.get("value"), quantity.get("code")
    if code in knobs.unknown_codes:
        return value in {None, UNKNOWN} if not isinstance(value, (list, dict)) else False
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= HIGHEST:
        return False
    return bool(code == f"HA{(HIGHEST + 1) * index + value + 1:02}")


def _value(observation: Tree) -> int:
    value = _object(observation.get("valueQuantity")).get("value")
    return value if isinstance(value, int) else UNKNOWN


def _is_time(value: str) -> bool:
    if not _TIME.fullmatch(value):
        return False
    try:
        return 0 <= dt.datetime.fromisoformat(value).timestamp() <= LATEST
    except (ValueError, OverflowError):
        return False


def _object(value: Any) -> Tree:  # noqa: ANN401 - JSON
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, list) else []


def _first(value: Any) -> Tree:  # noqa: ANN401 - JSON
    return _object(next(iter(_list(value)), None))


def _text(value: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, str) and bool(value.strip())
