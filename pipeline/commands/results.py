"""What stands on the results topic: what became of each message, with response time, HTTP status and reason. No patient data is in it."""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, json_argument, settings_argument

if TYPE_CHECKING:
    from pipeline.bus.port import Bus
    from schemas.result import Result

EXAMPLE: Final = """  emr-pipeline results
  emr-pipeline results --state parked
  emr-pipeline results --follow --json | jq -r .reason"""
PAUSE: Final = 0.25
"""Seconds between looks with --follow."""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl-C")
    parser.add_argument("--route", metavar="R", help="only of this route")
    parser.add_argument("--state", metavar="S", help="only in this state: delivered, parked, filtered, …")
    parser.add_argument("--settled", action="store_true", help="without the attempts that did not settle")
    json_argument(parser, "each result record")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings
    from pipeline.bus.open import open_bus
    from schemas.result import Result

    loaded = settings.load(settings.find(arguments.settings))
    bus = open_bus(loaded)
    try:
        if not arguments.json:
            print(HEADER)
        for raw in _records(bus, loaded.topics.results, follow=arguments.follow):
            result = Result.model_validate_json(raw)
            if _wanted(result, arguments):
                print(raw.decode() if arguments.json else _row(result))
                sys.stdout.flush()
    finally:
        bus.close()
    return DONE


def _records(bus: "Bus", topic: str, *, follow: bool) -> Iterator[bytes]:
    from pipeline.bus.port import TopicPartition

    if topic not in bus.topics() and not follow:
        return
    start: dict[TopicPartition, int] = {}
    while True:
        for received in bus.read(topic, start=start) if topic in bus.topics() else ():
            start[TopicPartition(topic, received.position.partition)] = received.position.offset + 1
            if received.value:
                yield received.value
        if not follow:
            return
        time.sleep(PAUSE)


def _wanted(result: "Result", arguments: Namespace) -> bool:
    return (
        (arguments.route is None or result.route == arguments.route)
        and (arguments.state is None or result.state == arguments.state)
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
    cells = f"{at:19}  {result.route:16}  {state:10}  {result.event or '':8}  {result.control_id or '':14}"
    return f"{cells}  {result.attempt or '':>3}  {http:>4}  {took:>7}  {source:18}  {why}".rstrip()
