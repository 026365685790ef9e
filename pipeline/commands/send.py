"""Messages onto a route's source topic, or to an MLLP address with --to (each waits for its acknowledgement).

FILE is a file, a folder (all its files, sorted by name, hidden ones left out) or `-` for stdin; one message or many: FHS/BHS batches,
concatenated messages, MLLP frames. What is no HL7 v2 message, or too large, is not sent and said so with its place. Nothing is sent twice by
itself: after an answer that does not come, nothing more is sent, since what follows must not pass what may have failed.
"""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.commands import DONE, NOT_ALL, json_argument, seconds, settings_argument

if TYPE_CHECKING:
    from pipeline.bus.port import Pending, Producer, Record
    from pipeline.listen.client import MllpClient
    from pipeline.settings import Settings

EXAMPLE: Final = """  emr-pipeline send monday/ batch.hl7                 onto the source topic of the only route
  emr-pipeline send - --topic his.adt < batch.hl7     from stdin onto a topic
  emr-pipeline send a04.hl7 --to localhost:2575       to an MLLP listener
  emr-pipeline send a04.hl7 --to emr.example:2576 --tls --ca ca.pem --certificate his.pem --key his.key"""

CHUNK: Final = 500
"""Records that are made durable together."""
STORE_SECONDS: Final = 30.0


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file, a folder, or `-` for stdin")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--topic", help="topic to append to (else the source of the route)")
    where.add_argument("--route", help="route whose source topic it is (else the only one)")
    where.add_argument("--to", metavar="HOST:PORT", help="send by MLLP instead, and wait for each acknowledgement")
    mllp = parser.add_argument_group("with --to")
    mllp.add_argument("--timeout", type=seconds, default=30.0, metavar="SECONDS", help="for each acknowledgement (%(default)g)")
    mllp.add_argument("--tls", action="store_true", help="speak TLS; the listener's certificate is checked")
    mllp.add_argument("--ca", type=Path, metavar="FILE", help="PEM of what vouches for the listener (else the system's list)")
    mllp.add_argument("--certificate", type=Path, metavar="FILE", help="our PEM certificate, for mutual TLS")
    mllp.add_argument("--key", type=Path, metavar="FILE", help="its key")
    mllp.add_argument("--server-name", metavar="NAME", help="name that the listener's certificate must have (else HOST)")
    settings_argument(parser)
    json_argument(parser, "the counts and what failed")


@dataclass(frozen=True, slots=True)
class Item:
    """A message and where it stands: the how-manieth of which file, from which line."""

    file: str
    index: int
    line: int
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that did not go. No value of it is here."""

    file: str
    index: int
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: message {self.index}: {self.why}"


@dataclass(slots=True)
class Tally:
    """What became of the messages; `to` says whereto."""

    to: str
    sent: int = 0
    """Durable on the topic, or accepted by the receiver."""
    not_sent: int = 0
    """Left unsent behind a message that failed."""
    failures: list[Failure] = field(default_factory=list)
    problem: str | None = None
    """Why nothing went at all."""

    def fail(self, item: Item, why: str) -> None:
        """Count it and say it at once."""
        failure = Failure(item.file, item.index, item.line, why)
        self.failures.append(failure)
        print(f"emr-pipeline send: {failure}", file=sys.stderr)

    def end(self, unstored: list[Item], left: int, stored: int, why: str) -> None:
        """The bus takes no more: one line for all of `unstored` and the `left` behind them. `stored` of them were, out of turn."""
        first = unstored[0]
        self.failures.append(Failure(first.file, first.index, first.line, why))
        self.not_sent = len(unstored) - 1 + left
        but = f" (but {stored} of those behind it, on other partitions)" if stored else ""
        print(
            f"emr-pipeline send: from {first.file}:{first.line} message {first.index} on nothing was stored{but}: {why}",
            file=sys.stderr,
        )

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "to": self.to,
            "read": self.sent + self.not_sent + len(self.failures),
            "sent": self.sent,
            "failed": len(self.failures),
            "not_sent": self.not_sent,
            "problem": self.problem,
            "failures": [asdict(failure) for failure in self.failures],
        }


def run(arguments: Namespace) -> int:
    import json

    from pipeline import settings
    from pipeline.errors import SettingsError

    for name, needs in (("tls", "to"), ("ca", "tls"), ("certificate", "tls"), ("key", "tls"), ("server_name", "tls")):
        if getattr(arguments, name) and not getattr(arguments, needs):
            raise SettingsError(f"only with --{needs}", where="--" + name.replace("_", "-"))
    if (arguments.certificate is None) != (arguments.key is None):
        raise SettingsError("--certificate and --key go together", where="--certificate")
    loaded = settings.load(settings.find(arguments.settings))
    items = list(_items(arguments.files))
    tally = _by_mllp(arguments, loaded, items) if arguments.to else _onto_topic(arguments, loaded, items)
    told = tally.as_json()
    if arguments.json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        left = f", {told['not_sent']} not sent" if told["not_sent"] else ""
        print(
            f"{told['read']} read, {told['sent']} {'accepted by' if arguments.to else 'on topic'} {tally.to}, {told['failed']} failed{left}"
        )
    return DONE if told["sent"] == told["read"] else NOT_ALL


def _items(names: list[str]) -> Iterator[Item]:
    from pipeline.commands.map import files, read
    from pipeline.hl7.batch import split

    for name in files(names):
        data = read(name)
        at = line = 0
        for index, value in enumerate(split(data), 1):
            found = data.find(value, at)  # not found: UTF-16, whose messages are cut from a copy
            if found >= 0:
                line += _line_ends(data[at:found])
                at = found
            yield Item(name, index, line + 1, value)


def _line_ends(data: bytes) -> int:
    """CR, LF and CRLF each end a line, as editors count."""
    return data.count(b"\r") + data.count(b"\n") - data.count(b"\r\n")


def _unfit(item: Item, loaded: "Settings") -> str | None:
    """Why a message cannot go at all."""
    from pipeline.hl7.ack import read_header

    if len(item.value) > loaded.site.most_bytes:
        return f"larger than site.most_bytes ({loaded.site.most_bytes})"
    header = read_header(item.value)
    return "no readable MSH segment" if header is None or header.segment != "MSH" else None


def _onto_topic(arguments: Namespace, loaded: "Settings", items: list[Item]) -> Tally:
    from pipeline.bus.open import open_bus
    from pipeline.errors import SettingsError

    topic = arguments.topic or _source_of(arguments, loaded)
    tally = Tally(topic)
    bus = open_bus(loaded)
    try:
        if topic not in bus.topics():
            raise SettingsError(
                f"the bus has no topic {topic}; make it with: emr-pipeline topics create",
                where="--topic" if arguments.topic else "source",
            )
        fit: list[Item] = []
        for item in items:
            why = _unfit(item, loaded)
            if why:
                tally.fail(item, why)
            else:
                fit.append(item)
        with bus.producer() as producer:
            _append(producer, topic, loaded, fit, tally)
    finally:
        bus.close()
    return tally


def _source_of(arguments: Namespace, loaded: "Settings") -> str:
    from pipeline.errors import SettingsError

    names = ", ".join(sorted(loaded.routes))
    if arguments.route is None and len(loaded.routes) != 1:
        raise SettingsError(
            f"several routes; name one of {names}, or a --topic" if names else "no route in the settings; name a --topic",
            where="--route",
        )
    name = arguments.route or next(iter(loaded.routes))
    if name not in loaded.routes:
        raise SettingsError(f"no such route in the settings; there is {names}", where=f"--route {name}")
    return loaded.routes[name].source


def _append(producer: "Producer", topic: str, loaded: "Settings", items: list[Item], tally: Tally) -> None:
    """In order, a chunk at a time; the chunk in which the bus does not take one is the last."""
    from pipeline.errors import BusError

    for start in range(0, len(items), CHUNK):
        until = time.monotonic() + STORE_SECONDS
        begun: list[tuple[Item, Pending | BusError]] = []
        for item in items[start : start + CHUNK]:
            try:
                begun.append((item, producer.send(_record(topic, item, loaded))))
            except BusError as error:
                begun.append((item, error))
                break
        unstored: list[Item] = []
        behind, why = 0, ""
        for item, pending in begun:
            try:
                if isinstance(pending, BusError):
                    raise pending
                pending.wait(max(0.0, until - time.monotonic()))
                tally.sent += 1
                behind += bool(unstored)
            except BusError as error:
                unstored.append(item)
                why = why or str(error)
        if unstored:
            tally.end(unstored, len(items) - start - len(begun), behind, why)
            return


def _record(topic: str, item: Item, loaded: "Settings") -> "Record":
    from pipeline.bus.port import Record
    from pipeline.errors import Ended
    from pipeline.hl7.er7 import parse
    from pipeline.hl7.event import source_key

    try:
        key = source_key(parse(item.value, charset=loaded.site.charset))
    except Ended:
        key = None
    received_ms = time.time_ns() // 1_000_000
    return Record(topic, item.value, key=key, headers=(("received_ms", str(received_ms).encode()), ("received_by", b"send")))


def _by_mllp(arguments: Namespace, loaded: "Settings", items: list[Item]) -> Tally:
    from pipeline.errors import NotSent
    from pipeline.listen.address import parse_address
    from pipeline.listen.client import MllpClient, NotAcknowledged
    from pipeline.listen.tls import client_context
    from pipeline.settings_sections import TlsFiles

    address = parse_address(arguments.to, where="--to")
    tls = None
    if arguments.tls:
        tls = client_context(TlsFiles(ca=arguments.ca, certificate=arguments.certificate, key=arguments.key), where="--tls")
    tally = Tally(str(address))
    at = 0
    try:
        with MllpClient(address, tls=tls, server_name=arguments.server_name, timeout=arguments.timeout) as client:
            for at, item in enumerate(items, 1):  # noqa: B007 - used behind the loop
                _send_one(client, item, loaded, tally)
    except NotSent as error:
        print(f"emr-pipeline send: {error}", file=sys.stderr)
        tally.problem = str(error)
        tally.not_sent = len(items)
    except NotAcknowledged as error:
        tally.fail(items[at - 1], str(error))
        tally.not_sent = len(items) - at
    return tally


def _send_one(client: "MllpClient", item: Item, loaded: "Settings", tally: Tally) -> None:
    why = _unfit(item, loaded)
    if why:
        tally.fail(item, why)
        return
    answer = client.send(item.value)
    if answer is None or answer.accepted:
        tally.sent += 1
        return
    code = f", error {answer.error} of table 0357" if answer.error else ""
    tally.fail(item, f"answered {answer.code}{code}")
