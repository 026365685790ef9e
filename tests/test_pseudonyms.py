"""Keyed hashes and sealed ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.pseudonyms import HASH_LENGTH, Pseudonyms

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
