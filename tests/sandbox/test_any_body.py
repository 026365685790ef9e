"""Whatever is sent, Roche answers by its own list of codes, and only a body that it accepts has an effect. Without sockets, by Hypothesis."""

import json
from copy import deepcopy
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.sandbox.knobs import Knobs, parse
from pipeline.sandbox.roche.contract import BASE, Roche
from pipeline.sandbox.wire import Request
from tests.sandbox.client import bundle

CODES = {"required", "structure", "invalid", "too-long"}
"""Of the brief's list; timeout and exception are only ordered."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401 - JSON
    """All paths into a tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(found for name, value in inner for found in places(value, (*path, name)))]


PLACES = [path for path in places(bundle()) if path]


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The good bundle with another value at a place."""
    tree: Any = deepcopy(bundle())
    found = tree
    for name in path[:-1]:
        found = found[name]
    found[path[-1]] = value
    return tree  # type: ignore[no-any-return]  # a Bundle


def ask(body: bytes, **knobs: str) -> tuple[int, set[str], str, int]:
    """Status, issue codes, effect, patients afterwards."""
    roche = Roche("secret", parse(knobs))
    known = Knobs()
    headers = {
        "org_id": known.org_id,
        "client_id": known.client_id,
        "client_secret": "secret",
        "x-origin-request-id": "5109d51b-421e-4746-b673-16e3fe2b3442",
        "content-type": "application/json",
    }
    done = roche.apply(roche.read(Request("POST", f"{BASE}/Bundle", headers, body)), 1)
    return done.answer.status, set(done.issues), done.effect, len(roche.patients)


def holds(body: bytes, **knobs: str) -> None:
    status, codes, effect, patients = ask(body, **knobs)
    assert (status, bool(codes), effect, patients) in {(200, False, "created", 1), (400, True, "nothing", 0)}
    assert codes <= CODES


@given(st.binary())
@example(b'{"resourceType":"Bundle","x":' + b"9" * 10_000 + b"}")
@example(b'{"resourceType":"Bundle","x":"\\ud800"}')
@example(b'{"resourceType":"Bundle","\\udfff":1}')
def test_any_bytes(body: bytes) -> None:
    holds(body)


@given(JSON)
def test_any_json(tree: Any) -> None:  # noqa: ANN401 - JSON
    holds(json.dumps(tree).encode())
    holds(json.dumps({"resourceType": "Bundle", "type": "message", "entry": tree}).encode())


@given(st.sampled_from(PLACES), JSON)
@example(("entry", 1, "resource", "name", 0, "family"), "\ud800")
def test_any_value_at_any_place(path: tuple[Any, ...], value: Any) -> None:  # noqa: ANN401 - JSON
    body = json.dumps(changed(path, value)).encode()
    holds(body)
    holds(
        body,
        extra_elements="accepted",
        profiles="ignored",
        references="ignored",
        message_header="optional",
        code_text_only="accepted",
    )


@given(st.sampled_from(PLACES), st.text(min_size=1).filter(lambda name: not name.isascii()))
def test_an_element_of_another_name_is_never_accepted(path: tuple[Any, ...], name: str) -> None:
    tree: Any = bundle()
    found = tree
    for part in path:
        found = found[part]
    if isinstance(found, dict):
        found[name] = "x"
        assert ask(json.dumps(tree).encode())[0] == 400


def test_the_good_bundle_is_accepted() -> None:
    assert ask(json.dumps(bundle()).encode()) == (200, set(), "created", 1)
