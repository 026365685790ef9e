"""Clients that send or take too slowly, too many at once, and what is no HTTP: on real sockets."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest

from pipeline.serve.xis.connections import Patience
from pipeline.serve.xis.context import BSN
from pipeline.serve.xis.web import Serving, _address, _below, serving
from tests.serve.xis.stand_ins import ANNA, NOW, House
from tests.test_metrics import at, samples

SECONDS = 60
"""For whatever ends earlier."""
SHORT, LONG = 0.2, 1000.0


@contextmanager
def server(
    house: House, head: float = LONG, request: float = LONG, most: int = 100, header: str | None = None
) -> Iterator[Serving]:
    with serving(
        house.service, ("127.0.0.1", 0), None, drain_seconds=10, patience=Patience(head, request, most), client_header=header
    ) as found:
        yield found


@contextmanager
def client(found: Serving) -> Iterator[socket.socket]:
    with socket.create_connection((found.host, found.port), timeout=SECONDS) as made:
        yield made


def whole(made: socket.socket) -> bytes:
    """What comes until the other side ends it, however it does."""
    read = b""
    try:
        while some := made.recv(65536):
            read += some
    except ConnectionResetError:
        pass
    return read


def exchanged(found: Serving, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Of a request after which the connection ends."""
    with client(found) as made:
        _sent(made, request)
        head, _, body = whole(made).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


def head(house: House, *lines: str, first: str = "GET /fhir/Appointment HTTP/1.1") -> bytes:
    said = (first, "Host: x", f"Authorization: Bearer {house.issuer.token()}", "Connection: close", *lines, "", "")
    return "\r\n".join(said).encode()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /fhir/metadata HTTP/1.1\r\n\r\n", 400),
        (b"GET /fhir/\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"POST /fhir/Appointment/_search HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /fhir/Appointment/_search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET /fhir/Appointment?date=" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 431),
        (b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000 + b"\r\nConnection: close\r\n\r\n", 431),
    ],
)
def test_what_is_no_http_or_too_large_is_refused_as_fhir(request_bytes: bytes, status: int) -> None:
    made = House()
    with server(made) as found:
        answered, headers, body = exchanged(found, request_bytes if request_bytes[:1] != b"\x16" else request_bytes + b"\r\n\r\n")
    assert (answered, headers["content-type"]) == (status, "application/fhir+json;charset=utf-8")
    assert headers["cache-control"] == "no-store"
    assert orjson.loads(body)["resourceType"] == "OperationOutcome"
    reason = "head_too_large" if status == 431 else "no_http"
    assert samples(made.metrics)[at("emr_served_refused_total", reason=reason)] == 1


def test_a_head_that_goes_on_and_on_is_refused_before_its_end() -> None:
    """Fails where only a whole head is measured."""
    made = House()
    with server(made) as found:
        status, _, body = exchanged(found, b"GET /fhir/Appointment?date=" + b"x" * 100_000)
    assert (status, orjson.loads(body)["issue"][0]["code"]) == (431, "too-long")


@pytest.mark.parametrize("name", ["Authorization", "MedMij-Request-ID", "X-Correlation-ID", "Content-Type"])
def test_a_header_that_counts_once_and_stands_twice_is_refused(name: str) -> None:
    made = House()
    lines = (f"{name}: a",) if name == "Authorization" else (f"{name}: a", f"{name}: a")
    with server(made) as found:
        status, _, body = exchanged(found, head(made, *lines))
    assert status == 400
    assert "stands more than once" in body.decode()


def test_two_accept_headers_are_one_list() -> None:
    made = House()
    with server(made) as found:
        _, headers, _ = exchanged(found, head(made, "Accept: text/turtle", "Accept: application/fhir+xml"))
    assert headers["content-type"].startswith("application/fhir+xml")


def test_http_1_0_is_answered() -> None:
    made = House()
    with server(made) as found:
        assert exchanged(found, head(made, first="GET /fhir/Appointment HTTP/1.0"))[0] == 200


def test_a_form_that_comes_in_pieces_is_read_and_one_without_end_is_refused() -> None:
    made = House()
    made.change("a0", NOW, (BSN, ANNA))
    first, kind = "POST /fhir/Appointment/_search HTTP/1.1", "Content-Type: application/x-www-form-urlencoded"
    chunked = head(made, kind, "Transfer-Encoding: chunked", first=first)
    with server(made) as found:
        status, _, body = exchanged(found, chunked + b"4\r\n_id=\r\n2\r\na0\r\n0\r\n\r\n")
        assert (status, b'"a0"' in body) == (200, True)
        status, _, body = exchanged(found, chunked + b"20000\r\n" + b"&" * 0x20000 + b"\r\n0\r\n\r\n")
        assert (status, orjson.loads(body)["resourceType"]) == (413, "OperationOutcome")


def test_a_client_that_says_nothing_or_half_a_head_is_cut_off() -> None:
    with server(House(), head=SHORT) as found:
        for some in (b"", b"GET /fhir/metadata HTTP/1.1\r\nHost:"):
            with client(found) as made:
                _sent(made, some)
                assert whole(made) == b""


def test_a_second_request_on_a_connection_has_its_time_too() -> None:
    with server(House(), head=3.0) as found, client(found) as made:
        made.sendall(b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\n\r\n")
        assert made.recv(65536).startswith(b"HTTP/1.1 200")
        made.sendall(b"GET /fhir/")
        assert b"HTTP/1.1" not in whole(made)


def test_a_body_that_never_ends_is_cut_off() -> None:
    house = House()
    request = head(house, "Content-Length: 10", first="POST /fhir/Appointment/_search HTTP/1.1")
    with server(house, request=SHORT) as found, client(found) as made:
        _sent(made, request + b"date")
        assert whole(made) == b""


def test_a_client_that_does_not_take_its_answers_is_cut_off() -> None:
    """Fails where a request's time ends with its answer being handed to the socket: it would stay in memory for good."""
    house = House()
    with server(house, request=SHORT) as found, client(found) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        asked = b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
        sender = threading.Thread(target=_sent, args=(made, asked * 20))
        sender.start()
        sender.join(SECONDS)
        assert not sender.is_alive()
        until(lambda: found.connections() == 0)


def _sent(made: socket.socket, request: bytes) -> None:
    try:
        made.sendall(request)
    except OSError:
        return


def until(what: object) -> None:
    assert callable(what)
    waiting = threading.Event()
    for _ in range(SECONDS * 20):
        if what():
            return
        waiting.wait(0.05)
    raise AssertionError


def test_more_connections_than_the_most_are_told_so() -> None:
    made = House()
    with server(made, most=1) as found, client(found) as first:
        first.sendall(b"GET /")  # it is no idle one, which would be closed
        until(lambda: found.connections() == 1)
        with client(found) as second:
            answer = whole(second)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"OperationOutcome" in answer
    assert samples(made.metrics)[at("emr_served_refused_total", reason="full")] == 1


def test_a_client_is_its_address_or_what_our_proxy_says_it_saw() -> None:
    made = House(refused_rates=(1e-6, 1e6))
    bad = b"GET /fhir/Appointment HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nConnection: close\r\nX-Real: %s\r\n\r\n"
    with server(made) as found:
        assert [exchanged(found, bad % b"1.1.1.1")[0], exchanged(found, bad % b"2.2.2.2")[0]] == [401, 429]
    made = House(refused_rates=(1e-6, 1e6))
    with server(made, header="X-Real") as found:
        seen = [exchanged(found, bad % said)[0] for said in (b"1.1.1.1", b"9.9.9.9, 1.1.1.1", b"2.2.2.2", b"nonsense", b"")]
    assert seen == [401, 429, 401, 401, 429]


def test_addresses_of_one_network_are_one_client() -> None:
    assert _address("2001:db8::1") == _address("2001:db8::ffff:1") != _address("2001:db8:0:1::1")
    assert [_address(text) for text in ("10.0.0.1", "::ffff:10.0.0.1", "host")] == ["10.0.0.1", "10.0.0.1", None]


@pytest.mark.parametrize(
    ("path", "below"),
    [("/fhir", ""), ("/fhir/x", "/x"), ("/fhirx", "/-"), ("/", "/-"), ("http://h/fhir/x", "/x"), ("http://h", "/-"), ("*", "/-")],
)
def test_what_is_below_the_base(path: str, below: str) -> None:
    assert _below("/fhir", path) == below


def test_a_base_at_the_root_has_all_below_it() -> None:
    assert [_below("", path) for path in ("/x", "", "/")] == ["/x", "", "/"]
