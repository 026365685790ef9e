"""What the log says of how a partner stands: a line for each change, until they come so fast that nobody could read them.

A partner that asks for a second's patience each second would fill a night's log with its coming and going. Then one line says that it comes and
goes; what is new of that time is still told at once, and when it has stayed the same for a minute, the next line says how. No I/O but the log.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipeline.telemetry import LogEvent, log
from schemas.outcomes import Reason

CHANGES: Final = 6
"""Lines, that come within ..."""
WITHIN: Final = 60.0
"""... so many seconds, are as many as are told one by one."""
STEADY: Final = 60.0
"""Seconds without a change, after which it stays as it is."""
AGAIN: Final = 600.0
"""Seconds after which it is said again that it comes and goes."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line."""

    event: LogEvent
    reason: Reason | None = None
    do: str | None = None


@dataclass(slots=True)
class _Spell:
    """A time in which it comes and goes."""

    told: set[tuple[LogEvent, str | None]]
    """What has had a line of its own: what it is, and what to do."""
    last: Change
    trouble: Change
    """The last one that says what to do."""
    changed_at: float
    said_at: float
    changes: int
    """Since the last line of the spell."""


class News:
    """See the module. Its lock is the caller's."""

    def __init__(self, partner: str, *, clock: Callable[[], float]) -> None:
        """`clock` gives seconds."""
        self._partner, self._clock = partner, clock
        self._lines: deque[tuple[float, Change]] = deque(maxlen=CHANGES)
        self._spell: _Spell | None = None

    def changed(self, change: Change) -> None:
        """It stands differently now."""
        self.look()
        now = self._clock()
        if self._spell is None and not self._too_fast(now):
            self._lines.append((now, change))
            self._tell(change)
            return
        spell = self._spell = self._spell or self._begun(now, change)
        spell.last, spell.changed_at = change, now
        spell.trouble = change if change.do else spell.trouble
        spell.changes += 1
        if (change.event, change.do) not in spell.told:
            spell.told.add((change.event, change.do))
            self._tell(change)

    def look(self) -> None:
        """Say what is due: that it has stayed the same for long enough, or that it still does not."""
        spell, now = self._spell, self._clock()
        if spell is None:
            return
        if now - spell.changed_at >= STEADY:
            self._spell = None
            self._lines.clear()
            self._tell(spell.last, spell.changes)
        elif now - spell.said_at >= AGAIN:
            self._comes_and_goes(spell, now)

    def _too_fast(self, now: float) -> bool:
        return len(self._lines) == CHANGES and now - self._lines[0][0] < WITHIN

    def _begun(self, now: float, change: Change) -> _Spell:
        lines = [line for _, line in self._lines]
        trouble = next((line for line in (change, *reversed(lines)) if line.do), change)
        spell = _Spell({(line.event, line.do) for line in lines}, change, trouble, now, now, len(lines))
        self._comes_and_goes(spell, now)
        return spell

    def _comes_and_goes(self, spell: _Spell, now: float) -> None:
        do = f"{spell.trouble.do}; it comes and goes: the next line says how it stays"
        self._tell(Change(LogEvent.PARTNER_UNSTEADY, spell.trouble.reason, do), spell.changes)
        spell.changes, spell.said_at = 0, now

    def _tell(self, change: Change, changes: int | None = None) -> None:
        log(change.event, partner=self._partner, reason=change.reason, changes=changes, do=change.do)
