"""Persons of the store become one, two or none: one suite on SQLite and a real PostgreSQL, and a state machine against a plain model."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, permutations
from pathlib import Path

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pipeline.appointments.changes import own_id
from pipeline.appointments.port import GONE, Both, Deed, Did, Key, Merge, Page, Put
from pipeline.appointments.sql import SqlStore
from pipeline.errors import Refused, StoreError
from tests import postgres_server
from tests.appointments.samples import change

ROOM = ("Location", "room")
DEED = Deed("an operator", "sealed")
NOW = 1_000_000
"""What the store's clock shows: events are from before it, or after."""
RUNS = count()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'appointments.sqlite'}" if kind == "sqlite" else postgres_server.a_schema()


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = SqlStore(url, "ours", clock=lambda: NOW)
    store.check()
    yield store
    store.close()


def keys(*names: str) -> tuple[Key, ...]:
    """Those that begin with bsn are such."""
    return tuple(Key(name, sole=name.startswith("bsn")) for name in names)


def merge(store: SqlStore, prior: str, survivor: str, *, event_ms: int | None = 1_000) -> Put:
    return store.merge(Merge(keys(*prior.split()), keys(*survivor.split()), event_ms, "his.adt/0/7"))


def whose(store: SqlStore, key: str) -> int:
    person = store.person(key)
    assert person is not None
    return person


def names(store: SqlStore, key: str) -> list[str]:
    found = store.search(whose(store, key), count=100)
    assert isinstance(found, Page)
    return [each.id for each in found.found]


def two(store: SqlStore) -> None:
    """Anna, whose BSN is known, and what came of her under another number."""
    store.put(change("a1", keys=("anna",), bsn="bsn-anna", refs=(ROOM,), ref_body=b"new", event_ms=2_000, start_ms=1))
    store.put(change("a2", keys=("old",), refs=(ROOM, ("Location", "hall")), ref_body=b"old", start_ms=2))


# merges


def test_of_a_merge_the_survivor_sees_what_both_had_by_every_number(store: SqlStore) -> None:
    two(store)
    assert merge(store, "old", "anna") is Put.UPDATED
    assert [names(store, key) for key in ("anna", "old", "bsn-anna")] == [["a1", "a2"]] * 3
    anna = whose(store, "bsn-anna")
    assert [store.read(anna, *place) for place in (ROOM, ("Location", "hall"))] == [b"new", b"old"]


def test_what_comes_under_the_old_number_after_a_merge_is_the_survivors_an_older_one_too(store: SqlStore) -> None:
    two(store)
    merge(store, "old", "anna", event_ms=5_000)
    assert store.put(change("a2", keys=("old",), event_ms=900)) is Put.STALE
    assert store.put(change("a2", keys=("old",), event_ms=9_000, start_ms=9)) is Put.UPDATED
    assert store.put(change("a3", keys=("old",), event_ms=10, start_ms=10)) is Put.CREATED
    assert store.put(change("a1", keys=("old",), event_ms=9_000, start_ms=11)) is Put.UPDATED
    assert names(store, "bsn-anna") == ["a2", "a3", "a1"]


@pytest.mark.parametrize("known", ["", "old", "anna"])
def test_a_merge_before_the_first_appointment_is_remembered(store: SqlStore, known: str) -> None:
    if known:
        store.put(change("a0", keys=(known,), start_ms=0))
    assert merge(store, "old", "anna") is (Put.UPDATED if known else Put.CREATED)
    store.put(change("a1", keys=("old",), start_ms=1))
    store.put(change("a2", keys=("anna",), bsn="bsn-anna", start_ms=2))
    assert names(store, "bsn-anna") == [*(["a0"] if known else []), "a1", "a2"]


def test_two_who_each_have_a_bsn_are_never_made_one(store: SqlStore) -> None:
    store.put(change("a1", keys=("anna",), bsn="bsn-anna"))
    store.put(change("b1", keys=("bert",), bsn="bsn-bert"))
    for prior, survivor in (("bert", "anna"), ("bert", "anna bsn-anna"), ("bsn-bert", "anna"), ("new bsn-new", "anna")):
        assert merge(store, prior, survivor) is Put.CONFLICT
    with pytest.raises(Refused, match="BSN"):
        store.join(keys("anna", "bert"), DEED)
    assert (names(store, "anna"), names(store, "bert"), store.person("new")) == (["a1"], ["b1"], None)
    assert store.done(9) == ()


def test_a_survivor_whose_numbers_are_two_persons_is_a_conflict(store: SqlStore) -> None:
    two(store)
    assert merge(store, "older", "anna old") is Put.CONFLICT
    assert store.person("older") is None


def test_chains_and_circles_of_merges_end_with_one_person_in_any_order(store: SqlStore) -> None:
    for order in permutations([("a", "b"), ("b", "c"), ("c", "a"), ("d", "b")]):
        run = f"r{next(RUNS)}"
        for number, key in enumerate("abcd"):
            store.put(change(f"{run}-{key}", keys=(f"{run}{key}",), start_ms=number))
        for prior, survivor in order * 2:
            assert merge(store, f"{run}{prior}", f"{run}{survivor}") is Put.UPDATED
        assert [names(store, f"{run}{key}") for key in "abcd"] == [[f"{run}-{key}" for key in "abcd"]] * 4


def test_told_twice_a_merge_changes_nothing_and_is_in_the_audit_once(store: SqlStore) -> None:
    two(store)
    merge(store, "old", "anna")
    (before,) = store.persons(frozenset({"old"}))
    assert merge(store, "old", "anna") is Put.UPDATED
    assert store.persons(frozenset({"old"})) == (before,)
    assert [(each.did, each.who, each.why, each.appointments) for each in before.done] == [(Did.MERGED, "his.adt/0/7", None, 1)]


def test_a_search_of_the_survivor_goes_on_as_it_began_while_the_priors_is_over(store: SqlStore) -> None:
    for number in range(4):
        store.put(change(f"a{number}", keys=("anna",), start_ms=number))
        store.put(change(f"o{number}", keys=("old",), start_ms=number))
    anna, old = whose(store, "anna"), whose(store, "old")
    begun = {person: store.search(person, count=1) for person in (anna, old)}
    merge(store, "old", "anna")
    store.put(change("a2", keys=("anna",), event_ms=2_000, start_ms=99))
    first, gone = begun[anna], begun[old]
    assert isinstance(first, Page)
    assert isinstance(gone, Page)
    rest = store.search(anna, after=first.after, at=first.at, count=9)
    assert isinstance(rest, Page)
    assert [each.id for each in rest.found] == ["a1", "a2", "a3"]
    assert store.search(old, after=gone.after, at=gone.at, count=9) is GONE
    assert store.search(old, count=9) is GONE
    assert store.read(old, "Appointment", "o1") is None


def test_of_what_both_reference_what_is_there_goes_over_what_is_gone(store: SqlStore) -> None:
    two(store)
    store.put(change("a1", keys=("anna",), event_ms=3_000))  # the room is gone with her
    merge(store, "old", "anna")
    assert store.read(whose(store, "anna"), *ROOM) == b"old"


# operators


def test_what_is_parted_sees_what_came_with_its_own_numbers_and_nothing_of_the_other(store: SqlStore) -> None:
    two(store)
    store.put(change("a3", keys=("old",), refs=(ROOM, ("Patient", "p")), start_ms=3))
    merge(store, "old", "anna")
    anna = whose(store, "anna")
    began = store.search(anna, count=1)
    assert isinstance(began, Page)
    store.part(frozenset({"old"}), None, DEED)
    assert (names(store, "anna"), names(store, "bsn-anna"), names(store, "old")) == (["a1"], ["a1"], ["a2", "a3"])
    other = whose(store, "old")
    hidden = [("Appointment", "a2"), ("Patient", "p"), ("Location", "hall")]
    assert [store.read(anna, *place) for place in hidden] == [None, None, None]
    assert [store.read(other, *place) is None for place in (*hidden, ("Appointment", "a1"))] == [False, False, False, True]
    assert (store.read(anna, *ROOM), store.read(other, *ROOM)) == (b"new", b"new")
    assert store.search(anna, after=began.after, at=began.at, count=9) is GONE


def test_who_was_parted_reads_nothing_of_a_patient_that_the_others_message_brought(store: SqlStore) -> None:
    """Seen to fail without _apart (pipeline/appointments/persons.py)."""
    patient = ("Patient", "p")

    def put(name: str, *numbers: str, event_ms: int) -> None:
        shown = {"participant": [{"actor": {"reference": "Patient/p", "display": name}}]}
        body = orjson.dumps({"id": name, **shown})
        told = orjson.dumps({"resourceType": "Patient", "id": "p", "address": f"where {name} lives"})
        store.put(change(name, keys=numbers, event_ms=event_ms, body=body, refs=(patient,), ref_body=told))

    put("anna", "old", event_ms=1_000)
    put("bert", "bert", event_ms=2_000)
    merge(store, "old", "bert")
    put("both", "bert", "old", event_ms=3_000)
    store.part(frozenset({"old"}), Both.STAY, DEED)
    assert (names(store, "old"), names(store, "bert")) == (["anna"], ["bert", "both"])
    anna, bert = (store.read(whose(store, key), *patient) for key in ("old", "bert"))
    assert isinstance(anna, bytes)
    assert isinstance(bert, bytes)
    assert orjson.loads(anna) == {"resourceType": "Patient", "id": "p", "name": [{"text": "anna"}]}
    assert orjson.loads(bert)["address"] == "where both lives"
    put("anna", "old", event_ms=1_000)  # its message is replayed
    again = store.read(whose(store, "old"), *patient)
    assert isinstance(again, bytes)
    assert orjson.loads(again)["address"] == "where anna lives"


def test_who_had_a_copy_before_a_merge_has_one_appointment_with_the_next_message(store: SqlStore) -> None:
    """Seen to fail without _mine (pipeline/appointments/writes.py): the copy stayed as booked."""

    def put(key: str, status: str, event_ms: int) -> Put:
        body = orjson.dumps({"id": "x", "status": status})
        version = change("x", keys=(key,), event_ms=event_ms, body=body, refs=(("Patient", f"of-{key}"),))
        return store.put(replace(version, own=own_id(version)))

    def seen() -> list[str]:
        found = store.search(whose(store, "anna"), count=9)
        assert isinstance(found, Page)
        return [orjson.loads(each.body)["status"] for each in found.found]

    assert (put("old", "booked", 1_000), put("old", "cancelled", 2_000)) == (Put.CREATED, Put.UPDATED)
    assert put("anna", "booked", 3_000) is Put.CREATED
    merge(store, "old", "anna")
    assert put("anna", "booked", 2_500) is Put.STALE
    assert put("anna", "cancelled", 4_000) is Put.UPDATED
    assert seen() == ["cancelled"]


def test_of_a_group_nothing_stays_booked_that_is_cancelled_whichever_numbers_name_its_patient(store: SqlStore) -> None:
    def put(keys: tuple[str, ...], patient: str, status: str, event_ms: int) -> Put:
        body = orjson.dumps({"id": "x", "status": status})
        version = change("x", keys=keys, event_ms=event_ms, body=body, refs=(("Patient", patient),))
        return store.put(replace(version, own=own_id(version), shared=True))

    put(("anna",), "a", "booked", 1_000)
    put(("bert", "berts other"), "b", "booked", 2_000)
    store.forget(frozenset({"anna"}), DEED)
    assert put(("berts other",), "another", "cancelled", 3_000) is Put.UPDATED
    found = store.search(whose(store, "bert"), count=9)
    assert isinstance(found, Page)
    assert [orjson.loads(each.body)["status"] for each in found.found] == ["cancelled"]


def test_what_came_with_numbers_of_both_goes_where_an_operator_says(store: SqlStore) -> None:
    store.put(change("a1", keys=("anna", "old"), start_ms=1))
    store.put(change("a2", keys=("old",), start_ms=2))
    with pytest.raises(Refused, match="1 appointment came with numbers of both"):
        store.part(frozenset({"old"}), None, DEED)
    store.part(frozenset({"old"}), Both.STAY, DEED)
    assert (names(store, "anna"), names(store, "old")) == (["a1"], ["a2"])
    store.join(keys("anna", "old"), DEED)
    store.part(frozenset({"old"}), Both.GO, DEED)
    assert (names(store, "anna"), names(store, "old")) == ([], ["a1", "a2"])


def test_what_nobody_knows_the_numbers_of_is_of_both(store: SqlStore) -> None:
    two(store)
    merge(store, "old", "anna")
    with store._database.write() as connection:
        connection.exec_driver_sql("UPDATE appointments SET came_with = ''")  # as the first version of the store left it
    with pytest.raises(Refused, match="2 appointments came"):
        store.part(frozenset({"old"}), None, DEED)


def test_a_merge_from_before_two_were_parted_does_not_join_them_again_and_a_newer_one_does(store: SqlStore) -> None:
    two(store)
    merge(store, "old", "anna", event_ms=5_000)
    store.part(frozenset({"old"}), None, DEED)
    assert merge(store, "old", "anna", event_ms=5_000) is Put.STALE
    assert merge(store, "third", "old", event_ms=5_000) is Put.UPDATED
    assert merge(store, "third", "anna", event_ms=5_000) is Put.STALE
    assert merge(store, "old", "anna", event_ms=None) is Put.STALE
    assert names(store, "anna") == ["a1"]
    assert merge(store, "fourth", "anna", event_ms=None) is Put.UPDATED
    assert merge(store, "old", "anna", event_ms=NOW + 1) is Put.UPDATED
    assert merge(store, "old", "anna", event_ms=5_000) is Put.UPDATED  # it is so
    assert names(store, "third") == ["a1", "a2"]


def test_what_an_operator_joins_is_one_whatever_was_parted_before(store: SqlStore) -> None:
    two(store)
    merge(store, "old", "anna")
    store.part(frozenset({"old"}), None, DEED)
    assert store.join(keys("old", "anna", "new"), DEED) is Put.UPDATED
    assert names(store, "new") == ["a1", "a2"]


def test_each_deed_done_again_changes_nothing(store: SqlStore) -> None:
    two(store)
    store.join(keys("old", "anna"), DEED)
    store.join(keys("old", "anna"), DEED)
    store.part(frozenset({"old"}), None, DEED)
    store.part(frozenset({"old"}), None, DEED)
    store.forget(frozenset({"old"}), DEED)
    store.forget(frozenset({"old"}), DEED)
    assert [store.withdraw("a1", frozenset(), DEED) for _ in range(2)] == [1, 0]
    assert [each.did for each in store.done(99)] == [Did.WITHDRAWN, Did.FORGOTTEN, Did.PARTED, Did.JOINED]


def test_who_is_forgotten_leaves_nothing_but_a_line_of_the_audit(store: SqlStore) -> None:
    two(store)
    merge(store, "old", "anna")
    store.put(change("a1", keys=("anna",), event_ms=3_000))
    anna = whose(store, "anna")
    store.forget(frozenset({"old"}), DEED)
    assert [store.person(key) for key in ("anna", "old", "bsn-anna")] == [None] * 3
    assert [store.read(anna, *place) for place in (("Appointment", "a1"), ROOM)] == [None, None]
    with store._database.read() as connection:
        tables = ("persons", "person_keys", "appointments", "superseded_appointments", "appointment_resources", "parted_keys")
        left = [connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() for table in tables]  # noqa: S608 - ours
    assert left == [0] * len(tables)
    assert [(each.did, each.keys, each.appointments) for each in store.done(1)] == [(Did.FORGOTTEN, 3, 2)]
    assert store.put(change("a1", keys=("anna",))) is Put.CREATED


def test_several_persons_are_not_forgotten_at_once_nor_parted(store: SqlStore) -> None:
    two(store)
    with pytest.raises(Refused, match="several persons"):
        store.forget(frozenset({"old", "anna"}), DEED)
    with pytest.raises(Refused, match="several persons"):
        store.part(frozenset({"old", "anna"}), None, DEED)
    with pytest.raises(Refused, match="nobody is known"):
        store.part(frozenset({"nobody"}), None, DEED)


def test_an_appointment_that_was_withdrawn_may_come_as_another_persons(store: SqlStore) -> None:
    two(store)
    assert store.put(change("a2", keys=("anna",), event_ms=9_000)) is Put.ANOTHERS
    old = whose(store, "old")
    store.withdraw("a2", frozenset(), DEED)
    assert (names(store, "old"), store.read(old, "Appointment", "a2"), store.read(old, *ROOM)) == ([], None, None)
    assert store.put(change("a2", keys=("anna",), event_ms=9_000, start_ms=2)) is Put.CREATED
    assert names(store, "anna") == ["a1", "a2"]


def test_an_operator_sees_whose_numbers_are_how_much_there_is_and_what_was_done(store: SqlStore) -> None:
    two(store)
    store.put(change("a3", keys=("old", "older"), start_ms=3))
    asked = frozenset({"anna", "old", "nobody"})
    assert [(one.keys, one.sole, one.appointments, one.asked, one.came, one.both) for one in store.persons(asked)] == [
        (2, True, 1, frozenset({"anna"}), 0, 1),
        (2, False, 2, frozenset({"old"}), 1, 1),
    ]
    merge(store, "old", "anna")
    (one,) = store.persons(asked)
    assert (one.keys, one.appointments, one.asked, [each.did for each in one.done]) == (
        4,
        3,
        frozenset({"anna", "old"}),
        [Did.MERGED],
    )


# all at once


def until_done(work: Callable[[], object]) -> None:
    """As the worker does: what was in another's way is tried again."""
    for _ in range(50):
        try:
            work()
        except StoreError as error:
            last = error
        else:
            return
    raise last


def write(store: SqlStore, key: str) -> None:
    for turn in range(8):
        until_done(partial(store.put, change(f"{key}-{turn}", keys=(key,), start_ms=turn)))


def join_and_part(store: SqlStore) -> None:
    for turn in range(8):
        until_done(partial(merge, store, "old", "anna", event_ms=NOW + 1 + turn))
        until_done(partial(store.part, frozenset({"old"}), None, DEED))


def test_beside_writers_of_both_a_merge_and_a_part_lose_nothing_and_mix_nothing(url: str) -> None:
    stores = [SqlStore(url, "ours", clock=lambda: NOW) for _ in range(3)]
    stores[0].check()
    works = (partial(write, stores[0], "anna"), partial(write, stores[1], "old"), partial(join_and_part, stores[2]))
    with ThreadPoolExecutor(len(works)) as threads:
        for done in [threads.submit(work) for work in works]:
            done.result()
    for key in ("anna", "old"):
        assert names(stores[0], key) == [f"{key}-{turn}" for turn in range(8)]
    for store in stores:
        store.close()


# a model


@dataclass(eq=False)
class Somebody:
    keys: set[str]
    appointments: dict[str, tuple[set[str], int]] = field(default_factory=dict)
    """What it came with, and when."""


NUMBERS = [*"abcd", "bsn-1", "bsn-2"]
SOME = st.sets(st.sampled_from(NUMBERS), min_size=1, max_size=2)
NAMES = [f"x{number}" for number in range(6)]


class Persons(RuleBasedStateMachine):
    """Random puts, merges, joins, parts and forgets: nobody ever reads what the model does not have with him."""

    store: SqlStore

    def __init__(self) -> None:
        super().__init__()
        self.run = f"r{next(RUNS)}-"
        self.people: list[Somebody] = []
        self.parted: set[frozenset[str]] = set()

    def _mine(self, names: set[str]) -> tuple[Key, ...]:
        return tuple(Key(self.run + name, sole=name.startswith("bsn")) for name in sorted(names))

    def _hashes(self, names: set[str]) -> frozenset[str]:
        return frozenset(self.run + name for name in names)

    def _met(self, names: set[str]) -> list[Somebody]:
        return [person for person in self.people if person.keys & names]

    def _soles(self, names: set[str]) -> int:
        every = names.union(*(person.keys for person in self._met(names)))
        return sum(name.startswith("bsn") for name in every)

    @rule(name=st.sampled_from(NAMES), names=SOME, event_ms=st.integers(1, 5))
    def put(self, name: str, names: set[str], event_ms: int) -> None:
        own = self.run + name
        version = change(own, event_ms=event_ms, body=b"{}", refs=(("Location", own),))
        came = self.store.put(replace(version, keys=self._mine(names)))
        met, has = self._met(names), next((one for one in self.people if name in one.appointments), None)
        if len(met) > 1 or self._soles(names) > 1:
            assert came is Put.CONFLICT
        elif has is not None and has not in met:
            assert came is Put.ANOTHERS
        elif has is not None and event_ms < has.appointments[name][1]:
            assert came is Put.STALE
        else:
            assert came is (Put.UPDATED if has else Put.CREATED)
            person = met[0] if met else Somebody(set())
            self.people += [] if met else [person]
            person.keys |= names
            person.appointments[name] = (names, event_ms)

    @rule(prior=SOME, survivor=SOME, newer=st.booleans())
    def merge(self, prior: set[str], survivor: set[str], newer: bool) -> None:
        put = self.store.merge(Merge(self._mine(prior), self._mine(survivor), NOW + 1 if newer else 1, "r/0/1"))
        met = self._met(prior | survivor)
        if len(self._met(survivor)) > 1 or self._soles(prior | survivor) > 1:
            assert put is Put.CONFLICT
        elif not newer and any(
            len(self._met(set(pair))) > 1 and all(self._met({one})[0] in met for one in pair) for pair in self.parted
        ):
            assert put is Put.STALE
        else:
            assert put in {Put.CREATED, Put.UPDATED}
            self._one(prior | survivor)

    @rule(names=SOME)
    def join(self, names: set[str]) -> None:
        if self._soles(names) > 1:
            with pytest.raises(Refused):
                self.store.join(self._mine(names), DEED)
            return
        self.store.join(self._mine(names), DEED)
        self._one(names)

    def _one(self, names: set[str]) -> None:
        met = self._met(names)
        one = Somebody(names.union(*(each.keys for each in met)))
        for each in met:
            one.appointments |= each.appointments
        self.people = [*(each for each in self.people if each not in met), one]

    @rule(names=SOME, both=st.sampled_from([None, *Both]))
    def part(self, names: set[str], both: Both | None) -> None:
        met = self._met(names)
        person = met[0] if len(met) == 1 and names <= met[0].keys else None
        mixed = (
            person is not None
            and names != person.keys
            and any(came & names and came - names for came, _ in person.appointments.values())
        )
        if person is None or (mixed and both is None):
            with pytest.raises(Refused):
                self.store.part(self._hashes(names), both, DEED)
            return
        self.store.part(self._hashes(names), both, DEED)
        rest = person.keys - names
        if not rest:
            return
        going = {
            name: came
            for name, came in person.appointments.items()
            if came[0] & names and (not came[0] - names or both is Both.GO)
        }
        person.keys = rest
        person.appointments = {name: came for name, came in person.appointments.items() if name not in going}
        self.people.append(Somebody(set(names), going))
        self.parted |= {frozenset({one, other}) for one in names for other in rest}

    @rule(name=st.sampled_from(NUMBERS))
    def forget(self, name: str) -> None:
        self.store.forget(self._hashes({name}), DEED)
        for person in self._met({name}):
            self.people.remove(person)
            self.parted = {pair for pair in self.parted if not pair & person.keys}

    @rule(name=st.sampled_from(NAMES))
    def withdraw(self, name: str) -> None:
        has = [person for person in self.people if name in person.appointments]
        assert self.store.withdraw(f"{self.run}{name}", frozenset(), DEED) == len(has)
        for person in has:
            del person.appointments[name]

    @invariant()
    def nobody_reads_what_is_anothers(self) -> None:
        for key in NUMBERS:
            mine = next((person for person in self.people if key in person.keys), None)
            person = self.store.person(self.run + key)
            assert (person is None) == (mine is None)
            if person is None or mine is None:
                continue
            found = self.store.search(person, count=100)
            assert isinstance(found, Page)
            assert {each.id for each in found.found} == {self.run + name for name in mine.appointments}
            for name in NAMES:
                there = [self.store.read(person, kind, self.run + name) == b"{}" for kind in ("Appointment", "Location")]
                assert there == [name in mine.appointments] * 2


def test_nobody_ever_reads_an_appointment_of_another(kind: str, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path / 'model.sqlite'}" if kind == "sqlite" else postgres_server.a_schema()
    store = SqlStore(place, "ours", clock=lambda: NOW)
    store.check()
    machine = type("Machine", (Persons,), {"store": store})
    few = settings(max_examples=30, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(machine, settings=few)
    store.close()
