"""What the embedded bus promises beyond the contract: rights, one member, retention, faults of file and disk."""

import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import Record, TopicPartition, TopicSettings, Where
from pipeline.bus.sqlite_log import APPLICATION_ID, KEPT, SqliteLog
from pipeline.errors import BusRefused, BusUnavailable, Refused
from tests.bus.places import Place, drain, values

ONLY = TopicPartition("t", 0)
DAY = 86_400_000


class Clock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now = time.time_ns() // 1_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bus(tmp_path: Path, clock: Clock) -> Iterator[EmbeddedBus]:
    opened = EmbeddedBus(tmp_path / "bus", clock=clock)
    yield opened
    opened.close()


def filled(bus: EmbeddedBus, count: int, *, days: float | None = None, size: int | None = None) -> None:
    keep = None if days is None else int(days * DAY)
    bus.create_topics([TopicSettings("t", 1, retention_ms=keep, retention_bytes=size)])
    with bus.producer() as producer:
        producer.append(Record("t", str(number).encode() * 100, b"k") for number in range(count))


# rights


def test_only_the_owner_can_read_even_under_a_permissive_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        bus = EmbeddedBus(tmp_path / "bus")
        filled(bus, 3)
        bus.start("g", ["t"], Where.EARLIEST)
        consumer = bus.consumer("g", ["t"])
        consumer.poll(0)
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "bus", *(tmp_path / "bus").rglob("*"))}
    finally:
        os.umask(before)
    assert {path.name for path in modes} >= {"bus.sqlite", "bus.sqlite-wal", "bus.sqlite-shm", "groups", "g.lock"}
    assert {path.name: oct(mode) for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}
    bus.close()


def test_a_folder_that_others_could_read_is_tightened(tmp_path: Path) -> None:
    (tmp_path / "bus").mkdir(mode=0o755)
    EmbeddedBus(tmp_path / "bus").close()
    assert stat.S_IMODE((tmp_path / "bus").stat().st_mode) == 0o700


# one member


def test_a_second_member_of_a_group_is_refused_and_told_what_to_do(bus: EmbeddedBus, tmp_path: Path) -> None:
    filled(bus, 1)
    first = bus.consumer("g", ["t"])
    with pytest.raises(
        Refused, match=rf"live member already \(process {os.getpid()}\); stop that one, or give this route a group"
    ):
        EmbeddedBus(tmp_path / "bus").consumer("g", ["t"])
    first.close()
    bus.consumer("g", ["t"])


def test_a_killed_member_lets_the_next_one_in_at_once(bus: EmbeddedBus, tmp_path: Path) -> None:
    filled(bus, 2_000)
    bus.start("g", ["t"], Where.EARLIEST)
    with Place("", folder=tmp_path / "bus").process("consume", "t", "g") as member:
        member.says()
        with pytest.raises(Refused, match=rf"process {member.pid}"):
            bus.consumer("g", ["t"])
        member.kill()
        assert len(drain(bus.consumer("g", ["t"]), 1)) > 0


def test_a_member_that_could_not_join_holds_no_lock(bus: EmbeddedBus) -> None:
    with pytest.raises(BusRefused):
        bus.consumer("g", ["nowhere"])
    filled(bus, 1)
    bus.consumer("g", ["t"])


def test_a_group_with_a_live_member_is_not_forgotten(bus: EmbeddedBus) -> None:
    filled(bus, 1)
    bus.start("g", ["t"], Where.EARLIEST)
    consumer = bus.consumer("g", ["t"])
    with pytest.raises(Refused):
        bus.forget_group("g")
    consumer.close()
    assert bus.groups() == {"g": {ONLY: 0}}
    bus.forget_group("g")
    assert bus.groups() == {}


# retention


def test_what_is_too_old_goes_and_its_offsets_do_not_come_back(bus: EmbeddedBus, clock: Clock, tmp_path: Path) -> None:
    filled(bus, 5, days=2)
    clock.now += 3 * DAY
    assert bus.retain() == 5
    assert bus.bounds("t") == {ONLY: (5, 5)}
    bus.close()
    again = EmbeddedBus(tmp_path / "bus")
    assert again.producer().append([Record("t", b"x", b"k")])[0].offset == 5
    again.close()


def test_what_is_too_much_goes_oldest_first(bus: EmbeddedBus) -> None:
    filled(bus, 10, size=500)  # ten records of 101 bytes
    assert bus.retain() == 6
    assert bus.bounds("t") == {ONLY: (6, 10)}


def test_what_a_group_has_not_committed_stays(bus: EmbeddedBus, clock: Clock) -> None:
    filled(bus, 10, days=2, size=1)
    for group, offset in (("fast", 9), ("slow", 4)):
        bus.start(group, ["t"], Where.EARLIEST)
        with bus.consumer(group, ["t"]) as consumer:
            consumer.commit({ONLY: offset})
    clock.now += 30 * DAY
    assert bus.retain() == 4
    assert bus.bounds("t") == {ONLY: (4, 10)}
    bus.forget_group("slow")
    assert bus.retain() == 5


def test_a_group_that_has_no_offset_on_one_partition_holds_that_partition(bus: EmbeddedBus, clock: Clock) -> None:
    bus.create_topics([TopicSettings("t", 2, retention_ms=DAY)])
    bus.producer().append(Record("t", b"x", partition=number % 2) for number in range(4))
    with bus.consumer("g", ["t"]) as consumer:
        consumer.commit({ONLY: 2})
    clock.now += 30 * DAY
    assert bus.retain() == 2
    assert bus.bounds("t") == {ONLY: (2, 2), TopicPartition("t", 1): (0, 2)}


def test_age_counts_from_the_append_and_not_from_the_records_own_time(bus: EmbeddedBus) -> None:
    bus.create_topics([TopicSettings("t", 1, retention_ms=DAY)])
    bus.producer().append([Record("t", b"of 1970", b"k", timestamp_ms=0)])
    assert bus.retain() == 0


def test_a_member_whose_records_were_taken_by_hand_stops_instead_of_jumping(bus: EmbeddedBus, tmp_path: Path) -> None:
    filled(bus, 10)
    bus.start("g", ["t"], Where.EARLIEST)
    with sqlite3.connect(tmp_path / "bus" / "bus.sqlite") as behind_our_back:
        behind_our_back.execute("DELETE FROM record WHERE id % 1099511627776 < 5")
        behind_our_back.execute("UPDATE part SET first = 5")
    behind_our_back.close()
    with pytest.raises(
        BusRefused, match=r"offset 0 of the group g is not there: the partition has 5 to 10\. Nothing was skipped"
    ):
        bus.consumer("g", ["t"]).poll(0)


# waking, company


def test_another_process_wakes_a_waiting_poll_within_fifty_milliseconds(bus: EmbeddedBus, tmp_path: Path) -> None:
    filled(bus, 0)
    bus.start("g", ["t"], Where.EARLIEST)
    consumer = bus.consumer("g", ["t"])
    other = EmbeddedBus(tmp_path / "bus")  # its own file handle and no common wake-up: as from another process
    producer = other.producer()
    waits: list[float] = []
    appended: list[float] = []

    def append() -> None:
        producer.append([Record("t", b"x", b"k")])
        appended.append(time.monotonic())

    for _ in range(5):
        timer = threading.Timer(0.05, append)
        timer.start()
        assert len(consumer.poll(5)) == 1
        woken = time.monotonic()
        timer.join()
        waits.append(woken - appended.pop())
    other.close()
    assert sorted(waits)[2] < 0.05


def test_an_idle_poll_needs_hardly_any_processor(bus: EmbeddedBus) -> None:
    filled(bus, 0)
    bus.start("g", ["t"], Where.EARLIEST)
    consumer = bus.consumer("g", ["t"])
    before = time.thread_time()
    assert consumer.poll(1.0) == []
    assert time.thread_time() - before < 0.1


def test_three_processes_append_to_one_partition_at_once(bus: EmbeddedBus, tmp_path: Path) -> None:
    filled(bus, 0)
    place = Place("", folder=tmp_path / "bus")
    with place.process("produce", "t") as one, place.process("produce", "t") as two, place.process("produce", "t") as three:
        said = [offset for member in (one, two, three) for _, offset in [member.says() for _ in range(50)]]
        for member in (one, two, three):
            said += [offset for _, offset in member.kill()]
    assert len(said) == len(set(said))
    offsets = [record.position.offset for record in bus.read("t")]
    assert offsets == list(range(len(offsets)))
    assert set(said) <= set(offsets)


# file and disk


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "bus").mkdir()
    (tmp_path / "bus" / "bus.sqlite").write_bytes(b"MSH|^~\\&|not a database" * 100)
    with pytest.raises(BusRefused, match="is not a SQLite file, so no bus of emr-pipeline; move it away") as refused:
        EmbeddedBus(tmp_path / "bus")
    assert "\n" not in str(refused.value)


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bus").mkdir()
    path = tmp_path / "bus" / "bus.sqlite"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE patients (id)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(BusRefused, match="is a SQLite file, but not a bus of emr-pipeline"):
        EmbeddedBus(tmp_path / "bus")
    assert path.read_bytes() == before


def test_a_file_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    EmbeddedBus(tmp_path / "bus").close()
    with sqlite3.connect(tmp_path / "bus" / "bus.sqlite") as newer:
        assert newer.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(BusRefused, match=r"made by a newer emr-pipeline \(schema 99\)"):
        EmbeddedBus(tmp_path / "bus")


def test_a_damaged_page_is_one_clear_line(tmp_path: Path) -> None:
    bus = EmbeddedBus(tmp_path / "bus")
    filled(bus, 500)
    bus.close()
    path = tmp_path / "bus" / "bus.sqlite"
    content = bytearray(path.read_bytes())
    for page in range(8, len(content) // 4096):
        content[page * 4096 : page * 4096 + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    again = EmbeddedBus(tmp_path / "bus")
    with pytest.raises(BusRefused, match="damaged") as refused:
        list(again.read("t"))
    assert "\n" not in str(refused.value)
    again.close()


def test_a_full_disk_refuses_and_counts_nothing_as_appended(bus: EmbeddedBus) -> None:
    filled(bus, 3)
    producer = bus.producer()
    pages = producer._connection.execute("PRAGMA page_count").fetchone()[0]
    producer._connection.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(BusUnavailable, match="the disk is full, nothing was stored; make room"):
        producer.append([Record("t", b"x" * 100_000, b"k")])
    assert bus.bounds("t") == {ONLY: (0, 3)}
    producer._connection.execute("PRAGMA max_page_count=1000000")
    assert producer.append([Record("t", b"x" * 100_000, b"k")])[0].offset == 3


def test_a_disk_that_takes_no_more_bytes_keeps_what_was_promised(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from pipeline.bus.embedded import EmbeddedBus
        from pipeline.bus.port import Record, TopicSettings
        from pipeline.errors import BusUnavailable
        bus = EmbeddedBus(Path(sys.argv[1]))
        bus.create_topics([TopicSettings("t")])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
        producer, done = bus.producer(), 0
        try:
            for _ in range(1000):
                done += len(producer.append([Record("t", b"x" * 10_000, b"k")]))
        except BusUnavailable as error:
            assert bus.bounds("t") and "cannot be read or written; look at the disk" in str(error), str(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        done += len(producer.append([Record("t", b"after", b"k")]))
        print(done)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "bus")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    promised = int(done.stdout)
    assert 1 < promised < 1000
    bus = EmbeddedBus(tmp_path / "bus")
    assert values(list(bus.read("t"))) == [b"x" * 10_000] * (promised - 1) + [b"after"]
    bus.close()


def test_a_file_that_was_taken_away_is_noticed_at_the_next_append(bus: EmbeddedBus, tmp_path: Path) -> None:
    filled(bus, 1)
    producer = bus.producer()
    (tmp_path / "bus" / "bus.sqlite").rename(tmp_path / "elsewhere")
    with pytest.raises(BusRefused, match="the file was removed or replaced while it was in use"):
        producer.append([Record("t", b"x", b"k")])


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "bus").write_bytes(b"a file")
    with pytest.raises(BusUnavailable, match="cannot be opened or made"):
        EmbeddedBus(tmp_path / "bus")


def test_a_writer_that_holds_the_file_too_long_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.bus.sqlite_log.BUSY_SECONDS", 0.2)
    bus = EmbeddedBus(tmp_path / "bus")
    filled(bus, 1)
    other = sqlite3.connect(tmp_path / "bus" / "bus.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    producer = bus.producer()
    with pytest.raises(BusUnavailable, match="another process has held the file"):
        producer.append([Record("t", b"x", b"k")])
    other.execute("ROLLBACK")
    other.close()
    assert producer.append([Record("t", b"x", b"k")])[0].offset == 1
    bus.close()


def test_every_commit_is_synced_to_the_disk(bus: EmbeddedBus) -> None:
    connection = bus.producer()._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_after_a_rush_few_connections_are_kept_and_the_next_opens_no_more_files(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path)
    opened = []
    for _ in range(3):
        with ExitStack() as rush:
            for _ in range(20):
                rush.enter_context(log.lent()).execute("SELECT count(*) FROM topic").fetchone()
        assert len(log._idle) == KEPT
        opened.append(open_files(log.path))
    assert opened[0] == opened[1] == opened[2]
    log.close()
    assert open_files(log.path) == 0


def open_files(path: Path) -> int:
    """Descriptors of this process on the file. SQLite keeps those of closed connections for the next, while another has a lock."""
    with os.scandir("/proc/self/fd") as found:
        return sum(os.path.realpath(each.path) == str(path) for each in found)
