"""What stands on the results topic: what became of each message, with response time, HTTP status and reason. No patient data is in it.

In the order of settled time. Without --follow the newest 1000; with --follow what comes from now on, and before it what --since or --last
ask for. Times are written as for `find`: 2026-01-31, 2026-01-31T03:00, with or without an offset, or ago: 30m, 12h, 7d.
"""

import heapq
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, json_argument, settings_argument
from pipeline.commands.find import printable, state_of, time_of
from pipeline.errors import SettingsError
from schemas.outcomes import State

if TYPE_CHECKING:
    from pipeline.bus.port import Bus, TopicPartition
    from pipeline.model import Received
    from schemas.result import Result

EXAMPLE: Final = """  emr-pipeline results
  emr-pipeline results --state parked --since 12h
  emr-pipeline results --follow --last 20
  emr-pipeline results --follow --json | jq -r .reason"""
PAUSE: Final = 0.25
"""Seconds between looks with --follow."""
MOST: Final = 1000
"""Results that are shown where nobody asks for more: a topic may hold millions."""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl-C; begins at the topic's end")
    parser.add_argument("--since", metavar="TIME", help="begin with what was settled then: a time, or 30m, 12h, 7d ago")
    parser.add_argument(
        "--last",
        "--most",
        type=int,
        metavar="N",
        help=f"the newest N of what is there (without --follow {MOST}; 0 for all)",
    )
    parser.add_argument("--route", metavar="R", help="only of this route")
    parser.add_argument("--state", type=state_of, metavar="S", help=f"only in this state: {', '.join(State)}")
    parser.add_argument("--settled", action="store_true", help="without the attempts that did not settle")
    json_argument(parser, "each result record")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings
    from pipeline.bus.open import open_bus

    loaded = settings.load(settings.find(arguments.settings))
    if arguments.route is not None and arguments.route not in loaded.routes:
        raise SettingsError(f"no such route in the settings; there is {', '.join(sorted(loaded.routes))}", where="--route")
    if arguments.last is not None and arguments.last < 0:
        raise SettingsError("a number, 0 for all", where="--last")
    since = time_of(arguments.since, "--since")
    bus = open_bus(loaded)
    try:
        if not arguments.json:
            print(HEADER, flush=True)
        ends = _before(bus, loaded.topics.results, arguments, since)
        if arguments.follow:
            for result, raw in _coming(bus, loaded.topics.results, ends):
                _show(result, raw, arguments)
    finally:
        bus.close()
    return DONE


def _before(bus: "Bus", topic: str, arguments: Namespace, since: int | None) -> "dict[TopicPartition, int]":
    """Show what is there, as far as it is asked for; where each partition ended when it was looked at."""
    if topic not in bus.topics():
        return {}
    ends = {partition: end for partition, (_, end) in bus.bounds(topic).items()}
    if arguments.follow and since is None and arguments.last is None:
        return ends
    most = (0 if since is not None else MOST) if arguments.last is None else arguments.last
    found = (one for one in _there(bus, topic, ends) if _wanted(one[0], arguments) and one[0].settled_ms >= (since or 0))
    rows = heapq.nlargest(most + 1, found, key=_order) if most else sorted(found, key=_order, reverse=True)
    for result, raw in reversed(rows[:most] if most else rows):
        _show(result, raw, arguments)
    if most and len(rows) > most and arguments.last is None:
        print(f"the newest {most} are shown: ask for more with --last N (0 for all) or --since TIME", file=sys.stderr)
    return ends


def _order(one: "tuple[Result, bytes]") -> tuple[int, str, int, int, int]:
    """Settled time; where that is the same, as they stood at their source."""
    result = one[0]
    return result.settled_ms, result.source_topic, result.source_partition, result.source_offset, result.attempt


def _there(bus: "Bus", topic: str, ends: "dict[TopicPartition, int]") -> "Iterator[tuple[Result, bytes]]":
    """What stands before `ends`: what comes meanwhile is --follow's."""
    from pipeline.bus.port import TopicPartition

    for received in bus.read(topic):
        end = ends.get(TopicPartition(topic, received.position.partition), 0)
        if received.position.offset < end:
            yield from _read(received)


def _coming(bus: "Bus", topic: str, start: "dict[TopicPartition, int]") -> "Iterator[tuple[Result, bytes]]":
    """What comes after `start`, as it comes; never ends."""
    from pipeline.bus.port import TopicPartition

    while True:
        for received in bus.read(topic, start=start) if topic in bus.topics() else ():
            start[TopicPartition(topic, received.position.partition)] = received.position.offset + 1
            yield from _read(received)
        time.sleep(PAUSE)


def _read(received: "Received") -> "Iterator[tuple[Result, bytes]]":
    """The result of a record; one that is none, or a newer version's, is said and passed over."""
    from pydantic import ValidationError

    from schemas.result import Result

    if not received.value:
        return
    try:
        yield Result.model_validate_json(received.value), received.value
    except ValidationError:
        print(f"{received.position} is no result that this version can read", file=sys.stderr)


def _show(result: "Result", raw: bytes, arguments: Namespace) -> None:
    if _wanted(result, arguments):
        print(raw.decode() if arguments.json else _row(result), flush=arguments.follow)


def _wanted(result: "Result", arguments: Namespace) -> bool:
    return (
        (arguments.route is None or result.route == arguments.route)
        and (arguments.state is None or result.state is arguments.state)
        and (result.settled or not arguments.settled)
    )


HEADER: Final = f"{'settled at':19}  {'route':16}  {'state':10}  {'event':8}  {'control id':14}  {'try':>3}  {'http':>4}  {'ms':>7}  {'source':18}  reason"


def _row(result: "Result") -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(result.settled_ms / 1000))
    state = result.state if result.settled else f"({result.state})"
    http = str(result.http_status or "")
    took = f"{result.response_ms:.0f}" if result.response_ms is not None else ""
    source = f"{result.source_topic}/{result.source_partition}/{result.source_offset}"
    why = " ".join(part for part in (result.reason, f"at {result.where}" if result.where else None) if part)
    cells = f"{at:19}  {result.route:16}  {state:10}  {result.event or '':8}  {printable(result.control_id or ''):14}"
    return f"{cells}  {result.attempt or '':>3}  {http:>4}  {took:>7}  {source:18}  {why}".rstrip()
