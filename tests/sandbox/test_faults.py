"""Each fault as a plain client sees it, and what it did at the partner: the log of effects is asked, not the answer."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from pipeline.errors import SettingsError
from pipeline.sandbox.faults import NAMES, Faults, parse, rule
from pipeline.sandbox.roche.stand_in import RocheSandbox
from tests.sandbox.client import Client, bundle, codes, header, of, patient, wait_until

Start = Callable[..., RocheSandbox]
LOST = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


@pytest.fixture
def client(roche: RocheSandbox) -> Iterator[Client]:
    with Client(roche) as one:
        yield one


# what an answer of a fault looks like, and whether it had an effect


@pytest.mark.parametrize(
    ("name", "details", "expected", "effect"),
    [
        ("503", {}, (503, b""), 0),
        ("503", {"effect": True}, (503, b""), 1),
        ("429", {}, (429, b""), 0),
        ("202", {}, (202, b""), 0),
        ("202", {"effect": True}, (202, b""), 1),
        ("empty_200", {}, (200, b""), 1),
        ("403", {}, (403, b""), 0),
        ("401", {}, (401, b'{"error":"Invalid Client"}'), 0),
        ("403_certificate", {}, (403, b"Certificate validation failed"), 0),
        ("login_page", {}, (200, b"<!DOCTYPE html>"), 0),
        ("502", {}, (502, b"<!DOCTYPE html>"), 0),
        ("504", {"effect": True}, (504, b"<!DOCTYPE html>"), 1),
        ("answer", {"status": 500, "body": "echo", "effect": True}, (500, b'"resourceType":"Bundle"'), 1),
    ],
)
def test_an_answer_instead(client: Client, name: str, details: dict[str, Any], expected: tuple[int, bytes], effect: int) -> None:
    roche = client.sandbox
    assert isinstance(roche, RocheSandbox)
    status, body = expected
    roche.inject(name, next=1, **details)
    answer = client.create()
    assert (answer.status_code, body in answer.content, bool(body)) == (status, True, bool(answer.content))
    assert len(roche.log.effects(effect="created")) == effect
    assert [(one.fault, one.status) for one in roche.log] == [(name, status)]
    assert client.create().status_code == (400 if effect else 200)


OUTCOMES = {
    "400": (400, "invalid"),
    "422": (422, "invalid"),
    "500": (500, "exception"),
    "timeout_outcome": (500, "timeout"),
    "exception_outcome": (500, "exception"),
    "error_in_200": (200, "exception"),
}


@pytest.mark.parametrize("name", OUTCOMES)
@pytest.mark.parametrize("effect", [False, True])
def test_an_operation_outcome_with_and_without_effect(roche: RocheSandbox, client: Client, name: str, effect: bool) -> None:
    status, issue = OUTCOMES[name]
    roche.inject(name, effect=effect)
    answer = client.create()
    assert (answer.status_code, codes(answer)) == (status, [issue])
    assert [(one.effect, one.issues) for one in roche.log] == [("created" if effect else "nothing", (issue,))]


@pytest.mark.parametrize("value", ["7", "Fri, 31 Dec 2027 23:59:59 GMT", "999999999999", "soon", "-1"])
def test_retry_after_is_sent_as_ordered(roche: RocheSandbox, client: Client, value: str) -> None:
    roche.inject("503", retry_after=value)
    assert client.create().headers["Retry-After"] == value


def test_no_retry_after_unless_ordered(roche: RocheSandbox, client: Client) -> None:
    roche.inject("429")
    assert "Retry-After" not in client.create().headers


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("name", "effect"), [("commit_then_drop", "created"), ("drop", "nothing")])
def test_no_answer(roche: RocheSandbox, client: Client, name: str, effect: str, reset: bool) -> None:
    roche.inject(name, next=1, reset=reset)
    with pytest.raises(LOST):
        client.create()
    assert [(one.effect, one.status, one.fault) for one in roche.log] == [(effect, None, name)]


def test_the_effect_comes_later_than_the_clients_timeout_and_before_the_answer(roche: RocheSandbox, client: Client) -> None:
    roche.inject("late", next=1, effect_after=4, answer_after=0.1)
    client.timeout = 1.5
    with pytest.raises(requests.ReadTimeout):
        client.create()
    assert list(roche.log) == []
    wait_until(lambda: [one.status for one in roche.log] == [200])
    assert [(one.effect, one.status) for one in roche.log] == [("created", 200)]


def test_a_slow_loris_sends_a_byte_at_a_time(roche: RocheSandbox, client: Client) -> None:
    roche.inject("slow_loris", seconds=0.005)
    began = time.monotonic()
    answer = client.session.put(  # each byte comes within the read time-out: only a deadline ends it
        f"{roche.base_url}/Bundle/nobody", data=b"{}", headers={**_plain(client)}, timeout=10
    )
    assert answer.status_code == 400
    assert time.monotonic() - began > 0.005 * 100


def _plain(client: Client) -> dict[str, str]:
    return {**{k: v for k, v in client.headers.items() if v}, "x-origin-request-id": "5109d51b-421e-4746-b673-16e3fe2b3442"}


def _post(connection: ssl.SSLSocket, client: Client) -> None:
    body = json.dumps(bundle()).encode()
    lines = ["POST /partners/fhir/stu3/api/Bundle HTTP/1.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in _plain(client).items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def _read(connection: ssl.SSLSocket, most: int) -> bytes:
    read = b""
    while len(read) < most and (piece := connection.recv(65536)):
        read += piece
    return read


def test_endless_chunks_do_not_end(roche: RocheSandbox, client: Client) -> None:
    roche.inject("endless_chunks", seconds=0.001)
    with _raw(roche) as connection:
        _post(connection, client)
        read = _read(connection, 100_000)
    assert read.startswith(b"HTTP/1.1 200 OK")
    assert read.count(b"\r\n400\r\n") > 90
    assert len(roche.log.effects(effect="created")) == 1


def test_a_huge_body_is_as_long_as_it_says(roche: RocheSandbox, client: Client) -> None:
    roche.inject("huge_body", megabytes=3)
    answer = client.create()
    assert (answer.status_code, len(answer.content)) == (200, 3 * 1024 * 1024)


def test_a_huge_body_stops_when_the_client_has_gone(roche: RocheSandbox, client: Client) -> None:
    roche.inject("huge_body")
    with _raw(roche) as connection:
        _post(connection, client)
        assert b"Content-Length: 209715200\r\n" in _read(connection, 200)
    roche.clear_faults()
    assert client.update("12345678Z").status_code == 200


def test_a_truncated_answer(roche: RocheSandbox, client: Client) -> None:
    roche.inject("truncated")
    with pytest.raises(LOST):
        client.create()
    assert len(roche.log.effects(effect="created")) == 1


def test_an_idle_connection_is_closed_after_an_answer_that_promised_to_keep_it(roche: RocheSandbox) -> None:
    roche.inject("close_idle", next=1, seconds=0.1)
    with _raw(roche) as connection:
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = connection.recv(65536)
        assert b"Connection: keep-alive" in answer
        assert connection.recv(65536) == b""


# connections


def _raw(roche: RocheSandbox) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(roche.files.ca))
    context.load_cert_chain(roche.files.client, roche.files.client_key)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", roche.port), timeout=60), server_hostname="localhost")


@pytest.mark.parametrize("reset", [False, True])
def test_tls_refused(roche: RocheSandbox, client: Client, reset: bool) -> None:
    roche.inject("refuse_tls", next=1, reset=reset)
    with pytest.raises(requests.ConnectionError):
        client.create()
    assert [(one.operation, one.fault) for one in roche.log] == [("connection", "refuse_tls")]
    assert client.create().status_code == 200


def test_dropped_before_reading(roche: RocheSandbox, client: Client) -> None:
    roche.inject("drop_before_reading", next=1)
    with pytest.raises(requests.ConnectionError):
        client.create()
    assert [(one.operation, one.effect) for one in roche.log] == [("connection", "nothing")]
    assert client.create().status_code == 200


# which requests


def test_a_fault_for_the_next_requests_of_an_operation(roche: RocheSandbox, client: Client) -> None:
    roche.inject("503", next=2, operation="update")
    client.create()
    assert [client.update("12345678Z").status_code for _ in range(3)] == [503, 503, 200]


def test_a_fault_for_a_patient_by_body_url_or_roches_own_id(roche: RocheSandbox, client: Client) -> None:
    created = client.create(of("A1"), api="v2").json()["id"]
    client.create(of("A2"))
    roche.inject("503", patient="A1")
    assert [
        client.create(of("A1")).status_code,
        client.update("A1", of("A1")).status_code,
        client.update(created, of("A1"), api="v2").status_code,
        client.read(created).status_code,
        client.update("A2", of("A2")).status_code,
    ] == [503, 503, 503, 503, 200]


def test_a_fault_for_one_request_by_its_number(roche: RocheSandbox, client: Client) -> None:
    roche.inject("503", request=2)
    assert [client.create(of(f"A{n}")).status_code for n in range(3)] == [200, 503, 200]


def test_one_in_so_many(roche: RocheSandbox, client: Client) -> None:
    roche.inject("422", every=3)
    assert [client.create(of(f"A{n}")).status_code for n in range(7)] == [200, 200, 422, 200, 200, 422, 200]


def test_a_probability_is_the_same_for_the_same_seed_and_near_its_share() -> None:
    def drawn(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add(rule("503", probability=0.3))
        return [faults.for_request("create", frozenset(), n) is not None for n in range(2000)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 0.26 < sum(drawn(1)) / 2000 < 0.34


def test_the_first_rule_that_matches_counts_and_none_stands_after_clearing(roche: RocheSandbox, client: Client) -> None:
    roche.inject("503", next=1)
    roche.inject("429")
    assert [client.create().status_code for _ in range(3)] == [503, 429, 429]
    roche.clear_faults()
    assert client.create().status_code == 200


def test_a_refused_body_has_no_effect_under_a_fault_with_effect(roche: RocheSandbox, client: Client) -> None:
    roche.inject("empty_200")
    assert client.create(bundle(header(), patient(gender="vrouw"))).status_code == 200
    assert [one.effect for one in roche.log] == ["nothing"]


# how they are said


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_rule(name: str) -> None:
    assert rule(name).name == name


def test_the_command_lines_form() -> None:
    said = parse("503:probability=0.3,retry_after=7,effect=true,next=2")
    assert said == rule("503", probability=0.3, retry_after="7", effect=True, next=2)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("505", "fault 505"),
        ("503:nxt=1", "fault 503:nxt"),
        ("503:next", "fault 503"),
        ("503:next=0", "fault 503:next"),
        ("503:probability=2", "fault 503:probability"),
        ("refuse_tls:patient=1", "fault refuse_tls"),
        ("answer:status=204,body=html", "fault answer"),
    ],
)
def test_a_wrong_fault_is_refused_with_its_place(text: str, where: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text)
    assert caught.value.where == where


def test_a_slow_client_holds_up_nobody(roche: RocheSandbox) -> None:
    with _raw(roche) as stalled:
        stalled.sendall(b"POST /x HTTP/1.1\r\nContent-Length: 100\r\n\r\nhalf")
        with socket.create_connection(("127.0.0.1", roche.port)):  # and one that never shakes hands
            answers = [0] * 4

            def ask(n: int) -> None:
                with Client(roche) as other:
                    answers[n] = other.create(of(f"A{n}")).status_code

            threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert answers == [200] * 4


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET /\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    ],
)
def test_what_is_not_http_is_answered_with_4xx_and_a_close(roche: RocheSandbox, bytes_sent: bytes) -> None:
    with _raw(roche) as connection:
        connection.sendall(bytes_sent)
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 4")
        assert b"Connection: close" in answer
