"""FHIR's types as pydantic-core validators, compiled from the metadata when a type is first asked for. No findings, no paths here.

A type becomes a typed dict over all of its elements, closed, with its rules behind it: what pydantic-core cannot say of one dict
(choices, `_name` beside a name, invariants). Data types are shared by reference. Resources inside resources, and extensions (which hold
forty types), are validators of their own, compiled when one is met: a Patient costs a millisecond, not the release's 490 types.
"""

from collections.abc import Iterable
from typing import Any, Final, cast

from pydantic_core import CoreSchema, SchemaValidator, core_schema

from pipeline.fhir.metadata import Element, Release, Type, resource_types, type_named
from pipeline.fhir.primitives import PATTERNS
from pipeline.fhir.primitives import schema as primitive_schema
from pipeline.fhir.rules import after, fail
from schemas.outcomes import FindingCode

SHARED: Final = frozenset({"boolean", "decimal", "integer", "unsignedInt", "positiveInt"})
"""Primitives that are cheap enough to stand in place; the others hold an expression and are shared by reference."""
ABSOLUTE: Final = frozenset({"Coding", "Identifier"})
"""Types whose `system` is an absolute URI (datatypes.html): a bare OID names nothing."""
ID: Final = r"[A-Za-z0-9.\-]{1,64}"


class Compiled:
    """One release's validators, each compiled once."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self._resources = resource_types(release)
        self._validators: dict[str, SchemaValidator] = {}

    def validator(self, name: str) -> SchemaValidator:
        """The validator of a type; KeyError where the release has no such type."""
        found = self._validators.get(name)
        if found is None:
            found = self._validators[name] = _Compiler(self, name).validator()
        return found

    def resource(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        """Check any resource, by its resourceType. ValidationError."""
        kind = value.get("resourceType") if isinstance(value, dict) else None
        if not isinstance(kind, str) or kind not in self._resources:
            where = ("resourceType",) if isinstance(value, dict) else ()
            code = FindingCode.MISSING_ELEMENT if kind is None and where else FindingCode.WRONG_TYPE
            fail([(code, where, "resourceType")])
        return (self._validators.get(kind) or self.validator(kind)).validate_python(value)

    def extension(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        """Check an extension. ValidationError."""
        return self.validator("Extension").validate_python(value)


class _Compiler:
    """Compiles one type and the data types below it."""

    def __init__(self, compiled: Compiled, root: str) -> None:
        self._compiled = compiled
        self._release = compiled.release
        self._root = root
        self._definitions: dict[str, CoreSchema] = {}

    def validator(self) -> SchemaValidator:
        root = self._of(self._root)
        return SchemaValidator(core_schema.definitions_schema(root, list(self._definitions.values())))

    def _of(self, name: str) -> CoreSchema:
        """A reference to the type's definition, which is made on the first call."""
        if name not in self._definitions:
            self._definitions[name] = core_schema.any_schema()  # its place: types may hold themselves
            known = type_named(self._release, name)
            if known is None:
                raise KeyError(name)
            self._definitions[name] = self._object(known, name)
        return core_schema.definition_reference_schema(name)

    def _object(self, known: Type, ref: str, targets: tuple[str, ...] = ()) -> CoreSchema:
        fields: dict[str, core_schema.TypedDictField] = {}
        if known.resource:
            fields["resourceType"] = core_schema.typed_dict_field(core_schema.literal_schema([known.name]), required=True)
        for element in known.elements.values():
            one = (
                self._reference(targets)
                if known.name == "Reference" and element.name == "reference"
                else self._single(known.name, element)
            )
            value = core_schema.list_schema(_nullable(one, element), min_length=1, strict=True) if element.many else one
            fields[element.name] = core_schema.typed_dict_field(value, required=element.required and not element.extensible)
            if element.extensible:
                beside = self._of("Element")
                fields[f"_{element.name}"] = core_schema.typed_dict_field(
                    core_schema.list_schema(core_schema.nullable_schema(beside), min_length=1, strict=True)
                    if element.many
                    else beside,
                    required=False,
                )
        body = core_schema.typed_dict_schema(fields, extra_behavior="forbid", strict=True)
        return core_schema.no_info_after_validator_function(after(self._release, known, targets), body, ref=ref)

    def _single(self, owner: str, element: Element) -> CoreSchema:
        if element.codes is not None:
            return core_schema.literal_schema(sorted(element.codes))
        if element.primitive:
            name = "absolute" if element.name == "system" and owner in ABSOLUTE else element.type
            return primitive_schema(name) if name in SHARED else self._primitive(name)
        match element.type:
            case "Resource":
                return core_schema.no_info_plain_validator_function(self._compiled.resource)
            case "Extension":
                return core_schema.no_info_plain_validator_function(self._compiled.extension)
            case "Reference":
                return self._reference_to(element.targets)
            case _:
                return self._of(element.type)

    def _primitive(self, name: str) -> CoreSchema:
        if name not in self._definitions:
            self._definitions[name] = cast("CoreSchema", {**primitive_schema(name), "ref": name})
        return core_schema.definition_reference_schema(name)

    def _reference_to(self, targets: tuple[str, ...]) -> CoreSchema:
        """Reference is compiled once for each set of targets."""
        named = () if not targets or "Resource" in targets else tuple(sorted(targets))
        ref = f"Reference({'|'.join(named)})"
        if ref not in self._definitions:
            self._definitions[ref] = core_schema.any_schema()
            known = cast("Type", type_named(self._release, "Reference"))
            self._definitions[ref] = self._object(known, ref, named)
        return core_schema.definition_reference_schema(ref)

    def _reference(self, targets: tuple[str, ...]) -> CoreSchema:
        return core_schema.str_schema(strict=True, pattern=reference_pattern(targets or sorted(resource_types(self._release))))


def reference_pattern(types: Iterable[str]) -> str:
    """Reference.reference (references.html): #id, Type/id, an absolute URL, urn:uuid, urn:oid; a search (Type?…) in a transaction.

    That an absolute URL's type fits too is `_elsewhere`'s business (rules.py).
    """
    names = "|".join(types)
    local = rf"#|#{ID}|(?:{names})/{ID}(?:/_history/{ID})?|(?:{names})\?[^\x00-\x20]+"
    return rf"^(?:{local}|https?://[^\x00-\x20]+|{PATTERNS['uuid']}|{PATTERNS['oid']})$"


def _nullable(item: CoreSchema, element: Element) -> CoreSchema:
    """An item of an array; a null lines a primitive array up with its `_` array."""
    return core_schema.nullable_schema(item) if element.extensible else item
