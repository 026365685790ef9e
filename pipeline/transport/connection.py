"""One TLS connection: every wait under the exchange's deadline, every failure called by what has left this machine.

urllib3 and http.client do HTTP on top of it. They may not resend here, and see no error of the network as such: the socket itself
raises NotSent or NoAnswer, so nothing above it has to guess. Rules of the TLS part: RELIABILITY section 1.
"""

import http.client
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from urllib3 import HTTPResponse
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.util.url import _encode_target

from pipeline.errors import NoAnswer, NotSent
from pipeline.failpoints import Point, reach
from pipeline.transport.exchange import Exchange
from schemas.outcomes import Reason

TLS_RECORD: Final = 16 * 1024
"""Bytes of payload that one TLS record holds at most (RFC 8446 section 5.1): a shorter request leaves whole or not at all."""
FIRST: Final = 8 * 1024
"""Bytes of an answer that are taken in before it is read: what http.client asks for at once."""
STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d{1,9})\b", re.IGNORECASE)
REFUSALS: Final = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
"""In the names of the alerts with which a server refuses a client certificate (RFC 8446 section 6.2)."""


class _Current(threading.local):
    """The exchange that this thread is in: http.client has no place to hand it through."""

    exchange: Exchange | None = None


CURRENT: Final = _Current()


def current() -> Exchange:
    """The exchange of this thread."""
    assert CURRENT.exchange is not None  # noqa: S101 - connections are used by HttpsTransport.exchange alone, which sets it
    return CURRENT.exchange


class Socket(ssl.SSLSocket):
    """A TLS socket that knows the exchange it works for."""

    exchange: Exchange
    _first: bytes | OSError | None = None
    """What `spoke` found, until it is read."""

    def spoke(self) -> bool:
        """Whether something of an answer is there, or the connection's end. What TLS says for itself (a session ticket) is neither; nobody waits."""
        if self._first is None:
            self.settimeout(0)
            try:
                self._first = super().recv(FIRST)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            except OSError as error:
                self._first = error
        return True

    @property
    def has_spoken(self) -> bool:
        """What `spoke` found is not read yet."""
        return self._first is not None

    def holds_all(self) -> bool:
        """Whether what `spoke` found is all that there will be: by its own length, as far as that is plain to see."""
        first = self._first
        if not isinstance(first, bytes) or not first:
            return first is not None
        head, end, body = first.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        return bool(end) and length is not None and len(body) >= int(length[1])

    def status(self) -> int | None:
        """What `spoke` found begins with."""
        line = STATUS.match(self._first) if isinstance(self._first, bytes) else None
        return int(line[1]) if line else None

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ANN401 - the standard library's own buffer types
        """Send within the deadline. After it the request counts as having left."""
        exchange = self.exchange
        self.settimeout(exchange.patience(exchange.timeouts.read))
        if len(data) > TLS_RECORD:
            exchange.left = True  # the records before a failing one are whole, so part of it may have arrived
        try:
            count = super().send(data, flags)
        except TimeoutError:
            raise exchange.late() from None
        except OSError as error:
            raise _lost(exchange, error) from None
        exchange.left = True
        return count

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:  # noqa: ANN401 - as above
        """Read within the deadline, however slowly bytes drip."""
        exchange = self.exchange
        try:
            if self._first is not None:  # it is here, whatever the time
                count = self._first_into(memoryview(buffer))
            else:
                self.settimeout(exchange.patience(exchange.timeouts.read))
                count = super().recv_into(buffer, nbytes, flags)
        except TimeoutError:
            raise exchange.late() from None
        except OSError as error:
            raise _lost(exchange, error) from None
        if not count and not exchange.heard:
            raise exchange.lost()
        exchange.heard = True
        return count

    def _first_into(self, buffer: memoryview) -> int:
        first, self._first = self._first, None
        if not isinstance(first, bytes):
            assert first is not None  # noqa: S101 - asked for where there is one
            raise first
        count = min(len(first), len(buffer))
        buffer[:count] = first[:count]
        self._first = first[count:] or None
        return count


def _lost(exchange: Exchange, error: OSError) -> NotSent | NoAnswer:
    """A TLS alert that refuses our certificate, first on a fresh connection, means not processed; all else is a lost connection."""
    if exchange.fresh and not exchange.heard and _refused(error):
        return NotSent(Reason.REFUSED_CERTIFICATE)
    return exchange.lost()


def _refused(error: OSError) -> bool:
    reason = getattr(error, "reason", None) or ""
    return isinstance(error, ssl.SSLError) and "ALERT" in reason and any(word in reason for word in REFUSALS)


class Connection(HTTPSConnection):
    """What urllib3 keeps in its pool."""

    sock: Socket | None
    idle_since: float = 0.0
    """time.monotonic() when it went back to the pool."""
    idle_most: float = 0.0
    """Seconds that the server says it keeps it; 0 where it says nothing."""
    putheader = http.client.HTTPConnection.putheader
    """urllib3's looks in each value for a mark that nobody sets here."""
    _used = False
    _held: list[bytes] | None = None

    @property
    def holds_more(self) -> bool:
        """Whether something was read or decrypted already: before a request it is nobody's answer, and the next one's least of all."""
        return self.sock is not None and (self.sock.has_spoken or self.sock.pending() > 0)

    def connect(self) -> None:
        """Dial and shake hands: NotSent where it fails."""
        exchange = current()
        assert self.ssl_context is not None  # noqa: S101 - the pool was made with one
        self.sock = handshake(dial(self.host, self.port, exchange), self.ssl_context, self.host, exchange)
        self._used = False
        self.is_verified = True

    def request(self, method: str, url: str, body: Any = None, headers: Mapping[str, Any] | None = None, **_: Any) -> None:  # noqa: ANN401 - urllib3's
        """Send head and body in one piece: shorter than a TLS record, it leaves whole or not at all. As urllib3's, without its guesses."""
        exchange = current()
        exchange.phase = Reason.NOT_SENT_CONNECT
        exchange.fresh = not self._used
        self._used = True
        assert self.sock is not None  # noqa: S101 - the pool connects before it requests
        self.sock.exchange = exchange
        self._held = []
        try:
            self.putrequest(method, url, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                self.putheader(name, value)
            self.endheaders(body)
            whole = b"".join(self._held)
        finally:
            self._held = None
        self.sock.sendall(whole)
        exchange.asked, exchange.whole = time.monotonic(), True
        reach(Point.AFTER_BYTES_SENT)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override] # as urllib3's
        """The head of the answer; its body is still to be read."""
        came = http.client.HTTPConnection.getresponse(self)
        return HTTPResponse(
            came,
            came.getheaders(),  # type: ignore[arg-type] # urllib3's word for it leaves out what it takes
            came.status,
            preload_content=False,
            decode_content=False,
            original_response=came,
        )

    def send(self, data: Any) -> None:  # noqa: ANN401 - http.client's own buffer types
        """Hold what http.client would send in pieces."""
        assert self._held is not None  # noqa: S101 - only `request` leads here
        self._held.append(bytes(data))


class Kept(NoAnswer):
    """The time is over, the request has left whole, nothing was heard: the connection is open still, and the pool's no more."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(Reason.TIMEOUT)
        self.connection = connection


def _may_come_yet(error: BaseException) -> bool:
    exchange = current()
    late = isinstance(error, NoAnswer) and error.reason is Reason.TIMEOUT
    return late and exchange.keeps and exchange.whole and not exchange.heard


class Pool(HTTPSConnectionPool):
    """A bounded pool that waits no longer than the exchange and reuses nothing that the server may be about to close."""

    ConnectionCls = Connection
    _tidy_at = 0.0
    idle = 4.0
    """Seconds. Servers close idle connections after 5 s and more, and one that closes as we send costs an unknown outcome."""

    def asked(self, method: str, url: str, body: Any, headers: Any) -> Connection:  # noqa: ANN401 - urllib3's own types
        """The first half of urllib3's urlopen, without what nobody here asks it for: retries, redirects, proxies. The request has left."""
        connection: Connection = self._get_conn()
        try:
            if connection.is_closed:
                connection.connect()
            connection.request(method, _encode_target(url), body, headers)
        except BaseException:
            self.give_up(connection)
            raise
        return connection

    def answered(self, connection: Connection) -> HTTPResponse:
        """The other half: the head of the answer."""
        try:
            response = connection.getresponse()
        except BaseException as error:
            self._put_conn(None)
            if _may_come_yet(error):
                raise Kept(connection) from None
            connection.close()
            raise
        response._connection, response._pool = connection, self  # noqa: SLF001 - as urllib3 does, for response.release_conn
        return response

    def overdue(self, connection: Connection) -> NotSent | NoAnswer:
        """Its time is over, and nothing is there: what to raise."""
        error = current().late()
        self._put_conn(None)
        if _may_come_yet(error):
            return Kept(connection)
        connection.close()
        return error

    def give_up(self, connection: Connection) -> None:
        """Its answer is nobody's: it is closed, its place is another's."""
        connection.close()
        self._put_conn(None)

    @property
    def at_hand(self) -> bool:
        """Whether the connection that would be used next is there."""
        following = next(iter(self.pool.queue[-1:]), None) if self.pool is not None else None
        return isinstance(following, Connection) and not self._is_old(following)

    def _is_old(self, connection: Connection) -> bool:
        idle = time.monotonic() - connection.idle_since
        return connection.sock is None or idle > min(self.idle, connection.idle_most or self.idle)

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ANN401 - urllib3's own type
        exchange = current()
        most = min(exchange.timeouts.connect, max(exchange.remaining, 0.001))
        connection = super()._get_conn(timeout=most if timeout is None else timeout)
        if isinstance(connection, Connection) and (self._is_old(connection) or connection.holds_more):
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:  # noqa: ANN401 - urllib3's own type
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)
        self._tidy()

    def _tidy(self) -> None:
        """The last one back is used first: those of a rush lie below, and are closed when they are too old to be used."""
        now, waiting = time.monotonic(), self.pool
        if now < self._tidy_at or waiting is None:
            return
        self._tidy_at = now + self.idle
        with waiting.mutex:  # so that nobody takes one meanwhile
            for connection in waiting.queue:
                if isinstance(connection, Connection) and self._is_old(connection):
                    connection.close()


def dial(host: str, port: int | None, exchange: Exchange) -> socket.socket:
    """A TCP connection to the first address that answers, all of them within the connect time-out.

    NotSent: NOT_SENT_DNS, NOT_SENT_CONNECT. The resolver keeps its own time (resolv.conf), which no time-out of ours shortens.
    """
    exchange.phase = Reason.NOT_SENT_DNS
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NotSent(Reason.NOT_SENT_DNS) from None
    exchange.phase = Reason.NOT_SENT_CONNECT
    end = time.monotonic() + exchange.patience(exchange.timeouts.connect)
    for tried, (family, kind, protocol, _, address) in enumerate(found):
        share = max(end - time.monotonic(), 0.001) / (len(found) - tried)
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(share)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address)
        except OSError:
            sock.close()
        else:
            return sock
    raise NotSent(Reason.NOT_SENT_CONNECT)


def handshake(sock: socket.socket, context: ssl.SSLContext, host: str, exchange: Exchange) -> Socket:
    """TLS over a connected socket. NotSent: NOT_SENT_TLS, or REFUSED_CERTIFICATE where the server says so."""
    exchange.phase = Reason.NOT_SENT_TLS
    began = time.monotonic()
    try:
        sock.settimeout(exchange.patience(exchange.timeouts.connect))
        secure = context.wrap_socket(sock, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        sock.close()
        why = error.verify_message or "not trusted"
        raise NotSent(Reason.NOT_SENT_TLS, f"the partner's server certificate was not accepted ({why}): look at tls.ca") from None
    except OSError as error:
        sock.close()
        raise NotSent(Reason.REFUSED_CERTIFICATE if _refused(error) else Reason.NOT_SENT_TLS) from None
    except NotSent:
        sock.close()
        raise
    assert isinstance(secure, Socket)  # noqa: S101 - certificates.read made the context with this class
    if secure.version() == "TLSv1.3":
        _hear_first(secure, min(max(2 * (time.monotonic() - began), 0.05), 0.5, max(exchange.remaining, 0.0)))
    return secure


def _hear_first(sock: Socket, seconds: float) -> None:
    """Before a byte goes out, wait for the server's first word: under TLS 1.3 it judges our certificate after our handshake is over.

    It sends session tickets where it took the certificate (most do, at once), an alert where it did not. One that sends neither costs
    `seconds`, once a connection; an alert after that is met by Socket.recv_into.
    """
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    if not poll.poll(seconds * 1000):
        return
    sock.settimeout(0)
    try:
        # ssl.SSLSocket's own, since there is no exchange to account to yet
        early = ssl.SSLSocket.recv(sock, 1)
    except ssl.SSLWantReadError:
        return
    except OSError as error:
        sock.close()
        raise NotSent(Reason.REFUSED_CERTIFICATE if _refused(error) else Reason.NOT_SENT_TLS) from None
    sock.close()
    what = "spoke before it was asked" if early else "closed the connection after the handshake"
    raise NotSent(Reason.NOT_SENT_TLS, f"the partner {what}: its TLS, or its opinion of our certificate")
