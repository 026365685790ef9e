"""Everything on this machine: an embedded bus, the stand-ins for Roche and NJSAMS, `listen`, a worker for each, and some 240 sample messages over MLLP.

All messages are on one topic, which both read: 200 of two European hospitals, which only Roche gets, and those of an American clinic, which go to both.

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
    from pipeline.sandbox.log import Effect
    from pipeline.sandbox.njsams import NjsamsSandbox
    from pipeline.sandbox.roche import RocheSandbox
    from pipeline.sandbox.traffic import Sample
    from pipeline.settings import Settings
    from schemas.result import Result

EXAMPLE: Final = """  emr-pipeline demo
  emr-pipeline demo --json | jq .states"""
ROCHE: Final = "roche-patients"
NJSAMS: Final = "njsams-clients"
PUBLISHED: Final = {"patient-create": (1507.17, 10_000), "patient-update": (1950.07, 4_000)}
"""Milliseconds, average and worst (contracts/roche.md section 8)."""
MARK: Final = "settings.yaml"


def configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--folder", type=Path, default=Path("emr-pipeline-data/demo"), metavar="DIR", help="where it works (default %(default)s)"
    )
    parser.add_argument(
        "--messages", type=int, default=200, metavar="N", help="how many of the European hospitals (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of traffic and latency (default %(default)s)")
    parser.add_argument(
        "--scale", type=float, default=0.02, metavar="X", help="of the partner's published response times (default %(default)s)"
    )
    json_argument(parser, "what happened")


def run(arguments: Namespace) -> int:
    from pipeline import settings
    from pipeline.sandbox.njsams import NjsamsSandbox
    from pipeline.sandbox.roche import RocheSandbox
    from pipeline.telemetry import log_to

    _fresh(arguments.folder)
    begun = time.monotonic()
    knobs = {"latency": "published", "latency_scale": arguments.scale, "seed": arguments.seed}
    log_file = arguments.folder / "log.jsonl"
    folder: Path = arguments.folder
    with (
        log_to(log_file),
        RocheSandbox(folder / "sandbox", knobs) as roche,
        NjsamsSandbox(folder / "sandbox-njsams", {"latency": "none"}) as njsams,
    ):
        path = _write_settings(folder, roche, njsams)
        loaded = settings.load(path)
        say = (lambda _line: None) if arguments.json else _say
        say(f"Roche's stand-in: {roche.base_url} (mTLS), answering at {arguments.scale:g} of its published times")
        say(f"NJSAMS's stand-in: {njsams.base_url} (TLS, access tokens)")
        acks, results = _traffic(loaded, arguments, say)
        told = _told(arguments, acks, results, roche, njsams, seconds=time.monotonic() - begun)
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


def _write_settings(folder: Path, roche: "RocheSandbox", njsams: "NjsamsSandbox") -> Path:
    key = folder / "patient-hash.key"
    key.touch(mode=0o600)
    key.write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
    path = folder / MARK
    path.write_text(SETTINGS.format(roche=roche.base_url, njsams=njsams.base_url), encoding="utf-8")
    return path


def _traffic(settings: "Settings", arguments: Namespace, say: Any) -> tuple[Counter[str], list["Result"]]:  # noqa: ANN401 - a printer
    """Listen, work and send; returns when all that was accepted is settled by both."""
    from pipeline import wiring
    from pipeline.listen.server import MllpServer
    from pipeline.sandbox import clinic
    from pipeline.sandbox.traffic import samples

    assert settings.listen is not None  # noqa: S101 - written above
    with wiring.workers(settings, [ROCHE, NJSAMS]) as workers:
        bus = workers[0].bus
        bus.create_topics(wiring.topic_settings(settings))
        with MllpServer(bus, settings.listen, settings.site) as server:
            say(f"listening for MLLP on {server.address}; a worker for each partner reads {workers[0].topics.source}")
            failures: list[BaseException] = []
            threads = [
                threading.Thread(target=_work, args=(worker, failures), name=worker.plan.name, daemon=True) for worker in workers
            ]
            for thread in threads:
                thread.start()
            traffic = samples(arguments.messages, arguments.seed)
            watch = _Watch(workers, threads, len(traffic) + len(clinic.messages()), quiet=arguments.json)
            acks = _send(server, traffic, watch)
            for worker in workers:
                worker.drain()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
                    watch.show()
            watch.end()
            if failures:
                raise failures[0]
        return acks, _results(workers[0])


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
    from pipeline.sandbox import clinic

    acks: Counter[str] = Counter()
    with MllpClient(server.address) as client:
        for message, waits in (*((one.bytes, False) for one in clinic.messages()), *((one.bytes, one.waits) for one in traffic)):
            while waits and not watch.settled(server.stored):
                time.sleep(0.05)
            answer = client.send(message)
            acks[answer.code if answer else "none"] += 1
            watch.sent += 1
            watch.show()
    return acks


@dataclass(slots=True)
class _Watch:
    """The line that moves while it works; on a terminal only, and not with --json."""

    workers: "list[Worker]"
    threads: list[threading.Thread]
    total: int
    quiet: bool
    sent: int = 0

    def settled(self, stored: int) -> bool:
        """Whether the workers have so many behind them, or one has ended."""
        return not all(thread.is_alive() for thread in self.threads) or all(
            worker.progress.read >= stored for worker in self.workers
        )

    def show(self) -> None:
        """Write it again."""
        if self.quiet or not sys.stderr.isatty():
            return
        settled = ", ".join(f"{worker.progress.read} by {worker.plan.route.partner}" for worker in self.workers)
        print(
            f"\r\033[K{self.sent} of {self.total} sent; settled {settled}",
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
    arguments: Namespace,
    acks: Counter[str],
    results: list["Result"],
    roche: "RocheSandbox",
    njsams: "NjsamsSandbox",
    *,
    seconds: float,
) -> dict[str, Any]:
    """What happened, as one object; `unexpected` where it is not what the traffic was made for."""
    settled = {name: [result for result in results if result.settled and result.route == name] for name in (ROCHE, NJSAMS)}
    refused = acks["AR"] + acks["CR"]
    wanted = _wanted(arguments)
    at = {ROCHE: _at_roche(roche.log.effects()), NJSAMS: _at_njsams(njsams.log.effects())}
    routes = {name: _route(found, refused, wanted[name]) | {"partner": at[name]} for name, found in settled.items()}
    unexpected = [f"{name}: {line}" for name, route in routes.items() for line in route.pop("unexpected")]
    return {
        "sent": sum(acks.values()),
        "acknowledged": dict(sorted(acks.items())),
        "read": len(settled[ROCHE]),
        "routes": routes,
        "attempts_that_did_not_settle": sum(not result.settled for result in results),
        "response_ms": _times(settled[ROCHE], arguments.scale),
        "seconds": round(seconds, 1),
        "settings": str(arguments.folder / MARK),
        "as_expected": not unexpected and not any(number for each in at.values() for number in each["created_twice"].values()),
        "unexpected": unexpected,
    }


Ends = Counter[tuple[str, str | None]]


def _wanted(arguments: Namespace) -> dict[str, Ends]:
    """How many are to end in each state and reason, on each route."""
    from pipeline.sandbox import clinic
    from pipeline.sandbox.traffic import REFUSED, expected, samples

    roche = Counter(expected(arguments.messages, arguments.seed))
    njsams: Ends = Counter(_elsewhere(sample, REFUSED) for sample in samples(arguments.messages, arguments.seed))
    for sample in clinic.messages():
        roche[sample.roche] += 1
        njsams[sample.njsams] += 1
    return {ROCHE: roche, NJSAMS: njsams}


def _elsewhere(sample: "Sample", refused: str) -> tuple[str, str | None]:
    """What becomes of a European hospital's message on the way to NJSAMS."""
    if sample.state == refused:
        return refused, sample.reason
    return "filtered", "not_production" if sample.reason == "not_production" else "facility_not_routed"


def _route(settled: list["Result"], refused: int, wanted: Ends) -> dict[str, Any]:
    states = Counter(str(result.state) for result in settled)
    ends: Ends = Counter((str(result.state), result.reason and str(result.reason)) for result in settled)
    ends["refused", "not_hl7"] += refused
    return {
        "states": dict(states.most_common()),
        "reasons": dict(Counter(f"{result.state}: {result.reason}" for result in settled if result.reason).most_common()),
        "unexpected": sorted(
            f"{state}: {reason}: {ends[state, reason]} instead of {wanted[state, reason]}"
            for state, reason in ends.keys() | wanted.keys()
            if ends[state, reason] != wanted[state, reason]
        ),
    }


def _at_roche(effects: "list[Effect]") -> dict[str, dict[str, int]]:
    created = [effect for effect in effects if effect.effect == "created"]
    twice = len(created) - len({(effect.system, effect.identifier) for effect in created})
    updated = sum(effect.effect == "updated" for effect in effects)
    return {"created": {"Patient": len(created)}, "created_twice": {"Patient": twice}, "updated": {"Patient": updated}}


def _at_njsams(effects: "list[Effect]") -> dict[str, dict[str, int]]:
    written = [one for effect in effects for one in effect.written]
    created = [one for one in written if one.effect == "created"]
    twice = {kind: [key for one in created if one.type == kind for key in one.keys] for kind in {one.type for one in created}}
    return {
        "created": dict(sorted(Counter(one.type for one in created).items())),
        "created_twice": {kind: len(keys) - len(set(keys)) for kind, keys in sorted(twice.items())},
        "updated": dict(sorted(Counter(one.type for one in written if one.effect == "updated").items())),
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
        f"\n{told['sent']} messages sent over MLLP, acknowledged {acks}; {told['read']} read and settled in {told['seconds']} s"
    )
    for name, partner in ((ROCHE, "Roche"), (NJSAMS, "NJSAMS")):
        _route_table(partner, told["routes"][name])
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


def _route_table(partner: str, route: dict[str, Any]) -> None:
    print(f"\n  to {partner}")
    for state, count in route["states"].items():
        print(f"    {state:12} {count:5}")
        for key, number in route["reasons"].items():
            if key.startswith(f"{state}: "):
                print(f"        {key.partition(': ')[2]:28} {number:5}")
    done = route["partner"]
    for kind, count in done["created"].items():
        print(
            f"    there: {kind:12} {count:3} created, {done['created_twice'][kind]} of them twice, {done['updated'].get(kind, 0)} updated"
        )


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
    base_url: {roche}
    org_id: 2.16.724.4.2
    client_id: "1234567890"
    client_secret: {{file: sandbox/client-secret}}
    tls: {{ca: sandbox/ca.pem, certificate: sandbox/client.pem, key: sandbox/client.key}}
  njsams:
    kind: njsams
    base_url: {njsams}
    tls: {{ca: sandbox-njsams/ca.pem}}
    oauth:
      client_id: emr-pipeline
      client_secret: {{file: sandbox-njsams/client-secret}}
      scope: system/*.write
    facilities: {{NJDEMO: "123456"}}
    payors: {{MEDICAID: Organization/12}}
routes:
  roche-patients: {{partner: roche, source: his.adt, start: earliest}}
  njsams-clients:
    partner: njsams
    source: his.adt
    start: earliest
    facilities: [NJDEMO]
    part2: [{{facility: NJDEMO, programs: [SUD-IOP]}}]
listen: {{address: "127.0.0.1:0", topic: his.adt}}
"""
