"""The MLLP listener: accepts connections, gives each a thread, stops in order. What a message becomes is decided in intake.py.

Threads, not asyncio: waiting for the bus blocks, one slow sender holds up nobody, and reading no further while the bus is slow comes by
itself. Measured figures stand in README.md.
"""

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from types import TracebackType
from typing import Final, Self

from pipeline.bus.port import Bus
from pipeline.errors import SettingsError
from pipeline.listen.address import Address, parse_address
from pipeline.listen.connection import Connection, Limits
from pipeline.listen.intake import Intake, Peer
from pipeline.listen.tls import server_context
from pipeline.settings import Listen, Site
from pipeline.telemetry import LogEvent, log

BACKLOG: Final = 128
STOP_SECONDS: Final = 10.0
"""How long `stop` waits for messages that are with the bus; then their senders are left without an answer, and send them again."""
ABORT_SECONDS: Final = 1.0
ACCEPT_PAUSE: Final = 0.2
_PEERS_REMEMBERED: Final = 1024


class MllpServer:
    """Listens from `start` (or `with`) to `stop`. The bus stays the caller's; the producer is the server's own."""

    def __init__(self, bus: Bus, listen: Listen, site: Site) -> None:
        """SettingsError where address, certificates or topic are wrong; nothing is bound yet."""
        self._bus = bus
        self._listen = listen
        self._site = site
        self._wanted = parse_address(listen.address, where="listen.address")
        self._tls = (
            server_context(listen.tls, client_certificates=listen.client_certificates == "required", where="listen.tls")
            if listen.tls is not None
            else None
        )
        if self._tls is None and listen.client_certificates == "required":
            raise SettingsError("client certificates need TLS: set listen.tls", where="listen.client_certificates")
        if listen.topic not in bus.topics():
            raise SettingsError(
                f"the bus has no topic {listen.topic}; make it with: emr-pipeline topics create", where="listen.topic"
            )
        self._guard = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}
        self._full = False
        self.accepted = 0
        """Connections since the start, those over the limit not counted."""
        self._troubled: set[str] = set()
        """Peers whose last handshake failed: each is logged once, until it succeeds."""
        self._started = False

    @property
    def address(self) -> Address:
        """Where it listens: (host, port), the port as it was given by the system where 0 was asked for."""
        return Address(*self._socket.getsockname()[:2])

    @property
    def encryption(self) -> str:
        """`plain`, `TLS` or `mutual TLS`."""
        if self._tls is None:
            return "plain"
        return "mutual TLS" if self._tls.verify_mode == ssl.CERT_REQUIRED else "TLS"

    @property
    def stored(self) -> int:
        """Messages on the bus since the start."""
        return self._intake.stored

    @property
    def refused(self) -> int:
        """Frames that were not stored since the start: no MSH, too large, cut off."""
        return self._intake.refused

    def start(self) -> None:
        """Bind and accept. SettingsError where the address cannot be bound."""
        self._socket = _bind(self._wanted)
        self._producer = self._bus.producer()
        self._intake = Intake(
            self._producer,
            self._listen.topic,
            self._site,
            in_flight=self._listen.in_flight,
            store_seconds=self._listen.store_seconds,
            bus_away=self._listen.bus_away,
        )
        self._wake, self._waker = os.pipe()
        self._accepting = threading.Thread(target=self._accept, name="mllp-accept", daemon=True)
        self._accepting.start()
        self._started = True
        log(LogEvent.LISTEN_STARTED, address=str(self.address), topic=self._listen.topic, encryption=self.encryption)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Accept no more, finish and answer what is in flight, close; what is not done after `seconds` goes without an answer."""
        if not self._started:
            return
        self._started = False
        address = self.address
        os.write(self._waker, b"x")  # nobody reads it: every thread sees it
        self._accepting.join()
        self._socket.close()
        until = time.monotonic() + seconds
        for thread in self._threads():
            thread.join(max(0.0, until - time.monotonic()))
        late = self._abort()
        self._producer.close()
        if not late:  # a thread that still runs may look at the pipe
            os.close(self._wake)
            os.close(self._waker)
        log(LogEvent.LISTEN_STOPPED, address=str(address), stored=self.stored, refused=self.refused, unanswered=late)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _threads(self) -> list[threading.Thread]:
        with self._guard:
            return list(self._connections.values())

    def _abort(self) -> int:
        """Break off what still runs; how many connections that were."""
        with self._guard:
            rest = list(self._connections.items())
        for connection, _ in rest:
            connection.abort()
        until = time.monotonic() + ABORT_SECONDS
        for _, thread in rest:
            thread.join(max(0.0, until - time.monotonic()))
        return len(rest)

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            if any(descriptor == self._wake for descriptor, _ in poll.poll()):
                return
            try:
                accepted, name = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue  # the peer went before we looked
            except OSError as error:
                # no descriptors left: the next one may have more luck
                self._note_full(full=True, problem=error.strerror or "accept failed")
                time.sleep(ACCEPT_PAUSE)
                continue
            self._admit(accepted, str(name[0]))

    def _admit(self, accepted: socket.socket, host: str) -> None:
        with self._guard:
            full = len(self._connections) >= self._listen.connections
        self._note_full(full=full, problem=f"the limit of {self._listen.connections} connections is reached")
        if full:
            accepted.close()
            return
        _keep_alive(accepted)
        connection = Connection(
            accepted,
            Peer(host, str(self.address)),
            self._intake,
            Limits(self._site.most_bytes, self._listen.idle_seconds),
            wake=self._wake,
            tls=self._tls,
        )
        thread = threading.Thread(target=self._run, args=(connection, host), name="mllp-connection", daemon=True)
        with self._guard:
            self._connections[connection] = thread
            self.accepted += 1
        try:
            thread.start()
        except RuntimeError:  # no more threads: as no more descriptors
            accepted.close()
            self._forget(connection)
            self._note_full(full=True, problem="the system gives no more threads")

    def _run(self, connection: Connection, host: str) -> None:
        try:
            if self._shake_hands(connection, host):
                connection.run()
        except Exception as error:  # noqa: BLE001 - a defect of ours costs this connection, unanswered, and is said without its values
            log(
                LogEvent.LISTEN_FAILED,
                peer=host,
                problem=type(error).__name__,
                do="the message was not acknowledged; report this",
            )
        finally:
            self._forget(connection)

    def _shake_hands(self, connection: Connection, host: str) -> bool:
        try:
            connection.handshake()
        except OSError as error:
            self._note_handshake(host, error)
            return False
        self._troubled.discard(host)
        return True

    def _forget(self, connection: Connection) -> None:
        with self._guard:
            self._connections.pop(connection, None)

    def _note_full(self, *, full: bool, problem: str) -> None:
        new, self._full = full and not self._full, full
        if new:
            log(
                LogEvent.CONNECTION_REFUSED, problem=problem, do="raise listen.connections, or find the sender that opens so many"
            )

    def _note_handshake(self, host: str, error: OSError) -> None:
        if host in self._troubled or len(self._troubled) >= _PEERS_REMEMBERED:
            return
        self._troubled.add(host)
        reason = (getattr(error, "reason", None) or type(error).__name__).lower().replace("_", " ")
        log(
            LogEvent.CONNECTION_REFUSED,
            peer=host,
            problem=f"TLS handshake: {reason}",
            do="compare the sender's certificate with listen.tls",
        )


def _bind(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with contextlib.ExitStack() as undo:
        server = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(address)
            server.listen(BACKLOG)
        except OSError as error:
            hint = {"Address already in use": "another program (or another `listen`) has the port"}.get(error.strerror or "", "")
            raise SettingsError(
                f"cannot listen on {address} ({error.strerror})" + (f": {hint}" if hint else ""), where="listen.address"
            ) from None
        server.settimeout(0)
        undo.pop_all()
        return server


def _keep_alive(accepted: socket.socket) -> None:
    """Half-open connections are found by probes of TCP; acknowledgements leave at once."""
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            accepted.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
