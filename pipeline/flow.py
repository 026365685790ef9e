"""READ FIRST: the path of one message.

    consume → decode → route → | the patient's lane | → identify → mapping → pack → send → settle

`read` is what the loop does as it polls, `prepare` what a lane does when it reaches the message and again on every attempt. Both are
pure: frozen values in and out; an Outcome says that the message ends here. send, and what can go wrong between it and settle, is
delivery/attempts.py; the loop around is delivery/worker.py.
"""

from pipeline.errors import Duplicate, Ended, Parked, place_of
from pipeline.model import Decoded, Knowledge, Outcome, Packed, Received, Routed
from pipeline.stages.decode import decode
from pipeline.stages.identify import identify
from pipeline.stages.mapping import mapping
from pipeline.stages.pack import pack
from pipeline.stages.plan import Plan
from pipeline.stages.route import route
from schemas.outcomes import Reason


def read(received: Received, plan: Plan) -> Routed | Outcome:
    """A topic record, up to its place in the order."""
    decoded = None
    try:
        decoded = decode(received, plan)
        return route(decoded, plan)
    except Ended as ended:
        return ended_outcome(ended, received, plan, decoded)
    except Exception as error:  # noqa: BLE001 - a defect of ours costs this message a delay, and no other message anything (RELIABILITY D2)
        return ended_outcome(defect(error), received, plan, decoded)


def prepare(routed: Routed, knowledge: Knowledge, plan: Plan) -> Packed | Outcome:
    """A routed message, with what the ledger knows now, up to the requests that go out."""
    try:
        identified = identify(routed, knowledge)
        mapped = mapping(identified, plan)
        return pack(mapped, plan)
    except Ended as ended:
        return ended_outcome(ended, routed.decoded.received, plan, routed.decoded, routed)
    except Exception as error:  # noqa: BLE001 - as above
        return ended_outcome(defect(error), routed.decoded.received, plan, routed.decoded, routed)


def defect(error: Exception) -> Parked:
    """What is said of it: the place in the code, never its text, which may hold values."""
    return Parked(Reason.DEFECT, where=place_of(error))


def ended_outcome(
    ended: Ended, received: Received, plan: Plan, decoded: Decoded | None = None, routed: Routed | None = None
) -> Outcome:
    """A message that goes no further."""
    return Outcome(
        received=received,
        route=plan.name,
        partner=plan.route.partner,
        state=ended.state,
        reason=ended.reason,
        where=ended.where,
        message=ended.message,
        decoded=decoded,
        routed=routed,
        findings=(decoded.findings if decoded else ()) + (routed.findings if routed else ()),
        pointer=ended.pointer if isinstance(ended, Duplicate) else None,
    )
