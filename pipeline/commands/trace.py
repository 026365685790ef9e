"""The way of one message: source record, what the ledger has of it, every attempt, result, dead letter, whether its offset was committed, who did what.

It is asked for by its place, its control id (MSH-10) or a request id (x-origin-request-id). Attempts and results are
read from the results topic, as far back as that reaches. No patient data is shown.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from pipeline.commands import DONE, NOT_ALL, json_argument, settings_argument
from pipeline.commands.find import position_of, printable
from pipeline.commands.replay.shown import at, deed_json, deed_line
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.bus.port import Bus
    from pipeline.ledger.port import Delivery
    from pipeline.model import Position
    from pipeline.wiring import Opened
    from schemas.result import Result

EXAMPLE: Final = """  emr-pipeline trace his.adt/0/17
  emr-pipeline trace --control-id MSG00001
  emr-pipeline trace --request-id 594d2dd6-ad28-5bd3-9ecb-3cb75745d0d6 --json"""
MOST: Final = 20
"""Records that are traced at once."""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("position", nargs="?", metavar="TOPIC/PARTITION/OFFSET", help="the source record")
    parser.add_argument("--control-id", metavar="ID", help="MSH-10")
    parser.add_argument("--request-id", metavar="ID", help="x-origin-request-id")
    parser.add_argument("--route", metavar="R", help="only of this route")
    json_argument(parser, "each record on a line")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings, wiring
    from pipeline.ledger.open import not_there_yet

    asked = [name for name in ("position", "control_id", "request_id") if getattr(arguments, name) is not None]
    if len(asked) != 1:
        raise SettingsError("name one of TOPIC/PARTITION/OFFSET, --control-id and --request-id")
    position = None if arguments.position is None else position_of(arguments.position, "TOPIC/PARTITION/OFFSET")
    loaded = settings.load(settings.find(arguments.settings))
    if arguments.route is not None:
        wiring.the_route(loaded, arguments.route)
    if place := not_there_yet(loaded):
        raise SettingsError(f"nothing has run yet: there is no {place}", where="trace")
    with wiring.opened(loaded) as things:
        rows = _rows(arguments, position, things)
        if not rows:
            return _not_there(arguments, position, things)
        for told in _told(rows, things):
            lines = told.pop("audit_lines")
            print(json.dumps(told, ensure_ascii=False) if arguments.json else "\n".join(_lines(told, lines)))
    return DONE


def _rows(arguments: Namespace, position: "Position | None", things: "Opened") -> "list[Delivery]":
    from pipeline.ledger.port import Query

    query = Query(
        route=arguments.route, position=position, control_id=arguments.control_id, request_id=arguments.request_id, most=MOST
    )
    found = list(things.ledger.find(query))
    if not found and arguments.request_id is not None:
        places = {(one.route, _place(one)) for one in _having(things, "request_id", arguments.request_id)}
        found = [row for route, place in places for row in things.ledger.find(Query(route=route, position=place))]
    return sorted(found, key=lambda row: (row.route, str(row.position)))


def _place(result: "Result") -> "Position":
    from pipeline.model import Position

    return Position(result.source_topic, result.source_partition, result.source_offset)


def _having(things: "Opened", name: str, *values: str | int) -> "Iterator[Result]":
    """Results with one of these values. A topic may hold millions: only what has the text in it is read as JSON."""
    from pydantic import ValidationError

    from schemas.result import Result

    marks = [f'"{name}":{json.dumps(value)},'.encode() for value in values]
    topic = things.settings.topics.results
    for record in things.bus.read(topic) if topic in things.bus.topics() else ():
        if not any(mark in (record.value or b"") for mark in marks):
            continue
        try:
            yield Result.model_validate_json(record.value or b"")
        except ValidationError:
            continue  # a newer version's


def _not_there(arguments: Namespace, position: "Position | None", things: "Opened") -> int:
    """The ledger has nothing of it; of a place it can still be said what stands there, and whether a route has gone by it."""
    if position is None:
        if arguments.json:
            print(json.dumps({"position": None, "source": None, "routes": [], "passed": []}))
        else:
            print("the ledger has nothing of it: it may be read already and wait for its turn, or stand on its topic still")
        return NOT_ALL
    source, passed = _source(things.bus, position), _passed(arguments.route, position, things)
    if arguments.json:
        print(json.dumps({"position": str(position), "source": source, "routes": [], "passed": passed}))
    elif passed:
        print(
            f"{position}: its offset has passed on {', '.join(passed)}, and this ledger knows nothing of it: is it the right one?"
            " (runbook: Names that the ledger holds on to; or the route was told to begin behind it)"
        )
    elif source is not None:
        print(f"{position} stands on its topic, and no route has taken it up yet: it may be read already and wait for its turn")
    else:
        print(f"the ledger has nothing of it, and {position} is not on its topic")
    return DONE if source is not None and not passed else NOT_ALL


def _passed(route: str | None, position: "Position", things: "Opened") -> list[str]:
    """Routes that read its topic, and whose group has committed beyond it. The ledger is asked after that: what it has then was settled meanwhile."""
    routes = things.settings.routes
    asked = [name for name in sorted(routes) if routes[name].source == position.topic and route in {None, name}]
    return [name for name in asked if _commit(name, position, things)["passed"] and things.ledger.seen(name, position) is None]


def _told(rows: "list[Delivery]", things: "Opened") -> Iterator[dict[str, Any]]:
    results = _results(rows, things)
    letters = _letters(rows, things)
    for row in rows:
        key = (row.route, str(row.position))
        plans = things.ledger.replays.of_position(row.route, row.position)
        deeds = things.ledger.replays.audit(positions=[(row.route, row.position)], replays=plans)
        yield {
            "position": str(row.position),
            "route": row.route,
            "source": _source(things.bus, row.position),
            "ledger": _ledger(row),
            "results": [_result(one) for one in results.get(key, [])],
            "dead_letters": letters.get(key, []),
            "commit": _commit(row.route, row.position, things),
            "probe_due_ms": _probe_due(row, things),
            "plans": plans,
            "audit": [deed_json(deed) for deed in deeds],
            "audit_lines": [deed_line(deed) for deed in deeds],
        }


def _source(bus: "Bus", position: "Position | None") -> dict[str, Any] | None:
    from pipeline.errors import BusRefused

    try:
        found = bus.fetch(position) if position is not None else None
    except BusRefused:
        return None  # no such topic
    return {"appended_ms": found.timestamp_ms, "bytes": len(found.value or b"")} if found is not None else None


def _ledger(row: "Delivery") -> dict[str, Any]:
    return {
        "state": row.state.value,
        "reason": row.reason,
        "where": row.where,
        "event": row.event,
        "control_id": row.control_id,
        "request_id": row.request_id,
        "mapping_version": row.mapping_version,
        "attempt": row.attempt,
        "step": row.step,
        "http_status": row.http_status,
        "response_ms": row.response_ms,
        "at_ms": row.at_ms,
        "open": row.open,
        "replay": row.replay,
        "duplicate_of": row.pointer,
    }


def _results(rows: "list[Delivery]", things: "Opened") -> "dict[tuple[str, str], list[Result]]":
    """Everything that the results topic has of these, in the order of time."""
    wanted = {(row.route, str(row.position)) for row in rows}
    found: dict[tuple[str, str], list[Result]] = {}
    for result in _having(things, "source_offset", *{row.position.offset for row in rows}):
        key = (result.route, str(_place(result)))
        if key in wanted:
            found.setdefault(key, []).append(result)
    return {key: sorted(each, key=lambda one: (one.settled_ms, one.attempt)) for key, each in found.items()}


def _result(result: "Result") -> dict[str, Any]:
    names = (
        "result_id", "request_id", "settled", "state", "reason", "where", "operation", "attempt", "step", "http_status", "issue_codes",
        "response_ms", "sent_ms", "settled_ms", "confirmed_by", "mapping_version", "replay_id", "possible_duplicate",
    )  # fmt: skip
    return {name: value for name in names if (value := getattr(result, name)) not in (None, ())}


def _letters(rows: "list[Delivery]", things: "Opened") -> dict[tuple[str, str], list[str]]:
    from pipeline.commands.dead_letters import letters

    wanted = {(row.route, str(row.position)) for row in rows}
    topics = {things.settings.dead_letters_of(row.route) for row in rows if row.route in things.settings.routes}
    found: dict[tuple[str, str], list[str]] = {}
    for letter in letters(things.bus, sorted(topics & things.bus.topics().keys())):
        key = (letter.said.route, letter.source)
        if key in wanted:
            found.setdefault(key, []).append(str(letter.position))
    return found


def _commit(route: str, position: "Position", things: "Opened") -> dict[str, Any]:
    """How far the route's group is on the record's partition."""
    from pipeline.bus.port import TopicPartition
    from pipeline.errors import BusRefused

    if route not in things.settings.routes:
        return {"group": None, "committed": None, "passed": None}
    group = things.settings.group_of(route)
    try:
        stands = things.bus.committed(group, position.topic).get(TopicPartition(position.topic, position.partition))
    except BusRefused:
        stands = None  # no such topic
    return {"group": group, "committed": stands, "passed": stands is not None and position.offset < stands}


def _probe_due(row: "Delivery", things: "Opened") -> int | None:
    """When, at the earliest, the partner is asked what became of it. A worker that was started since may wait for longer: it does not go by another's clock."""
    from pipeline import wiring
    from pipeline.model import Intent
    from schemas.outcomes import Reason, State

    seen = things.ledger.seen(row.route, row.position)
    if seen is None or seen.sent_ms is None or row.operation is None or row.route not in things.settings.routes:
        return None
    if not (seen.reason is Reason.AWAITING_PROBE or (seen.state is State.UNKNOWN and seen.intent is Intent.CREATE)):
        return None
    partner = wiring.partner_of(things.settings, things.settings.routes[row.route].partner, things.catalogue)
    return seen.sent_ms + int(partner.probe_after(row.operation) * 1000)


def _lines(told: dict[str, Any], audit: list[str]) -> list[str]:
    ledger, source, commit = told["ledger"], told["source"], told["commit"]
    first = f"appended {at(source['appended_ms'])}, {source['bytes']} bytes" if source else "not on its topic any more"
    what = " ".join(part for part in (ledger["event"], printable(ledger["control_id"] or "")) if part)
    lines = [f"{told['position']} on {told['route']}", f"  source      {first}"]
    lines += [f"  message     {what or 'could not be read'}", f"  mapping     {ledger['mapping_version'] or 'none'}"]
    lines += [f"  attempt     {_attempt_line(one)}" for one in told["results"] if not one["settled"]]
    lines += [f"  result      {_attempt_line(one)}" for one in told["results"] if one["settled"]]
    lines += [f"  dead letter {place}" for place in told["dead_letters"]]
    lines.append(f"  ledger      {_ledger_line(ledger)}")
    if told["probe_due_ms"] is not None:
        lines.append(f"  probe       at {at(told['probe_due_ms'])} at the earliest")
    passed = {True: "passed", False: "not passed yet", None: "no such route in the settings"}[commit["passed"]]
    stands = f" (group {commit['group']} stands at {commit['committed']})" if commit["committed"] is not None else ""
    lines.append(f"  offset      {passed}{stands}")
    lines += [f"  replay      plan {plan}" for plan in told["plans"]]
    return [*lines, *(f"  audit       {line}" for line in audit), ""]


def _attempt_line(one: dict[str, Any]) -> str:
    parts = [
        at(one["settled_ms"]),
        f"try {one['attempt']}" if one["attempt"] else "",
        one.get("operation") or "",
        f"step {one['step']}" if one.get("step") else "",
        str(one.get("http_status") or ""),
        f"{one['response_ms']:.0f} ms" if one.get("response_ms") is not None else "",
        str(one["state"]),
        str(one.get("reason") or ""),
        f"at {one['where']}" if one.get("where") else "",
        f"confirmed by {one['confirmed_by']}" if one.get("confirmed_by") else "",
        f"plan {one['replay_id']}" if one.get("replay_id") else "",
        "possible duplicate" if one.get("possible_duplicate") else "",
    ]
    return "  ".join(part for part in parts if part)


def _ledger_line(ledger: dict[str, Any]) -> str:
    parts = [
        ledger["state"],
        ledger["reason"] or "",
        f"step {ledger['step']} is open" if ledger["step"] else "",
        "an intent is open" if ledger["open"] else "",
        f"same as {ledger['duplicate_of']}" if ledger["duplicate_of"] else "",
        f"since {at(ledger['at_ms'])}",
        f"request {ledger['request_id']}" if ledger["request_id"] else "",
    ]
    return "  ".join(part for part in parts if part)
