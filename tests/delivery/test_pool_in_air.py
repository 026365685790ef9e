"""Tickets whose request is in the air: they need no thread, count as running, and are gone on with once, first, and no later than their deadline."""

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from types import TracebackType
from typing import Final, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.bus.port import TopicPartition
from pipeline.delivery.lanes import Lanes, Limits, Ticket
from pipeline.delivery.pool import BRIEF, Again, Pool, _came, _Role
from pipeline.delivery.watch import Watch
from pipeline.model import Position, Reply
from pipeline.transport.port import Flight, InAir, Pause
from tests.delivery.partner_script import until

ROOMY: Final = Limits(messages=1_000, size=1_000_000, per_key=1_000, seconds=60)
P0, P1 = TopicPartition("his.adt", 0), TopicPartition("his.adt", 1)


def ticket(offset: int, *keys: str, partition: int = 0) -> Ticket[str]:
    return Ticket(Position("his.adt", partition, offset), keys, 1, f"{partition}/{offset}")


class Air:
    """A request in the air, over a pair of sockets."""

    whole = True
    """What is there of its answer is all of it."""

    def __init__(self, seconds: float = 600) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.settimeout(0)
        self.deadline = time.monotonic() + seconds
        self.seen: list[float] = []
        self.fileno = self.ours.fileno()

    def answer(self, data: bytes = b"answer") -> None:
        self.theirs.send(data)

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        try:
            return bool(self.ours.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    def at_once(self) -> bool:
        return self.whole

    def says(self) -> int | None:
        return None

    def came(self, at: float) -> None:
        self.seen.append(at)

    def finish(self) -> Reply:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        self.ours.close()
        self.theirs.close()


class Sky:
    """Steps that are in the air once, and what became of them."""

    def __init__(self, seconds: float = 600) -> None:
        self.seconds = seconds
        self.up: dict[str, Air] = {}
        self.landed: list[str] = []
        self.then: Again | BaseException | None = None
        self.lock = threading.Lock()

    def __call__(self, one: Ticket[str]) -> Flight[Again | None]:
        name = str(one.content)
        with Air(self.seconds) as air:
            self.up[name] = air
            yield air
            with self.lock:
                self.landed.append(name)
                del self.up[name]
        if isinstance(self.then, BaseException):
            raise self.then
        return self.then

    def clear(self) -> None:
        for air in list(self.up.values()):
            air.answer()


@pytest.fixture
def sky() -> Iterator[Sky]:
    sky = Sky()
    yield sky
    sky.clear()


def pool_of(sky: Sky, in_flight: int, threads: int = 2) -> Pool[str]:
    return Pool(Lanes(ROOMY), sky, in_flight, flies=True, threads=threads, name="route")


def waits_for(event: threading.Event) -> Callable[[], None]:
    """A chore that takes long."""

    def chore() -> None:
        event.wait(60)

    return chore


def all_up(pool: Pool[str], sky: Sky, count: int) -> None:
    until(lambda: len(sky.up) == count and len(pool._watch) == count and not pool._busy)


def test_a_hundred_in_the_air_need_no_thread_for_each(sky: Sky) -> None:
    pool = pool_of(sky, 200)
    for offset in range(100):
        pool.offer(ticket(offset))
    all_up(pool, sky, 100)
    assert pool.running == 100
    assert len(pool._threads) <= 2
    sky.clear()
    assert pool.drain(60)
    assert len(sky.landed) == 100


def test_no_more_are_in_the_air_than_may_be(sky: Sky) -> None:
    pool = pool_of(sky, 5)
    for offset in range(8):
        pool.offer(ticket(offset))
    all_up(pool, sky, 5)
    time.sleep(0.05)
    assert (len(sky.up), pool.running, pool.ready) == (5, 5, 3)
    sky.up["0/3"].answer()
    until(lambda: "0/5" in sky.up)
    assert (pool.running, sky.landed) == (5, ["0/3"])
    sky.clear()
    until(lambda: not pool.ready)
    all_up(pool, sky, 2)
    sky.clear()
    assert pool.drain(60)


def test_one_that_waits_for_its_answer_keeps_its_lane(sky: Sky) -> None:
    pool = pool_of(sky, 10)
    pool.offer(ticket(0, "patient"))
    pool.offer(ticket(1, "patient"))
    pool.offer(ticket(2, "another"))
    all_up(pool, sky, 2)
    assert set(sky.up) == {"0/0", "0/2"}
    sky.up["0/0"].answer()
    until(lambda: "0/1" in sky.up)
    assert sky.landed == ["0/0"]
    all_up(pool, sky, 2)
    sky.clear()
    assert pool.drain(60)


def test_nobodys_answer_goes_on_at_its_deadline_and_a_nearer_one_that_came_later_at_its_own(sky: Sky) -> None:
    pool = pool_of(sky, 10)
    pool.offer(ticket(0))
    all_up(pool, sky, 1)
    time.sleep(0.05)  # the watch sleeps until the far one
    sky.seconds = 0.3
    began = time.monotonic()
    pool.offer(ticket(1))
    until(lambda: sky.landed == ["0/1"])
    assert time.monotonic() - began >= 0.3
    assert set(sky.up) == {"0/0"}
    sky.clear()
    assert pool.drain(60)


def test_what_comes_in_pieces_or_after_its_deadline_wakes_once() -> None:
    sky = Sky(0.2)
    pool = pool_of(sky, 10)
    pool.offer(ticket(0))
    all_up(pool, sky, 1)
    air = sky.up["0/0"]
    with pool._turn:  # nobody can take it up yet
        air.answer()
        until(lambda: bool(air.seen))
        air.answer()
        time.sleep(0.4)
    assert pool.drain(60)
    assert (sky.landed, len(air.seen), pool.failed) == (["0/0"], 1, None)


def test_when_it_came_is_noted_though_no_thread_is_free(sky: Sky) -> None:
    pool = pool_of(sky, 10)
    pool.offer(ticket(0))
    all_up(pool, sky, 1)
    air, busy = sky.up["0/0"], threading.Event()
    for _ in range(2):
        pool.chore(waits_for(busy))
    until(lambda: pool._chores_running == 2)
    air.answer()
    until(lambda: bool(air.seen))
    assert sky.landed == []
    busy.set()
    assert pool.drain(60)
    assert sky.landed == ["0/0"]


def test_what_came_back_goes_before_what_is_new(sky: Sky) -> None:
    pool = pool_of(sky, 10, threads=1)
    pool.offer(ticket(0))
    all_up(pool, sky, 1)
    busy = threading.Event()
    pool.chore(waits_for(busy))
    until(lambda: pool._chores_running == 1)
    pool.offer(ticket(1))
    sky.up["0/0"].answer()
    until(lambda: bool(pool._back))
    busy.set()
    until(lambda: "0/1" in sky.up)
    assert sky.landed == ["0/0"]
    all_up(pool, sky, 1)
    sky.clear()
    assert pool.drain(60)


def test_those_that_wait_for_a_slot_of_one_in_the_air_do_not_keep_it_from_landing() -> None:
    """Two routes share a partner's slots: all threads that may start something wait, and what they wait for lands nevertheless."""
    slot, sky = threading.Semaphore(1), Sky()

    def step(one: Ticket[str]) -> Flight[Again | None]:
        with slot:
            return (yield from sky(one))

    pool = Pool(Lanes(ROOMY), step, 20, flies=True, threads=4, together=1, name="route")
    for offset in range(10):
        pool.offer(ticket(offset))
    for landed in range(10):
        until(lambda landed=landed: len(sky.landed) == landed and len(sky.up) == 1)  # type: ignore[misc]
        sky.clear()
    assert pool.drain(60)
    assert len(sky.landed) == 10


class Stretches:
    """Steps of stretches, and in which order they were gone through. No two of a pool of one thread at once."""

    def __init__(self, *stops: Pause, blocks: str = "") -> None:
        self.stops, self.blocks = stops, blocks
        self.seen: list[tuple[str, int]] = []
        self.free = threading.Event()

    def __call__(self, one: Ticket[str]) -> Flight[Again | None]:
        for number, stop in enumerate(self.stops):
            self.seen.append((str(one.content), number))
            yield stop
        if one.content == self.blocks:
            self.free.wait(60)
        self.seen.append((str(one.content), len(self.stops)))
        return None


def offered_at_once(pool: Pool[str], count: int) -> None:
    """While all threads are elsewhere, so that they find all of it."""
    busy = threading.Event()
    for _ in range(pool._most):
        pool.chore(waits_for(busy))
    until(lambda: pool._chores_running == pool._most)
    for offset in range(count):
        pool.offer(ticket(offset))
    busy.set()


def test_a_thread_brings_all_that_is_ready_to_where_they_ask_before_it_goes_on_with_any() -> None:
    stretches = Stretches(Pause.TOGETHER)
    pool = Pool(Lanes(ROOMY), stretches, 10, flies=True, threads=1, together=4, name="route")
    offered_at_once(pool, 5)
    until(lambda: len(stretches.seen) == 10)
    assert pool.drain(60)
    four = [f"0/{offset}" for offset in range(4)]
    assert stretches.seen == [*((each, 0) for each in four), *((each, 1) for each in four), ("0/4", 0), ("0/4", 1)]


def test_where_one_may_wait_for_another_a_thread_has_one_at_a_time() -> None:
    stretches = Stretches(Pause.TOGETHER)
    pool = Pool(Lanes(ROOMY), stretches, 10, flies=True, threads=1, together=1, name="route")
    offered_at_once(pool, 3)
    until(lambda: len(stretches.seen) == 6)
    assert pool.drain(60)
    assert stretches.seen == [(f"0/{offset}", stretch) for offset in range(3) for stretch in range(2)]


def test_what_may_take_long_keeps_nothing_waiting_that_was_taken_with_it() -> None:
    stretches = Stretches(Pause.APART, blocks="0/1")
    pool = Pool(Lanes(ROOMY), stretches, 10, flies=True, threads=8, together=4, name="route")
    offered_at_once(pool, 4)
    until(lambda: len(stretches.seen) == 7)
    assert ("0/1", 1) not in stretches.seen
    stretches.free.set()
    assert pool.drain(60)
    assert pool.failed is None


def test_half_of_the_threads_at_most_are_in_what_takes_long_and_what_came_back_finds_one(sky: Sky) -> None:
    free = threading.Event()

    def step(one: Ticket[str]) -> Flight[Again | None]:
        if one.content == "0/0":
            return (yield from sky(one))
        yield Pause.APART
        free.wait(60)
        return None

    pool = Pool(Lanes(ROOMY), step, 40, flies=True, threads=8, together=8, name="route")
    pool.offer(ticket(0))
    all_up(pool, sky, 1)
    for offset in range(1, 31):
        pool.offer(ticket(offset))
    until(lambda: len(pool._apart) + pool._at[_Role.LONG] == 30)
    assert pool._at[_Role.LONG] == 4
    sky.clear()
    until(lambda: sky.landed == ["0/0"])
    free.set()
    assert pool.drain(60)


def test_an_answer_that_drips_keeps_no_other_one_waiting() -> None:
    free, sky = threading.Event(), Sky()

    def step(one: Ticket[str]) -> Flight[Again | None]:
        again = yield from sky(one)
        if one.content == "0/0":
            free.wait(60)
        return again

    pool = Pool(Lanes(ROOMY), step, 10, flies=True, threads=3, together=8, name="route")
    for offset in range(5):
        pool.offer(ticket(offset))
    all_up(pool, sky, 5)
    sky.up["0/0"].whole = False
    with pool._turn:  # so that all of it has come before a thread looks
        sky.clear()
    until(lambda: len(sky.landed) == 5)
    assert pool.drain(0.05) is False
    assert pool.running == 1
    free.set()
    assert pool.drain(60)


def test_answers_that_come_soon_are_read_by_the_thread_that_asked_and_keep_nobody_who_gets_none(sky: Sky) -> None:
    asked, read = dict[str, int](), dict[str, int]()

    def step(one: Ticket[str]) -> Flight[Again | None]:
        name = str(one.content)
        with Air() as air:
            sky.up[name] = air
            asked[name] = threading.get_ident()
            if name != "0/1":
                air.answer()
            yield air
            read[name] = threading.get_ident()
        del sky.up[name]
        return None

    pool = Pool(Lanes(ROOMY), step, 40, flies=True, threads=8, together=4, name="route")
    offered_at_once(pool, 4)
    until(lambda: len(read) == 3)
    assert read == {name: thread for name, thread in asked.items() if name != "0/1"}
    until(lambda: len(pool._watch) == 1)
    sky.clear()
    assert pool.drain(60)
    assert len(read) == 4


class Ticketed(Air):
    """TLS speaks first, for itself, as with a session ticket: readable, and no answer."""

    def wait(self, seconds: float) -> bool:
        if super().wait(seconds) and self.ours.recv(1, socket.MSG_PEEK) == b"T":
            self.ours.recv(1)
        return super().wait(0)


def test_a_thread_waits_for_all_that_it_has_sent_and_takes_nothing_that_is_no_answer_for_one() -> None:
    with Ticketed() as first, Ticketed() as second:
        first.answer(b"T")
        second.answer(b"T")
        aloft: dict[int, InAir] = {first.fileno: first, second.fileno: second}
        assert _came(aloft, 0.05) == []
        first.answer(b"Tanswer")
        assert _came(aloft, 0.05) == [first.fileno]
        later = threading.Timer(0.1, second.answer)
        later.start()
        assert _came(aloft, 60) == [first.fileno, second.fileno]
        later.join()


def test_no_more_threads_than_their_share_go_on_with_what_came_back() -> None:
    free, sky = threading.Event(), Sky()

    def step(one: Ticket[str]) -> Flight[Again | None]:
        again = yield from sky(one)
        free.wait(60)
        return again

    pool = Pool(Lanes(ROOMY), step, 20, flies=True, threads=8, together=1, name="route")
    for offset in range(6):
        pool.offer(ticket(offset))
    all_up(pool, sky, 6)
    sky.clear()
    until(lambda: len(sky.landed) + len(pool._back) == 6)
    until(lambda: len(sky.landed) == 2)
    looked = threading.Semaphore(0)
    for _ in range(12):  # who does one looks for more afterwards
        pool.chore(looked.release)
        assert looked.acquire(timeout=60)
    assert pool._at[_Role.LAND] == 2
    free.set()
    assert pool.drain(60)
    assert len(sky.landed) == 6


def test_drop_waits_for_what_is_in_the_air_of_these_and_for_nothing_else(sky: Sky) -> None:
    pool = pool_of(sky, 10)
    pool.offer(ticket(0))
    pool.offer(ticket(0, partition=1))
    all_up(pool, sky, 2)
    assert not pool.drop([P0], 0.05)
    threading.Timer(0.1, sky.up["0/0"].answer).start()
    assert pool.drop([P0], 60)
    assert set(sky.up) == {"1/0"}
    sky.clear()
    assert pool.drain(60)


def test_drain_waits_for_what_is_in_the_air_starts_nothing_new_and_leaves_no_thread(sky: Sky) -> None:
    pool = pool_of(sky, 1, threads=1)
    pool.offer(ticket(0, "patient"))
    pool.offer(ticket(1, "patient"))
    all_up(pool, sky, 1)
    assert not pool.drain(0.05)
    sky.clear()
    assert pool.drain(60)
    assert (sky.landed, pool.waiting) == (["0/0"], (1, 0))
    assert not any(thread.is_alive() for thread in pool._threads)
    assert not [thread for thread in threading.enumerate() if thread.name == "route-watch"]


def test_a_defect_lets_what_is_in_the_air_land_and_starts_nothing_new(sky: Sky) -> None:
    pool = pool_of(sky, 5)
    for offset in range(8):
        pool.offer(ticket(offset))
    all_up(pool, sky, 5)
    sky.then = ValueError("a defect")
    sky.up["0/0"].answer()
    until(lambda: pool.failed is not None)
    sky.then = None
    sky.clear()
    assert pool.drain(60)
    assert sorted(sky.landed) == [f"0/{offset}" for offset in range(5)]
    assert isinstance(pool.failed, ValueError)


def test_a_defect_of_the_watch_ends_the_pool_and_does_not_pass_in_silence(sky: Sky) -> None:
    class Defect(Exception):
        """Of what is in the air."""

    pool = pool_of(sky, 5)
    pool.offer(ticket(0))
    all_up(pool, sky, 1)

    def breaks(at: float) -> None:
        raise Defect(at)

    air = sky.up["0/0"]
    air.came = breaks  # type: ignore[method-assign]
    air.answer()
    until(lambda: pool.failed is not None)
    assert isinstance(pool.failed, Defect)
    assert pool.running == 1
    del sky.up["0/0"]
    air.__exit__(None, None, None)


def test_a_watch_that_cannot_begin_ends_the_pool_and_its_ticket_too(sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> tuple[int, int]:
        raise OSError(24, "too many open files")

    monkeypatch.setattr("pipeline.delivery.watch.os.pipe", none_left)
    pool = pool_of(sky, 4, threads=4)
    for offset in range(2):
        pool.offer(ticket(offset))
    until(lambda: pool.failed is not None)
    assert pool.drain(60)
    assert isinstance(pool.failed, OSError)


def test_a_watch_that_broke_wakes_nobody_by_a_descriptor_that_may_be_anothers_by_now() -> None:
    failed = threading.Event()

    def breaks(_: list[str]) -> None:
        raise ValueError("a defect")

    watch: Watch[str] = Watch(breaks, lambda _: failed.set(), "route")
    with Air() as air:
        watch.add(air, "a step")
        assert watch._watching is not None
        thread, _, waker = watch._watching
        air.answer()
        assert failed.wait(60)
        thread.join(60)
        ours = [os.pipe() for _ in range(8)]
        assert waker in {end for pair in ours for end in pair}
        watch.close()
        for read, write in ours:
            os.set_blocking(read, False)
            with pytest.raises(BlockingIOError):
                os.read(read, 1)
            os.close(read)
            os.close(write)


def test_an_answer_goes_before_a_connection_that_is_to_be_made(sky: Sky) -> None:
    free, made = threading.Event(), list[str]()

    def step(one: Ticket[str]) -> Flight[Again | None]:
        if one.content == "0/0":
            yield from sky(one)
            made.append("0/0")
            return None
        yield Pause.APART
        made.append(str(one.content))
        free.wait(60)
        return None

    pool = Pool(Lanes(ROOMY), step, 40, flies=True, threads=2, together=8, name="route")
    pool.offer(ticket(0))
    all_up(pool, sky, 1)
    sky.up["0/0"].whole = False
    for offset in range(1, 5):
        pool.offer(ticket(offset))
    until(lambda: len(made) == 1 and len(pool._apart) == 3)
    sky.clear()
    until(lambda: len(pool._dripping) == 1)
    free.set()
    until(lambda: len(made) == 5)
    assert made[1] == "0/0", "after the one that was being made"
    assert pool.drain(60)
    assert pool.failed is None


def test_answers_that_drip_are_read_in_the_order_in_which_they_came(sky: Sky) -> None:
    free, read = threading.Event(), list[str]()

    def step(one: Ticket[str]) -> Flight[Again | None]:
        yield from sky(one)
        read.append(str(one.content))
        free.wait(60)
        return None

    pool = Pool(Lanes(ROOMY), step, 40, flies=True, threads=2, together=8, name="route")
    for offset in range(5):
        pool.offer(ticket(offset))
    all_up(pool, sky, 5)
    names = list(sky.up)
    for air in sky.up.values():
        air.whole = False
    for number, name in enumerate(names):
        sky.up[name].answer()
        until(lambda number=number: len(pool._dripping) + len(read) == number + 1)  # type: ignore[misc]
    free.set()
    until(lambda: len(read) == 5)
    assert read == names
    assert pool.drain(60)


# whatever comes

KEYS: Final = ["a", "b", "c"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tickets=st.lists(st.lists(st.sampled_from(KEYS), max_size=2, unique=True), min_size=1, max_size=25),
    fates=st.lists(st.sampled_from(["nothing", "answer", "late", "again", "twice"]), max_size=40),
    pauses=st.lists(st.sampled_from([None, *Pause]), max_size=40),
    room=st.tuples(st.integers(2, 8), st.integers(1, 3), st.integers(1, 4)),
)
def test_each_is_done_once_by_one_thread_at_a_time_in_the_order_of_its_lanes_and_never_too_many_at_once(
    tickets: list[list[str]], fates: list[str], pauses: list[Pause | None], room: tuple[int, int, int]
) -> None:
    in_flight, threads, together = room
    lock = threading.Lock()
    busy: Counter[str] = Counter()
    running: set[int] = set()
    done: list[int] = []
    broken: list[str] = []
    waits = cycle([0, 2 * BRIEF])

    def flown(seconds: float) -> Flight[None]:
        with Air(seconds) as air:
            if seconds > 1:  # at once, or when it is with the watch
                threading.Timer(next(waits), air.answer).start()
            yield air

    def work(one: Ticket[str]) -> Flight[Again | None]:
        with lock:
            busy.update(one.keys)
            running.add(one.position.offset)
            if max(busy.values(), default=0) > 1 or len(running) > in_flight:
                broken.append(f"too many: {one.position}")
            fate, pause = fates.pop() if fates else "nothing", pauses.pop() if pauses else None
        if pause is not None:
            yield pause
        for seconds in {"nothing": [], "answer": [60.0], "late": [0.003], "again": [60.0], "twice": [60.0, 0.003]}[fate]:
            yield from flown(seconds)
        with lock:
            busy.subtract(one.keys)
            running.remove(one.position.offset)
            if fate != "again":
                done.append(one.position.offset)
        return Again(0.001) if fate == "again" else None

    pool = Pool(Lanes(ROOMY), work, in_flight, flies=True, threads=threads, together=together, name="route")
    for offset, keys in enumerate(tickets):
        pool.offer(ticket(offset, *keys))
    until(lambda: len(done) >= len(tickets) or pool.failed is not None)
    assert pool.drain(60)
    assert (pool.failed, broken, pool.waiting, sorted(done)) == (None, [], (0, 0), list(range(len(tickets))))
    for key in KEYS:
        lane = [offset for offset, keys in enumerate(tickets) if key in keys]
        assert [offset for offset in done if offset in lane] == lane
    assert len(pool._threads) <= threads
