"""A leader dies in a cluster of three (RELIABILITY R6): what was promised is there, and producing and consuming go on by themselves."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from pipeline.bus.kafka import KafkaBus
from pipeline.bus.port import Record, TopicPartition, TopicSettings, Where
from pipeline.errors import BusUnavailable
from pipeline.model import Position
from tests.bus.places import WAIT
from tests.kafka_server import Server, kafka_settings

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    # kafka-python leaves the sockets of connections that were refused to the garbage collector
    pytest.mark.filterwarnings("ignore:.*unclosed <socket:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]


def produce_until(stop: threading.Event, bus: KafkaBus, topic: str, promised: list[Position]) -> None:
    """Number after number; what is not known to be durable is sent again, as a caller would."""
    with bus.producer() as producer:
        number = 0
        while not stop.is_set():
            try:
                promised.extend(producer.append([Record(topic, str(number).encode(), b"k")]))
            except BusUnavailable:
                continue
            number += 1


def test_a_killed_leader_costs_no_promised_record_and_nobody_a_restart(brokers: Callable[..., Server], prefix: str) -> None:
    server = brokers("--brokers", "3")
    bus = KafkaBus(kafka_settings(server, replication=3))
    topic, only = prefix + "t", TopicPartition(prefix + "t", 0)
    bus.create_topics([TopicSettings(topic, replication=3)])
    bus.start(prefix + "g", [topic], Where.EARLIEST)
    promised: list[Position] = []
    stop = threading.Event()

    beside = threading.Thread(target=produce_until, args=(stop, bus, topic, promised))
    consumer = bus.consumer(prefix + "g", [topic])
    seen: list[int] = []

    def consume_until(count: int) -> None:
        deadline = time.monotonic() + 2 * WAIT
        while len(seen) < count:
            assert time.monotonic() < deadline, f"{len(seen)} of {count}, {len(promised)} promised"
            try:
                records = consumer.poll(0.5)
            except BusUnavailable:
                continue
            seen.extend(record.position.offset for record in records)

    beside.start()
    try:
        consume_until(20)
        leader = bus._describe([topic])[topic]["partitions"][0]["leader_id"]
        os.kill(server.pid_of(leader), signal.SIGKILL)
        before = len(promised)
        deadline = time.monotonic() + 2 * WAIT
        while len(promised) < before + 50 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(promised) >= before + 50
    finally:
        stop.set()
        beside.join()
    consume_until(len(promised))
    consumer.commit({only: seen[-1] + 1})
    assert consumer.committed([only]) == {only: seen[-1] + 1}
    found = list(bus.read(topic))
    assert {position.offset for position in promised} <= {record.position.offset for record in found}
    numbers = [int(record.value or b"") for record in found]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) >= len(promised)
    assert seen == sorted(seen)
    bus.close()
