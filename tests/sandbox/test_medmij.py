"""MedMij's stand-in as the dossier has it: who may read, dates, pages, formats, errors; and its issuer. Over real TLS, the date rules without sockets."""

import base64
import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest
import requests

from pipeline.sandbox.jose import BadSignature, read
from pipeline.sandbox.log import NOTHING
from pipeline.sandbox.medmij.knobs import MedmijKnobs
from pipeline.sandbox.medmij.search import Unreadable, parsed
from pipeline.sandbox.medmij.stand_in import MedmijSandbox

Start = Callable[..., MedmijSandbox]
Tree = dict[str, Any]
SECONDS: Final = 60
FHIR: Final = "{http://hl7.org/fhir}"
TODAY: Final = dt.datetime.now(ZoneInfo("Europe/Amsterdam")).date()


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start it with knobs."""
    with ExitStack() as stack:
        yield lambda **knobs: stack.enter_context(MedmijSandbox(folder, knobs))


@pytest.fixture
def medmij(start: Start) -> MedmijSandbox:
    return start()


def get(medmij: MedmijSandbox, path: str, patient: str | None = "p-1", token: str = "", **headers: str) -> requests.Response:
    ids = {"MedMij-Request-ID": str(uuid.uuid4()), "X-Correlation-ID": str(uuid.uuid4())}
    token = token or (medmij.token(patient) if patient else "")
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    url = path if path.startswith("https:") else f"{medmij.base_url}{path}"
    return requests.get(url, headers={**ids, **bearer, **headers}, verify=str(medmij.files.ca), timeout=SECONDS)


def ids(answer: requests.Response, mode: str = "match") -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["resource"]["id"] for one in answer.json().get("entry", []) if one["search"]["mode"] == mode]


def code(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["issue"][0]["code"]


def link(answer: requests.Response, relation: str) -> str | None:
    return next((one["url"] for one in answer.json().get("link", []) if one["relation"] == relation), None)


def day(days: int) -> str:
    return (TODAY + dt.timedelta(days)).isoformat()


def test_each_patient_has_the_appointments_of_the_three_scenarios(medmij: MedmijSandbox) -> None:
    assert ids(get(medmij, f"/Appointment?date=ge{day(-151)}")) == ["a-1", "a-2", "a-3"]
    assert ids(get(medmij, f"/Appointment/?date=ge{day(-31)}&date=le{day(0)}", "p-2")) == ["a-4", "a-5"]
    assert ids(get(medmij, f"/Appointment?date=ge{day(-365)}&date=le{day(0)}", "p-3")) == []


def test_what_an_appointment_references_is_read_by_its_own_patient_alone(medmij: MedmijSandbox) -> None:
    found = get(medmij, "/Appointment?date=ge1900").json()["entry"]
    actors = [one["actor"] for entry in found for one in entry["resource"]["participant"]]
    roles = [one["extension"][0]["valueReference"] for one in actors if "extension" in one]
    for reference in (*actors, *roles):
        assert get(medmij, f"/{reference['reference']}").json()["id"] == reference["reference"].partition("/")[2]
        assert reference["display"]
    assert code(get(medmij, "/Patient/p-2")) == (404, "not-found")
    assert "999900201" not in get(medmij, "/Patient/p-1").text


@pytest.mark.parametrize(
    ("path", "patient", "headers", "expected"),
    [
        ("/Appointment?date=ge2020", None, {}, (401, "security")),
        ("/Appointment?date=23%20May%202009", "p-1", {}, (400, "invalid")),
        ("/Appointment?date=ge:2018-01-01", "p-1", {}, (400, "invalid")),
        ("/Appointment?date=ge2018-01-01T00:00:00+01:00", "p-1", {}, (400, "invalid")),
        ("/Appointment?date:missing=true", "p-1", {}, (400, "invalid")),
        ("/Appointment?patient=p-1", "p-1", {}, (400, "not-supported")),
        ("/Slot?date=ge2020", "p-1", {}, (404, "not-supported")),
        ("/Patient", "p-1", {}, (405, "not-supported")),
        ("/Appointment?date=ge2020", "p-1", {"Accept": "text/turtle"}, (406, "not-supported")),
        ("/Appointment?date=ge2020", "p-1", {"MedMij-Request-ID": "1"}, (400, "required")),
    ],
)
def test_what_it_does_not_take_is_an_operation_outcome(
    medmij: MedmijSandbox, path: str, patient: str | None, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    assert code(get(medmij, path, patient, **headers)) == expected
    assert medmij.log.effects()[-1].issues == (expected[1],)


def test_a_token_that_was_revoked_has_ended_or_is_of_nobody_here_is_refused(medmij: MedmijSandbox) -> None:
    assert code(get(medmij, "/Appointment", token=medmij.token(bsn="123456782")))[0] == 403
    good = medmij.token("p-1")
    assert get(medmij, "/Appointment", token=good).status_code == 200
    medmij.revoke()
    assert get(medmij, "/Appointment", token=good).status_code == 401
    medmij.set(token_seconds=-5)
    assert get(medmij, "/Appointment").status_code == 401


def test_pages_follow_each_other_and_the_self_link_has_what_was_used(start: Start) -> None:
    medmij = start(page_size=2, total="all")
    first = get(medmij, "/Appointment?date=ge1900&colour=blue")
    assert link(first, "self") == f"{medmij.base_url}/Appointment?date=ge1900"
    second = get(medmij, str(link(first, "next")))
    assert (ids(first), ids(second), link(second, "next")) == (["a-1", "a-2"], ["a-3"], None)
    assert (first.json()["total"], second.json()["total"]) == (3, 3)
    assert "colour was not looked at" in first.text


@pytest.mark.parametrize(
    ("knobs", "found", "self_link", "outcomes"),
    [
        ({"date": "ignored"}, ["a-1", "a-2", "a-3"], "", 1),
        ({"self_link": "absent"}, [], None, 0),
        ({"self_link": "wider"}, [], "?date=ge1900", 0),
        ({"outcome": "warning"}, [], "?date=le1995", 1),
        ({"outcome": "none"}, [], "?date=le1995", 0),
    ],
)
def test_what_servers_do_otherwise_is_a_knob(
    start: Start, knobs: dict[str, str], found: list[str], self_link: str | None, outcomes: int
) -> None:
    medmij = start(**knobs)
    answer = get(medmij, "/Appointment?date=le1995")
    assert ids(answer) == found
    assert link(answer, "self") == (None if self_link is None else f"{medmij.base_url}/Appointment{self_link}")
    assert len(ids(answer, "outcome")) == outcomes


def test_xml_says_the_same_as_json(start: Start) -> None:
    medmij = start(referenced="included")
    as_json, as_xml = get(medmij, "/Appointment?date=ge1900"), get(medmij, "/Appointment?date=ge1900&_format=xml")
    assert as_xml.headers["Content-Type"] == "application/fhir+xml; charset=UTF-8"
    tree = ET.fromstring(as_xml.content)  # noqa: S314 - our own stand-in's
    resources = [one[0] for one in tree.iter(f"{FHIR}resource")]
    expected = [one["resource"] for one in as_json.json()["entry"]]
    assert [one.tag.removeprefix(FHIR) for one in resources] == [one["resourceType"] for one in expected]
    for one, other in zip(resources, expected, strict=True):
        assert one.find(f"{FHIR}id").get("value") == other["id"]  # type: ignore[union-attr]
        texts = sorted(str(each.get("value")) for each in one.iter() if each.get("value") is not None)
        urls = sorted(str(each.get("url")) for each in one.iter() if each.get("url") is not None)
        assert (texts, urls) == (sorted(_values(other)), sorted(_urls(other)))


def _values(tree: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(tree, dict):
        for key, one in tree.items():
            if key != "resourceType" and not (key == "url" and "value" in str(tree)):
                yield from _values(one, key)
    elif isinstance(tree, list):
        for one in tree:
            yield from _values(one, name)
    else:
        yield str(tree)


def _urls(tree: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    if isinstance(tree, dict):
        yield from (one for key, one in tree.items() if key == "url")
        for one in tree.values():
            yield from _urls(one)
    elif isinstance(tree, list):
        for one in tree:
            yield from _urls(one)


def test_a_format_it_does_not_have_is_406(start: Start) -> None:
    medmij = start(formats="json")
    assert get(medmij, "/Appointment?date=ge2020", Accept="application/fhir+xml").status_code == 406
    assert get(medmij, "/Appointment?date=ge2020", Accept="application/fhir+json").status_code == 200


def test_the_issuer_signs_what_its_published_keys_verify_also_after_another_key_signs(medmij: MedmijSandbox) -> None:
    def keys() -> list[Tree]:
        found: list[Tree] = requests.get(medmij.jwks_url, verify=str(medmij.files.ca), timeout=SECONDS).json()["keys"]
        return found

    first = medmij.token("p-1", scope="patient/*.read")
    before = keys()
    medmij.rotate()
    second = medmij.token(bsn="999900286")
    assert read(first, keys())["bsn"] == "999900201"
    claims = read(second, keys())
    assert (claims["iss"], claims["aud"], claims["bsn"]) == (medmij.issuer, medmij.base_url, "999900286")
    with pytest.raises(BadSignature):
        read(second, before)


def post(medmij: MedmijSandbox, path: str, secret: str, **form: str) -> requests.Response:
    basic = base64.b64encode(f"{medmij.client_id}:{secret}".encode()).decode()
    headers = {"Authorization": f"Basic {basic}"}
    return requests.post(f"{medmij.issuer}/{path}", form, headers=headers, verify=str(medmij.files.ca), timeout=SECONDS)


@pytest.mark.parametrize("form", ["jwt", "opaque"])
def test_introspection_knows_what_was_issued_until_it_is_revoked(start: Start, form: str) -> None:
    medmij = start(token=form)
    secret = medmij.files.secret()
    token = post(medmij, "token", secret, grant_type="client_credentials", patient="p-2").json()["access_token"]
    said = post(medmij, "introspect", secret, token=token).json()
    assert (said["active"], said["bsn"], said["aud"]) == (True, "999900213", medmij.base_url)
    assert get(medmij, "/Appointment?date=ge1900", token=token).status_code == 200
    assert post(medmij, "introspect", "wrong", token=token).status_code == 401
    medmij.revoke()
    assert post(medmij, "introspect", secret, token=token).json() == {"active": False}
    assert post(medmij, "introspect", secret, token="another").json() == {"active": False}


def test_a_token_of_a_request_is_known_after_a_restart(folder: Path) -> None:
    with MedmijSandbox(folder) as medmij:
        secret = medmij.files.secret()
        token = post(medmij, "token", secret, grant_type="client_credentials", bsn="999900201").json()["access_token"]
    with MedmijSandbox(folder) as again:
        assert ids(get(again, "/Appointment?date=ge1900", token=token)) == ["a-1", "a-2", "a-3"]


def test_a_request_stands_in_the_log_with_its_ids_and_without_its_token(medmij: MedmijSandbox) -> None:
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    token = medmij.token("p-1")
    get(medmij, "/Appointment?date=ge2020", token=token, **{"MedMij-Request-ID": one, "X-Correlation-ID": other})
    (effect,) = medmij.log.effects(operation="search")
    assert (effect.request_id, effect.token, effect.effect) == (one, {"correlation": other}, NOTHING)
    assert (effect.identifier, effect.status) == ("p-1", 200)
    assert token not in medmij.log.path.read_text()


AT = [
    "2017-12-31T23:59:59+01:00",
    "2018-01-01T00:00:00+01:00",
    "2018-02-28T09:00:00+01:00",
    "2018-02-28T23:59:59+01:00",
    "2018-03-01T00:00:00+01:00",
]


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("date=ge2018-01-01", "01111"),
        ("date=gt2017-12-31", "01111"),
        ("date=lt2018-03-01", "11110"),
        ("date=le2018-02-28", "11110"),
        ("date=2018-02-28", "00110"),
        ("date=eq2018-02", "00110"),
        ("date=ne2018", "10000"),
        ("date=sa2018-01", "00111"),
        ("date=eb2018-01", "10000"),
        ("date=ap2018-03-01", "00111"),
        ("date=2018-02-28T08:00Z", "00100"),
        ("date=ge2018-02-28T09:00:00%2B01:00", "00111"),
        ("date=ge2018-01-01&date=lt2018-02-28", "01000"),
        ("date=2017-12-31,2018-03-01", "10001"),
        ("", "11111"),
    ],
)
def test_the_date_rules_of_stu3(query: str, fits: str) -> None:
    found = parsed(query, MedmijKnobs())
    assert "".join(str(int(found.has({"start": one}))) for one in AT) == fits


@pytest.mark.parametrize("query", ["date=", "date=2018-13", "date=2018-02-30", "date=gt", "date=20180101", "date=2018-01-01T10"])
def test_what_is_no_date_is_not_guessed(query: str) -> None:
    with pytest.raises(Unreadable, match="date"):
        parsed(query, MedmijKnobs())


def test_the_colon_form_is_taken_where_the_knob_says_so() -> None:
    found = parsed("date=ge:2018-01-01", MedmijKnobs(colon="accepted"))
    assert json.dumps(found.used) == '[["date", "ge:2018-01-01"]]'
    assert found.has({"start": AT[1]})
