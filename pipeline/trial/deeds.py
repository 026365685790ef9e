"""What a soak does to a hospital, as a list: each deed, the row of RELIABILITY section 5 that it stands for, and what ends it.

A deed acts on processes, files, the stand-in and the command line, never on the inside of a worker. After what it returned was called, all is as
it was. F9 waits for a partner with tokens; R5 to R7 need a Kafka that is nobody else's, and D2 a mapping that is broken on purpose.
"""

import json
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from sqlalchemy import create_engine, text

from pipeline.bus.port import Bus
from pipeline.bus.sqlite_log import OFFSETS
from pipeline.model import Position
from pipeline.sandbox.log import NOTHING
from pipeline.sandbox.process import SandboxProcess
from pipeline.trial.crew import Crew
from pipeline.trial.ground import ROUTE, Ground, Where
from pipeline.trial.invariants import bundle_id
from schemas.outcomes import COMES_BACK, OUTCOME_UNKNOWN, Reason, State

COMMAND_SECONDS: Final = 120.0
FINE: Final = frozenset({0, 3, 4})
"""Exit codes of an operator's command: done, some of it cannot go, a guard said no."""
LATE_SECONDS: Final = 20.0
"""An outcome that is unknown for so long is not going to be told by a late answer any more: the operator may look."""
SLOW: Final = 1.0
LATENCY: Final = 0.05
LOG_ROOM: Final = 100_000
"""Bytes that a log may still grow by while no other file of its process may."""
Undo = Callable[[], object]


@dataclass(slots=True)
class Stage:
    """What a deed may reach."""

    ground: Ground
    where: Where
    partner: SandboxProcess
    crew: Crew
    bus: Bus
    pick: random.Random
    """Which of what there is. Not the chance that plans: how often it is asked depends on what has happened."""
    problems: list[str] = field(default_factory=list)
    """What an operator's command may not do."""

    def command(self, *words: str) -> list[dict[str, Any]]:
        """What `emr-pipeline …` printed as JSON."""
        command = [
            sys.executable,
            "-m",
            "pipeline.cli",
            *words,
            "--json",
            "--settings",
            str(self.ground.folder / "settings.yaml"),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)  # noqa: S603 - our own command
        except subprocess.TimeoutExpired:
            self.problems.append(f"{' '.join(words)}: no answer in {COMMAND_SECONDS:.0f} s")
            return []
        if done.returncode not in FINE:
            self.problems.append(f"{' '.join(words)}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
            return []
        said = done.stdout.strip()
        return [json.loads(said)] if said.startswith("{\n") else [json.loads(line) for line in said.splitlines() if line]


@dataclass(frozen=True, slots=True)
class Deed:
    """One sort of trouble."""

    name: str
    row: str
    do: Callable[[Stage], Undo]
    weight: int = 1
    seconds: tuple[float, float] = (2, 10)
    rough: bool = False
    """A worker ends by it."""
    on: Callable[[Where], bool] = lambda _: True


def nothing() -> None:
    """What ends a deed that is over at once."""


# the partner


def injected(name: str, **details: str | float) -> Callable[[Stage], Undo]:
    """A fault of the stand-in that passes."""

    def do(stage: Stage) -> Undo:
        stage.partner.inject(name, **details)
        return stage.partner.clear_faults

    return do


def away(stage: Stage) -> Undo:
    """It is killed, and comes back on its port."""
    stage.partner.kill()
    return stage.partner.start


def slow(stage: Stage) -> Undo:
    """It takes its time."""
    stage.partner.set(latency=SLOW)
    return partial(stage.partner.set, latency=LATENCY)


# the workers


def kill(stage: Stage) -> Undo:
    """SIGKILL, and another one begins."""
    stage.crew.kill(stage.pick.choice(stage.crew.working))
    stage.crew.fill()
    return nothing


def term(stage: Stage) -> Undo:
    """SIGTERM, and another one begins when it has drained."""
    stage.crew.end(stage.pick.choice(stage.crew.working))
    stage.crew.fill()
    return nothing


def halt(stage: Stage) -> Undo:
    """A second SIGTERM ends it at once, and its outcomes are unknown."""
    worker = stage.pick.choice(stage.crew.working)
    for _ in range(2):
        worker.tell(signal.SIGTERM)
        time.sleep(0.2)
    stage.crew.kill(worker)
    stage.crew.fill()
    return nothing


def stop(stage: Stage) -> Undo:
    """It stands still: on Kafka now and then for longer than its session."""
    worker = stage.pick.choice(stage.crew.working)
    worker.tell(signal.SIGSTOP)
    return partial(worker.tell, signal.SIGCONT)


def join(stage: Stage) -> Undo:
    """One more member of the group, for a while."""
    worker = stage.crew.start()
    return partial(stage.crew.end, worker)


def clock(stage: Stage) -> Undo:
    """A worker's wall clock jumps by an hour, and back."""
    worker = stage.pick.choice(stage.crew.working)
    there, back = stage.pick.sample([signal.SIGUSR1, signal.SIGUSR2], 2)
    worker.tell(there)
    return partial(worker.tell, back)


# what must be written cannot be


def topics_refuse(stage: Stage) -> Undo:
    """Results and dead letters. Embedded: SQLite refuses the rows; Kafka: the broker takes no batch above ten bytes."""
    settings = stage.ground.settings
    topics = [settings.topics.results, settings.dead_letters_of(ROUTE)]
    if stage.where.kafka:
        _largest(stage.where, topics, "10")
        return partial(_largest, stage.where, topics, "1048588")
    with closing(_bus_file(stage)) as file:
        marks = ", ".join("?" * len(topics))
        found = file.execute(f"SELECT part.id FROM part JOIN topic ON topic.id = topic WHERE name IN ({marks})", topics)  # noqa: S608 - question marks
        parts = ", ".join(str(row[0]) for row in found)
        file.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON record WHEN NEW.id / {OFFSETS} IN ({parts}) BEGIN SELECT RAISE(ABORT, 'a soak'); END"
        )

    def undo() -> None:
        with closing(_bus_file(stage)) as file:
            file.execute("DROP TRIGGER refuse")

    return undo


def _largest(where: Where, topics: list[str], most_bytes: str) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=list(where.kafka))) as admin:
        admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, one, configs={"max.message.bytes": most_bytes}) for one in topics]
        )


def bus_held(stage: Stage) -> Undo:
    """Another process writes to the embedded bus for longer than anybody waits."""
    return _held(_bus_file(stage))


def ledger_held(stage: Stage) -> Undo:
    """Another session holds the ledger for longer than anybody waits."""
    if stage.where.ledger is None:
        return _held(
            sqlite3.connect(stage.ground.folder / "ledger.sqlite", timeout=30, isolation_level=None, check_same_thread=False)
        )
    engine = create_engine(stage.where.ledger)
    connection = engine.connect()
    connection.execute(text("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE"))

    def undo() -> None:
        connection.close()
        engine.dispose()

    return undo


def _bus_file(stage: Stage) -> sqlite3.Connection:
    return sqlite3.connect(stage.ground.folder / "bus" / "bus.sqlite", timeout=30, isolation_level=None, check_same_thread=False)


def _held(file: sqlite3.Connection) -> Undo:
    file.execute("BEGIN IMMEDIATE")

    def undo() -> None:
        file.execute("ROLLBACK")
        file.close()

    return undo


def disk_full(stage: Stage) -> Undo:
    """No file of the worker grows: to SQLite a full disk. Its log is the longest that may."""
    worker = stage.pick.choice(stage.crew.working)
    soft, hard = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (worker.log.stat().st_size + LOG_ROOM, hard))

    def undo() -> None:
        if worker.running:
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (soft, hard))

    return undo


# the operator


def replay(stage: Stage) -> Undo:
    """What is parked is planned and released; now and then paused for a while."""
    for plan in stage.command("replay", "plan", "--state", State.PARKED, "--rate", "50", "--why", "a soak"):
        if plan["sends"]:
            stage.command("replay", "run", "--plan", plan["plan"])
            if stage.pick.random() < 1 / 3:
                stage.command("replay", "pause", "--plan", plan["plan"])
                return partial(stage.command, "replay", "resume", "--plan", plan["plan"])
    return nothing


def replay_old(stage: Stage) -> Undo:
    """What something newer has taken the place of: nothing of it may go."""
    for plan in stage.command("replay", "plan", "--state", State.SUPERSEDED, "--most", "200"):
        if plan["sends"]:
            stage.problems.append(f"plan {plan['plan']} would send {plan['sends']} that something newer has superseded")
    return nothing


def discard(stage: Stage) -> Undo:
    """One of those that are not to go."""
    no = {reason.value for reason in COMES_BACK | OUTCOME_UNKNOWN | {Reason.PROBE_CANNOT_TELL}}
    parked = [row for row in stage.command("find", "--state", State.PARKED, "--most", "200") if row["reason"] not in no]
    if parked:
        stage.command("discard", stage.pick.choice(parked)["position"], "--why", "a soak")
    return nothing


def resolve(stage: Stage) -> Undo:
    """The operator asks the partner what became of what no probe could tell, and says it."""
    taken = {one.bundle_id for one in stage.partner.log.effects() if one.effect != NOTHING}
    for row in stage.command("find", "--reason", Reason.PROBE_CANNOT_TELL, "--state", State.PARKED, "--most", "5"):
        if time.time() - row["at_ms"] / 1000 < LATE_SECONDS:
            continue
        topic, partition, offset = row["position"].split("/")
        record = stage.bus.fetch(Position(topic, int(partition), int(offset)))
        if record is not None and record.value is not None:
            said = "--delivered" if bundle_id(ROUTE, record.value) in taken else "--absent"
            stage.command("resolve", row["position"], said, "--why", "a soak")
    return nothing


def _embedded(where: Where) -> bool:
    return not where.kafka


def _shared(where: Where) -> bool:
    return bool(where.kafka and where.ledger)


LONG: Final = (11.0, 14.0)
"""Longer than anybody waits for a lock."""
FAULTS: Final[Mapping[str, tuple[str, dict[str, str | float]]]] = {
    "503": ("F5", {"probability": 0.3}),
    "429": ("F4", {"probability": 0.2, "retry_after": "1"}),
    "500": ("F1", {"probability": 0.1}),
    "502": ("F1", {"probability": 0.1}),
    "504": ("F1", {"probability": 0.1}),
    "timeout_outcome": ("F1", {"probability": 0.1}),
    "exception_outcome": ("F1", {"probability": 0.9}),
    "400": ("F6", {"probability": 0.02}),
    "422": ("F6", {"probability": 0.02}),
    "error_in_200": ("F8", {"probability": 0.02}),
    "login_page": ("F8", {"probability": 0.05}),
    "202": ("F8", {"probability": 0.05}),
    "empty_200": ("F8", {"probability": 0.05}),
    "403_certificate": ("F3", {"probability": 0.05}),
    "commit_then_drop": ("F1", {"probability": 0.1}),
    "drop": ("F1", {"probability": 0.1}),
    "truncated": ("F1", {"probability": 0.1}),
    "late": ("F2", {"probability": 0.03, "answer_after": 4}),
    "slow_loris": ("F10", {"probability": 0.02}),
    "endless_chunks": ("F10", {"probability": 0.02}),
    "huge_body": ("F10", {"probability": 0.01, "megabytes": 20}),
    "close_idle": ("F11", {"probability": 0.3}),
    "refuse_tls": ("F3", {"probability": 0.5}),
    "drop_before_reading": ("F3", {"probability": 0.5}),
}
"""Of the stand-in, each with its row and details."""
DEEDS: Final = (
    *(Deed(name, row, injected(name, **details)) for name, (row, details) in FAULTS.items()),
    Deed("partner_away", "F3", away, weight=2),
    Deed("slow", "F12", slow),
    Deed("stop", "R4", stop, weight=2),
    Deed("join", "R3", join, weight=4, on=_shared),
    Deed("clock", "C1", clock),
    Deed("topics_refuse", "F7", topics_refuse),
    Deed("bus_held", "F7", bus_held, seconds=LONG, on=_embedded),
    Deed("ledger_held", "C2", ledger_held, seconds=LONG),
    Deed("disk_full", "C2", disk_full, on=_embedded),
    Deed("replay", "S2, S3", replay, weight=3),
    Deed("replay_old", "S1", replay_old),
    Deed("discard", "section 1", discard),
    Deed("resolve", "section 1", resolve, weight=2),
    Deed("kill", "R1", kill, weight=6, rough=True),
    Deed("term", "R2", term, weight=2, rough=True),
    Deed("halt", "R2", halt, rough=True),
)
"""Which of them are drawn, and how often."""
