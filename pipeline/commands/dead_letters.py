"""Parked messages as they stand on the dead-letter topics, newest first: reason, place, source. The list shows no patient data.

--bytes writes one original message to stdout, and that IS PATIENT DATA: mind who sees the screen, and where a file of it stays. What was parked
once stays here, also when it was ended since: `emr-pipeline find --state parked` says what is parked now. A message that is too large for the
dead-letter topic stands in its source topic alone: the list and --bytes say so.
"""

import heapq
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from pipeline.commands import DONE, WRONG, json_argument, settings_argument
from pipeline.commands.find import columns, position_of, reason_of, reasons, time_of
from pipeline.errors import SettingsError
from schemas.dead_letter import PREFIX, DeadLetter

if TYPE_CHECKING:
    from pipeline.bus.port import Bus
    from pipeline.model import Position, Received

EXAMPLE: Final = """  emr-pipeline dead-letters --since 12h
  emr-pipeline dead-letters --reason not_hl7 --json
  emr-pipeline dead-letters --bytes his.adt/0/17              patient data, on a terminal with line ends
  emr-pipeline dead-letters --bytes his.adt/0/17 | emr-pipeline map - --explain"""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: where it stands, what its headers say, the message itself."""

    position: "Position"
    said: DeadLetter
    value: bytes = field(repr=False)

    @property
    def bytes(self) -> int:
        """How long the message is, also where it is not here."""
        return len(self.value) if self.said.left_out is None else self.said.source_bytes or 0

    @property
    def source(self) -> str:
        """Where the message stood first, as `find` shows it."""
        return f"{self.said.source_topic}/{self.said.source_partition}/{self.said.source_offset}"

    @property
    def order(self) -> tuple[int, str, int, int]:
        """By time; where that is the same, as they stand on their topic."""
        return self.said.parked_ms, self.position.topic, self.position.partition, self.position.offset


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--route", metavar="R", help="only of this route")
    parser.add_argument("--reason", type=reason_of, metavar="CODE", help="a reason's code, as not_hl7")
    parser.add_argument("--since", metavar="TIME", help="a time, or 30m, 12h, 7d ago")
    parser.add_argument("--most", "--last", type=int, default=100, metavar="N", help="how many at most (100)")
    parser.add_argument(
        "--bytes",
        metavar="TOPIC/PARTITION/OFFSET",
        help="PATIENT DATA: write this one message to stdout, byte for byte; the place of its source record or of its dead letter",
    )
    json_argument(parser, "each dead letter's headers on a line")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings
    from pipeline.bus.open import open_bus

    loaded = settings.load(settings.find(arguments.settings))
    if arguments.route is not None and arguments.route not in loaded.routes:
        raise SettingsError(f"no such route in the settings; there is {', '.join(sorted(loaded.routes))}", where="--route")
    if arguments.most < 1:
        raise SettingsError("at least 1", where="--most")
    wanted = None if arguments.bytes is None else position_of(arguments.bytes, "--bytes")
    since = time_of(arguments.since, "--since") or 0
    routes = [arguments.route] if arguments.route else sorted(loaded.routes)
    bus = open_bus(loaded)
    try:
        found_letters = letters(bus, list(dict.fromkeys(loaded.dead_letters_of(route) for route in routes)))
        if wanted is not None:
            return _write(found_letters, wanted)
        found = heapq.nlargest(
            arguments.most,
            (
                one
                for one in found_letters
                if (arguments.route is None or one.said.route == arguments.route)
                and (arguments.reason is None or one.said.reason is arguments.reason)
                and one.said.parked_ms >= since
            ),
            key=lambda one: one.order,
        )
    finally:
        bus.close()
    for line in map(_json, found) if arguments.json else _table(found, arguments.most):
        print(line)
    return DONE


def letters(bus: "Bus", topics: list[str]) -> Iterator[Letter]:
    """Every dead letter that can be read; the others are counted on stderr."""
    there = bus.topics()
    for topic in topics:
        if topic not in there:
            print(f"{topic} is not there: nothing was parked yet, or emr-pipeline topics create was not run", file=sys.stderr)
            continue
        strange = 0
        for received in bus.read(topic):
            said = _said(received)
            if said is None:
                strange += 1
            else:
                yield Letter(received.position, _told(said, received), received.value or b"")
        if strange:
            print(f"{topic}: {strange} records are no dead letters that this version can read", file=sys.stderr)


def _said(received: "Received") -> DeadLetter | None:
    """Our headers; None where they are not ours, or of a newer version."""
    named = {
        name.removeprefix(PREFIX): value.decode("utf-8", "replace")
        for name, value in reversed(received.headers)  # ours stand before those of the source record
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) in DeadLetter.model_fields
    }
    try:
        return DeadLetter.model_validate(named)
    except ValidationError:
        return None


def _told(said: DeadLetter, received: "Received") -> DeadLetter:
    """What has a value leaves nothing out: such headers are the source record's own."""
    return said if received.value is None else said.model_copy(update={"left_out": None, "source_bytes": None})


def _write(letters: Iterator[Letter], wanted: "Position") -> int:
    """The newest one that stands at the position, or whose source does; one that has the message before any that has not."""
    found = [one for one in letters if str(wanted) in {one.source, str(one.position)}]
    if not found:
        print(f"emr-pipeline dead-letters: no dead letter of {wanted}: find --state parked shows what is parked", file=sys.stderr)
        return WRONG
    one = max(found, key=lambda one: (one.said.left_out is None, one.order))
    if one.said.left_out is not None:
        print(
            f"emr-pipeline dead-letters: the message, {one.bytes} bytes, was too large for {one.position.topic}: it stands in the source topic alone,"
            f" at {one.source}, for as long as that keeps it. A replay takes it from there",
            file=sys.stderr,
        )
        return WRONG
    value = one.value
    if not value:
        print("the message is empty", file=sys.stderr)
    if sys.stdout.isatty():
        print(readable(value))
        return DONE
    sys.stdout.buffer.write(value)
    sys.stdout.buffer.flush()
    return DONE


def readable(value: bytes) -> str:
    """A message for a terminal: a line for each segment, no control characters."""
    text = value.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text).rstrip("\n")


def _json(one: Letter) -> str:
    told = {"position": str(one.position), "source": one.source, "bytes": one.bytes}
    return json.dumps(told | one.said.model_dump(mode="json", exclude_none=True), ensure_ascii=False)


def _table(found: list[Letter], most: int) -> list[str]:
    if not found:
        return ["no dead letters"]
    lines = columns(
        [
            ("parked at", "route", "reason", "try", "bytes", "source", "dead letter", "where"),
            *(
                (
                    datetime.fromtimestamp(one.said.parked_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
                    one.said.route,
                    one.said.reason.value,
                    str(one.said.attempt or ""),
                    f"{one.bytes}{'*' * (one.said.left_out is not None)}",
                    one.source,
                    str(one.position),
                    one.said.where or "",
                )
                for one in found
            ),
        ]
    )
    lines += reasons({one.said.reason.value for one in found})
    if any(one.said.left_out is not None for one in found):
        lines += [
            "",
            "* too large for the dead-letter topic: the message stands in the source topic alone, as long as that keeps it",
        ]
    if len(found) == most:
        lines += ["", f"the newest {most} are shown: ask for more with --most, or for less with --since, --reason"]
    return lines
