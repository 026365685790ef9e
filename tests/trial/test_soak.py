"""Soak: the plan of faults is the seed's, memory is judged on what is old enough, and a short one runs to its end."""

from itertools import islice
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.sandbox.faults import rule
from pipeline.trial.ground import Where
from pipeline.trial.process import Usage
from pipeline.trial.soak import INJECTED, Seen, Soak


def soak(folder: Path, seed: int) -> Soak:
    folder.mkdir()
    return Soak(folder, Where(), seed=seed, minutes=30, rate=20, say=print)


def test_the_same_seed_plans_the_same_faults_and_the_last_third_kills_no_worker(tmp_path: Path) -> None:
    first, again, other = (soak(tmp_path / str(number), seed) for number, seed in enumerate((1, 1, 2)))
    plan = list(islice(first._plan(), 1000))
    assert plan == list(islice(again._plan(), 1000)) != list(islice(other._plan(), 1000))
    passed, late = 0.0, set()
    for deed, seconds in plan:
        late |= {deed} if passed >= 20 * 60 else set()
        passed += seconds
    assert passed > 30 * 60
    assert {"kill", "term"} <= {deed for deed, _ in plan}
    assert late
    assert not {"kill", "term"} & late


@pytest.mark.parametrize(("name", "details"), INJECTED)
def test_every_fault_that_is_planned_is_one_of_the_stand_ins(name: str, details: dict[str, str | float | int]) -> None:
    assert rule(name, **details).name == name


def usage(mb: float) -> Usage:
    return Usage(0.0, mb, mb, 10)


def test_the_slope_of_memory_leaves_the_first_minute_out() -> None:
    warming = [(float(at), usage(10.0 * at)) for at in range(0, 60, 5)]
    assert Seen(1, warming).slope() is None
    flat = [(float(at), usage(700)) for at in range(60, 300, 5)]
    assert Seen(1, warming + flat).slope() == pytest.approx(0, abs=1e-9)
    growing = [(float(at), usage(700 + at / 30)) for at in range(60, 300, 5)]
    assert Seen(1, warming + growing).slope() == pytest.approx(2)


@pytest.mark.slow
def test_a_short_soak_holds_every_invariant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "--minutes", "0.2", "--seed", "1", "--folder", str(tmp_path / "soak")]) == 0
    said = capsys.readouterr().out
    assert said.startswith("seed 1, 0.2 minutes")
    assert "all invariants hold" in said
