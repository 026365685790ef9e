"""Threads and tickets: as many threads as there is work, one thread for a ticket, and nothing lost when something breaks."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.bus.port import TopicPartition
from pipeline.delivery.lanes import Lanes, Limits, Offered, Ticket
from pipeline.delivery.pool import Again, Pool
from pipeline.delivery.steady import Stopped
from pipeline.model import Position
from pipeline.transport.port import Flight
from tests.delivery.partner_script import until

ROOMY: Final = Limits(messages=1_000, size=1_000_000, per_key=1_000, seconds=60)
P0, P1 = TopicPartition("his.adt", 0), TopicPartition("his.adt", 1)


def ticket(offset: int, *keys: str, partition: int = 0) -> Ticket[str]:
    return Ticket(Position("his.adt", partition, offset), keys, 1, f"{partition}/{offset}")


@dataclass
class Work:
    """What the threads do: each step waits at `door`, and does what `then` says. Remembers who did what."""

    door: threading.Event = field(default_factory=threading.Event)
    then: Callable[[Ticket[str]], Again | None] = field(default=lambda _: None)
    begun: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    now: Counter[Position] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, one: Ticket[str]) -> Again | None:
        with self.lock:
            self.begun.append(one.position.offset)
            self.threads.add(threading.current_thread().name)
            self.now[one.position] += 1
            assert self.now[one.position] == 1, "with two threads"
        try:
            assert self.door.wait(60)
            return self.then(one)
        finally:
            with self.lock:
                self.now[one.position] -= 1
                self.ended.append(one.position.offset)


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.door.set()


def pool_of(work: Callable[[Ticket[str]], Again | None], threads: int, limits: Limits = ROOMY) -> Pool[str]:
    return Pool(Lanes(limits), at_once(work), threads, name="route")


def at_once(work: Callable[[Ticket[str]], Again | None]) -> Callable[[Ticket[str]], Flight[Again | None]]:
    """Steps that put nothing in the air."""

    def step(one: Ticket[str]) -> Flight[Again | None]:
        yield from ()
        return work(one)

    return step


# threads


def test_ten_tickets_at_once_have_ten_threads_and_not_one_more(work: Work) -> None:
    pool = pool_of(work, 64)
    for offset in range(10):
        assert pool.offer(ticket(offset)) is Offered.READY
    until(lambda: len(work.begun) == 10)
    assert (pool.running, len(pool._threads)) == (10, 10)
    work.door.set()
    assert pool.drain(60)


def test_one_idle_thread_and_ten_tickets_offered_one_at_a_time_are_ten_threads(work: Work) -> None:
    pool = pool_of(work, 64)
    work.door.set()
    pool.offer(ticket(0))
    until(lambda: work.ended == [0] and not pool.running)
    work.door.clear()
    for offset in range(1, 11):
        pool.offer(ticket(offset))
    until(lambda: len(work.begun) == 11)
    assert (pool.running, len(pool._threads)) == (10, 10)
    work.door.set()
    assert pool.drain(60)


def test_what_comes_when_the_one_before_has_ended_needs_no_second_thread(work: Work) -> None:
    pool = pool_of(work, 64)
    work.door.set()
    for offset in range(20):
        pool.offer(ticket(offset))
        until(lambda offset=offset: len(work.ended) == offset + 1 and not pool.running)  # type: ignore[misc]
    assert len(pool._threads) == 1
    assert pool.drain(60)


def test_what_was_behind_one_ticket_goes_at_once_when_it_ends_and_wakes_as_many_threads_as_there_is_work(work: Work) -> None:
    pool = pool_of(work, 5)
    for offset in range(5):
        pool.offer(ticket(offset))
    until(lambda: len(work.begun) == 5)
    work.door.set()
    until(lambda: pool._idle == 5)
    work.door.clear()
    pool.offer(ticket(5, *"abcde"))
    for offset, key in enumerate("abcde", start=6):
        pool.offer(ticket(offset, key))
    until(lambda: len(work.begun) == 6)
    opened, work.door = work.door, threading.Event()
    opened.set()
    until(lambda: len(work.begun) == 11)
    assert pool.running == 5
    work.door.set()
    assert pool.drain(60)


def test_one_patients_messages_need_one_thread_and_go_in_order(work: Work) -> None:
    pool = pool_of(work, 64)
    work.door.set()
    for offset in range(50):
        pool.offer(ticket(offset, "patient"))
    until(lambda: len(work.ended) == 50)
    assert work.begun == list(range(50))
    assert len(pool._threads) == 1
    assert pool.drain(60)


def test_there_are_never_more_threads_than_were_allowed_and_the_others_wait(work: Work) -> None:
    pool = pool_of(work, 3)
    for offset in range(10):
        pool.offer(ticket(offset))
    until(lambda: len(work.begun) == 3)
    assert (pool.running, len(pool._threads)) == (3, 3)
    work.door.set()
    until(lambda: len(work.ended) == 10)
    assert len(work.threads) == 3
    assert pool.drain(60)


# later


def test_a_delayed_ticket_comes_back_after_its_time_and_not_before(work: Work) -> None:
    times: list[float] = []

    def twice(_: Ticket[str]) -> Again | None:
        times.append(time.monotonic())
        return Again(0.2) if len(times) == 1 else None

    work.then = twice
    work.door.set()
    pool = pool_of(work, 2)
    pool.offer(ticket(0, "patient"))
    pool.offer(ticket(1, "patient"))
    until(lambda: len(times) == 3)
    assert work.begun == [0, 0, 1]
    assert times[1] - times[0] >= 0.2
    assert pool.drain(60)


def test_the_one_that_is_due_first_goes_first_whatever_the_order_they_were_delayed_in(work: Work) -> None:
    waits = {0: 0.4, 1: 0.05}
    work.then = lambda one: Again(wait) if (wait := waits.pop(one.position.offset, 0)) else None
    work.door.set()
    pool = pool_of(work, 1)
    pool.offer(ticket(0))
    pool.offer(ticket(1))
    until(lambda: len(work.begun) == 4)
    assert work.begun == [0, 1, 1, 0]
    assert pool.drain(60)


def test_a_delayed_ticket_does_not_wait_for_slow_ones_while_a_thread_could_have_it(work: Work) -> None:
    """The threads that sat by its clock have all been given something slow to do meanwhile."""
    slow = threading.Event()
    delayed: list[int] = []

    def first_later(one: Ticket[str]) -> Again | None:
        if one.position.offset == 0:
            delayed.append(0)
            return Again(0.3) if len(delayed) == 1 else None
        assert slow.wait(60)
        return None

    work.then = first_later
    work.door.set()
    pool = pool_of(work, 8)
    pool.offer(ticket(0))
    until(lambda: delayed == [0] and not pool.running)
    idle = len(pool._threads)
    for offset in range(1, idle + 1):
        pool.offer(ticket(offset))
    until(lambda: delayed == [0, 0], 20)
    slow.set()
    assert pool.drain(60)


def test_who_slept_before_anything_was_delayed_wakes_for_what_is_due(work: Work) -> None:
    """Four threads without a clock; the one that has it takes something slow."""
    slow = threading.Event()
    delayed: list[int] = []

    def late(one: Ticket[str]) -> Again | None:
        if one.position.offset == 100:
            delayed.append(100)
            return Again(0.3) if len(delayed) == 1 else None
        if one.position.offset > 100:
            assert slow.wait(60)
        return None

    work.then = late
    pool = pool_of(work, 4)
    for offset in range(4):
        pool.offer(ticket(offset))
    until(lambda: len(work.begun) == 4)
    work.door.set()
    until(lambda: len(work.ended) == 4 and not pool.running)
    pool.offer(ticket(100))
    until(lambda: delayed == [100] and not pool.running)
    for offset in (101, 102, 103):
        pool.offer(ticket(offset))
    until(lambda: delayed == [100, 100], 20)
    slow.set()
    assert pool.drain(60)


def test_a_ticket_that_was_parked_comes_back_as_a_stub_and_first(work: Work) -> None:
    seen: list[tuple[int, str | None]] = []

    def park(one: Ticket[str]) -> Again | None:
        seen.append((one.position.offset, one.content))
        return Again(0.05, parked=True) if len(seen) == 1 else None

    work.then = park
    work.door.set()
    pool = pool_of(work, 4)
    pool.offer(ticket(0, "patient"))
    pool.offer(ticket(1, "patient"))
    until(lambda: len(seen) == 3)
    assert seen == [(0, "0/0"), (0, None), (1, "0/1")]
    assert pool.drain(60)
    assert pool.waiting == (0, 0)


# taken away


def test_drop_waits_for_what_runs_and_starts_nothing_more_of_the_partition(work: Work) -> None:
    pool = pool_of(work, 1)
    pool.offer(ticket(0, "a"))
    pool.offer(ticket(1, "a"))
    pool.offer(ticket(2, "b"))
    pool.offer(ticket(0, "b", partition=1))
    until(lambda: work.begun == [0])
    assert not pool.drop([P0], 0.05)
    threading.Timer(0.1, work.door.set).start()
    assert pool.drop([P0], 5)
    until(lambda: len(work.ended) == 2 and not pool.running)
    assert work.begun == [0, 0]  # of P0, then the one of P1 that waited for the patient b
    assert pool.drain(60)
    assert pool.waiting == (0, 0)


def test_drop_of_another_partition_waits_for_nothing(work: Work) -> None:
    pool = pool_of(work, 1)
    pool.offer(ticket(0))
    until(lambda: work.begun == [0])
    assert pool.drop([P1], 0)
    work.door.set()
    assert pool.drain(60)


def test_a_delayed_ticket_that_was_dropped_does_not_come_back(work: Work) -> None:
    work.then = lambda _: Again(0.1)
    work.door.set()
    pool = pool_of(work, 1)
    pool.offer(ticket(0))
    until(lambda: work.ended == [0] and not pool.running)
    pool.drop([P0], 0)
    work.then = lambda _: None
    pool.offer(ticket(0, partition=1))
    time.sleep(0.2)
    assert work.begun == [0, 0]
    assert pool.drain(60)


def test_a_position_that_is_read_again_while_its_first_delivery_runs_waits_for_it(work: Work) -> None:
    pool = pool_of(work, 4)
    pool.offer(ticket(0, "patient"))
    until(lambda: work.begun == [0])
    pool.drop([P0], 0)
    assert pool.offer(ticket(0, "patient")) is Offered.WAITING
    time.sleep(0.05)
    assert work.begun == [0]
    work.door.set()
    until(lambda: work.ended == [0, 0])
    assert pool.drain(60)


# the end


def test_drain_lets_what_runs_end_and_starts_nothing_more(work: Work) -> None:
    pool = pool_of(work, 1)
    pool.offer(ticket(0))
    pool.offer(ticket(1))
    until(lambda: work.begun == [0])
    assert not pool.drain(0.05)
    work.door.set()
    assert pool.drain(60)
    assert work.begun == [0]
    assert pool.waiting == (1, 0)
    assert not any(thread.is_alive() for thread in pool._threads)


def test_drain_does_the_chores_that_wait(work: Work) -> None:
    pool = pool_of(work, 1)
    done: list[int] = []
    pool.offer(ticket(0))
    until(lambda: work.begun == [0])
    for number in range(3):
        pool.chore(lambda number=number: done.append(number))  # type: ignore[misc]
    threading.Timer(0.05, work.door.set).start()
    assert pool.drain(60)
    assert done == [0, 1, 2]


def test_a_chore_waits_for_no_ticket_that_is_ready(work: Work) -> None:
    pool = pool_of(work, 1)
    order: list[str] = []
    work.then = lambda one: order.append(str(one.content))
    pool.offer(ticket(0))
    pool.offer(ticket(1))
    until(lambda: work.begun == [0])
    pool.chore(lambda: order.append("chore"))
    work.door.set()
    until(lambda: len(order) == 3)
    assert order == ["0/0", "chore", "0/1"]
    assert pool.drain(60)


# what breaks


class Defect(Exception):
    """A step met something that nobody expected."""


def test_a_defect_in_one_step_ends_the_pool_says_why_and_loses_no_ticket(work: Work) -> None:
    def breaks(one: Ticket[str]) -> None:
        if one.position.offset == 1:
            raise Defect

    work.then = breaks
    pool = pool_of(work, 3)
    for offset in range(6):
        pool.offer(ticket(offset))
    until(lambda: len(work.begun) == 3)
    work.door.set()
    until(lambda: not any(thread.is_alive() for thread in pool._threads))
    assert isinstance(pool.failed, Defect)
    left = pool.waiting[0]
    assert left == 6 - (len(work.ended) - 1) >= 1
    assert pool.drain(0)


def test_the_first_defect_counts(work: Work) -> None:
    def breaks(one: Ticket[str]) -> None:
        time.sleep(0.05 * one.position.offset)
        raise Defect(one.content)

    work.then = breaks
    pool = pool_of(work, 2)
    pool.offer(ticket(0))
    pool.offer(ticket(1))
    until(lambda: len(work.begun) == 2)
    work.door.set()
    assert pool.drain(60)
    assert isinstance(pool.failed, Defect)
    assert str(pool.failed) == "0/0"


def test_a_step_that_is_given_up_ends_the_pool_without_a_reason_and_keeps_its_ticket(work: Work) -> None:
    def given_up(_: Ticket[str]) -> None:
        raise Stopped

    work.then = given_up
    work.door.set()
    pool = pool_of(work, 2)
    pool.offer(ticket(0))
    until(lambda: work.ended == [0])
    assert pool.drain(60)
    assert (pool.failed, pool.waiting) == (None, (1, 0))


def test_a_defect_in_a_chore_ends_the_pool_too() -> None:
    def breaks() -> None:
        raise Defect

    pool = pool_of(lambda _: None, 2)
    pool.chore(breaks)
    until(lambda: pool.failed is not None)
    assert pool.drain(60)


def test_a_defect_of_the_lanes_ends_the_pool_and_no_thread_dies_in_silence(work: Work) -> None:
    """The ticket was taken out of its lanes behind the pool's back, so that it cannot be given back."""
    lanes: Lanes[str] = Lanes(ROOMY)
    pool = Pool(lanes, at_once(work), 2, name="route")
    one = ticket(0)

    def takes_it_out(_: Ticket[str]) -> None:
        lanes.finish(one)

    work.then = takes_it_out
    work.door.set()
    pool.offer(one)
    until(lambda: pool.failed is not None)
    assert isinstance(pool.failed, ValueError)
    assert pool.drain(60)


# whatever comes

KEYS: Final = ["a", "b", "c"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tickets=st.lists(st.lists(st.sampled_from(KEYS), max_size=2, unique=True), min_size=1, max_size=25),
    delays=st.lists(st.sampled_from([None, 0.0, 0.001, 0.003]), max_size=40),
    threads=st.integers(1, 6),
)
def test_each_ticket_is_done_once_by_one_thread_at_a_time_and_in_the_order_of_its_lanes(
    tickets: list[list[str]], delays: list[float | None], threads: int
) -> None:
    lock = threading.Lock()
    busy: set[str] = set()
    done: list[int] = []
    broken: list[str] = []

    def work(one: Ticket[str]) -> Again | None:
        with lock:
            if busy & set(one.keys):
                broken.append(f"two threads in a lane: {one.position}")
            busy.update(one.keys)
            delay = delays.pop() if delays else None
        time.sleep(0.0005)
        with lock:
            busy.difference_update(one.keys)
            if delay is None:
                done.append(one.position.offset)
        return None if delay is None else Again(delay)

    pool = pool_of(work, threads)
    for offset, keys in enumerate(tickets):
        pool.offer(ticket(offset, *keys))
    until(lambda: len(done) >= len(tickets))
    assert pool.drain(60)
    assert (pool.failed, broken, pool.waiting, sorted(done)) == (None, [], (0, 0), list(range(len(tickets))))
    for key in KEYS:
        lane = [offset for offset, keys in enumerate(tickets) if key in keys]
        assert [offset for offset in done if offset in lane] == lane
    assert len(pool._threads) <= threads


# rest


def test_it_comes_to_rest_only_when_nothing_runs_and_starts_nothing_until_told(work: Work) -> None:
    pool = pool_of(work, 2)
    pool.offer(ticket(0))
    until(lambda: pool.running == 1)
    assert not pool.rest()
    work.door.set()
    until(lambda: pool.running == 0)
    assert pool.rest()
    pool.offer(ticket(1))
    assert (pool.ready, work.begun) == (1, [0])
    assert not pool.rest(), "somebody's turn has come meanwhile"
    pool.go_on()
    until(lambda: work.ended == [0, 1])
