"""The data files: what lint asks of them, and that they are what the sources say."""

from pathlib import Path
from typing import Final

import orjson
import pytest

from pipeline.fhir import metadata
from pipeline.fhir.generate import models
from pipeline.fhir.invariants import INVARIANTS
from pipeline.fhir.metadata import Release, element, resource_types, type_named

ROOM: Final = Path(metadata.__file__).parent


@pytest.mark.parametrize("release", Release)
def test_the_metadata_is_what_fhir_resources_says(release: Release) -> None:
    stale = (ROOM / f"{release}.json").read_bytes() != models.rendered(release)

    assert not stale, "stale: run python -m pipeline.fhir.generate.models"


@pytest.mark.parametrize("release", Release)
def test_bindings_and_modifiers_are_of_elements_that_exist(release: Release) -> None:
    data = orjson.loads((ROOM / f"definitions-{release}.json").read_bytes())

    pairs = [(owner, name) for owner, names in (data["bindings"] | data["modifiers"]).items() for name in names]
    missing = [pair for pair in pairs if (known := type_named(release, pair[0])) is None or pair[1] not in known.elements]

    assert len(pairs) > 200
    assert missing == []


@pytest.mark.parametrize("release", Release)
def test_every_type_that_an_element_names_exists(release: Release) -> None:
    types = orjson.loads((ROOM / f"{release}.json").read_bytes())["types"]

    named = {one["type"] for entry in types.values() for one in entry["elements"].values()}

    assert {name for name in named if name[0].isupper() and type_named(release, name) is None} == set()


@pytest.mark.parametrize("release", Release)
def test_the_order_of_each_type_has_each_of_its_elements_once(release: Release) -> None:
    types = orjson.loads((ROOM / f"{release}.json").read_bytes())["types"]

    ordered = [known for name in types if (known := type_named(release, name)) and known.order]

    assert len(ordered) > len(types) - 3
    assert [known.name for known in ordered if sorted(known.order) != sorted(known.elements)] == []


def test_the_invariants_name_types_and_elements_that_exist() -> None:
    for name, rows in INVARIANTS.items():
        for row in rows:
            for release in row.releases:
                known = type_named(release, name)
                if known is not None:
                    assert not row.at or row.at in known.elements, (name, row.key, row.at)
                    assert not row.when or row.when in known.elements, (name, row.key, row.when)


def test_an_element_is_found_by_its_path() -> None:
    gender = element(Release.STU3, "Patient.contact[0].gender")

    assert gender is not None
    assert (gender.type, gender.many, gender.required) == ("code", False, False)
    assert gender.codes == frozenset({"male", "female", "other", "unknown"})


def test_what_is_not_in_the_release_is_not_found() -> None:
    assert element(Release.STU3, "Patient.name.famly") is None
    assert element(Release.STU3, "Pasient.name") is None
    assert element(Release.STU3, "Patient.gender.value") is None
    assert element(Release.STU3, "Bundle.timestamp") is None
    assert element(Release.R4B, "Bundle.timestamp") is not None


def test_choices_targets_and_modifiers_are_told() -> None:
    deceased = element(Release.STU3, "Patient.deceasedDateTime")
    subject = element(Release.STU3, "Condition.subject")
    use = element(Release.STU3, "Identifier.use")

    assert deceased is not None
    assert subject is not None
    assert use is not None
    assert deceased.choice == "deceased"
    assert (subject.required, set(subject.targets)) == (True, {"Patient", "Group"})
    assert use.modifier


def test_only_what_can_stand_alone_is_a_resource_type() -> None:
    assert {"Patient", "Bundle", "MessageHeader"} < resource_types(Release.STU3)
    assert not {"Resource", "DomainResource", "HumanName", "FHIRResourceModel"} & resource_types(Release.STU3)
