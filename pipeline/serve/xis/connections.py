"""Connections as uvicorn has them, with what it leaves out: time-outs of a request, a most of connections, and refusals that are FHIR.

Nothing of what a client sent is looked at here, nor written anywhere. Used on the server's one event loop only.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from pipeline.serve.xis.faults import Kind
from pipeline.serve.xis.service import Told

LARGEST_HEAD: Final = 64 * 1024
"""Bytes of a request line and its headers."""
LINGER: Final = 1.0
"""Seconds for what a refused client is still sending: an end in the middle of it would reset the connection, and the answer might be lost."""
HEAD_TOO_LARGE: Final = (Kind.HEAD_TOO_LARGE, f"the request line and headers have more than {LARGEST_HEAD} bytes")
Refused = Callable[[Kind, str], Told]
"""Service.refused."""


@dataclass(frozen=True, slots=True)
class Patience:
    """With one client, and with all."""

    head_seconds: float
    """For the head of a request: from the connection's begin, or from the first byte of a later one."""
    request_seconds: float
    """From there until the answer has been taken."""
    connections: int


PATIENCE: Final = Patience(head_seconds=10, request_seconds=60, connections=500)


class Guarded(H11Protocol):
    """A connection that ends by itself: whoever sends or takes too slowly is cut off."""

    def __init__(self, *args: Any, patience: Patience, refused: Refused, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **kwargs)
        self._patience, self._refused = patience, refused
        self._until: asyncio.TimerHandle | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """It begins."""
        super().connection_made(transport)
        if len(self.connections) > self._patience.connections:
            self._send(self._refused(Kind.FULL, "as many clients are being served as can be"))
            return
        self._within(self._patience.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Bytes came: the first ones of a request begin its time."""
        if self._ended:
            return
        if self._until is None:
            self._within(self._patience.head_seconds)
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before and not self.cycle.response_complete:
            self._within(self._patience.request_seconds)

    def on_response_complete(self) -> None:
        """The answer is handed over; until the client has taken it, its time runs on."""
        if not self.transport.get_write_buffer_size():
            self._at_ease()
        before = self.cycle
        super().on_response_complete()
        if self.cycle is not before:  # the next request was there already
            self._within(self._patience.request_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended."""
        self._at_ease()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """What came is no request."""
        large = len(self.conn.trailing_data[0]) > LARGEST_HEAD
        if self.cycle is not None:
            self.cycle.disconnected = True  # nobody is there any more for what it would still say
        if large:
            self._send(self._refused(*HEAD_TOO_LARGE))
        else:
            self._send(self._refused(Kind.NO_HTTP, "this is no HTTP/1.1 request"))

    def _send(self, told: Told) -> None:
        """An answer, and the end. Not where one is being sent: the connection ends in the middle of it, as it has to."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            headers = [*told.headers.items(), ("Content-Length", str(len(told.body))), ("Connection", "close")]
            answer = h11.Response(status_code=told.status, headers=headers, reason=STATUS_PHRASES[told.status])
            for event in (answer, h11.Data(data=told.body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._ended = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._until_over(LINGER, self.transport.close)

    def _within(self, seconds: float) -> None:
        self._until_over(seconds, self.transport.abort)

    def _until_over(self, seconds: float, then: Callable[[], None]) -> None:
        self._at_ease()
        self._until = self.loop.call_later(seconds, then)

    def _at_ease(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None
