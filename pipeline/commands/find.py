"""Deliveries in the ledger, newest first: what became of a message, and why. No patient data is in it.

--patient-id takes the identifier as the partner knows it, SYSTEM|VALUE; only its keyed hash is compared and nothing of it is kept. Times are
2026-01-31, 2026-01-31T03:00, with or without an offset (else this machine's zone, in which times are shown, too), or ago: 30m, 12h, 7d.
"""

import re
from argparse import Action, ArgumentError, ArgumentParser, ArgumentTypeError, Namespace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pipeline.commands import DONE, json_argument, settings_argument
from pipeline.errors import SettingsError
from schemas.outcomes import Reason, State

if TYPE_CHECKING:
    from pipeline.ledger.port import Delivery, Query
    from pipeline.model import Position
    from pipeline.settings import Settings

EXAMPLE: Final = """  emr-pipeline find --state parked --since 12h
  emr-pipeline find --control-id MSG00001
  emr-pipeline find --patient-id 'urn:oid:2.16.724.4.41|TEST0000000001' --json"""
AGO: Final = re.compile(r"(\d+)([mhd])")
DIGITS: Final = 18
"""Of an offset, at most: a database has no larger number."""
MOST: Final = 1_000_000
SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--route", metavar="R")
    parser.add_argument("--replay", metavar="PLAN", help="the records of a replay plan")
    filters(parser)
    parser.add_argument("--most", type=int, default=100, metavar="N", help="how many at most (100)")
    json_argument(parser, "each delivery on a line")
    settings_argument(parser)


class Once(Action):
    """A filter has one value. Of two the last would win in silence, and half of what is meant be selected."""

    def __call__(self, _: ArgumentParser, namespace: Namespace, values: Any, _option: str | None = None) -> None:  # noqa: ANN401 - as argparse has it
        """See the class."""
        if getattr(namespace, self.dest) is not None:
            raise ArgumentError(self, "takes one value, and stands there twice: ask once for each")
        setattr(namespace, self.dest, values)


def filters(parser: ArgumentParser) -> None:
    """What `find` and `replay plan` ask for alike."""
    parser.add_argument(
        "--state",
        type=state_of,
        action=Once,
        metavar="S",
        help=f"{', '.join(State)}; unknown is all that may or may not have arrived: what is parked so, and open intents (pending*), too",
    )
    parser.add_argument("--reason", type=reason_of, action=Once, metavar="CODE", help="a reason's code, as fhir_invalid")
    parser.add_argument("--event", action=Once, metavar="E", help="MSH-9, as ADT^A08 or A08")
    parser.add_argument("--control-id", action=Once, metavar="ID", help="MSH-10")
    parser.add_argument("--request-id", action=Once, metavar="ID", help="x-origin-request-id")
    parser.add_argument(
        "--patient-id", action=Once, metavar="SYSTEM|VALUE", help="the patient's identifier, as the partner knows it"
    )
    parser.add_argument("--http-status", type=int, action=Once, metavar="N", help="what the partner answered last, as 422")
    parser.add_argument("--mapping-version", action=Once, metavar="V", help="the mapping that made it, as results have it")
    parser.add_argument(
        "--position",
        action=Once,
        metavar="TOPIC/PARTITION/OFFSET[..OFFSET]",
        help="the source record, or those of its partition up to the second",
    )
    parser.add_argument("--since", action=Once, metavar="TIME", help="a time, or 30m, 12h, 7d ago")
    parser.add_argument("--until", action=Once, metavar="TIME", help="the same")


def state_of(text: str) -> State:
    """A state of the command line."""
    if text not in list(State):
        raise ArgumentTypeError(f"no such state; there is {', '.join(State)}")
    return State(text)


def reason_of(text: str) -> Reason:
    """A reason of the command line; the whole list would be a wall, so what looks like it is named."""
    from difflib import get_close_matches

    if text not in list(Reason):
        near = get_close_matches(text, list(Reason), n=3, cutoff=0.4)
        hint = f"; there is {', '.join(near)}" if near else ""
        raise ArgumentTypeError(f"no such reason{hint}; deploy/runbook.md has them all")
    return next(reason for reason in Reason if reason == text)


def run(arguments: Namespace) -> int:
    from pipeline import settings
    from pipeline.ledger.open import not_there_yet, open_ledger

    loaded = settings.load(settings.find(arguments.settings))
    if place := not_there_yet(loaded):
        _say(arguments, f"nothing has run yet: there is no {place}")
        return DONE
    query = query_of(arguments, loaded)
    ledger = open_ledger(loaded)
    try:
        if not ledger.exists():
            _say(arguments, f"nothing has run yet on {ledger.place}")
            return DONE
        ledger.check_key()
        found = list(ledger.find(query))
    finally:
        ledger.close()
    for line in _json(found) if arguments.json else table(found, query.most):
        print(line)
    return DONE


def _say(arguments: Namespace, text: str) -> None:
    if not arguments.json:
        print(text)


def query_of(arguments: Namespace, loaded: "Settings") -> "Query":
    """The question; SettingsError where an argument says nothing."""
    from pipeline.ledger.port import Query

    if arguments.route is not None and arguments.route not in loaded.routes:
        raise SettingsError(f"no such route in the settings; there is {', '.join(sorted(loaded.routes))}", where="--route")
    if not 1 <= arguments.most <= MOST:
        raise SettingsError(f"from 1 to {MOST}", where="--most")
    if arguments.http_status is not None and arguments.http_status not in range(100, 600):
        raise SettingsError("an HTTP status has three digits, as 422", where="--http-status")
    event = None if arguments.event is None else arguments.event.upper()
    position, last = (None, None) if arguments.position is None else range_of(arguments.position, "--position")
    return Query(
        route=arguments.route,
        state=None if arguments.state is State.UNKNOWN else arguments.state,
        in_doubt=arguments.state is State.UNKNOWN,
        reason=arguments.reason.value if arguments.reason else None,
        event=event if event is None or "^" in event else f"ADT^{event}",
        control_id=arguments.control_id,
        request_id=arguments.request_id,
        position=position,
        last_offset=last,
        http_status=arguments.http_status,
        mapping_version=arguments.mapping_version,
        replay=getattr(arguments, "replay", None),
        patients=_patients(arguments, loaded),
        since_ms=time_of(arguments.since, "--since"),
        until_ms=time_of(arguments.until, "--until"),
        most=arguments.most,
    )


def _patients(arguments: Namespace, loaded: "Settings") -> tuple[str, ...]:
    """The patient's hash on each route."""
    if arguments.patient_id is None:
        return ()
    from pipeline.pseudonyms import Pseudonyms

    system, bar, value = arguments.patient_id.partition("|")
    if not (system and bar and value):
        raise SettingsError(
            "SYSTEM|VALUE, as urn:oid:2.16.724.4.41|TEST0000000001 (quote it: the shell takes | for a pipe)", where="--patient-id"
        )
    pseudonyms = Pseudonyms(loaded.keys.patient_hash.read("keys.patient_hash"))
    return tuple(pseudonyms.lane(route, system, value) for route in loaded.routes)


def position_of(text: str, where: str) -> "Position":
    """A record's place of the command line."""
    from pipeline.model import Position

    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if not (topic and _is_number(partition, digits=9) and _is_number(offset)):
        raise SettingsError("TOPIC/PARTITION/OFFSET, as his.adt/0/17", where=where)
    return Position(topic, int(partition), int(offset))


def _is_number(text: str, *, digits: int = DIGITS) -> bool:
    return text.isdecimal() and len(text) <= digits


def range_of(text: str, where: str) -> "tuple[Position, int | None]":
    """A record's place of the command line, or the first and the last offset of several in one partition."""
    first, dots, last = text.partition("..")
    position = position_of(first, where)
    if not dots:
        return position, None
    if not _is_number(last) or int(last) < position.offset:
        raise SettingsError("TOPIC/PARTITION/OFFSET..OFFSET, as his.adt/0/17..42", where=where)
    return position, int(last)


def time_of(text: str | None, where: str) -> int | None:
    """A time of the command line in milliseconds since 1970. Without an offset, one as the tables show it, so that it can be copied from there."""
    from datetime import UTC, timedelta

    if text is None:
        return None
    ago = AGO.fullmatch(text)
    try:
        when = datetime.now(UTC) - timedelta(seconds=int(ago[1]) * SECONDS[ago[2]]) if ago else datetime.fromisoformat(text)
        return int(when.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise SettingsError(
            "a time as 2026-01-31, 2026-01-31T03:00 or 2026-01-31T03:00+01:00, or 30m, 12h, 7d", where=where
        ) from None


def table(found: "list[Delivery]", most: int) -> list[str]:
    """What an operator reads: a row per delivery, then what the reasons mean and what was left out."""
    if not found:
        return ["nothing found"]
    rows = [("at", "route", "state", "reason", "event", "control id", "try", "http", "ms", "source", "where"), *map(_row, found)]
    lines = columns(rows)
    if any(one.open for one in found):
        lines += ["", "*: sent or about to be, and no answer tells yet; until one does, nothing else of this patient goes"]
    if any(one.step for one in found):
        lines += ["", "at step: the requests of the message before this one are done, and are not sent again"]
    lines += reasons({one.reason for one in found if one.reason})
    if len(found) == most:
        lines += ["", f"the newest {most} are shown: ask for more with --most, or for less with --since, --state, --reason"]
    return lines


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def reasons(codes: set[str]) -> list[str]:
    """What the reasons mean, behind an empty line."""
    sentences = {reason.value: reason.sentence for reason in Reason}
    return ["", *(f"{code}: {sentences.get(code, 'a reason of a newer version')}" for code in sorted(codes))] if codes else []


def _row(one: "Delivery") -> tuple[str, ...]:
    return (
        datetime.fromtimestamp(one.at_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        one.route,
        one.state + ("*" if one.open else "") + (f" at step {one.step}" if one.step else ""),
        one.reason or "",
        one.event or "",
        printable(one.control_id or ""),
        str(one.attempt or ""),
        str(one.http_status or ""),
        f"{one.response_ms:.0f}" if one.response_ms is not None else "",
        str(one.position),
        one.where or (f"same as {one.pointer}" if one.pointer else ""),
    )


def printable(text: str, most: int = 24) -> str:
    """A sender's text on a terminal: no control characters, not too wide."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _json(found: "list[Delivery]") -> list[str]:
    import json
    from dataclasses import asdict

    def told(one: "Delivery") -> dict[str, object]:
        return {name: value for name, value in asdict(one).items() if name not in {"sent", "claims", "operation"}} | {
            "position": str(one.position)
        }

    return [json.dumps(told(one), ensure_ascii=False) for one in found]
