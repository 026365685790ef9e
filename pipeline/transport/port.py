"""What a transport does: one request, one answer or the plain word that there is none. It retries nothing by itself."""

from collections.abc import Generator
from enum import Enum, auto
from types import TracebackType
from typing import Protocol, Self, TypeVar, runtime_checkable

from pipeline.errors import NoAnswer
from pipeline.model import OpenEnd, Reply, Request
from schemas.outcomes import Reason


class Unanswered(NoAnswer):
    """Of a create: no answer came within its time, nothing of one was heard, and the connection is open still."""

    def __init__(self, end: OpenEnd) -> None:
        """`end` is for whoever catches this to read or to close."""
        super().__init__(Reason.TIMEOUT)
        self.end = end


T_co = TypeVar("T_co", covariant=True)


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


class InAir(Protocol):
    """A request that has left, and whose answer is still to be read: nobody needs to sit by it. Left without `finish`, its connection is closed."""

    @property
    def fileno(self) -> int | None:
        """What becomes readable when something comes; None: there is nothing to watch, `finish` waits itself."""
        ...

    @property
    def deadline(self) -> float:
        """time.monotonic() when waiting for a first word is over."""
        ...

    def wait(self, seconds: float) -> bool:
        """Whether something of the answer is there to be read, waited for so long. No two threads at once."""
        ...

    def at_once(self) -> bool:
        """Whether `finish` waits for nobody: the whole answer is there, or its end."""
        ...

    def says(self) -> int | None:
        """The status of what is there, where it is there."""
        ...

    def came(self, at: float) -> None:
        """It was seen to be readable at `at` (monotonic), as `wait` notes by itself: from then until `finish` is our time, and not the partner's."""
        ...

    def finish(self) -> Reply:
        """The answer, as `Transport.exchange` has it: Reply, NotSent, NoAnswer. Any thread, once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None: ...


@runtime_checkable
class Splits(Protocol):
    """A transport whose exchange comes in two parts, so that no thread is needed for the time between."""

    def at_hand(self) -> bool:
        """Whether a connection is there, so that a request would leave at once. Another thread may take it first."""
        ...

    def start(self, request: Request) -> InAir:
        """Connect, shake hands and send. NotSent, NoAnswer: as `exchange`."""
        ...


class Pause(Enum):
    """Why work stops for a moment."""

    TOGETHER = auto()
    """It has asked for something that costs as much for one as for many: whoever goes on with it may bring others as far first."""
    APART = auto()
    """What follows may take long: nothing else should wait for it on the same thread."""


Flight = Generator[InAir | Pause, None, T_co]
"""Work that stops where a request is in the air, and is gone on with (by any thread) when something came or its deadline is over."""


def landed(flight: Flight[T_co]) -> T_co:
    """What comes out of it, waited for here."""
    while True:
        try:
            next(flight)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return] # what the generator returns


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

    def at_hand(self) -> bool:
        """Whether `current` would wait for nobody."""
        ...

    def instead_of(self, refused: str, patience: float) -> str | None:
        """Another one than that which the partner just refused; None where there is no other. NotSent as above."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
