"""A TLS gateway before the stand-in, which refuses a wrong client certificate by a real alert: asyncio's TLS closes without one.

It ends TLS here and speaks to the stand-in with the good certificate. One request at a time on a connection, as HTTP/1.1 without pipelining is.
"""

import select
import socket
import ssl
import threading
from typing import Final, Self

from pipeline.sandbox.running import Sandbox

VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
PIECE: Final = 64 * 1024
BOUND: Final = 30.0
"""Seconds without a word, then a connection ends."""


class Gateway:
    """`with Gateway(sandbox, "1.3") as gateway: gateway.base_url`."""

    def __init__(self, sandbox: Sandbox, tls: str) -> None:
        files = sandbox.files
        self._sandbox = sandbox
        self._here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._here.minimum_version = self._here.maximum_version = VERSIONS[tls]
        self._here.load_cert_chain(files.server, files.server_key)
        self._here.load_verify_locations(files.ca)
        self._here.verify_mode = ssl.CERT_REQUIRED
        self._there = ssl.create_default_context(cafile=str(files.ca))
        self._there.load_cert_chain(files.client, files.client_key)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.refused = 0
        self.base_url = sandbox.base_url.replace(f":{sandbox.port}/", f":{self._listening.getsockname()[1]}/")
        self._thread = threading.Thread(target=self._accept, name="gateway", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="gateway-connection", daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(BOUND)
        try:
            with self._here.wrap_socket(plain, server_side=True) as client:
                dialled = socket.create_connection(("127.0.0.1", self._sandbox.port), timeout=BOUND)
                with self._there.wrap_socket(dialled, server_hostname="localhost") as server:
                    _pipe(client, server)
        except ssl.SSLError:
            self.refused += 1
            plain.close()
        except OSError:
            plain.close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pipe(client: ssl.SSLSocket, server: ssl.SSLSocket) -> None:
    """In one thread: a TLS socket is not for two."""
    other = {client: server, server: client}
    while True:
        ready = [one for one in other if one.pending()] or select.select(list(other), [], [], BOUND)[0]
        if not ready:
            return
        for one in ready:
            piece = _heard(one)
            if piece == b"":
                return
            if piece is not None:
                other[one].sendall(piece)


def _heard(one: ssl.SSLSocket) -> bytes | None:
    """None where only TLS spoke, as with the session tickets of 1.3: a read that waits for more keeps the other side's request from going."""
    one.setblocking(False)  # noqa: FBT003 - the socket's own
    try:
        return one.recv(PIECE)
    except ssl.SSLWantReadError:
        return None
    finally:
        one.settimeout(BOUND)
