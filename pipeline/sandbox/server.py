"""A stand-in's server: HTTPS on loopback, with mutual TLS where the partner asks for it, one event loop, thousands of connections. Knows no rule of the contract by itself.

It accepts, shakes hands, reads, waits the latency, lets the contract take effect, writes the log of effects, and only then answers.
A request once read takes effect whether or not its client still waits, as at the partner.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from pipeline.errors import SettingsError
from pipeline.sandbox import answers, certificates
from pipeline.sandbox.faults import Faults, Rule
from pipeline.sandbox.gateway import Gateway
from pipeline.sandbox.knobs import Common
from pipeline.sandbox.latency import Latency
from pipeline.sandbox.log import NOTHING, Effect, EffectWriter
from pipeline.sandbox.partner import Done, Partner, Reading
from pipeline.sandbox.wire import LONGEST_HEAD, Answer, Malformed, Request, read_request

BACKLOG: Final = 4096
HANDSHAKE_SECONDS: Final = 30.0
GONE: Final = (ConnectionError, ssl.SSLError, TimeoutError, asyncio.IncompleteReadError)
"""The client is not there any more, or was not one: ends the connection, and is nobody's error."""


@dataclass(frozen=True, slots=True)
class Came:
    """A request with the circumstances of its coming."""

    request: Request
    reading: Reading[Any]
    number: int
    connection: int
    received: float


class Server:
    """One partner on one folder. Everything but the constructor runs in the event loop."""

    def __init__(self, folder: Path, of: Callable[[certificates.Files], Partner[Any]]) -> None:
        self.files = certificates.ensure(folder)
        self.effects = EffectWriter(folder)
        self.partner = of(self.files)
        self.partner.restore(self.effects.before)
        self.effects.before.clear()
        self.faults = Faults(self.knobs.seed)
        self.port = 0
        self.requests = 0
        self._latency = Latency(self.knobs.seed)
        self._gateway = Gateway(self.files, mutual=self.partner.asks_certificate)
        self._connections = 0
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def knobs(self) -> Common:
        """Those in force."""
        return self.partner.knobs

    def turn(self, knobs: Common) -> None:
        """Other knobs from now on; another seed begins its draws anew."""
        if knobs.seed != self.knobs.seed:
            self._latency = Latency(knobs.seed)
            self.faults.reseed(knobs.seed)
        self.partner.turn(knobs)

    async def start(self, port: int) -> None:
        """Listen on 127.0.0.1, and on ::1 where there is one; `port` 0 takes a free one."""
        first = _listener(socket.AF_INET, "127.0.0.1", port)
        self.port = first.getsockname()[1]
        self.partner.listening(self.port)
        self._listeners = [first]
        with contextlib.suppress(SettingsError):  # a machine without IPv6: clients of `localhost` fall back to 127.0.0.1
            self._listeners.append(_listener(socket.AF_INET6, "::1", self.port))
        for listener in self._listeners:
            self._spawn(self._accept(listener))

    async def stop(self) -> None:
        """Close everything; requests that wait for their latency are dropped without effect."""
        for listener in self._listeners:
            listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.effects.close()

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # connections

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError:  # no descriptor free, or the client has gone: those who wait are served when one is
                if listener.fileno() < 0:
                    return
                await asyncio.sleep(0.05)
                continue
            self._connections += 1
            self._spawn(self._connection(sock, self._connections))

    async def _connection(self, sock: socket.socket, connection: int) -> None:
        fault = self.faults.for_connection()
        if fault:
            self._note("connection", connection, fault.name)
        if fault and fault.kind == "refuse_tls":
            await _refuse_tls(sock, fault)
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LONGEST_HEAD)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                sock,
                ssl=self._gateway.context(self.knobs),
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=1.0,
            )
        except GONE as error:
            self._note("handshake", connection, getattr(error, "reason", None) or type(error).__name__)
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            if fault:
                answers.drop(writer, reset=fault.reset)
            else:
                await self._requests(reader, writer, connection)
        except (*GONE, asyncio.CancelledError):
            writer.transport.abort()
        except Exception:  # a defect of the stand-in: asyncio prints it; the client must not hang on it
            writer.transport.abort()
            raise
        writer.close()
        with contextlib.suppress(*GONE):  # closed is closed, however it went
            await writer.wait_closed()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        certificate = self._gateway.accepts(writer.get_extra_info("ssl_object"), self.knobs)
        while True:
            try:
                async with asyncio.timeout(self.knobs.idle_seconds):
                    request = await read_request(reader, writer, lambda: self.knobs.most_bytes)
            except Malformed as error:
                self._note("other", connection, str(error), status=error.status)
                writer.write(Answer(error.status).bytes(close=True))
                await writer.drain()
                return
            if request is None:
                return
            reading = self.partner.read(request, certificate=certificate)
            came = Came(request, reading, self.effects.number(), connection, time.time())
            self.requests += 1
            if not await self._one(came, writer):
                return

    # one request

    async def _one(self, came: Came, writer: asyncio.StreamWriter) -> bool:
        """Wait, take effect, log, answer; whether the connection stays."""
        fault = self.faults.for_request(came.reading.operation, self.partner.named(came.reading), came.number)
        at_the_gateway = came.reading.refusal is not None and not came.reading.issues
        latency = 0.0 if at_the_gateway else self._latency.seconds(came.reading.operation, self.knobs)
        wait = latency + (fault.effect_after if fault else 0.0)
        if wait:
            await asyncio.sleep(wait)
        done = self._take_effect(came, fault)
        if fault and fault.answer_after:
            await asyncio.sleep(fault.answer_after)
        return await answers.send(writer, done.answer, fault, close=not came.request.keep_alive)

    def _take_effect(self, came: Came, fault: Rule | None) -> Done:
        """Contract and log in one go: no other request comes between. The line is in the file when this returns."""
        silent = fault is not None and fault.kind in {"answer", "drop"} and not fault.effect
        if fault is not None and fault.kind == "altered":
            done = self.partner.altered(came.reading, came.number, fault)
        else:
            done = Done(Answer(fault.status if fault else 500)) if silent else self.partner.apply(came.reading, came.number)
        if fault is not None and fault.kind == "answer":
            done = replace(done, answer=answers.instead(fault, done.answer, self.partner), issues=_issues(fault))
        status = None if fault is not None and fault.kind == "drop" else done.answer.status
        self.effects.write(self._line(came, done, status, fault))
        return done

    def tell(self, name: str, details: Mapping[str, Any]) -> None:
        """An order of the partner's own."""
        note = self.partner.order(name, details)
        now = time.time()
        self.effects.write(Effect(self.effects.number(), now, now, 0, "order", NOTHING, fault=name, token=note or None))

    def _line(self, came: Came, done: Done, status: int | None, fault: Rule | None) -> Effect:
        reading = came.reading
        sent = self.partner.sent(reading)
        return Effect(
            number=came.number,
            time=time.time(),
            received=came.received,
            connection=came.connection,
            operation=reading.operation,
            effect=done.effect,
            api=reading.api,
            method=came.request.method,
            path=came.request.path,
            query=came.request.query or None,
            status=status,
            issues=done.issues,
            fault=fault.name if fault else None,
            request_id=reading.request_id,
            identifier=sent.identifier,
            system=sent.system,
            partner_id=done.partner_id,
            bundle_id=sent.bundle_id,
            bundle_sha256=reading.sha256,
            message_header_id=sent.message_header_id,
            patient=done.patient,
            written=done.written,
            clock=done.clock,
            token=done.token,
        )

    def _note(self, operation: str, connection: int, fault: str, status: int | None = None) -> None:
        """A line for what never became a request."""
        now = time.time()
        self.effects.write(Effect(self.effects.number(), now, now, connection, operation, NOTHING, fault=fault, status=status))


async def _refuse_tls(sock: socket.socket, fault: Rule) -> None:
    """End it after the ClientHello: earlier, some clients would see a connection that was never made, others a handshake that failed."""
    with sock, contextlib.suppress(*GONE):
        if fault.reset:
            answers.reset_on_close(sock)
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await asyncio.get_running_loop().sock_recv(sock, LONGEST_HEAD)


def _issues(fault: Rule) -> tuple[str, ...]:
    return (fault.issue,) if fault.body == "outcome" else ()


def _listener(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    except OSError as error:
        sock.close()
        raise SettingsError(f"cannot listen ({error.strerror}); choose another --port", where=f"{address}:{port}") from None
    return sock
