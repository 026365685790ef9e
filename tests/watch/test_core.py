"""What a list of responses means to a watch, whatever the list, its order, or the partner's idea of a filter."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger.watching import Dossier, Item
from pipeline.pseudonyms import Pseudonyms
from pipeline.watch.core import Turns, asked_after, completions, iso, missing, news, read_up_to
from tests.partners.roqua_recorded import completed, invited

HASHED = Pseudonyms("a secret of the tests, long enough").hash
WEEK = 604_800_000
AT = 1_422_361_855_000
"""completed_at of the recorded one."""


def dossier(**other: Any) -> Dossier:  # noqa: ANN401 - any field
    return Dossier(**{"key": "k", "id": "2075", "from_ms": None, "after_ms": None, "polled_ms": None} | other)


def known(*responses: dict[str, Any], of: Dossier | None = None) -> dict[str, str]:
    return {one.item.response: one.item.content for one in completions(responses, of or dossier(), "w", HASHED)}


@pytest.mark.parametrize(
    ("begin", "after", "asked"),
    [(None, None, None), (5, None, 5), (None, WEEK + 7, 7), (9, WEEK + 7, 9), (None, 3, 0), (None, WEEK, 0)],
)
def test_what_is_asked_for_begins_an_overlap_before_the_newest_and_never_before_the_beginning(
    begin: int | None, after: int | None, asked: int | None
) -> None:
    assert asked_after(dossier(from_ms=begin, after_ms=after), WEEK) == asked


def test_a_time_is_asked_with_milliseconds_and_its_offset() -> None:
    assert iso(AT) == "2015-01-27T12:30:55.000+00:00"


def test_only_what_is_completed_counts() -> None:
    assert [
        one.response["id"] for one in completions([invited(), completed(), invited(status="aborted")], dossier(), "w", HASHED)
    ] == [4]


def test_what_was_completed_before_the_beginning_is_left_out_and_at_it_is_not() -> None:
    for begin, there in ((AT, 1), (AT + 1, 0)):
        assert len(completions([completed()], dossier(from_ms=begin), "w", HASHED)) == there


def test_one_that_is_there_as_it_is_is_no_news_and_a_corrected_one_is() -> None:
    there = completions([completed()], dossier(), "w", HASHED)
    assert [one.changed for one in news(there, {})] == [False]
    assert news(there, known(completed())) == []
    assert [one.changed for one in news(there, known(completed(values={"v_1": 1})))] == [True]


@pytest.mark.parametrize(
    "changed",
    [
        {"values": {"v_1": 1}},
        {"outcome": {"scores": {}}},
        {"completed_at": "2015-01-27T13:30:56.000+01:00"},
        {"started_at": "2015-01-27T13:00:00.000+01:00"},
        {"completer_type": "teacher"},
        {"respondent_id": 77},
        {"external_id": "x-1"},
        {"questionnaire_key": "oq46"},
        {"hide_values_from_professionals": True},
    ],
)
def test_what_a_correction_may_change_is_news(changed: dict[str, Any]) -> None:
    there = completions([completed(**changed)], dossier(), "w", HASHED)
    assert [one.changed for one in news(there, known(completed()))] == [True]


@pytest.mark.parametrize("field", ["name", "flags", "textvars", "open_till", "completing_url", "something_new"])
def test_what_no_correction_changes_is_no_news(field: str) -> None:
    assert news(completions([completed(**{field: "other"})], dossier(), "w", HASHED), known(completed())) == []


def test_the_order_of_keys_is_no_news() -> None:
    turned = dict(reversed(completed(values={"v_2": 0, "v_1": 4}).items()))
    assert news(completions([turned], dossier(), "w", HASHED), known(completed(values={"v_1": 4, "v_2": 0}))) == []


def test_two_watches_know_a_response_by_different_hashes_and_no_hash_says_whose() -> None:
    (one,), (other,) = (completions([completed()], dossier(), name, HASHED) for name in ("a", "b"))
    assert one.item.response != other.item.response
    assert "2075" not in str(one.item) + str(dossier())


RESPONSES = st.lists(
    st.builds(
        lambda number, day, value, status: completed(
            id=number, completed_at=datetime(2026, 1, day, tzinfo=UTC).isoformat(), values={"v_1": value}, status=status
        ),
        st.integers(1, 6),
        st.integers(1, 28),
        st.integers(0, 2),
        st.sampled_from(["completed", "completed", "open"]),
    ),
    max_size=8,
)


@given(st.lists(RESPONSES, max_size=6))
def test_whatever_is_listed_again_and_again_each_content_goes_out_once_in_a_row(lists: list[list[dict[str, Any]]]) -> None:
    seen: dict[str, str] = {}
    for each in lists:
        there = completions(each, dossier(), "w", HASHED)
        for one in news(there, seen):
            assert seen.get(one.completion.item.response) != one.completion.item.content
            assert one.changed == (one.completion.item.response in seen)
            seen[one.completion.item.response] = one.completion.item.content
        assert news(there, seen) == []
        assert [one.completed_ms for one in there] == sorted(one.completed_ms or 0 for one in there)


@given(RESPONSES, st.integers(0, 2_000_000_000_000), st.none() | st.integers(0, 2_000_000_000_000))
def test_how_far_it_was_read_never_goes_back_and_never_beyond_now(
    responses: list[dict[str, Any]], now: int, after: int | None
) -> None:
    up_to = read_up_to(dossier(after_ms=after), completions(responses, dossier(), "w", HASHED), now)
    assert up_to is None or up_to <= max(now, after or 0)
    assert after is None or (up_to is not None and up_to >= after)


def test_a_completion_with_a_time_to_come_does_not_hide_the_others() -> None:
    there = completions([completed(completed_at="2999-01-01T00:00:00+01:00")], dossier(), "w", HASHED)
    assert read_up_to(dossier(after_ms=7), there, AT) == 7


def test_of_an_intent_what_does_not_stand_is_missing() -> None:
    items = [Item(str(number), "c", f"r{number}") for number in range(3)]
    assert missing(items, frozenset({"r1", "another's"})) == [items[0], items[2]]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), max_size=20))
def test_whose_turn_it_is_is_whoever_is_due_first_by_the_last_word_of_each(said: list[tuple[str, float]]) -> None:
    turns = Turns()
    for key, due in said:
        turns.at(key, due)
    last = dict(said)
    assert len(turns) == len(last)
    following = turns.next()
    assert (following is None) == (not last)
    if following is not None:
        assert following[0] == min(last.values())
        assert last[following[1]] == following[0]
