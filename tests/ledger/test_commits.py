"""Group commit on a real SQLite: each caller has its own value or error, only after the commit, and none is left waiting."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, event, text

from pipeline.database.commits import Commits
from tests.delivery.partner_script import until

INSERT: Final = text("INSERT INTO rows (name) VALUES (:name)")


class Refusal(Exception):
    """Of one caller's work."""


class NotDurable(Exception):
    """The commit fails."""


class Killed(BaseException):
    """Nothing of ours handles it."""


class Store:
    """A table, and transactions on it that can be held open and made to fail."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "rows.sqlite"
        self.engine = create_engine(f"sqlite:///{self.file}", connect_args={"check_same_thread": False})
        event.listen(self.engine, "connect", by_hand)
        event.listen(self.engine, "begin", begin)
        with self.engine.begin() as connection:
            connection.execute(text("CREATE TABLE rows (name TEXT PRIMARY KEY)"))
        self.transactions = 0
        self.failing: list[BaseException] = []
        """What the next commits fail with."""
        self.open = threading.Event()
        """A commit waits for it."""
        self.open.set()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.transactions += 1
        with self.engine.connect() as connection, connection.begin():
            yield connection
            assert self.open.wait(60)
            if self.failing:
                raise self.failing.pop(0)

    def commits(self, most: int = 256) -> Commits:
        return Commits(self.transaction, lambda connection: connection.begin_nested(), most)

    def durable(self) -> set[str]:
        """As another process sees it."""
        with sqlite3.connect(self.file) as other:
            return {name for (name,) in other.execute("SELECT name FROM rows")}


def by_hand(connection: Any, _: object) -> None:  # noqa: ANN401 - a DBAPI connection
    connection.isolation_level = None


def begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.open.set()
    store.engine.dispose()


def adds(name: str) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(INSERT, {"name": name})
        return f"added {name}"

    return work


def refuses(name: str) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(INSERT, {"name": name})
        raise Refusal(name)

    return work


def beside(
    store: Store, commits: Commits, first: Callable[[Connection], str], *others: Callable[[Connection], str]
) -> list["Future[str]"]:
    """The first leads and is held in its commit; the others come meanwhile, in this order, and share what follows."""
    pool = ThreadPoolExecutor(1 + len(others))
    store.open.clear()
    before = store.transactions
    futures = [pool.submit(commits, first)]
    until(lambda: store.transactions > before)
    for number, other in enumerate(others, 1):
        futures.append(pool.submit(commits, other))
        until(lambda number=number: len(commits._waiting) == number)  # type: ignore[misc]
    store.open.set()
    wait(futures, 10)
    pool.shutdown(wait=False)
    assert all(future.done() for future in futures), "a caller is left waiting"
    return futures


def test_one_caller_has_its_value_and_it_is_durable(store: Store) -> None:
    commits = store.commits()
    assert commits(adds("a")) == "added a"
    assert store.durable() == {"a"}


def test_those_who_come_meanwhile_share_the_next_transaction_and_each_has_its_own_value(store: Store) -> None:
    futures = beside(store, store.commits(), adds("a"), adds("b"), adds("c"), adds("d"))
    assert [future.result() for future in futures] == ["added a", "added b", "added c", "added d"]
    assert store.durable() == {"a", "b", "c", "d"}
    assert store.transactions == 2


def test_nobody_has_a_value_before_the_commit(store: Store) -> None:
    commits = store.commits()
    store.open.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(commits, adds("a"))
        until(lambda: store.transactions == 1)
        second = pool.submit(commits, adds("b"))
        time.sleep(0.05)
        assert (first.done(), second.done(), store.durable()) == (False, False, set())
        store.open.set()
        assert first.result(60) == "added a"
        assert second.result(60) == "added b"


def test_one_that_is_refused_has_its_own_error_and_costs_the_others_nothing(store: Store) -> None:
    _, *futures = beside(store, store.commits(), adds("first"), adds("a"), refuses("b"), adds("c"), refuses("d"))
    assert (futures[0].result(), futures[2].result()) == ("added a", "added c")
    for future, name in ((futures[1], "b"), (futures[3], "d")):
        with pytest.raises(Refusal, match=name):
            future.result()
    assert store.durable() == {"first", "a", "c"}


def test_one_that_breaks_a_rule_of_the_database_costs_the_others_nothing(store: Store) -> None:
    _, *futures = beside(store, store.commits(), adds("first"), adds("a"), adds("first"), adds("c"))
    assert (futures[0].result(), futures[2].result()) == ("added a", "added c")
    assert futures[1].exception() is not None
    assert store.durable() == {"first", "a", "c"}


def test_a_single_one_that_is_refused_leaves_nothing(store: Store) -> None:
    commits = store.commits()
    with pytest.raises(Refusal):
        commits(refuses("a"))
    assert store.durable() == set()
    assert commits(adds("b")) == "added b"


def test_a_commit_that_fails_twice_fails_all_of_its_callers_and_nothing_of_theirs_is_durable(store: Store) -> None:
    commits = store.commits()
    left = [NotDurable(), NotDurable()]

    def arm(connection: Connection) -> str:
        store.failing = [left.pop(0)]
        return adds("a")(connection)

    _, *futures = beside(store, commits, adds("first"), arm, adds("b"), adds("c"))
    assert [type(future.exception()) for future in futures] == [NotDurable] * 3
    assert store.durable() == {"first"}
    assert commits(adds("later")) == "added later"


def test_a_commit_that_fails_once_is_tried_again_with_each_apart(store: Store) -> None:
    left = [NotDurable()]

    def arm(connection: Connection) -> str:
        store.failing = [left.pop(0)] if left else []
        return adds("a")(connection)

    _, *futures = beside(store, store.commits(), adds("first"), arm, adds("b"))
    assert [future.result() for future in futures] == ["added a", "added b"]
    assert store.durable() == {"first", "a", "b"}


def named(name: str) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(INSERT, {"name": name})
        return name

    return work


def test_what_one_caller_asks_for_in_advance_shares_a_transaction(store: Store) -> None:
    commits = store.commits()
    promises = [commits.soon(named(name)) for name in "abc"]
    assert store.durable() == set()
    assert [promise.result() for promise in promises] == ["a", "b", "c"]
    assert (store.transactions, store.durable()) == (1, {"a", "b", "c"})


def test_a_promise_has_its_own_error_each_time_it_is_asked(store: Store) -> None:
    commits = store.commits()
    commits(named("a"))
    twice, other = commits.soon(named("a")), commits.soon(named("b"))
    assert other.result() == "b"
    for _ in range(2):
        with pytest.raises(Exception, match="UNIQUE"):
            twice.result()


def test_one_that_nobody_asks_for_yet_goes_with_the_others_and_holds_up_nobody(store: Store) -> None:
    """Its caller may be elsewhere for long: it is never the one who has to lead."""
    commits = store.commits(most=1)
    early = commits.soon(named("early"))
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(commits, named(f"other {number}")) for number in range(20)]
        assert [other.result(60) for other in others] == [f"other {number}" for number in range(20)]
    assert early.done
    assert early.result() == "early"
    assert store.transactions == 21


def test_who_leads_and_is_killed_by_anothers_work_leaves_no_place_behind(store: Store) -> None:
    commits = store.commits(most=1)
    store.open.clear()

    def kills(_connection: Connection) -> None:
        raise Killed

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(commits, named("first"))
        until(lambda: store.transactions == 1)
        commits.soon(kills)  # nobody asks for it
        mine = commits.soon(named("mine"))
        leads = pool.submit(mine.result)
        until(lambda: mine.turn is not None)
        store.open.set()
        assert first.result(60) == "first"
        with pytest.raises(Killed):
            leads.result(60)
        assert pool.submit(commits, named("last")).result(60) == "last"
    assert store.durable() == {"first", "last"}


def test_no_more_than_allowed_share_one_transaction(store: Store) -> None:
    futures = beside(store, store.commits(most=2), adds("first"), adds("a"), adds("b"), adds("c"), adds("d"), adds("e"))
    assert [future.result() for future in futures] == [f"added {name}" for name in ("first", "a", "b", "c", "d", "e")]
    assert store.transactions == 1 + 3


def test_sixty_four_threads_share_transactions_and_all_is_durable(store: Store) -> None:
    commits = store.commits()
    names = [f"{thread}-{call}" for thread in range(64) for call in range(8)]

    def some(thread: int) -> list[str]:
        return [commits(adds(name)) for name in names[thread * 8 : thread * 8 + 8]]

    with ThreadPoolExecutor(64) as pool:
        values = [value for found in pool.map(some, range(64)) for value in found]
    assert values == [f"added {name}" for name in names]
    assert store.durable() == set(names)
    assert store.transactions < len(names) / 2


def dies(name: str) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(INSERT, {"name": name})
        raise Killed

    return work


def test_no_caller_is_left_waiting_or_told_a_value_when_the_leader_is_killed(store: Store) -> None:
    commits = store.commits()
    _, *futures = beside(store, commits, adds("first"), adds("a"), dies("b"), adds("c"))
    assert [type(future.exception()) for future in futures] == [Killed] * 3
    assert store.durable() == {"first"}
    assert commits(adds("later")) == "added later"


def test_no_caller_is_told_a_value_when_the_leader_is_killed_while_each_goes_apart(store: Store) -> None:
    """One is refused, so all are run again; then the process is told to end in the middle of it."""
    commits, calls = store.commits(), []

    def dies_again(connection: Connection) -> str:
        calls.append(1)
        if len(calls) > 1:
            raise Killed
        return adds("b")(connection)

    _, *futures = beside(store, commits, adds("first"), adds("a"), dies_again, refuses("c"), adds("d"))
    assert store.durable() == {"first"}
    assert [type(future.exception()) for future in futures] == [Killed] * 4
    assert commits(adds("later")) == "added later"


def test_who_waits_behind_a_killed_leaders_transaction_goes_on(store: Store) -> None:
    _, killed, *others = beside(store, store.commits(most=1), adds("first"), dies("a"), adds("b"), adds("c"))
    assert type(killed.exception()) is Killed
    assert [future.result() for future in others] == ["added b", "added c"]
    assert store.durable() == {"first", "b", "c"}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=st.lists(st.tuples(st.sampled_from(["adds", "adds", "adds", "refuses"]), st.integers(0, 5)), max_size=24))
def test_what_a_caller_was_told_is_what_is_durable(tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, int]]) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    commits = store.commits(most=5)
    told: set[str] = set()

    def call(number: int, what: str, pause: int) -> None:
        time.sleep(pause / 2_000)
        try:
            value = commits(adds(str(number)) if what == "adds" else refuses(str(number)))
        except Refusal as refusal:
            assert str(refusal) == str(number)  # noqa: PT017 - whose error it is
        else:
            assert value == f"added {number}"
            assert str(number) in store.durable()
            told.add(value.removeprefix("added "))

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(call, number, *each) for number, each in enumerate(plan)]:
            future.result(60)
    store.engine.dispose()
    assert told == store.durable() == {str(number) for number, (what, _) in enumerate(plan) if what == "adds"}
