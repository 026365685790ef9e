"""A TLS server that does what a test says, connection by connection. Real sockets, real handshakes; it knows nothing of what it judges."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pipeline.sandbox.certificates import Files
from pipeline.settings_sections import TlsFiles

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Peer:
    """The server's end of one connection."""

    server: "TlsServer"
    number: int
    sock: socket.socket

    def read_request(self) -> bytes:
        """One request, whole; empty where the client closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.sock.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        while len(body) < length:
            body += self.sock.recv(65536)
        whole = head + b"\r\n\r\n" + body
        self.server.requests.append(whole)
        return whole

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Play = Callable[[Peer], None]


def answer(*replies: bytes) -> Play:
    """Answer each request of a connection with the next of `replies`, the last one for ever."""

    def play(peer: Peer) -> None:
        said = 0
        while peer.read_request():
            peer.say(replies[min(said, len(replies) - 1)])
            said += 1

    return play


@dataclass
class TlsServer:
    """`with TlsServer(files, play) as server`: each connection runs `play` in a thread of its own."""

    files: Files
    play: Play
    version: ssl.TLSVersion | None = None
    plain: bool = False
    """No TLS at all: `play` sees the raw socket."""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    refusals: int = 0

    def __enter__(self) -> Self:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.files.server, self.files.server_key)
        self._context.load_verify_locations(self.files.ca)
        self._context.verify_mode = ssl.CERT_REQUIRED
        if self.version:
            self._context.minimum_version = self._context.maximum_version = self.version
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._closing = False
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # ended already, or handed over to its TLS socket
        for thread in list(self._threads):
            thread.join(
                10
            )  # each closes its own: a number that is free while a thread still reads it would be the next test's socket

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/base"

    def _accept(self) -> None:
        while not self._closing:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(raw)
            thread = threading.Thread(target=self._serve, args=(raw, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket, number: int) -> None:
        sock = raw
        try:
            if not self.plain:
                sock = self._context.wrap_socket(raw, server_side=True)
                self._open.append(sock)
            self.play(Peer(self, number, sock))
        except (OSError, ValueError):
            self.refusals += 1
        finally:
            sock.close()


@dataclass
class Relay:
    """A TCP relay that holds what the server says for `seconds`, once the client has said its second piece: a slow way back."""

    to: int
    seconds: float

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def url(self) -> str:
        return f"https://localhost:{self._listener.getsockname()[1]}/base"

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self.to))
        slow = threading.Event()
        threading.Thread(target=self._there, args=(near, far, slow), daemon=True).start()
        threading.Thread(target=self._back, args=(near, far, slow), daemon=True).start()

    def _there(self, near: socket.socket, far: socket.socket, slow: threading.Event) -> None:
        pieces = 0
        try:
            while data := near.recv(65536):
                pieces += 1
                if pieces == 2:
                    slow.set()
                far.sendall(data)
        except OSError:
            return

    def _back(self, near: socket.socket, far: socket.socket, slow: threading.Event) -> None:
        try:
            while data := far.recv(65536):
                if slow.is_set():
                    threading.Event().wait(self.seconds)
                near.sendall(data)
        except OSError:
            return
        finally:
            near.close()
            far.close()


def tls(files: Files, *, certificate: Path | None = None, key: Path | None = None, ca: Path | None = None) -> TlsFiles:
    """What a client has: by default what the server accepts."""
    return TlsFiles(ca=ca or files.ca, certificate=certificate or files.client, key=key or files.client_key)
