"""The sending side of MLLP: one message, its acknowledgement, the next. It retries nothing: whether to send again is its caller's decision.

No error here carries a value of a message or of an answer.
"""

import contextlib
import socket
import ssl
import time
from types import TracebackType
from typing import Final, Self

from pipeline.errors import NotSent, PipelineError
from pipeline.hl7.ack import Acknowledgement, Header, read_acknowledgement, read_header
from pipeline.hl7.mllp import Frame, Framer, frame
from pipeline.listen.address import Address
from schemas.outcomes import Reason

_MOST_ANSWER: Final = 1024 * 1024
SILENCE_SECONDS: Final = 2.0
"""How long to wait for the answer of a message that wants one only if it fails (MSH-15 ER)."""


class NotAcknowledged(PipelineError):
    """The message left, and no acknowledgement of it came: whether the receiver has it is not known."""


class MllpClient:
    """One connection. NotSent where it does not come about: nothing has left then."""

    def __init__(
        self, address: Address, *, tls: ssl.SSLContext | None = None, server_name: str | None = None, timeout: float = 30.0
    ) -> None:
        """`timeout`: seconds for the connection, and for each acknowledgement."""
        self._timeout = timeout
        self._framer = Framer(_MOST_ANSWER)
        self._came: list[bytes] = []
        with contextlib.ExitStack() as undo:
            try:
                self._socket = undo.enter_context(socket.create_connection(address, timeout=timeout))
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if tls is not None:
                    self._socket = undo.enter_context(tls.wrap_socket(self._socket, server_hostname=server_name or address.host))
            except socket.gaierror:
                raise NotSent(Reason.NOT_SENT_DNS, f"the host name of {address} does not resolve") from None
            except ssl.SSLError as error:
                what = getattr(error, "verify_message", None) or (error.reason or "failed").lower().replace("_", " ")
                raise NotSent(Reason.NOT_SENT_TLS, f"the TLS handshake with {address} failed ({what})") from None
            except OSError as error:
                raise NotSent(Reason.NOT_SENT_CONNECT, f"no connection to {address} ({error.strerror or 'timed out'})") from None
            undo.pop_all()

    def send(self, message: bytes) -> Acknowledgement | None:
        """Send one message and wait for its acknowledgement; None where it asks for none and so got none (MSH-15).

        NotAcknowledged where none came in time, the connection closed, or what came does not fit; the connection is of no more use then.
        """
        header = read_header(message)
        try:
            self._socket.sendall(frame(message))
            if header is not None and not _answers(header):
                return None
            return self._matching(header)
        except TimeoutError:
            if header is not None and not header.wants(accepted=True):
                return None  # silence is what an accepted one gets
            raise NotAcknowledged(f"no acknowledgement within {self._timeout:g} s") from None
        except OSError as error:
            reason = error.strerror or getattr(error, "reason", None) or "broken"
            raise NotAcknowledged(f"the connection broke before the acknowledgement ({reason})") from None

    def close(self) -> None:
        """Let go of the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _matching(self, header: Header | None) -> Acknowledgement:
        silent = header is not None and not header.wants(accepted=True)
        answer = self._receive(SILENCE_SECONDS if silent else self._timeout)
        acknowledgement = read_acknowledgement(answer)
        if acknowledgement is None:
            raise NotAcknowledged("the answer is no acknowledgement (no MSH, or no MSA with a known code)")
        if header is not None and acknowledgement.control_id not in {header[10].strip(), ""}:
            raise NotAcknowledged("the acknowledgement is of another message (MSA-2 is not our MSH-10)")
        return acknowledgement

    def _receive(self, seconds: float) -> bytes:
        until = time.monotonic() + seconds
        while not self._came:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            data = self._socket.recv(65536)
            if not data:
                raise NotAcknowledged("the receiver closed the connection without an acknowledgement")
            self._came += [item.content for item in self._framer.feed(data) if isinstance(item, Frame)]
        self._socket.settimeout(self._timeout)
        return self._came.pop(0)


def _answers(header: Header) -> bool:
    """Whether any outcome of the message is answered."""
    return header.wants(accepted=True) or header.wants(accepted=False)
