"""What the messages of one appointment have told: of its status and of its times each the newest word, and where that stands in the order of versions.

A message need not say all: an update leaves the status, a cancel may leave the times. Each is the newest word of its own, so that whichever order
messages come in, the same is shown as if they had come in theirs. Pure: no I/O, and no patient's name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Final

import orjson

from pipeline.appointments.port import Says

Order = tuple[int, str, int, int]
"""What decides which of two versions is the newer: event time, then the place in the topic."""
TIMES: Final = ("start", "end", "minutesDuration")
MARKS: Final = ("_start", "_end")
"""A time that FHIR wants there and the message does not tell (data-absent-reason): one known from elsewhere takes its place."""
TO_COME: Final = frozenset({"booked", "proposed"})
WITHOUT_TIMES: Final = frozenset({"proposed", "cancelled"})
ARRIVED, FULFILLED, BOOKED, PROPOSED = "arrived", "fulfilled", "booked", "proposed"


class Untimed(Exception):
    """It cannot be shown: it has a status that needs a time, and nothing ever told one. Its text names no value."""


@dataclass(frozen=True, slots=True)
class Word:
    """The newest message that told one thing, and what."""

    order: Order
    said: Any = field(default=None, repr=False)


Words = Mapping[str, Word]
"""By what they are about: `status` ([code, whether an event took one back before]), `arrived` and `fulfilled` (updates that say that it is at least so),
`times`, `withdrawn` (its time is not known any more)."""


def words_of(body: Mapping[str, Any], order: Order, says: Says) -> Words:
    """What one message tells."""
    words: dict[str, Word] = {}
    status, times = body.get("status"), {name: body[name] for name in TIMES if name in body}
    if "start" in times:
        words["times"] = Word(order, times)
    elif status == PROPOSED:
        words["withdrawn"], status = Word(order), BOOKED
    if says in {Says.STATUS, Says.AGAIN} and status is not None:
        words["status"] = Word(order, [status, says is Says.AGAIN])
    if says is Says.LEAST and status in {ARRIVED, FULFILLED}:
        words[status] = Word(order)
    return words


def joined(*told: Words) -> Words:
    """The newest word of each, in whichever order they stand."""
    return reduce(_newer, told, {})


def without(told: Words, order: Order) -> Words:
    """What others told: the same version may come again and say something else, by a mended table or a file that was loaded again."""
    return {about: word for about, word in told.items() if word.order != order}


def _newer(one: Words, other: Words) -> Words:
    both = {**one, **other}
    return both | {about: one[about] for about in one if about in other and one[about].order > other[about].order}


def status_of(told: Words) -> str | None:
    """What became of it. An update undoes nothing: it tells of who came or left where no event has told, and not over an event that took that back."""
    word = told.get("status")
    code, again = word.said if word else (BOOKED, False)
    if not again:
        since = word.order if word else None
        over, come = (_after(told.get(about), since) for about in (FULFILLED, ARRIVED))
        if over and code in {*TO_COME, ARRIVED}:
            return FULFILLED
        if come and code in TO_COME:
            return ARRIVED
    if code in TO_COME and _after(told.get("withdrawn"), told["times"].order if "times" in told else None):
        return PROPOSED
    return str(code) if word or told else None


def _after(word: Word | None, order: Order | None) -> bool:
    return word is not None and (order is None or word.order > order)


def shown(told: Words, body: bytes) -> bytes:
    """The newest body, with the status and the times that were told: the same bytes where it has them. Untimed."""
    before = orjson.loads(body)
    after = {name: value for name, value in before.items() if name not in MARKS}
    if "status" in before and (status := status_of(told)) is not None:
        after["status"] = status
        after = _timed(after, told, status)
        if any(mark in before for mark in MARKS) and "start" not in after and status not in WITHOUT_TIMES:
            raise Untimed("a status that needs a time, and none was ever told")
    return body if after == before else orjson.dumps(after)


def _timed(body: dict[str, Any], told: Words, status: str) -> dict[str, Any]:
    """Of what is still to come a time that was taken back is gone; anything else is found where it was."""
    if status == PROPOSED and _after(told.get("withdrawn"), told["times"].order if "times" in told else None):
        return {name: value for name, value in body.items() if name not in TIMES}
    if "times" not in told:
        return body
    rest = {name: value for name, value in body.items() if name not in TIMES}
    return {**rest, **told["times"].said}


def as_text(told: Words) -> str:
    """For its column."""
    return orjson.dumps({about: [word.order, word.said] for about, word in sorted(told.items())}).decode()


def of_text(text: str) -> Words:
    """What a column has."""
    return {about: Word(tuple(order), said) for about, (order, said) in orjson.loads(text).items()} if text else {}


def of_row(text: str, body: bytes, order: Order) -> Words:
    """Of a version that stands there; of one from before that was kept, what it shows."""
    return of_text(text) if text else words_of(orjson.loads(body), order, Says.STATUS)


def of_texts(texts: Iterable[str]) -> Words:
    """The newest words of several columns."""
    return joined(*map(of_text, texts))
