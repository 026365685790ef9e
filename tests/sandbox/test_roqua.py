"""RoQua's stand-in as the dossier has it: documents, responses, reads, rights. Over real TLS."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.sandbox.log import CREATED
from pipeline.sandbox.roqua import RoquaSandbox
from tests.sandbox.roqua_client import BUNDLE, Client

Start = Callable[..., RoquaSandbox]


@pytest.fixture
def client(roqua: RoquaSandbox) -> Iterator[Client]:
    with Client(roqua) as client:
        yield client


# documents


def test_the_published_document_makes_a_response_and_stands_in_the_log(roqua: RoquaSandbox, client: Client) -> None:
    answer = client.put()
    assert (answer.status_code, answer.json()["id"]) == (201, BUNDLE)
    effect = roqua.log.effects(operation="document")[0]
    assert (effect.effect, effect.identifier, effect.partner_id, effect.bundle_id) == (CREATED, "2075", "2075", BUNDLE)
    (written,) = effect.written
    stored: dict[str, Any] = written.resource
    assert (written.type, written.keys) == ("Response", (BUNDLE,))
    assert (stored["dossier"], stored["external_id"], stored["questionnaire_key"]) == ("2075", BUNDLE, "honos_plus")
    assert sum(value for value in stored["values"].values() if isinstance(value, int)) == 28


# responses


def test_a_post_is_201_with_the_response_and_an_empty_location(roqua: RoquaSandbox, client: Client) -> None:
    answer = client.post()
    assert (answer.status_code, answer.headers["Location"]) == (201, "")
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.json()["completed_at"] == "2022-06-01T15:10:00.000+02:00"
    assert [one["external_id"] for one in roqua.dossiers["2075"]] == ["x-1"]
