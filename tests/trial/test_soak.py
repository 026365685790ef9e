"""Soak: what it does is the seed's, all that it can do is done somewhere, and a short one runs to its end."""

import random
from itertools import islice
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.sandbox.faults import rule
from pipeline.trial.deeds import DEEDS, FAULTS, Deed
from pipeline.trial.ground import Where
from pipeline.trial.soak import Soak, strange
from pipeline.trial.traffic import Message

SHARED = Where(("localhost:9092",), "postgresql://h/d")


def soak(folder: Path, seed: int, where: Where = Where()) -> Soak:  # noqa: B008 - frozen
    folder.mkdir()
    return Soak(folder, where, seed=seed, minutes=30, rate=20, say=print)


def test_the_same_seed_plans_the_same_deeds_and_the_second_half_ends_no_worker(tmp_path: Path) -> None:
    first, again, other = (soak(tmp_path / str(number), seed) for number, seed in enumerate((1, 1, 2)))
    plan = list(islice(first._plan(), 2000))
    assert plan == list(islice(again._plan(), 2000)) != list(islice(other._plan(), 2000))
    passed = 0.0
    early: set[Deed] = set()
    late: set[Deed] = set()
    for deed, seconds in plan:
        if deed is not None:
            (late if passed >= 13.5 * 60 else early).add(deed)
        passed += seconds
    assert passed > 30 * 60
    assert any(deed.rough for deed in early)
    assert late
    assert not any(deed.rough for deed in late)


def test_every_deed_is_drawn_where_it_can_be(tmp_path: Path) -> None:
    for number, where in enumerate((Where(), SHARED)):
        one = soak(tmp_path / str(number), 3, where)
        one.seconds = 1e9
        drawn = {deed for deed, _ in islice(one._plan(), 10_000)}
        assert drawn - {None} == {deed for deed in DEEDS if deed.on(where)}


def test_members_join_and_leave_only_where_workers_can_share(tmp_path: Path) -> None:
    assert {deed.name for deed in DEEDS if deed.on(SHARED) and not deed.on(Where())} == {"join"}
    assert (soak(tmp_path / "one", 1).crew.size, soak(tmp_path / "two", 1, SHARED).crew.size) == (1, 2)


@pytest.mark.parametrize(("name", "details"), [(name, details) for name, (_, details) in FAULTS.items()])
def test_every_fault_that_is_planned_is_one_of_the_stand_ins(name: str, details: dict[str, str | float | int]) -> None:
    assert rule(name, **details).name == name


def values(folder: Path, seed: int) -> list[Message]:
    return list(islice(soak(folder, seed)._stream(), 3000))


def test_the_same_seed_sends_the_same_and_what_a_hospital_should_not_send_is_among_it(tmp_path: Path) -> None:
    sent = values(tmp_path / "first", 5)
    assert sent == values(tmp_path / "again", 5)
    messages = [message for message in sent if message.event]
    bytes_of = [message.value for message in messages]
    assert len(bytes_of) - len(set(bytes_of)) > 10  # the same again
    again = [message for message in messages if message.value and b"|R" in message.value.split(b"\r")[0]]
    assert len(again) > 10
    assert {message.event for message in again} == {"A08"}
    assert any(message.value is None for message in sent)


def test_what_is_strange_is_no_message() -> None:
    chance = random.Random(1)
    assert [message.event for message in strange(chance)] == [""] * 5
    assert any(message.key is None for message in strange(chance))


@pytest.mark.slow
def test_a_short_soak_holds_every_invariant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "--minutes", "0.2", "--seed", "1", "--folder", str(tmp_path / "soak")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("seed 1, 0.2 minutes")
    assert "all invariants hold" in said
    assert "once more: emr-pipeline soak --seed 1 --minutes 0.2 --rate 20 --folder DIR" in said
