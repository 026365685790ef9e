"""A real Apache Kafka for the tests, one broker per session: an address, else a container, else the broker's own jars on Java 17.

KAFKA_BOOTSTRAP_SERVERS names one that is there already (plain, topics may be made). Else testcontainers where a Docker engine answers. Else
deploy/kafka/kafka.sh, which ends by itself with the test run. With CI=true none of them is a failure; elsewhere the tests skip and say why.
The secured broker and the cluster of three are always ours, from the jars: nobody else's has our certificates, or may lose a leader.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from pipeline.settings import Kafka

ADDRESS: Final = "KAFKA_BOOTSTRAP_SERVERS"
SCRIPT: Final = Path(__file__).parents[1] / "deploy" / "kafka" / "kafka.sh"
IMAGE: Final = "apache/kafka:4.1.1"
SASL_USER: Final = "pipeline"
SASL_PASSWORD: Final = "not4production"
SESSION_MS: Final = 6_000
"""The shortest session that a broker allows by default."""
STOP_SECONDS: Final = 60

SMALL: Final = {"KAFKA_HEAP_OPTS": "-Xms128m -Xmx256m"}
"""What each broker of a cluster may take."""


class Missing(Exception):
    """There is no Kafka to be had here; says why."""


@dataclass(frozen=True)
class Server:
    """Where brokers listen, and their folder if they are ours."""

    plain: tuple[str, ...]
    ssl: tuple[str, ...] = ()
    sasl_ssl: tuple[str, ...] = ()
    beside: tuple[str, int] | None = None
    """The listener whose clients are told a proxy's port."""
    data: Path | None = None

    def pid_of(self, node: int) -> int:
        """The process of a broker of ours."""
        assert self.data is not None
        return int((self.data / f"broker-{node}.pid").read_text())

    def stand_still(self, node: int) -> None:
        """Stop a broker of ours; returns when none of its threads runs: a signal takes its time to get to all of them."""
        pid = self.pid_of(node)
        os.kill(pid, signal.SIGSTOP)
        end = time.monotonic() + STOP_SECONDS
        while not _stands_still(pid):
            assert time.monotonic() < end, f"broker {node} did not stop"
            time.sleep(0.01)

    def go_on(self, node: int) -> None:
        """After `stand_still`."""
        os.kill(self.pid_of(node), signal.SIGCONT)

    def end(self) -> None:
        """Brokers of ours, for good, with all that they keep: an idle one takes 400 MB, and some of the processor."""
        assert self.data is not None
        for file in self.data.glob("broker-*.pid"):
            pid = int(file.read_text())
            with contextlib.suppress(OSError):  # one that a test has killed
                if b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.data.parent, ignore_errors=True)

    def start_again(self, node: int) -> None:
        """A broker of ours that was killed; returns when it takes connections."""
        assert self.data is not None
        command = [str(SCRIPT), "again", str(node), "--data", str(self.data)]
        subprocess.run(command, check=True, capture_output=True, timeout=180, env={**os.environ, **SMALL})


def _stands_still(pid: int) -> bool:
    try:
        states = [task.read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # a thread that has ended since
        return False
    return set(states) == {"T"}


def kafka_settings(server: Server | None = None, **more: Any) -> Kafka:  # noqa: ANN401 - whatever the settings have
    """Settings for the plain listener, with a short session; skips, or in CI fails, where there is no Kafka."""
    server = server or a_broker()
    values: dict[str, Any] = {
        "kind": "kafka",
        "bootstrap_servers": server.plain,
        "replication": 1,
        "session_timeout_ms": SESSION_MS,
    }
    return Kafka(**{**values, **more})


def a_broker() -> Server:
    """The session's broker."""
    try:
        return _broker()
    except Missing as missing:
        _give_up(missing)


@contextmanager
def from_jars(*words: str, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Brokers of ours, until they are not needed any more; skips, or in CI fails, where there is no Java or Maven."""
    try:
        server = _from_jars(*words, environment=environment)
    except Missing as missing:
        _give_up(missing)
    try:
        yield server
    finally:
        server.end()


def _give_up(missing: Missing) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"no Kafka: {missing}")
    pytest.skip(f"no Kafka: {missing}")


@cache
def _broker() -> Server:
    if os.environ.get(ADDRESS):
        return Server(tuple(os.environ[ADDRESS].split(",")))
    if _docker_answers():
        return _from_container()
    return _from_jars()


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0


def _from_container() -> Server:
    from testcontainers.kafka import KafkaContainer  # noqa: PLC0415 - it looks for Docker when it is imported

    container = KafkaContainer(IMAGE).with_kraft().with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    container.start()  # its own reaper ends it with this process
    return Server((str(container.get_bootstrap_server()),))


def _from_jars(*words: str, environment: dict[str, str] | None = None) -> Server:
    if shutil.which("java") is None or shutil.which("mvn") is None:
        raise Missing(f"set {ADDRESS}, or start Docker, or install Java 17 and Maven (deploy/kafka)")
    data = Path(tempfile.mkdtemp(prefix="emr-kafka-")) / "data"
    command = [str(SCRIPT), "start", "--port", "0", "--data", str(data), "--while", str(os.getpid()), *words]
    started = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, env={**os.environ, **(environment or {})}
    )
    if started.returncode != 0:
        raise AssertionError(f"{SCRIPT} failed:\n{started.stderr}")
    plain, *secured = started.stdout.splitlines()
    listeners = dict(line.split(" ", 1) for line in secured)
    return Server(
        tuple(plain.split(",")),
        tuple(listeners["SSL"].split(",")) if "SSL" in listeners else (),
        tuple(listeners["SASL_SSL"].split(",")) if "SASL_SSL" in listeners else (),
        _address(listeners["BESIDE"]) if "BESIDE" in listeners else None,
        data,
    )


def _address(text: str) -> tuple[str, int]:
    host, port = text.split(":")
    return host, int(port)
