"""The asserts hold for another server's answers, and each of them finds what it is for."""

import copy
from typing import Any

import pytest

from pipeline.sandbox.medmij.contract import Asked, Medmij
from pipeline.sandbox.medmij.issuer import Issuer
from pipeline.sandbox.medmij.knobs import MedmijKnobs
from pipeline.sandbox.medmij.search import parsed
from pipeline.sandbox.medmij.xml import written
from tests.serve.medmij_asserts import broken, heard

Tree = dict[str, Any]
QUERY = "date=ge1900"
BSN = "http://fhir.nl/fhir/NamingSystem/bsn"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """What MedMij's stand-in answers for a patient with three appointments, with all that they reference."""
    knobs = MedmijKnobs(referenced="included", total="page")
    server = Medmij(Issuer(tmp_path_factory.mktemp("issuer"), "secret"), knobs)
    return server._searched(Asked(person="p-1", query=parsed(QUERY, knobs), raw=QUERY), 1)


def test_another_servers_answer_breaks_none(bundle: Tree) -> None:
    assert broken(heard(QUERY, 200, bundle), 3) == []
    assert broken(heard(QUERY, 200, bundle, written(bundle)), 3) == []


def _set(tree: Tree, path: str, value: object) -> None:
    *parents, last = (int(one) if one.isdigit() else one for one in path.split("."))
    for one in parents:
        tree = tree[one]  # type: ignore[index]
    if value is None:
        del tree[last]  # type: ignore[arg-type]
    else:
        tree[last] = value  # type: ignore[index]


APPOINTMENT, PATIENT = "entry.0.resource", "entry.3.resource"
MISTAKES: list[tuple[int, str, object]] = [
    (2, "resourceType", "List"),
    (3, "type", "collection"),
    (4, f"{APPOINTMENT}.id", None),
    (5, f"{PATIENT}.meta", None),
    (6, "entry.0.fullUrl", "https://localhost/fhir/Appointment/another"),
    (7, "entry.0.fullUrl", "Appointment/a-1"),
    (7, "entry.0.fullUrl", "urn:uuid:1"),
    (8, f"{APPOINTMENT}.participant", None),
    (8, f"{APPOINTMENT}.colour", "blue"),
    (9, f"{APPOINTMENT}.appointmentType.coding.0.system", None),
    (10, f"{APPOINTMENT}.appointmentType.coding.0.system", "urn:oid:2.16.840.1.113883.2.4.3.11.60.40.2.1.2.3"),
    (11, f"{APPOINTMENT}.appointmentType.coding.0.display", None),
    (12, f"{APPOINTMENT}.participant.0.actor.display", None),
    (12, f"{APPOINTMENT}.participant.1.actor.extension.0.valueReference.display", None),
    (13, f"{APPOINTMENT}.identifier.0.value", None),
    (13, f"{APPOINTMENT}.identifier.0.system", None),
    (14, f"{PATIENT}.identifier.0", {"system": BSN, "value": "999900201"}),
    (15, "total", 4),
    (16, "link.0.relation", "first"),
    (17, "link.0.url", f"https://localhost/fhir/Appointment?{QUERY}&identifier=http%3A%2F%2Ffhir.nl/fhir/NamingSystem/bsn|1"),
    (18, "link.0.url", "https://localhost/fhir/Appointment"),
    (19, "entry.0", {"fullUrl": "https://localhost/fhir/Basic/b", "resource": {"resourceType": "Basic", "id": "b"}}),
]


@pytest.mark.parametrize(("number", "path", "value"), MISTAKES)
def test_each_assert_finds_its_mistake(bundle: Tree, number: int, path: str, value: object) -> None:
    wrong = copy.deepcopy(bundle)
    _set(wrong, path, value)
    assert number in {found for found, _ in broken(heard(QUERY, 200, wrong), 3)}


def test_the_status_counts_too(bundle: Tree) -> None:
    assert broken(heard(QUERY, 400, bundle), 3) == [(1, "400")]


def test_every_assert_has_its_mistake() -> None:
    assert {1, *(number for number, _, _ in MISTAKES)} == {*range(1, 20)}
