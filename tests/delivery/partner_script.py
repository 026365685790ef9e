"""A transport that answers from a script, and a house around it on the embedded bus and a SQLite ledger. No network."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from pipeline import wiring
from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import Bus, Record, TopicPartition
from pipeline.delivery.courier import Topics
from pipeline.delivery.gate import Gate, Standing
from pipeline.delivery.worker import Worker
from pipeline.errors import NoAnswer, NotSent
from pipeline.ledger.sql import SqlLedger
from pipeline.model import Reply, Request
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings import DEFAULTS, Settings, load
from pipeline.transport.port import Transport
from schemas.outcomes import Reason, State
from schemas.result import Result

ROUTE = "roche-patients"
NOW = wiring.clock()
"""The time of every record, so that two buses give the same where the message tells none."""
TOPICS = Topics("his.adt", "emr.results", "emr.dead-letters")
Scripted = Reply | NoAnswer | NotSent | BaseException


class Killed(BaseException):
    """Stands for kill -9: nothing of ours handles it."""


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, 12.5, 1000, 1012)


def created(partner_id: str = "roche-1") -> Reply:
    patient = {"resource": {"resourceType": "Patient", "id": partner_id}}
    return reply(
        200,
        orjson.dumps({"resourceType": "Bundle", "id": partner_id, "type": "message", "entry": [patient]}),
        content_type="application/json",
    )


def updated() -> Reply:
    return reply(200)


def issue(status: int, code: str) -> Reply:
    body = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}
    return reply(status, orjson.dumps(body), content_type="application/json")


@dataclass
class Script:
    """Answers in order, then `then` for ever. Remembers the requests."""

    answers: list[Scripted] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def exchange(self, request: Request) -> Reply:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else (created() if request.method == "POST" else updated())
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def knock(self) -> None:
        """Somebody is there."""

    def close(self) -> None:
        """Nothing is open."""


def adt(
    event: str = "A04",
    control_id: str = "1",
    *,
    patient: str = "12345678Z",
    time: str = "20240502101500+0200",
    authority: str = "CIP",
    family: str = "Example",
    prior: str | None = None,
    diagnosis: str = "E10.9",
) -> bytes:
    segments = [
        f"MSH|^~\\&|HIS|CLINIC|EMR|PIPELINE|{time}||ADT^{event}|{control_id}|P|2.5",
        f"EVN|{event}|{time}",
        f"PID|1||{patient}^^^{authority}^PI||{family}^Ana||19800203|F|||||600000001^PRN^PH",
        *([f"MRG|{prior}^^^{authority}^PI"] if prior else []),
        *([f"DG1|1||{diagnosis}^^I10"] if diagnosis else []),
    ]
    return "\r".join(segments).encode()


class Serving(Gate):
    """The gate of a partner that serves others all the time, whatever it does to the messages of the test."""

    @property
    def standing(self) -> Standing:
        with self._lock:
            self._served += 1
        return super().standing


class House:
    """One route with everything real but the partner and, where a test says so, the bus."""

    def __init__(
        self,
        folder: Path,
        *,
        change: Callable[[dict[str, Any]], object] | None = None,
        bus: Bus | None = None,
        ledger: str | None = None,
        partitions: int = 1,
    ) -> None:
        self.folder = folder
        self.script = Script()
        self.settings = settings_with(change)
        self.bus: Bus = bus or EmbeddedBus(folder / "bus")
        self.bus.create_topics(replace(topic, partitions=partitions) for topic in wiring.topic_settings(self.settings))
        self.pseudonyms = Pseudonyms("a secret of the tests, long enough")
        self.ledger = SqlLedger(ledger or f"sqlite:///{folder / 'ledger.sqlite'}", self.pseudonyms)
        self.ledger.check()
        self.topics = wiring.topics_of(self.settings, ROUTE)
        self.clock = wiring.clock
        self.in_flight = 1
        self.gate: type[Gate] = Gate

    def set_delivery(self, **changes: float) -> None:
        """For the workers that are made from now on."""
        self.settings = self.settings.model_copy(update={"delivery": self.settings.delivery.model_copy(update=changes)})

    def set_partner(self, name: str = "roche", **changes: object) -> None:
        """As `set_delivery`. The commands read the file, and not this."""
        partners = self.settings.partners | {name: self.settings.partners[name].model_copy(update=changes)}
        self.settings = self.settings.model_copy(update={"partners": partners})

    def send(self, *messages: bytes | None, partition: int = 0) -> None:
        with self.bus.producer() as producer:
            producer.append(
                Record(self.topics.source, message, key=b"one patient", timestamp_ms=NOW, partition=partition)
                for message in messages
            )

    def worker(self, transport: Transport | None = None, slots: threading.Semaphore | None = None) -> Worker:
        """One message at a time, unless `in_flight` says otherwise, and short pauses."""
        settings = self.settings
        plan = wiring.plan_of(self.settings, ROUTE, wiring.catalogue_of(self.settings), self.pseudonyms)
        return Worker(
            plan,
            self.topics,
            self.settings.group_of(ROUTE),
            self.bus,
            self.ledger,
            transport=transport or self.script,
            gate=self.gate("roche", settings.breaker),
            clock=self.clock,
            settings=settings.delivery,
            flood=settings.flood,
            in_flight=self.in_flight,
            slots=slots,
        )

    def work(self, answers: Iterable[Scripted] = ()) -> Worker:
        """Until all that is there is settled."""
        self.script.answers.extend(answers)
        worker = self.worker()
        worker.drain()
        worker.run()
        return worker

    def results(self) -> list[Result]:
        return [Result.model_validate_json(record.value) for record in self.bus.read(self.topics.results) if record.value]

    def settled(self) -> list[tuple[State, Reason | None]]:
        return [(result.state, result.reason) for result in self.results() if result.settled]

    def dead_letters(self) -> list[tuple[bytes | None, dict[str, str]]]:
        return [
            (record.value, {name: value.decode() for name, value in record.headers})
            for record in self.bus.read(self.topics.dead_letters)
        ]

    def committed(self) -> int | None:
        """Offset of the group on partition 0, read while no worker runs."""
        with self.bus.consumer(self.settings.group_of(ROUTE), [self.topics.source]) as consumer:
            return consumer.committed([TopicPartition(self.topics.source, 0)])[TopicPartition(self.topics.source, 0)]

    def paths(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.script.requests]

    def close(self) -> None:
        self.ledger.close()
        self.bus.close()


def settings_with(change: Callable[[dict[str, Any]], object] | None) -> Settings:
    """The built-in ones with short pauses, and a change."""
    tree = load(DEFAULTS).model_dump()
    tree["delivery"] |= {"backoff_first": 0.01, "backoff_most": 0.05, "drain_seconds": 0.5, "revoke_seconds": 0.2}
    tree["breaker"] |= {"open_first": 0.01, "open_most": 0.05}
    if change is not None:
        change(tree)
    return Settings.model_validate(tree)


def run_beside(worker: Worker) -> threading.Thread:
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for it; an assertion error where it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
