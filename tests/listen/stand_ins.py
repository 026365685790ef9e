"""A bus that keeps records in memory and fails on demand, and a raw MLLP sender that does what no library would."""

import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from pipeline.bus.port import Consumer, RebalanceListener, Record, TopicPartition, TopicSettings, Where
from pipeline.errors import BusError, BusUnavailable
from pipeline.hl7.ack import Acknowledgement, read_acknowledgement
from pipeline.hl7.mllp import Frame, Framer, frame
from pipeline.model import Position, Received

TOPIC = "his.adt"


@dataclass
class FailingBus:
    """The port's producing half, in memory. `fails` says which records the bus does not take; `gate` closed holds every `wait`."""

    records: list[Record] = field(default_factory=list)
    failing: set[bytes] = field(default_factory=set)
    """A record whose value contains one of these fails."""
    error: Exception = field(default_factory=lambda: BusUnavailable("away", where="stand-in"))
    gate: threading.Event = field(default_factory=threading.Event)
    waiting: int = 0
    most_waiting: int = 0
    closed_producers: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.gate.set()

    def producer(self) -> "FailingProducer":
        return FailingProducer(self)

    def topics(self) -> dict[str, int]:
        return {TOPIC: 1}

    def described(self, topic: str) -> TopicSettings | None:
        raise NotImplementedError

    def values(self) -> list[bytes]:
        return [record.value or b"" for record in self.records]

    def consumer(self, group: str, topics: Sequence[str], *, listener: RebalanceListener | None = None) -> Consumer:
        raise NotImplementedError

    def start(self, group: str, topics: Sequence[str], where: Where | int) -> dict[TopicPartition, int]:
        raise NotImplementedError

    def move(self, group: str, partitions: Sequence[TopicPartition], where: Where | int) -> dict[TopicPartition, int]:
        raise NotImplementedError

    def committed(self, group: str, topic: str) -> dict[TopicPartition, int]:
        raise NotImplementedError

    def create_topics(self, topics: Iterable[TopicSettings]) -> list[str]:
        raise NotImplementedError

    def bounds(self, topic: str) -> dict[TopicPartition, tuple[int, int]]:
        raise NotImplementedError

    def read(
        self, topic: str, *, start: Mapping[TopicPartition, int] | None = None, most: int | None = None
    ) -> Iterable[Received]:
        raise NotImplementedError

    def fetch(self, position: Position) -> Received | None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@dataclass
class FailingProducer:
    bus: FailingBus

    def send(self, record: Record) -> "FailingPending":
        with self.bus.guard:
            self.bus.waiting += 1
            self.bus.most_waiting = max(self.bus.most_waiting, self.bus.waiting)
        return FailingPending(self.bus, record)

    def append(self, records: Iterable[Record], timeout: float = 30.0) -> list[Position]:
        return [self.send(record).wait(timeout) for record in records]

    def append_each(self, records: Sequence[Record], timeout: float = 30.0) -> list[Position | BusError]:
        raise NotImplementedError

    def close(self) -> None:
        self.bus.closed_producers += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class FailingPending:
    bus: FailingBus
    record: Record

    def wait(self, timeout: float) -> Position:
        opened = self.bus.gate.wait(timeout)
        with self.bus.guard:
            self.bus.waiting -= 1
            if not opened:
                raise BusUnavailable("not known to be durable", where="stand-in")
            if any(part in (self.record.value or b"") for part in self.bus.failing):
                raise self.bus.error
            self.bus.records.append(self.record)
            return Position(self.record.topic, 0, len(self.bus.records) - 1)


class Sender:
    """A socket that speaks MLLP as badly as a test wants."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.framer = Framer(16 * 1024 * 1024)
        self.came: list[bytes] = []

    @classmethod
    def to(cls, address: tuple[str, int]) -> Self:
        return cls(socket.create_connection(address, timeout=60))

    def send(self, *contents: bytes) -> None:
        """Each in a frame, all in one write."""
        self.socket.sendall(b"".join(map(frame, contents)))

    def receive(self) -> bytes | None:
        """The next answer's content; None where the other side closed (or reset) the connection."""
        while not self.came:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.came += [item.content for item in self.framer.feed(data) if isinstance(item, Frame)]
        return self.came.pop(0)

    def ask(self, content: bytes) -> Acknowledgement | None:
        """Send one message; its acknowledgement, None where the connection was closed instead."""
        self.send(content)
        return self.acknowledgement()

    def acknowledgement(self) -> Acknowledgement | None:
        content = self.receive()
        return None if content is None else read_acknowledgement(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def adt(control_id: str, *, accept: str = "", patient: str = "100", extra: str = "") -> bytes:
    """A small A08."""
    return (
        f"MSH|^~\\&|HIS|ZH|EMR|ZIS|20260131123000||ADT^A08^ADT_A01|{control_id}|P|2.5|||{accept}\r"
        f"EVN|A08|20260131123000\rPID|1||{patient}^^^ZH^PI||Jansen^Jan\r{extra}"
    ).encode()
