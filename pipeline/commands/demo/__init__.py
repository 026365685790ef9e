"""Everything on this machine: an embedded bus, stand-ins for Roche, NJSAMS and RoQua, `listen`, a worker for each, and some 280 sample messages over MLLP.

All messages are on one topic, which all read: 200 of two European hospitals, which only Roche gets, those of an American clinic, which go to Roche and to
NJSAMS, questionnaires of a Dutch one, which go to RoQua and are read back from there as Observations, and appointments of a Dutch hospital, which
its patients then read by MedMij: the last table is one patient's own, with --open it is a page too.

It makes a folder of its own, leaves it for a look afterwards, and makes it anew the next time. All ports are free ones on loopback.
"""

import datetime as dt
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
from zoneinfo import ZoneInfo

from pipeline.commands import DONE, NOT_ALL, json_argument
from pipeline.commands.demo.routes import MARK, MEDMIJ, NJSAMS, ROCHE, ROQUA, SETTINGS
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.commands.demo.appointments import ReadBack
    from pipeline.delivery.worker import Worker
    from pipeline.listen.server import MllpServer
    from pipeline.sandbox.medmij.stand_in import MedmijSandbox
    from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
    from pipeline.sandbox.roche.stand_in import RocheSandbox
    from pipeline.sandbox.roqua.stand_in import RoquaSandbox
    from pipeline.sandbox.traffic import Sample
    from pipeline.settings import Settings
    from schemas.result import Result

ZONE: Final = ZoneInfo("Europe/Amsterdam")
EXAMPLE: Final = """  emr-pipeline demo
  emr-pipeline demo --open
  emr-pipeline demo --json | jq .states"""


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
    parser.add_argument(
        "--open", action="store_true", help="write the patient's appointments as a page too, and open it in the browser"
    )
    json_argument(parser, "what happened")


def run(arguments: Namespace) -> int:
    from pipeline import settings
    from pipeline.commands.demo.appointments import read_by_patients
    from pipeline.commands.demo.back import read_back
    from pipeline.commands.demo.told import table, told
    from pipeline.sandbox.medmij.stand_in import MedmijSandbox
    from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
    from pipeline.sandbox.roche.stand_in import RocheSandbox
    from pipeline.sandbox.roqua.stand_in import RoquaSandbox
    from pipeline.telemetry import log_to

    _fresh(arguments.folder)
    begun, today = time.monotonic(), dt.datetime.now(ZONE).date()
    knobs = {"latency": "published", "latency_scale": arguments.scale, "seed": arguments.seed}
    log_file = arguments.folder / "log.jsonl"
    folder: Path = arguments.folder
    with (
        log_to(log_file),
        RocheSandbox(folder / "sandbox", knobs) as roche,
        NjsamsSandbox(folder / "sandbox-njsams", {"latency": "none"}) as njsams,
        RoquaSandbox(folder / "sandbox-roqua", {"latency": "none"}) as roqua,
        MedmijSandbox(folder / "sandbox-medmij", {"latency": "none"}) as medmij,
    ):
        path = _write_settings(folder, roche, njsams, roqua, medmij)
        loaded = settings.load(path)
        say = (lambda _line: None) if arguments.json else _say
        say(f"Roche's stand-in: {roche.base_url} (mTLS), answering at {arguments.scale:g} of its published times")
        say(f"NJSAMS's stand-in: {njsams.base_url} (TLS, access tokens)")
        say(f"RoQua's stand-in: {roqua.base_url} (TLS, Basic token)")
        say(f"MedMij's stand-in: {medmij.issuer} (tokens that stand for a patient)")
        acks, results = _traffic(loaded, arguments, today, say)
        effects = {ROCHE: roche.log.effects(), NJSAMS: njsams.log.effects(), ROQUA: roqua.log.effects(), MEDMIJ: []}
        read = read_by_patients(loaded, folder, medmij, today)
        back = read_back(loaded) | {"appointments": read.told}
        happened = told(arguments, acks, results, effects, back, today=today, seconds=time.monotonic() - begun)
    if arguments.json:
        import orjson

        print(orjson.dumps(happened, option=orjson.OPT_INDENT_2).decode())
    else:
        table(happened)
        _show(read)
    if arguments.open:
        _open(folder, read, say)
    return DONE if happened["as_expected"] else NOT_ALL


def _show(read: "ReadBack") -> None:
    from pipeline.commands.fetch.table import show

    print("\nWhat one of the patients reads (MedMij):")
    show(iter(read.shown), "Appointment")


def _open(folder: Path, read: "ReadBack", say: Any) -> None:  # noqa: ANN401 - a printer
    """The page is the patient's: nobody else of this machine may read it."""
    import webbrowser

    from pipeline.commands.demo.page import page

    path = (folder / "appointments.html").resolve()
    path.touch(mode=0o600)
    path.write_text(page(read.shown, "Ziekenhuis Zuid", dt.datetime.now(ZONE)), encoding="utf-8")
    opened = webbrowser.open(path.as_uri())
    say(f"\n  as a page{'' if opened else ' (no browser was found: open it yourself)'}: {path}")


def _say(line: str) -> None:
    print(line, flush=True)


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


def _write_settings(
    folder: Path, roche: "RocheSandbox", njsams: "NjsamsSandbox", roqua: "RoquaSandbox", medmij: "MedmijSandbox"
) -> Path:
    from pipeline.commands.demo.appointments import free_port

    key = folder / "patient-hash.key"
    key.touch(mode=0o600)
    key.write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
    path = folder / MARK
    port = free_port()
    text = SETTINGS.format(
        roche=roche.base_url,
        njsams=njsams.base_url,
        roqua=roqua.base_url,
        token=roqua.token_key,
        issuer=medmij.issuer,
        serve=f"https://localhost:{port}/fhir",
        port=port,
    )
    path.write_text(text, encoding="utf-8")
    return path


def _traffic(
    settings: "Settings",
    arguments: Namespace,
    today: dt.date,
    say: Any,  # noqa: ANN401 - a printer
) -> tuple[Counter[str], list["Result"]]:
    """Listen, work and send; returns when all that was accepted is settled by all."""
    from pipeline import wiring
    from pipeline.listen.server import MllpServer
    from pipeline.sandbox import agenda, clinic, rom
    from pipeline.sandbox.traffic import samples

    assert settings.listen is not None  # noqa: S101 - written above
    with wiring.workers(settings, [ROCHE, NJSAMS, ROQUA, MEDMIJ]) as workers:
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
            ours = [one.bytes for each in (clinic.messages(), rom.messages(), agenda.messages(today)) for one in each]
            total = len(traffic) + len(ours)
            watch = _Watch(workers, threads, total, quiet=arguments.json)
            acks = _send(server, ours, traffic, watch)
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


def _send(server: "MllpServer", ours: Iterable[bytes], traffic: Iterable["Sample"], watch: "_Watch") -> Counter[str]:
    """Each message over one MLLP connection, as a HIS does: the next when the last is acknowledged.

    A merge's two patients may lie on two partitions: it is sent when all before it is settled, so that the demo ends the same every time.
    """
    from pipeline.listen.client import MllpClient

    acks: Counter[str] = Counter()
    with MllpClient(server.address) as client:
        for message, waits in (*((each, False) for each in ours), *((one.bytes, one.waits) for one in traffic)):
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
