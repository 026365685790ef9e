"""Idle threads that nobody needs end, and none that somebody needs."""

import time
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pipeline.bus.port import TopicPartition
from pipeline.delivery.lanes import Lanes, Ticket
from pipeline.delivery.pool import Again, Pool
from pipeline.delivery.spare import STRETCH, Spare
from tests.delivery.partner_script import until
from tests.delivery.test_pool import ROOMY, Work, at_once, ticket, work

__all__ = ["work"]


def test_as_many_end_as_idled_through_a_whole_stretch() -> None:
    spare = Spare(0.0)
    assert not spare.one(5, STRETCH), "of the stretch before it began nothing is known"
    spare.down_to(3)
    assert [spare.one(idle, 2 * STRETCH) for idle in (4, 4, 4, 4)] == [True, True, True, False]


def test_one_moment_without_an_idle_thread_keeps_them_all() -> None:
    spare = Spare(0.0)
    spare.one(5, STRETCH)
    spare.down_to(0)
    assert not spare.one(5, 2 * STRETCH)


def test_the_last_idle_thread_stays() -> None:
    spare = Spare(0.0)
    spare.one(2, STRETCH)
    assert not spare.one(0, 2 * STRETCH), "nobody idles beside it"


@given(st.lists(st.tuples(st.integers(0, 8), st.floats(0, 30)), max_size=200))
def test_never_more_end_in_a_stretch_than_idled_at_every_moment_of_the_one_before(moments: list[tuple[int, float]]) -> None:
    spare, now, stretch = Spare(0.0), 0.0, 0
    fewest, ended = {0: 0}, {0: 0}
    for idle, later in moments:
        now += later
        spare.down_to(idle)
        fewest[stretch] = min(fewest[stretch], idle)
        before = spare._began
        one = spare.one(idle, now)
        if spare._began != before:
            stretch += 1
            fewest[stretch], ended[stretch] = idle, 0
        ended[stretch] += one
    assert all(ended[each] <= fewest[each - 1] for each in ended if each)


class Clock:
    """As the test says."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def pool_of(work: Callable[[Ticket[str]], Again | None], clock: Callable[[], float]) -> Pool[str]:
    return Pool(Lanes(ROOMY), at_once(work), 64, name="route", clock=clock)


def one_more(pool: Pool[str], work: Work, number: int) -> None:
    pool.offer(ticket(number))
    until(lambda: number in work.ended and not pool.running and pool._idle == len(pool._threads))


def test_after_a_burst_the_threads_go_and_what_comes_later_is_done(work: Work) -> None:
    clock = Clock()
    pool = pool_of(work, clock)
    for offset in range(10):
        pool.offer(ticket(offset))
    until(lambda: len(work.begun) == 10)
    work.door.set()
    until(lambda: pool._idle == 10)
    seen = []
    for number in range(100, 130):
        clock.now += STRETCH / 4
        one_more(pool, work, number)
        seen.append(len(pool._threads))
    assert (seen[0], seen[-1]) == (10, 1)
    work.door.clear()
    for offset in range(200, 210):
        pool.offer(ticket(offset))
    until(lambda: len(work.begun) == 50)
    assert (pool.running, len(pool._threads)) == (10, 10), "a burst finds threads again"
    work.door.set()
    assert pool.drain(60)
    assert (pool.failed, len(work.ended)) == (None, 50)


def test_threads_that_a_burst_needs_every_minute_stay(work: Work) -> None:
    clock = Clock()
    pool = pool_of(work, clock)
    for minute in range(5):
        work.door.clear()
        for offset in range(10):
            pool.offer(ticket(100 * minute + offset))
        until(lambda minute=minute: len(work.begun) == 11 * minute + 10)  # type: ignore[misc]
        work.door.set()
        until(lambda: pool._idle == 10)
        clock.now += STRETCH
        one_more(pool, work, 100 * minute + 50)
        assert len(pool._threads) == 10
    assert pool.drain(60)


def test_threads_that_end_leave_nothing_asleep_that_is_to_come_back_later(work: Work) -> None:
    """Whichever thread slept until it was due."""
    clock = Clock()
    seen: list[int] = []

    def first_later(one: Ticket[str]) -> Again | None:
        seen.append(one.position.offset)
        return Again(0.1) if one.position.offset % 2 == 0 and seen.count(one.position.offset) == 1 else None

    work.then = first_later
    pool = pool_of(work, lambda: time.monotonic() + clock.now)
    for offset in range(1, 20, 2):
        pool.offer(ticket(offset))
    until(lambda: len(work.begun) == 10)
    work.door.set()
    for offset in range(20, 80, 2):
        pool.offer(ticket(offset))
        pool.offer(ticket(offset + 1))
        clock.now += STRETCH / 4
        until(lambda offset=offset: work.ended.count(offset) == 2)  # type: ignore[misc]
    assert len(pool._threads) < 4
    assert pool.drain(60)


def test_a_partition_that_leaves_waits_for_what_runs_after_threads_ended(work: Work) -> None:
    clock = Clock()
    pool = pool_of(work, clock)
    work.door.set()
    for number in range(12):
        clock.now += STRETCH / 3
        one_more(pool, work, number)
    work.door.clear()
    pool.offer(ticket(99))
    until(lambda: pool.running == 1)
    assert not pool.drop([TopicPartition("his.adt", 0)], 0.05)
    work.door.set()
    assert pool.drop([TopicPartition("his.adt", 0)], 60)
    assert pool.drain(60)
