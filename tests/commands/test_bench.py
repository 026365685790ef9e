"""bench convert: what its figures are, and that varied messages are other messages which still go."""

import json

import pytest

from pipeline import offline, wiring
from pipeline.cli import main
from pipeline.commands.bench.convert import HOPS, SAMPLE, variants
from pipeline.model import Packed
from pipeline.settings import DEFAULTS, load


def test_the_figures_are_those_that_are_promised(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "convert", "--seconds", "0.5", "--json", "--settings", str(DEFAULTS)]) == 0
    figures = json.loads(capsys.readouterr().out)
    asked = {
        "messages_per_second",
        "p50_ms",
        "p99_ms",
        "hops",
        "python_hl7_parse_per_second",
        "hl7apy_parse_per_second",
        "machine",
    }
    assert asked | {"times_python_hl7", "times_hl7apy", "measured", "best_round", "repeated", "messages", "bytes_in"} == set(
        figures
    )
    assert tuple(figures["hops"]) == HOPS
    assert sum(hop["share"] for hop in figures["hops"].values()) == pytest.approx(1, abs=0.001)
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]


def test_variants_are_other_patients_and_every_one_is_converted() -> None:
    plan = wiring.plan_offline(load(DEFAULTS), "roche-patients")
    made = variants(SAMPLE.read_bytes(), 50)
    converted = [offline.convert(one, plan) for one in made]
    assert all(isinstance(one, Packed) for one in converted)
    assert len({one.mapped.identified.routed.lane for one in converted if isinstance(one, Packed)}) == 50
    assert len({one.requests[0].body for one in converted if isinstance(one, Packed)}) == 50
    assert made == variants(SAMPLE.read_bytes(), 50)


def test_a_message_with_a_short_msh_2_can_be_varied() -> None:
    (made,) = variants(b"MSH|^|HIS|A|||20240502101530||ADT^A04|77|P|2.5\rPID|1||123^^^A||Berg^Jo\r", 1)
    assert made.count(b"\r") == 2
    assert made != variants(b"MSH|^|HIS|A|||20240502101530||ADT^A04|77|P|2.5\rPID|1||123^^^A||Berg^Jo\r", 1, seed=2)[0]
