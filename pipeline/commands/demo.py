"""Everything on this machine: an embedded bus, the stand-in for Roche, `listen`, the worker, and about 200 sample messages over MLLP.

It makes a folder of its own, leaves it for a look afterwards, and makes it anew the next time. All ports are free ones on loopback.
"""

import os
import secrets
import shutil
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.commands import DONE, NOT_ALL, json_argument
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.delivery.worker import Worker
    from pipeline.listen.server import MllpServer
    from pipeline.sandbox.roche import RocheSandbox
    from pipeline.sandbox.traffic import Sample
    from pipeline.settings import Settings
    from schemas.result import Result

EXAMPLE: Final = """  emr-pipeline demo
  emr-pipeline demo --json | jq .states"""
ROUTE: Final = "roche-patients"
PUBLISHED: Final = {"patient-create": (1507.17, 10_000), "patient-update": (1950.07, 4_000)}
"""Milliseconds, average and worst (contracts/roche.md section 8)."""
MARK: Final = "settings.yaml"


def configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, default=Path("emr-pipeline-data/demo"), metavar="DIR", help="where it works (default %(default)s)"
    )
    parser.add_argument("--messages", type=int, default=200, metavar="N", help="how many (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of traffic and latency (default %(default)s)")
    parser.add_argument(
        "--scale", type=float, default=0.02, metavar="X", help="of the partner's published response times (default %(default)s)"
    )
    json_argument(parser, "what happened")


def run(arguments: Namespace) -> int:
    from pipeline import settings
    from pipeline.sandbox.roche import RocheSandbox
    from pipeline.telemetry import log_to

    _fresh(arguments.folder)
    begun = time.monotonic()
    knobs = {"latency": "published", "latency_scale": arguments.scale, "seed": arguments.seed}
    log_file = arguments.folder / "log.jsonl"
    with log_to(log_file), RocheSandbox(arguments.folder / "sandbox", knobs) as roche:
        path = _write_settings(arguments.folder, roche)
        loaded = settings.load(path)
        say = (lambda _line: None) if arguments.json else _say
        say(f"partner stand-in: {roche.base_url} (mTLS), answering at {arguments.scale:g} of its published times")
        acks, results = _traffic(loaded, arguments, say)
        told = _told(arguments, acks, results, roche, seconds=time.monotonic() - begun)
    if arguments.json:
        import orjson

        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        _table(told)
    return DONE if told["as_expected"] else NOT_ALL


def _fresh(folder: Path) -> None:
    """An empty folder; only what an earlier demo left is removed."""
    try:
        _emptied(folder)
    except OSError as error:
        raise SettingsError(f"cannot work there ({error.strerror}): name another --folder", where=str(folder)) from None


def _emptied(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).is_file() or "name: demo" not in (folder / MARK).read_text(encoding="utf-8"):
            raise SettingsError("is not empty and was not made by a demo: name another --folder", where=str(folder))
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _write_settings(folder: Path, roche: "RocheSandbox") -> Path:
    key = folder / "patient-hash.key"
    key.touch(mode=0o600)
    key.write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
    path = folder / MARK
    path.write_text(SETTINGS.format(base_url=roche.base_url), encoding="utf-8")
    return path


def _traffic(settings: "Settings", arguments: Namespace, say: Any) -> tuple[Counter[str], list["Result"]]:  # noqa: ANN401 - a printer
    """Listen, work and send; returns when all that was accepted is settled."""
    from pipeline import wiring
    from pipeline.listen.server import MllpServer
    from pipeline.sandbox.traffic import samples

    assert settings.listen is not None  # noqa: S101 - written above
    with wiring.workers(settings, [ROUTE]) as (worker,):
        worker.bus.create_topics(wiring.topic_settings(settings))
        with MllpServer(worker.bus, settings.listen, settings.site) as server:
            say(f"listening for MLLP on {server.address}; the worker reads {worker.topics.source}")
            failures: list[BaseException] = []
            thread = threading.Thread(target=_work, args=(worker, failures), name="worker", daemon=True)
            thread.start()
            traffic = samples(arguments.messages, arguments.seed)
            watch = _Watch(worker, thread, len(traffic), quiet=arguments.json)
            acks = _send(server, traffic, watch)
            worker.drain()
            while thread.is_alive():
                thread.join(0.2)
                watch.show()
            watch.end()
            if failures:
                raise failures[0]
        return acks, _results(worker)


def _work(worker: "Worker", failures: list[BaseException]) -> None:
    try:
        worker.run()
    except BaseException as error:  # noqa: BLE001 - handed to the main thread, which raises it
        failures.append(error)


def _send(server: "MllpServer", traffic: Iterable["Sample"], watch: "_Watch") -> Counter[str]:
    """Each message over one MLLP connection, as a HIS does: the next when the last is acknowledged.

    A merge's two patients may lie on two partitions: it is sent when all before it is settled, so that the demo ends the same every time.
    """
    from pipeline.listen.client import MllpClient

    acks: Counter[str] = Counter()
    with MllpClient(server.address) as client:
        for sample in traffic:
            while sample.waits and watch.thread.is_alive() and watch.worker.progress.read < server.stored:
                time.sleep(0.05)
            answer = client.send(sample.bytes)
            acks[answer.code if answer else "none"] += 1
            watch.sent += 1
            watch.show()
    return acks


@dataclass(slots=True)
class _Watch:
    """The line that moves while it works; on a terminal only, and not with --json."""

    worker: "Worker"
    thread: threading.Thread
    total: int
    quiet: bool
    sent: int = 0

    def show(self) -> None:
        """Write it again."""
        if self.quiet or not sys.stderr.isatty():
            return
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.worker.progress.states.items()))
        print(
            f"\r\033[K{self.sent} of {self.total} sent; settled {self.worker.progress.read}: {states}",
            end="",
            file=sys.stderr,
            flush=True,
        )

    def end(self) -> None:
        """Leave the line."""
        if not self.quiet and sys.stderr.isatty():
            print(file=sys.stderr)


def _results(worker: "Worker") -> list["Result"]:
    from schemas.result import Result

    return [Result.model_validate_json(record.value) for record in worker.bus.read(worker.topics.results) if record.value]


def _told(
    arguments: Namespace, acks: Counter[str], results: list["Result"], roche: "RocheSandbox", *, seconds: float
) -> dict[str, Any]:
    """What happened, as one object; `unexpected` where it is not what the traffic was made for."""
    from pipeline.sandbox.traffic import expected

    settled = [result for result in results if result.settled]
    effects = roche.log.effects()
    created = [effect for effect in effects if effect.effect == "created"]
    states = Counter(str(result.state) for result in settled)
    ends = Counter((str(result.state), result.reason and str(result.reason)) for result in settled)
    ends["refused", "not_hl7"] += acks["AR"] + acks["CR"]
    wanted = Counter(expected(arguments.messages, arguments.seed))
    doubled = len(created) - len({(effect.system, effect.identifier) for effect in created})
    return {
        "sent": sum(acks.values()),
        "acknowledged": dict(sorted(acks.items())),
        "read": len(settled),
        "states": dict(states.most_common()),
        "reasons": dict(Counter(f"{result.state}: {result.reason}" for result in settled if result.reason).most_common()),
        "attempts_that_did_not_settle": len(results) - len(settled),
        "partner": {
            "created": len(created),
            "created_twice": doubled,
            "updated": sum(effect.effect == "updated" for effect in effects),
        },
        "response_ms": _times(settled, arguments.scale),
        "seconds": round(seconds, 1),
        "settings": str(arguments.folder / MARK),
        "as_expected": doubled == 0 and ends == wanted,
        "unexpected": sorted(
            f"{state}: {reason}: {ends[state, reason]} instead of {wanted[state, reason]}"
            for state, reason in ends.keys() | wanted.keys()
            if ends[state, reason] != wanted[state, reason]
        ),
    }


def _times(settled: list["Result"], scale: float) -> dict[str, dict[str, float]]:
    rows = {}
    for operation, (average, worst) in PUBLISHED.items():
        taken = sorted(
            result.response_ms for result in settled if result.operation == operation and result.response_ms is not None
        )
        if taken:
            rows[operation] = {
                "count": len(taken),
                "average": round(sum(taken) / len(taken), 1),
                "p50": round(taken[len(taken) // 2], 1),
                "worst": round(taken[-1], 1),
                "published_average_scaled": round(average * scale, 1),
                "published_worst_scaled": round(worst * scale, 1),
            }
    return rows


def _say(line: str) -> None:
    print(line, flush=True)


def _table(told: dict[str, Any]) -> None:
    acks = ", ".join(f"{count} {code}" for code, count in told["acknowledged"].items())
    print(
        f"\n{told['sent']} messages sent over MLLP, acknowledged {acks}; {told['read']} read and settled in {told['seconds']} s\n"
    )
    for state, count in told["states"].items():
        print(f"  {state:12} {count:5}")
        for key, number in told["reasons"].items():
            if key.startswith(f"{state}: "):
                print(f"      {key.partition(': ')[2]:28} {number:5}")
    partner = told["partner"]
    print(
        f"\nat the partner: {partner['created']} patients created, {partner['created_twice']} of them twice, {partner['updated']} updates"
    )
    print(
        f"\n  {'response times, ms':20} {'count':>6} {'average':>9} {'p50':>8} {'worst':>8}   published, scaled: average, worst"
    )
    for operation, row in told["response_ms"].items():
        published = f"{row['published_average_scaled']:.0f}, {row['published_worst_scaled']:.0f}"
        print(f"  {operation:20} {row['count']:6} {row['average']:9.1f} {row['p50']:8.1f} {row['worst']:8.1f}   {published}")
    print("".join(f"\nNOT AS EXPECTED  {line}" for line in told["unexpected"]), end="\n" if told["unexpected"] else "")
    settings, program = told["settings"], os.path.relpath(sys.argv[0])
    print("\nWhere to look next:")
    for command, why in (
        (f"{program} results --settings {settings}", "every message, with its answer"),
        (f"{program} find --settings {settings} --state parked", "what could not go, and why"),
        (f"{program} map {os.path.relpath(Path(__file__).parents[1] / 'sample.hl7')}", "the request that a message becomes"),
        (f"less {os.path.relpath(Path(settings).with_name('log.jsonl'))}", "the log, as an operator sees it"),
    ):
        print(f"  {why}:\n      {command}")


SETTINGS: Final = """# Made by `emr-pipeline demo`.
site:
  name: demo
  zone: Europe/Amsterdam
  overlay: demo
bus: {{kind: embedded, path: bus}}
ledger: {{url: "sqlite:///ledger.sqlite"}}
keys:
  patient_hash: {{file: patient-hash.key}}
partners:
  roche:
    kind: roche
    base_url: {base_url}
    org_id: 2.16.724.4.2
    client_id: "1234567890"
    client_secret: {{file: sandbox/client-secret}}
    tls: {{ca: sandbox/ca.pem, certificate: sandbox/client.pem, key: sandbox/client.key}}
routes:
  roche-patients: {{partner: roche, source: his.adt, start: earliest}}
listen: {{address: "127.0.0.1:0", topic: his.adt}}
"""
