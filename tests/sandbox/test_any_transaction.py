"""Whatever is sent, NJSAMS's stand-in answers, and only a transaction that it accepts has an effect: all of it. Without sockets, by Hypothesis."""

import json
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.sandbox.knobs import turned
from pipeline.sandbox.njsams.authorization import Authorization
from pipeline.sandbox.njsams.contract import ROOT, Njsams
from pipeline.sandbox.njsams.knobs import NjsamsKnobs
from pipeline.sandbox.wire import Request
from tests.sandbox.njsams_client import creates
from tests.sandbox.test_any_body import JSON, places

LOOSE: dict[str, Any] = {
    "label": "ignored",
    "mixed": "accepted",
    "conditional": "ignored",
    "full_url": "optional",
    "other_types": "accepted",
    "profiles": "ignored",
    "required_identifiers": "",
    "level_of_care": "optional",
    "encounter_class": "ignored",
    "unknown_elements": "ignored",
    "update_unknown": "created",
    "reference_unknown": "accepted",
    "visible_after_hours": 0,
}
GOOD = creates()
PLACES = [path for path in places(GOOD) if path]
with tempfile.TemporaryDirectory() as _folder:
    AUTHORIZATION = Authorization(Path(_folder), "secret")
SEARCHES = (
    "Patient?family=a&identifier=b",
    "Encounter?subject=x&date=2024&_include=Encounter:subject",
    "Coverage?payor=x&beneficiary=y",
)


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The good bundle with another value at a place."""
    tree: Any = deepcopy(GOOD)
    found = tree
    for name in path[:-1]:
        found = found[name]
    found[path[-1]] = value
    return tree  # type: ignore[no-any-return]  # a Bundle


def holds(body: bytes, method: str = "POST", **knobs: Any) -> None:  # noqa: ANN401 - as knobs.turned
    """An answer of the list, an effect of all entries or of none; and what it then has can be searched and sent again."""
    njsams = Njsams(AUTHORIZATION, turned(NjsamsKnobs(), knobs))
    headers = {"authorization": f"Bearer {AUTHORIZATION.given()}", "content-type": "application/json+fhir"}
    for number in (1, 2):
        reading = njsams.read(Request(method, f"{ROOT}/Bundle", headers, body))
        done = njsams.apply(reading, number)
        njsams.named(reading)
        njsams.sent(reading)
        assert done.answer.status in {200, 400, 403, 404, 409, 422}
        taken = done.answer.status == 200
        assert (done.effect != "nothing", bool(done.written), bool(done.issues)) == (taken, taken, not taken)
        assert not taken or len(done.written) == len(json.loads(body)["entry"])
    for search in SEARCHES:
        path, _, query = search.partition("?")
        found = njsams.read(Request("GET", f"{ROOT}/{path}", headers, b"", query=query))
        assert njsams.apply(found, 3).answer.status == 200


@given(st.binary() | JSON.map(lambda tree: json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": tree}).encode()))
def test_any_body(body: bytes) -> None:
    holds(body)
    holds(body, "PUT", **LOOSE)


@given(st.sampled_from(PLACES), JSON)
@example(("entry", 0, "request", "url"), "Patient/")
@example(("entry", 0, "request", "method"), [False])
@example(("entry", 0, "resource", "gender"), {"a": 1})
@example(("entry", 1, "resource", "subject", "reference"), "Patient/")
@example(("entry", 2, "resource", "payor", 0), "x")
def test_any_value_at_any_place(path: tuple[Any, ...], value: Any) -> None:  # noqa: ANN401 - JSON
    body = json.dumps(changed(path, value)).encode()
    holds(body)
    holds(body, **LOOSE)
    holds(body, "PUT", **LOOSE)


def test_the_good_transaction_is_accepted() -> None:
    njsams = Njsams(AUTHORIZATION)
    headers = {"authorization": f"Bearer {AUTHORIZATION.given()}", "content-type": "application/json+fhir"}
    done = njsams.apply(njsams.read(Request("POST", f"{ROOT}/Bundle", headers, json.dumps(GOOD).encode())), 1)
    assert (done.answer.status, len(done.written)) == (200, 3)
