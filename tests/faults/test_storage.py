"""F7 and C2: what must be written cannot be. Topics, ledger, disk, key. No new work, no offset passes, and all goes on when it can be again."""

import contextlib
import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from sqlalchemy.engine import make_url

from pipeline.bus.sqlite_log import OFFSETS
from pipeline.model import Position
from pipeline.sandbox.log import NOTHING
from pipeline.trial.invariants import Evidence, violations
from pipeline.trial.traffic import seeded
from schemas.outcomes import State
from tests.faults.conftest import THOROUGH, Make
from tests.faults.hospital import PARTNER, WATCHED, Hospital
from tests.faults.proxy import Order, Proxy

Seen = Callable[[str], None]
HELD: Final = "the offset does not pass; one line; nothing is lost when it can be written again"
NO_NEW_WORK: Final = "no new work, nothing sent without its intent; a wrong key is refused at start"
LOG_BYTES: Final = 4_100
"""Room for the log's lines, not for one frame of a SQLite write-ahead log (32 + 24 + 4096)."""
WHICH: Final = ["results", pytest.param("dead-letters", marks=pytest.mark.slow_faults)]


def topic_of(hospital: Hospital, which: str) -> str:
    settings = hospital.settings
    return settings.topics.results if which == "results" else settings.dead_letters_of(f"{PARTNER}-patients")


@contextmanager
def unwritable(hospital: Hospital, topic: str) -> Iterator[None]:
    """Embedded: SQLite refuses the rows. Kafka: the broker takes no batch above ten bytes."""
    bus = hospital.tree["bus"]
    if bus["kind"] == "kafka":
        configure(bus, topic, "10")
        yield
        configure(bus, topic, "1048588")
        return
    with closing(sqlite3.connect(f"{bus['path']}/bus.sqlite", timeout=30)) as file:
        parts = [
            row[0] for row in file.execute("SELECT part.id FROM part JOIN topic ON topic.id = topic WHERE name = ?", (topic,))
        ]
        numbers = ", ".join(map(str, parts))
        file.execute(
            f"CREATE TRIGGER fault BEFORE INSERT ON record WHEN NEW.id / {OFFSETS} IN ({numbers})"
            " BEGIN SELECT RAISE(ABORT, 'a fault of the tests'); END"
        )
        yield
        file.execute("DROP TRIGGER fault")


def configure(bus: dict[str, Any], topic: str, most_bytes: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bus["bootstrap_servers"])
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": most_bytes})])
    admin.close()


@pytest.mark.fault("F7", HELD)
@pytest.mark.once
@pytest.mark.parametrize("which", WHICH)
def test_a_topic_of_ours_cannot_be_written(hospital: Hospital, seed: int, which: str, seen: Seen) -> None:
    """Guard: Worker._emit comes before the offset, and Steady gives up nothing; Worker.reasons says that it is not ready."""
    hospital.fill(seeded(seed, patients=4, garbage=2))
    with unwritable(hospital, topic_of(hospital, which)):
        worker = hospital.start("--drain", *WATCHED)
        hospital.until(lambda: worker.events("bus_away"))
        time.sleep(1)
        status, why = worker.answers("/readyz")
        assert (status, "results_not_writable" in why) == (503, True)
        there = hospital.evidence(over=False)
        assert violations(there) == []
        assert (len(there.results) if which == "results" else len(there.letters)) == 0
        assert worker.running
    assert worker.wait() == 0, hospital.logs()
    after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states
    seen("results and dead letters, embedded and Kafka: not ready, committed stood, all came when it could be written")


@pytest.mark.fault("F7", HELD)
@pytest.mark.once
@THOROUGH
def test_it_is_ready_again_when_the_topic_can_be_written(hospital: Hospital, seed: int) -> None:
    hospital.fill(seeded(seed, patients=2))
    worker = hospital.start(*WATCHED)
    hospital.until(lambda: worker.events("http_started") and worker.answers("/readyz")[0] == 200)
    with unwritable(hospital, topic_of(hospital, "results")):
        hospital.fill(seeded(seed + 500, patients=2))
        hospital.until(lambda: worker.answers("/readyz")[0] == 503)
    hospital.until(lambda: worker.answers("/readyz")[0] == 200)
    assert worker.end() == 0, hospital.logs()
    assert hospital.drain() == 0, hospital.logs()
    assert hospital.violations() == []


@pytest.mark.fault("F7", HELD)
@pytest.mark.once
@THOROUGH
def test_a_topic_that_cannot_be_written_is_one_line_and_one_when_it_can_be(hospital: Hospital, seed: int) -> None:
    hospital.fill(seeded(seed, patients=2))
    with unwritable(hospital, topic_of(hospital, "results")):
        worker = hospital.start("--drain")
        hospital.until(lambda: worker.events("bus_away"))
        time.sleep(1)
    assert worker.wait() == 0, hospital.logs()
    assert (len(worker.events("bus_away")), len(worker.events("bus_back"))) == (1, 1)


@pytest.mark.fault("F7", HELD)
@pytest.mark.once
@THOROUGH
@pytest.mark.kafka
@pytest.mark.parametrize("which", WHICH)
def test_a_topic_of_ours_cannot_be_written_on_kafka(make_hospital: Make, seed: int, which: str) -> None:
    hospital = make_hospital(bus="kafka")
    hospital.partner()
    hospital.fill(seeded(seed, patients=4, garbage=2))
    with unwritable(hospital, topic_of(hospital, which)):
        worker = hospital.start("--drain")
        hospital.until(lambda: worker.events("bus_away"))
        there = hospital.evidence(over=False)
        assert violations(there) == []
        assert (len(there.results) if which == "results" else len(there.letters)) == 0
    assert worker.wait() == 0, hospital.logs()
    after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states


@pytest.mark.fault("F7", HELD)
@pytest.mark.once
@THOROUGH
def test_killed_while_a_topic_cannot_be_written_it_emits_at_the_next_start(hospital: Hospital, seed: int) -> None:
    hospital.fill(seeded(seed, patients=3))
    with unwritable(hospital, topic_of(hospital, "results")):
        worker = hospital.start("--drain")
        hospital.until(lambda: worker.events("bus_away") and attempts(hospital.evidence(over=False)))
        hospital.crash(worker)
        settled = attempts(hospital.evidence(over=False))
    assert hospital.drain() == 0, hospital.logs()
    after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states
    assert settled.items() <= attempts(after).items(), "what was settled is told, and not tried again"


def attempts(evidence: Evidence) -> dict[Position, int]:
    """Of what was delivered: how often it was tried."""
    return {row.position: row.attempt for row in evidence.rows if row.state is State.DELIVERED}


@contextmanager
def no_growing_file(pid: int) -> Iterator[None]:
    """No file of this process grows beyond a few kilobytes: to SQLite a disk on which nothing can be written."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (LOG_BYTES, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is left on it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for piece in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(b"0" * piece) == piece:
                    pass
    yield
    filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A small disk, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=32m", "emr-pipeline-faults", str(folder)] if mount else ["false"]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.fault("C2", NO_NEW_WORK)
@pytest.mark.parametrize("way", ["disk", pytest.param("limit", marks=THOROUGH)])
def test_the_disk_is_full_for_a_while(small_disk: Path | None, make_hospital: Make, seed: int, way: str, seen: Seen) -> None:
    """Guard: Delivery._begin writes the intent before the transport is asked. Ledger and bus are on that disk; who may mount none has the limit twice."""
    hospital = make_hospital()
    partner = hospital.partner(latency=0.5)
    disk = small_disk if way == "disk" else None
    if disk is not None:
        hospital.tree["bus"]["path"] = str(disk / "bus")
        hospital.tree["ledger"]["url"] = f"sqlite:///{disk / 'ledger.sqlite'}"
    hospital.set(in_flight=4)  # so that most is still to come when the disk is full
    hospital.fill(seeded(seed, patients=30, updates=1))
    worker = hospital.start("--drain")
    hospital.until(lambda: partner.requests >= 5)
    with full(disk) if disk is not None else no_growing_file(worker.pid):
        partner.set(latency=0.0)
        hospital.until(lambda: worker.events("ledger_away"))
        asked = hospital.asked()
        time.sleep(1.5)
        assert partner.requests == asked
        assert worker.running
    assert worker.wait() == 0, hospital.logs()
    after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states
    seen(
        f"disk full ({'a mounted one' if disk is not None else 'by a limit'}): nothing sent for as long; damaged ledger, lost key: nothing at all"
    )


@pytest.mark.fault("C2", NO_NEW_WORK)
@pytest.mark.once
@THOROUGH
def test_the_ledger_is_no_database_any_more(hospital: Hospital, seed: int) -> None:
    asked, worker = damaged(hospital, seed, slice(0, 4096))
    assert worker.wait() == 2
    assert "no SQLite database" in worker.said
    restored(hospital, asked)


@pytest.mark.fault("C2", NO_NEW_WORK)
@pytest.mark.once
@THOROUGH
def test_the_ledger_is_damaged_behind_its_first_page(hospital: Hospital, seed: int) -> None:
    asked, worker = damaged(hospital, seed, slice(4096, None))
    hospital.until(lambda: not worker.running or worker.events("ledger_away"), seconds=30)
    if worker.running:
        assert worker.end() == 0
    assert "damaged" in worker.said
    restored(hospital, asked)


def damaged(hospital: Hospital, seed: int, where: slice) -> tuple[int, Any]:
    """A first run; then the file is overwritten there, new messages come, and a worker begins. What the partner was asked before."""
    hospital.fill(seeded(seed, patients=6))
    assert hospital.drain() == 0, hospital.logs()
    ledger = hospital.folder / "ledger.sqlite"
    with closing(sqlite3.connect(ledger)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(ledger, hospital.folder / "sandbox-backup")
    content = bytearray(ledger.read_bytes())
    content[where] = b"\x5a" * len(content[where])
    ledger.write_bytes(bytes(content))
    hospital.fill(seeded(seed + 700, patients=2, merges=0, garbage=0))
    return hospital.partners[PARTNER].requests, hospital.start("--drain")


def restored(hospital: Hospital, asked: int) -> None:
    """Nothing was sent; with the backup back, all goes on."""
    assert hospital.partners[PARTNER].requests == asked
    for file in hospital.folder.glob("ledger.sqlite*"):
        file.unlink()
    shutil.copyfile(hospital.folder / "sandbox-backup", hospital.folder / "ledger.sqlite")
    assert hospital.drain() == 0, hospital.logs()
    assert hospital.violations() == []


@pytest.mark.fault("C2", NO_NEW_WORK)
@pytest.mark.once
@pytest.mark.parametrize("lost", ["another", *(pytest.param(each, marks=THOROUGH) for each in ("gone", "empty"))])
def test_the_hash_key_is_lost(hospital: Hospital, seed: int, lost: str) -> None:
    hospital.fill(seeded(seed, patients=3))
    assert hospital.drain() == 0, hospital.logs()
    asked = hospital.partners[PARTNER].requests
    key = hospital.folder / "key"
    good = key.read_text()
    hospital.fill(seeded(seed + 700, patients=2, merges=0, garbage=0))
    if lost == "gone":
        key.unlink()
    else:
        key.write_text("another secret of the tests, as long" if lost == "another" else "")
    worker = hospital.start("--drain")
    assert worker.wait() == (4 if lost == "another" else 2), worker.said
    assert len(worker.said.splitlines()) == 1
    assert hospital.partners[PARTNER].requests == asked
    key.write_text(good)
    assert hospital.drain() == 0, hospital.logs()
    assert hospital.violations() == []


@pytest.mark.fault("C2", NO_NEW_WORK)
@pytest.mark.postgres
@pytest.mark.parametrize(
    "order", [Order(refuse=True), pytest.param(Order(blackhole=True), marks=THOROUGH)], ids=["refused", "blackhole"]
)
def test_postgresql_is_away_for_a_while(make_hospital: Make, seed: int, order: Order) -> None:
    """Connections end or are swallowed in mid-run; a transaction whose COMMIT was not answered is looked at again, not repeated blindly."""
    hospital = make_hospital(ledger="postgres")
    partner = hospital.partner(latency=0.5)
    hospital.set(in_flight=4)
    direct = make_url(hospital.tree["ledger"]["url"])
    hospital.fill(seeded(seed, patients=20, updates=1))
    with Proxy((str(direct.host), direct.port or 5432)) as proxy:
        hospital.tree["ledger"]["url"] = direct.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        worker = hospital.start("--drain")
        hospital.until(lambda: partner.requests >= 5)
        proxy.order(order)
        if order.refuse:
            proxy.drop_all()
        partner.set(latency=0.0)
        asked = hospital.asked()
        time.sleep(1.5)
        assert partner.requests == asked
        assert worker.running
        proxy.clear()
        assert worker.wait() == 0, hospital.logs()
        after = hospital.evidence()
    assert violations(after) == []
    assert after.states == after.traffic.states
    assert after.states[State.DELIVERED] <= sum(one.effect != NOTHING for one in after.effects)
