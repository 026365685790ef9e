"""The delivery rows of DESIGN section 6: a worker, a partner stand-in and a bus, each a process of its own, and what came of it.

A row is run in a fresh folder. Throughput is what the worker's own counter says, order per patient what the partner's log says, latency what the
source's and the results' timestamps say. On a shared machine compare rows of one run only.
"""

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline import wiring
from pipeline.bus.port import Record
from pipeline.model import Position
from pipeline.sandbox.latency import MIXED
from pipeline.sandbox.process import SandboxProcess
from pipeline.trial.ground import ROUTE, Ground, Where, own_ledger
from pipeline.trial.process import Worker, usage, working
from pipeline.trial.rates import START_UP, Sample, bound, percentile, rates
from pipeline.trial.stream import Stream, identifier, order_of
from schemas.outcomes import CLOSED, State

FEW: Final = 2000
"""Patients, where the row does not need more."""
AT_ONCE_MOST: Final = 700
"""Messages a second that are made ready for a partner that answers at once."""
COLD_RATE: Final = 40.0
"""A second, of all the cold patients."""
HOT_PATIENTS: Final = FEW // 100
"""One in a hundred, who make as many messages as all the others."""
TICK: Final = 0.05
"""Seconds between appends of a paced run."""
SETTLE: Final = 5.0
"""Seconds that the last ones of a paced run have."""
STOP_LATENCY: Final = 10.0
TIMES: Final = {"connect": 10, "read": 15, "total": 20}
"""Seconds, for updates too: the stand-in may take 10 s for each."""

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `run` gives what only this sort of row has."""

    name: str
    in_flight: int
    latency: str | float
    """A value of the stand-in's knob."""
    run: "Callable[[Trial], Figures]"
    workers: int = 1
    hot: bool = False
    stuck: bool = False

    @property
    def average(self) -> float:
        """Seconds."""
        return self.latency if isinstance(self.latency, float) else {"none": 0.0, "mixed": MIXED}[self.latency]


@dataclass(slots=True)
class Trial:
    """A row while it runs."""

    row: Row
    where: Where
    seconds: float
    ground: Ground
    partner: SandboxProcess
    samples: list[Sample] = field(default_factory=list)
    stream: Stream = field(init=False)
    _begun: float = 0.0

    def __post_init__(self) -> None:
        self.stream = Stream(self.ground.source)

    @contextmanager
    def working(self) -> Iterator[list[Worker]]:
        """The row's workers, started; the clock of the samples begins with them."""
        self.ground.ledger()
        with ExitStack() as stack:
            workers = [
                stack.enter_context(working(self.ground.path, self.ground.folder / f"worker-{number}.log", *self._core(number)))
                for number in range(self.row.workers)
            ]
            self._begun = time.monotonic()
            self.sample(workers)
            yield workers

    def _core(self, number: int) -> tuple[str, ...]:
        first = self.where.core
        return () if first is None else ("--core", str(first + number))

    def sample(self, workers: Sequence[Worker]) -> Sample:
        """Look at all of it now."""
        looks, used = [worker.look() for worker in workers], [worker.usage() for worker in workers]
        route = f'route="{ROUTE}"'
        self.samples.append(
            Sample(
                seconds=time.monotonic() - self._begun,
                delivered=int(sum(look("emr_settled_total", f'{route},state="{State.DELIVERED}"') for look in looks)),
                cpu_seconds=sum(each.cpu_seconds for each in used),
                partner_cpu_seconds=usage(self.partner.pid).cpu_seconds,
                in_flight=int(sum(look("emr_in_flight") for look in looks)),
                commit_gap=int(max(look("emr_commit_gap") for look in looks)),
                rss_mb=max(each.peak_rss_mb for each in used),
            )
        )
        return self.samples[-1]

    def watch(self, workers: Sequence[Worker], seconds: float, until: int | None = None) -> None:
        """Sample once a second; ends early when so many are delivered."""
        end = self._begun + seconds
        while time.monotonic() < end and all(worker.running for worker in workers):
            time.sleep(min(1.0, max(end - time.monotonic(), 0.05)))
            if until is not None and self.sample(workers).delivered >= until:
                return

    def figures(self) -> Figures:
        """What all rows have."""
        row, found = self.row, rates(self.samples)
        most = bound(row.in_flight * row.workers, row.average)
        steady = found.steady if found.steady is not None else found.whole
        order = order_of(self.partner.log)
        return {
            "name": row.name,
            "bus": self.where.bus,
            "in_flight": row.in_flight,
            "latency_ms": round(row.average * 1000),
            "messages": self.samples[-1].delivered,
            "delivered_per_second": round(found.whole, 1),
            "steady_per_second": round(steady, 1),
            "share_of_bound": round(steady / most, 3) if most else None,
            "cpu_ms_per_message": _rounded(found.cpu_ms),
            "rss_mb": round(max(sample.rss_mb for sample in self.samples)),
            "largest_commit_gap": max(sample.commit_gap for sample in self.samples),
            "order_violations": order.violations,
            "share_of_bound_with_start_up": round(found.whole / most, 3) if most else None,
            "first_10_s_per_second": round(found.start_up, 1),
            "seconds": round(found.seconds, 1),
            "most_in_flight": max(sample.in_flight for sample in self.samples),
            "partner_cpu_ms_per_message": _rounded(found.partner_cpu_ms),
            "ledger": "postgresql" if self.where.ledger else "sqlite",
            "repeated": order.repeated,
            "created_twice": order.created_twice,
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


# sorts of rows


def full(trial: Trial) -> Figures:
    """All that can be taken is there from the start: how many go through."""
    row = trial.row
    most = bound(row.in_flight * row.workers, row.average) or AT_ONCE_MOST
    count = int(most * trial.seconds * 1.02) + row.in_flight * row.workers
    trial.ground.fill(trial.stream.rounds(count, max(FEW, int(12 * most) if row.average else FEW)))
    with trial.working() as workers:
        trial.watch(workers, trial.seconds, until=count)
        _end(workers)
    return trial.figures()


def paced(trial: Trial) -> Figures:
    """Messages come at an even pace: how long one takes from the log to its settlement, for patients of whom little comes."""
    stop = threading.Event()
    if trial.row.stuck:
        trial.partner.inject("503", patient=identifier(FEW))
    with trial.ground.bus() as bus, bus.producer() as producer, trial.working() as workers:
        feeder = threading.Thread(target=_feed, args=(trial, producer.append, stop), name="feeder")
        feeder.start()
        try:
            trial.watch(workers, trial.seconds, until=1 << 60)
        finally:
            stop.set()
            feeder.join()
        time.sleep(SETTLE)
        last = trial.sample(workers)
        trial.samples[-1:] = []  # nothing came any more: no rate of it
        _end(workers)
        times, left = _times(trial)
    return trial.figures() | {
        "share_of_bound": None,
        "share_of_bound_with_start_up": None,
        "p50_ms": round(percentile(times, 0.5)),
        "p99_ms": round(percentile(times, 0.99)),
        "worst_ms": round(max(times)),
        "others": len(times),
        "others_not_settled": left,
        "waiting": last.in_flight,
    }


def _feed(trial: Trial, append: Callable[[list[Record]], object], stop: threading.Event) -> None:
    """What is due since the last time: of the cold ones in turn, and of the hot ones, or the stuck one."""
    begun, cold, others = time.monotonic(), 0, 0
    while not stop.wait(TICK):
        passed = time.monotonic() - begun
        due = []
        while cold < passed * COLD_RATE:
            due.append(trial.stream.of(HOT_PATIENTS + cold % (FEW - HOT_PATIENTS)))
            cold += 1
        while trial.row.hot and others < passed * COLD_RATE:
            due.append(trial.stream.of(others % HOT_PATIENTS))
            others += 1
        while trial.row.stuck and others < passed:
            due.append(trial.stream.of(FEW))
            others += 1
        if due:
            append(due)


def _times(trial: Trial) -> tuple[list[float], int]:
    """Milliseconds from the log to the settlement, of the cold patients' messages after the start-up; and how many had none."""
    slow = {identifier(patient).encode() for patient in [*range(HOT_PATIENTS), FEW]}
    with trial.ground.bus() as bus:
        records = [record for record in bus.read(trial.ground.source) if record.key not in slow]
        settled: dict[Position, int] = {}
        for record in bus.read(trial.ground.settings.topics.results):
            result = orjson.loads(record.value or b"{}")
            if result.get("settled") and result["state"] == State.DELIVERED:
                place = Position(result["source_topic"], result["source_partition"], result["source_offset"])
                settled[place] = result["settled_ms"]
    first = min(record.timestamp_ms for record in records) + min(START_UP, trial.seconds / 2) * 1000
    asked = [record for record in records if record.timestamp_ms >= first]
    times = [float(settled[record.position] - record.timestamp_ms) for record in asked if record.position in settled]
    return times, len(asked) - len(times)


def stopped(trial: Trial) -> Figures:
    """SIGTERM while all are on their way to a partner that takes 10 s: how long until it has ended, with everything committed."""
    trial.ground.fill(trial.stream.rounds(trial.row.in_flight * 4, FEW))
    with trial.working() as workers:
        while (sample := trial.sample(workers)).in_flight < trial.row.in_flight and sample.seconds < trial.seconds:
            time.sleep(0.2)
        time.sleep(1)
        told = time.monotonic()
        _end(workers)
        seconds = time.monotonic() - told
    settings = trial.ground.settings
    with wiring.opened(settings) as things:
        states = things.ledger.counts(ROUTE).get(ROUTE, {})
        offsets = things.bus.committed(settings.group_of(ROUTE), trial.ground.source)
    settled = sum(number for state, number in states.items() if state in CLOSED)
    return trial.figures() | {
        "messages": settled,
        "delivered_per_second": None,
        "steady_per_second": None,
        "share_of_bound": None,
        "share_of_bound_with_start_up": None,
        "first_10_s_per_second": None,
        "seconds_to_stop": round(seconds, 1),
        "left_open": sum(states.values()) - settled,
        "committed": sum(offsets.values()),
    }


def _end(workers: Sequence[Worker]) -> None:
    for worker in workers:
        worker.tell(signal.SIGTERM)
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise RuntimeError(f"a worker ended with {codes}: {workers[0].log}")


FIXED: Final = 1.5
ROWS: Final = (
    Row("at_once", 64, "none", full),
    Row("fixed_256", 256, FIXED, full),
    Row("fixed_1024", 1024, FIXED, full),
    Row("mixed_256", 256, "mixed", full),
    Row("cold", 256, FIXED, paced),
    Row("hot_and_cold", 256, FIXED, paced, hot=True),
    Row("stuck_lane", 256, FIXED, paced, stuck=True),
    Row("sigterm", 64, STOP_LATENCY, stopped),
    Row("one_worker_64", 64, FIXED, full),
    Row("two_workers_64", 64, FIXED, full, workers=2),
)
"""In the order of running. `cold` is what hot_and_cold and stuck_lane are compared with."""
COMPARED: Final = {"hot_and_cold": "cold", "stuck_lane": "cold", "two_workers_64": "one_worker_64"}
SHARED_ONLY: Final = frozenset({"one_worker_64", "two_workers_64"})
"""Rows that need a PostgreSQL ledger and Kafka: several workers share nothing less."""


def chosen(names: Sequence[str], where: Where) -> list[Row]:
    """The rows of these names, with those that they are compared with; without names all that this bus and ledger allow."""
    wanted = set(names) | {COMPARED[name] for name in names if name in COMPARED}
    shared = bool(where.kafka and where.ledger)
    return [row for row in ROWS if (row.name in wanted if names else shared or row.name not in SHARED_ONLY)]


def run(row: Row, where: Where, seconds: float) -> Figures:
    """Run one row and leave nothing behind but, on Kafka, its topics (emr-trial-…)."""
    with tempfile.TemporaryDirectory(prefix="emr-trial-") as name, own_ledger(where) as here:
        ground = Ground(Path(name), here, in_flight=row.in_flight, create=dict(TIMES), update=dict(TIMES))
        with ground.partner(latency=row.latency) as partner:
            return row.run(Trial(row, here, seconds, ground, partner))


def compared(found: Sequence[Figures]) -> None:
    """Put beside each other what belongs together: p99 against the row without, rate against one worker's."""
    by_name = {each["name"]: each for each in found}
    for name, other in COMPARED.items():
        if name in by_name and other in by_name:
            key = "p99_ms" if "p99_ms" in by_name[name] else "steady_per_second"
            by_name[name][f"times_{other}"] = round(by_name[name][key] / by_name[other][key], 3)
