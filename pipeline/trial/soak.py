"""A soak (RELIABILITY L1): a worker and a partner stand-in under seeded traffic and seeded faults, and at the end the invariants of section 6.

Real processes on loopback; the worker is killed, stopped and told to end, the partner goes away and answers as badly as it can. In the last third
of the time the worker is not killed any more, so that one process is old enough for its memory to say something.
"""

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from pipeline.bus.port import Producer, Record
from pipeline.sandbox.process import SandboxProcess
from pipeline.trial.ground import ROUTE, Ground, Where
from pipeline.trial.invariants import Evidence, gather, violations
from pipeline.trial.process import Usage, Worker
from pipeline.trial.traffic import Traffic, seeded

PATIENTS: Final = 60
"""Of one round of traffic: some two hundred messages, which come mixed."""
TICK: Final = 0.05
SAMPLE_SECONDS: Final = 5.0
WARM: Final = 60.0
"""Seconds of a process that say nothing of its memory yet."""
DRAIN_SECONDS: Final = 180.0
CANARIES: Final = 300
"""So many texts are looked for in all that must be silent: each of them costs a reading of everything."""
PROBE_MARGIN: Final = -9.8
"""The partner's published worst time of a create is 10 s: so a probe comes a fifth of a second after the last byte."""
TIMES: Final = {"connect": 2, "read": 3, "total": 5}
DELIVERY: Final = {"backoff_first": 0.05, "backoff_most": 0.5, "hold": 5, "patience": 120}
BREAKER: Final = {"open_first": 0.2, "open_most": 2, "retry_after_most": 3}
FLOOD: Final = {"pause": 1}
WORST: Final = {"duplicate": "twice", "email_duplicate": "accepted", "latency": 0.05}
"""The worst partner there is: a second create of a patient makes a second patient."""

INJECTED: Final[tuple[tuple[str, dict[str, str | float | int]], ...]] = (
    ("503", {"probability": 0.3}),
    ("429", {"probability": 0.2, "retry_after": "1"}),
    ("500", {"probability": 0.1}),
    ("504", {"probability": 0.1}),
    ("400", {"probability": 0.02}),
    ("error_in_200", {"probability": 0.02}),
    ("login_page", {"probability": 0.05}),
    ("commit_then_drop", {"probability": 0.1}),
    ("drop", {"probability": 0.1}),
    ("truncated", {"probability": 0.1}),
    ("late", {"probability": 0.03, "answer_after": 4}),
    ("slow_loris", {"probability": 0.02}),
    ("close_idle", {"probability": 0.3}),
    ("refuse_tls", {"probability": 0.5}),
    ("drop_before_reading", {"probability": 0.5}),
)
"""Faults of the stand-in that pass, and their details."""

SLOW: Final = 1.0
"""Seconds that it takes where it is slow."""


@dataclass(slots=True)
class Seen:
    """One process's memory and handles, as it grew older."""

    pid: int
    rows: list[tuple[float, Usage]] = field(default_factory=list)

    def slope(self) -> float | None:
        """Megabytes a minute after it had warmed up, by least squares; None where it did not live for long enough."""
        old = [(at, used.rss_mb) for at, used in self.rows if at - self.rows[0][0] >= WARM]
        if len(old) < 3:  # noqa: PLR2004 - a line through two points fits always
            return None
        middle = sum(at for at, _ in old) / len(old)
        level = sum(mb for _, mb in old) / len(old)
        return 60 * sum((at - middle) * (mb - level) for at, mb in old) / sum((at - middle) ** 2 for at, _ in old)


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of it."""

    violations: list[str]
    evidence: Evidence
    crashes: int
    deeds: dict[str, int]
    processes: list[Seen]


class Soak:
    """`run` once. `say` takes a line a minute."""

    def __init__(self, folder: Path, where: Where, *, seed: int, minutes: float, rate: float, say: Callable[[str], None]) -> None:
        self.folder, self.seconds, self.rate, self.say = folder, minutes * 60, rate, say
        self.ground = Ground(folder, where, create=dict(TIMES), update=dict(TIMES), probe_margin=PROBE_MARGIN, in_flight=64)
        self.ground.tree |= {"delivery": DELIVERY, "breaker": BREAKER, "flood": FLOOD}
        self._seed = seed
        self._chance = random.Random(seed)  # noqa: S311 - the same again for each seed
        self._sent: list[Traffic] = []
        self._crashes = 0
        self._deeds: dict[str, int] = {}
        self._workers: list[Worker] = []
        self._seen: list[Seen] = []

    def run(self) -> Ended:
        """All of it."""
        with ExitStack() as stack:
            partner = stack.enter_context(self.ground.partner(**WORST))
            bus = stack.enter_context(self.ground.bus())
            producer = stack.enter_context(bus.producer())
            stack.callback(self._kill_all)
            stop = threading.Event()
            feeder = threading.Thread(target=self._feed, args=(producer, stop), name="traffic")
            self._start()
            self._begun = time.monotonic()
            feeder.start()
            try:
                self._trouble(partner)
            finally:
                stop.set()
                feeder.join()
            problems = self._come_to_rest(partner)
            evidence = self._evidence(partner)
        return Ended([*problems, *violations(evidence)], evidence, self._crashes, self._deeds, self._seen)

    # traffic

    def _feed(self, producer: Producer, stop: threading.Event) -> None:
        """Round after round of other patients, at the pace."""
        sent, begun = 0, time.monotonic()
        for number in range(1_000_000):
            traffic = seeded(self._seed * 1000 + number, patients=PATIENTS, updates=2, merges=2, garbage=2)
            self._sent.append(traffic)
            waiting = [Record(self.ground.source, message.value, key=message.key) for message in traffic.messages]
            while waiting:
                if stop.wait(TICK):
                    self._sent[-1] = replace(traffic, messages=traffic.messages[: len(traffic.messages) - len(waiting)])
                    return
                due = int((time.monotonic() - begun) * self.rate) - sent
                batch, waiting = waiting[:due] if due > 0 else [], waiting[max(due, 0) :]
                if batch:
                    producer.append(batch)
                    sent += len(batch)

    # faults

    def _trouble(self, partner: SandboxProcess) -> None:
        """One deed after the other, each for its time, with a sample every few seconds and a line a minute."""
        minute, end = 1, self._begun + self.seconds
        for deed, seconds in self._plan():
            if time.monotonic() >= end:
                break
            self._deeds[deed] = self._deeds.get(deed, 0) + 1
            undo = self._do(deed, partner)
            until = min(time.monotonic() + seconds, end)
            while (left := until - time.monotonic()) > 0:
                time.sleep(min(left, SAMPLE_SECONDS))
                self._sample()
                if time.monotonic() - self._begun >= 60 * minute:
                    self.say(self._line(minute))
                    minute += 1
            undo()

    def _plan(self) -> Iterator[tuple[str, float]]:
        """Deeds and how long each lasts; the same for a seed. Quiet in between, so that all comes right again."""
        passed = 0.0
        gentle = ["partner_away", "stop", "slow", *(name for name, _ in INJECTED)]
        rough = [*gentle, "kill", "kill", "kill", "kill", "term"]
        while True:
            deed = self._chance.choice(rough if passed < self.seconds * 2 / 3 else gentle)
            for each, seconds in ((deed, self._chance.uniform(2, 10)), ("quiet", self._chance.uniform(1, 5))):
                yield each, seconds
                passed += seconds

    def _do(self, deed: str, partner: SandboxProcess) -> Callable[[], object]:
        """Do it; what ends it."""
        worker = self._workers[-1]
        match deed:
            case "quiet" | "kill" | "term":
                self._end_of(worker, deed)
                return lambda: None
            case "stop":
                worker.tell(signal.SIGSTOP)
                return lambda: worker.tell(signal.SIGCONT)
            case "partner_away":
                partner.kill()
                return partner.start
            case "slow":
                partner.set(latency=SLOW)
                return lambda: partner.set(latency=WORST["latency"])
        partner.inject(deed, **dict(INJECTED)[deed])
        return partner.clear_faults

    def _end_of(self, worker: Worker, deed: str) -> None:
        """One worker ends, another begins."""
        if deed == "quiet":
            return
        if deed == "kill":
            worker.kill()
            self._crashes += 1
        else:
            worker.end()
        self._start()

    def _start(self) -> None:
        worker = Worker(self.ground.path, self.folder / f"worker-{len(self._workers)}.log")
        self._workers.append(worker)
        worker.wait_until_it_works()
        self._seen.append(Seen(worker.pid))

    def _kill_all(self) -> None:
        for worker in self._workers:
            worker.kill()

    # what is seen

    def _sample(self) -> None:
        worker = self._workers[-1]
        if worker.running:
            self._seen[-1].rows.append((time.monotonic(), worker.usage()))

    def _line(self, minute: int) -> str:
        if not self._workers[-1].running:
            return f"minute {minute}: the worker has ended by itself: {self._workers[-1].log}"
        used = self._workers[-1].usage()
        sent = sum(len(traffic.messages) for traffic in self._sent)
        return (
            f"minute {minute}: {sent} messages made, worker {used.rss_mb:.0f} MB and "
            f"{used.handles} handles, {self._crashes} kills, {sum(self._deeds.values()) - self._deeds.get('quiet', 0)} faults"
        )

    def _come_to_rest(self, partner: SandboxProcess) -> list[str]:
        """The faults are over: this worker ends as told, and another one drains."""
        partner.start()
        partner.clear_faults()
        partner.set(**WORST)
        worker = self._workers[-1]
        worker.tell(signal.SIGCONT)
        found = []
        if not worker.running:
            found.append(f"the worker ended by itself with {worker.wait()}: {worker.log}")
        elif (code := worker.end()) != 0:
            found.append(f"the worker was told to end, and ended with {code}: {worker.log}")
        last = Worker(self.ground.path, self.folder / f"worker-{len(self._workers)}.log", "--drain")
        self._workers.append(last)
        try:
            if (code := last.wait(DRAIN_SECONDS)) != 0:
                found.append(f"the last worker drained with {code}: {last.log}")
        except subprocess.TimeoutExpired:
            found.append(f"the last worker did not drain within {DRAIN_SECONDS:.0f} s: {last.log}")
        return found

    def _evidence(self, partner: SandboxProcess) -> Evidence:
        traffic = Traffic(
            tuple(message for each in self._sent for message in each.messages),
            tuple(patient for each in self._sent for patient in each.patients),
        )
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and not self._is_payload(path)]
        evidence = gather(
            self.ground.settings,
            ROUTE,
            traffic=traffic,
            effects=partner.log.effects(),
            files=files,
            crashes=self._crashes,
        )
        names = sorted(evidence.canaries)
        some = self._chance.sample(names, min(len(names), CANARIES))
        secret = {partner.files.secret(): "client secret"}
        return replace(evidence, canaries={name: evidence.canaries[name] for name in some} | secret)

    def _is_payload(self, path: Path) -> bool:
        return path.relative_to(self.folder).parts[0] in {"bus", "sandbox", "patient-hash.key"}
