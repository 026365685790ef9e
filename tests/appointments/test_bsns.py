"""A BSN in a text: found however it is written, and nothing else is taken for one."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.appointments.bsns import BSN, STARS, known, named_by, without

OURS = "099911127"
WRITTEN = st.sampled_from([OURS, "99911127", "0999.11.127", "0999 11 127", "099911127"])
OTHER = st.text(alphabet=st.characters(exclude_categories=["Nd"], exclude_characters=". \u00a0"), min_size=1)


@given(before=OTHER, written=WRITTEN, behind=OTHER)
def test_it_is_starred_however_it_is_written(before: str, written: str, behind: str) -> None:
    assert without({"text": [f"{before}{written}{behind}"]}, frozenset({OURS})) == {"text": [f"{before}{STARS}{behind}"]}


@given(st.text())
def test_no_text_keeps_it(text: str) -> None:
    """Fails where a longer number is not looked into."""
    for whole in (text, f"{text}{OURS}{text}", f"1{OURS}2{text}"):
        assert OURS not in without(whole, frozenset({OURS}))


@given(OTHER, st.sampled_from(["099911128", "0612345678", "2026-06-20T09:30:00+02:00", "urn:oid:2.16.840.1.113883.2.4.6.7"]))
def test_what_is_none_of_them_stays(text: str, number: str) -> None:
    assert without({"a": f"{text} {number}"}, frozenset({OURS})) == {"a": f"{text} {number}"}


def test_an_id_stays_and_is_told() -> None:
    bsns = known([(BSN, OURS), ("urn:other", "123456782"), (BSN, "12")])
    assert bsns == {OURS}
    for node in ({"id": f"a{OURS}"}, {"actor": [{"reference": f"Patient/{OURS}"}]}):
        assert without(node, bsns) == node
        assert named_by(node, bsns)
    assert not named_by({"id": "a1", "comment": OURS}, bsns)
