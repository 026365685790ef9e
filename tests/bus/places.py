"""One place with topics per bus, so that one suite runs on both; and a process that produces or consumes there until it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.port import Bus, Consumer, TopicPartition
from pipeline.model import Received
from pipeline.settings import Kafka

WAIT = 40.0
"""Seconds after which a test gives up: a group of Kafka's takes a while on a busy machine."""


@dataclass
class Place:
    """Where a bus keeps its topics; every `open` is another instance on the same."""

    prefix: str
    folder: Path | None = None
    kafka: Kafka | None = None
    opened: list[Bus] = field(default_factory=list)

    def open(self) -> Bus:
        """An instance, closed when the test ends."""
        bus: Bus = EmbeddedBus(self.folder) if self.folder is not None else KafkaBus(self._settings())
        self.opened.append(bus)
        return bus

    def name(self, name: str) -> str:
        """A topic's or group's name in this test."""
        return self.prefix + name

    @contextmanager
    def process(self, what: str, topic: str, group: str = "-") -> Iterator["Member"]:
        """A process of its own (member.py) that produces or consumes."""
        where = json.dumps({"folder": str(self.folder)} if self.folder else {"kafka": self._settings().model_dump(mode="json")})
        command = [sys.executable, "-m", "tests.bus.member", what, where, topic, group]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
            assert child.stdout is not None
            try:
                yield Member(child.pid, child.stdout)
            finally:
                child.kill()

    def _settings(self) -> Kafka:
        assert self.kafka is not None
        return self.kafka


@dataclass
class Member:
    """A process that says on its standard output what it has done, one JSON line each."""

    pid: int
    output: IO[str]

    def says(self) -> list[int]:
        """The next line."""
        line = self.output.readline()
        assert line, "the process ended"
        said: list[int] = json.loads(line)
        return said

    def kill(self) -> list[list[int]]:
        """kill -9, and what it had said before."""
        os.kill(self.pid, signal.SIGKILL)
        return [json.loads(line) for line in self.output.read().splitlines() if line.endswith("]")]


def drain(consumer: Consumer, count: int, seconds: float = WAIT) -> list[Received]:
    """Poll until `count` records are there."""
    found: list[Received] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        found += consumer.poll(0.5)
    return found


def values(records: list[Received]) -> list[bytes | None]:
    """What they say."""
    return [record.value for record in records]


def ends(bus: Bus, topic: str) -> dict[TopicPartition, int]:
    """Where each partition ends."""
    return {partition: end for partition, (_, end) in bus.bounds(topic).items()}
