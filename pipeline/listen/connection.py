"""One sender's connection, in a thread of its own: read, cut into frames, hand over, answer, in that order and one frame at a time.

While a message is with the bus nothing more is read from its sender: TCP holds the sender back. Nothing of a message is ever logged.
"""

import select
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Final

from pipeline.hl7.mllp import Framer
from pipeline.listen.intake import Intake, Peer
from pipeline.telemetry import LogEvent, log

READ: Final = 64 * 1024
HANDSHAKE_SECONDS: Final = 10.0
WRITE_SECONDS: Final = 30.0
"""A sender that does not read its acknowledgements for so long is let go."""
LINGER_SECONDS: Final = 1.0
"""How long what a sender still sends is read away before closing: closing on unread bytes would reset the connection, and with it
acknowledgements that the sender has not read yet."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of one message; seconds without a whole frame after which a connection is closed."""

    most_bytes: int
    idle_seconds: float


class Connection:
    """Runs in a thread; `wake` becomes readable when the server stops."""

    def __init__(
        self, plain: socket.socket, peer: Peer, intake: Intake, limits: Limits, *, wake: int, tls: ssl.SSLContext | None
    ) -> None:
        self._socket = plain
        self._peer = peer
        self._intake = intake
        self._limits = limits
        self._wake = wake
        self._tls = tls
        self._stopping = False
        self._framer = Framer(limits.most_bytes)

    def run(self) -> None:
        """Serve until the sender goes, a message fails, the idle limit passes or the server stops; then close."""
        try:
            self._serve()
            self._part()
        finally:
            self._socket.close()
            if self._framer.stray or self._framer.unterminated:
                log(
                    LogEvent.CONNECTION_GARBLED,
                    peer=self._peer.host,
                    stray_bytes=self._framer.stray,
                    unterminated_frames=self._framer.unterminated,
                    do="the sender does not frame its messages by MLLP (VT … FS CR); what stood outside of frames was not stored",
                )

    def handshake(self) -> None:
        """TLS, where it is wanted. OSError (ssl.SSLError) where it fails; the socket is closed then."""
        if self._tls is None:
            return
        self._socket.settimeout(HANDSHAKE_SECONDS)
        wrapped = self._tls.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = wrapped
        try:
            wrapped.do_handshake()
        except OSError:
            wrapped.close()
            raise

    def abort(self) -> None:
        """From another thread: break off whatever it waits for on the socket."""
        try:
            # not SSLSocket.shutdown: that one drops the encryption, and an acknowledgement in the making would go out in the clear
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already, which is what was wanted

    def _serve(self) -> None:
        self._socket.settimeout(min(WRITE_SECONDS, self._limits.idle_seconds))
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        deadline = time.monotonic() + self._limits.idle_seconds
        while not self._stopping and self._readable(poll, deadline):
            items = self._framer.feed(self._read())
            for item in items:
                taken = self._intake.take(item, self._peer)
                if not self._write(taken.answer) or taken.ends:
                    return
            if items:
                deadline = time.monotonic() + self._limits.idle_seconds
        if self._framer.is_open:
            self._intake.cut_off(self._peer)

    def _read(self) -> bytes:
        """What lies ready; nothing where the sender is gone, and then it is the last round."""
        try:
            data = self._socket.recv(READ)
        except OSError:
            data = b""
        self._stopping = self._stopping or not data
        return data

    def _write(self, answer: bytes) -> bool:
        """Whether the sender still takes answers: one that does not sends again what it was not acknowledged."""
        try:
            self._socket.sendall(answer)
        except OSError:
            return False
        return True

    def _readable(self, poll: select.poll, deadline: float) -> bool:
        """Wait for bytes; False where the idle limit passed or the server stops, and nothing lies ready."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        ready = {descriptor for descriptor, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000)}
        if self._wake in ready:
            # what was sent before the stop is still taken, once
            self._stopping = True
            ready.discard(self._wake)
        return bool(ready)

    def _part(self) -> None:
        """Say that nothing more comes, and let the sender read what it was answered."""
        try:
            self._socket.settimeout(LINGER_SECONDS)
            if isinstance(self._socket, ssl.SSLSocket):
                self._socket = self._socket.unwrap()
            self._socket.shutdown(socket.SHUT_WR)
            until = time.monotonic() + LINGER_SECONDS
            while time.monotonic() < until and self._socket.recv(READ):
                pass
        except OSError:
            return  # the sender was quicker
