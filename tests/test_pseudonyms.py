"""Keyed hashes and sealed ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.pseudonyms import HASH_LENGTH, Pseudonyms, event_name
from schemas.event import Event

ONE = Pseudonyms("one secret of sixteen bytes")
OTHER = Pseudonyms("another secret, as long as it")


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
def test_a_hash_tells_parts_apart_and_is_of_one_length(parts: list[str], others: list[str]) -> None:
    assert len(ONE.hash(*parts)) == HASH_LENGTH
    if "\x1f" not in "".join(parts + others):
        assert (ONE.hash(*parts) == ONE.hash(*others)) == (parts == others)


def test_another_secret_gives_other_hashes_and_another_check_value() -> None:
    assert ONE.hash("patient") != OTHER.hash("patient")
    assert ONE.check != OTHER.check


@given(st.text())
def test_what_is_sealed_can_be_unsealed_and_does_not_show(text: str) -> None:
    sealed = ONE.seal(text)
    assert ONE.unseal(sealed) == text
    assert len(text) < 4 or text not in sealed


def test_what_another_secret_sealed_is_refused() -> None:
    with pytest.raises(SettingsError, match="sealed with another key"):
        OTHER.unseal(ONE.seal("roche-1"))


def test_a_short_secret_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="openssl rand") as refused:
        Pseudonyms("short")
    assert "short:" not in str(refused.value)


def event(control_id: str | None, kind: str = "ADT", trigger: str = "A04") -> Event:
    return Event(type=kind, trigger=trigger, control_id=control_id)


@pytest.mark.parametrize("control_id", ["1", "MSG0-1", "00000123", "20240502101500.123", "{A1}#7", 199 * "7", "19801332x"])
def test_a_control_id_that_looks_like_one_is_shown(control_id: str) -> None:
    assert ONE.control_id(event(control_id)) == control_id


@pytest.mark.parametrize(
    "control_id",
    ["Jansen", "19800203", "20011231", "Jansen^Piet7", "Jansen 7", "A\x001", "é1", 200 * "7", "\ud8007", "7\n", "7|8"],
)
def test_a_control_id_that_may_be_anything_is_hashed(control_id: str) -> None:
    shown = ONE.control_id(event(control_id))
    assert shown == ONE.control_id_hash(control_id)
    assert (shown[0], len(shown)) == ("#", 17)
    assert shown != OTHER.control_id_hash(control_id)


@pytest.mark.parametrize(
    ("kind", "trigger"), [("Jansen", "Piet"), ("1980", "0203"), ("", "A04"), ("AD\x00", "A04"), ("adt", "A04"), ("ADT", "A04\n")]
)
def test_where_the_event_is_none_the_fields_are_shifted_and_the_control_id_is_hashed(kind: str, trigger: str) -> None:
    assert event_name(event("1", kind, trigger)) is None
    assert ONE.control_id(event("MSG0-1", kind, trigger)) == ONE.control_id_hash("MSG0-1")


def test_no_control_id_is_none() -> None:
    assert (ONE.control_id(event(None)), ONE.control_id(event(""))) == (None, None)
