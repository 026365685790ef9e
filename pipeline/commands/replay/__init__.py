"""Sending again: a plan of what would be sent, without any side effect at a partner; then its release, and how far it is.

plan judges every record that the filters select, by what the ledger knows and by today's mapping, and keeps the judgement under a short name. run
releases it: the worker that has the records' partitions executes it, in source order and at the plan's rate, through the same lanes as live
traffic. pause, resume and cancel say so; what was begun is brought to its end. Each is kept in the audit, with who and why (no patient data in
it, please). --show-values prints values of patients: only on a terminal.
"""

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, json_argument, operator, settings_argument
from pipeline.commands.find import filters
from pipeline.commands.replay.making import MOST, check, make
from pipeline.commands.replay.shown import listed, show, the_plan
from pipeline.commands.replay.waiting import ended, far, wait
from pipeline.errors import Refused, SettingsError

if TYPE_CHECKING:
    from pipeline.ledger.plans import Replay, What
    from pipeline.wiring import Opened

EXAMPLE: Final = """  emr-pipeline replay plan --route roche-patients --state parked --reason fhir_invalid --since 12h
  emr-pipeline replay run --plan r7k3m --wait
  emr-pipeline replay plan --include-delivered --position his.adt/0/17 --why 'the partner lost it'
  emr-pipeline replay list"""
EXAMPLES: Final = {
    "plan": """  emr-pipeline replay plan --state parked --since 12h --latest-only
  emr-pipeline replay plan --reason fhir_invalid --diff
  emr-pipeline replay plan --include-delivered --position his.adt/0/17 --why 'the partner lost it'""",
    "run": "  emr-pipeline replay run --plan r7k3m --wait",
    "list": "  emr-pipeline replay list --route roche-patients",
    "show": "  emr-pipeline replay show --plan r7k3m --items",
    "pause": "  emr-pipeline replay pause --plan r7k3m --why 'the partner asks us to'",
    "resume": "  emr-pipeline replay resume --plan r7k3m",
    "cancel": "  emr-pipeline replay cancel --plan r7k3m --why 'the wrong day'",
}


def configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="what", metavar="ACTION", required=True)
    plan = actions.add_parser("plan", help="judge what would be sent again, and keep it as a plan; nothing is sent")
    plan.add_argument("--route", metavar="R", help="a route of the settings (not needed where there is one)")
    filters(plan)
    plan.add_argument("--latest-only", action="store_true", help="of the snapshots of one patient only the newest")
    plan.add_argument("--include-delivered", action="store_true", help="what was delivered too, as updates; needs --why")
    plan.add_argument("--force", action="store_true", help="what is stale or was discarded too; needs --why")
    plan.add_argument("--why", metavar="TEXT", help="for the audit; no patient data")
    plan.add_argument(
        "--rate",
        type=rate_of,
        default=10.0,
        metavar="N",
        help="records a second that each worker takes up (10): two workers that share the route send twice as many",
    )
    plan.add_argument("--most", type=int, default=MOST, metavar="N", help=f"how many records at most ({MOST})")
    plan.add_argument("--diff", action="store_true", help="the FHIR elements of each record that differ from what was sent")
    plan.add_argument(
        "--show-values", action="store_true", help="PATIENT DATA: with --diff, what would stand there now; on a terminal only"
    )
    run_ = actions.add_parser(
        "run",
        help="release a plan: the worker executes it; one that is released already goes on, of one that is done it says how it came out",
    )
    run_.add_argument(
        "--wait",
        action="store_true",
        help="follow it to its end (exit 0: all arrived, 3: some did not); Ctrl-C ends the waiting, exit 130, and the plan goes on",
    )
    actions.add_parser("list", help="all plans, newest first").add_argument("--route", metavar="R", help="only of this route")
    show = actions.add_parser("show", help="a plan: what was asked for, how far it is, who did what")
    show.add_argument("--items", action="store_true", help="every record of it")
    for name, about in (
        ("pause", "take up nothing more of it"),
        ("resume", "go on with it"),
        ("cancel", "end it; what waits is left out"),
    ):
        actions.add_parser(name, help=about)
    for name, action in actions.choices.items():
        action.epilog, action.formatter_class = f"example:\n{EXAMPLES[name]}", RawDescriptionHelpFormatter
        if name in {"run", "show", "pause", "resume", "cancel"}:
            action.add_argument("--plan", required=True, metavar="ID", help="the plan's name, as plan and list show it")
        if name in {"run", "pause", "resume", "cancel"}:
            action.add_argument("--why", metavar="TEXT", help="for the audit; no patient data")
        json_argument(action, "the answer")
        settings_argument(action)


def rate_of(text: str) -> float:
    """Records a second, of the command line."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1000:  # noqa: PLR2004 - more than any partner takes
        raise ArgumentTypeError("a number above 0, and 1000 at most")
    return value


def run(arguments: Namespace) -> int:
    from pipeline import settings, wiring
    from pipeline.ledger.open import not_there_yet

    loaded = settings.load(settings.find(arguments.settings))
    if arguments.what == "plan":
        check(arguments)
    if place := not_there_yet(loaded):
        raise SettingsError(f"nothing has run yet: there is no {place}", where=f"replay {arguments.what}")
    with wiring.opened(loaded) as things:
        return {"plan": make, "list": listed, "show": show}.get(arguments.what, _move)(arguments, things)


def _move(arguments: Namespace, things: "Opened") -> int:
    from pipeline import wiring
    from pipeline.ledger.plans import Deed, PlanState, What

    to, what = {
        "run": (PlanState.RELEASED, What.RUN),
        "pause": (PlanState.PAUSED, What.PAUSE),
        "resume": (PlanState.RELEASED, What.RESUME),
        "cancel": (PlanState.CANCELLED, What.CANCEL),
    }[arguments.what]
    replay = the_plan(arguments, things)
    _in_turn(replay, what)
    if what is What.RUN and replay.state is PlanState.RELEASED:
        return _released(arguments, replay, things)
    if what is What.RUN and replay.state is PlanState.DONE:
        return _over(arguments, replay, things)
    deed = Deed(wiring.clock(), operator(), what, arguments.why, replay.route, None, replay.id, replay.hash)
    moved = things.ledger.replays.move(replay.id, to, deed)
    if what in {What.RUN, What.RESUME}:
        return _released(arguments, moved, things)
    if arguments.json:
        print(json.dumps({"plan": moved.id, "state": moved.state, "hash": moved.hash}))
    else:
        print(f"plan {moved.id} is {moved.state}; {_begun(moved, things)}")
    return DONE


def _released(arguments: Namespace, replay: "Replay", things: "Opened") -> int:
    """It is, now or since before: who does it, or with --wait, how far it is."""
    if getattr(arguments, "wait", False):
        return wait(arguments, things)
    if arguments.json:
        print(json.dumps({"plan": replay.id, "state": replay.state, "hash": replay.hash}))
    else:
        follow = f"emr-pipeline replay show --plan {replay.id} says how far it is"
        print(f"plan {replay.id} is {replay.state}; the worker of {replay.route} executes it, {follow}")
    return DONE


def _over(arguments: Namespace, replay: "Replay", things: "Opened") -> int:
    """It is at its end: how it came out, as whoever had waited would have seen it."""
    progress = things.ledger.replays.progress(replay.id)
    if not arguments.json:
        print(far(replay, progress))
    return ended(arguments, replay, progress)


def _begun(replay: "Replay", things: "Opened") -> str:
    """What may go on though the plan was stopped: a worker that is away or stands still gives back when it goes on."""
    from pipeline.ledger.plans import ItemState, PlanState

    taken = things.ledger.replays.progress(replay.id).states.get(ItemState.TAKEN, 0)
    if not taken:
        return "nothing of it is in the worker's hands"
    rest = "waits until it is resumed" if replay.state is PlanState.PAUSED else "is left out"
    return f"the worker has taken {taken} of its records: what was begun comes to its end, the rest {rest}"


def _in_turn(replay: "Replay", what: "What") -> None:
    """`run` is for a plan that was made, `resume` for one that was paused."""
    from pipeline.ledger.plans import PlanState, What

    if what is What.RUN and replay.state is PlanState.PAUSED:
        raise Refused("the plan is paused: emr-pipeline replay resume goes on with it", where=replay.id)
    if what is What.RESUME and replay.state is PlanState.PLANNED:
        raise Refused("the plan was never released: emr-pipeline replay run does that", where=replay.id)
