"""A request between its sending and its answer: what is told of it, and what becomes of it when nobody reads its answer."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

import pytest

from pipeline.delivery.watch import Watch
from pipeline.errors import NoAnswer, NotSent
from pipeline.model import Intent, OpenEnd, Reply, Request, Timeouts
from pipeline.sandbox.certificates import Files
from pipeline.transport.bearer import BearerTransport
from pipeline.transport.connection import Socket
from pipeline.transport.https import HttpsTransport
from pipeline.transport.jwt import JwtTransport
from pipeline.transport.port import Splits, Unanswered
from schemas.outcomes import Reason
from tests.transport.tls_server import OK, Peer, Play, TlsServer, answer, tls


def a_request(*, connect: float = 10, read: float = 60, total: float = 60) -> Request:
    return Request("create", "POST", "/Bundle", "/Bundle", (), b"{}", "r", Timeouts(connect, read, total), Intent.CREATE)


@contextmanager
def partner(files: Files, play: Play, pool: int = 4) -> Iterator[HttpsTransport]:
    with TlsServer(files, play) as server:
        transport = HttpsTransport(server.url, tls(files), {}, pool)
        try:
            yield transport
        finally:
            transport.close()


def left_open(error: NoAnswer) -> OpenEnd:
    """Of a create: its answer may come yet."""
    assert isinstance(error, Unanswered)
    return error.end


def silent(peer: Peer) -> None:
    while peer.read_request():
        pass


def test_what_is_in_the_air_is_readable_when_its_answer_is_there_and_not_before(files: Files) -> None:
    may = threading.Event()

    def slow(peer: Peer) -> None:
        while peer.read_request():
            assert may.wait(60)
            peer.say(OK)

    with partner(files, slow) as transport, transport.start(a_request()) as air:
        assert not air.wait(0.05)
        may.set()
        assert air.wait(60)
        assert air.finish().status == 200


@pytest.mark.parametrize(("read", "total", "nearer"), [(5, 60, 5), (60, 5, 5)])
def test_its_deadline_is_the_nearer_of_both_time_outs(files: Files, read: float, total: float, nearer: float) -> None:
    with partner(files, silent) as transport:
        before = time.monotonic()
        with transport.start(a_request(read=read, total=total)) as air:
            assert before < air.deadline - nearer <= time.monotonic()


def test_an_answer_that_was_seen_in_time_is_read_however_late(files: Files) -> None:
    with partner(files, answer(OK)) as transport, transport.start(a_request(read=8, total=8)) as air:
        assert air.wait(60)
        seen = time.monotonic()
        assert seen < air.deadline, "this machine is too slow for this test"
        time.sleep(8.1)
        air.came(seen)
        reply = air.finish()
    assert (reply.status, reply.body) == (200, b"{}")
    assert reply.elapsed_ms < 8000, "what it waited for us counts as the partner's time"


def test_nothing_by_the_deadline_is_a_time_out_and_is_not_waited_for_again(files: Files) -> None:
    with partner(files, silent) as transport:
        air = transport.start(a_request(read=2, total=60))
        assert not air.wait(2.1)
        began = time.monotonic()
        with pytest.raises(NoAnswer) as late:
            air.finish()
        assert late.value.reason is Reason.TIMEOUT
        assert time.monotonic() - began < 2
        left_open(late.value).close()


def test_one_that_is_left_gives_its_place_back_and_its_connection_to_nobody(files: Files) -> None:
    with partner(files, lambda peer: silent(peer) if peer.number == 1 else answer(OK)(peer), pool=1) as transport:
        with pytest.raises(KeyError), transport.start(a_request()):
            raise KeyError
        assert transport.exchange(a_request()).status == 200


def test_a_failure_on_the_way_gives_the_place_back_too(files: Files) -> None:
    with partner(files, lambda peer: silent(peer) if peer.number == 1 else answer(OK)(peer), pool=1) as transport:
        with transport.start(a_request(read=0.1)) as air, pytest.raises(NoAnswer) as late:
            air.finish()
        left_open(late.value).close()
        assert transport.exchange(a_request()).status == 200


OF_8192: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 8152\r\n\r\n".ljust(8192, b"a")
"""As much as is read at once."""


@pytest.mark.parametrize(
    "rest", [16_000 * b"x", b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"], ids=["rubbish", "an answer"]
)
@pytest.mark.parametrize("first", [OK, OF_8192], ids=["short", "8192 bytes"])
def test_what_comes_behind_an_answer_is_not_the_next_ones(files: Files, first: bytes, rest: bytes) -> None:
    """It came in the same record, so that it is in the TLS layer by now, and no descriptor tells of it."""
    assert len(OF_8192) == 8192
    with partner(files, answer(first + rest)) as transport:
        assert [transport.exchange(a_request()).status for _ in range(3)] == [200] * 3


def test_an_answer_that_the_watch_saw_in_time_is_read_however_late(files: Files) -> None:
    landed = threading.Event()
    watch: Watch[str] = Watch(lambda _: landed.set(), lambda _: None, "route")
    with partner(files, answer(OK)) as transport, transport.start(a_request(read=8, total=8)) as air:
        watch.add(air, "a step")
        assert landed.wait(60)
        time.sleep(8.1)  # no thread is free
        assert air.finish().status == 200
    watch.close()


def test_an_answer_that_was_waited_for_in_place_is_read_however_late(files: Files) -> None:
    with partner(files, answer(OK)) as transport, transport.start(a_request(read=8, total=8)) as air:
        assert air.wait(60)
        assert air.at_once()
        time.sleep(8.1)  # a companion on the same thread
        assert air.finish().status == 200


def test_a_connection_is_at_hand_once_it_came_back_and_until_it_is_too_old(files: Files) -> None:
    with partner(files, answer(OK)) as transport:
        assert not transport.at_hand()
        with transport.start(a_request()) as air:
            assert not transport.at_hand()
            air.finish()
        assert transport.at_hand()
        pool = transport._ready().adapter.pool
        pool.idle = 0.0
        assert not transport.at_hand()


def test_connections_of_a_rush_are_closed_when_they_are_too_old_to_be_used(files: Files) -> None:
    with partner(files, answer(OK), pool=8) as transport:
        transport._ready().adapter.pool.idle = 600.0
        rush = [transport.start(a_request()) for _ in range(8)]
        assert [air.finish().status for air in rush] == [200] * 8
        pool = transport._ready().adapter.pool
        assert pool.pool is not None
        kept = [connection for connection in pool.pool.queue if connection.sock is not None]
        assert len(kept) == 8
        for connection in kept[:6]:
            connection.idle_since -= 6000
        pool._tidy_at = 0.0
        assert transport.exchange(a_request()).status == 200
        assert [connection.sock is not None for connection in kept] == [False] * 6 + [True] * 2


@pytest.mark.parametrize(
    ("first", "whole", "status"),
    [
        (None, False, None),
        (b"", True, None),
        (OSError("reset"), True, None),
        (b"HTTP/1.1 200 OK\r\nContent-Len", False, 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", False, 200),
        (b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\n{}", True, 401),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, 204),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", False, 200),
        (b"HTTP/1.1 200 OK\r\nX-Content-Length: 0\r\n\r\n", False, 200),
        (b"rubbish", False, None),
    ],
)
def test_what_of_an_answer_is_there_is_plain_to_see_or_taken_for_not_all(
    first: bytes | OSError | None, whole: bool, status: int | None
) -> None:
    sock = Socket.__new__(Socket)
    sock._first = first
    assert (sock.holds_all(), sock.status()) == (whole, status)


class Aloft:
    """A transport that splits, and what it left in the air."""

    fileno = 7
    deadline = 42.0

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.tokens: list[str] = []
        self.left: list[str] = []

    def start(self, request: Request) -> Self:
        self.tokens.extend(str(value) for name, value in request.headers if name == "Authorization")
        return self

    def at_hand(self) -> bool:
        return True

    def at_once(self) -> bool:
        return True

    def says(self) -> int | None:
        return self.statuses[0]

    def exchange(self, request: Request) -> Reply:
        raise AssertionError(request.operation)

    def wait(self, seconds: float) -> bool:
        return seconds > 0

    def came(self, at: float) -> None:
        self.left.append(f"came at {at:g}")

    def finish(self) -> Reply:
        return Reply(self.statuses.pop(0), {}, b"", 1.0, 0, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        self.left.append("left")

    def knock(self) -> None:
        """Not asked for here."""

    def close(self) -> None:
        """Nothing to close."""

    def current(self, _: float) -> str:
        return "old"

    def instead_of(self, refused: str, _: float) -> str | None:
        return "new" if refused == "old" else None


def test_with_a_token_it_is_as_much_in_the_air_as_without() -> None:
    inner = Aloft(200)
    with BearerTransport(inner, inner).start(a_request()) as air:
        assert (air.fileno, air.deadline, air.wait(1), air.wait(0)) == (7, 42.0, True, False)
        air.came(3)
        assert air.finish().status == 200
    assert (inner.tokens, inner.left) == (["Bearer old"], ["came at 3", "left"])


@pytest.mark.parametrize(("status", "at_once"), [(200, True), (401, False)])
def test_an_answer_that_refuses_the_token_is_not_read_at_once(status: int, at_once: bool) -> None:
    inner = Aloft(status, 200)
    with BearerTransport(inner, inner).start(a_request()) as air:
        assert air.at_once() is at_once


def test_a_token_that_was_refused_is_replaced_when_the_answer_is_read() -> None:
    inner = Aloft(401, 200)
    with BearerTransport(inner, inner).start(a_request()) as air:
        assert inner.tokens == ["Bearer old"]
        assert air.finish().status == 200
    assert inner.tokens == ["Bearer old", "Bearer new"]


def test_all_transports_over_https_split() -> None:
    assert issubclass(HttpsTransport, Splits)
    assert issubclass(BearerTransport, Splits)
    assert issubclass(JwtTransport, Splits)


def test_what_cannot_be_sent_is_told_at_once(files: Files) -> None:
    with TlsServer(files, silent) as server:
        url = server.url
    transport = HttpsTransport(url, tls(files), {})
    with pytest.raises(NotSent):
        transport.start(a_request())
    transport.close()
