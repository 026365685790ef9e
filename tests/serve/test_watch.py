"""What a watcher is told, over real sockets, by a health that answers from a list."""

import json
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection

import pytest

from pipeline.errors import SettingsError
from pipeline.health import NotReady
from pipeline.metrics import Metrics
from pipeline.serve.watch import SECONDS, Watch, serving
from pipeline.telemetry import LogEvent
from schemas.outcomes import State


@dataclass
class Listed:
    """A route's health, as a test sets it."""

    why: list[NotReady] = field(default_factory=list)
    broken: bool = False

    def reasons(self) -> Sequence[NotReady]:
        if self.broken:
            raise ValueError("canary")
        return self.why


@dataclass
class House:
    """A watch with two routes."""

    first: Listed = field(default_factory=Listed)
    second: Listed = field(default_factory=Listed)
    metrics: Metrics = field(default_factory=Metrics)
    address: tuple[str, int] = ("", 0)

    def asked(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(*self.address, timeout=60)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def raw(self, said: bytes) -> bytes:
        """All that comes back."""
        with socket.create_connection(self.address, timeout=60) as client:
            client.sendall(said)
            return b"".join(iter(lambda: client.recv(65536), b""))

    def ready(self) -> tuple[int, object]:
        status, headers, body = self.asked("/readyz")
        assert headers["content-type"] == "application/json"
        return status, json.loads(body)


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    watch = Watch({"roche-patients": house.first, "njsams-clients": house.second}, house.metrics)
    with ExitStack() as stack:
        house.address = stack.enter_context(serving(("127.0.0.1", 0), watch))
        yield house


def test_a_process_that_answers_is_alive_whatever_its_routes_say(house: House) -> None:
    house.first.why = [NotReady.LEDGER_AWAY]
    status, _, body = house.asked("/healthz")
    assert (status, json.loads(body)) == (200, {"alive": True})


def test_it_is_ready_where_all_routes_are(house: House) -> None:
    assert house.ready() == (200, {"ready": True})


def test_it_says_of_each_route_that_is_not_ready_why(house: House) -> None:
    house.second.why = [NotReady.PARTNER_AWAY, NotReady.BUS_AWAY]
    assert house.ready() == (503, {"ready": False, "routes": {"njsams-clients": ["partner_away", "bus_away"]}})
    house.second.why = []
    assert house.ready() == (200, {"ready": True})


@pytest.mark.parametrize("why", NotReady)
def test_every_reason_is_said_by_its_name(house: House, why: NotReady) -> None:
    house.first.why = [why]
    assert house.ready() == (503, {"ready": False, "routes": {"roche-patients": [why.value]}})


def test_a_reason_that_passes_by_itself_is_none() -> None:
    assert LogEvent.PARTNER_THROTTLED.value not in [why.value for why in NotReady]


def test_metrics_are_exposed_as_prometheus_reads_them(house: House) -> None:
    house.metrics.settled("roche-patients", State.DELIVERED, None)
    status, headers, body = house.asked("/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'emr_settled_total{reason="",route="roche-patients",state="delivered"} 1.0' in body.splitlines()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/nothing"])
def test_head_says_the_same_without_a_body(house: House, path: str) -> None:
    status, headers, body = house.asked(path)
    assert int(headers["content-length"]) == len(body)
    alone = house.asked(path, "HEAD")
    assert (alone[0], alone[1].keys()) == (status, headers.keys())
    assert house.raw(f"HEAD {path} HTTP/1.0\r\n\r\n".encode()).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/../etc/passwd", "/readyz/canary", "/%2e%2e/pyproject.toml"])
def test_any_other_path_is_not_there_and_is_not_repeated(house: House, path: str) -> None:
    status, _, body = house.asked(path)
    assert (status, body) == (404, b"/healthz, /readyz, /metrics\n")


def test_a_question_behind_the_path_changes_nothing(house: House) -> None:
    assert house.asked("/healthz?x=1")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_sent_to_it(house: House, method: str) -> None:
    assert house.asked("/readyz", method)[0] == 501


def test_a_defect_behind_it_is_said_without_its_text_and_ends_nothing(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.first.broken = True
    status, _, body = house.asked("/readyz")
    assert (status, body[:30]) == (500, b"a defect: ValueError at watch.")
    assert b"canary" not in body
    assert house.asked("/healthz")[0] == 200
    assert "canary" not in capsys.readouterr().err


def test_it_logs_its_address_once_and_no_look(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(("127.0.0.1", 0), Watch({}, Metrics())) as address:
        house = House(address=address)
        for path in ("/readyz", "/canary"):
            house.asked(path)
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["event"], said["host"], said["port"]) == ("http_started", *address)


def test_a_client_that_goes_away_is_no_news(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for _ in range(5):
        client = socket.create_connection(house.address)
        client.sendall(b"GET /rea")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # gone by a reset
        client.close()
        house.ready()
    assert capsys.readouterr().err == ""


def test_it_listens_where_it_is_told_and_nowhere_else(house: House) -> None:
    assert house.address[0] == "127.0.0.1"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", house.address[1]), timeout=1)


def test_a_port_that_is_taken_is_said_in_one_line(house: House) -> None:
    with pytest.raises(SettingsError, match="--http: cannot listen there"), serving(house.address, Watch({}, Metrics())):
        raise AssertionError


def test_it_listens_on_ipv6_too() -> None:
    with serving(("::1", 0), Watch({}, Metrics())) as (host, port):
        assert host == "::1"
        socket.create_connection(("::1", port), timeout=1).close()


def test_it_ends_with_its_block_and_gives_the_port_back() -> None:
    with serving(("127.0.0.1", 0), Watch({}, Metrics())) as address:
        pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address, timeout=1)


def test_a_client_that_says_nothing_does_not_hold_up_its_end() -> None:
    with ExitStack() as stack:
        with serving(("127.0.0.1", 0), Watch({}, Metrics())) as address:
            stack.enter_context(socket.create_connection(address))
            House(address=address).asked("/healthz")
            began = time.monotonic()
        assert time.monotonic() - began < SECONDS


def test_a_client_that_says_nothing_holds_up_no_other(house: House) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(socket.create_connection(house.address))
        assert house.ready() == (200, {"ready": True})
