"""send: Packed → Answer. One request goes out once, and the partner judges what came. The only hop with I/O.

What did not leave this machine is nothing to judge: it has FAILED, or HALTED where our own certificate, client or login is to blame.
"""

from collections.abc import Callable
from typing import Final

from pipeline.errors import NoAnswer, NotSent
from pipeline.model import Answer, Decision, OpenEnd, Packed, Reply, Request, Verdict
from pipeline.partners.port import Partner
from pipeline.transport.port import Flight, Transport, Unanswered
from pipeline.transport.whole import started
from schemas.outcomes import Reason

NOBODYS_MESSAGE: Final = frozenset(
    {Reason.NOT_SENT_CERTIFICATE, Reason.REFUSED_CERTIFICATE, Reason.REFUSED_TOKEN, Reason.LOGIN_NEEDED}
)
"""Not sent, and no other message would be."""


def send(
    packed: Packed, request: Request, transport: Transport, partner: Partner, *, attempt: int, after_unknown: bool
) -> Flight[Answer]:
    """One attempt. `after_unknown`: an earlier one may have arrived, and nothing has proven that it did not."""
    request = partner.of_attempt(packed, request, attempt)
    return _exchange(request, transport, attempt, lambda came: partner.judge(packed, request, came, after_unknown=after_unknown))


def probe(packed: Packed, question: Request, transport: Transport, partner: Partner, *, attempt: int) -> Flight[Answer]:
    """One try to find out whether an unknown request was done; `question` is what partner.probe gave."""
    return _exchange(question, transport, attempt, lambda came: partner.judge_probe(packed, question, came), probe=True)


def _exchange(
    request: Request, transport: Transport, attempt: int, judge: Callable[[Reply | NoAnswer], Verdict], *, probe: bool = False
) -> Flight[Answer]:
    reply: Reply | None = None
    end: OpenEnd | None = None
    try:
        with started(transport, request) as air:
            yield air
            reply = air.finish()
        verdict = judge(reply)
    except NotSent as error:
        decision = Decision.HALTED if error.reason in NOBODYS_MESSAGE else Decision.FAILED
        verdict = Verdict(decision, error.reason)
    except NoAnswer as error:
        verdict = judge(error)
        end = error.end if isinstance(error, Unanswered) else None
    if probe and end is not None:  # the next probe asks again
        end.close()
        end = None
    return Answer(request, reply, verdict, attempt, probe, end)
