"""Where a route's group reads on in its source: set by a person, and whether it has its place there. The ledger's start of the route stays as it is."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pipeline.bus.port import Where
from pipeline.commands import DONE, json_argument, operator, settings_argument
from pipeline.commands.find import time_of
from pipeline.errors import Refused, SettingsError

if TYPE_CHECKING:
    from pipeline.bus.port import Bus, TopicPartition
    from pipeline.wiring import Opened


def arguments_of(parser: ArgumentParser) -> None:
    """Of `topics start`."""
    parser.add_argument("--route", metavar="R", help="a route of the settings (not needed where there is one)")
    parser.add_argument(
        "--at",
        required=True,
        metavar="earliest|latest|TIME",
        help="the first record that is there, the end, or the first record from a time on (2026-01-31T03:00, or 30m, 12h, 7d ago)",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="also where the group has offsets there: forward skips records, back reads them again; needs --why",
    )
    parser.add_argument("--why", "--reason", metavar="TEXT", help="for the audit; no patient data")
    json_argument(parser, "what was set")
    settings_argument(parser)


def start(arguments: Namespace) -> int:
    """Set the offsets that the group has not; with --again all of them."""
    from pipeline import settings, wiring
    from pipeline.ledger.open import not_there_yet

    where = where_of(arguments.at)
    if arguments.again and not (arguments.why or "").strip():
        raise SettingsError("--again moves what the group reads next: say why, for the audit", where="--why")
    loaded = settings.load(settings.find(arguments.settings))
    route = wiring.the_route(loaded, arguments.route)
    if place := not_there_yet(loaded):
        raise SettingsError(f"nothing has run yet: there is no {place}; the first emr-pipeline run starts the route", where=route)
    with wiring.opened(loaded) as things:
        return _start(arguments, where, route, things)


def where_of(text: str) -> "Where | int":
    """--at as the bus takes it."""
    if text in list(Where):
        return Where(text)
    at = time_of(text, "--at")
    assert at is not None  # noqa: S101 - it is None for no text alone
    return at


def _start(arguments: Namespace, where: "Where | int", route: str, things: "Opened") -> int:
    from pipeline import wiring
    from pipeline.ledger.plans import Deed, What
    from pipeline.ledger.port import STARTING
    from pipeline.model import Position

    wiring.as_started(things, route)
    if (things.ledger.started(route) or STARTING).startswith(STARTING):
        raise Refused(
            "the ledger has no start of it: its first emr-pipeline run makes one, as its setting `start` says",
            where=f"routes.{route}",
        )
    group, source = things.settings.group_of(route), things.settings.routes[route].source
    before, bounds = things.bus.committed(group, source), things.bus.bounds(source)
    chosen = in_order(bounds if arguments.again else bounds.keys() - before.keys())
    if not chosen:
        stands = ", ".join(f"{each} at {before[each]}" for each in in_order(before))
        raise Refused(
            f"the group {group} has its offsets there ({stands}): to move them forward skips records, and back reads them again; --again with --why does it",
            where=source,
        )
    after = things.bus.move(group, chosen, where)
    things.ledger.tell(
        [
            Deed(wiring.clock(), operator(), What.START, arguments.why, route, Position(source, each.partition, after[each]))
            for each in chosen
        ]
    )
    if arguments.json:
        rows = [{"partition": each.partition, "from": before.get(each), "to": after[each]} for each in chosen]
        print(json.dumps({"route": route, "group": group, "topic": source, "partitions": rows}))
    else:
        print("\n".join([f"group {group} of the route {route}", *(line(each, before.get(each), after[each]) for each in chosen)]))
    return DONE


def line(partition: "TopicPartition", before: int | None, after: int) -> str:
    """One partition for a person: from where, to where, and what comes of it."""
    if before is None:
        return f"  {partition}: from nothing to {after}"
    what = "as it was"
    if after > before:
        what = f"{after - before} forward: what lies between is skipped"
    elif after < before:
        what = f"{before - after} back: what lies between is read again"
    return f"  {partition}: from {before} to {after}, {what}"


def lost_place(bus: "Bus", group: str, source: str) -> str | None:
    """Of a route that has been started: why `run` would refuse to read on. A partition that was added, and has all that it had, is read from its first record."""
    before, bounds = bus.committed(group, source), bus.bounds(source)
    if not before:
        return f"the group {group} has no offset of {source}"
    for each in in_order(bounds):
        (first, end), at = bounds[each], before.get(each)
        if at is None and first > 0:
            return f"the group {group} has no offset of {each}"
        if at is not None and not first <= at <= end:
            return f"{each}: offset {at} of the group {group} is not there: the partition has {first} to {end}"
    return None


def in_order(partitions: "Iterable[TopicPartition] | Mapping[TopicPartition, object]") -> "list[TopicPartition]":
    """By their numbers."""
    return sorted(partitions, key=lambda each: each.partition)
