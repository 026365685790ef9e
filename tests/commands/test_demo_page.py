"""The page of a patient's appointments: what stands on it, in which order, and that no text of a hospital becomes markup."""

import datetime as dt
from html.parser import HTMLParser
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.commands.demo.page import page
from pipeline.sandbox.medmij.records import appointments

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
Tree = dict[str, Any]


class Reader(HTMLParser):
    """Rows of cells, and every tag that there is."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - HTMLParser's signature
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"} and self.rows:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and self.tags[-1] in {"td", "th", "time"}:
            self.rows[-1][-1] += data.strip("\n")


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_what_comes_stands_before_what_was_each_with_all_that_a_patient_needs() -> None:
    found = read(page(appointments("p-1", NOW.timestamp(), "Europe/Amsterdam"), "Ziekenhuis Zuid", NOW))
    head = ["When", "What", "With", "Where", "Before you come", "Status"]
    assert found.rows == [
        head,
        ["2026-03-21 10:30 to 11:00", "Sportfysiotherapie", "T. Scholten", "Oefenzaal, begane grond", "", "planned"],
        [
            "2026-04-12 13:45 to 14:05",
            "CT-scan",
            "R. Yilmaz",
            "Radiologie, route 30",
            "Drie uur voor het onderzoek niets eten",
            "planned",
        ],
        head,
        ["2025-10-02 09:00 to 09:15", "Nacontrole operatie", "H. Molenaar", "Polikliniek chirurgie, route 12", "", "took place"],
    ]


def test_nothing_is_said_where_there_is_nothing_and_what_is_cancelled_is_said_in_words() -> None:
    assert page([], "Ziekenhuis Zuid", NOW).count("<p>None.</p>") == 2
    cancelled: Tree = {"resourceType": "Appointment", "status": "cancelled", "start": "2026-04-01T09:00:00+02:00"}
    assert '<tr class="off">' in page([cancelled], "Ziekenhuis Zuid", NOW)
    assert read(page([cancelled], "Ziekenhuis Zuid", NOW)).rows[1][-1] == "cancelled"
    assert read(page([{"resourceType": "Appointment", "status": "cancelled"}], "Z", NOW)).rows[1][-1] == "cancelled"


MARKUP = st.one_of(
    st.text(), st.text("<>&\"'/=!- abtd"), st.sampled_from(["<b>", "</td><b>", "<!--", '"><b>', "</time><b>", "<i", "&lt;b>"])
)


@example("</td><b>", '"><b>')
@given(MARKUP, MARKUP)
def test_no_text_becomes_markup(text: str, other: str) -> None:
    found: Tree = {
        "resourceType": "Appointment",
        "status": other,
        "start": other,
        "description": text,
        "participant": [
            {"actor": {"reference": "Location/1", "display": other}},
            {"actor": {"reference": "Practitioner/1", "display": text}},
        ],
        "extension": [{"url": "x-PatientInstructions", "valueString": text}],
    }
    plain: Tree = {"resourceType": "Appointment", "status": "booked"}
    assert sorted(set(read(page([found], text, NOW)).tags)) == sorted(set(read(page([plain], "x", NOW)).tags))
