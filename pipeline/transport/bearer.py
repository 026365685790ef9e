"""A transport that says who we are: it adds `Authorization: Bearer …`, and on a 401 sends once more with another token.

A 401 is an answer: the partner did nothing, so sending again does it once. A second 401 is the partner's word and goes to its verdict
table. Waiting for a token counts: request, token and resend end within the request's own deadline, which the intent in the ledger names.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pipeline.errors import NotSent
from pipeline.model import Reply, Request
from pipeline.transport.port import Tokens, Transport
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
        end = self._clock() + request.timeouts.total
        token = self._tokens.current(self._spare(request, end))
        reply = self._sent(request, token, end)
        if reply.status != UNAUTHORIZED:
            return reply
        other = self._tokens.instead_of(token, self._spare(request, end))
        return reply if other is None else self._sent(request, other, end)

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

    def _sent(self, request: Request, token: str, end: float) -> Reply:
        left = end - self._clock()
        if left < _needed(request):
            raise NotSent(
                Reason.NOT_SENT_TOKEN, "a token came, and too late for this request's deadline: the next attempt has it"
            )
        headers = (*request.headers, ("Authorization", Masked(f"Bearer {token}")))
        return self._inner.exchange(replace(request, headers=headers, timeouts=replace(request.timeouts, total=left)))


def _needed(request: Request) -> float:
    return min(request.timeouts.read, request.timeouts.total * SHARE)
