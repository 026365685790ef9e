"""A partner over HTTPS: `requests` below its session, with a pool of its own, mutual TLS, deadlines and a body cap.

It sends each request once. It follows no redirect, uses no proxy, keeps no cookie and reads no environment. No error, log line or
repr of it holds a URL, a header or a body.
"""

import http.client
import logging
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse
from urllib3.exceptions import EmptyPoolError, ProtocolError

from pipeline.errors import NoAnswer, NotSent, SettingsError
from pipeline.model import Intent, Reply, Request, Timeouts
from pipeline.settings_sections import TlsFiles
from pipeline.transport import certificates
from pipeline.transport.connection import CURRENT, Connection, Kept, Pool, Socket
from pipeline.transport.exchange import Exchange
from pipeline.transport.port import Unanswered
from schemas.outcomes import Reason

AGENT: Final = "emr-pipeline"
CHUNK: Final = 64 * 1024
KNOCK: Final = Timeouts(connect=5, read=10, total=15)
RELOAD_SECONDS: Final = 1.0
"""How often the certificate files are looked at."""

for name in ("connection", "connectionpool", "response", "util.retry"):
    # urllib3 writes URLs on these, at levels from debug to warning, and a patient's id may stand in a path
    logging.getLogger(f"urllib3.{name}").setLevel(logging.CRITICAL)


class _Adapter(HTTPAdapter):
    """Leads every request to our pool. Asked without a session: what that adds is a memory, hooks and redirects, which nobody here wants."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(max_retries=0)
        self.pool = pool

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:  # noqa: ANN401 - the signature is requests'
        """The head of the answer, waited for."""
        return self.answered(self.asked(request))

    def asked(self, request: requests.PreparedRequest) -> Connection:
        """It has left."""
        return self.pool.asked(request.method or "", request.path_url, request.body, request.headers)

    def answered(self, connection: Connection) -> requests.Response:
        """As requests' own, without what is looked up in it for others: cookies, proxies, a character set."""
        response = requests.Response()
        response.raw = self.pool.answered(connection)
        response.status_code = response.raw.status
        return response

    def close(self) -> None:
        self.pool.close()
        super().close()


class _Wire:
    """Credentials and the adapter that was made with them."""

    def __init__(self, credentials: certificates.Credentials, host: str, port: int, size: int, idle: float) -> None:
        self.credentials = credentials
        pool = Pool(host, port, maxsize=size, block=True, ssl_context=credentials.context, retries=False)
        pool.idle = idle
        self.adapter = _Adapter(pool)


class _Asked:
    """Implements transport/port.py (InAir)."""

    def __init__(self, exchange: Exchange, adapter: _Adapter, connection: Connection, sent_ms: int, cap: int) -> None:
        sock = connection.sock
        assert sock is not None  # noqa: S101 - a request has just gone through it
        self._exchange, self._adapter, self._sock, self._sent_ms, self._cap = exchange, adapter, sock, sent_ms, cap
        self._connection: Connection | None = connection
        self.fileno = sock.fileno()
        self.deadline = exchange.deadline
        self._came_at: float | None = None

    def wait(self, seconds: float) -> bool:
        """See InAir. Bytes may be there that were decrypted before: no descriptor tells of those."""
        if self._came_at is None and self._spoke(seconds):
            self._came_at = time.monotonic()
        return self._came_at is not None

    def _spoke(self, seconds: float) -> bool:
        if seconds <= 0 or self._sock.pending():
            return self._sock.spoke()
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        end = time.monotonic() + seconds
        while poll.poll(max(end - time.monotonic(), 0) * 1000):
            if self._sock.spoke():
                return True
        return False

    def at_once(self) -> bool:
        """See InAir."""
        return self._sock.holds_all() or not (self._came_at is not None or time.monotonic() < self.deadline)

    def says(self) -> int | None:
        """See InAir."""
        return self._sock.status()

    def came(self, at: float) -> None:
        """See InAir."""
        if self._came_at is None:
            self._came_at = at

    def finish(self) -> Reply:
        """See InAir."""
        connection, self._connection = self._connection, None
        assert connection is not None  # noqa: S101 - finished once
        reply = partial(_reply, exchange=self._exchange, sent_ms=self._sent_ms, cap=self._cap)
        try:
            with _called(self._exchange), self._response(connection) as response:
                _keep_alive(response.raw)
                return reply(response.raw)
        except Kept as kept:
            raise Unanswered(Left(kept.connection, reply)) from None

    def _response(self, connection: Connection) -> requests.Response:
        if time.monotonic() >= self.deadline and not self.wait(0):
            raise self._adapter.pool.overdue(connection)
        if self._came_at is not None:
            self._exchange.came(self._came_at)
        return self._adapter.answered(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._adapter.pool.give_up(connection)


class HttpsTransport:
    """See the module. Implements transport/port.py; safe for as many threads as `pool` has connections, and more that wait for one.

    Args:
        base_url: https://host[:port]/path, what Request.path is put behind.
        tls: our certificate and key, and what we trust. Renewed files are taken up within a second, without a restart.
        secret_headers: added to every request.
        pool: connections at most. A thread that gets none within the connect time-out has NotSent(NOT_SENT_CONNECT).
        body_cap: bytes of an answer's body, decoded, at most: NoAnswer(ANSWER_TOO_LARGE) beyond.
        idle: seconds after which a pooled connection is not used again.

    """

    def __init__(
        self,
        base_url: str,
        tls: TlsFiles,
        secret_headers: Mapping[str, str],
        pool: int = 64,
        body_cap: int = 1024 * 1024,
        *,
        idle: float = 4.0,
    ) -> None:
        self._host, self._port, self._base = _split(base_url)
        self._tls = tls
        self._secret_headers = dict(secret_headers)
        for header, value in self._secret_headers.items():
            if not re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", value):
                raise SettingsError("holds characters that no HTTP header may have, or none at all", where=header)
        self._pool, self._cap, self._idle = pool, body_cap, idle
        self._lock = threading.Lock()
        self._wire: _Wire | None = None
        self._look_again = 0.0

    def exchange(self, request: Request) -> Reply:
        """Send it once. NotSent, NoAnswer: see transport/port.py."""
        return self.start(request).finish()

    def at_hand(self) -> bool:
        """See Splits."""
        wire = self._wire
        return wire is not None and wire.adapter.pool.at_hand

    def start(self, request: Request) -> _Asked:
        """See Splits."""
        exchange = Exchange.begin(request.timeouts, keeps=request.intent is Intent.CREATE)
        sent_ms = time.time_ns() // 1_000_000
        adapter = self._ready().adapter
        with _called(exchange):
            return _Asked(exchange, adapter, adapter.asked(self._prepared(request)), sent_ms, self._cap)

    def knock(self, path: str = "/metadata", timeouts: Timeouts = KNOCK) -> None:
        """See transport/port.py. On a connection of its own: one of the pool may be older than the partner's opinion of our certificate."""
        exchange = Exchange.begin(timeouts)
        wire = _Wire(self._ready().credentials, self._host, self._port, 1, self._idle)
        try:
            with _called(exchange), wire.adapter.send(self._addressed("GET", path)):
                return  # its body is nobody's
        finally:
            wire.adapter.close()

    def close(self) -> None:
        """Let go of connections."""
        with self._lock:
            wire, self._wire = self._wire, None
        if wire is not None:
            wire.adapter.close()

    def _ready(self) -> _Wire:
        """The adapter for the certificate files as they are now; NotSent where they cannot work."""
        wire, now = self._wire, time.monotonic()
        if wire is None or now >= self._look_again:
            wire = self._look(now)
        wire.credentials.check(certificates.now())
        return wire

    def _look(self, now: float) -> _Wire:
        with self._lock:
            wire = self._wire
            if wire is None or wire.credentials.stamp != certificates.stamp(self._tls):
                self._wire = self._renewed(wire)
            self._look_again = now + RELOAD_SECONDS
            assert self._wire is not None  # noqa: S101 - made above
            return self._wire

    def _renewed(self, old: _Wire | None) -> _Wire:
        try:
            credentials = certificates.read(self._tls, Socket)
        except NotSent:
            if old is None:
                raise
            return old  # a renewal half done (new certificate, old key) stops nobody: it is looked at again, and ours still has its dates
        if old is not None:
            old.adapter.close()
        return _Wire(credentials, self._host, self._port, self._pool, self._idle)

    def _prepared(self, request: Request) -> requests.PreparedRequest:
        prepared = self._addressed(request.method, request.path, request.headers)
        prepared.headers.update(self._secret_headers)
        prepared.headers["Content-Length"] = str(len(request.body))
        prepared.body = request.body
        return prepared

    def _addressed(self, method: str, path: str, headers: tuple[tuple[str, str], ...] = ()) -> requests.PreparedRequest:
        """Made by hand: requests' own way parses and quotes the URL again, and a percent-encoded id must stay as it is."""
        prepared = requests.PreparedRequest()
        prepared.method = method
        prepared.url = f"https://{self._host}:{self._port}{self._base}{path}"
        prepared.headers = CaseInsensitiveDict(headers)
        prepared.headers["User-Agent"] = AGENT
        prepared.headers["Accept-Encoding"] = "identity"
        return prepared


@contextmanager
def _called(exchange: Exchange) -> Iterator[None]:
    """What this thread does belongs to this exchange, and whatever goes wrong in it is NotSent or NoAnswer."""
    CURRENT.exchange = exchange
    try:
        yield
    except (NotSent, NoAnswer):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it may hold the URL, and must not leave as it is
        raise _told(exchange, error) from None
    finally:
        CURRENT.exchange = None


def _body(raw: HTTPResponse, cap: int) -> bytes:
    parts: list[bytes] = []
    length = 0
    while part := raw.read(CHUNK, decode_content=True):
        length += len(part)
        if length > cap:
            raise NoAnswer(Reason.ANSWER_TOO_LARGE)
        parts.append(part)
    return b"".join(parts)


def _reply(raw: HTTPResponse, *, exchange: Exchange, sent_ms: int, cap: int) -> Reply:
    body = _body(raw, cap)
    return Reply(
        status=raw.status,
        headers={name.lower(): value for name, value in raw.headers.items()},
        body=body,
        elapsed_ms=(time.monotonic() - exchange.started) * 1000,
        sent_ms=sent_ms,
        answered_ms=time.time_ns() // 1_000_000,
    )


class Left:
    """A connection that a request has left by, and that nothing has come back by yet. Implements model.OpenEnd."""

    def __init__(self, connection: Connection, reply: Callable[[HTTPResponse], Reply]) -> None:
        """`reply` makes one of an answer's head: it reads the body."""
        self._connection, self._reply = connection, reply
        self._reads = False

    def read(self, seconds: float) -> Reply:
        """See OpenEnd."""
        exchange = Exchange.begin(Timeouts(connect=seconds, read=seconds, total=seconds))
        exchange.left, exchange.fresh = True, False
        CURRENT.exchange, self._reads = exchange, True
        try:
            return self._reply(self._head(exchange))
        except (NotSent, NoAnswer):
            raise
        except Exception as error:  # noqa: BLE001 - as in _sent
            raise _told(exchange, error) from None
        finally:
            CURRENT.exchange, self._reads = None, False
            self._connection.close()

    def _head(self, exchange: Exchange) -> HTTPResponse:
        there = self._connection.sock
        if there is None:  # closed before it was read
            raise exchange.lost()
        there.exchange = exchange
        return self._connection.getresponse()

    def close(self) -> None:
        """See OpenEnd. A thread that reads from it closes it: it hears the end."""
        there = self._connection.sock
        if not self._reads:
            self._connection.close()
        elif there is not None:
            with suppress(OSError):  # it is over already
                socket.socket.shutdown(there, socket.SHUT_RDWR)

    def __del__(self) -> None:
        """Nobody wanted it."""
        self._connection.close()


def _split(base_url: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise SettingsError("is no URL", where="base_url") from None
    if parts.scheme != "https" or not host:
        raise SettingsError("must begin with https:// and a host name", where="base_url")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise SettingsError("may have no query, fragment, user name or password", where="base_url")
    return (f"[{host}]" if ":" in host else host), port or 443, parts.path.rstrip("/")


def _keep_alive(raw: HTTPResponse) -> None:
    """Keep-Alive: timeout=5, where the server says so: a second less is safe."""
    found = re.search(r"timeout=(\d{1,6})", raw.headers.get("keep-alive", ""))
    connection = raw.connection
    if found and isinstance(connection, Connection):
        connection.idle_most = max(float(found[1]) - 1, 0.001)


def _told(exchange: Exchange, error: Exception) -> NotSent | NoAnswer:
    """What is not of the network: the pool, a header that HTTP cannot carry, or an answer that is cut or is no HTTP."""
    if isinstance(error, EmptyPoolError):
        return NotSent(Reason.NOT_SENT_CONNECT, "no connection of the pool came free within the connect time-out")
    if not exchange.left:
        return NotSent(exchange.phase, f"{exchange.phase.sentence} ({type(error).__name__})")
    cut = isinstance(error, ProtocolError) and any(isinstance(arg, http.client.IncompleteRead) for arg in error.args)
    return NoAnswer(Reason.CONNECTION_LOST if cut else Reason.ANSWER_UNREADABLE)
