"""Plans that are there, as a person or a script is shown them, and lines of the audit. No patient data; people's own words as they wrote them."""

import json
from argparse import Namespace
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.commands import DONE
from pipeline.commands.find import columns, printable
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.ledger.plans import Deed, Item, Mode, Progress, Replay
    from pipeline.settings import Settings
    from pipeline.wiring import Opened


def the_plan(arguments: Namespace, things: "Opened") -> "Replay":
    """A plan by its name."""
    replay = things.ledger.replays.get(arguments.plan)
    if replay is None:
        raise SettingsError("no such plan: emr-pipeline replay list shows them", where=f"--plan {arguments.plan}")
    return replay


def listed(arguments: Namespace, things: "Opened") -> int:
    """`replay list`."""
    found = things.ledger.replays.all(_known_route(arguments.route, things.settings))
    if arguments.json:
        for replay in found:
            print(json.dumps(plan_json(replay, things.ledger.replays.progress(replay.id))))
        return DONE
    if not found:
        print("no plans")
        return DONE
    rows: list[tuple[str, ...]] = [("plan", "route", "state", "made", "who", "done", "left", "not sent")]
    for replay in found:
        said = plan_json(replay, things.ledger.replays.progress(replay.id))
        rows.append(
            (
                replay.id,
                replay.route,
                replay.state.value,
                at(replay.created_ms),
                replay.who,
                *(str(said[name]) for name in ("done", "left", "left_out")),
            )
        )
    print("\n".join(columns(rows)))
    return DONE


def _known_route(route: str | None, loaded: "Settings") -> str | None:
    from pipeline import wiring

    return None if route is None else wiring.the_route(loaded, route)


def show(arguments: Namespace, things: "Opened") -> int:
    """`replay show`."""
    replay = the_plan(arguments, things)
    progress, items = things.ledger.replays.progress(replay.id), things.ledger.replays.items(replay.id)
    deeds = things.ledger.replays.audit(replays=[replay.id])
    if arguments.json:
        told = plan_json(replay, progress) | {"audit": [deed_json(one) for one in deeds]}
        if arguments.items:
            told["items"] = [_item_json(item) for item in items]
        print(json.dumps(told, ensure_ascii=False))
        return DONE
    lines = [
        f"plan {replay.id} of {replay.route}: {replay.state}, {replay.rate:g} a second, hash {replay.hash}",
        f"asked for: {replay.filter}",
    ]
    lines += [f"mode: {_mode(replay.mode)}", ""]
    lines += [f"  {one.value:20}{number:>7}  {one.sentence}" for one, number in progress.classes.items()]
    lines += ["", *(f"  {state.value:20}{number:>7}" for state, number in progress.states.items())]
    lines += (
        ["", "came to:", *(f"  {state.value:20}{number:>7}" for state, number in sorted(progress.outcomes.items()))]
        if progress.outcomes
        else []
    )
    lines += ["", "audit:", *(f"  {deed_line(one)}" for one in deeds)]
    if arguments.items:
        rows: list[tuple[str, ...]] = [("source", "class", "state", "came to", "reason")]
        rows += [
            (str(i.position), i.item_class.value, i.state.value, i.outcome.value if i.outcome else "", i.reason or "")
            for i in items
        ]
        lines += ["", *columns(rows)]
    print("\n".join(lines))
    return DONE


def _mode(mode: "Mode") -> str:
    told = [
        name
        for name, on in (("latest-only", mode.latest_only), ("include-delivered", mode.include_delivered), ("force", mode.force))
        if on
    ]
    return ", ".join(told) or "what never arrived"


def plan_json(replay: "Replay", progress: "Progress") -> dict[str, object]:
    """A plan for a script."""
    from pipeline.ledger.plans import ItemState

    return {
        "plan": replay.id,
        "route": replay.route,
        "state": replay.state.value,
        "hash": replay.hash,
        "created_ms": replay.created_ms,
        "who": replay.who,
        "filter": json.loads(replay.filter),
        "rate": replay.rate,
        "classes": {one.value: number for one, number in progress.classes.items()},
        "done": progress.states.get(ItemState.DONE, 0),
        "left": progress.states.get(ItemState.WAITING, 0) + progress.states.get(ItemState.TAKEN, 0),
        "left_out": progress.states.get(ItemState.LEFT_OUT, 0),
        "outcomes": {state.value: number for state, number in progress.outcomes.items()},
    }


def _item_json(item: "Item") -> dict[str, object]:
    return {
        "position": str(item.position),
        "class": item.item_class.value,
        "state": item.state.value,
        "outcome": item.outcome.value if item.outcome else None,
        "reason": item.reason,
        "where": item.where,
    }


def deed_line(deed: "Deed") -> str:
    """A line of the audit for people."""
    about = " ".join(
        part for part in (str(deed.position or ""), f"plan {deed.replay} ({deed.plan_hash})" if deed.replay else "") if part
    )
    return (
        f"{at(deed.at_ms)}  {deed.who}  {deed.what.value}  {about}{f'  because: {printable(deed.why, 200)}' if deed.why else ''}"
    )


def deed_json(deed: "Deed") -> dict[str, object]:
    """The same for a script."""
    return {
        "at_ms": deed.at_ms,
        "who": deed.who,
        "what": deed.what.value,
        "why": deed.why,
        "position": str(deed.position) if deed.position else None,
        "plan": deed.replay,
        "hash": deed.plan_hash,
    }


def at(ms: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
