"""The sample traffic: as many of each kind as it says, the same every time, readable by two other readers of HL7."""

from collections import Counter

import hl7
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sandbox.his import Person
from pipeline.sandbox.traffic import EXPECTED, USUAL, expected, messages, samples

CODECS = {"8859/1": "iso8859-1", "8859/15": "iso8859-15", "UNICODE UTF-8": "utf-8"}


def test_the_usual_traffic_has_as_many_of_each_kind_as_the_table_says() -> None:
    assert Counter(one.kind for one in samples()) == {one.kind: one.count for one in EXPECTED}
    assert len(messages()) == USUAL == 200


def test_the_expectation_of_the_usual_traffic_is_the_tables() -> None:
    totals: Counter[tuple[str, str | None]] = Counter()
    for one in EXPECTED:
        totals[one.state, one.reason] += one.count
    assert expected() == dict(totals)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert messages(200, 1) == messages(200, 1) != messages(200, 2)


@given(count=st.integers(0, 900), seed=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_any_count_is_a_beginning_of_a_longer_one(count: int, seed: int) -> None:
    assert messages(count, seed) == messages(900, seed)[:count]


def test_a_duplicate_repeats_the_message_before_it_of_the_same_patient() -> None:
    seen: set[bytes] = set()
    for one in samples(1000):
        assert (one.bytes in seen) == (one.kind == "duplicate")
        seen.add(one.bytes)


def test_nobody_is_updated_before_being_created_and_nobody_is_created_twice() -> None:
    created: set[str | None] = set()
    for one in samples(1000):
        if one.kind.startswith("create"):
            assert one.patient not in created
            created.add(one.patient)
        elif one.kind in {"update", "null", "stale", "merge"}:
            assert one.patient in created


def test_the_first_merge_of_each_round_waits_for_what_it_merges() -> None:
    waiting = [number for number, one in enumerate(samples(600)) if one.waits]
    assert len(waiting) == 3
    for number in waiting:
        assert samples(600)[number].kind == "merge"
        assert not any(one.kind.startswith("merge") for one in samples(600)[number // 200 * 200 : number])


@pytest.mark.parametrize("one", [one for one in samples() if one.kind != "garbage"], ids=lambda one: one.kind)
def test_another_reader_reads_it(one: object) -> None:
    raw: bytes = one.bytes  # type: ignore[attr-defined]  # a Sample
    label = raw.split(b"\r")[0].split(b"|")[17].decode()
    parsed = hl7.parse(raw.decode(CODECS[label]))
    assert [str(parsed.segments(name)[0][0]) for name in ("MSH", "EVN", "PID", "PV1", "ZPI")] == [
        "MSH",
        "EVN",
        "PID",
        "PV1",
        "ZPI",
    ]
    assert len(parsed) >= 10


def test_the_traffic_has_what_makes_hospitals_hard() -> None:
    everything = [one.bytes for one in samples()]
    assert {label for label in CODECS if any(f"|{label}".encode() in raw for raw in everything)} == set(CODECS)
    assert any("Großmann".encode("iso8859-15") in raw for raw in everything)
    assert any("Núñez Ibáñez".encode() in raw for raw in everything)
    assert any(b"van den Berg-de Vries&de&Vries&van den&Berg" in raw for raw in everything)
    assert any(b'||""|' in raw for raw in everything)
    assert any(b"in 't Hof" in raw for raw in everything)


def test_a_spanish_identifier_has_the_letter_of_its_number() -> None:
    spanish = [Person(number) for number in range(100) if Person(number).home == "es"]
    assert all("TRWAGMYFPDXBNJZSQVHLCKE"[int(one.identifier[:-1]) % 23] == one.identifier[-1] for one in spanish)
    assert len({one.identifier for one in spanish}) == len(spanish)
