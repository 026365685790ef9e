"""Each fault of the proxy as a plain socket sees it, and TLS through it."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.sandbox.roche.stand_in import RocheSandbox
from tests.faults.proxy import FIRST_REQUEST, Order, Proxy, Way
from tests.sandbox.client import Client


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """Says back what it hears."""
    listening = socket.create_server(("127.0.0.1", 0))
    open_: list[socket.socket] = []

    def echo(sock: socket.socket) -> None:
        try:
            while piece := sock.recv(65536):
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # reset, before or after its end was read

    def serve() -> None:
        while True:
            try:
                sock, _ = listening.accept()
            except OSError:
                return
            open_.append(sock)
            threading.Thread(target=echo, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)
    for sock in open_:
        sock.close()


@pytest.fixture
def proxy(server: tuple[str, int]) -> Iterator[Proxy]:
    with Proxy(server) as one:
        yield one


def dialled(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def said(sock: socket.socket, piece: bytes) -> bytes:
    sock.sendall(piece)
    return sock.recv(65536)


def rest(sock: socket.socket) -> bytes:
    read = b""
    while piece := sock.recv(65536):
        read += piece
    return read


def test_without_an_order_it_passes_both_ways(proxy: Proxy) -> None:
    with dialled(proxy) as sock:
        assert said(sock, b"a") == b"a"
        sock.shutdown(socket.SHUT_WR)
        assert rest(sock) == b""
    assert (proxy.connections, proxy.ended) == (1, 0)


def test_refused(proxy: Proxy) -> None:
    proxy.order(Order(refuse=True, times=1))
    with pytest.raises(ConnectionResetError), dialled(proxy) as sock:
        said(sock, b"a")
    with dialled(proxy) as sock:
        assert said(sock, b"a") == b"a"


def test_reset_after_so_many_bytes_of_the_client_and_the_last_piece_stays_here(proxy: Proxy) -> None:
    proxy.order(Order(up_to=4))
    with dialled(proxy) as sock:
        assert said(sock, b"abc") == b"abc"
        with pytest.raises(ConnectionResetError):
            said(sock, b"d")


def test_so_many_bytes_of_an_answer_and_then_the_end(proxy: Proxy) -> None:
    proxy.order(Order(down_to=2, way=Way.FIN))
    with dialled(proxy) as sock:
        sock.sendall(b"abc")
        assert rest(sock) == b"ab"


@pytest.mark.parametrize("order", [Order(hang_up_on=2), Order(cut_answer_to=2)])
def test_the_second_turn_is_not_answered(proxy: Proxy, order: Order) -> None:
    proxy.order(order)
    with dialled(proxy) as sock:
        assert said(sock, b"a") == b"a"
        with pytest.raises(ConnectionResetError):
            said(sock, b"b")
    assert proxy.ended == 1


def test_a_blackhole_swallows_and_ends_when_it_is_over(proxy: Proxy) -> None:
    with dialled(proxy) as sock:
        assert said(sock, b"a") == b"a"
        proxy.order(Order(blackhole=True))
        sock.sendall(b"b")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        proxy.clear()
        sock.settimeout(5)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    with dialled(proxy) as sock:
        assert said(sock, b"a") == b"a"


def test_a_delay_and_a_drip_take_their_time(proxy: Proxy) -> None:
    proxy.order(Order(delay=0.05, times=1), Order(drip=0.02))
    for piece, least in ((b"a", 0.1), (b"abcdef", 0.1)):
        with dialled(proxy) as sock:
            began = time.monotonic()
            sock.sendall(piece)
            read = b""
            while len(read) < len(piece):
                read += sock.recv(100)
            assert (read, time.monotonic() - began > least) == (piece, True)


def test_an_idle_connection_is_closed(proxy: Proxy) -> None:
    proxy.order(Order(idle=0.1, way=Way.FIN))
    with dialled(proxy) as sock:
        assert said(sock, b"a") == b"a"
        assert rest(sock) == b""


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_passes_and_the_turns_of_requests_are_as_described(tmp_path: Path, version: str) -> None:
    with RocheSandbox(tmp_path / "sandbox", {"tls": version}) as roche, Proxy(("127.0.0.1", roche.port)) as proxy:
        files = roche.files
        context = ssl.create_default_context(cafile=str(files.ca))
        context.load_cert_chain(files.client, files.client_key)
        with Client(roche) as client:
            headers = {name: value for name, value in client.headers.items() if value}
        lines = ["GET /nothing HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        for turn, answered in ((FIRST_REQUEST, 0), (FIRST_REQUEST + 1, 1)):
            proxy.order(Order(cut_answer_to=turn))
            before = roche.requests
            with context.wrap_socket(dialled(proxy), server_hostname="localhost") as sock:
                time.sleep(0.3)  # under TLS 1.3 the server's tickets come after the handshake, and are no answer
                answers = 0
                for _ in range(answered + 1):
                    sock.sendall("\r\n".join(lines).encode())
                    try:
                        answers += sock.recv(65536).startswith(b"HTTP/1.1 4")
                    except OSError:
                        break
            assert (answers, roche.requests - before) == (answered, answered + 1)
