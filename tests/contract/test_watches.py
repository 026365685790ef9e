"""What the ledger keeps of watches, on both ledgers: one process at a time, one intent at a time, nothing readable."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import Refused
from pipeline.ledger.sql import SqlLedger
from pipeline.ledger.watching import Appending, Item, Standing, Watches
from tests import postgres_server
from tests.ledger.samples import PSEUDONYMS

W = "roqua-watch"
ITEMS = (Item("r1", "c1", "1"), Item("r2", "c2", "2"))
INTENT = Appending({0: 7, 1: 0}, ITEMS)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def open_it(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], SqlLedger]]:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}" if request.param == "sqlite" else postgres_server.a_schema()
    opened: list[SqlLedger] = []

    def again() -> SqlLedger:
        opened.append(SqlLedger(url, PSEUDONYMS, clock=lambda: 9_000))
        opened[-1].check()
        return opened[-1]

    yield again
    for ledger in opened:
        ledger.close()


@pytest.fixture
def watches(open_it: Callable[[], SqlLedger]) -> Watches:
    return open_it().watches


def test_one_process_has_a_watch_until_its_time_is_over(watches: Watches) -> None:
    assert watches.take(W, "a", 100, 0, alone=False)
    assert not watches.take(W, "b", 200, 99, alone=False)
    assert watches.take(W, "a", 150, 99, alone=False)
    assert not watches.take(W, "b", 200, 149, alone=False)
    assert watches.take(W, "b", 200, 150, alone=False)
    assert watches.take("other", "a", 200, 150, alone=False)


def test_where_a_lock_says_that_no_other_is_there_nobody_waits(watches: Watches) -> None:
    assert watches.take(W, "a", 100, 0, alone=True)
    assert watches.take(W, "b", 200, 1, alone=True)


def test_of_many_that_want_a_watch_one_has_it(open_it: Callable[[], SqlLedger]) -> None:
    ledgers = [open_it() for _ in range(4)]
    taken: list[bool] = []

    def take(number: int) -> None:
        taken.append(ledgers[number].watches.take(W, str(number), 100, 0, alone=False))

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False, False, False, True]


def test_a_dossier_is_learnt_once_and_keeps_what_is_known_of_it(watches: Watches) -> None:
    assert watches.learn(W, ["2075", "2076", "2075"], 5) == 2
    (key,) = (one.key for one in watches.dossiers(W) if one.id == "2075")
    watches.polled(W, key, 70, 80)
    watches.polled(W, key, None, 90)
    assert watches.learn(W, ["2075"], 6) == 0
    found = {one.id: (one.from_ms, one.after_ms, one.polled_ms) for one in watches.dossiers(W)}
    assert found == {"2075": (5, 70, 90), "2076": (5, None, None)}
    assert watches.dossiers("other") == []


def test_an_intent_stays_until_it_is_done_and_no_other_begins_before(watches: Watches) -> None:
    assert watches.take(W, "a", 100, 0, alone=True)
    watches.begin(W, "a", INTENT)
    watches.begin(W, "a", INTENT)
    assert watches.appending(W) == INTENT
    with pytest.raises(Refused, match=f"watches.{W}"):
        watches.begin(W, "a", Appending({0: 9}, ITEMS[:1]))
    watches.done(W, ITEMS[:1], 10)
    assert watches.appending(W) is None
    assert watches.seen(W, ["r1", "r2"]) == {"r1": "c1"}


def test_who_has_lost_the_watch_begins_nothing(watches: Watches) -> None:
    assert watches.take(W, "a", 100, 0, alone=False)
    assert watches.take(W, "b", 300, 200, alone=False)
    with pytest.raises(Refused):
        watches.begin(W, "a", INTENT)
    assert watches.appending(W) is None


def test_what_stands_on_the_topic_is_known_by_its_last_content_and_for_each_watch_apart(watches: Watches) -> None:
    watches.done(W, ITEMS, 1)
    watches.done(W, [Item("r1", "changed", "3")], 2)
    assert watches.seen(W, ["r1", "r2", "r3"]) == {"r1": "changed", "r2": "c2"}
    assert watches.seen("other", ["r1"]) == {}
    assert watches.seen(W, []) == {}


def test_thousands_of_responses_are_asked_for_at_once(watches: Watches) -> None:
    many = [Item(f"r{number}", "c", str(number)) for number in range(1_200)]
    watches.done(W, many, 1)
    assert len(watches.seen(W, [one.response for one in many])) == len(many)


def test_how_a_watch_stands(watches: Watches) -> None:
    assert watches.standing(W) == Standing(0, 0, None, 0, appending=False)
    assert watches.take(W, "a", 100, 0, alone=True)
    watches.learn(W, ["1", "2", "3"], None)
    for number, one in enumerate(watches.dossiers(W)[:2]):
        watches.polled(W, one.key, None, 50 + number)
    watches.done(W, ITEMS, 1)
    watches.begin(W, "a", INTENT)
    assert watches.standing(W) == Standing(3, 1, 50, 2, appending=True)


def test_a_dossier_stands_sealed_and_its_repr_does_not_show_it(watches: Watches, tmp_path: Path) -> None:
    watches.learn(W, ["canary-dossier"], None)
    (one,) = watches.dossiers(W)
    assert "canary" not in repr(one)
    assert b"canary" not in b"".join(path.read_bytes() for path in tmp_path.glob("ledger.sqlite*"))
