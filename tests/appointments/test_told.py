"""The newest word of each thing, whichever order the words come in."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.appointments.port import Says
from pipeline.appointments.told import Order, Untimed, Words, as_text, joined, of_row, of_text, shown, status_of, words_of

Message = tuple[str, Says, str | None]
"""Status, what it counts for, when it starts."""
START = st.sampled_from(["2026-07-01T08:00:00Z", "2026-07-02T08:00:00Z", "2026-07-03T08:00:00Z"])
MESSAGES = st.one_of(
    st.tuples(st.just("booked"), st.just(Says.STATUS), START),
    st.tuples(st.just("proposed"), st.sampled_from([Says.STATUS, Says.NOTHING]), st.none()),
    st.tuples(st.sampled_from(["arrived", "fulfilled", "cancelled"]), st.just(Says.STATUS), st.none() | START),
    st.tuples(st.sampled_from(["booked", "arrived"]), st.just(Says.AGAIN), st.none() | START),
    st.tuples(st.sampled_from(["arrived", "fulfilled"]), st.just(Says.LEAST), START),
    st.tuples(st.just("booked"), st.just(Says.NOTHING), START),
)


def at(number: int) -> Order:
    return (number, "topic", 0, 0)


def words(number: int, message: Message) -> Words:
    status, says, start = message
    return words_of({"status": status} | ({"start": start} if start else {}), at(number), says)


def one_by_one(story: Iterable[Message]) -> tuple[str, str | None]:
    """What is shown after all of it, told the slow way: each goes over what the ones before it left."""
    became, again, start, withdrawn = "booked", False, None, False
    for status, says, when in story:
        if when or status == "proposed":
            start, withdrawn = when or start, when is None
        if says in {Says.STATUS, Says.AGAIN}:
            became, again = "booked" if status == "proposed" else status, says is Says.AGAIN
        elif says is Says.LEAST and not again and became in {"booked", "arrived"} and (became, status) != ("arrived", "arrived"):
            became = status
    return ("proposed", None) if became == "booked" and withdrawn else (became, start)


@given(data=st.data(), story=st.lists(MESSAGES, min_size=1, max_size=7))
def test_in_any_order_and_told_twice_it_ends_as_one_by_one(data: st.DataObject, story: list[Message]) -> None:
    """Seen to fail with `>=` for `>` in _newer the other way round, and without the order of `arrived` and `fulfilled`."""
    told = [words(number, message) for number, message in enumerate(story)]
    come = data.draw(st.permutations([*told, *data.draw(st.lists(st.sampled_from(told), max_size=2))]))
    kept: Words = {}
    for one in come:
        kept = of_text(as_text(joined(kept, one)))
    status, start = one_by_one(story)
    assert status_of(kept) == status
    body = orjson.dumps({"status": "cancelled"})
    assert orjson.loads(shown(kept, body)) == {"status": status} | ({"start": start} if start else {})


UNKNOWN = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}


def marked(status: str) -> bytes:
    return orjson.dumps({"status": status, "_start": UNKNOWN, "_end": UNKNOWN})


def test_a_time_that_the_message_does_not_tell_is_the_one_told_before() -> None:
    before = {"status": "booked", "start": "s", "end": "e", "minutesDuration": 5}
    told = joined(words_of(before, at(1), Says.STATUS), words_of({"status": "arrived"}, at(2), Says.STATUS))
    assert orjson.loads(shown(told, marked("arrived"))) == before | {"status": "arrived"}


def test_a_status_that_needs_a_time_is_not_shown_without_one() -> None:
    with pytest.raises(Untimed):
        shown(words_of({"status": "arrived"}, at(1), Says.STATUS), marked("arrived"))


@pytest.mark.parametrize("body", [{"status": "booked", "start": "s", "end": "e"}, {"status": "cancelled"}, {"id": "a"}])
def test_what_tells_all_of_itself_stays_byte_for_byte(body: dict[str, Any]) -> None:
    whole = orjson.dumps(body)
    assert shown(words_of(body, at(1), Says.STATUS), whole) is whole


def test_of_a_version_from_before_words_were_kept_what_it_shows_counts() -> None:
    row = of_row("", orjson.dumps({"status": "cancelled", "start": "s", "end": "e"}), at(3))
    newer = joined(row, words_of({"status": "booked"}, at(4), Says.NOTHING))
    assert (status_of(newer), newer["times"].said) == ("cancelled", {"start": "s", "end": "e"})
    assert of_row(as_text(newer), b"{}", at(9)) == newer
