"""HttpsTransport against real sockets: what goes out, what comes back, and what each failure is called."""

import gzip
import logging
import shutil
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import NoAnswer, NotSent, SettingsError
from pipeline.model import Intent, Reply, Request, Timeouts
from pipeline.sandbox.certificates import Files
from pipeline.settings_sections import TlsFiles
from pipeline.transport.connection import CURRENT, _may_come_yet
from pipeline.transport.exchange import Exchange
from pipeline.transport.https import HttpsTransport
from pipeline.transport.port import InAir, Unanswered
from schemas.outcomes import Reason
from tests.transport.tls_server import OK, Peer, Play, Relay, TlsServer, answer, tls

SECRET = "canary-secret"
PATIENT = "canary-12345678Z"
PATIENTS_PATH = f"/Bundle/{PATIENT}%2F%C3%A9"


def a_request(
    path: str = PATIENTS_PATH, body: bytes = b'{"a":1}', *, connect: float = 2, read: float = 2, total: float = 4
) -> Request:
    return Request(
        operation="patient-update",
        method="PUT",
        path=path,
        path_template="/Bundle/{id}",
        headers=(("org_id", "2.16.724.4.2"), ("Content-Type", "application/json")),
        body=body,
        request_id="5109d51b-421e-4746-b673-16e3fe2b3442",
        timeouts=Timeouts(connect, read, total),
        intent=Intent.UPDATE,
    )


class InTwo(HttpsTransport):
    """Its exchanges in two parts, as the pool has them: sent by one thread, read by another when something came or the time for it is over."""

    def exchange(self, request: Request) -> Reply:
        with self.start(request) as air, ThreadPoolExecutor(1) as another:
            return another.submit(self._landed, air).result()

    @staticmethod
    def _landed(air: InAir) -> Reply:
        if air.wait(max(air.deadline - time.monotonic(), 0)):
            air.came(time.monotonic())
        return air.finish()


WAYS: list[type[HttpsTransport]] = [HttpsTransport, InTwo]
way: type[HttpsTransport] = HttpsTransport


@pytest.fixture(autouse=True, params=WAYS, ids=["whole", "in two"])
def in_this_way(request: pytest.FixtureRequest) -> None:
    """Each verdict is the same, whichever way."""
    global way  # noqa: PLW0603 - what every test below is run with
    way = request.param


@contextmanager
def transport_to(url: str, tls_files: TlsFiles, pool: int = 4, cap: int = 100_000, idle: float = 4.0) -> Iterator[HttpsTransport]:
    transport = way(url, tls_files, {"client_secret": SECRET}, pool, cap, idle=idle)
    try:
        yield transport
    finally:
        transport.close()


@contextmanager
def partner(files: Files, play: Play, **how: object) -> Iterator[tuple[TlsServer, HttpsTransport]]:
    server_how = {name: how.pop(name) for name in ("version", "plain") if name in how}
    with TlsServer(files, play, **server_how) as server, transport_to(server.url, tls(files), **how) as transport:  # type: ignore[arg-type]
        yield server, transport


# what goes out, what comes back


def test_an_answer_comes_back_whole_with_its_times(files: Files) -> None:
    reply = b"HTTP/1.1 400 Bad Request\r\nRETRY-After: 3\r\nContent-Length: 5\r\n\r\nwrong"
    with partner(files, answer(reply)) as (_, transport):
        before = time.time_ns() // 1_000_000
        came = transport.exchange(a_request())
    assert (came.status, came.body, came.headers["retry-after"]) == (400, b"wrong", "3")
    assert before <= came.sent_ms <= came.answered_ms <= time.time_ns() // 1_000_000
    assert 0 < came.elapsed_ms < 4000


def test_the_request_goes_out_as_it_was_packed_with_the_secret_added(files: Files) -> None:
    with partner(files, answer(OK)) as (server, transport):
        transport.exchange(a_request())
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    line, *headers = head.decode("ascii").split("\r\n")
    assert line == f"PUT /base{PATIENTS_PATH} HTTP/1.1"
    assert sorted(headers) == sorted(
        [
            f"Host: localhost:{server.port}",
            "org_id: 2.16.724.4.2",
            "Content-Type: application/json",
            f"client_secret: {SECRET}",
            "Content-Length: 7",
            "User-Agent: emr-pipeline",
            "Accept-Encoding: identity",
        ]
    )
    assert body == b'{"a":1}'


def test_what_a_url_may_not_hold_goes_out_percent_encoded(files: Files) -> None:
    with partner(files, answer(OK)) as (server, transport):
        transport.exchange(a_request("/Patient?identifier=urn:oid:1.2|é%2f"))
    assert server.requests[0].startswith(b"PUT /base/Patient?identifier=urn:oid:1.2%7C%C3%A9%2F HTTP/1.1\r\n")


def test_a_connection_is_used_again(files: Files) -> None:
    with partner(files, answer(OK)) as (server, transport):
        assert [transport.exchange(a_request()).status for _ in range(3)] == [200, 200, 200]
    assert server.connections == 1


def test_an_idle_connection_is_not_used_again(files: Files) -> None:
    with partner(files, answer(OK), idle=0.05) as (server, transport):
        transport.exchange(a_request())
        time.sleep(0.1)
        transport.exchange(a_request())
    assert (server.connections, len(server.requests)) == (2, 2)


def test_a_server_that_keeps_connections_for_a_second_is_believed(files: Files) -> None:
    reply = OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=1, max=100\r\n\r\n")
    with partner(files, answer(reply)) as (server, transport):
        transport.exchange(a_request())
        time.sleep(0.05)
        transport.exchange(a_request())
    assert server.connections == 2


def test_no_cookie_is_sent_back(files: Files) -> None:
    with partner(files, answer(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n"))) as (server, transport):
        transport.exchange(a_request())
        transport.exchange(a_request())
    assert b"cookie" not in server.requests[1].lower()


def test_a_redirect_is_an_answer_and_is_not_followed(files: Files) -> None:
    redirect = b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 4\r\n\r\nover"
    with partner(files, answer(redirect)) as (server, transport):
        assert transport.exchange(a_request()).status == 302
    assert len(server.requests) == 1


def test_no_proxy_is_used_whatever_the_environment_says(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with partner(files, answer(OK)) as (_, transport):
        assert transport.exchange(a_request()).status == 200


def test_many_threads_each_get_their_own_answer(files: Files) -> None:
    def echo(peer: Peer) -> None:
        while request := peer.read_request():
            body = request.partition(b"\r\n\r\n")[2]
            peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with partner(files, echo, pool=8) as (server, transport), ThreadPoolExecutor(32) as threads:
        bodies = [b"%d" % number for number in range(200)]
        came = list(threads.map(lambda body: transport.exchange(a_request(body=body, connect=4)).body, bodies))
    assert came == bodies
    assert server.connections <= 8


# nothing left this machine


def test_a_name_that_does_not_resolve_is_not_sent(files: Files) -> None:
    with transport_to("https://nowhere.invalid/base", tls(files)) as transport:
        assert reason_of(transport) == (NotSent, Reason.NOT_SENT_DNS)


def test_a_refused_connection_is_not_sent(files: Files) -> None:
    with socket.socket() as held:  # nobody listens there, and nobody else takes it meanwhile
        held.bind(("127.0.0.1", 0))
        with transport_to(f"https://localhost:{held.getsockname()[1]}", tls(files)) as transport:
            assert reason_of(transport) == (NotSent, Reason.NOT_SENT_CONNECT)


def test_a_connection_that_nobody_takes_is_not_sent_after_the_connect_time_out(files: Files) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)  # noqa: FBT003 - the socket's own signature
            each.connect_ex(full.getsockname())
        began = time.monotonic()
        with transport_to(f"https://127.0.0.1:{full.getsockname()[1]}", tls(files)) as transport:
            assert reason_of(transport, connect=0.3) == (NotSent, Reason.NOT_SENT_CONNECT)
        for each in waiting:
            each.close()
    assert 0.25 < time.monotonic() - began < 20


def test_a_server_that_speaks_no_tls_is_not_sent(files: Files) -> None:
    def talk(peer: Peer) -> None:
        peer.say(OK)
        peer.sock.recv(1)

    with partner(files, talk, plain=True) as (_, transport):
        assert reason_of(transport) == (NotSent, Reason.NOT_SENT_TLS)


def test_a_handshake_that_drips_is_not_sent_after_the_connect_time_out(files: Files) -> None:
    def drip(peer: Peer) -> None:
        peer.say(b"\x16\x03\x03\x40\x00")
        while True:
            time.sleep(0.05)
            peer.say(b"\x02")

    began = time.monotonic()
    with partner(files, drip, plain=True) as (_, transport):
        assert reason_of(transport, connect=0.3) == (NotSent, Reason.NOT_SENT_TLS)
    assert time.monotonic() - began < 20


def test_a_server_certificate_of_another_authority_is_not_sent_and_says_where_to_look(files: Files) -> None:
    with TlsServer(files, answer(OK)) as server, transport_to(server.url, tls(files, ca=files.foreign_ca)) as transport:
        with pytest.raises(NotSent, match=r"tls\.ca") as caught:
            transport.exchange(a_request())
        assert caught.value.reason is Reason.NOT_SENT_TLS
    assert server.requests == []


def test_a_server_certificate_for_another_host_is_not_sent(files: Files) -> None:
    with TlsServer(files, answer(OK)) as server, socket.create_server(("127.0.0.2", 0)) as other:
        relay = threading.Thread(target=_relay_one, args=(other, server.port), daemon=True)
        relay.start()
        with transport_to(f"https://127.0.0.2:{other.getsockname()[1]}", tls(files)) as transport:
            assert reason_of(transport) == (NotSent, Reason.NOT_SENT_TLS)
    assert server.requests == []


def _relay_one(listener: socket.socket, port: int) -> None:
    near, _ = listener.accept()
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        far.sendall(near.recv(65536))
        near.sendall(far.recv(65536))
        near.recv(65536)


@pytest.mark.parametrize(
    ("kind", "sentence"), [("expired", "expired at"), ("not-yet-valid", "is not valid before")], ids=["expired", "not-yet-valid"]
)
def test_our_own_certificate_outside_its_dates_is_not_even_tried(files: Files, kind: str, sentence: str) -> None:
    certificate, key = files.wrong(kind)
    with (
        TlsServer(files, answer(OK)) as server,
        transport_to(server.url, tls(files, certificate=certificate, key=key)) as transport,
        pytest.raises(NotSent, match=sentence) as caught,
    ):
        transport.exchange(a_request())
    assert caught.value.reason is Reason.NOT_SENT_CERTIFICATE
    assert server.connections == 0


def test_a_key_that_is_not_the_certificates_is_not_even_tried(files: Files) -> None:
    _, key = files.wrong("foreign")
    with (
        TlsServer(files, answer(OK)) as server,
        transport_to(server.url, tls(files, key=key)) as transport,
        pytest.raises(NotSent, match="is not the key of") as caught,
    ):
        transport.exchange(a_request())
    assert caught.value.reason is Reason.NOT_SENT_CERTIFICATE
    assert server.connections == 0


@pytest.mark.parametrize("broken", ["missing", "garbage", "encrypted"])
def test_a_key_file_that_cannot_be_read_is_not_even_tried(files: Files, tmp_path: Path, broken: str) -> None:
    path = tmp_path / "client.key"
    if broken == "garbage":
        path.write_bytes(b"no PEM at all")
    if broken == "encrypted":
        key = serialization.load_pem_private_key(files.client_key.read_bytes(), None)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"a passphrase"),
            )
        )
    with transport_to("https://localhost:1", tls(files, key=path)) as transport:
        assert reason_of(transport) == (NotSent, Reason.NOT_SENT_CERTIFICATE)


@pytest.mark.parametrize("broken", ["missing", "garbage"])
def test_a_certificate_or_trust_file_that_cannot_be_read_is_not_even_tried(files: Files, tmp_path: Path, broken: str) -> None:
    path = tmp_path / "a.pem"
    if broken == "garbage":
        path.write_bytes(b"no PEM at all")
    with transport_to("https://localhost:1", tls(files, certificate=path)) as transport:
        assert reason_of(transport) == (NotSent, Reason.NOT_SENT_CERTIFICATE)
    with transport_to("https://localhost:1", tls(files, ca=path)) as transport:
        assert reason_of(transport) == (NotSent, Reason.NOT_SENT_TLS)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_a_refused_client_certificate_is_told_apart_and_no_byte_of_the_request_leaves(
    files: Files, version: ssl.TLSVersion
) -> None:
    certificate, key = files.wrong("foreign")
    with (
        TlsServer(files, answer(OK), version=version) as server,
        transport_to(server.url, tls(files, certificate=certificate, key=key)) as transport,
    ):
        for _ in range(5):
            assert reason_of(transport) == (NotSent, Reason.REFUSED_CERTIFICATE)
    assert server.requests == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_an_accepted_client_certificate_works_under_both_versions(files: Files, version: ssl.TLSVersion) -> None:
    with partner(files, answer(OK), version=version) as (_, transport):
        assert transport.exchange(a_request()).status == 200


def test_a_refusal_that_comes_late_is_met_on_the_first_read(files: Files) -> None:
    certificate, key = files.wrong("foreign")
    with (
        TlsServer(files, answer(OK), version=ssl.TLSVersion.TLSv1_3) as server,
        Relay(server.port, 0.8) as relay,
        transport_to(relay.url, tls(files, certificate=certificate, key=key)) as transport,
    ):
        assert reason_of(transport) == (NotSent, Reason.REFUSED_CERTIFICATE)
    assert server.requests == []


def test_a_pool_without_a_free_connection_is_not_sent(files: Files) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow(peer: Peer) -> None:
        while peer.read_request():
            asked.set()
            answered.wait(60)
            peer.say(OK)

    with partner(files, slow, pool=1) as (_, transport), ThreadPoolExecutor(1) as threads:
        first = threads.submit(transport.exchange, a_request(read=60, total=60))
        assert asked.wait(60)
        assert reason_of(transport, connect=0.1) == (NotSent, Reason.NOT_SENT_CONNECT)
        answered.set()
        assert first.result().status == 200


def test_a_renewed_certificate_is_taken_up_without_a_restart(files: Files, tmp_path: Path) -> None:
    ours = tmp_path / "client.pem", tmp_path / "client.key"
    for source, target in zip(files.wrong("expired"), ours, strict=True):
        shutil.copy(source, target)
    with (
        TlsServer(files, answer(OK)) as server,
        transport_to(server.url, tls(files, certificate=ours[0], key=ours[1])) as transport,
    ):
        assert reason_of(transport) == (NotSent, Reason.NOT_SENT_CERTIFICATE)
        for source, target in zip((files.client, files.client_key), ours, strict=True):
            shutil.copy(source, target)
        time.sleep(1.1)
        assert transport.exchange(a_request()).status == 200


def test_a_renewal_that_is_half_done_stops_nobody(files: Files, tmp_path: Path) -> None:
    ours = tmp_path / "client.pem", tmp_path / "client.key"
    for source, target in zip((files.client, files.client_key), ours, strict=True):
        shutil.copy(source, target)
    with (
        TlsServer(files, answer(OK)) as server,
        transport_to(server.url, tls(files, certificate=ours[0], key=ours[1])) as transport,
    ):
        assert transport.exchange(a_request()).status == 200
        shutil.copy(files.wrong("foreign")[0], ours[0])
        time.sleep(1.1)
        assert transport.exchange(a_request()).status == 200


# bytes left, and no whole answer came


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_fresh_connection_that_ends_before_any_answer_is_lost_and_says_that_it_was_fresh(files: Files, *, reset: bool) -> None:
    def drop(peer: Peer) -> None:
        peer.read_request()
        if reset:
            peer.reset()

    with partner(files, drop) as (server, transport):
        caught = failure(transport)
    assert isinstance(caught, NoAnswer)
    assert (caught.reason, caught.fresh) == (Reason.CONNECTION_LOST, True)
    assert len(server.requests) == 1


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_kept_connection_that_the_server_ends_as_we_send_is_lost_and_nothing_is_sent_twice(
    files: Files, *, reset: bool
) -> None:
    def once(peer: Peer) -> None:
        peer.read_request()
        peer.say(OK)
        peer.read_request()
        if reset:
            peer.reset()

    with partner(files, once) as (server, transport):
        transport.exchange(a_request())
        caught = failure(transport)
        time.sleep(0.1)
    assert isinstance(caught, NoAnswer)
    assert (caught.reason, caught.fresh) == (Reason.CONNECTION_LOST, False)
    assert (server.connections, len(server.requests)) == (1, 2)


def test_a_kept_connection_that_the_server_ended_before_is_replaced(files: Files) -> None:
    def once(peer: Peer) -> None:
        peer.read_request()
        peer.say(OK)

    with partner(files, once) as (server, transport):
        for _ in range(3):
            assert transport.exchange(a_request()).status == 200
            time.sleep(0.05)
    assert (server.connections, len(server.requests)) == (3, 3)


def test_no_answer_within_the_read_time_out_is_a_time_out(files: Files) -> None:
    def silent(peer: Peer) -> None:
        peer.read_request()
        peer.read_request()  # until we hang up

    began = time.monotonic()
    with partner(files, silent) as (_, transport):
        assert reason_of(transport, read=0.3) == (NoAnswer, Reason.TIMEOUT)
    assert 0.3 <= time.monotonic() - began < 20


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b""],
    ids=["in the head", "in the body", "from the first byte"],
)
def test_an_answer_that_drips_ends_at_the_deadline(files: Files, start: bytes) -> None:
    def drip(peer: Peer) -> None:
        peer.read_request()
        peer.say(start)
        while True:
            peer.say(b"H")
            time.sleep(0.05)

    began = time.monotonic()
    with partner(files, drip) as (_, transport):
        assert reason_of(transport, read=1.5, total=2) == (NoAnswer, Reason.TIMEOUT)
    assert 1.9 <= time.monotonic() - began < 20


def test_a_hundred_continues_end_at_the_deadline(files: Files) -> None:
    def continues(peer: Peer) -> None:
        peer.read_request()
        while True:
            peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.02)

    with partner(files, continues) as (_, transport):
        assert reason_of(transport, read=1.5, total=2) == (NoAnswer, Reason.TIMEOUT)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"Transfer-Encoding: chunked", b"3e8\r\n" + 1000 * b"x" + b"\r\n"),
        (b"Content-Length: 200000000", 1000 * b"x"),
        (b"Connection: close", 1000 * b"x"),
        (b"Content-Length: 200000\r\nContent-Encoding: gzip", gzip.compress(100_000_000 * b"0")[:97_000]),
    ],
    ids=["endless chunks", "200 MB", "until the end", "gzip bomb"],
)
def test_a_body_beyond_the_cap_is_not_read_on(files: Files, head: bytes, part: bytes) -> None:
    def flood(peer: Peer) -> None:
        peer.read_request()
        peer.say(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        while True:
            peer.say(part)

    with partner(files, flood) as (_, transport):
        assert reason_of(transport) == (NoAnswer, Reason.ANSWER_TOO_LARGE)


def test_a_redirects_body_is_capped_too(files: Files) -> None:
    def flood(peer: Peer) -> None:
        peer.read_request()
        peer.say(b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 200000000\r\n\r\n")
        while True:
            peer.say(1000 * b"x")

    with partner(files, flood) as (_, transport):
        assert reason_of(transport) == (NoAnswer, Reason.ANSWER_TOO_LARGE)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", Reason.CONNECTION_LOST),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", Reason.CONNECTION_LOST),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Reason.ANSWER_UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Reason.CONNECTION_LOST),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf", Reason.ANSWER_UNREADABLE),
    ],
    ids=["cut body", "cut chunk", "no HTTP", "no chunk", "no gzip"],
)
def test_an_answer_that_is_cut_or_no_http_is_no_answer(files: Files, said: bytes, reason: Reason) -> None:
    def speak(peer: Peer) -> None:
        peer.read_request()
        peer.say(said)

    with partner(files, speak) as (_, transport):
        assert reason_of(transport) == (NoAnswer, reason)


def test_failures_give_their_place_in_the_pool_back(files: Files) -> None:
    def by_turns(peer: Peer) -> None:
        peer.read_request()
        if peer.number % 3 == 1:
            peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + 150_000 * b"x")
            time.sleep(0.2)
        elif peer.number % 3 == 2:
            peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    with partner(files, by_turns, pool=1) as (_, transport):
        reasons = [reason_of(transport, connect=10) for _ in range(6)]
    assert reasons == 2 * [
        (NoAnswer, Reason.ANSWER_TOO_LARGE),
        (NoAnswer, Reason.CONNECTION_LOST),
        (NoAnswer, Reason.CONNECTION_LOST),
    ]


def test_any_bytes_are_an_answer_or_none(files: Files) -> None:
    said = b""

    def speak(peer: Peer) -> None:
        peer.read_request()
        peer.say(said)

    with partner(files, speak) as (_, transport):

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"]),
            st.binary(max_size=200),
        )
        def check(start: bytes, rest: bytes) -> None:
            nonlocal said
            said = start + rest
            try:
                assert isinstance(transport.exchange(a_request()), Reply)
            except NoAnswer as error:
                assert error.reason in {Reason.CONNECTION_LOST, Reason.ANSWER_UNREADABLE}  # noqa: PT017 - both ends are right

        check()


# a knock


@pytest.mark.parametrize("status", [b"200 OK", b"401 Unauthorized", b"404 Not Found", b"500 Oops", b"302 Found"])
def test_a_knock_is_content_with_any_answer_and_does_not_wait_for_its_body(files: Files, status: bytes) -> None:
    with partner(files, answer(b"HTTP/1.1 " + status + b"\r\nContent-Length: 1000000\r\n\r\nbegins")) as (_, transport):
        transport.knock()


def test_a_knock_shows_our_certificate_and_no_secret_and_asks_for_what_it_is_told(files: Files) -> None:
    with partner(files, answer(OK)) as (server, transport):
        transport.knock()
        transport.knock("/ping")
    assert server.requests[0].split(b"\r\n") == [
        b"GET /base/metadata HTTP/1.1",
        f"Host: localhost:{server.port}".encode(),
        b"User-Agent: emr-pipeline",
        b"Accept-Encoding: identity",
        b"",
        b"",
    ]
    assert server.requests[1].startswith(b"GET /base/ping HTTP/1.1")


def test_a_knock_takes_a_connection_of_its_own_and_leaves_the_pool_as_it_is(files: Files) -> None:
    with partner(files, answer(OK), pool=1) as (server, transport):
        transport.exchange(a_request())
        transport.knock()
        transport.exchange(a_request())
    assert server.connections == 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_a_knock_with_a_refused_certificate_says_so(files: Files, version: ssl.TLSVersion) -> None:
    certificate, key = files.wrong("foreign")
    with (
        TlsServer(files, answer(OK), version=version) as server,
        transport_to(server.url, tls(files, certificate=certificate, key=key)) as transport,
        pytest.raises(NotSent) as refused,
    ):
        transport.knock()
    assert refused.value.reason is Reason.REFUSED_CERTIFICATE
    assert server.requests == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_a_knock_that_the_server_ends_without_a_word_is_not_answered(files: Files, version: ssl.TLSVersion) -> None:
    with partner(files, lambda peer: peer.reset() if peer.read_request() else None, version=version) as (_, transport):
        for _ in range(2):
            with pytest.raises(NoAnswer) as lost:
                transport.knock()
            assert (lost.value.reason, lost.value.fresh) == (Reason.CONNECTION_LOST, True)


def test_a_knock_that_finds_nobody_is_not_sent_and_one_that_nobody_answers_ends_in_time(files: Files) -> None:
    with transport_to("https://nowhere.invalid/base", tls(files)) as transport, pytest.raises(NotSent):
        transport.knock()

    def silent(peer: Peer) -> None:
        peer.read_request()
        peer.read_request()

    with partner(files, silent) as (_, transport), pytest.raises(NoAnswer) as late:
        transport.knock(timeouts=Timeouts(10, 0.5, 10))
    assert late.value.reason is Reason.TIMEOUT


def test_a_knock_leaves_no_connection_open(files: Files) -> None:
    ended = threading.Event()

    def until_the_end(peer: Peer) -> None:
        while peer.read_request():
            peer.say(OK)
        ended.set()

    with partner(files, until_the_end) as (_, transport):
        transport.knock()
        assert ended.wait(60)


# nothing leaks


def test_no_failure_and_no_log_line_carries_a_url_or_a_secret(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger().setLevel(logging.DEBUG)

    def by_turns(peer: Peer) -> None:
        peer.read_request()
        bad_header = b"HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 2\r\n\r\n{}"
        peer.say([b"", b"nonsense\r\n", bad_header, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"][peer.number % 4])

    told: list[str] = []
    with partner(files, by_turns) as (_, transport):
        for _ in range(8):
            try:
                told.append(repr(transport.exchange(a_request())))
            except NoAnswer as error:
                told.extend([repr(error), "".join(traceback.format_exception(error))])
            try:
                transport.knock(PATIENTS_PATH)
            except NoAnswer as error:
                told.extend([repr(error), "".join(traceback.format_exception(error))])
    with transport_to("https://nowhere.invalid/base", tls(files)) as transport:
        caught = failure(transport)
        told.extend([repr(transport), repr(caught), "".join(traceback.format_exception(caught))])
    text = "".join(told) + caplog.text
    assert len(told) > 10
    assert "canary" not in text


def test_a_header_that_http_cannot_carry_is_not_sent_and_not_told(files: Files) -> None:
    with partner(files, answer(OK)) as (server, transport):
        request = a_request()
        bad = Request(
            **{**{name: getattr(request, name) for name in Request.__slots__}, "headers": (("org_id", "canary\r\nx: y"),)}
        )
        with pytest.raises(NotSent) as caught:
            transport.exchange(bad)
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert server.requests == []


# settings


@pytest.mark.parametrize(
    "url", ["http://localhost/x", "https://", "localhost", "https://u:p@h/", "https://h/?a=b", "https://[::1/"]
)
def test_a_base_url_that_cannot_be_is_refused_without_being_repeated(files: Files, url: str) -> None:
    with pytest.raises(SettingsError, match="base_url"):
        HttpsTransport(url, tls(files), {})


@pytest.mark.parametrize("secret", ["", "a\nb", "naïve", " padded"])
def test_a_secret_that_no_header_can_carry_is_refused_without_being_repeated(files: Files, secret: str) -> None:
    with pytest.raises(SettingsError, match=r"^client_secret: holds characters") as caught:
        HttpsTransport("https://localhost", tls(files), {"client_secret": secret})
    assert not secret or secret not in str(caught.value)


def failure(transport: HttpsTransport, request: Request | None = None) -> Exception:
    with pytest.raises((NotSent, NoAnswer)) as caught:
        transport.exchange(request or a_request())
    return caught.value


def reason_of(
    transport: HttpsTransport, *, connect: float = 2, read: float = 2, total: float = 4
) -> tuple[type[Exception], Reason]:
    error = failure(transport, a_request(connect=connect, read=read, total=total))
    assert isinstance(error, (NotSent, NoAnswer))
    return type(error), error.reason


# after its time


@contextmanager
def unanswered(files: Files, play: Play) -> Iterator[tuple[Unanswered, HttpsTransport]]:
    """A create whose time is over."""
    with partner(files, play) as (_, transport):
        with pytest.raises(Unanswered) as caught:
            transport.exchange(replace(a_request(connect=30, read=0.3, total=60), method="POST", intent=Intent.CREATE))
        yield caught.value, transport


def after(door: threading.Event, reply: bytes, most: float = 60) -> Play:
    """An answer that comes when a test says so."""

    def play(peer: Peer) -> None:
        peer.read_request()
        door.wait(most)
        peer.say(reply)

    return play


def test_an_answer_to_a_create_that_comes_after_its_time_can_be_read_still(files: Files) -> None:
    door = threading.Event()
    with unanswered(files, after(door, OK)) as (late, _):
        assert late.reason is Reason.TIMEOUT
        door.set()
        reply = late.end.read(30)
        assert (reply.status, reply.elapsed_ms >= 300) == (200, True)
        with pytest.raises(NoAnswer):
            late.end.read(30)


def test_one_that_nobody_waits_for_any_more_ends_at_once(files: Files) -> None:
    """From another thread, while it is read."""
    door = threading.Event()
    with unanswered(files, after(door, OK)) as (late, _), ThreadPoolExecutor(1) as pool:
        reads = pool.submit(late.end.read, 60)
        time.sleep(0.2)  # either way it ends; mostly the reader is in the socket by now
        late.end.close()
        with pytest.raises(NoAnswer):
            reads.result(30)
        door.set()


def test_no_late_answer_to_an_update_is_waited_for(files: Files) -> None:
    with pytest.raises(NoAnswer) as caught, partner(files, after(threading.Event(), OK, 1)) as (_, transport):
        transport.exchange(a_request(connect=30, read=0.3, total=60))
    assert (caught.value.reason, isinstance(caught.value, Unanswered)) == (Reason.TIMEOUT, False)


@pytest.mark.parametrize("what", ["keeps", "whole", "heard", None])
def test_only_what_has_left_whole_and_of_whose_answer_nothing_was_heard_may_come_yet(what: str | None) -> None:
    exchange = Exchange(Timeouts(1, 1, 1), 0.0, keeps=True, whole=True)
    if what is not None:
        setattr(exchange, what, not getattr(exchange, what))
    CURRENT.exchange = exchange
    try:
        assert _may_come_yet(NoAnswer(Reason.TIMEOUT)) is (what is None)
        assert not _may_come_yet(NoAnswer(Reason.CONNECTION_LOST))
    finally:
        CURRENT.exchange = None
