"""Whatever is sent, RoQua's stand-in answers, and only what it accepts has an effect. Without sockets, by Hypothesis."""

import json
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from tests.sandbox.roqua_client import BUNDLE, Direct, document, submission
from tests.sandbox.test_any_body import JSON, places

LOOSE: dict[str, Any] = {
    "content_type": "any",
    "document_shape": "loose",
    "unknown_codes": "HA96,x",
    "document_again": "twice",
    "external_id": "optional",
    "answers": "any",
    "update_unknown": "created",
    "create_again": "twice",
    "questionnaires": "honos_plus,oq45,x",
    "path_id": "either",
    "document_body": "response",
    "errors": "nested",
}
FOLDER = Path(tempfile.gettempdir())
PLACES = [path for path in places(document()) if path]
FIELDS = [path for path in places(submission()) if path]
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


def changed(tree: dict[str, Any], path: tuple[Any, ...], value: Any) -> bytes:  # noqa: ANN401 - JSON
    """The tree with another value at a place, as it is sent."""
    tree = deepcopy(tree)
    found: Any = tree
    for name in path[:-1]:
        found = found[name]
    found[path[-1]] = value
    return json.dumps(tree).encode()


def holds(method: str, path: str, body: bytes = b"", query: str = "", **knobs: Any) -> None:  # noqa: ANN401 - as knobs.turned
    """An answer of the list, an effect where it says so alone, a line that can be written, and what it has can be shown."""
    direct = Direct(FOLDER, **knobs)
    for _ in (1, 2):
        done = direct.send(method, path, body, query)
        assert done.answer.status in {200, 201, 204, 400, 403, 404, 413, 415, 422}
        writes = method != "GET" and done.answer.status in {200, 201, 204}
        assert (done.effect != "nothing", bool(done.written)) == (writes, writes)
        orjson.dumps(done.written)
        assert not done.issues or done.answer.status >= 400
    for dossier in direct.roqua.responses.dossiers():
        shown = direct.send("GET", "/medmij_fhir/Observation", query=f"subject={dossier}")
        assert shown.answer.status == 200
    assert direct.send("GET", "/api/v1/dossiers/2075/responses").answer.status == 200


@given(st.binary() | JSON.map(lambda tree: json.dumps(tree).encode()))
def test_any_body(body: bytes) -> None:
    for knobs in ({}, LOOSE):
        holds("PUT", f"/medmij_fhir/Bundle/{BUNDLE}", body, **knobs)
        holds("POST", "/api/v1/dossiers/2075/responses", body, **knobs)
        holds("PUT", "/api/v1/dossiers/2075/responses/x-1", body, **knobs)


@given(st.sampled_from(PLACES), JSON)
@example(("entry", 0, "resource", "subject", "identifier", "value"), "\x00")
@example(("entry", 1, "resource", "effectiveDateTime"), "0001-01-01T00:00:00+14:00")
@example(("entry", 1, "resource", "effectiveDateTime"), "9999-12-31T23:59:59-14:00")
@example(("entry", 1, "resource", "valueQuantity", "code"), ["HA01"])
@example(("entry", 1, "resource", "valueQuantity"), {"code": "HA96", "system": "x", "value": []})
@example(("entry", 0, "resource", "section"), {"entry": 1})
@example(("id",), ["x"])
def test_any_value_at_any_place_of_a_document(path: tuple[Any, ...], value: Any) -> None:  # noqa: ANN401 - JSON
    body = changed(document(), path, value)
    holds("PUT", f"/medmij_fhir/Bundle/{BUNDLE}", body)
    holds("PUT", f"/medmij_fhir/Bundle/{BUNDLE}", body, **LOOSE)


@given(st.sampled_from(FIELDS), JSON)
@example(("answer_data", "v_1"), 2**64)
@example(("answer_data", "v_1"), float("inf"))
@example(("answer_data", "v_1"), "\ud800")
@example(("answer_data",), {"\ud800": "a1"})
@example(("filled_out_at",), 253_402_210_000)
@example(("questionnaire_key",), ["x"])
@example(("respondent_type",), {})
@example(("entered_by",), "")
def test_any_value_at_any_place_of_a_response(path: tuple[Any, ...], value: Any) -> None:  # noqa: ANN401 - JSON
    body = changed(submission(), path, value)
    holds("POST", "/api/v1/dossiers/2075/responses", body)
    holds("POST", "/api/v1/dossiers/2075/responses", body, **LOOSE)
    holds("PUT", "/api/v1/dossiers/2075/responses/x-1", body, **LOOSE)


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.lists(TEXT | st.sampled_from(["api", "v1", "dossiers", "responses", "medmij_fhir", "Bundle", "%FF"]), max_size=6),
    st.dictionaries(st.sampled_from(["completed_after", "respondent_id", "status", "subject", "questionnaire_keys[]"]), TEXT),
)
@example("GET", ["api", "v1", "dossiers", "1", "responses"], {"completed_after": "0001-01-01T00:00:00+14:00"})
@example("GET", ["api", "v1", "dossiers", "1", "responses"], {"respondent_id": "9" * 5000})
@example("GET", ["api", "v1", "dossiers", "%FF", "responses"], {})
def test_any_path_and_query(method: str, words: list[str], query: dict[str, str]) -> None:
    holds(method, f"/{'/'.join(words)}", b"{}", "&".join(f"{name}={value}" for name, value in query.items()))
