"""The store in memory is held against the real one: after any changes both say the same of every patient, so that what is shown on the one holds on the other."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.appointments.port import GONE, Alternatives, Change, Found, Key, Page, Store
from pipeline.appointments.sql import SqlStore
from pipeline.model import Position
from tests.serve.xis.stand_ins import MemoryStore

RUNS = count()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


CHANGES = st.lists(
    st.tuples(
        st.sampled_from("abc"),  # whose
        st.sampled_from(["x", "y", "z"]),  # the appointment
        st.one_of(st.none(), st.integers(0, 5)),  # its start
        st.integers(0, 3),  # event time
        st.sampled_from("pq"),  # what it references
    ),
    max_size=8,
)
RANGES = st.lists(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 6)), st.one_of(st.none(), st.integers(0, 6))), min_size=1, max_size=2),
    max_size=2,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(changes=CHANGES, ranges=RANGES, size=st.integers(1, 3))
def test_both_say_the_same(
    real: Path, changes: list[tuple[str, str, int | None, int, str]], ranges: Sequence[Alternatives], size: int
) -> None:
    memory, sql = MemoryStore(), SqlStore(f"sqlite:///{real / f'{next(RUNS)}.sqlite'}", "ours")
    sql.check()
    try:
        for number, (whose, name, start, event, reference) in enumerate(changes):
            body = f'{{"id":"{name}","event":{event},"number":{number}}}'.encode()
            change = Change(
                f"{whose}{name}",
                (Key(whose, sole=True), Key(f"local-{whose}")),
                event,
                Position("siu", 0, number),
                start,
                {("Appointment", f"{whose}{name}"): body, ("Location", reference): reference.encode()},
            )
            assert memory.put(change) is sql.put(change)
        for whose in "abc":
            assert told(memory, whose, ranges, size) == told(sql, whose, ranges, size)
    finally:
        sql.close()


def told(store: Store, whose: str, ranges: Sequence[Alternatives], size: int) -> object:
    """All pages of a person, and what can be read of them."""
    person = store.person(whose)
    assert person == store.person(f"local-{whose}")
    if person is None:
        return None
    page = store.search(person, ranges, count=size)
    found: list[Found] = []
    while isinstance(page, Page):
        found += page.found
        if page.after is None:
            break
        page = store.search(person, ranges, after=page.after, count=size, at=page.at)
    reads = {name: store.read(person, "Location", name) for name in "pq"}
    appointments = {name: store.read(person, "Appointment", name) for name in ("ax", "by", "cz")}
    return [(one.id, one.start_ms, one.body) for one in found], reads, appointments, page is GONE
