"""Figures of a run from its samples, and the order of each patient from the partner's log."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import offline, wiring
from pipeline.model import Outcome
from pipeline.sandbox.log import CREATED, NOTHING, UPDATED, Effect
from pipeline.settings import DEFAULTS, load
from pipeline.trial.rates import Sample, bound, percentile, rates
from pipeline.trial.stream import Order, Stream, identifier, order_of


def at(seconds: float, delivered: int, cpu: float = 0.0) -> Sample:
    return Sample(seconds, delivered, cpu, partner_cpu_seconds=cpu / 2)


def test_the_steady_state_leaves_the_first_ten_seconds_out_and_they_are_shown() -> None:
    found = rates([at(0, 0), at(5, 100, 1.0), at(10, 400, 2.0), at(20, 2400, 4.0)])
    assert (found.whole, found.start_up, found.steady) == (120.0, 40.0, 200.0)
    assert (found.cpu_ms, found.partner_cpu_ms) == (1.0, 0.5)


def test_a_run_shorter_than_that_has_no_steady_state() -> None:
    found = rates([at(0, 0), at(4, 100, 0.2)])
    assert (found.whole, found.start_up, found.steady, found.cpu_ms) == (25.0, 25.0, None, 2.0)


def test_littles_bound_is_in_flight_by_latency() -> None:
    assert bound(256, 1.5) == pytest.approx(170.67, abs=0.01)
    assert bound(256, 0) is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 0.999))
def test_a_percentile_is_one_of_the_values_and_not_exceeded_by_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def effect(patient: int, version: int, effect: str = UPDATED) -> Effect:
    name = {"name": [{"given": [f"V{version}", "M."]}]}
    return Effect(1, 0.0, 0.0, 1, "update", effect, identifier=identifier(patient), patient=name)


def test_the_order_of_each_patient_is_read_off_the_partners_log() -> None:
    kept: Sequence[Effect] = [effect(1, 0, CREATED), effect(2, 0, CREATED), effect(1, 1), effect(1, 3), effect(2, 1)]
    assert order_of(kept) == Order(violations=0, repeated=0, created_twice=0)
    assert order_of([*kept, effect(1, 2)]) == Order(violations=1, repeated=0, created_twice=0)
    assert order_of([*kept, effect(1, 3)]) == Order(violations=0, repeated=1, created_twice=0)
    assert order_of([*kept, effect(2, 2, CREATED)]).created_twice == 1
    assert order_of([*kept, replace(effect(1, 0), effect=NOTHING)]) == order_of(kept)


def test_every_message_of_a_stream_is_converted_and_says_its_version() -> None:
    plan = wiring.plan_offline(load(DEFAULTS), "roche-patients")
    records = list(Stream("adt").rounds(12, patients=5))
    assert len({record.key for record in records}) == 5
    for number, record in enumerate(records):
        packed = offline.convert(record.value or b"", plan)
        assert not isinstance(packed, Outcome)
        patient = packed.mapped.resources[1] if len(packed.mapped.resources) > 2 else packed.mapped.resources[0]
        assert f"V{number // 5}" in str(patient)
