"""Resources become changes of the store: checked, each appointment with what it references and whose it is, no BSN left in a body. No I/O."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from pipeline.appointments import bsns
from pipeline.appointments.bsns import BSN
from pipeline.appointments.changes import Unusable, change_of, instant_ms, keys_of
from pipeline.appointments.port import Change, Key
from pipeline.commands.appointments.reading import Mistake, Stood
from pipeline.fhir import profile, references
from pipeline.fhir.validator import Validator
from pipeline.model import Finding, Resource
from pipeline.partners.medmij.parts import whole_bsn
from pipeline.pseudonyms import Pseudonyms
from schemas.medmij import CHECK

Place = tuple[str, str]
Identifier = tuple[str, str]
BSNS: Final = frozenset({BSN, "urn:oid:2.16.840.1.113883.2.4.6.3"})
"""The systems that a BSN goes by."""
MASKED: Final = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}
SERVED: Final = frozenset({"Patient", "Practitioner", "PractitionerRole", "Location", "Organization"})
"""What a patient's software reads beside the appointment: a reference to one of these has to lead somewhere."""
ENTRY: Final = re.compile(
    r"Bundle\.entry\[(\d+)\]\.resource(?:\.(?:Appointment|Patient|Practitioner|PractitionerRole|Location|Organization)(?=\.))?"
)
LOCAL: Final = re.compile(r"([A-Za-z]+)/([A-Za-z0-9.\-]{1,64})(?:/_history/[A-Za-z0-9.\-]{1,64})?")


@dataclass(frozen=True, slots=True)
class File:
    """What a file holds, once it is read and checked."""

    name: str
    there: Mapping[Place, Stood] = field(repr=False)
    mistakes: tuple[Mistake, ...]


def checked(name: str, read: Iterable[Stood | Mistake], validator: Validator) -> File:
    """The resources of a file by type and id, and a line for each that cannot be taken."""
    there: dict[Place, Stood] = {}
    mistakes: list[Mistake] = []
    for one in read:
        if isinstance(one, Mistake):
            mistakes.append(one)
            continue
        place = (str(one.resource["resourceType"]), str(one.resource.get("id", "")))
        findings = validator.check(one.resource) or references.check(one.resource)
        if findings:
            mistakes.append(Mistake(one.where, _told(findings)))
        elif not place[1]:
            mistakes.append(Mistake(one.where, f"{place[0]}.id is missing: it is kept, so it has to be there"))
        elif place in there and there[place].resource != one.resource:
            mistakes.append(Mistake(one.where, f"another {place[0]} with the same id stands at {there[place].where}"))
        else:
            there[place] = one
    return File(name, there, tuple(mistakes))


def _told(findings: tuple[Finding, ...]) -> str:
    first = findings[0]
    about = f" ({first.about})" if first.about else ""
    more = f", and {len(findings) - 1} more" if len(findings) > 1 else ""
    return f"{first.fhir}: {first.code.sentence}{about}{more}"


class Maker:
    """Makes the changes of files that were read together."""

    def __init__(
        self,
        files: Iterable[File],
        systems: frozenset[str],
        identifiers: Mapping[str, tuple[Identifier, ...]],
        pseudonyms: Pseudonyms,
        now_ms: int,
    ) -> None:
        """`systems`: those whose identifiers name one person; a family may share any other (a policy number). `identifiers`: of Patients, by their id, beside their own."""
        self._systems = systems | BSNS
        self._beside: dict[Place, Stood] = {}
        self._unlike: set[Place] = set()  # what two files have, each another: an id means something in its own file alone
        for place, stood in (each for file in files if not file.mistakes for each in file.there.items()):
            if self._beside.setdefault(place, stood).resource != stood.resource:
                self._unlike.add(place)
        self._identifiers, self._pseudonyms, self._now_ms = identifiers, pseudonyms, now_ms
        self._bsns = bsns.known(whole(*each) for each in (*_own(self._beside.values()), *chain(*identifiers.values())))

    def ignored(self, file: File) -> list[str]:
        """The systems of Patients' identifiers that name nobody here."""
        patients = (stood for place, stood in file.there.items() if place[0] == "Patient")
        return sorted({system for system, _ in _own(patients) if system and system not in self._systems})

    def changes(self, file: File) -> Iterator[tuple[str, Change] | Mistake]:
        """For each appointment where it stood and its change, or why there is none."""
        for place, stood in file.there.items():
            if place[0] == "Appointment":
                try:
                    yield stood.where, self._change(file, place, stood.resource)
                except Unusable as error:
                    yield Mistake(stood.where, str(error))

    def _change(self, file: File, place: Place, appointment: Resource) -> Change:
        found: dict[Place, Resource] = {place: appointment}
        self._follow(file, found, appointment, told=True)
        keys = self._keys(file, appointment)
        if sum(kind == "Patient" for kind, _ in found) > 1:
            raise Unusable("what it references leads to another Patient than its own")
        masked: list[Resource] = [bsns.without(_masked(each), self._bsns) for each in found.values()]
        if bsns.named_by(masked, self._bsns):
            raise Unusable("the BSN of a patient is in an id or a reference of it: everybody who reads it would see that")
        _meets_medmij(masked)
        changed = appointment.get("meta", {}).get("lastUpdated")
        return change_of(
            masked,
            place[1],
            keys,
            self._now_ms
            if changed is None
            else min(instant_ms(changed), self._now_ms),  # of a clock ahead: else nothing gets over it
            None,
        )

    def _follow(self, file: File, found: dict[Place, Resource], resource: Resource, *, told: bool = False) -> None:
        """What it references, and what that does. Of the appointment itself each reference to what is served has to lead somewhere."""
        for reference in _references(resource):
            local = LOCAL.fullmatch(reference)
            if local is None:
                if told and reference.startswith("urn:"):
                    raise Unusable("it references by urn: write Type/id, since that is what is read later")
                continue
            place = (local[1], local[2])
            if place not in file.there and place in self._unlike:
                raise Unusable(f"it references a {place[0]} that is not in its file, and that two others have, each another one")
            there = file.there.get(place) or self._beside.get(place)
            if there is None and told and place[0] in SERVED:
                raise Unusable(f"it references a {place[0]} that is in none of the files")
            if there is not None and place not in found and place[0] != "Appointment":
                found[place] = there.resource
                self._follow(file, found, there.resource)

    def _keys(self, file: File, appointment: Resource) -> tuple[Key, ...]:
        actors = [each.get("actor", {}).get("reference", "") for each in appointment["participant"]]
        patients = {match[2] for each in actors if (match := LOCAL.fullmatch(each)) and match[1] == "Patient"}
        if len(patients) != 1:
            raise Unusable("no patient among its participants" if not patients else "several patients among its participants")
        name = patients.pop()
        if name in self._identifiers and ("Patient", name) in self._unlike:
            raise Unusable("its Patient's id is not the same Patient in every file: with --patients load them one by one")
        patient = (file.there.get(("Patient", name)) or self._beside[("Patient", name)]).resource
        own = [
            (each["system"], each.get("value", ""))
            for each in patient.get("identifier", ())
            if each.get("system") in self._systems
        ]
        keys = keys_of([whole(*each) for each in (*own, *self._identifiers.get(name, ()))], self._pseudonyms)
        if not keys:
            raise Unusable(
                "its Patient has no identifier of a system that the table identifier-systems-medmij has (a masked one does not help):"
                " add the hospital's own system there, or give one by --patients"
            )
        return keys


def _own(there: Iterable[Stood]) -> Iterator[Identifier]:
    """All identifiers of all Patients."""
    for stood in there:
        if stood.resource["resourceType"] == "Patient":
            yield from ((each.get("system", ""), each.get("value", "")) for each in stood.resource.get("identifier", ()))


def whole(system: str, value: str) -> Identifier:
    """A BSN under its one name with its nine digits; what is none names nobody."""
    return (BSN, whole_bsn(value.strip()) or "") if system in BSNS else (system, value)


def _meets_medmij(resources: list[Resource]) -> None:
    """What goes in by messages meets it as well: who asks relies on it."""
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in resources]}
    findings = profile.check(CHECK, bundle, "Bundle")
    if findings:
        told = _told(findings)
        entry = ENTRY.match(told)
        raise Unusable(f"MedMij: {told.replace(entry[0], resources[int(entry[1])]['resourceType'], 1) if entry else told}")


def _references(node: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(node, dict):
        if isinstance(node.get("reference"), str):
            yield node["reference"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _masked(node: Any) -> Any:  # noqa: ANN401 - JSON
    """The same without any BSN: its value is masked, as MedMij wants it."""
    if isinstance(node, list):
        return [_masked(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("system") in BSNS and "value" in node:
        node = {name: value for name, value in node.items() if name != "value"} | {"_value": {"extension": [MASKED]}}
    return {name: _masked(value) for name, value in node.items()}
