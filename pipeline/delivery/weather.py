"""What the loop knows of its partner: there, away, or refusing us as a whole. One log line for a change, none for a retry."""

from enum import StrEnum
from typing import Final

from pipeline.model import Decision
from pipeline.telemetry import LogEvent, log
from schemas.outcomes import Reason


class Sky(StrEnum):
    """How the partner is."""

    FAIR = "fair"
    AWAY = "away"
    HALTED = "halted"


AFTER: Final = {Decision.FAILED: Sky.AWAY, Decision.UNKNOWN: Sky.AWAY, Decision.HALTED: Sky.HALTED}
"""What a verdict says of the partner; any other is fair weather."""


DO: Final = {
    Reason.NOT_SENT_DNS: "check DNS and base_url; it is tried again, nothing is lost",
    Reason.NOT_SENT_CONNECT: "check firewall, base_url and the partner's announcements; it is tried again, nothing is lost",
    Reason.NOT_SENT_TLS: "check tls.ca and the partner's certificate with emr-pipeline doctor: this does not pass by itself; nothing is lost",
}
"""What an operator does about a partner that is away, where it is not mere waiting."""
WAIT: Final = "nothing yet: it is tried again; ask the partner when it lasts"


class Weather:
    """Keeps the state and logs its changes."""

    def __init__(self, route: str, partner: str) -> None:
        """Fair until told otherwise."""
        self.sky, self.reason = Sky.FAIR, None
        self._names = {"route": route, "partner": partner}

    sky: Sky
    reason: Reason | None

    def told(self, decision: Decision, reason: Reason | None) -> None:
        """Hear a verdict."""
        sky = AFTER.get(decision, Sky.FAIR)
        if sky is self.sky:
            return
        was, self.sky, self.reason = self.sky, sky, reason if sky is not Sky.FAIR else None
        if sky is Sky.HALTED:
            log(
                LogEvent.ROUTE_HALTED,
                **self._names,
                reason=reason,
                do=(reason.sentence if reason else "") + ": mend it, the route goes on by itself; nothing is lost",
            )
        elif sky is Sky.AWAY:
            log(
                LogEvent.PARTNER_AWAY,
                **self._names,
                reason=reason,
                do=DO.get(reason, WAIT) if reason else WAIT,
            )
        else:
            log(LogEvent.ROUTE_RESUMED if was is Sky.HALTED else LogEvent.PARTNER_BACK, **self._names)
