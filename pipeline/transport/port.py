"""What a transport does: one request, one answer or the plain word that there is none. It retries nothing by itself."""

from typing import Protocol

from pipeline.errors import NoAnswer
from pipeline.model import OpenEnd, Reply, Request
from schemas.outcomes import Reason


class Unanswered(NoAnswer):
    """Of a create: no answer came within its time, nothing of one was heard, and the connection is open still."""

    def __init__(self, end: OpenEnd) -> None:
        """`end` is for whoever catches this to read or to close."""
        super().__init__(Reason.TIMEOUT)
        self.end = end


class Transport(Protocol):
    """A partner's connection pool: base URL, TLS, secrets, caps."""

    def exchange(self, request: Request) -> Reply:
        """Send it once.

        NotSent: nothing left this machine (DNS, connect, TLS handshake, our certificate, pool).
        NoAnswer: bytes left and no whole answer came within the time-outs and the body cap. Unanswered: see there.
        """
        ...

    def knock(self) -> None:
        """See Knock."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Knock(Protocol):
    """A harmless request, without credentials and of no patient: whether the partner speaks HTTP with us at all."""

    def __call__(self) -> None:
        """Return where any answer came, whatever its status: TLS and our certificate are fine. Else NotSent, NoAnswer as above."""
        ...


class Tokens(Protocol):
    """Access tokens for a partner, got and renewed by whoever implements this. No token is in an error."""

    def current(self, patience: float) -> str:
        """One that is good now, waited for `patience` seconds at most. NotSent where there is none to be had, in time or at all."""
        ...

    def instead_of(self, refused: str, patience: float) -> str | None:
        """Another one than that which the partner just refused; None where there is no other. NotSent as above."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
