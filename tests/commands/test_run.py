"""`emr-pipeline run` as a process: exit codes, one signal, two signals."""

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml

from pipeline import wiring
from pipeline.bus.port import Record
from pipeline.commands import run
from pipeline.sandbox.roche.stand_in import RocheSandbox
from pipeline.settings import load
from tests.delivery.partner_script import adt
from tests.faults.test_kill9 import ROUTE, fill, settings_file


@pytest.fixture
def partner(tmp_path: Path) -> Iterator[RocheSandbox]:
    with RocheSandbox(tmp_path / "sandbox", {"latency": 6.0}) as sandbox:
        yield sandbox


@pytest.fixture
def settings(tmp_path: Path, partner: RocheSandbox) -> Path:
    """An update, and so a probe, may take longer than the partner does."""
    path = settings_file(tmp_path, partner, {"kind": "embedded", "path": str(tmp_path / "bus")}, "")
    tree = yaml.safe_load(path.read_text())
    tree["partners"]["roche"]["update"] = {"read": 40, "total": 50}
    path.write_text(yaml.safe_dump(tree))
    return path


def start(settings: Path, *more: str, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "pipeline.cli", "run", "--settings", str(settings), *more]
    return subprocess.Popen(words, stderr=stderr, text=True)


def sending(partner: RocheSandbox) -> None:
    end = time.monotonic() + 60
    while partner.requests == 0:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_signal_finishes_the_message_in_hand_and_commits(settings: Path, partner: RocheSandbox) -> None:
    fill(load(settings), [(b"1", adt()), (b"1", adt("A08", "2", time="20240503101500+0200"))])
    worker = start(settings)
    sending(partner)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    with wiring.opened(load(settings)) as things:
        assert {str(state): count for state, count in things.ledger.counts(ROUTE)[ROUTE].items() if count} == {"delivered": 1}


def test_a_second_signal_ends_at_once_and_leaves_the_outcome_unknown_to_be_found_out(
    settings: Path, partner: RocheSandbox
) -> None:
    fill(load(settings), [(b"1", adt())])
    worker = start(settings)
    sending(partner)
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == -signal.SIGTERM
    assert time.monotonic() - begun < 5.0
    assert start(settings, "--drain").wait(60) == 0
    assert len(partner.log.creates()) == 1


def test_a_second_worker_is_refused_with_exit_4(settings: Path, partner: RocheSandbox) -> None:
    fill(load(settings), [(b"1", adt())])
    worker = start(settings)
    sending(partner)
    second = start(settings, stderr=subprocess.PIPE)
    _, said = second.communicate(timeout=60)
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    assert (second.returncode, len(said.splitlines())) == (4, 1)


def test_a_route_whose_place_is_gone_ends_with_exit_4_and_one_line(settings: Path) -> None:
    """Started, and its offset is gone."""
    loaded = load(settings)
    with wiring.opened(loaded) as things:
        things.bus.create_topics(wiring.topic_settings(loaded))
        things.ledger.start(ROUTE, loaded.group_of(ROUTE), "roche", "earliest")
        with things.bus.producer() as producer:
            producer.append([Record(loaded.routes[ROUTE].source, adt())])
    worker = start(settings, "--drain", stderr=subprocess.PIPE)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 4
    assert [line.partition(f"{ROUTE}: ")[0] for line in said.splitlines() if not line.startswith("{")] == ["emr-pipeline run: "]


def test_a_partner_that_is_given_another_name_is_refused_with_exit_4_and_one_line_and_nothing_is_sent(
    settings: Path, partner: RocheSandbox
) -> None:
    """By the former name its patients are known: each would be created again."""
    loaded = load(settings)
    with wiring.opened(loaded) as things:
        things.ledger.start(ROUTE, loaded.group_of(ROUTE), "roche", "earliest")
    fill(loaded, [(b"1", adt())])
    tree = yaml.safe_load(settings.read_text())
    tree["partners"]["roche-clinic"] = tree["partners"].pop("roche")
    tree["routes"][ROUTE]["partner"] = "roche-clinic"
    settings.write_text(yaml.safe_dump(tree))
    worker = start(settings, "--drain", stderr=subprocess.PIPE)
    _, said = worker.communicate(timeout=60)
    assert (worker.returncode, partner.requests) == (4, 0)
    (line,) = said.splitlines()
    assert line.startswith(f"emr-pipeline run: {ROUTE}: routes.{ROUTE}.partner: the route was started to the partner roche, ")


def test_a_drain_ends_within_the_time_it_is_given_though_the_partner_is_away_and_says_what_waits(settings: Path) -> None:
    fill(load(settings), [(b"1", adt()), (b"1", adt("A08", "2", time="20240503101500+0200"))])
    tree = yaml.safe_load(settings.read_text())
    tree["partners"]["roche"]["base_url"] = "https://127.0.0.1:9"  # nobody listens there
    settings.write_text(yaml.safe_dump(tree))
    worker = start(settings, "--drain", "--within", "2", stderr=subprocess.PIPE)
    _, said = worker.communicate(timeout=60)
    (line,) = [line for line in said.splitlines() if not line.startswith("{")]
    assert worker.returncode == 3
    assert re.fullmatch(rf"emr-pipeline run: {ROUTE}: not drained in time: \d read and not settled.*; nothing is lost", line)


def test_a_time_without_a_drain_means_nothing(settings: Path) -> None:
    worker = start(settings, "--within", "2", stderr=subprocess.PIPE)
    _, said = worker.communicate(timeout=60)
    assert (worker.returncode, said) == (2, "emr-pipeline run: --within: it bounds --drain, and means nothing without it\n")


def test_a_name_that_is_neither_a_route_nor_a_watch_is_one_line_with_those_that_there_are(settings: Path) -> None:
    worker = start(settings, "nope", stderr=subprocess.PIPE)
    _, said = worker.communicate(timeout=60)
    assert (worker.returncode, said) == (
        2,
        f"emr-pipeline run: nope: no such route or watch in the settings; there is {ROUTE}\n",
    )


def test_it_answers_who_watches_at_the_address_it_is_given_and_says_when_it_stops(settings: Path, partner: RocheSandbox) -> None:
    fill(load(settings), [(b"1", adt())])
    worker = start(settings, "--http", "127.0.0.1:0", stderr=subprocess.PIPE)
    assert worker.stderr is not None
    lines = map(json.loads, worker.stderr)
    said = next(line for line in lines if line["event"] == "http_started")
    sending(partner)
    assert asked(said["port"], "/healthz") == (200, b'{"alive": true}\n')
    assert asked(said["port"], "/readyz") == (200, b'{"ready": true}\n')
    assert asked(said["port"], "/metrics")[0] == 200
    worker.send_signal(signal.SIGTERM)
    assert next(line for line in lines if line["event"] == "worker_stopping")
    status, body = asked(said["port"], "/readyz")
    assert (status, json.loads(body)["routes"]) == (503, {ROUTE: ["worker_stopped"]})
    with worker.stderr:
        assert worker.wait(60) == 0


def asked(port: int, path: str) -> tuple[int, bytes]:
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_a_worker_stays_on_the_core_that_it_is_given(settings: Path, partner: RocheSandbox) -> None:
    core = max(os.sched_getaffinity(0))
    fill(load(settings), [(b"1", adt())])
    worker = start(settings, "--core", str(core))
    sending(partner)
    assert os.sched_getaffinity(worker.pid) == {core}
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_a_core_that_is_not_there_is_one_line(settings: Path) -> None:
    worker = start(settings, "--core", "4711", stderr=subprocess.PIPE)
    _, said = worker.communicate(timeout=60)
    assert (worker.returncode, said.count("\n")) == (2, 1)
    assert f"--core 4711: is not a core that this process may use; there are {min(os.sched_getaffinity(0))}" in said


def test_an_address_that_is_none_is_one_line(settings: Path) -> None:
    worker = start(settings, "--http", "nowhere", stderr=subprocess.PIPE)
    assert worker.communicate(timeout=60)[1].splitlines()[-1].endswith("--http: HOST:PORT, as 127.0.0.1:2575")
    assert worker.returncode == 2


HEAPS = """
import ctypes, sys, threading
from pipeline.commands import run
if len(sys.argv) > 1:
    run._few_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
meet = threading.Barrier(6)
def hold():
    libc.malloc(10_000)
    meet.wait(60)
threads = [threading.Thread(target=hold) for _ in range(6)]
for each in threads: each.start()
for each in threads: each.join()
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="not glibc: it has no heaps per thread")
def test_the_threads_of_a_worker_share_few_heaps() -> None:
    """Else what is free in one serves no other, and a worker grows for hours."""

    def heaps(*options: str) -> int:
        said = subprocess.run([sys.executable, "-c", HEAPS, *options], capture_output=True, text=True, check=True, timeout=120)
        return said.stdout.count("<heap nr=")

    assert heaps() > run.HEAPS
    assert heaps("few") <= run.HEAPS


COLLECTIONS = """
import gc, sys
from pipeline import flow, settings, wiring
from pipeline.commands import run
from pipeline.model import Position, Received
from pipeline.trial.stream import Stream
loaded = settings.load(settings.DEFAULTS)
plan = wiring.plan_offline(loaded, wiring.the_route(loaded, None))
records = [Received(Position("adt", 0, number), each.value) for number, each in enumerate(Stream("adt").rounds(500, 500))]
flow.read(records[0], plan)
if len(sys.argv) > 1:
    run._let_threads_work()
runs = []
gc.callbacks.append(lambda phase, _: runs.append(phase) if phase == "stop" else None)
waiting = [flow.read(each, plan) for each in records]
print(len(runs))
"""


def test_the_collector_does_not_go_through_memory_again_and_again_while_messages_are_read() -> None:
    """Each message is hundreds of objects that stay until it is settled, and none of them is garbage."""

    def collections(*options: str) -> int:
        said = subprocess.run(
            [sys.executable, "-c", COLLECTIONS, *options], capture_output=True, text=True, check=True, timeout=120
        )
        return int(said.stdout)

    assert collections() > 20
    assert collections("seldom") <= 2


CIRCLES = """
import gc, sys, weakref
from pipeline.commands import run
class Circle:
    def __init__(self): self.itself = self
run._let_threads_work()
run.TIDY_EVERY = 0.0
look = run._tidier()
circle = weakref.ref(Circle())
if len(sys.argv) > 1:
    gc.collect(0)
    circle = weakref.ref(Circle())
look()
print(circle() is None)
"""


@pytest.mark.parametrize(("options", "gone"), [([], "True"), (["came by itself"], "False")])
def test_where_little_comes_circles_do_not_pile_up_and_where_much_comes_nothing_stands_still_for_them(
    options: list[str], gone: str
) -> None:
    said = subprocess.run([sys.executable, "-c", CIRCLES, *options], capture_output=True, text=True, check=True, timeout=120)
    assert said.stdout.strip() == gone


FREE = """
import ctypes
from pipeline.commands import run
run._few_heaps()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
blocks = [libc.malloc(10_000) for _ in range(3_000)]
for block in blocks: ctypes.memset(block, 1, 10_000)
for block in blocks[:-1]: libc.free(block)
def used():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
before = used()
run.TIDY_EVERY = 0.0
look = run._tidier()
look()
print(before - used())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc: it gives nothing back when asked")
def test_what_is_free_in_the_middle_of_the_heap_goes_back_to_the_machine() -> None:
    """Else what one busy minute needed is kept until the worker ends."""
    said = subprocess.run([sys.executable, "-c", FREE], capture_output=True, text=True, check=True, timeout=120)
    assert int(said.stdout) > 20_000_000
