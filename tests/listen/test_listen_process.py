"""The real process: `emr-pipeline listen` on the embedded bus, killed under load and stopped in order; the oracle is what stands in the topic."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import TopicSettings
from pipeline.hl7.ack import Acknowledgement, read_header
from pipeline.listen.address import Address
from tests.listen.stand_ins import TOPIC, Sender, adt

SETTINGS = """
site: {name: test}
bus: {kind: embedded, path: bus}
ledger: {url: "sqlite:///ledger.sqlite"}
keys: {patient_hash: {env: UNUSED}}
partners: {}
routes: {}
listen: {topic: his.adt, address: "127.0.0.1:0"}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "emr-pipeline.yaml"
    path.write_text(SETTINGS)
    with closing(EmbeddedBus(tmp_path / "bus")) as bus:
        bus.create_topics([TopicSettings(TOPIC, partitions=4)])
    return path


@contextmanager
def listening(settings: Path) -> Iterator[tuple[subprocess.Popen[str], Address]]:
    command = [sys.executable, "-m", "pipeline.cli", "listen", "--settings", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            found = re.fullmatch(r"listening for MLLP on ([\d.]+):(\d+) \(plain\), onto topic his\.adt\n", first)
            assert found is not None, first
            yield process, Address(found[1], int(found[2]))
        finally:
            process.kill()


def stored(settings: Path) -> list[str]:
    """Control ids in the topic, per partition in order."""
    with closing(EmbeddedBus(settings.parent / "bus")) as bus:
        headers = [read_header(received.value or b"") for received in bus.read(TOPIC)]
        return [header[10] for header in headers if header is not None]


class Load:
    """Senders that send one message after the other until their connection ends; what was acknowledged and what was sent, per sender."""

    def __init__(self, address: Address, label: str, senders: int) -> None:
        self.acknowledged: dict[str, list[str]] = defaultdict(list)
        self.sent: dict[str, list[str]] = defaultdict(list)
        self._threads = [threading.Thread(target=self._run, args=(address, f"{label}s{number}")) for number in range(senders)]
        for thread in self._threads:
            thread.start()

    def _run(self, address: Address, name: str) -> None:
        with Sender.to(address) as sender:
            for number in range(1_000_000):
                control_id = f"{name}n{number}"
                self.sent[name].append(control_id)
                try:
                    came = sender.ask(adt(control_id, patient=name))
                except OSError:
                    return
                if came is None:
                    return
                assert came == Acknowledgement("AA", control_id)
                self.acknowledged[name].append(control_id)

    def total(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def wait_for(self, total: int) -> None:
        deadline = time.monotonic() + 20
        while self.total() < total:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()


def test_whatever_was_acknowledged_before_a_kill_is_in_the_topic_in_order(settings: Path) -> None:
    for round_ in range(5):
        with listening(settings) as (process, address):
            load = Load(address, f"r{round_}", senders=16)
            load.wait_for(100 + 37 * round_)
            process.kill()
            load.join()
        ids = stored(settings)
        assert len(set(ids)) == len(ids)
        for name, acknowledged in load.acknowledged.items():
            its = [control_id for control_id in ids if control_id.startswith(f"{name}n")]
            assert its in (acknowledged, load.sent[name])  # the last one may be stored and not yet acknowledged
        assert load.total() >= 100


def test_a_sigterm_under_load_loses_no_acknowledgement(settings: Path) -> None:
    with listening(settings) as (process, address):
        load = Load(address, "t", senders=16)
        load.wait_for(200)
        process.send_signal(signal.SIGTERM)
        load.join()
        assert process.wait(60) == 0
        out, log = process.communicate()
    ids = stored(settings)
    assert sorted(ids) == sorted(control_id for each in load.acknowledged.values() for control_id in each)
    assert out == f"stopped; {len(ids)} messages stored, 0 refused\n"
    assert "listen_stopped" in log
    assert "Jansen" not in log


def test_a_second_sigterm_ends_at_once(settings: Path) -> None:
    with listening(settings) as (process, address), Sender.to(address) as sender:
        assert sender.ask(adt("C1")) == Acknowledgement("AA", "C1")
        with closing(EmbeddedBus(settings.parent / "bus")) as bus, bus._log.lent() as connection, bus._log.writing(connection):
            sender.send(adt("C2"))  # it cannot be stored while another process writes
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            time.sleep(1)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 128 + signal.SIGTERM
        assert sender.receive() is None
    assert stored(settings) == ["C1"]
