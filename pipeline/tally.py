"""What the loop counts, for whoever watches (pipeline/metrics.py): nothing here decides anything."""

from dataclasses import dataclass
from typing import Protocol

from pipeline.model import Decision
from schemas.outcomes import Reason, State


class Tally(Protocol):
    """Counts as it happens; from any thread."""

    def read(self, route: str, records: int = 1) -> None:
        """Records came from the source topic."""
        ...

    def settled(self, route: str, state: State, reason: Reason | None) -> None:
        """A record came to its end, or was parked."""
        ...

    def attempted(self, route: str, operation: str, decision: Decision, elapsed_ms: float | None) -> None:
        """A request went out, or did not get out; `elapsed_ms` is None where no answer came."""
        ...


class NobodyWatches:
    """Counts nothing."""

    def read(self, route: str, records: int = 1) -> None:
        """See Tally."""

    def settled(self, route: str, state: State, reason: Reason | None) -> None:
        """See Tally."""

    def attempted(self, route: str, operation: str, decision: Decision, elapsed_ms: float | None) -> None:
        """See Tally."""


class WatchTally(Protocol):
    """Counts what a watch does, as it happens."""

    def polled(self, watch: str, decision: Decision) -> None:
        """It asked for a dossier."""
        ...

    def appended(self, watch: str, change: str, completions: int) -> None:
        """It put completions onto its topic."""
        ...


class NobodyLooks:
    """Counts nothing."""

    def polled(self, watch: str, decision: Decision) -> None:
        """See WatchTally."""

    def appended(self, watch: str, change: str, completions: int) -> None:
        """See WatchTally."""


class ServeTally(Protocol):
    """Counts what `serve` does, as it happens; from any thread."""

    def served(self, interaction: str, status: int, reason: str | None, seconds: float) -> None:
        """A patient's request was answered; `reason`: why it was refused, a name of a closed list."""
        ...

    def issuer_failed(self, way: str) -> None:
        """The issuer of patients' tokens gave no keys, or no word about a token; `way`: keys or introspection."""
        ...


class NobodyCounts:
    """Counts nothing."""

    def served(self, interaction: str, status: int, reason: str | None, seconds: float) -> None:
        """See ServeTally."""

    def issuer_failed(self, way: str) -> None:
        """See ServeTally."""


@dataclass(frozen=True, slots=True)
class ServeFigures:
    """How `serve` stands, at one moment."""

    connections: int
    store_away: bool
    keys_age_seconds: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """How a route stands, at one moment."""

    in_flight: int
    waiting: int
    """In memory."""
    waiting_parked: int
    unsettled: int
    commit_gap: int
    results_waiting: int
    flood_stopped: bool
    ledger_away: bool
    bus_away: bool
