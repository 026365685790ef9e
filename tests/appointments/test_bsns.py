"""A BSN in a text: found however it is written, and nothing else is taken for one."""

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.appointments.bsns import BSN, STARS, known, named_by, without

OURS = "099911127"
SPACES = st.text(alphabet=" .-\t\n\u00a0\u2011\u2013\u202f", max_size=3)
GAPS = st.one_of(st.just(""), SPACES, st.sampled_from(["&nbsp;", " &#160;"]))
WRITTEN = st.builds(
    lambda digits, gaps: digits[0] + "".join(gap + digit for gap, digit in zip(gaps, digits[1:], strict=False)),
    st.sampled_from([OURS, OURS[1:]]),
    st.lists(GAPS, min_size=8, max_size=8),
)
OTHER = st.text(alphabet=st.characters(exclude_categories=["Nd"]), min_size=1)


@given(before=OTHER, written=WRITTEN, behind=OTHER)
def test_it_is_starred_however_it_is_written(before: str, written: str, behind: str) -> None:
    assert without({"text": [f"{before}{written}{behind}"]}, frozenset({OURS})) == {"text": [f"{before}{STARS}{behind}"]}


@given(st.text())
def test_no_text_keeps_it(text: str) -> None:
    """Fails where a longer number is not looked into."""
    for whole in (text, f"{text}{OURS}{text}", f"1{OURS}2{text}"):
        assert OURS not in without(whole, frozenset({OURS}))


@given(
    OTHER,
    st.sampled_from(
        ["099911128", "0612345678", "06-12345678", "2026-06-20T09:30:00+02:00", "urn:oid:2.16.840.1.113883.2.4.6.7", "999111270"]
    ),
)
def test_what_is_none_of_them_stays(text: str, number: str) -> None:
    assert without({"a": f"{text} {number}"}, frozenset({OURS})) == {"a": f"{text} {number}"}


def plain(number: int) -> str:
    """Of another number, written in some way."""
    text = f"{number:09}"
    return f"{text[:2]}-{text[2:5]} {text[5:]}"


@given(st.integers(0, 999_999_999).filter(lambda number: number != int(OURS)))
def test_a_number_of_nine_digits_that_is_another_stays(number: int) -> None:
    assert without(plain(number), frozenset({OURS})) == plain(number)


@given(st.dates(date(1900, 1, 1), date(2099, 12, 31)), st.sampled_from(["%Y-%m-%d", "%d-%m-%Y", "%d.%m.%Y", "%Y %m %d"]))
def test_a_date_stays_though_its_digits_are_a_bsn_without_its_zero(day: date, form: str) -> None:
    """Seen to fail without _DATE: birthDate and start would have gone out as stars."""
    text = day.strftime(form)
    bsns = frozenset({re.sub(r"\D", "", text).zfill(9)})
    told = {"birthDate": f"{day:%Y-%m-%d}", "comment": f"op {text}."}
    assert without(told, bsns) == told


@pytest.mark.parametrize(
    ("value", "bsn"),
    [
        ("2026-06-20T09:30:00.000+02:00", "260620093"),
        ("2026-06-20T09:30:00.000+02:00", "000000200"),
        ("urn:oid:2.16.840.1.113883.2.4.6.7", "011388324"),
        ("https://zuid.example/11-38-83-24", "011388324"),
    ],
)
def test_what_software_reads_stays(value: str, bsn: str) -> None:
    assert without({"start": value}, frozenset({bsn})) == {"start": value}


def test_an_id_stays_and_is_told() -> None:
    bsns = known([(BSN, OURS), (BSN, OURS[1:]), ("urn:other", "123456782"), (BSN, "12"), (BSN, "none of 9")])
    assert bsns == {OURS}
    for node in ({"id": f"a{OURS}"}, {"actor": [{"reference": f"Patient/{OURS}"}]}):
        assert without(node, bsns) == node
        assert named_by(node, bsns)
    assert not named_by({"id": "a1", "comment": OURS}, bsns)
