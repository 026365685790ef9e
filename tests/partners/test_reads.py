"""The read side as a partner's table has it: what is asked, and what an answer brings."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.model import Reply, Timeouts
from pipeline.partners.njsams.reads import BUNDLES, RESOURCES, WRITES
from pipeline.partners.readers import OFFERED, READERS, options
from pipeline.partners.reads import FhirReader, NotRead

BASE = "https://fhir.example:8443/NJSAMS-FHIR-API"
READER = FhirReader(BASE, RESOURCES, "application/json+fhir", Timeouts(5, 30, 45), bundle_types=BUNDLES, writes=WRITES)


def reply(document: object, status: int = 200, media: str = "application/json+fhir") -> Reply:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Reply(status, {"content-type": media}, body, 1.0, 0, 1)


def bundle(*resources: dict[str, Any], kind: str = "search-result", following: object = None) -> dict[str, Any]:
    links = [] if following is None else [{"relation": "self", "url": "x"}, {"relation": "next", "url": following}]
    return {"resourceType": "Bundle", "type": kind, "link": links, "entry": [{"resource": one} for one in resources]}


PATIENT = {"resourceType": "Patient", "id": "12"}


@pytest.mark.parametrize(
    ("resource", "typed", "path"),
    [
        ("Patient", {"family": "smith"}, "/Patient?family=smith"),
        ("Patient", {"family": "de Vries & co"}, "/Patient?family=de+Vries+%26+co"),
        ("Patient", {"identifier": "12345"}, "/Patient?identifier=12345"),
        ("Encounter", {"subject": "12"}, "/Encounter?subject=Patient/12"),
        ("Encounter", {"subject": "Patient/12", "date": "2022-01-01"}, "/Encounter?subject=Patient/12&date=2022-01-01"),
        ("Encounter", {"date": "ge2022"}, "/Encounter?date=ge2022"),
        ("Encounter", {"include": "subject"}, "/Encounter?_include=Encounter:subject"),
        ("Coverage", {"beneficiary": "12"}, "/Coverage?beneficiary=Patient/12"),
        ("Coverage", {"payor": "1r566il9"}, "/Coverage?payor=Organization/1r566il9"),
    ],
)
def test_each_documented_search_is_asked_as_documented(resource: str, typed: dict[str, str], path: str) -> None:
    request = READER.by_search(resource, typed)
    assert (request.method, request.path, request.headers) == ("GET", path, (("Accept", "application/json+fhir"),))


def test_a_read_is_asked_by_type_and_id() -> None:
    request = READER.by_id("Patient", "8d5802a8-14ea")
    assert (request.path, request.path_template) == ("/Patient/8d5802a8-14ea", "/Patient/{id}")
    assert "8d5802a8" not in repr(request)


@pytest.mark.parametrize(
    ("resource", "typed", "said"),
    [
        ("Observation", {"family": "x"}, "RESOURCE: not offered by this partner; there is Patient, Encounter, Coverage"),
        ("Patient", {}, "Patient: which one? give its id, or --family, --identifier"),
        ("Patient", {"date": "2022"}, "--date: does not go with Patient; there is --family, --identifier"),
        ("Encounter", {"date": "01/02/2022"}, "--date: must be a date, as 2026-01-31 (ge, le, gt or lt may stand before it)"),
        ("Encounter", {"subject": "../12"}, "--subject: must be an id, as 12 or Patient/12"),
        ("Encounter", {"include": "canary"}, "--include: there is subject"),
        ("Patient", {"family": " "}, "--family: is empty, or holds what cannot be printed"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_nothing_is_asked(resource: str, typed: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        READER.by_search(resource, typed)
    assert str(wrong.value) == said


@pytest.mark.parametrize("identifier", ["", "a/b", "a?b", "a b", "..%2f", "x" * 65])
def test_what_is_no_id_is_not_asked_for(identifier: str) -> None:
    with pytest.raises(SettingsError):
        READER.by_id("Patient", identifier)


@pytest.mark.parametrize("kind", ["searchset", "search-result"])
def test_both_types_of_a_search_are_taken(kind: str) -> None:
    page = READER.page(READER.by_search("Patient", {"family": "x"}), reply(bundle(PATIENT, kind=kind)))
    assert (page.resources, page.next) == ((PATIENT,), None)


def test_a_single_resource_is_a_page_of_one() -> None:
    assert READER.page(READER.by_id("Patient", "12"), reply(PATIENT)).resources == (PATIENT,)


def test_an_outcome_beside_what_was_found_is_no_resource() -> None:
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "warning", "code": "not-supported", "diagnostics": "canary"}],
    }
    page = READER.page(READER.by_search("Patient", {"family": "x"}), reply(bundle(PATIENT, outcome)))
    assert (page.resources, page.issues) == ((PATIENT,), ("not-supported",))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (f"{BASE}/Patient?family=x&_offset=20", "/Patient?family=x&_offset=20"),
        (f"{BASE}?_getpages=1", "?_getpages=1"),
        ("/NJSAMS-FHIR-API/Patient?_offset=20", "/Patient?_offset=20"),
        ("?family=x&_offset=20", "/Patient?family=x&_offset=20"),
        ("Patient?_offset=20", "/Patient?_offset=20"),
        (f"{BASE.replace('fhir.example', 'FHIR.example')}/Patient?_offset=20", "/Patient?_offset=20"),
    ],
)
def test_the_next_page_is_asked_where_it_is_the_partners_own(url: str, path: str) -> None:
    page = READER.page(READER.by_search("Patient", {"family": "x"}), reply(bundle(PATIENT, following=url)))
    assert page.next is not None
    assert page.next.path == path


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/NJSAMS-FHIR-API/Patient?_offset=20",
        "https://fhir.example/NJSAMS-FHIR-API/Patient?_offset=20",
        "http://fhir.example:8443/NJSAMS-FHIR-API/Patient?_offset=20",
        "https://us:canary@fhir.example:8443/NJSAMS-FHIR-API/Patient?_offset=20",
        "https://fhir.example:8443/NJSAMS-FHIR-APIX/Patient?_offset=20",
        "https://fhir.example:8443/other/Patient",
        "//elsewhere.example/NJSAMS-FHIR-API/Patient",
        "https://fhir.example:port/NJSAMS-FHIR-API/Patient",
        f"{BASE}/Patient?a\r\nHost: elsewhere",
        f"{BASE}/../admin",
        7,
    ],
)
def test_a_next_page_that_leads_elsewhere_is_not_asked_since_our_token_would_go_there(url: object) -> None:
    with pytest.raises(NotRead, match="leads elsewhere") as wrong:
        READER.page(READER.by_search("Patient", {"family": "x"}), reply(bundle(PATIENT, following=url)))
    assert "canary" not in str(wrong.value)


@given(st.text(), st.text(max_size=20))
def test_whatever_a_link_says_what_is_asked_lies_below_our_base(url: str, query: str) -> None:
    asked = READER.by_search("Patient", {"family": "x"})
    try:
        page = READER.page(asked, reply(bundle(PATIENT, following=f"{url}{query}")))
    except NotRead:
        return
    assert page.next is not None
    assert page.next.path == "" or page.next.path[0] in "/?"


def test_a_next_page_that_is_the_same_page_is_told() -> None:
    asked = READER.by_search("Patient", {"family": "x"})
    with pytest.raises(NotRead, match="back to the same page"):
        READER.page(asked, reply(bundle(PATIENT, following=f"{BASE}{asked.path}")))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            reply(
                {
                    "resourceType": "OperationOutcome",
                    "issue": [{"severity": "error", "code": "not-found", "diagnostics": "canary"}],
                },
                404,
            ),
            "HTTP 404 (not-found): not there, or not readable yet",
        ),
        (reply(b"<html>canary</html>", 403), "HTTP 403: we may not read this"),
        (
            reply({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]}),
            "HTTP 200 with an error (exception)",
        ),
        (reply(b"<html>canary</html>"), "HTTP 200 with a body that is no FHIR resource"),
        (reply(b""), "HTTP 200 with a body that is no FHIR resource"),
        (reply({"canary": 1}), "HTTP 200 with a body that is no FHIR resource"),
        (reply(PATIENT, media="text/html; charset=utf-8"), "HTTP 200 with another media type than FHIR's JSON"),
        (reply(bundle(PATIENT, kind="history")), "the answer is a Bundle of another type than search-result or searchset"),
    ],
)
def test_what_is_not_what_was_asked_for_is_told_without_a_word_of_the_answer(answer: Reply, said: str) -> None:
    with pytest.raises(NotRead) as wrong:
        READER.page(READER.by_search("Patient", {"family": "x"}), answer)
    assert str(wrong.value) == said


@given(st.binary())
def test_no_body_breaks_the_reader(body: bytes) -> None:
    for media in ("application/fhir+json", ""):
        try:
            READER.page(READER.by_id("Patient", "12"), reply(body, media=media))
        except NotRead:
            continue


def listed(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    resources = [
        {
            "type": kind,
            "interaction": [{"code": "read"}, {"code": "search-type"}],
            "searchParam": [{"name": search.parameter} for search in searches],
        }
        for kind, searches in RESOURCES.items()
    ]
    writing = {"type": "Bundle", "interaction": [{"code": "create"}, {"code": "update"}]}
    statement = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{"resource": [*resources, writing]}]}
    return {**statement, **changes}


def test_a_statement_that_lists_all_that_we_use_misses_nothing() -> None:
    assert READER.not_listed(reply(listed())) == []


def test_what_a_statement_does_not_list_is_named() -> None:
    assert READER.not_listed(reply(listed(fhirVersion="3.0.2"))) == ["FHIR 4.0.1"]
    assert READER.not_listed(reply(listed(rest=[]))) == [
        "Patient read",
        "Patient search-type",
        "Patient search by family",
        "Patient search by identifier",
        "Encounter read",
        "Encounter search-type",
        "Encounter search by subject",
        "Encounter search by date",
        "Coverage read",
        "Coverage search-type",
        "Coverage search by beneficiary",
        "Coverage search by payor",
        "Bundle create",
        "Bundle update",
    ]
    with pytest.raises(NotRead, match="no CapabilityStatement"):
        READER.not_listed(reply(PATIENT))


def test_each_partner_that_offers_something_has_a_reader_and_its_options_are_shown() -> None:
    assert set(OFFERED) == set(READERS)
    assert options()["subject"] == ("subject", ["Encounter", "Observation"])
    assert options()["completed-after"] == ("completed_after", ["responses"])
