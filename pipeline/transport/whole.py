"""A request towards a transport that cannot part sending from reading: it counts as sent when its answer is asked for. No I/O of its own."""

from functools import cache
from types import TracebackType
from typing import Final, Self, TypeGuard

from pipeline.model import Reply, Request
from pipeline.transport.port import InAir, Splits, Transport


def started(transport: Transport, request: Request) -> InAir:
    """In the air, where the transport can leave it there."""
    return transport.start(request) if _splits(transport) else _Whole(transport, request)


def at_hand(transport: Transport) -> bool:
    """Whether a request would leave at once."""
    return not _splits(transport) or transport.at_hand()


def _splits(transport: Transport) -> TypeGuard[Splits]:
    return _kind_splits(type(transport))


@cache
def _kind_splits(kind: type[Transport]) -> bool:
    """Asked of each request, three times; Python compares all of a protocol's methods each time."""
    return issubclass(kind, Splits)


class _Whole:
    """Implements transport/port.py (InAir)."""

    fileno: Final = None
    deadline: Final = 0.0

    def __init__(self, transport: Transport, request: Request) -> None:
        self._transport, self._request = transport, request

    def wait(self, _: float) -> bool:
        """See InAir."""
        return True

    def at_once(self) -> bool:
        """See InAir."""
        return False

    def says(self) -> int | None:
        """See InAir."""
        return None

    def came(self, at: float) -> None:
        """See InAir."""

    def finish(self) -> Reply:
        """See InAir."""
        return self._transport.exchange(self._request)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        """Nothing is open."""
