"""The connections that the Kafka bus asks the cluster with, without a cluster: one that lost its way is replaced, and none is kept for ever."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import errors as kafka_errors
from kafka.record.util import crc32c_c

from pipeline.bus import kafka, kafka_client
from pipeline.bus.kafka import KafkaBus
from pipeline.errors import BusRefused
from pipeline.model import Position
from pipeline.settings import Kafka


class Admin:
    """A client that does not find its coordinator, the first time that it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.closed = False

    def describe_topics(self, _names: list[str] | None) -> list[Any]:
        assert not self.closed
        self.asked += 1
        if self.asked == 1:
            raise kafka_errors.NodeNotReadyError
        return []

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Admin]:
    clients: list[Admin] = []

    def connect(*_: object, **__: object) -> Admin:
        clients.append(Admin())
        return clients[-1]

    monkeypatch.setattr(kafka, "connect", connect)
    return clients


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock of the bus; nobody sleeps."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None)
    monkeypatch.setattr(kafka, "time", clock)
    monkeypatch.setattr(kafka_client, "time", clock)

    def set_to(seconds: float) -> None:
        now[0] = 1000.0 + seconds

    return set_to


def ask(bus: KafkaBus) -> None:
    bus.topics()


def test_a_client_that_lost_its_way_is_replaced_and_closed_when_nobody_can_be_in_it(
    made: list[Admin], at: Callable[[float], None]
) -> None:
    bus = KafkaBus(Kafka(kind="kafka", bootstrap_servers=("nowhere:9092",)))
    for hour in range(20):
        at(3600.0 * hour)
        ask(bus)
        made[-1].asked = 0  # it loses its way once more
    assert len(made) == 20
    assert [each.closed for each in made] == [True] * 18 + [False] * 2
    bus.close()
    assert all(each.closed for each in made)


def test_a_client_that_another_thread_may_be_in_is_not_closed(made: list[Admin], at: Callable[[float], None]) -> None:
    bus = KafkaBus(Kafka(kind="kafka", bootstrap_servers=("nowhere:9092",)))
    for seconds in (0, kafka.OLD_SECONDS + 1, kafka.REST_SECONDS):
        at(seconds)
        ask(bus)
        made[-1].asked = 0
    assert len(made) > 1
    assert not any(each.closed for each in made)
    bus.close()


def test_threads_that_fetch_ask_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python takes five questions at a time; of the sixth it says NodeNotReadyError, and the bus would count as away."""
    inside, most = [0], [0]

    class Busy(Admin):
        def describe_topics(self, _names: list[str] | None) -> list[Any]:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.005)
            inside[0] -= 1
            return []

    monkeypatch.setattr(kafka, "connect", lambda *_, **__: Busy())
    bus = KafkaBus(Kafka(kind="kafka", bootstrap_servers=("nowhere:9092",)))
    refused = []

    def fetch() -> None:
        try:
            bus.fetch(Position("t", 0, 0))
        except BusRefused as error:
            refused.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert (len(refused), most) == (12, [1])


def test_checksums_of_records_are_not_worked_out_in_python() -> None:
    assert crc32c_c is not None
    assert crc32c_c(b"123456789") == 0xE3069283  # the check value of CRC-32C
