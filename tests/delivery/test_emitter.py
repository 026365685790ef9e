"""What is settled goes onto its topics: first durable, then marked in the ledger, then done. A real ledger and bus; topics that fail for a while."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.limits import size_of
from pipeline.bus.port import Bus, Record, TopicSettings
from pipeline.delivery.attempts import Backoff
from pipeline.delivery.emitter import BATCH, Emission, Emitter
from pipeline.delivery.steady import Outages, Steady
from pipeline.errors import BusError, BusRefused, BusTooLarge, BusUnavailable, LedgerError
from pipeline.ledger.port import Ledger
from pipeline.ledger.sql import SqlLedger
from pipeline.model import Position
from tests.delivery.partner_script import until
from tests.ledger.samples import PSEUDONYMS, ROUTE, Message, settled

RESULTS = "emr.results"
LETTERS = "emr.dead-letters"


class Topic:
    """A producer that writes down what happened, and fails as it is told."""

    def __init__(self, bus: Bus, log: list[str], failing: Iterable[BaseException] = ()) -> None:
        self.producer, self.log, self.failing = bus.producer(), log, list(failing)
        self.batches: list[int] = []
        self.most: dict[str, int] = {}
        self.away: set[str] = set()
        self.takes_all_at = -1
        """The how manyth batch finds no size too large any more."""
        self.open = threading.Event()
        self.open.set()

    def append_each(self, records: Sequence[Record], timeout: float = 30.0) -> list[Position | BusError]:
        self.batches.append(len(records))
        assert self.open.wait(60)
        if self.failing:
            self.log.append("refused")
            raise self.failing.pop(0)
        if len(self.batches) == self.takes_all_at:
            self.most = {}
        became = [self.hindered(record) or self.producer.append([record], timeout)[0] for record in records]
        self.log.append("durable" if all(isinstance(each, Position) for each in became) else "in part")
        return became

    def hindered(self, record: Record) -> BusError | None:
        if record.topic in self.away:
            return BusUnavailable("away", where=record.topic)
        return BusTooLarge("too large", where=record.topic) if size_of(record) > self.most.get(record.topic, 1000) else None

    def close(self) -> None:
        self.producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Marking:
    """A ledger that writes down what was marked, and fails as it is told."""

    def __init__(self, ledger: Ledger, log: list[str], failing: Iterable[LedgerError] = ()) -> None:
        self.ledger, self.log, self.failing = ledger, log, list(failing)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the ledger's
        return getattr(self.ledger, name)

    def emitted(self, route: str, results: list[tuple[Position, str]]) -> None:
        if self.failing:
            self.log.append("ledger away")
            raise self.failing.pop(0)
        self.ledger.emitted(route, results)
        self.log.append("marked")


class Room:
    """An emitter with what stands around it."""

    def __init__(self, folder: Path, *, topic: Iterable[BaseException] = (), ledger: Iterable[LedgerError] = ()) -> None:
        self.log: list[str] = []
        self.bus = EmbeddedBus(folder / "bus")
        self.bus.create_topics([TopicSettings(RESULTS, 1), TopicSettings(LETTERS, 1)])
        self.ledger = SqlLedger(f"sqlite:///{folder / 'ledger.sqlite'}", PSEUDONYMS)
        self.ledger.check()
        self.topic = Topic(self.bus, self.log, topic)
        self.abandoned = threading.Event()
        steady = Steady(Outages(ROUTE), self.abandoned, Backoff(0.005, 0.02))
        self.emitter = Emitter(ROUTE, self.topic, Marking(self.ledger, self.log, ledger), steady)  # type: ignore[arg-type]

    def settle(self, offset: int) -> tuple[Position, str]:
        message = Message(offset, patient=f"P{offset}")
        settlement = settled(message)
        assert self.ledger.settle(settlement)
        return message.position, settlement.result_id

    def put(self, offset: int, then: Callable[[], None] | None = None) -> Position:
        its = self.settle(offset)
        done = then or (lambda: self.log.append(f"done {offset}"))
        self.emitter.put(Emission((record(offset),), its, done))
        return its[0]

    def park(self, offset: int, *, size: int = 100, headers: int = 0) -> Position:
        """One with a dead letter of so many bytes, and what stands for it."""
        its = self.settle(offset)
        whole = Record(LETTERS, b"x" * size, b"k", (("ours", b"o"), ("theirs", b"h" * headers)))
        without = Record(LETTERS, None, b"k", (("ours", b"without"), ("theirs", b"h" * headers)))
        bare = Record(LETTERS, None, b"id", (("ours", b"bare"),))
        self.emitter.put(
            Emission((record(offset),), its, lambda: self.log.append(f"done {offset}"), letters=(whole, without, bare))
        )
        return its[0]

    def written(self) -> list[int]:
        return [int(found.value or b"") for found in self.bus.read(RESULTS)]

    def letters(self) -> list[tuple[int | None, bytes]]:
        return [(None if one.value is None else len(one.value), dict(one.headers)["ours"]) for one in self.bus.read(LETTERS)]

    def marked(self, position: Position) -> bool:
        seen = self.ledger.seen(ROUTE, position)
        return seen is not None and seen.result_emitted

    def close(self) -> None:
        self.topic.open.set()
        self.abandoned.set()
        self.emitter.close()
        self.topic.close()
        self.ledger.close()
        self.bus.close()


def record(offset: int) -> Record:
    return Record(RESULTS, str(offset).encode(), key=b"k")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


def test_a_message_is_done_when_its_records_are_durable_and_marked_and_not_before(room: Room) -> None:
    seen: list[tuple[list[int], bool]] = []
    position = Message(7).position
    room.put(7, lambda: seen.append((room.written(), room.marked(position))))
    assert room.emitter.flush(60)
    assert (seen, room.log) == ([([7], True)], ["durable", "marked"])


def test_an_attempt_that_did_not_settle_is_written_and_marks_nothing(room: Room) -> None:
    room.emitter.put(Emission((record(1),)))
    assert room.emitter.flush(60)
    assert (room.written(), room.log) == ([1], ["durable"])


def test_what_waits_is_written_in_the_order_it_came_and_in_batches(room: Room) -> None:
    room.topic.open.clear()
    room.put(0)
    until(lambda: room.topic.batches == [1])
    for offset in range(1, BATCH + 3):
        room.emitter.put(Emission((record(offset),)))
    assert room.emitter.waiting == BATCH + 3
    room.topic.open.set()
    assert room.emitter.flush(60)
    assert room.topic.batches == [1, BATCH, 2]
    assert room.written() == list(range(BATCH + 3))


def test_records_of_one_message_go_in_one_batch(room: Room) -> None:
    room.emitter.put(Emission((record(1), record(2)), room.settle(1)))
    assert room.emitter.flush(60)
    assert room.topic.batches == [2]


@pytest.mark.parametrize("error", [BusUnavailable("away"), BusRefused("no right to write")])
def test_a_topic_that_cannot_be_written_for_a_while_holds_everything_and_is_written_when_it_can(
    tmp_path: Path, error: BusUnavailable | BusRefused, capfd: pytest.CaptureFixture[str]
) -> None:
    room = Room(tmp_path, topic=[error] * 3)
    position = room.put(1)
    assert room.emitter.flush(60)
    assert room.log == ["refused"] * 3 + ["durable", "marked", "done 1"]
    assert room.marked(position)
    said = capfd.readouterr().err
    assert (said.count("bus_away"), said.count("bus_back")) == (1, 1)
    room.close()


def test_a_ledger_that_cannot_be_written_for_a_while_holds_what_is_durable_and_writes_no_record_twice(tmp_path: Path) -> None:
    room = Room(tmp_path, ledger=[LedgerError("away")] * 3)
    room.put(1)
    assert room.emitter.flush(60)
    assert room.log == ["durable", *["ledger away"] * 3, "marked", "done 1"]
    assert room.written() == [1]
    room.close()


def test_flush_says_when_it_did_not_come_in_time(room: Room) -> None:
    room.topic.open.clear()
    room.put(1)
    begun = time.monotonic()
    assert not room.emitter.flush(0.1)
    assert 0.1 <= time.monotonic() - begun < 20
    room.topic.open.set()
    assert room.emitter.flush(60)
    assert room.emitter.flush(0)


def test_close_leaves_what_waits_unwritten_and_unmarked(room: Room) -> None:
    room.topic.open.clear()
    room.put(0)
    until(lambda: room.topic.batches == [1])
    position = room.put(1)
    closing = threading.Thread(target=room.emitter.close)
    closing.start()
    until(lambda: room.emitter._closed)
    room.topic.open.set()
    closing.join(60)
    assert room.written() == [0]
    assert (room.log, room.emitter.waiting) == (["durable", "marked", "done 0"], 1)
    assert not room.marked(position)
    assert room.ledger.unemitted(ROUTE, "his.adt", 0) == [position]


def test_close_ends_the_wait_for_a_topic_that_is_given_up(tmp_path: Path) -> None:
    room = Room(tmp_path, topic=[BusUnavailable("away")] * 1_000_000)
    position = room.put(1)
    until(lambda: len(room.log) > 2)
    room.abandoned.set()
    closing = threading.Thread(target=room.emitter.close, daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()
    assert (room.written(), room.marked(position), room.emitter.failed) == ([], False, None)
    room.close()


def waiting(room: Room) -> None:
    """The next ones come in one batch."""
    room.topic.open.clear()
    room.put(0)
    until(lambda: room.topic.batches == [1])


@pytest.mark.parametrize(
    ("size", "headers", "expected"),
    [(900, 0, (900, b"o")), (1001, 0, (None, b"without")), (1001, 1001, (None, b"bare")), (1, 1001, (None, b"bare"))],
)
def test_a_dead_letter_that_is_too_large_is_written_as_much_as_its_topic_takes(
    room: Room, size: int, headers: int, expected: tuple[int | None, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    position = room.park(1, size=size, headers=headers)
    assert room.emitter.flush(60)
    assert (room.written(), room.letters(), room.marked(position)) == ([1], [expected], True)
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(one["event"], one["at"], one["topic"], one["bytes"]) for one in said] == (
        [("dead_letter_without_bytes", str(position), LETTERS, size)] if expected[0] is None else []
    )
    assert not room.emitter.stuck


def test_nothing_is_written_twice_because_a_dead_letter_beside_it_is_too_large(room: Room) -> None:
    waiting(room)
    room.put(1)
    room.park(2, size=1001)
    room.park(3)
    room.put(4)
    room.topic.open.set()
    assert room.emitter.flush(60)
    assert (room.written(), room.letters()) == ([0, 1, 2, 3, 4], [(100, b"o"), (None, b"without")])
    assert room.topic.batches == [1, 6, 1], "the refused one alone is asked for again"
    assert room.log[-5:] == ["marked", "done 1", "done 2", "done 3", "done 4"]


def test_nothing_is_written_twice_because_another_topic_is_away(room: Room) -> None:
    waiting(room)
    room.topic.away.add(LETTERS)
    room.park(1)
    room.put(2)
    room.topic.open.set()
    until(lambda: room.log.count("in part") > 3)
    assert (room.written(), room.letters(), room.emitter.stuck) == ([0, 1, 2], [], True)
    assert "done 1" not in room.log
    room.topic.away.clear()
    assert room.emitter.flush(60)
    assert (room.written(), room.letters(), room.emitter.stuck) == ([0, 1, 2], [(100, b"o")], False)


def test_a_dead_letter_topic_that_takes_nothing_holds_everything_and_gets_it_whole_when_it_can(
    room: Room, capfd: pytest.CaptureFixture[str]
) -> None:
    room.topic.most[LETTERS] = 1
    room.topic.takes_all_at = 10  # three ways of it are tried each time
    position = room.park(1)
    assert room.emitter.flush(60)
    assert (room.written(), room.letters(), room.marked(position)) == ([1], [(100, b"o")], True)
    assert room.topic.batches == [2, *[1] * 9]
    assert room.log == [*["in part"] * 9, "durable", "marked", "done 1"]
    assert f"a dead letter, even without the message, of {position} is not taken" in capfd.readouterr().err


def test_a_result_that_is_too_large_holds_the_route_names_its_record_and_is_written_when_it_can_be(
    room: Room, capfd: pytest.CaptureFixture[str]
) -> None:
    waiting(room)
    room.topic.most[RESULTS] = 3  # of a key of one byte and a number
    room.put(1)
    room.put(222)
    room.emitter.put(Emission((record(333),), at=Position("his.adt", 0, 333)))
    room.topic.open.set()
    until(lambda: room.log.count("in part") > 3)
    assert (room.written(), room.emitter.stuck, "done 1" in room.log) == ([0, 1], True, False)
    (said,) = (line for line in capfd.readouterr().err.splitlines() if "bus_away" in line)
    assert f"a result of {Message(222).position} is not taken, so no offset passes (too large)" in said
    room.topic.most.clear()
    assert room.emitter.flush(60)
    assert room.written() == [0, 1, 222, 333]
    assert "bus_back" in capfd.readouterr().err


class Defect(Exception):
    """Nobody expected it."""


def test_what_fails_for_good_ends_it_says_why_and_nothing_of_it_is_done(tmp_path: Path) -> None:
    room = Room(tmp_path, topic=[Defect()])
    room.put(1)
    begun = time.monotonic()
    assert not room.emitter.flush(60)
    assert time.monotonic() - begun < 30, "nobody waits for what will not come"
    assert isinstance(room.emitter.failed, Defect)
    assert (room.written(), room.log) == ([], ["refused"])
    room.close()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    topic=st.lists(st.just("away"), max_size=4),
    ledger=st.lists(st.just("away"), max_size=4),
    pauses=st.lists(st.integers(0, 3), min_size=1, max_size=15),
)
def test_whatever_fails_for_a_while_each_is_written_before_it_is_done_and_done_once(
    tmp_path_factory: pytest.TempPathFactory, topic: list[str], ledger: list[str], pauses: list[int]
) -> None:
    room = Room(
        tmp_path_factory.mktemp("room"),
        topic=[BusUnavailable(each) for each in topic],
        ledger=[LedgerError(each) for each in ledger],
    )
    done: list[int] = []
    early: list[int] = []

    def finish(offset: int) -> None:
        done.append(offset)
        if offset not in room.written() or not room.marked(Message(offset).position):
            early.append(offset)

    for offset, pause in enumerate(pauses):
        time.sleep(pause / 2_000)
        room.put(offset, lambda offset=offset: finish(offset))  # type: ignore[misc]
    assert room.emitter.flush(60)
    room.close()
    assert (done, early) == (list(range(len(pauses))), [])
