"""What a partner's verdict table is made of: rows read top to bottom, the first that fits counts. No partner is known here.

A partner's own table has its operations, what its bodies say, its flags, and as last row one that fits everything.
"""

from dataclasses import dataclass
from enum import StrEnum

from pipeline.model import Decision
from schemas.outcomes import Reason


@dataclass(frozen=True, slots=True)
class Signal:
    """An answer, or none (status 0), as the table sees it."""

    operation: StrEnum
    status: int
    said: StrEnum
    """What the body is, or says."""
    codes: frozenset[str] = frozenset()
    """The partner's issue codes."""
    flags: frozenset[StrEnum] = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    """Fits where all that it names fits; what it leaves out fits always."""

    operations: frozenset[StrEnum]
    statuses: tuple[range, ...]
    decision: Decision
    reason: Reason | None
    """None, on a row without an answer: what the transport says."""
    line: str
    """Of the dossier."""
    said: frozenset[StrEnum] | None = None
    codes: frozenset[str] | None = None
    flag: StrEnum | None = None
    pause: bool = False
    """The partner may still be at work on it: not again before its worst time is over."""

    def fits(self, signal: Signal) -> bool:
        """Whether it is this row."""
        return (
            signal.operation in self.operations
            and any(signal.status in statuses for statuses in self.statuses)
            and (self.said is None or signal.said in self.said)
            and (self.codes is None or not self.codes.isdisjoint(signal.codes))
            and (self.flag is None or self.flag in signal.flags)
        )


def row(
    operations: frozenset[StrEnum] | StrEnum,
    statuses: int | range | tuple[int | range, ...],
    decision: Decision,
    reason: Reason | None,
    line: str,
    *,
    said: frozenset[StrEnum] | StrEnum | None = None,
    codes: str | None = None,
    flag: StrEnum | None = None,
    pause: bool = False,
) -> Row:
    """A row, with one of a kind or several; `codes` with blanks between."""
    given = statuses if isinstance(statuses, tuple) else (statuses,)
    return Row(
        frozenset({operations}) if isinstance(operations, StrEnum) else operations,
        tuple(range(one, one + 1) if isinstance(one, int) else one for one in given),
        decision,
        reason,
        line,
        frozenset({said}) if isinstance(said, StrEnum) else said,
        frozenset(codes.split()) if codes else None,
        flag,
        pause,
    )
