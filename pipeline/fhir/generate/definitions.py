"""Required bindings and modifiers as data: `python -m pipeline.fhir.generate.definitions RELEASE JAR` rewrites definitions-<release>.json.

The source is HL7's own definitions (profiles-types, profiles-resources, valuesets, v3-codesystems; CC0), as they lie in Maven's
ca.uhn.hapi.fhir:hapi-fhir-validation-resources-{dstu3,r4}. fhir.resources' `enum_values` come from an element's short text: they lack
long lists and hold examples too, so they are not taken. A value set that cannot be listed (MIME types, languages, filters) is left out.
"""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import orjson

ROOM: Final = Path(__file__).parent.parent
F: Final = "{http://hl7.org/fhir}"
FOLDERS: Final = {"stu3": "org/hl7/fhir/dstu3/model", "r4b": "org/hl7/fhir/r4/model"}

Codes = dict[str, list[str]]
"""Codes by their system."""


class Definitions:
    """The definitions of one release, as they lie in the jar."""

    def __init__(self, release: str, jar: Path) -> None:
        folder = FOLDERS[release]
        with zipfile.ZipFile(jar) as archive:
            read = {
                name: ET.fromstring(archive.read(f"{folder}/{name}.xml"))  # noqa: S314 - HL7's own file, from Maven
                for name in (
                    "profile/profiles-types",
                    "profile/profiles-resources",
                    "valueset/valuesets",
                    "valueset/v3-codesystems",
                )
            }
        everything = [one for root in read.values() for one in root.iterfind(f"{F}entry/{F}resource/*")]
        self.structures = [one for one in everything if one.tag == f"{F}StructureDefinition" and _value(one, "kind") != "logical"]
        self.code_systems = {_value(one, "url"): one for one in everything if one.tag == f"{F}CodeSystem"}
        self.value_sets = {_value(one, "url"): one for one in everything if one.tag == f"{F}ValueSet"}

    def codes(self, url: str) -> Codes | None:
        """All codes of a value set; None where it cannot be listed."""
        value_set = self.value_sets.get(url)
        compose = value_set.find(f"{F}compose") if value_set is not None else None
        if compose is None:
            return None
        found: Codes = {}
        for include in compose.iterfind(f"{F}include"):
            part = self._included(include)
            if part is None:
                return None
            for system, codes in part.items():
                found.setdefault(system, []).extend(codes)
        for exclude in compose.iterfind(f"{F}exclude"):
            for system, codes in (self._included(exclude) or {}).items():
                found[system] = [code for code in found.get(system, []) if code not in codes]
        return {system: sorted(set(codes)) for system, codes in sorted(found.items())} or None

    def _included(self, include: ET.Element) -> Codes | None:
        imported = [self.codes(one.get("value", "").split("|")[0]) for one in include.iterfind(f"{F}valueSet")]
        if imported:
            only = imported[0]
            return only if len(imported) == 1 and include.find(f"{F}system") is None else None
        system = _value(include, "system")
        listed = [_value(one, "code") for one in include.iterfind(f"{F}concept")]
        if listed:
            return {system: listed}
        code_system = self.code_systems.get(system)
        if include.find(f"{F}filter") is not None or code_system is None or _value(code_system, "content") != "complete":
            return None
        return {system: [_value(one, "code") for one in code_system.iter(f"{F}concept")]}


def _value(element: ET.Element, name: str) -> str:
    child = element.find(F + name)
    return "" if child is None else child.get("value", "")


def elements_of(definitions: Definitions) -> Iterator[ET.Element]:
    """Each element of each type of FHIR's own, profiles left out."""
    for structure in definitions.structures:
        if _value(structure, "derivation") != "constraint":
            yield from structure.iterfind(f"{F}snapshot/{F}element")


def required(definitions: Definitions) -> Iterator[tuple[str, str]]:
    """Each element path with a required binding, and its value set: ("Patient.contact.gender", "http://…")."""
    for element in elements_of(definitions):
        binding = element.find(f"{F}binding")
        if binding is not None and _value(binding, "strength") == "required":
            reference = binding.find(f"{F}valueSetReference/{F}reference")
            url = (
                reference.get("value", "")
                if reference is not None
                else _value(binding, "valueSet") or _value(binding, "valueSetUri")
            )
            yield _value(element, "path"), url.split("|")[0]


def _owners(path: str, types: dict[str, Any]) -> list[tuple[str, str]]:
    """The type and element of a definition's path: Patient.contact.gender is PatientContact.gender; x[x] is several elements."""
    owner, *steps = path.split(".")
    for step in steps[:-1]:
        found = types.get(owner, {}).get("elements", {}).get(step)
        if found is None:
            return []  # R4 has it, R4B has not
        owner = found["type"]
    last = steps[-1]
    elements = types.get(owner, {}).get("elements", {})
    if last.endswith("[x]"):
        return [(owner, name) for name, element in elements.items() if element.get("choice") == last[:-3]]
    return [(owner, last)] if last in elements else []


def harvest(release: str, jar: Path) -> dict[str, Any]:
    """What the file holds.

    {"source", "bindings": {type: {element: value set}}, "modifiers": {type: [elements]}, "unlisted": {value set: [paths]},
    "value_sets": {value set: {system: [codes]}}}
    """
    definitions = Definitions(release, jar)
    types = orjson.loads((ROOM / f"{release}.json").read_bytes())["types"]
    bindings: dict[str, dict[str, str]] = {}
    value_sets: dict[str, Codes] = {}
    unlisted: dict[str, list[str]] = {}
    for path, url in sorted(set(required(definitions))):
        codes = definitions.codes(url)
        if codes is None:
            unlisted.setdefault(url, []).append(path)
            continue
        value_sets[url] = codes
        for owner, element in _owners(path, types):
            bindings.setdefault(owner, {})[element] = url
    modifiers: dict[str, set[str]] = {}
    for one in elements_of(definitions):
        path = _value(one, "path")
        if _value(one, "isModifier") == "true" and "." in path:
            for owner, element in _owners(path, types):
                modifiers.setdefault(owner, set()).add(element)
    return {
        "source": jar.name,
        "bindings": dict(sorted(bindings.items())),
        "modifiers": {owner: sorted(names) for owner, names in sorted(modifiers.items())},
        "unlisted": unlisted,
        "value_sets": dict(sorted(value_sets.items())),
    }


if __name__ == "__main__":
    which, where = sys.argv[1:]
    data = harvest(which, Path(where))
    lines = [
        orjson.dumps(part)
        + b": {\n"
        + b",\n".join(orjson.dumps(key) + b": " + orjson.dumps(value) for key, value in data[part].items())
        + b"\n}"
        for part in ("bindings", "modifiers", "unlisted", "value_sets")
    ]
    (ROOM / f"definitions-{which}.json").write_bytes(
        b'{"source": ' + orjson.dumps(data["source"]) + b",\n" + b",\n".join(lines) + b"\n}\n"
    )
