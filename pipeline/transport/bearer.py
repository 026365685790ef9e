"""A transport that says who we are: it adds `Authorization: Bearer …`, and on a 401 sends once more with another token.

A 401 is an answer: the partner did nothing, so sending again does it once. A second 401 is the partner's word and goes to its verdict
table. Waiting for a token counts: request, token and resend end within the request's own deadline, which the intent in the ledger names.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from pipeline.errors import NotSent
from pipeline.model import Reply, Request
from pipeline.transport.port import InAir, Tokens, Transport
from pipeline.transport.whole import at_hand, started
from schemas.outcomes import Reason

UNAUTHORIZED: Final = 401
SHARE: Final = 0.75
"""Of the deadline, at most: what must be left of it for the partner to answer in, else nothing is sent."""


class Masked(str):
    """A secret in a header: what http.client sends is the text, what a repr or a traceback shows is not."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


class BearerTransport:
    """See the module. Implements transport/port.py around another transport; as safe for threads as that and the tokens are."""

    def __init__(self, inner: Transport, tokens: Tokens, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is monotonic, in seconds."""
        self._inner, self._tokens, self._clock = inner, tokens, clock

    def exchange(self, request: Request) -> Reply:
        """Send it once, and once more where the token was refused.

        NotSent also where no token is to be had, or not in time: then nothing has left, or the partner has refused to do what has.
        """
        return self.start(request).finish()

    def at_hand(self) -> bool:
        """See Splits."""
        return self._tokens.at_hand() and at_hand(self._inner)

    def start(self, request: Request) -> "_Asked":
        """See Splits. The resend, which is rare, is waited for in `finish`."""
        end = self._clock() + request.timeouts.total
        token = self._tokens.current(self._spare(request, end))
        return _Asked(self._sent(request, token, end), lambda: self._again(request, token, end))

    def _again(self, request: Request, token: str, end: float) -> Reply | None:
        """With another token; None where there is none."""
        other = self._tokens.instead_of(token, self._spare(request, end))
        return None if other is None else self._sent(request, other, end).finish()

    def knock(self) -> None:
        """See Knock: without a token."""
        self._inner.knock()

    def close(self) -> None:
        """Let go of connections."""
        self._inner.close()
        self._tokens.close()

    def _spare(self, request: Request, end: float) -> float:
        """Seconds of the deadline that the partner does not need."""
        return max(end - self._clock() - _needed(request), 0.0)

    def _sent(self, request: Request, token: str, end: float) -> InAir:
        left = end - self._clock()
        if left < _needed(request):
            raise NotSent(
                Reason.NOT_SENT_TOKEN, "a token came, and too late for this request's deadline: the next attempt has it"
            )
        headers = (*request.headers, ("Authorization", Masked(f"Bearer {token}")))
        return started(self._inner, replace(request, headers=headers, timeouts=replace(request.timeouts, total=left)))


class _Asked:
    """Implements transport/port.py (InAir): with a token, and if that is refused with another one."""

    def __init__(self, first: InAir, again: Callable[[], Reply | None]) -> None:
        self._first, self._again = first, again
        self.fileno, self.deadline = first.fileno, first.deadline
        self.wait, self.came, self.says = first.wait, first.came, first.says

    def at_once(self) -> bool:
        """See InAir. What is refused is asked again."""
        return self._first.at_once() and self._first.says() != UNAUTHORIZED

    def finish(self) -> Reply:
        """See InAir."""
        reply = self._first.finish()
        return reply if reply.status != UNAUTHORIZED else self._again() or reply

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        self._first.__exit__(kind, error, trace)


def _needed(request: Request) -> float:
    return min(request.timeouts.read, request.timeouts.total * SHARE)
