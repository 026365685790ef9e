"""Why a route, or `serve`, is not ready: a closed list. A name that is a log event's too means the same, and has the same heading in deploy/runbook.md."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol


class NotReady(StrEnum):
    """What keeps a route from delivering now, or patients from being served. A partner that asks us to wait is none of these: that passes by itself."""

    STARTING = "starting"
    """Its lanes are not restored from the ledger yet."""
    PARTNER_AWAY = "partner_away"
    ROUTE_HALTED = "route_halted"
    FLOOD_STOPPED = "flood_stopped"
    LEDGER_AWAY = "ledger_away"
    BUS_AWAY = "bus_away"
    RESULTS_NOT_WRITABLE = "results_not_writable"
    STORE_AWAY = "store_away"
    """`serve`: the store of appointments cannot be read."""
    TOKENS_UNCHECKED = "tokens_unchecked"
    """`serve`: no patient's token can be checked."""
    WORKER_STOPPED = "worker_stopped"
    """It was told to stop, or a defect ended it."""


class Health(Protocol):
    """What is asked whether it is ready. It answers from memory, at once, and from any thread."""

    def reasons(self) -> Sequence[NotReady]:
        """Why not; empty where it is."""
        ...
