"""A soak (RELIABILITY L1): workers and a partner stand-in under seeded traffic and seeded deeds (deeds.py), and at the end the invariants of section 6.

Real processes on loopback. In the second half no worker is ended any more, so that processes grow old enough for their slopes to say something.
"""

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipeline.bus.port import Producer, Record
from pipeline.errors import BusUnavailable
from pipeline.sandbox.process import SandboxProcess
from pipeline.trial import life
from pipeline.trial.crew import Crew
from pipeline.trial.deeds import DEEDS, LATENCY, Deed, Stage
from pipeline.trial.ground import ROUTE, Ground, Where
from pipeline.trial.invariants import Evidence, gather, violations
from pipeline.trial.life import Life
from pipeline.trial.traffic import Message, Traffic, adt, seeded

PATIENTS: Final = 60
"""Of one round of traffic: some two hundred messages, which come mixed."""
RECENT: Final = 2000
"""So many messages may come again."""
TWICE: Final = 0.02
"""Of all messages: the same bytes again (RELIABILITY D4)."""
RESENT: Final = 0.02
"""Of all messages: what was sent long ago, under another control id (D5)."""
STRANGE: Final = 0.005
"""Of all messages: what nobody can read (D1)."""
TICK: Final = 0.05
SAMPLE_SECONDS: Final = 5.0
GENTLE: Final = 0.45
"""The share of the time after which no worker is ended any more."""
DRAIN_SECONDS: Final = 300.0
CANARIES: Final = 60
"""So many texts are looked for in all that must be silent: each of them costs a reading of everything."""
IN_FLIGHT: Final = 64
PROBE_MARGIN: Final = -9.8
"""The partner's published worst time of a create is 10 s: so a probe comes a fifth of a second after the last byte."""
TIMES: Final = {"connect": 2, "read": 3, "total": 5}
DELIVERY: Final = {"backoff_first": 0.05, "backoff_most": 0.5, "hold": 5, "patience": 6}
"""So little patience that now and then one is parked that only an operator can end."""
BREAKER: Final = {"open_first": 0.2, "open_most": 2, "retry_after_most": 3}
FLOOD: Final = {"pause": 1}
SESSION_MS: Final = 6_000
"""On Kafka: the shortest that a broker takes by default. Who stands still for longer is taken for dead."""
WORST: Final = {"duplicate": "twice", "email_duplicate": "accepted", "latency": LATENCY}
"""The worst partner there is: a second create of a patient makes a second patient."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What came of it."""

    violations: list[str]
    evidence: Evidence
    crashes: int
    deeds: Counter[str]
    lives: list[Life]
    bounded: tuple[life.Bounded, ...]
    said: Counter[str]
    """Log lines of all workers, by event."""


class Soak:
    """`run` once. `say` takes a line a minute."""

    def __init__(self, folder: Path, where: Where, *, seed: int, minutes: float, rate: float, say: Callable[[str], None]) -> None:
        """On Kafka with PostgreSQL two workers share the route."""
        self.folder, self.where, self.seconds, self.rate, self.say = folder, where, minutes * 60, rate, say
        self.ground = Ground(
            folder, where, create=dict(TIMES), update=dict(TIMES), probe_margin=PROBE_MARGIN, in_flight=IN_FLIGHT
        )
        self.ground.tree |= {"delivery": DELIVERY, "breaker": BREAKER, "flood": FLOOD}
        if where.kafka:
            self.ground.tree["bus"]["session_timeout_ms"] = SESSION_MS
        self._seed = seed
        self._chance = random.Random(seed)  # noqa: S311 - the same again for each seed
        self._rounds: list[Traffic] = []
        self._sent: list[Message] = []
        self._problems: list[str] = []
        self._deeds: Counter[str] = Counter()
        self._minute = 0
        self.crew = Crew(self.ground, folder, 2 if where.kafka and where.ledger else 1)

    def run(self) -> Ended:
        """All of it."""
        with ExitStack() as stack:
            partner = stack.enter_context(self.ground.partner(**WORST))
            bus = stack.enter_context(self.ground.bus())
            producer = stack.enter_context(bus.producer())
            stack.callback(self.crew.kill_all)
            stop = threading.Event()
            feeder = threading.Thread(target=self._feed, args=(producer, stop), name="traffic")
            self.crew.fill()
            self._begun = time.monotonic()
            feeder.start()
            stage = Stage(self.ground, self.where, partner, self.crew, bus, random.Random(self._seed), self._problems)  # noqa: S311 - as above
            try:
                self._trouble(stage)
            finally:
                stop.set()
                feeder.join()
            self._come_to_rest(partner)
            evidence = self._evidence(partner)
        lives, bounded = list(self.crew.lives.values()), life.bounds(IN_FLIGHT)
        found = [*self._problems, *self.crew.problems, *(line for one in lives for line in life.broken(one, bounded))]
        said = self.crew.said()
        return Ended([*found, *violations(evidence)], evidence, self.crew.crashes, self._deeds, lives, bounded, said)

    # traffic

    def _feed(self, producer: Producer, stop: threading.Event) -> None:
        """At the pace, until told to stop; what cannot be appended now is appended later, perhaps twice."""
        coming, begun, sent = self._stream(), time.monotonic(), 0
        while not stop.wait(TICK):
            due = int((time.monotonic() - begun) * self.rate) - sent
            batch = [next(coming) for _ in range(due)]
            sent += due
            self._sent += batch
            while batch:
                try:
                    producer.append([Record(self.ground.source, one.value, key=one.key) for one in batch])
                except BusUnavailable:
                    continue
                batch = []

    def _stream(self) -> Iterator[Message]:
        """Round after round of other patients, and now and then what a hospital should not send."""
        chance = random.Random(self._seed + 1)  # noqa: S311 - as above
        recent: list[Message] = []
        for number in range(1_000_000):
            traffic = seeded(self._seed * 1000 + number, patients=PATIENTS, updates=2, merges=2, garbage=2)
            self._rounds.append(traffic)
            for message in traffic.messages:
                yield message
                recent.append(message)
                again = chance.choice(recent)
                luck = chance.random()
                if luck < TWICE:
                    yield again
                elif luck < TWICE + RESENT:
                    yield from self._resent(again, len(recent))
                elif luck < TWICE + RESENT + STRANGE:
                    yield chance.choice(strange(chance))
            recent = recent[-RECENT:]

    def _resent(self, message: Message, number: int) -> Iterator[Message]:
        """The same event, time and all, as the hospital's system sends it when it does not know that it did."""
        person = next((one for each in self._rounds[-10:] for one in each.patients if one.name == message.patient), None)
        if person is not None and message.event == "A08":
            yield replace(message, value=adt(person, "A08", message.minute, control_id=f"R{len(self._rounds)}-{number}"))

    # deeds

    def _trouble(self, stage: Stage) -> None:
        """One deed after the other, each for its time, with a sample every few seconds and a line a minute."""
        for deed, seconds in self._plan():
            if self._passed >= self.seconds:
                return
            if deed is None or (
                deed.rough and self._passed > self.seconds * GENTLE
            ):  # what took longer than planned ends no young worker
                self._watch(seconds)
                continue
            self._deeds[deed.name] += 1
            undo = deed.do(stage)
            try:
                self._watch(seconds)
            finally:
                undo()

    def _watch(self, seconds: float) -> None:
        until = min(time.monotonic() + seconds, self._begun + self.seconds)
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SAMPLE_SECONDS))
            self.crew.look()
            if self._passed >= 60 * (self._minute + 1):
                self._minute = int(self._passed / 60)
                self.say(self._line())

    @property
    def _passed(self) -> float:
        return time.monotonic() - self._begun

    def _plan(self) -> Iterator[tuple[Deed | None, float]]:
        """Deeds and how long each lasts; the same for a seed and a bus. Quiet in between, so that all comes right again."""
        passed = 0.0
        possible = [deed for deed in DEEDS if deed.on(self.where)]
        while True:
            drawn = [deed for deed in possible if not deed.rough or passed < self.seconds * GENTLE]
            (deed,) = self._chance.choices(drawn, [each.weight for each in drawn])
            for each, seconds in ((deed, self._chance.uniform(*deed.seconds)), (None, self._chance.uniform(1, 5))):
                yield each, seconds
                passed += seconds

    def _line(self) -> str:
        used = [worker.usage() for worker in self.crew.working if worker.running]
        each = ", ".join(f"{one.rss_mb:.0f} MB {one.handles} handles {one.threads} threads" for one in used)
        return (
            f"minute {self._minute}: {len(self._sent)} messages, {self._deeds.total()} deeds, {self.crew.crashes} kills; {each}"
        )

    # the end

    def _come_to_rest(self, partner: SandboxProcess) -> None:
        """The deeds are over: the workers end as told, and another one drains."""
        partner.start()
        partner.clear_faults()
        partner.set(**WORST)
        for worker in list(self.crew.working):
            self.crew.end(worker)
        last = self.crew.start("--drain")
        try:
            if (code := last.wait(DRAIN_SECONDS)) != 0:
                self._problems.append(f"{last.log}: drained with {code}")
        except subprocess.TimeoutExpired:
            self._problems.append(f"{last.log}: did not drain within {DRAIN_SECONDS:.0f} s")

    def _evidence(self, partner: SandboxProcess) -> Evidence:
        traffic = Traffic(tuple(self._sent), tuple(patient for each in self._rounds for patient in each.patients))
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and not self._is_payload(path)]
        effects = partner.log.effects()
        evidence = gather(self.ground.settings, ROUTE, traffic=traffic, effects=effects, files=files, crashes=self.crew.crashes)
        names = sorted(evidence.canaries)
        some = self._chance.sample(names, min(len(names), CANARIES))
        secret = {partner.files.secret(): "client secret"}
        return replace(evidence, canaries={name: evidence.canaries[name] for name in some} | secret)

    def _is_payload(self, path: Path) -> bool:
        return path.relative_to(self.folder).parts[0] in {"bus", "sandbox", "patient-hash.key"}


def strange(chance: random.Random) -> Sequence[Message]:
    """Records that are no message: nothing, half a header, noise, noise that is long, one that nobody signed."""
    return (
        Message(None, b"tombstone"),
        Message(b"MSH|^~\\&|HIS|CLI", b"cut"),
        Message(chance.randbytes(50), b"noise"),
        Message(b"MSH|^~\\&|HIS" + chance.randbytes(300_000), b"long noise"),
        Message(b"nobody %d" % chance.randrange(1_000_000)),
    )
