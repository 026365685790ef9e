"""A search that is posted means what the same search means by GET; and the parameters beside dates."""

import pytest
from hypothesis import given

from pipeline.serve.xis import searching
from tests.serve.xis.stand_ins import ANNA, BASE, BRAM, NOW, House, fault, ids, tree
from tests.serve.xis.test_searches import DAY, QUERIES, house, without_chance


def self_link(page: dict[str, list[dict[str, str]]]) -> str:
    return next(link["url"] for link in page["link"] if link["relation"] == "self")


def test_a_form_is_searched_as_a_query_string_and_its_self_link_is_one() -> None:
    page = tree(house().posted("date=ge2026-01-02&date=lt2026-01-04"))
    assert ids(page) == ["a1", "a2"]
    assert self_link(page) == f"{BASE}/Appointment?date=ge2026-01-02&date=lt2026-01-04"


def test_parameters_of_the_url_and_of_the_form_both_count() -> None:
    page = tree(house().posted("date=lt2026-01-04", "date=ge2026-01-02&_format=json"))
    assert ids(page) == ["a1", "a2"]
    assert self_link(page) == f"{BASE}/Appointment?date=ge2026-01-02&_format=json&date=lt2026-01-04"
    assert fault(house().posted("_format=xml", "_format=json")) == (400, "invalid")


def test_a_form_may_ask_for_xml_and_next_links_are_got() -> None:
    made = house()
    assert made.posted("_format=xml").headers["Content-Type"] == "application/fhir+xml;charset=utf-8"
    first = tree(made.posted("_count=3"))
    onwards = next(link["url"] for link in first["link"] if link["relation"] == "next").removeprefix(BASE)
    assert [*ids(first), *ids(tree(made.asked(onwards)))] == ["a0", "a1", "a2", "a3", "a4"]


@given(query=QUERIES)
def test_posted_or_got_the_answer_is_the_same(query: str) -> None:
    """Fails where the form is not read, or read by other rules."""
    made = house()
    got, posted = made.asked(f"/Appointment?{query}"), made.posted(query)
    assert (got.status, got.headers.get("Content-Type")) == (posted.status, posted.headers.get("Content-Type"))
    if got.status == 200:
        assert without_chance(tree(got)) == without_chance(tree(posted))


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"content_type": "application/json"}, "{}", (415, "not-supported")),
        ({"content_type": ""}, "", (415, "not-supported")),
        ({"content_encoding": "gzip"}, "", (415, "not-supported")),
        ({}, "date=2026-01-01" + "&" * 65536, (413, "too-long")),
        ({}, "date=%FF", (400, "invalid")),
        ({}, "date:missing=true", (400, "not-supported")),
        ({"prefer": "handling=strict"}, "colour=red", (400, "not-supported")),
    ],
)
def test_what_cannot_be_searched_by_says_so(headers: dict[str, str], body: str, expected: tuple[int, str]) -> None:
    assert fault(house().posted(body, **headers)) == expected


def test_a_form_with_a_character_set_is_a_form() -> None:
    assert ids(tree(house().posted("_id=a1", content_type="application/x-www-form-urlencoded; charset=UTF-8"))) == ["a1"]


@pytest.mark.parametrize(
    ("target", "allowed"), [("/Appointment/_search", "POST"), ("/Appointment", "GET, HEAD"), ("/metadata", "GET, HEAD")]
)
def test_a_method_that_is_not_allowed_names_those_that_are(target: str, allowed: str) -> None:
    for method in ("PUT", "OPTIONS", "PURGE"):
        told = house().asked(target, method=method)
        assert (fault(told), told.headers["Allow"]) == ((405, "not-supported"), allowed)


def many() -> House:
    made = House()
    for day in range(6):
        made.change(f"a{day}", NOW + day * DAY, status="cancelled" if day % 2 else "booked")
    made.change("b0", NOW, ("http://fhir.nl/fhir/NamingSystem/bsn", BRAM))
    return made


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("_id=a3", ["a3"]),
        ("_id=a4,a1", ["a1", "a4"]),
        ("_id=a1,a2&_id=a2,a3", ["a2"]),
        ("_id=a1&date=ge2026-01-03", []),
        ("_id=b0", []),
        ("_id=", []),
        ("status=booked", ["a0", "a2", "a4"]),
        ("status=http://hl7.org/fhir/appointmentstatus|cancelled", ["a1", "a3", "a5"]),
        ("status=|cancelled", ["a1", "a3", "a5"]),
        ("status=http://other.example|cancelled", []),
        ("status=booked,cancelled&_id=a0,a1", ["a0", "a1"]),
        ("status=waitlist", []),
        ("_sort=date&status=booked", ["a0", "a2", "a4"]),
        ("_sort=-date&status=booked", ["a4", "a2", "a0"]),
        ("_sort=-date", ["a5", "a4", "a3", "a2", "a1", "a0"]),
    ],
)
def test_an_id_a_status_and_the_order_by_date_may_be_asked_for(query: str, expected: list[str]) -> None:
    made = many()
    page = tree(made.asked(f"/Appointment?{query}", prefer="handling=strict"))
    assert ids(page) == expected
    assert page["total"] == len(expected)
    assert "outcome" not in {entry["search"]["mode"] for entry in page.get("entry", [])}
    assert tree(made.asked(f"/Appointment?{query}&_summary=count"))["total"] == len(expected)


def test_pages_of_a_status_have_all_of_it_and_no_more() -> None:
    pages = [ids(page) for page in many().pages("status=cancelled&_count=2")]
    assert pages == [["a1", "a3"], ["a5"]]
    assert [ids(page) for page in many().pages("status=cancelled&_count=3")] == [["a1", "a3", "a5"]]


def test_pages_from_the_last_one_to_the_first_have_each_once_and_say_so() -> None:
    pages = list(many().pages("_sort=-date&_count=4"))
    assert [ids(page) for page in pages] == [["a5", "a4", "a3", "a2"], ["a1", "a0"]]
    assert self_link(pages[0]) == f"{BASE}/Appointment?_sort=-date&_count=4"
    assert [ids(page) for page in many().pages("_sort=-date&status=cancelled&_count=2")] == [["a5", "a3"], ["a1"]]


def test_what_is_looked_through_for_a_status_has_no_end_before_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where only the first ones of a person are looked through."""
    monkeypatch.setattr(searching, "COUNTED", 2)
    assert ids(tree(many().asked("/Appointment?status=cancelled"))) == ["a1", "a3", "a5"]
    assert [ids(page) for page in many().pages("status=cancelled&_count=2")] == [["a1", "a3"], ["a5"]]
    assert tree(many().asked("/Appointment?status=cancelled&_summary=count"))["total"] == 3


@pytest.mark.parametrize(
    "query",
    [
        "_sort=-status",
        "_sort=-date,status",
        "_elements=start",
        "_pretty=true",
        "_lastUpdated=gt2020",
        "_total=accurate",
        "_include=*",
        "_summary=text",
    ],
)
def test_what_is_not_supported_is_said_and_left_out_of_the_self_link_or_refused(query: str) -> None:
    made = many()
    page = tree(made.asked(f"/Appointment?{query}&date=2026"))
    assert self_link(page) == f"{BASE}/Appointment?date=2026"
    assert page["entry"][-1]["search"] == {"mode": "outcome"}
    assert fault(made.asked(f"/Appointment?{query}", prefer="handling=strict")) == (400, "not-supported")


def test_the_self_link_has_the_count_that_was_used() -> None:
    assert self_link(tree(many().asked("/Appointment?_count=99999"))) == f"{BASE}/Appointment?_count=200"


def test_nothing_that_is_answered_may_be_stored() -> None:
    made = many()
    for told in (made.asked("/Appointment"), made.asked("/Patient/p-anna"), made.posted(""), made.asked("/Appointment", "")):
        assert told.headers["Cache-Control"] == "no-store"
        assert ANNA not in told.body.decode()
