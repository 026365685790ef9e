"""Stops a route that parks message after message for what looks like one cause, instead of parking the hospital (RELIABILITY section 1).

`ask` before a message is taken up; 0.0 is the leave. While it stands, one message per pause may try, and one that is delivered ends it.
It knows nothing of threads but its lock, waits for nothing, and logs a line when the route stops and one when it goes on.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Final

from pipeline.settings import FloodSettings
from pipeline.telemetry import LogEvent, log
from schemas.outcomes import Reason, State

COMMON: Final = frozenset(
    {
        # the sender, or what stands between: a release of the HIS, another character set, another format
        Reason.NOT_HL7,
        Reason.TOO_LARGE,
        Reason.CHARSET,
        Reason.STRUCTURE,
        Reason.EVENT_MISSING,
        Reason.EVENT_UNLISTED,
        Reason.PATIENT_MISSING,
        Reason.SEVERAL_PATIENTS,
        Reason.SEVERAL_RESULTS,
        Reason.SEVERAL_APPOINTMENTS,
        Reason.RESULT_STATUS_MIXED,
        # ours: a template, a table, a change of the program
        Reason.DEFECT,
        Reason.MAPPING_FAILED,
        Reason.MAPPING_DEADLINE,
        Reason.FHIR_INVALID,
        Reason.PROFILE_REQUIRED,
        Reason.PROFILE_INVALID,
        Reason.IDENTIFIER_SYSTEM,
        Reason.NUMBER_MISSING,
        Reason.TIME_MISSING,
        Reason.FACILITY_NOT_MAPPED,
        Reason.PAYOR_NOT_MAPPED,
        # the partner's word: its version, its profile, its data as a whole; identities that nobody imported
        Reason.REFUSED_LABEL,
        Reason.REJECTED_REQUIRED,
        Reason.REJECTED_STRUCTURE,
        Reason.REJECTED_INVALID,
        Reason.REJECTED_TOO_LONG,
        Reason.REJECTED_NOT_SUPPORTED,
        Reason.REJECTED_DUPLICATE,
        Reason.REJECTED_NOT_FOUND,
        Reason.REJECTED_CONFLICT,
        Reason.TARGET_UNKNOWN,
        Reason.REJECTED_OTHER,
        # out of patience with what the partner went on answering
        Reason.THROTTLED,
        Reason.UNAVAILABLE,
        Reason.PARTNER_TIMEOUT,
        Reason.PARTNER_EXCEPTION,
        Reason.ANSWER_TOO_LARGE,
        Reason.ANSWER_UNREADABLE,
        Reason.REFUSED_CLIENT,
        Reason.REFUSED_CERTIFICATE,
        Reason.REFUSED_TOKEN,
        Reason.LOGIN_NEEDED,
        Reason.NOT_SENT_DNS,
        Reason.NOT_SENT_CONNECT,
        Reason.NOT_SENT_TLS,
        Reason.NOT_SENT_STOOD_STILL,
        Reason.NOT_SENT_CERTIFICATE,
        Reason.NOT_SENT_TOKEN,
        Reason.TIMEOUT,
        Reason.CONNECTION_LOST,
    }
)
"""Parked for these, many are likely to have one cause."""
OWN: Final = frozenset(
    {
        # one patient's history
        Reason.STALE,
        Reason.OLDER_SNAPSHOT,
        Reason.BLOCKED_BEHIND,
        Reason.IDENTITY_CONFLICT,
        Reason.PART_ID_MISSING,
        Reason.PART_OF_ANOTHER,
        Reason.MERGE_NEEDS_REKEY,
        Reason.MERGE_REFUSED,
        Reason.NUMBER_MOVED,
        Reason.MERGE_CYCLE,
        Reason.MERGED_PRIOR,
        # an outcome that is being found out
        Reason.FOUND_AFTER_CRASH,
        Reason.AWAITING_PROBE,
        Reason.PROBE_CANNOT_TELL,
        # a tenant that lets nothing be changed refuses each correction, and takes all else
        Reason.REJECTED_STORED,
        # the settings want it so: most patients have no diabetes, and an update may say little
        Reason.DIAGNOSIS_REQUIRED,
        Reason.WOULD_ERASE,
        # tombstones, what is filtered, and people
        Reason.EMPTY,
        Reason.EVENT_NOT_FOR_PARTNER,
        Reason.PARTNER_HAS_NO_VISIT,
        Reason.PARTNER_HAS_NO_DELETE,
        Reason.PARTNER_HAS_NO_MERGE,
        Reason.MERGE_LEAVES_TWO,
        Reason.VISIT_NOT_KNOWN,
        Reason.APPOINTMENT_NOT_KNOWN,
        Reason.EXPECTED_MISSING,
        Reason.RESULT_NOT_FINAL,
        Reason.RESULT_NOT_KNOWN,
        Reason.PART2_NOT_ALLOWED,
        Reason.FACILITY_NOT_ROUTED,
        Reason.NOT_PRODUCTION,
        Reason.OPERATOR,
    }
)
"""The others: a message's or a patient's own, however many there are."""


class Flood:
    """See the module. `by` as in Gate: the message's position, else the calling thread; each leave ends in one `told` or one `back`."""

    def __init__(self, route: str, settings: FloodSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._route, self._settings, self._clock = route, settings, clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._window: deque[Reason | None] = deque(maxlen=max(settings.window, settings.parked))
        """Of the last ones: why each was parked; None where it was delivered."""
        self._reason: Reason | None = None
        self._next: float | None = None
        """When the next one may try; None while all flows."""
        self._trying: set[Hashable] = set()
        self.tries = 0
        """Messages that were tried since the route stopped, and parked as those before them."""

    def ask(self, by: Hashable | None = None) -> float:
        """0.0: go. Else the seconds until it is worth asking again."""
        with self._lock:
            if self._next is None or _name(by) in self._trying:
                return 0.0
            if (left := self._next - self._clock()) > 0:
                return left
            self._next = self._clock() + self._settings.pause
            self._trying.add(_name(by))
            return 0.0

    def told(self, state: State, reason: Reason | None, by: Hashable | None = None) -> None:
        """A message of the route is settled. What is parked or delivered without leave while the route stands began before: it tells nothing new."""
        parked = state is State.PARKED and reason in COMMON
        with self._lock:
            tried = _name(by) in self._trying
            self._trying.discard(_name(by))
            if self._next is None:
                if parked or state is State.DELIVERED:
                    self._count(reason if parked else None)
            elif tried and state is State.DELIVERED:
                self._over()
            elif tried and parked:
                self.tries += 1
            elif tried:
                self._next = self._clock()

    def back(self, by: Hashable | None = None) -> None:
        """The caller that had leave did not take the message up after all, or left it open: another may try at once."""
        with self._lock:
            if self._next is not None and _name(by) in self._trying:
                self._next = self._clock()
            self._trying.discard(_name(by))

    @property
    def stopped(self) -> bool:
        """Whether the route stands still."""
        return self._next is not None

    @property
    def reason(self) -> Reason | None:
        """The most frequent reason of those that stopped it."""
        return self._reason

    def _count(self, reason: Reason | None) -> None:
        self._window.append(reason)
        self._in_a_row = 0 if reason is None else self._in_a_row + 1
        if self._in_a_row >= self._settings.parked or self._too_many():
            self._stop()

    def _too_many(self) -> bool:
        last = list(self._window)[-self._settings.window :]
        whole = len(last) == self._settings.window
        return whole and sum(reason is not None for reason in last) >= self._settings.share * self._settings.window

    def _stop(self) -> None:
        self._reason = Counter(reason for reason in self._window if reason is not None).most_common(1)[0][0]
        self._next = self._clock() + self._settings.pause
        self.tries = 0
        log(
            LogEvent.FLOOD_STOPPED,
            route=self._route,
            reason=self._reason,
            parked=sum(reason is not None for reason in self._window),
            of=len(self._window),
            do=f"{self._reason.sentence}: mend what most of them share; one message is tried every {self._settings.pause:g} s, "
            "the first that is delivered ends this; the others wait, nothing is lost",
        )

    def _over(self) -> None:
        self._next, self._reason, self._in_a_row, self.tries = None, None, 0, 0
        self._window.clear()
        self._trying.clear()
        log(LogEvent.FLOOD_OVER, route=self._route)


def _name(by: Hashable | None) -> Hashable:
    return threading.get_ident() if by is None else by
