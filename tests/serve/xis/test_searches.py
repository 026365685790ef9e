"""A patient's searches and reads, by a service over a store in memory."""

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson
import pytest
from fhir.resources.STU3.bundle import Bundle
from fhir.resources.STU3.capabilitystatement import CapabilityStatement
from fhir.resources.STU3.operationoutcome import OperationOutcome
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StoreError
from pipeline.fhir.xml import from_xml
from pipeline.serve.xis.context import BSN
from pipeline.serve.xis.queries import Limits
from tests.serve.xis.stand_ins import ANNA, BASE, BRAM, CLARA, LOCAL, NAMES, NOW, OLDEST, House, fault, ids, tree

DAY = 86_400_000
REQUEST_ID = "1d0d6d7c-8f5b-4d60-9d5b-6a8c6cf7f1aa"


def house(days: int = 5) -> House:
    """Anna has an appointment on each of the first days of 2026, Bram one on the first."""
    made = House()
    for day in range(days):
        made.change(f"a{day}", NOW + day * DAY + 9 * 3_600_000, (BSN, ANNA))
    made.change("b0", NOW, (BSN, BRAM))
    return made


def test_a_patient_finds_his_own_appointments_in_the_order_of_their_start() -> None:
    assert house().found() == ["a0", "a1", "a2", "a3", "a4"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("date=ge2026-01-03", ["a2", "a3", "a4"]),
        ("date=ge:2026-01-02&date=lt:2026-01-04", ["a1", "a2"]),
        ("date=2026-01-01,2026-01-04", ["a0", "a3"]),
        ("date=ge2026-01-02&date=le2026-01-02,2026-01-05", ["a1", "a4"]),
        ("date=ge2026-01-03T09:00:00%2B01:00", ["a2", "a3", "a4"]),
        ("date=ge2026-01-03T09:00:00+01:00", ["a2", "a3", "a4"]),
        ("date=gt2026-01-03T08:00Z", ["a3", "a4"]),
        ("date=ne2026-01-01", ["a1", "a2", "a3", "a4"]),
        ("date=le1995", []),
        ("date=2026-01-01&date=2026-01-02", []),
        ("date=ge2026-01-05&_count=1", ["a4"]),
    ],
)
def test_dates_are_anded_and_ored(query: str, expected: list[str]) -> None:
    assert house().found(query) == expected


def test_a_bundle_is_a_searchset_with_what_was_used_and_where_each_can_be_read() -> None:
    page = tree(house().asked("/Appointment/?date=ge2026-01-05&colour=red"))
    assert (page["resourceType"], page["type"], page["total"]) == ("Bundle", "searchset", 1)
    assert page["link"] == [{"relation": "self", "url": f"{BASE}/Appointment?date=ge2026-01-05"}]
    match, told = page["entry"]
    assert match["fullUrl"] == f"{BASE}/Appointment/a4"
    assert match["search"] == {"mode": "match"}
    assert told["search"] == {"mode": "outcome"}
    assert told["fullUrl"] == f"urn:uuid:{told['resource']['id']}"
    (issue,) = told["resource"]["issue"]
    assert issue["severity"] == "warning"
    assert issue["details"]["text"] == "the parameter colour is not supported"


def test_an_empty_result_is_an_empty_bundle() -> None:
    page = tree(house().asked("/Appointment?date=le1995"))
    assert page["total"] == 0
    assert "entry" not in page


def test_a_patient_who_is_not_known_here_finds_nothing() -> None:
    made = house()
    assert made.found("", made.issuer.token(CLARA)) == []


def test_bundles_and_outcomes_are_valid_stu3() -> None:
    made = house()
    for target in ("/Appointment?_count=2&colour=x", "/Appointment?date=le1995", "/Appointment?_summary=count"):
        Bundle.model_validate({**tree(made.asked(target)), "entry": None})
    OperationOutcome.model_validate(orjson.loads(made.asked("/Appointment?date=x").body))
    CapabilityStatement.model_validate(tree(made.asked("/metadata", "")))


def test_pages_hold_all_once_and_have_no_total() -> None:
    pages = list(house().pages("_count=2&date=ge2026"))
    assert [ids(page) for page in pages] == [["a0", "a1"], ["a2", "a3"], ["a4"]]
    assert ["total" in page for page in pages] == [False] * 3
    assert [[link["relation"] for link in page["link"]] for page in pages] == [
        ["self", "first", "next"],
        ["self", "first", "next"],
        ["self", "first"],
    ]
    for page in pages:
        Bundle.model_validate({**page, "entry": None})


def test_pages_show_what_was_there_when_the_search_began() -> None:
    made, events = house(), iter(range(2, 100))

    def change() -> None:
        event = next(events)
        made.change(f"new{event}", NOW + event, (BSN, ANNA))
        made.change("a4", NOW - DAY, (BSN, ANNA), event_ms=event, status="cancelled")

    pages = list(made.pages("_count=2", between=change))
    assert [one for page in pages for one in ids(page)] == ["a0", "a1", "a2", "a3", "a4"]
    assert pages[-1]["entry"][0]["resource"]["status"] == "booked"


def test_about_a_day_means_the_same_on_every_page() -> None:
    made = house()

    def later() -> None:
        made.now_ms = NOW + 3 * DAY

    made.now_ms = NOW + 40 * DAY
    pages = list(made.pages("date=ap2026-01-03&_count=2", between=later))
    assert [ids(page) for page in pages] == [["a0", "a1"], ["a2", "a3"], ["a4"]]


def test_a_page_whose_snapshot_is_too_old_is_gone() -> None:
    made = house()

    def change() -> None:
        for number in range(OLDEST + 1):
            made.change(f"n{number}", NOW, (BSN, ANNA))

    pages = made.pages("_count=2", between=change)
    next(pages)
    with pytest.raises(AssertionError, match="too old"):
        next(pages)


def test_a_page_of_another_patients_link_is_gone() -> None:
    made = house()
    first = tree(made.asked("/Appointment?_count=2"))
    onwards = next(link["url"] for link in first["link"] if link["relation"] == "next").removeprefix(BASE)
    assert fault(made.asked(onwards, made.issuer.token(BRAM))) == (410, "not-found")
    assert fault(made.asked(onwards, made.issuer.token(CLARA))) == (410, "not-found")


@pytest.mark.parametrize("page", ["x", "", "AAAA", "A" * 200, "%FF", "é"])
def test_a_page_that_is_none_of_ours_is_refused(page: str) -> None:
    assert fault(house().asked(f"/Appointment?_page={page}")) == (400, "invalid")


def test_a_count_is_no_more_than_the_most_and_zero_asks_for_the_total() -> None:
    made = house(205)
    assert len(made.found("_count=1000")) == 200
    assert len(made.found()) == 50
    for query in ("_count=0", "_summary=count", "_summary=count&_count=7"):
        page = tree(made.asked(f"/Appointment?{query}"))
        assert (page["total"], "entry" in page) == (205, False)


@pytest.mark.parametrize(
    "query",
    [
        *(
            "date=23%20May%202009",
            "date=",
            "date=ge2026-01-01,",
            "date:missing=true",
            "_count=-1",
            "_count=x",
            "_count=1&_count=2",
        ),
        *(
            "patient:Patient=p-anna",
            "subject:identifier=x",
            "date:exact=2026",
            "date=%FF",
            "%FF=1",
            "_format=json&_format=xml",
        ),
    ],
)
def test_what_cannot_be_read_and_every_modifier_is_a_bad_request(query: str) -> None:
    status, code = fault(house().asked(f"/Appointment?{query}"))
    assert status == 400
    assert code in {"invalid", "not-supported"}


def test_a_summary_that_is_not_made_is_said_and_not_in_the_self_link() -> None:
    page = tree(house().asked("/Appointment?_summary=true&date=2026"))
    assert [one["url"] for one in page["link"]] == [f"{BASE}/Appointment?date=2026"]
    assert len(ids(page)) == 5
    assert page["entry"][-1]["search"] == {"mode": "outcome"}


def test_a_count_that_is_more_than_anybody_has_is_the_most() -> None:
    made = House(limits=Limits(1, 3))
    for day in range(5):
        made.change(f"a{day}", NOW + day * DAY)
    assert made.found(f"_count={2**64}") == ["a0", "a1", "a2"]


def test_more_dates_than_anybody_needs_are_refused() -> None:
    assert fault(house().asked("/Appointment?date=" + ",".join(["2026"] * 51))) == (400, "too-costly")
    assert fault(house().asked("/Appointment?" + "&".join(["x=1"] * 101))) == (400, "too-costly")


def test_who_wants_it_strict_is_refused_what_would_be_ignored() -> None:
    made = house()
    assert fault(made.asked("/Appointment?colour=red", prefer="respond-async, handling=strict")) == (400, "not-supported")
    assert made.found("colour=red", prefer="handling=lenient") == ["a0", "a1", "a2", "a3", "a4"]
    assert made.found("date=2026-01-01", prefer="handling=strict") == ["a0"]


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("patient=p-anna", True),
        ("patient=Patient/p-anna", True),
        ("actor=Patient/p-anna", True),
        ("patient=p-anna,p-bram", True),
        (f"patient.identifier={BSN}|{ANNA}", True),
        ("actor=Practitioner/d-a0", True),
        ("patient=p-bram", False),
        ("subject=p-bram", False),
        ("patient=p-anna&patient=p-bram", False),
        (f"patient.identifier={BSN}|{BRAM}", False),
        (f"patient.identifier={ANNA}", False),
        ("patient.name=Anna", False),
        ("patient=", False),
        ("patient=nobody", False),
        (f"subject={ANNA}", False),
    ],
)
def test_a_query_that_names_a_patient_only_narrows(query: str, matches: bool) -> None:
    page = tree(house().asked(f"/Appointment?{query}"))
    assert bool(ids(page)) is matches
    (self_link,) = [link["url"] for link in page["link"] if link["relation"] == "self"]
    assert BSN not in unquote(self_link)
    assert f"|{ANNA}" not in unquote(self_link)
    assert matches or BRAM not in unquote(self_link)
    if not matches:
        assert page["entry"][-1]["search"] == {"mode": "outcome"}


def test_a_local_number_finds_whose_appointment_has_no_bsn() -> None:
    made = house()
    made.change("local", NOW, (LOCAL, "0000123"))
    token = made.issuer.token(None, patient_number="0000123")
    assert made.found("", token) == ["local"]


def test_a_token_that_names_two_patients_is_refused() -> None:
    made = house()
    made.change("local", NOW, (LOCAL, "0000123"))
    assert fault(made.asked("/Appointment", made.issuer.token(ANNA, patient_number="0000123"))) == (403, "forbidden")


def test_a_local_number_of_somebody_with_another_bsn_shows_nothing_of_him() -> None:
    made = house()
    made.change("brams", NOW, (BSN, BRAM), (LOCAL, "0000123"))
    token = made.issuer.token(CLARA, patient_number="0000123")
    answers = [made.asked(target, token) for target in ("/Appointment", "/Appointment/brams", "/Patient/p-bram")]
    assert [fault(one) for one in answers] == [(403, "forbidden")] * 3
    assert made.found("", made.issuer.token(BRAM, patient_number="0000123")) == ["b0", "brams"]


def test_a_bsn_that_is_not_known_yet_goes_with_a_local_number_that_has_none() -> None:
    made = house()
    made.change("local", NOW, (LOCAL, "0000123"))
    assert made.found("", made.issuer.token(CLARA, patient_number="0000123")) == ["local"]


def test_what_an_appointment_references_can_be_read_by_its_patient_alone() -> None:
    made = house()
    assert tree(made.asked("/Patient/p-anna"))["id"] == "p-anna"
    assert tree(made.asked("/Practitioner/d-a0"))["id"] == "d-a0"
    assert tree(made.asked("/Appointment/a0"))["id"] == "a0"
    others = made.asked("/Practitioner/d-b0"), made.asked("/Practitioner/nobody"), made.asked("/Appointment/b0")
    assert [fault(one) for one in others] == [(404, "not-found")] * 3
    assert len({one.body for one in others}) == 1


@pytest.mark.parametrize(
    ("target", "method", "expected"),
    [
        ("/Observation?code=1", "GET", (404, "not-supported")),
        ("/Observation/1", "POST", (404, "not-supported")),
        ("/Patient", "GET", (404, "not-supported")),
        ("/Appointment/a0/_history", "GET", (404, "not-supported")),
        ("/Appointment/a%20b", "GET", (404, "not-supported")),
        ("/", "GET", (404, "not-supported")),
        ("/Appointment", "POST", (405, "not-supported")),
        ("/Patient/1", "DELETE", (405, "not-supported")),
        ("/Appointment?_format=turtle", "GET", (406, "not-supported")),
    ],
)
def test_what_is_not_offered_says_so(target: str, method: str, expected: tuple[int, str]) -> None:
    assert fault(house().asked(target, method=method)) == expected


def test_a_method_that_is_not_allowed_names_those_that_are() -> None:
    assert house().asked("/Appointment", method="PUT").headers["Allow"] == "GET, HEAD"


def test_xml_is_what_was_asked_for_of_results_and_of_faults_and_says_the_same() -> None:
    made = house()
    for target in (
        "/Appointment?_count=2&colour=x",
        "/Appointment?date=x",
        "/Appointment?date=le1995",
        "/metadata",
        "/Patient/p-anna",
    ):
        told, json = made.asked(target, accept="application/fhir+xml"), made.asked(target)
        assert told.headers["Content-Type"] == "application/fhir+xml;charset=utf-8"
        assert told.status == json.status
        assert without_chance(from_xml(told.body)) == without_chance(orjson.loads(json.body))


def without_chance(resource: dict[str, Any]) -> dict[str, Any]:
    """Without ids that are made anew for each answer, and the seals in links."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|_page=[^\"]*", "", orjson.dumps(resource).decode())
    found: dict[str, Any] = orjson.loads(text)
    return found


def test_who_asks_too_often_waits() -> None:
    now = [0.0]
    made = House(rate=2, clock=lambda: now[0])
    assert [made.asked("/Appointment").status for _ in range(5)] == [200, 200, 200, 200, 429]
    told = made.asked("/Appointment")
    assert fault(told) == (429, "throttled")
    assert told.headers["Retry-After"] == "1"
    assert made.asked("/Appointment", made.issuer.token(BRAM)).status == 200
    now[0] += 1
    assert made.asked("/Appointment").status == 200


def test_a_store_that_is_away_is_told_without_its_text(capfd: pytest.CaptureFixture[str]) -> None:
    made = house()
    made.store.broken = StoreError("away")
    told = made.asked("/Appointment")
    assert fault(told) == (503, "transient")
    made.store.broken = ValueError("canary")
    assert fault(made.asked("/Appointment")) == (500, "exception")
    written = capfd.readouterr()
    assert "canary" not in written.err + written.out + told.body.decode()
    assert "serve_failed" in written.err


def test_request_ids_are_logged_and_given_back_and_nothing_of_the_patient(capfd: pytest.CaptureFixture[str]) -> None:
    made = house()
    token = made.issuer.token()
    given_ids = {"medmij_request_id": REQUEST_ID, "x_correlation_id": ANNA}
    told = made.asked(f"/Appointment?date=ge2026-01-04&patient.identifier={BSN}|{ANNA}", token, **given_ids)
    assert told.headers["medmij-request-id"] == REQUEST_ID
    assert "x-correlation-id" not in told.headers
    made.asked("/Patient/p-anna", token)
    (first, _) = lines = capfd.readouterr().err.splitlines()
    said = orjson.loads(first)
    assert (said["interaction"], said["status"], said["entries"], said["request_id"]) == ("search", 200, 2, REQUEST_ID)
    assert "correlation_id" not in said
    assert not [one for one in lines if ANNA in one or token in one or token.split(".")[1] in one]


def test_the_statement_needs_no_token() -> None:
    said = tree(house().asked("/metadata", ""))
    (rest,) = said["rest"]
    assert next(one["type"] for one in rest["resource"]) == "Appointment"
    assert {one["code"] for one in rest["resource"][0]["interaction"]} == {"read", "search-type"}


PEOPLE = (ANNA, BRAM, CLARA)
DATES = st.builds(
    lambda prefix, day: f"date={prefix}{day}",
    st.sampled_from(["", "ge", "lt", "ne", "le:", "ap"]),
    st.sampled_from(["2026-01-01", "2026-01", "1995", "2026-01-02T10:00:00Z", "2099", "x"]),
)
NAMING = st.builds(
    lambda name, who: f"{name}={who}",
    st.sampled_from(
        [
            "patient",
            "subject",
            "actor",
            "Patient",
            "_id",
            "_has:Appointment:patient",
            "patient.identifier",
            "_include",
            "participant",
        ]
    ),
    st.sampled_from(
        [*(f"p-{NAMES[one]}" for one in PEOPLE), *(f"{BSN}%7C{one}" for one in PEOPLE), *PEOPLE, "Patient/p-bram", "*", ""]
    ),
)
OTHERS = st.sampled_from(
    ["_count=1", "_count=0", "_summary=count", "_format=json", "_sort=-date", "_page=AAAA", "&&", "=", "_query=all"]
)
QUERIES = st.lists(st.one_of(DATES, NAMING, OTHERS), max_size=5).map("&".join)
APPOINTMENTS = st.lists(
    st.tuples(st.sampled_from(PEOPLE), st.one_of(st.none(), st.integers(-3 * DAY, 3 * DAY)), st.integers(0, 3)), max_size=12
)


@given(
    appointments=APPOINTMENTS, query=QUERIES, bsn=st.sampled_from(PEOPLE), strict=st.booleans(), reader=st.sampled_from(PEOPLE)
)
def test_nobody_ever_sees_what_is_not_his(
    appointments: list[tuple[str, int | None, int]], query: str, bsn: str, strict: bool, reader: str
) -> None:
    """Fails where a search goes past the person of the token (`_found` asked without it), where a page's place is not held against it."""
    made, mine = House(), set()
    for number, (whose, start, event) in enumerate(appointments):
        name = f"{NAMES[whose]}-{number}"
        made.change(name, None if start is None else NOW + start, (BSN, whose), event_ms=event)
        mine |= {name} if whose == bsn else set()
    token = made.issuer.token(bsn)
    headers = {"prefer": "handling=strict"} if strict else {}
    target: str | None = f"/Appointment?{query}"
    seen: list[str] = []
    while target is not None:
        told = made.asked(target, token, **headers)
        if told.status != 200:
            assert orjson.loads(told.body)["resourceType"] == "OperationOutcome"
            break
        page = orjson.loads(told.body)
        seen += ids(page)
        assert page.get("total", 0) <= len(mine)
        links = {one["relation"]: one["url"] for one in page["link"]}
        assert set(parse_qsl(urlsplit(links["self"]).query)).isdisjoint({("patient.identifier", f"{BSN}|{bsn}")})
        target = links["next"].removeprefix(BASE) if "next" in links else None
        if target is not None and reader != bsn:
            assert made.asked(target, made.issuer.token(reader)).status == 410
    assert set(seen) <= mine
    assert len(seen) == len(set(seen))
    for whose, _, _ in appointments:
        allowed = whose == bsn
        assert (made.asked(f"/Patient/p-{NAMES[whose]}", token).status == 200) is allowed


@given(appointments=APPOINTMENTS, low=st.integers(-3, 3), high=st.integers(-3, 3), count=st.integers(1, 4))
def test_a_search_over_pages_finds_exactly_what_lies_in_its_days(
    appointments: list[tuple[str, int | None, int]], low: int, high: int, count: int
) -> None:
    made = House()
    for number, (whose, start, event) in enumerate(appointments):
        made.change(f"n{number}", None if start is None else NOW + start, (BSN, whose), event_ms=event)

    def day(ahead: int) -> str:
        return datetime.fromtimestamp((NOW + 3_600_000 + ahead * DAY) / 1000, UTC).date().isoformat()

    pages = made.pages(f"date=ge{day(low)}&date=lt{day(high)}&_count={count}")
    expected = [
        (start, f"n{number}")
        for number, (whose, start, _) in enumerate(appointments)
        if whose == ANNA and start is not None and low * DAY <= start < high * DAY
    ]
    assert [one for page in pages for one in ids(page)] == [name for _, name in sorted(expected)]


def test_no_id_of_a_bundle_comes_twice() -> None:
    made = house()
    assert len({tree(made.asked("/Appointment"))["id"] for _ in range(5)}) == 5
    assert re.fullmatch(r"[0-9a-f-]{36}", tree(made.asked("/Appointment"))["id"])
