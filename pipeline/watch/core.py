"""What a list of responses means to a watch: what is new, what was corrected, how far it was read. Pure: no clock, no I/O, no order of calls.

What it goes by is the response's id and what it says, never its place in a list or the partner's idea of `completed_after`: whether that includes the
time itself nobody knows, so the last `overlap` seconds are asked for again, and what stands on the topic already is known by its hash.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from pipeline.ledger.watching import Dossier, Item
from pipeline.model import Resource

Hash = Callable[..., str]
"""A keyed hash of texts (pseudonyms.py)."""
CONTENT: Final = (
    *("questionnaire_key", "status", "completed_at", "started_at", "completer_type", "respondent_id", "external_id"),
    *("values", "outcome", "hide_values_from_professionals"),
)
"""What a correction may change. Anything else that RoQua lists, or will list one day, does not send all of them out again."""
DONE: Final = "completed"


@dataclass(frozen=True, slots=True)
class Completion:
    """A completed response, and what it is known by."""

    response: Resource = field(repr=False)
    item: Item
    completed_ms: int | None


@dataclass(frozen=True, slots=True)
class News:
    """One that does not stand on the topic as it is now."""

    completion: Completion
    changed: bool
    """It stands there with other content."""


def asked_after(dossier: Dossier, overlap_ms: int) -> int | None:
    """What was completed after this time is asked for (milliseconds since 1970); None: all of it."""
    if dossier.after_ms is None:
        return dossier.from_ms
    again = max(dossier.after_ms - overlap_ms, 0)
    return again if dossier.from_ms is None else max(again, dossier.from_ms)


def completions(found: Iterable[Resource], dossier: Dossier, watch: str, hashed: Hash) -> list[Completion]:
    """The completed ones of an answer that are wanted, each once, the oldest first."""
    made: dict[str, Completion] = {}
    for response in found:
        if response.get("status") != DONE:
            continue
        when = _ms(response.get("completed_at"))
        if when is not None and dossier.from_ms is not None and when < dossier.from_ms:
            continue
        item = _item(response, watch, hashed)
        made[item.response] = Completion(response, item, when)
    return sorted(made.values(), key=lambda one: (one.completed_ms or 0, one.item.response))


def news(there: Iterable[Completion], seen: Mapping[str, str]) -> list[News]:
    """`seen`: what stands on the topic, response to content."""
    return [News(one, changed=one.item.response in seen) for one in there if seen.get(one.item.response) != one.item.content]


def read_up_to(dossier: Dossier, there: Iterable[Completion], now_ms: int) -> int | None:
    """When the newest was completed that was seen. One with a time to come does not hide those that really are newer."""
    times = [one.completed_ms for one in there if one.completed_ms is not None and one.completed_ms <= now_ms]
    known = [dossier.after_ms] if dossier.after_ms is not None else []
    return max([*known, *times], default=None)


def missing(items: Sequence[Item], standing: frozenset[str]) -> list[Item]:
    """Of an intent, what does not stand on the topic. `standing`: the records that do, by what they are known by."""
    return [item for item in items if item.record not in standing]


def iso(ms: int) -> str:
    """As a filter wants it."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _item(response: Resource, watch: str, hashed: Hash) -> Item:
    said = orjson.dumps([response.get(name) for name in CONTENT], option=orjson.OPT_SORT_KEYS).decode()
    number = response.get("id")
    known_by = str(number) if number is not None else f"{response.get('external_id')} {said}"
    name, content = hashed("response", watch, known_by), hashed("content", said)
    return Item(name, content, hashed("record", watch, name, content))


def _ms(when: Any) -> int | None:  # noqa: ANN401 - JSON's own types
    if not isinstance(when, str):
        return None
    try:
        read = datetime.fromisoformat(when)
        return int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


class Turns:
    """Whose turn it is: each dossier at its time, the longest overdue first. Seconds of a clock that is the caller's."""

    def __init__(self) -> None:
        """Nobody's."""
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: str) -> bool:
        return key in self._due

    def at(self, key: str, due: float) -> None:
        """Its next turn; the one before does not count any more."""
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))

    def next(self) -> tuple[float, str] | None:
        """Who is next, and when; it stays so until `at` says otherwise."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None
