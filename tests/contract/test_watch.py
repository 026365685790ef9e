"""Onto a topic, each once, on both buses: what an intent brought about is found behind the topic's ends of before, and nothing else is."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.bus.port import Bus, Producer, Record, TopicSettings
from pipeline.delivery.attempts import Backoff
from pipeline.delivery.steady import Outages, Steady
from pipeline.errors import BusUnavailable
from pipeline.ledger.sql import SqlLedger
from pipeline.ledger.watching import Item
from pipeline.watch.appending import Appender
from pipeline.watch.records import KNOWN_BY, known_by
from tests.bus.places import Place
from tests.delivery.partner_script import Killed
from tests.kafka_server import kafka_settings
from tests.ledger.samples import PSEUDONYMS

W: Final = "w"
ITEMS: Final = [Item(f"r{number}", f"c{number}", f"known-by-{number}") for number in range(6)]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def place(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Iterator[Place]:
    chosen = Place(prefix, folder=tmp_path / "bus") if request.param == "embedded" else Place(prefix, kafka=kafka_settings())
    yield chosen
    for bus in chosen.opened:
        bus.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.check()
    assert ledger.watches.take(W, "a", 1, 0, alone=True)
    yield ledger
    ledger.close()


class Torn:
    """A bus whose producer does so many of the records that it is given, and then what a test says."""

    def __init__(self, bus: Bus, most: int, then: type[BaseException] | None) -> None:
        self._bus, self._most, self._then = bus, most, then

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the bus's own
        return getattr(self._bus, name)

    def producer(self) -> "Torn":
        self._producer: Producer = self._bus.producer()
        return self

    def append(self, records: list[Record]) -> None:
        then, self._then = self._then, None
        self._producer.append(records if then is None else records[: self._most])
        if then is not None:
            raise then("torn")

    def close(self) -> None:
        self._producer.close()


def appender(bus: Any, ledger: SqlLedger, topic: str) -> Appender:  # noqa: ANN401 - torn or whole
    steady = Steady(Outages(W), threading.Event(), Backoff(0.001, 0.01))
    return Appender(W, "a", topic, bus=bus, watches=ledger.watches, steady=steady, clock=lambda: 1)


def records(topic: str, items: list[Item]) -> list[Record]:
    return [Record(topic, b"{}", item.response.encode(), ((KNOWN_BY, item.record.encode()),)) for item in items]


def there(bus: Bus, topic: str) -> list[str]:
    return sorted(str(known_by(one)) for one in bus.read(topic))


@pytest.mark.parametrize("most", [0, 2, 6])
def test_what_a_kill_left_is_remembered_and_the_rest_is_not(place: Place, ledger: SqlLedger, most: int) -> None:
    bus, topic = place.open(), place.name("into")
    bus.create_topics([TopicSettings(topic, 2)])
    with bus.producer() as producer:
        producer.append(records(topic, ITEMS))  # of an intent before: the same records, which do not count
    first = appender(Torn(bus, most, Killed), ledger, topic)
    with pytest.raises(Killed):
        first.append(ITEMS, records(topic, ITEMS))
    first.close()
    second = appender(bus, ledger, topic)
    second.look_back()
    seen = ledger.watches.seen(W, [item.response for item in ITEMS])
    assert seen == {item.response: item.content for item in ITEMS[:most]}
    assert ledger.watches.appending(W) is None
    left = [item for item in ITEMS if item.response not in seen]
    second.append(left, records(topic, left))
    second.close()
    assert there(bus, topic) == sorted([item.record for item in ITEMS] * 2)


@pytest.mark.parametrize("most", [0, 2, 6])
def test_an_append_whose_answer_is_lost_is_looked_at_before_it_is_done_again(place: Place, ledger: SqlLedger, most: int) -> None:
    bus, topic = place.open(), place.name("into")
    bus.create_topics([TopicSettings(topic, 2)])
    one = appender(Torn(bus, most, BusUnavailable), ledger, topic)
    one.append(ITEMS, records(topic, ITEMS))
    one.close()
    assert there(bus, topic) == sorted(item.record for item in ITEMS)
    assert len(ledger.watches.seen(W, [item.response for item in ITEMS])) == len(ITEMS)
