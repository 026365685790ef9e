"""`--wait`: a released plan is followed to its end, with a line for each change. It changes nothing, and whoever ends it ends no plan."""

import json
import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, INTERRUPTED, NOT_ALL
from pipeline.commands.replay.shown import plan_json, the_plan

if TYPE_CHECKING:
    from pipeline.ledger.plans import Progress, Replay
    from pipeline.wiring import Opened

LOOK: Final = 0.5
"""Seconds between looks."""
STILL: Final = 20
"""Looks without a change, after which it says once what it waits for: ten seconds."""


def wait(arguments: Namespace, things: "Opened") -> int:
    """Until it is at its end, or somebody stops it. Ctrl-C ends the waiting alone, and says so."""
    try:
        replay, progress = _follow(arguments, things)
    except KeyboardInterrupt:
        print(f"the plan goes on: emr-pipeline replay pause | cancel --plan {arguments.plan} stops it", file=sys.stderr)
        return INTERRUPTED
    return ended(arguments, replay, progress)


def ended(arguments: Namespace, replay: "Replay", progress: "Progress") -> int:
    """How a plan came out, and the exit code that says it."""
    if arguments.json:
        print(json.dumps(plan_json(replay, progress)))
    else:
        print("\n".join(f"  {state.value:20}{number:>7}" for state, number in sorted(progress.outcomes.items())))
    return _code(replay, progress)


def far(replay: "Replay", progress: "Progress") -> str:
    """How far it is, in a line."""
    from pipeline.ledger.plans import ItemState

    left = progress.states.get(ItemState.WAITING, 0) + progress.states.get(ItemState.TAKEN, 0)
    return f"{replay.state}: {progress.states.get(ItemState.DONE, 0)} done, {left} left"


def _follow(arguments: Namespace, things: "Opened") -> "tuple[Replay, Progress]":
    from pipeline import wiring
    from pipeline.ledger.plans import PlanState

    told, still, said, began_ms = "", 0, False, wiring.clock()
    while True:
        replay, progress = the_plan(arguments, things), things.ledger.replays.progress(arguments.plan)
        line = far(replay, progress)
        if line != told and not arguments.json:
            print(line, flush=True)
        told, still = line, still + 1 if line == told else 0
        if replay.state is not PlanState.RELEASED:
            return replay, progress
        if still == STILL and not said:
            print(_why(replay, progress, things, began_ms), file=sys.stderr, flush=True)
            said = True
        time.sleep(LOOK)


def _why(replay: "Replay", progress: "Progress", things: "Opened", began_ms: int) -> str:
    """What it waits for, as far as the ledger tells: whether anybody works, what the last attempt came to, what is in hand."""
    from pipeline.ledger.plans import ItemState
    from pipeline.ledger.port import Query
    from schemas.outcomes import State

    taken = progress.states.get(ItemState.TAKEN, 0)
    if things.ledger.claimed(replay.route) is False:
        return f"it waits: no worker has the route {replay.route}; emr-pipeline run {replay.route} starts one"
    rows = things.ledger.find(Query(replay=replay.id, since_ms=began_ms))
    reason = next((row.reason for row in rows if row.reason and row.state in {State.PENDING, State.UNKNOWN}), None)
    if reason is not None:
        return f"it waits: the last attempt ended as {reason}, and is made again (heading {reason} of deploy/runbook.md; emr-pipeline doctor)"
    if taken:
        return f"it waits: the worker of {replay.route} has taken {taken} and ended none: the partner or the worker is away; emr-pipeline doctor"
    return f"it waits: the worker of {replay.route} has taken nothing yet: does it run? emr-pipeline doctor"


def _code(replay: "Replay", progress: "Progress") -> int:
    from pipeline.ledger.plans import PlanState
    from schemas.outcomes import CLOSED

    whole = replay.state is PlanState.DONE and all(state in CLOSED for state in progress.outcomes)
    return DONE if whole else NOT_ALL
