"""What the mappings make of SIU messages is what its patient is served: each golden appointment, in both formats, with all that it references."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.appointments.changes import change_of, keys_of
from pipeline.fhir.xml import from_xml
from pipeline.wiring import MAPPINGS
from tests.serve.xis.stand_ins import BASE, House, ids, tree

GOLDEN = sorted((MAPPINGS / "medmij" / "golden").glob("*.json"))


def references(node: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - JSON
    if isinstance(node, dict):
        if "reference" in node:
            yield node
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def puts() -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in GOLDEN:
        said = orjson.loads(file.read_bytes())
        for request in said if isinstance(said, list) else []:
            if request["method"] == "PUT":
                yield file, request


@pytest.mark.parametrize("put", [pytest.param(one, id=file.stem) for file, one in puts()])
def test_a_patient_is_served_what_his_message_became(put: dict[str, Any]) -> None:
    made = House()
    identifiers = [tuple(one.split("|")) for one in put["headers"]["x-patient"].split(", ")]
    resources = [entry["resource"] for entry in put["body"]["entry"]]
    name = put["path"].rpartition("/")[2]
    made.store.put(change_of(resources, name, keys_of(identifiers, made.pseudonyms), int(put["headers"]["x-event-ms"]), None))
    bsn = next((value for system, value in identifiers if system.endswith("/bsn")), None)
    token = made.issuer.token(bsn, patient_number=None if bsn else identifiers[0][1])
    told = made.asked("/Appointment", token)
    page = tree(told)
    assert ids(page) == [name]
    assert page["entry"][0]["fullUrl"] == f"{BASE}/Appointment/{name}"
    assert bsn is None or bsn.encode() not in told.body
    appointment = page["entry"][0]["resource"]
    assert from_xml(made.asked("/Appointment?_format=xml", token).body)["entry"][0]["resource"] == appointment
    for reference in references(appointment):
        assert reference["display"]
        read = tree(made.asked(f"/{reference['reference']}", token))
        assert f"{read['resourceType']}/{read['id']}" == reference["reference"]
        assert from_xml(made.asked(f"/{reference['reference']}?_format=xml", token).body) == read
    assert made.found("", made.issuer.token("999900006")) == []


def test_there_are_such_messages() -> None:
    assert len(list(puts())) > 10
