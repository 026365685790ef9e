"""R3 and R4 on a real Kafka with PostgreSQL: workers join and leave, and one stands still for longer than its session, while messages flow.

The workers are processes of `emr-pipeline run`; the partner makes a second patient of a second create, and its own log is the judge.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from pipeline import wiring
from pipeline.bus.port import TopicPartition
from pipeline.sandbox.roche import RocheSandbox
from pipeline.settings import Kafka, Settings, load
from schemas.result import Result
from tests import postgres_server
from tests.delivery.partner_script import adt
from tests.faults.test_kill9 import ROUTE, assert_source_order, fill, settings_file

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PATIENTS: Final = 100
SESSION_MS: Final = 1_500
STILL_SECONDS: Final = 4.0
"""More than a session, and time for the others to go on with what is taken over."""


@pytest.fixture
def partner(tmp_path: Path) -> Iterator[RocheSandbox]:
    with RocheSandbox(tmp_path / "sandbox", {"latency": 0.05, "duplicate": "twice"}) as sandbox:
        yield sandbox


class Hospital:
    """A settings file for several workers of one group, its traffic, and the processes that were started."""

    def __init__(self, folder: Path, partner: RocheSandbox, kafka: Kafka, prefix: str, *, rebalance: str, days: int) -> None:
        bus: dict[str, object] = {
            "kind": "kafka",
            "bootstrap_servers": list(kafka.bootstrap_servers),
            "replication": 1,
            "session_timeout_ms": SESSION_MS,
            "rebalance": rebalance,
        }
        self.servers = list(kafka.bootstrap_servers)
        self.path = settings_file(folder, partner, bus, prefix)
        tree = yaml.safe_load(self.path.read_text())
        tree["ledger"]["url"] = postgres_server.a_schema()
        tree["topics"]["partitions"] = 4
        tree["partners"]["roche"] |= {"in_flight": 8, "create": {"read": 2, "total": 3}, "update": {"read": 2, "total": 3}}
        self.path.write_text(yaml.safe_dump(tree))
        self.settings: Settings = load(self.path)
        self.partner = partner
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        self.messages = [
            (f"P{patient:04}".encode(), adt(event, f"{patient}-{day}", patient=f"P{patient:04}", time=f"2024050{day}101500+0200"))
            for day, event in enumerate(["A04", *["A08"] * (days - 1)][:days], 1)
            for patient in range(PATIENTS)
        ]
        fill(self.settings, self.messages)

    def join(self, *options: str) -> subprocess.Popen[bytes]:
        """One more worker."""
        with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            command = [sys.executable, "-m", "pipeline.cli", "run", *options, "--settings", str(self.path)]
            self.workers.append(subprocess.Popen(command, stderr=log, env=os.environ | {"PYTHONFAULTHANDLER": "1"}))
        return self.workers[-1]

    def logs(self) -> str:
        """What the workers said, for whoever reads a failure."""
        return "\n".join(f"{path.name}: {path.read_text()}" for path in sorted(self.folder.glob("worker-*.log")))

    def where_they_stand(self) -> None:
        """Each worker writes its threads into its log, and ends."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGABRT)
                worker.wait(5)

    def sent(self, share: float) -> Callable[[], bool]:
        """So much of the traffic has reached the partner."""
        return lambda: self.partner.requests >= share * len(self.messages)

    def settled(self) -> bool:
        """All of it is settled and committed."""
        with wiring.opened(self.settings) as things:
            source = self.settings.routes[ROUTE].source
            ends = {partition: end for partition, (_, end) in things.bus.bounds(source).items()}
            return committed(things.bus, self.settings.group_of(ROUTE), ends) == ends

    def check(self) -> None:
        """One state for each record, one create for each patient, each patient's order kept, and all workers ended well."""
        until(lambda: self.logs().count("worker_started") == len(self.workers), self)
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        assert [worker.wait(20) for worker in self.workers] == [0] * len(self.workers), self.logs()
        effects = self.partner.log.effects()
        created = Counter(effect.identifier for effect in effects if effect.effect == "created")
        assert created == Counter({f"P{patient:04}": 1 for patient in range(PATIENTS)}), self.logs()
        assert_source_order(effects, [message for _, message in self.messages])
        with wiring.opened(self.settings) as things:
            counts = {str(state): number for state, number in things.ledger.counts(ROUTE)[ROUTE].items() if number}
            assert counts == {"delivered": len(self.messages)}, self.logs()
            results = [
                Result.model_validate_json(record.value)
                for record in things.bus.read(self.settings.topics.results)
                if record.value
            ]
        states = {(result.source_partition, result.source_offset): str(result.state) for result in results if result.settled}
        assert Counter(states.values()) == Counter(delivered=len(self.messages))
        ids = {result.result_id for result in results if result.settled}
        assert len(ids) == len(self.messages)  # a result may be written twice, under one id


def committed(bus: object, group: str, ends: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
    return {each: offset for each, (offset, _) in bus._stand(group, list(ends)).items()}  # type: ignore[attr-defined]  # as the bus asks it


def until(condition: Callable[[], bool], hospital: Hospital, seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            hospital.where_they_stand()
        assert time.monotonic() < end, f"it did not come; {hospital.partner.requests} requests\n{hospital.logs()}"
        time.sleep(0.05)


@contextmanager
def opened(hospital: Hospital) -> Iterator[Hospital]:
    try:
        yield hospital
    finally:
        for worker in hospital.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait(10)


@pytest.mark.parametrize("way", [("cooperative", 8), ("eager", 8)], ids=["cooperative", "eager"])
def test_workers_join_and_leave_and_each_message_arrives_once_and_in_order(
    tmp_path: Path, partner: RocheSandbox, kafka: Kafka, prefix: str, way: tuple[str, int]
) -> None:
    rebalance, days = way
    with opened(Hospital(tmp_path, partner, kafka, prefix, rebalance=rebalance, days=days)) as hospital:
        first = hospital.join()
        until(hospital.sent(0.05), hospital)
        hospital.join()
        until(hospital.sent(0.4), hospital)
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0, hospital.logs()
        hospital.join()
        until(hospital.settled, hospital)
        hospital.check()


def test_a_worker_that_stood_still_for_longer_than_its_session_goes_on_and_nothing_is_lost_or_created_twice(
    tmp_path: Path, partner: RocheSandbox, kafka: Kafka, prefix: str
) -> None:
    with opened(Hospital(tmp_path, partner, kafka, prefix, rebalance="cooperative", days=8)) as hospital:
        first, _ = hospital.join(), hospital.join()
        until(hospital.sent(0.1), hospital)
        os.kill(first.pid, signal.SIGSTOP)
        time.sleep(STILL_SECONDS)
        before = partner.requests
        os.kill(first.pid, signal.SIGCONT)
        until(hospital.settled, hospital)
        assert first.poll() is None, hospital.logs()
        assert before < partner.requests
        hospital.check()


def test_a_worker_that_joins_has_its_share_while_the_other_still_works_off_what_it_has_read(
    tmp_path: Path, kafka: Kafka, prefix: str
) -> None:
    """A partner that takes half a second would hold the group up for fifty, were it heard only between two batches."""
    with (
        RocheSandbox(tmp_path / "sandbox", {"latency": 0.5}) as slow,
        opened(Hospital(tmp_path, slow, kafka, prefix, rebalance="cooperative", days=2)) as hospital,
    ):
        hospital.join()
        until(lambda: slow.requests >= 2, hospital)
        hospital.join()
        until(lambda: len(holders(hospital)) == 2, hospital, seconds=15)


def holders(hospital: Hospital) -> list[object]:
    """The members of the group that have partitions."""
    admin = KafkaAdminClient(bootstrap_servers=hospital.servers)
    try:
        group = hospital.settings.group_of(ROUTE)
        members = admin.describe_groups([group])[group]["members"]
        return [
            member for member in members if member["member_assignment"] and member["member_assignment"]["assigned_partitions"]
        ]
    finally:
        admin.close()


def test_a_drain_ends_where_the_marker_of_a_transaction_ends_the_topic(
    tmp_path: Path, partner: RocheSandbox, kafka: Kafka, prefix: str
) -> None:
    with opened(Hospital(tmp_path, partner, kafka, prefix, rebalance="cooperative", days=0)) as hospital:
        his: Any = KafkaProducer(bootstrap_servers=hospital.servers, transactional_id=prefix + "his")
        his.init_transactions()
        his.begin_transaction()
        his.send(hospital.settings.routes[ROUTE].source, adt("A04", "1", patient="P0001"), key=b"P0001")
        his.commit_transaction()
        his.close()
        worker = hospital.join("--drain")
        assert worker.wait(20) == 0, hospital.logs()
        assert hospital.settled()
        assert [effect.effect for effect in partner.log.effects()] == ["created"]
