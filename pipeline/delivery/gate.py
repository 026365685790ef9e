"""What all routes of a partner know of it together: whether a message may go now. A breaker, and a throttle, with one trial at a time.

`ask` before each attempt; 0.0 is the leave to send, and each leave ends in one `told` or one `back` of the same caller. It never waits
and never sends a message; only the `knock` that is handed in does I/O, outside of the lock. What changes is news (news.py); a retry is none.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pipeline.delivery.news import Change, News
from pipeline.delivery.trouble import LOUD, OVER, SUSPECT, SUSPECT_ALONE, Trouble, what_to_do
from pipeline.errors import NoAnswer, NotSent
from pipeline.health import NotReady
from pipeline.model import Decision
from pipeline.settings import BreakerSettings
from pipeline.stages.send import NOBODYS_MESSAGE
from pipeline.transport.port import Knock
from schemas.outcomes import Reason


class GateState(StrEnum):
    """Who may go."""

    CLOSED = "closed"
    """All."""
    THROTTLED = "throttled"
    """None, until the time that the partner asked for."""
    OPEN = "open"
    """None, until a pause is over."""
    HALF_OPEN = "half_open"
    """One is on its way to find out; the others wait for it."""


TROUBLE: Final = {
    Decision.FAILED: Trouble.AWAY,
    Decision.UNKNOWN: Trouble.AWAY,
    Decision.THROTTLED: Trouble.THROTTLED,
    Decision.HALTED: Trouble.HALTED,
}
"""What a verdict says of the partner. Any other came from a partner that is there, what it thinks of the message aside."""
WELL: Final = frozenset({(Decision.UNKNOWN, Reason.AWAITING_PROBE)})
"""Accepted, not done yet: unknown, and still the word of a partner that is there."""
NOT_READY: Final = {Trouble.AWAY: NotReady.PARTNER_AWAY, Trouble.HALTED: NotReady.ROUTE_HALTED}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a gate stands, at one moment: for /readyz and the metrics."""

    state: GateState
    trouble: Trouble
    reason: Reason | None
    seconds: float
    """Until the next trial; 0.0 where none waits for the clock."""
    served: int
    """How often the partner has answered somebody well."""

    @property
    def not_ready(self) -> NotReady | None:
        """What the partner's routes are not ready for; None where they are, or where waiting as told is all there is to do."""
        return NOT_READY.get(self.trouble)


class Gate:
    """See the module. For any number of threads.

    A caller is known by `by`: anything hashable that is in flight once towards this partner, as route and position (two routes may read one
    topic); else the calling thread, and then ask, the sending and told have to happen on the same one. Verdicts of attempts that began before the gate shut tell nothing of now:
    of them only HALTED, THROTTLED and `suspect` count, and only while it is shut.
    """

    def __init__(
        self,
        partner: str,
        settings: BreakerSettings,
        *,
        knock: Knock | None = None,
        certified: bool = True,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`knock`: see transport/port.py; `certified`: whether we show a client certificate, which it may refuse; `clock` gives seconds, `jitter` 0.0 to 1.0."""
        self._settings = settings
        self._knock, self._clock, self._jitter = knock, clock, jitter
        self._certified = certified
        self._news = News(partner, clock=clock)
        self._lock = threading.Lock()
        self._state, self._trouble = GateState.CLOSED, Trouble.NONE
        self._reason: Reason | None = None
        self._do: str | None = None
        """What a person does about it."""
        self._suspect = False
        """The next trial is a knock."""
        self._until = 0.0
        self._trips = 0
        """How often it has shut since it was last closed: what the pause doubles by."""
        self._epoch = 0
        """How often it has shut from closed: attempts of an earlier epoch are late."""
        self._leaves: dict[Hashable, int] = {}
        """Who has leave, and of which epoch."""
        self._trial: Hashable | None = None
        self._in_a_row = 0
        self._served = 0
        self._window: deque[bool] = deque(maxlen=settings.window)

    def ask(self, by: Hashable | None = None) -> float:
        """0.0: go. Else the seconds until it is worth asking again. A caller that has leave already gets it again."""
        by = _name(by)
        with self._lock:
            self._news.look()
            wait = self._wait(by)
            knock = self._knock if wait <= 0 and self._suspect and self._trial == by else None
        return wait if knock is None else self._knocked(knock, by)

    def told(
        self,
        decision: Decision,
        reason: Reason | None,
        *,
        retry_after: float | None = None,
        suspect: bool = False,
        by: Hashable | None = None,
    ) -> None:
        """Hear a verdict. `retry_after` is the partner's word (seconds), which counts where it throttles; `suspect`: see Verdict."""
        by = _name(by)
        trouble = Trouble.NONE if (decision, reason) in WELL else TROUBLE.get(decision, Trouble.NONE)
        with self._lock:
            self._served += trouble is Trouble.NONE
            late = self._leaves.pop(by, self._epoch) != self._epoch
            if self._trial is not None and self._trial == by:
                self._after_trial(trouble, reason, retry_after, suspect=suspect)
            elif self._state is GateState.CLOSED:
                self._while_closed(trouble, reason, retry_after, suspect=suspect, late=late)
            else:
                self._while_shut(trouble, reason, retry_after, suspect=suspect)

    def back(self, by: Hashable | None = None) -> None:
        """The caller that had leave did not send after all: the next one that asks may try instead."""
        by = _name(by)
        with self._lock:
            self._leaves.pop(by, None)
            if self._trial is not None and self._trial == by:
                self._trial = None
                self._state = _shut_state(self._trouble)

    def look(self) -> None:
        """Say what is due of how it stands; `ask` does that too."""
        with self._lock:
            self._news.look()

    @property
    def state(self) -> GateState:
        """Who may go, now."""
        return self.standing.state

    @property
    def standing(self) -> Standing:
        """State, trouble and reason of one moment."""
        with self._lock:
            shut = self._state in {GateState.OPEN, GateState.THROTTLED}
            seconds = max(self._until - self._clock(), 0.0) if shut else 0.0
            return Standing(self._state, self._trouble, self._reason, seconds, self._served)

    def _wait(self, by: Hashable) -> float:
        if self._state is not GateState.CLOSED:
            if self._trial is not None:
                return 0.0 if self._trial == by else self._settings.open_first
            if (left := self._until - self._clock()) > 0:
                return left
            self._trial, self._state = by, GateState.HALF_OPEN
        self._leaves[by] = self._epoch
        return 0.0

    def _knocked(self, knock: Knock, by: Hashable) -> float:
        """The trial as a harmless request; where it is answered, one message is the next trial, and it is this caller's."""
        try:
            knock()
        except (NotSent, NoAnswer) as error:
            refused = error.reason in NOBODYS_MESSAGE
            self.told(Decision.HALTED if refused else Decision.FAILED, error.reason, by=by)
            return self.standing.seconds or self._settings.open_first
        except BaseException:
            self.back(by)
            raise
        with self._lock:
            self._suspect = self._suspect and self._trial != by
        return 0.0

    def _after_trial(self, trouble: Trouble, reason: Reason | None, retry_after: float | None, *, suspect: bool) -> None:
        if trouble is Trouble.NONE:
            self._close()
        else:
            self._shut(trouble, reason, retry_after, suspect=suspect)

    def _while_closed(
        self, trouble: Trouble, reason: Reason | None, retry_after: float | None, *, suspect: bool, late: bool
    ) -> None:
        if late and trouble is not Trouble.THROTTLED:
            return
        match trouble:
            case Trouble.NONE:
                self._in_a_row = 0
                self._window.append(False)
                return
            case Trouble.AWAY:
                self._in_a_row += 1
                self._window.append(True)
                if not suspect and self._in_a_row < self._settings.failures and not self._too_many():
                    return
        self._epoch += 1
        self._shut(trouble, reason, retry_after, suspect=suspect)

    def _while_shut(self, trouble: Trouble, reason: Reason | None, retry_after: float | None, *, suspect: bool) -> None:
        """A late word: the partner may ask for more patience, or refuse us as a whole. It ends no trial and counts as none."""
        self._suspect = self._suspect or suspect
        if trouble is Trouble.THROTTLED and retry_after is not None and self._state is not GateState.HALF_OPEN:
            self._until = max(self._until, self._clock() + self._pause(trouble, retry_after))
        if trouble is Trouble.HALTED and self._trouble is not Trouble.HALTED:
            if self._state is GateState.HALF_OPEN:
                self._say(trouble, reason)
            else:
                self._shut(trouble, reason, retry_after, suspect=suspect)

    def _too_many(self) -> bool:
        whole = len(self._window) == self._settings.window
        return whole and sum(self._window) >= self._settings.ratio * self._settings.window

    def _shut(self, trouble: Trouble, reason: Reason | None, retry_after: float | None, *, suspect: bool) -> None:
        self._trips += 1
        self._trial, self._state = None, _shut_state(trouble)
        self._until = self._clock() + self._pause(trouble, retry_after)
        self._suspect = self._suspect or suspect
        self._say(trouble, reason)

    def _close(self) -> None:
        self._trial, self._state = None, GateState.CLOSED
        self._suspect, self._trips, self._in_a_row = False, 0, 0
        self._window.clear()
        self._say(Trouble.NONE, None)

    def _pause(self, trouble: Trouble, retry_after: float | None) -> float:
        """Doubling with jitter; as long as a partner asks that throttles; the longest for one that refuses us: waiting does not mend it."""
        settings = self._settings
        ceiling = min(settings.open_most, settings.open_first * 2.0 ** min(max(self._trips, 1) - 1, 16))
        if trouble is Trouble.HALTED:
            return settings.open_most
        if trouble is Trouble.THROTTLED and retry_after is not None and retry_after >= 0:
            return max(min(retry_after, settings.retry_after_most), settings.open_first)
        return ceiling * (1 + self._jitter()) / 2

    def _say(self, trouble: Trouble, reason: Reason | None) -> None:
        was, self._trouble, self._reason = self._trouble, trouble, reason
        if trouble is Trouble.NONE:
            if was is not Trouble.NONE:
                self._news.changed(Change(OVER[was]))
            self._do = None
            return
        told, self._do = self._do, what_to_do(trouble, reason, suspect=self._suspect, certified=self._certified)
        if trouble is not was or (self._do != told and (trouble is Trouble.HALTED or self._do in {SUSPECT, SUSPECT_ALONE})):
            self._news.changed(Change(LOUD[trouble], reason, self._do))


def _name(by: Hashable | None) -> Hashable:
    return threading.get_ident() if by is None else by


def _shut_state(trouble: Trouble) -> GateState:
    return GateState.THROTTLED if trouble is Trouble.THROTTLED else GateState.OPEN
