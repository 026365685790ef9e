"""A TCP proxy on loopback that fails on order: between worker and partner, broker or database. TLS passes through it untouched.

It knows bytes and turns, no protocol. A turn is what one side says until the other answers: under TLS the client's hello is the first, its
Finished the second, its first request the third, the next request on the same connection the fourth.
"""

import contextlib
import ctypes
import socket
import struct
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

PIECE: Final = 64 * 1024
FIRST_REQUEST: Final = 3
"""The client's turn that carries the first request over TLS."""
FOR_EVER: Final = 3600.0
LIBC: Final = ctypes.CDLL(None)


class Way(StrEnum):
    """How a connection ends."""

    FIN = "fin"
    RST = "rst"


@dataclass(frozen=True, slots=True)
class Order:
    """What happens to a connection; what is left out does not happen."""

    refuse: bool = False
    """Reset as soon as it is accepted: for the client as good as refused."""
    blackhole: bool = False
    """Accepted, and nothing goes on; later bytes of connections that stand are swallowed as well."""
    delay: float = 0.0
    """Seconds before each piece goes on, either way."""
    drip: float = 0.0
    """Seconds between single bytes of the answers."""
    up_to: int | None = None
    """After so many bytes of the client the connection ends; the last piece does not go on."""
    down_to: int | None = None
    """After so many bytes of the server the connection ends; no more than those have gone on."""
    hang_up_on: int | None = None
    """At this turn of the client the connection ends, and the turn does not go on."""
    cut_answer_to: int | None = None
    """This turn of the client goes on; the answer to it does not, and the connection ends instead."""
    idle: float | None = None
    """Seconds without a byte after which the connection ends."""
    way: Way = Way.RST
    times: int | None = None
    """So many connections; then the next order, or none, counts. None: all."""


NOTHING: Final = Order()


class Proxy:
    """`with Proxy(("127.0.0.1", 8443)) as proxy: proxy.port; proxy.order(Order(refuse=True)); proxy.clear()`.

    An order counts for connections that begin after it, `blackhole` for those that stand as well.
    """

    def __init__(self, server: tuple[str, int], port: int = 0) -> None:
        self.server = server
        self.connections = 0
        self.ended = 0
        """Connections that it has ended by an order."""
        self._lock = threading.Lock()
        self._orders: list[tuple[Order, int | None]] = []
        self._hole = False
        self._open: dict[socket.socket, socket.socket] = {}
        """The client's socket and the server's of each connection."""
        self._listening = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self._closing = False
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    def order(self, *orders: Order) -> None:
        """These, one after the other, instead of what stood."""
        with self._lock:
            self._orders = [(one, one.times) for one in orders]
            self._hole = any(one.blackhole for one in orders)

    def clear(self) -> None:
        """Everything passes again; connections that were swallowed end."""
        if self._hole:  # they end while nothing goes on yet, so that none passes, and none is told of another end
            self.drop_all()
        with self._lock:
            self._hole = False
            self._orders = []

    def drop_all(self, way: Way = Way.RST) -> None:
        """End all connections that stand. The client's end comes first: the server's would go on to it as an orderly one."""
        with self._lock:
            standing = list(self._open.items())
        for client, server in standing:
            _end(client, way)
            _end(server, way)

    def close(self) -> None:
        """Stop listening and end all."""
        self._closing = True
        with contextlib.suppress(
            OSError
        ):  # a socket that listens may refuse a shutdown; the connection below wakes it either way
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)
        self.drop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> Order:
        with self._lock:
            self.connections += 1
            while self._orders:
                order, left = self._orders[0]
                if left is None:
                    return order
                if left:
                    self._orders[0] = (order, left - 1)
                    return order
                self._orders.pop(0)
            return NOTHING

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client, self._next()), name="proxied", daemon=True).start()

    def _serve(self, client: socket.socket, order: Order) -> None:
        if order.refuse:
            self.ended += 1
            _end(client, Way.RST)
            client.close()
            return
        try:
            server = socket.create_connection(self.server, timeout=10)
        except OSError:
            _end(client, Way.RST)
            client.close()
            return
        with self._lock:
            self._open[client] = server
        connection = _Connection(self, order, client, server)
        back = threading.Thread(target=connection.down, name="proxied-back", daemon=True)
        back.start()
        connection.up()
        back.join()
        with self._lock:
            del self._open[client]
        client.close()
        server.close()

    @property
    def hole(self) -> bool:
        """Whether nothing goes on."""
        return self._hole


class _Connection:
    """One client, one server, one order."""

    def __init__(self, proxy: Proxy, order: Order, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.order, self.client, self.server = proxy, order, client, server
        self.turn = 0
        self.told = True
        """The server has spoken since the client did, so that the client's next bytes are a new turn."""
        self.sent = self.got = 0
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(order.idle if order.idle is not None else FOR_EVER)

    def up(self) -> None:
        """From the client to the server."""
        while piece := self._read(self.client):
            if self.told:
                self.told, self.turn = False, self.turn + 1
            self.sent += len(piece)
            full = self.order.up_to is not None and self.sent >= self.order.up_to
            if full or self.turn == self.order.hang_up_on:
                self._end()
                return
            if not self._write(self.server, piece):
                return
        self._half(self.server)

    def down(self) -> None:
        """From the server to the client."""
        while piece := self._read(self.server):
            self.told = True
            if self.order.cut_answer_to is not None and self.turn >= self.order.cut_answer_to:
                self._end()
                return
            most = None if self.order.down_to is None else max(self.order.down_to - self.got, 0)
            self.got += len(piece)
            if not self._write(self.client, piece[:most]):
                return
            if most is not None and self.got >= (self.order.down_to or 0):
                self._end()
                return
        self._half(self.client)

    def _read(self, sock: socket.socket) -> bytes:
        try:
            piece = sock.recv(PIECE)
        except TimeoutError:
            self._end()
            return b""
        except OSError:
            return b""
        while self.proxy.hole or self.order.blackhole:
            if sock.fileno() < 0 or self.proxy._closing:
                return b""
            time.sleep(0.02)
            if not self.proxy.hole:  # what was swallowed is lost: the connection has ended
                return b""
        return piece

    def _write(self, sock: socket.socket, piece: bytes) -> bool:
        if self.order.delay:
            time.sleep(self.order.delay)
        pieces = [piece[i : i + 1] for i in range(len(piece))] if self.order.drip and sock is self.client else [piece]
        for one in pieces:
            try:
                sock.sendall(one)
            except OSError:
                _end(self.server, Way.FIN)
                _end(self.client, Way.FIN)
                return False
            if self.order.drip:
                time.sleep(self.order.drip)
        return True

    def _half(self, sock: socket.socket) -> None:
        """One side has ended: say so to the other."""
        with contextlib.suppress(OSError):  # it is gone already
            sock.shutdown(socket.SHUT_WR)

    def _end(self) -> None:
        self.proxy.ended += 1
        _end(self.client, self.order.way)
        _end(self.server, Way.FIN)


def _end(sock: socket.socket, way: Way) -> None:
    """Both directions at once, by RST or by FIN, though another thread still reads the socket; it is woken."""
    with contextlib.suppress(OSError):  # it has ended by itself
        if way is Way.FIN:
            sock.shutdown(socket.SHUT_RDWR)
        else:  # connect(2) to AF_UNSPEC resets a connection (Linux); closing would wait for the thread that reads
            LIBC.connect(sock.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16)
