"""R5 and R6: a broker is away and comes back, a worker is cut off from its group, a leader or the group's coordinator dies. Real brokers.

One broker has a listener behind a proxy, and a cluster of three loses one at a time; both are started once for all of these tests.
"""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.trial.invariants import violations
from pipeline.trial.traffic import seeded
from tests.faults.administrator import Administrator, until
from tests.faults.conftest import THOROUGH, Make
from tests.faults.hospital import Hospital, Worker
from tests.faults.proxy import Order, Proxy
from tests.kafka_server import SMALL, Server, from_jars

pytestmark = pytest.mark.kafka

Seen = Callable[[str], None]
BACK = "requests in flight end, no offset passes, one line; when the broker is back, or another leads, all goes on by itself"
REFUSED = "a commit that is refused is never taken as made: the worker rejoins or tries again, and nothing is lost or sent twice"
DEAF = [pytest.param(Order(refuse=True), id="refused"), pytest.param(Order(blackhole=True), id="silent")]


@dataclass(frozen=True)
class Behind:
    """A broker, and a proxy in front of one of its listeners."""

    server: Server
    proxy: Proxy

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.proxy.port}"

    @contextmanager
    def cut_off(self, order: Order) -> Iterator[None]:
        """Whoever comes through the proxy."""
        self.proxy.order(order)
        if order.refuse:
            self.proxy.drop_all()
        try:
            yield
        finally:
            self.proxy.clear()


@pytest.fixture(scope="module")
def behind() -> Iterator[Behind]:
    with Proxy(("127.0.0.1", 0)) as proxy, from_jars("--beside", str(proxy.port)) as server:
        assert server.beside is not None
        proxy.server = server.beside
        yield Behind(server, proxy)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Server]:
    """Three brokers. Whoever kills one of them starts it again."""
    with from_jars("--brokers", "3", environment=SMALL) as server:
        yield server


def through(hospital: Hospital, address: str, *options: str) -> Worker:
    """A worker whose way to Kafka is this; everybody else keeps theirs."""
    bus: dict[str, Any] = hospital.tree["bus"]
    direct, bus["bootstrap_servers"] = bus["bootstrap_servers"], [address]
    try:
        return hospital.start(*options)
    finally:
        bus["bootstrap_servers"] = direct


def loaded(hospital: Hospital, worker: Worker) -> None:
    """It has read its settings: the file is everybody's."""
    hospital.until(lambda: worker.events("worker_started"))


def nothing_out(hospital: Hospital) -> bool:
    """What was at the partner has ended, and the ledger knows how."""
    return not any(row.open for row in hospital.evidence(over=False).rows)


@pytest.mark.fault("R6", BACK)
@pytest.mark.parametrize("order", DEAF)
@THOROUGH
def test_the_broker_is_away_for_a_while(make_hospital: Make, behind: Behind, order: Order, seed: int, seen: Seen) -> None:
    """What holds it: an error of Kafka is an outage unless it is known to be for good (kafka_client.failure); Steady holds the results."""
    random_ = random.Random(f"{seed}{order.refuse}")
    hospital = make_hospital(bus="kafka", servers=behind.server.plain)
    hospital.partner(latency=0.5)
    hospital.set(in_flight=4)
    hospital.fill(seeded(seed, patients=16))
    worker = through(hospital, behind.address, "--drain")
    hospital.more(random_.randint(1, 12))
    with behind.cut_off(order):
        hospital.until(lambda: worker.events("bus_away"))
        hospital.until(lambda: nothing_out(hospital))
        assert hospital.violations(over=False) == []
        assert worker.running
    assert worker.wait() == 0, hospital.logs()
    after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states
    assert len(worker.events("bus_away")) == len(worker.events("bus_back"))
    seen("refused and silent: what was out is settled; drained when it was back")


@pytest.mark.fault("R5", REFUSED)
@pytest.mark.parametrize("order", DEAF)
@pytest.mark.postgres
@THOROUGH
def test_a_worker_is_cut_off_from_its_group_and_works_on_until_it_hears_that_it_is_no_member(
    make_hospital: Make, behind: Behind, order: Order, seed: int, seen: Seen
) -> None:
    """Two have the same records in hand, and one sends. Several guards stand behind each other: what is lost is forgotten, and Ledger.begin lets one."""
    random_ = random.Random(f"{seed}{order.refuse}")
    hospital = make_hospital(bus="kafka", ledger="postgres", servers=behind.server.plain)
    hospital.tree["topics"]["partitions"] = 4
    hospital.partner(latency=0.4)
    short = {"connect": 3, "read": 2, "total": 3}
    hospital.set(in_flight=4, create=dict(short), update=dict(short))
    hospital.fill(seeded(seed, patients=20))
    first = through(hospital, behind.address)
    loaded(hospital, first)
    hospital.start()
    outside = Administrator(behind.server.plain)
    hospital.until(lambda: outside.holders(hospital.group) == [2, 2])
    hospital.more(random_.randint(1, 8))
    with behind.cut_off(order):
        hospital.until(lambda: outside.holders(hospital.group) == [4])
        hospital.more(random_.randint(1, 12))
    hospital.until(lambda: outside.holders(hospital.group) == [2, 2])
    assert hospital.drain() == 0, hospital.logs()
    for worker in hospital.workers[:2]:
        assert worker.end() == 0, hospital.logs()
    after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states
    seen("cut off, it lost all to another and worked on; a member again afterwards, each effect once")


@contextmanager
def without(cluster: Server, node: int, *topics: str) -> Iterator[None]:
    """Kill -9; afterwards it is started again, and all copies are in sync."""
    os.kill(cluster.pid_of(node), signal.SIGKILL)
    try:
        yield
    finally:
        cluster.start_again(node)
        until(lambda: Administrator(cluster.plain).whole(*topics))


@pytest.mark.fault("R6", BACK)
@pytest.mark.parametrize("which", ["source", "results"])
@THOROUGH
def test_a_leader_dies_in_mid_traffic(make_hospital: Make, cluster: Server, which: str, seed: int, seen: Seen) -> None:
    """What holds it: acks=all with two copies in sync, and a poll, a commit and a result that fail are tried again."""
    killed_in_mid_traffic(make_hospital, cluster, seed, which)
    seen("three brokers: leader of the source and of the results killed, all delivered by the other two")


@pytest.mark.fault("R5", REFUSED)
@THOROUGH
def test_the_groups_coordinator_dies_in_mid_traffic(make_hospital: Make, cluster: Server, seed: int, seen: Seen) -> None:
    """What holds it: a commit that fails is none (Worker.commit tells offsets.committed only afterwards)."""
    killed_in_mid_traffic(make_hospital, cluster, seed, "coordinator")
    seen("three brokers: the coordinator killed, the next one took the commits")


def killed_in_mid_traffic(make_hospital: Make, cluster: Server, seed: int, which: str) -> None:
    random_ = random.Random(f"{seed}{which}")
    outside = Administrator(cluster.plain)
    hospital = make_hospital(bus="kafka", servers=cluster.plain, replication=3)
    hospital.partner(latency=0.3)
    hospital.set(in_flight=4)
    hospital.fill(seeded(seed, patients=30))
    topics = [hospital.source, f"{hospital.prefix}results"]
    until(lambda: outside.whole(*topics))
    worker = hospital.start("--drain")
    hospital.more(random_.randint(1, 20))
    partition = random_.randint(0, 1)
    node = leader(outside, hospital, which, partition)
    with without(cluster, node, *topics):
        assert worker.wait() == 0, hospital.logs()
        assert leader(outside, hospital, which, partition) != node, "another leads"
        after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states


def leader(outside: Administrator, hospital: Hospital, which: str, partition: int) -> int:
    if which == "coordinator":
        return outside.coordinator_of(hospital.group)
    return outside.leader_of(hospital.source if which == "source" else f"{hospital.prefix}results", partition)
