"""What can be the matter with a partner, the log's words for it, and what an operator does about it."""

from enum import StrEnum
from typing import Final

from pipeline.telemetry import LogEvent
from schemas.outcomes import Reason


class Trouble(StrEnum):
    """Why not all may go. It stays the same while trials fail."""

    NONE = "none"
    THROTTLED = "throttled"
    AWAY = "away"
    HALTED = "halted"


LOUD: Final = {
    Trouble.THROTTLED: LogEvent.PARTNER_THROTTLED,
    Trouble.AWAY: LogEvent.PARTNER_AWAY,
    Trouble.HALTED: LogEvent.ROUTE_HALTED,
}
OVER: Final = {
    Trouble.THROTTLED: LogEvent.PARTNER_BACK,
    Trouble.AWAY: LogEvent.PARTNER_BACK,
    Trouble.HALTED: LogEvent.ROUTE_RESUMED,
}
DO: Final = {
    Reason.NOT_SENT_DNS: "check DNS and base_url; it is tried again, nothing is lost",
    Reason.NOT_SENT_CONNECT: "check firewall, base_url and the partner's announcements; it is tried again, nothing is lost",
    Reason.NOT_SENT_TLS: "check tls.ca and the partner's certificate with emr-pipeline doctor: this does not pass by itself; nothing is lost",
    Reason.NOT_SENT_TOKEN: "see what emr-pipeline doctor says of the token endpoint; it is tried again, nothing is lost",
}
"""What an operator does about a partner that is away, where it is not mere waiting."""
TLS_OF_BOTH: Final = (
    "check tls.ca and the partner's certificate with emr-pipeline doctor, or the partner does not take our client certificate "
    "(is it registered there?): this does not pass by itself; nothing is lost"
)
"""Of NOT_SENT_TLS, where we show a client certificate: a partner that refuses it within the handshake says no more than that."""
WAIT: Final = "nothing yet: it is tried again; ask the partner when it lasts"
THROTTLED: Final = "nothing: it waits as the partner asked; when it is often so, lower the load or ask the partner for more"
MEND: Final = "no message can go like this: the reason's heading in the runbook says what to mend; all goes on by itself then, nothing is lost"
HALTED: Final = {
    Reason.NOT_SENT_CERTIFICATE: "emr-pipeline doctor says what is wrong with our client certificate: put a good one in its place; all goes on by itself, nothing is lost",
    Reason.REFUSED_CERTIFICATE: "the partner does not take our client certificate: emr-pipeline doctor shows it; have it renewed, or taken by the partner; all goes on by itself, nothing is lost",
    Reason.REFUSED_CLIENT: "the partner does not take our client id, secret or organisation: mend them in the settings and start again, or have them taken; nothing is lost",
    Reason.REFUSED_TOKEN: "the partner's authorization server does not take our client: emr-pipeline doctor says more; all goes on by itself once it does, nothing is lost",
    Reason.LOGIN_NEEDED: "emr-pipeline login, then all goes on by itself; nothing is lost",
}
"""What an operator does where waiting mends nothing."""
SUSPECT: Final = (
    "the partner ended a new connection without a word, so it may refuse our client certificate: emr-pipeline doctor; "
    "no message goes before a harmless request is answered; nothing is lost"
)
SUSPECT_ALONE: Final = (
    "the partner, or something before it, ended a new connection without a word: emr-pipeline doctor; "
    "no message goes before a harmless request is answered; nothing is lost"
)
"""Where we show no client certificate that it could refuse."""


def what_to_do(trouble: Trouble, reason: Reason | None, *, suspect: bool, certified: bool = True) -> str:
    """For the log's line. `suspect`: see Verdict; `certified`: whether we show the partner a client certificate."""
    if trouble is Trouble.HALTED:
        return HALTED.get(reason, f"{reason.sentence}; {MEND}") if reason else MEND
    if trouble is Trouble.THROTTLED:
        return THROTTLED
    if suspect:
        return SUSPECT if certified else SUSPECT_ALONE
    if reason is Reason.NOT_SENT_TLS and certified:
        return TLS_OF_BOTH
    return DO.get(reason, WAIT) if reason else WAIT
