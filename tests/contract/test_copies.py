"""One schedule, several patients: each has a copy, and nobody two. One suite on SQLite and a real PostgreSQL, and a state machine against a plain model."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pipeline.appointments import writes
from pipeline.appointments.changes import copy_id, own_id
from pipeline.appointments.port import GONE, Both, Change, Deed, Did, Key, Merge, Page, Put, Says
from pipeline.appointments.sql import SqlStore
from pipeline.errors import Refused, StoreError
from pipeline.model import Position
from pipeline.partners.medmij import parts
from tests import postgres_server
from tests.appointments.samples import change

DEED = Deed("an operator", "sealed")
NOW = 1_000_000
RUNS = count()
NOBODY: frozenset[str] = frozenset()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'appointments.sqlite'}" if kind == "sqlite" else postgres_server.a_schema()


Open = Callable[[], SqlStore]


@pytest.fixture
def open_it(url: str) -> Iterator[Open]:
    """The same store again, as another worker has it."""
    opened: list[SqlStore] = []

    def again() -> SqlStore:
        opened.append(SqlStore(url, "ours", clock=lambda: NOW))
        return opened[-1]

    yield again
    for store in opened:
        store.close()


@pytest.fixture
def store(open_it: Open) -> SqlStore:
    store = open_it()
    store.check()
    return store


def version(name: str, keys: tuple[Key, ...], status: str, order: tuple[int, int], *, shared: bool = True) -> Change:
    """As a message makes it: with its patient, whose id tells the copies apart."""
    number = {"identifier": [{"system": "s", "value": "1"}]}
    body = orjson.dumps({"resourceType": "Appointment", "id": name, **number, "status": status, "order": order})
    patient = f"of-{min(key.hash for key in keys)}"
    one = change(name, event_ms=order[0], body=body, refs=(("Patient", patient),), ref_body=orjson.dumps({"id": patient}))
    return replace(one, keys=keys, position=Position("siu", 0, order[1]), own=own_id(replace(one, keys=keys)), shared=shared)


def put(store: SqlStore, key: str, status: str, event_ms: int, *, name: str = "x", shared: bool = True) -> Put:
    return store.put(version(name, (Key(key),), status, (event_ms, 1), shared=shared))


def whose(store: SqlStore, key: str) -> int:
    person = store.person(key)
    assert person is not None
    return person


def seen(store: SqlStore, key: str) -> list[str]:
    """What the person sees, each of which reads as it was found."""
    person = store.person(key)
    found = GONE if person is None else store.search(person, count=99)
    assert isinstance(found, Page)
    for one in found.found:
        assert store.read(whose(store, key), "Appointment", one.id) == one.body
        assert orjson.loads(one.body)["id"] == one.id
    return [orjson.loads(one.body)["status"] for one in found.found]


def hashes(*keys: str) -> frozenset[str]:
    return frozenset(keys)


def merge(store: SqlStore, prior: str, survivor: str) -> Put:
    return store.merge(Merge((Key(prior),), (Key(survivor),), 1, "his.adt/0/7"))


# one person has one


def test_two_of_a_group_who_are_merged_see_the_newest_at_once_and_nothing_that_was_cancelled_stays_booked(
    store: SqlStore,
) -> None:
    """Seen to fail without _show_newest (pipeline/appointments/persons.py)."""
    put(store, "anna", "booked", 1_000)
    put(store, "old", "booked", 2_000)
    put(store, "anna", "cancelled", 3_000)
    merge(store, "old", "anna")
    assert seen(store, "anna") == seen(store, "old") == ["cancelled"]
    assert put(store, "old", "booked", 2_500) is Put.STALE
    assert put(store, "old", "arrived", 4_000) is Put.UPDATED
    assert seen(store, "anna") == ["arrived"]


def test_who_is_parted_again_sees_what_was_his_own_of_it(store: SqlStore) -> None:
    put(store, "anna", "booked", 1_000)
    put(store, "old", "booked", 2_000)
    put(store, "anna", "cancelled", 3_000)
    merge(store, "old", "anna")
    store.part(hashes("old"), None, DEED)
    assert (seen(store, "anna"), seen(store, "old")) == (["cancelled"], ["booked"])


def test_a_copy_is_found_though_its_patient_has_another_id_by_now_and_nothing_is_left_of_the_first(store: SqlStore) -> None:
    """Seen to fail when a copy was looked for by the ids of its person's Patients: the part had taken the first one away, and a second copy came."""
    put(store, "anna", "booked", 1_000)
    both = (Key("bert"), Key("zoe"))
    store.put(version("x", both, "booked", (2_000, 1)))
    store.put(version("x", (Key("zoe"),), "booked", (3_000, 1)))
    merge(store, "other", "zoe")
    store.put(version("y", (Key("other"),), "booked", (1, 1)))
    store.part(hashes("bert", "zoe"), Both.GO, DEED)
    assert store.put(version("x", (Key("zoe"),), "cancelled", (4_000, 1))) is Put.UPDATED
    assert seen(store, "bert") == ["cancelled"]


def test_a_search_goes_on_as_it_began_though_a_merge_hides_what_it_saw(store: SqlStore) -> None:
    for key, name, event_ms in (("anna", "x", 1_000), ("anna", "y", 1_000), ("old", "x", 2_000)):
        put(store, key, "booked", event_ms, name=name)
    anna = whose(store, "anna")
    began = store.search(anna, count=1)
    assert isinstance(began, Page)
    merge(store, "old", "anna")
    again = store.search(anna, count=9, at=began.at)
    assert isinstance(again, Page)
    assert [one.id for one in again.found] == ["x", "y"]
    now = store.search(anna, count=9)
    assert isinstance(now, Page)
    put(store, "anna", "arrived", 3_000)
    assert store.search(anna, count=9, at=now.at) == now
    assert len(now.found) == 2


def test_a_copy_that_is_anothers_by_now_gives_nobody_its_id(store: SqlStore) -> None:
    """Seen to fail without free (pipeline/appointments/writes.py)."""
    put(store, "anna", "booked", 1)
    store.put(version("x", (Key("bert"), Key("zoe")), "booked", (2, 1)))
    store.part(hashes("zoe"), Both.GO, DEED)
    assert put(store, "bert", "booked", 3) is Put.CREATED
    assert [seen(store, key) for key in ("anna", "bert", "zoe")] == [["booked"]] * 3


def test_what_was_stored_before_copies_were_known_as_such_is_brought_up_to_date(open_it: Open, store: SqlStore) -> None:
    name = parts.own_id("Appointment", "s", "1")
    for key, status, event_ms in (("anna", "booked", 1), ("old", "booked", 2), ("anna", "cancelled", 3), ("carl", "booked", 4)):
        put(store, key, status, event_ms, name=name)
    put(store, "carl", "booked", 5, name="alone")
    merge(store, "old", "anna")
    with store._database.write() as connection:
        connection.exec_driver_sql("DROP INDEX copies_of_an_appointment")
        connection.exec_driver_sql("DROP TABLE remembered_words")
        connection.exec_driver_sql("DROP INDEX released_appointments")
        for column in ("copy_of", "shown", "told", "released_of", "released_ms"):
            connection.exec_driver_sql(f"ALTER TABLE appointments DROP COLUMN {column}")
        connection.exec_driver_sql("UPDATE appointments_version SET version_num = '0002'")
    again = open_it()
    again.check()
    assert (seen(again, "anna"), seen(again, "carl"), again.having(name)) == (["cancelled"], ["booked", "booked"], 2)
    assert put(again, "old", "arrived", 9, name=name) is Put.UPDATED
    assert seen(again, "anna") == ["arrived"]


# an operator


def test_what_is_taken_back_is_taken_from_all_of_a_group_or_from_one_of_them(store: SqlStore) -> None:
    """Seen to fail when `forget --appointment` went by the id alone: the copies stayed."""
    for number, key in enumerate(("anna", "bert", "carl")):
        put(store, key, "booked", number)
    assert (store.having("x"), store.having("x", hashes("bert")), store.having("nothing")) == (3, 1, 0)
    assert store.withdraw("x", hashes("bert"), DEED) == 1
    assert [seen(store, key) for key in ("anna", "bert", "carl")] == [["booked"], [], ["booked"]]
    assert store.withdraw("x", NOBODY, DEED) == 2
    assert [seen(store, key) for key in ("anna", "bert", "carl")] == [[], [], []]
    assert put(store, "bert", "booked", 9) is Put.CREATED
    assert [(one.did, one.appointments) for one in store.done(9)] == [(Did.WITHDRAWN, 1)] * 3


def test_by_the_id_of_a_copy_its_own_person_is_meant(store: SqlStore) -> None:
    put(store, "anna", "booked", 1)
    put(store, "bert", "booked", 2)
    merge(store, "old", "bert")
    put(store, "older", "booked", 3)
    merge(store, "older", "bert")
    copy = copy_id("x", "of-older")
    assert store.having(copy) == 1
    assert store.withdraw(copy, NOBODY, DEED) == 1
    assert (seen(store, "anna"), seen(store, "bert")) == (["booked"], [])
    assert store.withdraw(copy, NOBODY, DEED) == 0


def test_a_number_that_is_given_out_again_is_the_next_patients_and_the_first_keeps_what_he_had(store: SqlStore) -> None:
    """Seen to fail with the released one left under its id."""
    put(store, "anna", "fulfilled", 1_000, shared=False)
    anna = whose(store, "anna")
    began = store.search(anna, count=9)
    assert isinstance(began, Page)
    assert put(store, "bert", "booked", 9_000, shared=False) is Put.ANOTHERS
    assert store.release("x", NOBODY, DEED) == 1
    assert store.search(anna, count=9, at=began.at) == began
    assert put(store, "bert", "booked", 9_000, shared=False) is Put.CREATED
    assert put(store, "anna", "noshow", 9_500, shared=False) is Put.ANOTHERS
    assert (seen(store, "anna"), seen(store, "bert")) == (["fulfilled"], ["booked"])
    assert store.read(anna, "Patient", "of-anna") == b'{"id":"of-anna"}'
    assert store.read(whose(store, "bert"), "Patient", "of-anna") is None
    assert [one.did for one in store.done(9)] == [Did.RELEASED]
    assert store.release("x", NOBODY, DEED) == 1
    assert put(store, "carl", "booked", 9_900, shared=False) is Put.CREATED
    assert [seen(store, key) for key in ("anna", "bert", "carl")] == [["fulfilled"], ["booked"], ["booked"]]


def test_until_the_release_nothing_of_the_first_patient_takes_the_number_back_from_the_parked_message(store: SqlStore) -> None:
    """Seen to fail without _is_released (pipeline/appointments/writes.py): the number was his again and the other parked for ever; and with `>=` in it."""
    put(store, "anna", "fulfilled", 1_000, shared=False)
    assert put(store, "bert", "booked", 9_000, shared=False) is Put.ANOTHERS
    store.release("x", NOBODY, DEED)
    for event_ms in (500, 1_000, 9_500, NOW):
        for status in ("booked", "cancelled"):
            assert put(store, "anna", status, event_ms, shared=False) is Put.ANOTHERS
    assert put(store, "bert", "booked", 9_000, shared=False) is Put.CREATED
    assert (seen(store, "anna"), seen(store, "bert")) == (["fulfilled"], ["booked"])


def test_what_books_it_anew_after_the_release_is_the_first_patients_where_no_other_has_it_yet(store: SqlStore) -> None:
    """Seen to fail without `books` in _is_released."""
    put(store, "anna", "fulfilled", 1_000)
    store.release("x", NOBODY, DEED)
    for word in ("noshow", "cancelled"):
        assert put(store, "anna", word, NOW + 1, shared=False) is Put.ANOTHERS
    taken_back = replace(version("x", (Key("anna"),), "booked", (NOW + 1, 1), shared=False), says=Says.AGAIN)
    untimed = replace(version("x", (Key("anna"),), "booked", (NOW + 1, 1), shared=False), event_ms=None)
    assert [store.put(one) for one in (taken_back, untimed)] == [Put.ANOTHERS] * 2
    assert put(store, "anna", "booked", NOW + 2, shared=False) is Put.CREATED
    assert put(store, "bert", "booked", 9_000, shared=False) is Put.ANOTHERS
    assert put(store, "anna", "cancelled", NOW + 3, shared=False) is Put.UPDATED
    assert put(store, "bert", "booked", 9_000, shared=False) is Put.CREATED
    assert put(store, "anna", "booked", NOW + 4, shared=False) is Put.UPDATED
    assert (sorted(seen(store, "anna")), seen(store, "bert")) == (["booked", "fulfilled"], ["booked"])


def test_whom_a_number_was_taken_from_goes_with_the_appointment_that_he_keeps(store: SqlStore) -> None:
    """By a merge, by a part, and away with what is forgotten."""
    put(store, "old", "fulfilled", 1_000, shared=False)
    store.release("x", NOBODY, DEED)
    merge(store, "old", "anna")
    assert put(store, "anna", "booked", 2_000, shared=False) is Put.ANOTHERS
    store.part(hashes("old"), None, DEED)
    assert put(store, "old", "booked", 2_000, shared=False) is Put.ANOTHERS
    store.forget(hashes("old"), DEED)
    assert put(store, "old", "booked", 2_000, shared=False) is Put.CREATED


def test_one_of_a_group_of_whom_it_is_released_gets_no_second_copy_of_what_he_keeps(store: SqlStore) -> None:
    put(store, "anna", "booked", 1_000)
    put(store, "bert", "booked", 2_000)
    assert store.release("x", hashes("bert"), DEED) == 1
    assert (put(store, "bert", "arrived", 3_000), put(store, "anna", "arrived", 3_000)) == (Put.ANOTHERS, Put.UPDATED)
    assert put(store, "bert", "booked", NOW + 1) is Put.CREATED
    assert (seen(store, "anna"), seen(store, "bert")) == (["arrived"], ["booked", "booked"])


def test_of_what_is_released_nothing_stays_that_only_an_older_copy_referenced(store: SqlStore) -> None:
    """Seen to fail without drop in persons.release, and the part after it with a defect."""
    put(store, "anna", "booked", 1)
    put(store, "old", "booked", 2)
    merge(store, "old", "anna")
    assert store.release("x", NOBODY, DEED) == 1
    anna = whose(store, "anna")
    assert (store.read(anna, "Patient", "of-anna"), store.read(anna, "Patient", "of-old")) == (GONE, b'{"id":"of-old"}')
    store.part(hashes("old"), None, DEED)
    assert (seen(store, "anna"), seen(store, "old")) == ([], ["booked"])


@pytest.mark.parametrize("statuses", [("booked", "cancelled"), ("cancelled", "booked")])
def test_of_two_copies_of_one_age_the_one_that_was_shown_is_released(store: SqlStore, statuses: tuple[str, str]) -> None:
    """Seen to fail without `shown` in the order of persons.release."""
    for key, status in zip(("anna", "old"), statuses, strict=True):
        put(store, key, status, 1)
    merge(store, "old", "anna")
    before = seen(store, "anna")
    assert store.release("x", NOBODY, DEED) == 1
    assert seen(store, "anna") == before


def test_a_copy_is_not_taken_by_a_number_that_nobody_is_known_by(store: SqlStore) -> None:
    """Seen to fail when that was taken for no number."""
    put(store, "anna", "booked", 1)
    put(store, "bert", "booked", 2)
    copy = copy_id("x", "of-bert")
    assert store.having(copy) == 1
    assert store.having(copy, hashes("nobody")) == store.withdraw(copy, hashes("nobody"), DEED) == 0
    assert store.release(copy, hashes("nobody"), DEED) == 0
    assert (seen(store, "anna"), seen(store, "bert")) == (["booked"], ["booked"])


@pytest.mark.parametrize("name", ["-x", "x"])
def test_what_one_has_booked_is_nobody_elses_also_where_a_third_one_had_it_before(store: SqlStore, name: str) -> None:
    """Seen to fail when only the first one's was looked at, which was cancelled."""
    put(store, "anna", "cancelled", 1, name=name, shared=False)
    assert put(store, "bert", "booked", 2, name=name, shared=False) is Put.CREATED
    assert put(store, "carl", "booked", 3, name=name, shared=False) is Put.ANOTHERS
    assert seen(store, "bert") == ["booked"]


# two workers


def test_two_of_a_group_who_come_by_two_workers_at_the_same_moment_have_each_one(open_it: Open, store: SqlStore) -> None:
    """Seen to fail on PostgreSQL when a write went by the id alone: the later one took the row of the other."""
    stores = {"anna": store, "bert": open_it()}
    rounds = 25
    for key, own in stores.items():
        put(own, key, "booked", 1, name=f"of-{key}")
    together = threading.Barrier(2, timeout=300)
    came: dict[str, list[Put | StoreError]] = {key: [] for key in stores}

    def work(key: str) -> None:
        for number in range(rounds):
            together.wait()
            try:
                came[key].append(put(stores[key], key, "booked", 5, name=f"x{number}"))
            except StoreError as error:  # the test says so, not the thread
                came[key].append(error)

    threads = [threading.Thread(target=work, args=(key,)) for key in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert came == {key: [Put.CREATED] * rounds for key in stores}
    assert [len(seen(store, key)) for key in stores] == [rounds + 1] * 2


def test_a_merge_that_two_workers_replay_at_once_with_all_messages_of_both_ends_as_told_once(
    open_it: Open, store: SqlStore
) -> None:
    """Seen to fail with the queue of merges taken away (persons.merge), on PostgreSQL."""
    workers, rounds = (store, open_it()), 12
    together = threading.Barrier(len(workers), timeout=300)
    failed: list[str] = []

    def replay(turn: int) -> None:
        own = workers[turn]
        for number in range(rounds):
            told: list[Callable[[], Put]] = [
                *(
                    partial(put, own, f"{key}{number}", status, event_ms, name=f"x{number}")
                    for key, status, event_ms in (
                        ("anna", "booked", 1),
                        ("old", "booked", 2),
                        ("old", "arrived", 3),
                        ("anna", "cancelled", 4),
                    )
                ),
                partial(put, own, f"old{number}", "booked", 1, name=f"y{number}", shared=False),
            ]
            told.insert((number + turn * 3) % 6, partial(merge, own, f"old{number}", f"anna{number}"))
            together.wait()
            failed.extend(str(came) for came in map(until_written, told) if came not in OF_A_REPLAY)

    threads = [threading.Thread(target=replay, args=(turn,)) for turn in range(len(workers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for number in range(rounds):
        assert sorted(seen(store, f"old{number}")) == sorted(seen(store, f"anna{number}")) == ["booked", "cancelled"]
        (one,) = store.persons(hashes(f"old{number}", f"anna{number}"))
        assert (one.keys, one.appointments, [each.did for each in one.done]) == (2, 2, [Did.MERGED])


OF_A_REPLAY = (Put.CREATED, Put.UPDATED, Put.STALE)


def until_written(deed: Callable[[], Put]) -> Put | StoreError:
    """As the worker does: what was in another's way is tried again."""
    for _ in range(20):
        try:
            return deed()
        except StoreError as error:
            last = error
    return last


def test_a_row_that_somebody_else_wrote_meanwhile_is_not_taken(store: SqlStore) -> None:
    put(store, "anna", "booked", 1)
    put(store, "bert", "booked", 1, name="y")
    late = version("x", (Key("bert"),), "booked", (9, 9))
    with pytest.raises(StoreError), store._database.write() as connection:
        writes._write(connection, late, whose(store, "bert"), 2, "")
    assert (seen(store, "anna"), len(seen(store, "bert"))) == (["booked"], 1)


# whatever comes

KEYS = ["A1", "A2", "B1", "C1", "bsn-A", "bsn-B"]
SOME = st.sets(st.sampled_from(KEYS), min_size=1, max_size=2)
GROUPS, ALONE = ("g1", "g2"), ("s1",)
NAMES = st.sampled_from([*GROUPS, *ALONE])
OVER = {"cancelled", "entered-in-error"}


@dataclass(frozen=True)
class One:
    """A version that somebody has."""

    came: frozenset[str]
    order: tuple[int, int]
    status: str


@dataclass(eq=False)
class Somebody:
    keys: set[str]
    has: dict[str, list[One]] = field(default_factory=dict)

    def newest(self, name: str) -> One | None:
        return max(self.has.get(name, ()), key=lambda one: one.order, default=None)


class Copies(RuleBasedStateMachine):
    """Against persons as sets of keys, each with what came with which of them: messages of one schedule for several, merges, joins, parts, in any order."""

    store: SqlStore

    def __init__(self) -> None:
        super().__init__()
        self.run = f"r{next(RUNS)}-"
        self.people: list[Somebody] = []
        self.parted: set[frozenset[str]] = set()
        self.offset = 0

    def _keys(self, names: set[str]) -> tuple[Key, ...]:
        return tuple(Key(self.run + name, sole=name.startswith("bsn")) for name in sorted(names))

    def _hashes(self, names: set[str]) -> frozenset[str]:
        return frozenset(self.run + name for name in names)

    def _met(self, names: set[str]) -> list[Somebody]:
        return [person for person in self.people if person.keys & names]

    def _soles(self, names: set[str]) -> int:
        return sum(name.startswith("bsn") for name in names.union(*(person.keys for person in self._met(names))))

    def _anothers(self, name: str, met: list[Somebody]) -> bool:
        """Whether one who is not met has it, and goes on with it."""
        others = [other.newest(name) for other in self.people if other not in met and other.has.get(name)]
        return name in ALONE and any(other and other.status not in OVER for other in others)

    @rule(
        name=NAMES,
        names=SOME,
        status=st.sampled_from(["booked", "booked", "cancelled", "entered-in-error"]),
        at=st.integers(1, 6) | st.integers(NOW, NOW + 6),
    )
    def message(self, name: str, names: set[str], status: str, at: int) -> None:
        """Booked, moved, cancelled, deleted; an older one may come late. A cancel of what is another's is remembered: tests/contract/test_two_numbers.py."""
        self.offset += 1
        if status in OVER and self._anothers(name, self._met(names)):
            status = "booked"
        one = One(frozenset(names), (at, self.offset), status)
        sent = version(self.run + name, self._keys(names), status, one.order, shared=name in GROUPS)
        came, met = self.store.put(sent), self._met(names)
        if len(met) > 1 or self._soles(names) > 1:
            assert came is Put.CONFLICT
            return
        person = met[0] if met else None
        before = person.newest(name) if person else None
        released = any(had and each.startswith(f"{name}, ") for each, had in (person.has if person else {}).items())
        if before is not None and one.order < before.order:
            assert came is Put.STALE
        elif before is None and ((released and (at <= NOW or status != "booked")) or self._anothers(name, met)):
            assert came is Put.ANOTHERS
        else:
            assert came is (Put.UPDATED if before else Put.CREATED)
            person = person or Somebody(set())
            self.people += [] if met else [person]
            person.keys |= names
            person.has[name] = [one]

    def _one(self, names: set[str]) -> None:
        met = self._met(names)
        one = Somebody(names.union(*(each.keys for each in met)))
        for each in met:
            for name, had in each.has.items():
                one.has.setdefault(name, []).extend(had)
        self.people = [*(each for each in self.people if each not in met), one]

    @rule(prior=SOME, survivor=SOME, newer=st.booleans())
    def merge(self, prior: set[str], survivor: set[str], newer: bool) -> None:
        came = self.store.merge(Merge(self._keys(prior), self._keys(survivor), NOW + 1 if newer else 1, "r/0/1"))
        met = self._met(prior | survivor)
        since = any(len(self._met(set(pair))) > 1 and all(self._met({one})[0] in met for one in pair) for pair in self.parted)
        if len(self._met(survivor)) > 1 or self._soles(prior | survivor) > 1:
            assert came is Put.CONFLICT
        elif since and not newer:
            assert came is Put.STALE
        else:
            assert came in {Put.CREATED, Put.UPDATED}
            self._one(prior | survivor)

    @rule(names=SOME)
    def join(self, names: set[str]) -> None:
        if self._soles(names) > 1:
            with pytest.raises(Refused):
                self.store.join(self._keys(names), DEED)
            return
        self.store.join(self._keys(names), DEED)
        self._one(names)

    @rule(names=SOME, both=st.sampled_from(Both))
    def part(self, names: set[str], both: Both) -> None:
        met = self._met(names)
        if len(met) != 1 or not names <= met[0].keys:
            with pytest.raises(Refused):
                self.store.part(self._hashes(names), both, DEED)
            return
        (person,) = met
        self.store.part(self._hashes(names), both, DEED)
        rest = person.keys - names
        if not rest:
            return
        other = Somebody(set(names))
        person.keys = rest
        for name, had in person.has.items():
            other.has[name] = [one for one in had if one.came & names and (one.came <= names or both is Both.GO)]
            person.has[name] = [one for one in had if one not in other.has[name]]
        self.people.append(other)
        self.parted |= {frozenset({one, another}) for one in names for another in rest}

    @rule(key=st.sampled_from(KEYS))
    def forget(self, key: str) -> None:
        self.store.forget(self._hashes({key}), DEED)
        for person in self._met({key}):
            self.people.remove(person)
            self.parted = {pair for pair in self.parted if not pair & person.keys}

    @rule(name=NAMES, key=st.none() | st.sampled_from(KEYS))
    def withdraw(self, name: str, key: str | None) -> None:
        had = [each for each in (self.people if key is None else self._met({key})) if each.has.get(name)]
        hashes = NOBODY if key is None else self._hashes({key})
        assert self.store.having(self.run + name, hashes) == len(had)
        assert self.store.withdraw(self.run + name, hashes, DEED) == len(had)
        for person in had:
            del person.has[name]

    @rule(name=NAMES, key=st.none() | st.sampled_from(KEYS))
    def release(self, name: str, key: str | None) -> None:
        had = [each for each in (self.people if key is None else self._met({key})) if each.has.get(name)]
        hashes = NOBODY if key is None else self._hashes({key})
        assert self.store.release(self.run + name, hashes, DEED) == len(had)
        for person in had:
            self.offset += 1  # each stays alone: two of a group who become one afterwards have two
            newest = person.newest(name)
            assert newest is not None
            del person.has[name]
            person.has[f"{name}, released {self.offset}"] = [newest]

    @invariant()
    def everybody_sees_the_newest_of_his_own_once_and_nothing_else(self) -> None:
        for key in KEYS:
            mine = next(iter(self._met({key})), None)
            person = self.store.person(self.run + key)
            assert (person is None) == (mine is None)
            if person is None or mine is None:
                continue
            found = self.store.search(person, count=99)
            assert isinstance(found, Page)
            shown = [tuple(orjson.loads(each.body)["order"]) for each in found.found]
            newest = [one for one in map(mine.newest, mine.has) if one is not None]
            assert sorted(shown) == sorted(one.order for one in newest)
            there = [orjson.loads(each.body)["status"] for each in found.found]
            assert sorted(there) == sorted(one.status for one in newest)
            for each in found.found:
                assert self.store.read(person, "Appointment", each.id) == each.body

    @invariant()
    def nobody_reads_what_another_has(self) -> None:
        persons = {self.store.person(self.run + key) for key in KEYS} - {None}
        ids: dict[str, int] = {}
        for person in persons:
            assert person is not None
            found = self.store.search(person, count=99)
            assert isinstance(found, Page)
            for each in found.found:
                assert ids.setdefault(each.id, person) == person
        for name, owner in ids.items():
            for person in persons - {owner}:
                assert person is not None
                assert self.store.read(person, "Appointment", name) is None


def test_whatever_comes_in_any_order_nobody_sees_two_or_what_is_anothers_or_cancelled_as_booked(
    kind: str, tmp_path: Path
) -> None:
    place = f"sqlite:///{tmp_path / 'model.sqlite'}" if kind == "sqlite" else postgres_server.a_schema()
    store = SqlStore(place, "ours", clock=lambda: NOW)
    store.check()
    machine = type("Machine", (Copies,), {"store": store})
    few = settings(max_examples=20, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(machine, settings=few)
    store.close()
