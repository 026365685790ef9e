"""Making a plan: what is selected, what would become of each, what a person is shown of it. Values of patients only on a terminal that asks."""

import json
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, NOT_ALL, operator
from pipeline.commands.find import columns, printable, query_of
from pipeline.errors import Refused, SettingsError

if TYPE_CHECKING:
    from pipeline.delivery.planning import Judged
    from pipeline.ledger.plans import Item, Replay
    from pipeline.ledger.port import Query
    from pipeline.wiring import Opened

MOST: Final = 10_000
SAMPLES: Final = 3
"""Records that are shown of each class."""


def check(arguments: Namespace) -> None:
    """Wrong input is said before anything is opened."""
    if (arguments.force or arguments.include_delivered) and not (arguments.why or "").strip():
        flag = "--force" if arguments.force else "--include-delivered"
        raise SettingsError(f"{flag} sends what would not be sent: say why, for the audit", where="--why")
    if arguments.show_values and not arguments.diff:
        raise SettingsError("goes with --diff", where="--show-values")
    if arguments.show_values and (arguments.json or not sys.stdout.isatty()):
        raise Refused("values of patients are shown on a terminal only, not written to a file or a pipe", where="--show-values")


def make(arguments: Namespace, things: "Opened") -> int:
    """Judge, keep, show; 3 where something selected needs a person before it can go."""
    from pipeline import wiring
    from pipeline.delivery.payloads import Payloads
    from pipeline.delivery.planning import judge, replay_of
    from pipeline.ledger.plans import Deed, Mode, What

    arguments.route = wiring.the_route(things.settings, arguments.route)
    wiring.as_started(things, arguments.route)
    query = query_of(arguments, things.settings)
    rows = list(things.ledger.find(replace(query, most=query.most + 1)))
    if len(rows) > query.most:
        raise Refused(f"more than {query.most} records are selected: narrow the filters, or raise --most", where="replay plan")
    if not rows:
        print(json.dumps({"plan": None, "records": 0, "sends": 0}) if arguments.json else "nothing is selected: no plan was made")
        return DONE
    plan = wiring.plan_of(things.settings, arguments.route, things.catalogue, things.pseudonyms)
    mode = Mode(arguments.latest_only, arguments.include_delivered, arguments.force)
    payloads = Payloads(things.bus, things.settings.dead_letters_of(arguments.route))
    judged = judge(rows, plan, things.ledger, payloads, mode)
    items = [one.item(mode) for one in judged]
    deed = Deed(wiring.clock(), operator(), What.PLAN, arguments.why, arguments.route)
    kept = replay_of(arguments.route, items, mode, deed, rate=arguments.rate, asked=_asked(query, things))
    things.ledger.replays.plan(kept, items, replace(deed, replay=kept.id, plan_hash=kept.hash))
    if arguments.json:
        print(json.dumps(_plan_json(kept, judged, items), ensure_ascii=False))
    else:
        print(
            "\n".join(
                [
                    *_plan_lines(kept, judged, items),
                    *(_differences(judged, values=arguments.show_values) if arguments.diff else ()),
                ]
            )
        )
    return NOT_ALL if _left_behind(items) else DONE


def _asked(query: "Query", things: "Opened") -> str:
    """The filter as the plan keeps it: a patient is a keyed hash already, and a control id becomes one."""
    said = {name: value for name, value in asdict(query).items() if value not in (None, ()) and value is not False}
    told = {name: value for name, value in said.items() if name not in {"route", "most"}}
    if query.position is not None:
        told["position"] = str(query.position)
    if query.control_id is not None:
        told["control_id"] = things.pseudonyms.control_id_hash(query.control_id)
    return json.dumps(told)


def _left_behind(items: Sequence["Item"]) -> bool:
    """Whether something is selected that needs a person before it can go."""
    from pipeline.ledger.plans import ItemClass, ItemState

    needs = {ItemClass.STALE, ItemClass.STILL_PARKED, ItemClass.PAYLOAD_GONE}
    return any(item.item_class in needs and item.state is ItemState.LEFT_OUT for item in items)


def _to_send(items: Sequence["Item"]) -> int:
    from pipeline.ledger.plans import ItemState

    return sum(item.state is ItemState.WAITING for item in items)


def _plan_json(replay: "Replay", judged: Sequence["Judged"], items: Sequence["Item"]) -> dict[str, object]:
    sends = _to_send(items)
    return {
        "plan": replay.id,
        "route": replay.route,
        "hash": replay.hash,
        "records": len(items),
        "sends": sends,
        "rate": replay.rate,
        "seconds": round(sends / replay.rate, 1),
        "classes": dict(Counter(item.item_class.value for item in items)),
        "reasons": dict(Counter(item.reason for item in items if item.reason)),
        "samples": [
            {"position": str(item.position), "class": item.item_class.value, "reason": item.reason, "where": item.where}
            for item in _samples(items)
        ],
        "differs": {str(one.classed.delivery.position): list(one.classed.differs) for one in judged if one.classed.differs},
    }


def _samples(items: Sequence["Item"]) -> list["Item"]:
    seen: Counter[str] = Counter()
    found = []
    for item in items:
        seen[item.item_class] += 1
        if seen[item.item_class] <= SAMPLES:
            found.append(item)
    return found


def _plan_lines(replay: "Replay", judged: Sequence["Judged"], items: Sequence["Item"]) -> list[str]:
    from pipeline.ledger.plans import ItemClass

    counts = Counter(item.item_class for item in items)
    controls = {one.classed.delivery.position: one.classed.delivery.control_id for one in judged}
    lines = [f"plan {replay.id} of {replay.route}: {len(items)} record{'s' * (len(items) != 1)} selected", ""]
    for one in ItemClass:
        if counts[one]:
            lines.append(f"  {one.value:20}{counts[one]:>7}  {one.sentence}")
            reasons = Counter(item.reason for item in items if item.item_class is one and item.reason not in {None, one.value})
            lines += [f"      {reason:20}{number:>3}" for reason, number in reasons.most_common()]
    lines += ["", "for example:"]
    rows: list[tuple[str, ...]] = [
        (
            f"  {item.position}",
            item.item_class.value,
            printable(controls.get(item.position) or ""),
            item.reason or "",
            item.where or "",
        )
        for item in _samples(items)
    ]
    lines += columns(rows)
    changed = sum(bool(one.classed.differs) for one in judged)
    if changed:
        lines += ["", f"{changed} would differ from what was sent before: --diff shows in which elements"]
    return [*lines, "", *_next_step(replay, _to_send(items))]


def _next_step(replay: "Replay", sends: int) -> list[str]:
    if not sends:
        return ["nothing of it is to be sent"]
    return [
        f"{sends} to send, {_duration(sends / replay.rate)} at {replay.rate:g} a second; nothing was sent yet",
        f"release it: emr-pipeline replay run --plan {replay.id}",
    ]


def _duration(seconds: float) -> str:
    whole = max(1, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _differences(judged: Sequence["Judged"], *, values: bool) -> list[str]:
    """Places, and only where a person at a terminal asks for them, values."""
    from pipeline.ledger.fingerprint import elements

    lines = ["", "different from what was sent:"]
    for one in judged:
        if not one.classed.differs:
            continue
        lines.append(f"  {one.classed.delivery.position}")
        now = elements(one.classed.packed.mapped.resources) if one.classed.packed else {}
        for path in one.classed.differs:
            shown = f"  {json.dumps(now.get(path), ensure_ascii=False)}" if values and path in now else ""
            lines.append(f"      {path}{'' if path in now else '  (would be gone)'}{shown}")
    if len(lines) == 2:  # noqa: PLR2004 - the heading alone
        lines.append("  nothing, as far as it is known what was sent")
    return lines
