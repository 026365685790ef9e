"""What is settled goes onto its topics: first durable, then marked in the ledger, then done. A real ledger and bus; topics that fail for a while."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import Bus, Record, TopicSettings
from pipeline.delivery.attempts import Backoff
from pipeline.delivery.emitter import BATCH, Emission, Emitter
from pipeline.delivery.steady import Outages, Steady
from pipeline.errors import BusRefused, BusUnavailable, LedgerError
from pipeline.ledger.port import Ledger
from pipeline.ledger.sql import SqlLedger
from pipeline.model import Position
from tests.delivery.partner_script import until
from tests.ledger.samples import PSEUDONYMS, ROUTE, Message, settled

RESULTS = "emr.results"


class Topic:
    """A producer that writes down what happened, and fails as it is told."""

    def __init__(self, bus: Bus, log: list[str], failing: Iterable[BaseException] = ()) -> None:
        self.producer, self.log, self.failing = bus.producer(), log, list(failing)
        self.batches: list[int] = []
        self.open = threading.Event()
        self.open.set()

    def append(self, records: Iterable[Record], timeout: float = 30.0) -> list[Position]:
        records = list(records)
        self.batches.append(len(records))
        assert self.open.wait(60)
        if self.failing:
            self.log.append("refused")
            raise self.failing.pop(0)
        positions = self.producer.append(records, timeout)
        self.log.append("durable")
        return positions

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
        self.bus.create_topics([TopicSettings(RESULTS, 1)])
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

    def written(self) -> list[int]:
        return [int(found.value or b"") for found in self.bus.read(RESULTS)]

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
