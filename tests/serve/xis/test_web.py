"""The service on a real socket: what Starlette and uvicorn add, and what they may not."""

import socket
import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import orjson
import pytest

from pipeline.errors import SettingsError
from pipeline.listen.tls import server_context
from pipeline.sandbox.certificates import ensure
from pipeline.serve.xis.context import BSN
from pipeline.serve.xis.web import Serving, _bound, serving
from pipeline.settings_sections import TlsFiles
from tests.serve.xis.stand_ins import ANNA, NOW, House, ids


@pytest.fixture
def house() -> House:
    made = House()
    for day in range(3):
        made.change(f"a{day}", NOW + day, (BSN, ANNA))
    return made


@pytest.fixture
def server(house: House) -> Iterator[Serving]:
    with serving(house.service, ("127.0.0.1", 0), None, drain_seconds=10) as found:
        yield found


def asked(server: Serving, target: str, house: House, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection(server.host, server.port, timeout=60)
    try:
        connection.request(method, target, headers={"Authorization": f"Bearer {house.issuer.token()}"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_a_slash_behind_appointment_is_answered_without_a_redirect(server: Serving, house: House) -> None:
    for target in ("/fhir/Appointment/?date=ge:2025", "/fhir/Appointment?date=ge2025"):
        status, headers, body = asked(server, target, house)
        assert (status, headers["content-type"]) == (200, "application/fhir+json;charset=utf-8")
        assert ids(orjson.loads(body)) == ["a0", "a1", "a2"]
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_head_is_get_without_its_body(server: Serving, house: House) -> None:
    status, headers, body = asked(server, "/fhir/Appointment?_count=2", house, "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 100


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        ("/fhir", "GET", 404),
        ("/fhir/metadata", "GET", 200),
        ("/fhir/Appointment", "POST", 405),
        ("/fhir/Appointment", "OPTIONS", 405),
        ("/fhir/Appointment", "TRACE", 405),
        ("/fhir/Appointment", "PURGE", 405),
        ("/Appointment", "GET", 404),
        ("//fhir/Appointment", "GET", 404),
        ("/", "GET", 404),
        ("*", "OPTIONS", 404),
        ("/healthz", "GET", 404),
        ("/readyz", "GET", 404),
        ("/metrics", "GET", 404),
        ("/fhirs/Appointment", "GET", 404),
        ("/fhir/Appointment/_search", "GET", 405),
        ("/fhir/Appointment/_search", "POST", 415),
        ("http://xis.example/fhir/metadata", "GET", 200),
    ],
)
def test_whatever_is_asked_is_answered_as_fhir(server: Serving, house: House, target: str, method: str, status: int) -> None:
    found, headers, body = asked(server, target, house, method)
    assert (found, headers["content-type"]) == (status, "application/fhir+json;charset=utf-8")
    assert orjson.loads(body)["resourceType"] in {"OperationOutcome", "CapabilityStatement"}


def test_a_defect_and_what_is_no_http_leave_no_value_in_any_log(
    server: Serving, house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    house.store.broken = ValueError("canary")
    assert asked(server, f"/fhir/Appointment?patient={ANNA}", house)[0] == 500
    connection = HTTPConnection(server.host, server.port, timeout=60)
    connection.connect()
    connection.sock.sendall(f"canary {ANNA}\r\n\r\n".encode())
    assert connection.sock.recv(65536).startswith(b"HTTP/1.1 400")
    connection.close()
    written = capfd.readouterr()
    assert "canary" not in written.err + written.out
    assert ANNA not in written.err + written.out


def test_a_stop_waits_for_a_request_in_flight(house: House) -> None:
    entered, leave, got = threading.Event(), threading.Event(), []
    search = house.store.person

    def slow(key: str) -> int | None:
        entered.set()
        assert leave.wait(60)
        return search(key)

    house.store.person = slow  # type: ignore[method-assign]
    with serving(house.service, ("127.0.0.1", 0), None, drain_seconds=60) as server:
        client = threading.Thread(target=lambda: got.append(asked(server, "/fhir/Appointment", house)[0]))
        client.start()
        assert entered.wait(60)
        threading.Timer(0.2, leave.set).start()
    client.join(60)
    assert got == [200]


def test_an_address_that_is_taken_is_a_wrong_setting(server: Serving, house: House) -> None:
    with (
        pytest.raises(SettingsError, match="cannot listen there"),
        serving(house.service, (server.host, server.port), None, drain_seconds=1),
    ):
        pass


def test_it_speaks_tls(house: House, tmp_path: Path) -> None:
    made = ensure(tmp_path)
    context = server_context(TlsFiles(certificate=made.server, key=made.server_key), client_certificates=False, where="x")
    with serving(house.service, ("127.0.0.1", 0), context, drain_seconds=10) as server:
        connection = HTTPSConnection(
            "localhost", server.port, timeout=60, context=ssl.create_default_context(cafile=str(made.ca))
        )
        connection.request("GET", "/fhir/metadata")
        assert connection.getresponse().status == 200
        connection.close()


def test_answers_do_not_wait_for_the_clients_acknowledgement() -> None:
    """asyncio turns Nagle's algorithm off on sockets whose protocol is named; without it each answer on an open connection took 40 ms more."""
    listening = _bound(("127.0.0.1", 0))
    assert listening.proto == socket.IPPROTO_TCP
    listening.close()
