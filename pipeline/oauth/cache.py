"""One partner's access token in this process: who asks gets one that is good; one refresh at a time, whoever and however many ask.

    alive, not due     handed out
    alive, due         handed out; a refresh begins beside, and nobody waits for it. Where it fails the old one serves until its end
    ended, or refused  a refresh begins, or is under way: who asks waits for it, as long as his own deadline allows; all share its outcome

Times are the monotonic clock's, counted from before the request, so a token counts as older than it is. After a failure there is a
pause, in which who asks hears the same failure at once. No log line, error or repr shows a token.
"""

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from pipeline.errors import NotSent, place_of
from pipeline.oauth.granted import Granted, NoToken
from pipeline.telemetry import LogEvent, log
from schemas.outcomes import Reason

ASSUMED: Final = 300.0
"""Seconds after which a token is renewed whose life nobody told (RFC 6749 section 5.1 only recommends expires_in). It serves on until refused."""
LONGEST: Final = 86_400.0
"""Seconds after which any token is renewed, whatever it says of its life."""
TRANSIT: Final = 2.0
"""Seconds before its end that a token is not handed out any more: it has to be good when it arrives."""
PAUSE_FIRST, PAUSE_MOST = 1.0, 30.0
"""Seconds between refreshes that fail: doubled, with jitter."""
OBEYED: Final = 300.0
"""The longest Retry-After of an authorization server that is obeyed."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token with its times."""

    value: str = field(repr=False)
    due: float
    until: float


def timed(granted: Granted, began: float, early: float) -> Token:
    """When it is to be renewed, and when it is not used any more."""
    life = granted.lifetime
    if life is None:
        return Token(granted.access_token, began + ASSUMED, math.inf)
    due = min(life - min(early, life / 4), LONGEST)
    return Token(granted.access_token, began + due, began + life - min(TRANSIT, life / 10))


def in_a_thread(work: Callable[[], None]) -> None:
    """A refresh belongs to nobody: no caller's deadline cuts it, and none waits longer for it than he can."""
    threading.Thread(target=work, name="token-refresh", daemon=True).start()


class Fetch(Protocol):
    """Asks the authorization server."""

    def __call__(self) -> Granted:
        """Once. NotSent where it gives no token."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class TokenCache:
    """See the module. Implements transport/port.py (Tokens); for any number of threads."""

    def __init__(
        self,
        partner: str,
        fetch: Fetch,
        early: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        start: Callable[[Callable[[], None]], None] = in_a_thread,
    ) -> None:
        """`early`: seconds before its end that a token is renewed."""
        self._partner, self._fetch, self._early = partner, fetch, early
        self._clock, self._jitter, self._start = clock, jitter, start
        self._changed = threading.Condition()
        self._token: Token | None = None
        self._running = False
        self._ended = 0
        """Refreshes that have ended."""
        self._failure: NotSent | None = None
        """Of the last refresh; None where it gave a token."""
        self._failures = 0
        """In a row."""
        self._again = -math.inf
        """No refresh begins before."""
        self._said = False
        """It is in the log that the token is not renewed."""

    def current(self, patience: float) -> str:
        """See Tokens."""
        with self._changed:
            token = self._token
            if token is None or not self._alive(token):
                return self._awaited(patience)
            if self._clock() >= token.due:
                self._begin()
            return token.value

    def at_hand(self) -> bool:
        """See Tokens."""
        with self._changed:
            return self._token is not None and self._alive(self._token)

    def instead_of(self, refused: str, patience: float) -> str | None:
        """See Tokens. Who comes with one that was replaced already gets the new one at once."""
        with self._changed:
            if self._token is not None and self._token.value == refused:
                self._token = None
            token = self._token
            value = token.value if token is not None and self._alive(token) else self._awaited(patience)
            return None if value == refused else value

    def close(self) -> None:
        """Let go of connections."""
        self._fetch.close()

    def _alive(self, token: Token) -> bool:
        return self._clock() < token.until

    def _awaited(self, patience: float) -> str:
        """The outcome of the refresh that is under way, or of one that begins now."""
        end, seen, old = self._clock() + patience, self._ended, self._token
        while True:
            token = self._token
            # what came while we waited is the freshest there is, even where its life is over already
            if token is not None and (self._alive(token) or token is not old):
                return token.value
            if self._failure is not None and (self._ended != seen or self._clock() < self._again):
                raise NotSent(self._failure.reason, self._failure.message)
            self._begin()
            left = end - self._clock()
            if self._running and left <= 0:
                raise NoToken(Reason.NOT_SENT_TOKEN, "the authorization server has not answered yet")
            if self._running:
                self._changed.wait(left)

    def _begin(self) -> None:
        if self._running or self._clock() < self._again:
            return
        self._running = True
        try:
            self._start(self._refresh)
        except RuntimeError:  # no thread to be had
            self._failed(NoToken(Reason.NOT_SENT_TOKEN, "this process cannot start another thread"))

    def _refresh(self) -> None:
        """The one refresh. Whatever happens in it is its outcome: who waits is never forgotten."""
        began = self._clock()
        try:
            granted = self._fetch()
        except NotSent as error:
            with self._changed:
                self._failed(error)
        except Exception as error:  # noqa: BLE001 - its text may hold a token; the waiting ones have to hear of it
            with self._changed:
                self._failed(NoToken(Reason.NOT_SENT_TOKEN, f"a defect of ours: {type(error).__name__} at {place_of(error)}"))
        else:
            with self._changed:
                self._came(timed(granted, began, self._early))

    def _came(self, token: Token) -> None:
        self._token, self._failure, self._failures, self._again = token, None, 0, -math.inf
        self._end()
        if self._said:
            self._said = False
            log(LogEvent.TOKEN_RENEWED, partner=self._partner)

    def _failed(self, error: NotSent) -> None:
        self._failure, self._failures = error, self._failures + 1
        pause = min(PAUSE_MOST, PAUSE_FIRST * 2.0 ** min(self._failures - 1, 16)) * (1 + self._jitter()) / 2
        asked = getattr(error, "retry_after", None) or 0.0
        self._again = self._clock() + max(pause, min(asked, OBEYED))
        self._end()
        if not self._said:
            self._said = True
            log(
                LogEvent.TOKEN_NOT_RENEWED,
                partner=self._partner,
                reason=error.reason,
                why=error.message,
                do=_what_to_do(error.reason),
            )

    def _end(self) -> None:
        self._running = False
        self._ended += 1
        self._changed.notify_all()


def _what_to_do(reason: Reason) -> str:
    if reason is Reason.LOGIN_NEEDED:
        return "emr-pipeline login PARTNER; nothing is lost"
    if reason is Reason.REFUSED_TOKEN:
        return "emr-pipeline doctor, mend the partner's oauth settings or ask the partner; nothing is lost"
    return "emr-pipeline doctor; it is tried again, nothing is lost"
