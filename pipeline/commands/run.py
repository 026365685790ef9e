"""The worker: reads the routes' source topics, converts, delivers, writes results and dead letters, commits. Log lines go to stderr.

A watch asks a partner for what is new of each dossier, and puts it onto its topic once: `watches` of the settings.

SIGTERM or Ctrl-C finishes the message in hand, commits and ends; a second one ends at once and leaves its outcome unknown, to be
found out at the next start.
"""

import gc
import signal
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from types import FrameType
from typing import TYPE_CHECKING, Final, Protocol

from pipeline.commands import DONE, NOT_ALL, REFUSED, WRONG, seconds, settings_argument
from pipeline.errors import BusGap, PipelineError, Refused, SettingsError, place_of
from pipeline.telemetry import LogEvent, log

if TYPE_CHECKING:
    from pipeline.health import Health
    from pipeline.metrics import Metrics
    from pipeline.settings import Settings
    from pipeline.wiring import Working

SWITCH_SECONDS: Final = 0.02
"""Four times Python's own: a thread that waits for a partner has let go of the interpreter long before."""
COLLECT_AFTER: Final = 50_000
"""Objects that came and stayed, before the collector looks for circles: a thousand messages, where Python's own 700 are a dozen."""
TIDY_EVERY: Final = 60.0
"""Seconds. The collector looks in any case then: where twenty messages a second come, circles would take half an hour, and 10 MB, to be so many."""

EXAMPLE: Final = """  emr-pipeline run                    all routes of the settings
  emr-pipeline run roche-patients     one
  emr-pipeline run roqua-watch                a watch: what is new at a partner, onto a topic
  emr-pipeline run --drain            until all that is in the source topics now is settled
  emr-pipeline run --drain --within 600   and for ten minutes at most
  emr-pipeline run --http 127.0.0.1:9464   and answer /healthz, /readyz and /metrics there"""
M_ARENA_MAX: Final = -8
"""Of glibc's malloc.h."""
HEAPS: Final = 2


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("routes", nargs="*", metavar="NAME", help="routes and watches of the settings (else all)")
    parser.add_argument(
        "--drain",
        action="store_true",
        help="end when all that is in the source topics now is settled, or parked with its bytes, and each dossier of a watch was asked for once; "
        "waits for a partner that is away; exit 4 where the flood breaker stands, or a watch's partner refuses us",
    )
    parser.add_argument(
        "--within",
        type=seconds,
        metavar="SECONDS",
        help="with --drain: stop after so long, with exit 3 and a line that says how much waits, and for what; nothing is lost",
    )
    parser.add_argument("--http", metavar="HOST:PORT", help="answer /healthz, /readyz and /metrics here, and nowhere else")
    parser.add_argument(
        "--core",
        type=int,
        metavar="N",
        help="stay on this core (Linux, from 0): Python works on one at a time, and to change costs up to a third of the rate; one worker a core",
    )
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings, wiring

    if arguments.within is not None and not arguments.drain:
        raise SettingsError("it bounds --drain, and means nothing without it", where="--within")
    loaded = settings.load(settings.find(arguments.settings))
    routes, watches = wiring.what_runs(loaded, arguments.routes)
    if arguments.core is not None:
        _stay_on(arguments.core)
    _as_many_files_as_allowed()
    _few_heaps()
    metrics = _metrics() if arguments.http else None
    with wiring.working(loaded, routes, watches, metrics, metrics) as those:
        _let_threads_work()
        if arguments.drain:
            for worker in those.workers:
                worker.drain()
            for watcher in those.watchers:
                watcher.drain()
        _warn(
            loaded, [*(loaded.routes[route].partner for route in routes), *(loaded.watches[watch].partner for watch in watches)]
        )
        _stop_on_signal(those)
        with _watched(arguments.http, those, metrics):
            named: list[tuple[str, Runs]] = [
                *((one.plan.name, one) for one in those.workers),
                *((one.name, one) for one in those.watchers),
            ]
            return work(named, arguments.within)


def _stay_on(core: int) -> None:
    """All threads of this process, those that come later too."""
    import os

    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    if core not in allowed:
        found = ", ".join(str(each) for each in sorted(allowed)) or "none: this is not Linux"
        raise SettingsError(f"is not a core that this process may use; there are {found}", where=f"--core {core}")
    os.sched_setaffinity(0, {core})


def _as_many_files_as_allowed() -> None:
    """Each message in flight has a connection of its own, and the usual soft limit of 1,024 is for programs that use select."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _few_heaps() -> None:
    """Else glibc gives threads heaps of their own, eight for each core, and what is free in one serves no other.

    A worker of 64 threads grew by 2 to 4 MB a minute, and all that was free memory.
    """
    import ctypes

    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none, and one heap
    if set_option is not None:
        set_option(M_ARENA_MAX, HEAPS)


def _let_threads_work() -> None:
    """Set the interpreter up for hundreds of threads, and for thousands of messages in memory of which none is garbage.

    Each thread that wants the interpreter asks for it once in an interval, which costs more than the work where a hundred do; and the
    collector, left alone, goes through all that is in memory again and again as messages are read.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)


def _tidier() -> Callable[[], None]:
    """What gives memory back, asked often, and does it once in a while.

    It looks for circles, but not where the collector came by itself meanwhile: a quarter of a second with a thousand messages in memory. And what
    is free in the middle of the C library's heap goes back to the machine: glibc gives back by itself only what is free at the heap's end.
    """
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    due, came = time.monotonic() + TIDY_EVERY, _collections()

    def look() -> None:
        nonlocal due, came
        if time.monotonic() < due:
            return
        if _collections() == came:
            gc.collect()
        if trim is not None:
            trim(0)
        due, came = time.monotonic() + TIDY_EVERY, _collections()

    return look


def _collections() -> int:
    """How often the collector came by itself."""
    return int(gc.get_stats()[0]["collections"])


def _metrics() -> "Metrics":
    from pipeline.metrics import Metrics

    return Metrics()


@contextmanager
def _watched(address: str | None, those: "Working", metrics: "Metrics | None") -> Iterator[None]:
    """Answer whoever watches, where the command line says so."""
    if address is None or metrics is None:
        yield
        return
    from pipeline.listen.address import parse_address
    from pipeline.serve.watch import Watch, serving

    for worker in those.workers:
        metrics.look_at_route(worker.plan.name, worker.figures)
        metrics.look_at_gate(worker.plan.route.partner, partial(attrgetter("state"), worker.gate))
    for watcher in those.watchers:
        metrics.look_at_watch(watcher.name, watcher.figures)
        metrics.look_at_gate(watcher.settings.partner, partial(attrgetter("state"), watcher.gate))
    health: dict[str, Health] = {worker.plan.name: worker for worker in those.workers}
    watch = Watch(health | {watcher.name: watcher for watcher in those.watchers}, metrics)
    with serving(parse_address(address, where="--http"), watch):
        yield


def _warn(loaded: "Settings", partners: list[str]) -> None:
    """A certificate that will not do is said before the first message finds out."""
    from pipeline.transport.certificates import now, warning

    for name in dict.fromkeys(partners):
        files = getattr(loaded.partners[name], "tls", None)  # our own store has none
        said = None if files is None else warning(files, now())
        if said is not None:
            log(
                LogEvent.CERTIFICATE_WARNING,
                partner=name,
                problem=said,
                do="mend what the line says: emr-pipeline doctor shows more",
            )


class Runs(Protocol):
    """A worker, or a watcher."""

    stop: threading.Event

    def run(self) -> None:
        """Return when told to stop; raise where only a person can help."""
        ...

    def left(self) -> str:
        """What is not at its end, and what it waits for: for people, in a line."""
        ...


def work(those: "Sequence[tuple[str, Runs]]", within: float | None = None) -> int:
    """Run each, by name, on a thread of its own until all have ended, or are told to after so many seconds; the exit code is the worst of theirs."""
    codes: list[int] = []

    def one(name: str, runs: Runs) -> None:
        try:
            runs.run()
        except PipelineError as error:
            print(f"emr-pipeline run: {name}: {error}", file=sys.stderr)
            codes.append(REFUSED if isinstance(error, Refused | BusGap) else WRONG)
        except Exception as error:  # noqa: BLE001 - the thread's last line of defence: no text of it, which may hold values
            what = f"a defect of ours: {type(error).__name__} at {place_of(error)}"
            print(f"emr-pipeline run: {name}: {what}; it stands still, nothing is lost", file=sys.stderr)
            codes.append(WRONG)

    threads = [threading.Thread(target=one, args=(name, runs), name=name) for name, runs in those]
    for thread in threads:
        thread.start()
    end = time.monotonic() + (float("inf") if within is None else within)
    tidy = _tidier()
    for thread in threads:
        while thread.is_alive():
            thread.join(min(0.5, max(end - time.monotonic(), 0.01)))
            tidy()
            if time.monotonic() >= end:
                end = float("inf")
                codes += _told_to_stop([one for one, its in zip(those, threads, strict=True) if its.is_alive()])
    return max(codes, default=DONE)


def _told_to_stop(those: "Sequence[tuple[str, Runs]]") -> list[int]:
    """The time for draining is over: what is left is said, and stays as it is for the next start."""
    left = [(name, runs, runs.left()) for name, runs in those if not runs.stop.is_set()]
    for name, runs, said in left:
        print(f"emr-pipeline run: {name}: not drained in time: {said}; nothing is lost", file=sys.stderr)
        runs.stop.set()
    return [NOT_ALL for _ in left]


def _stop_on_signal(those: "Working") -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # the second one ends at once
        for worker in those.workers:
            worker.stop.set()
            log(LogEvent.WORKER_STOPPING, route=worker.plan.name)
        for watcher in those.watchers:
            watcher.stop.set()
            log(LogEvent.WORKER_STOPPING, watch=watcher.name)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
