"""Every metric says what it promises, and its labels hold nothing but names."""

from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.delivery.gate import GateState
from pipeline.metrics import SECONDS, SERVED_SECONDS, Kind, Metric, Metrics
from pipeline.model import Decision
from pipeline.tally import Figures, ServeFigures
from schemas.outcomes import Reason, State

ROUTE = "roche-patients"
Sample = tuple[str, frozenset[tuple[str, str]]]


def at(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


def samples(metrics: Metrics) -> dict[Sample, float]:
    return {
        at(sample.name, **sample.labels): sample.value
        for family in text_string_to_metric_families(metrics.exposed().decode())
        for sample in family.samples
        if sample.name.startswith("emr_") and not sample.name.endswith("_created")
    }


def lived() -> Metrics:
    """Metrics of a process in which everything happened, each number another."""
    metrics = Metrics()
    metrics.read(ROUTE)
    metrics.read(ROUTE, 3)
    metrics.settled(ROUTE, State.DELIVERED, None)
    metrics.settled(ROUTE, State.PARKED, Reason.MAPPING_FAILED)
    metrics.settled(ROUTE, State.PARKED, Reason.MAPPING_FAILED)
    metrics.attempted(ROUTE, "patient-create", Decision.DELIVERED, 31.0)
    metrics.attempted(ROUTE, "patient-create", Decision.DELIVERED, 2500.0)
    metrics.attempted(ROUTE, "patient-update", Decision.FAILED, None)
    metrics.polled("roqua-watch", Decision.ABSENT)
    metrics.appended("roqua-watch", "corrected", 2)
    metrics.look_at_watch("roqua-watch", lambda: (11, 12.5))
    metrics.served("search", 200, None, 0.004)
    metrics.served("none", 401, "bad_token", 0.5)
    metrics.issuer_failed("introspection")
    metrics.look_at_serve(lambda: ServeFigures(connections=13, store_away=True, keys_age_seconds=14.5))
    metrics.look_at_gate("roche", lambda: GateState.HALF_OPEN)
    metrics.look_at_route(
        ROUTE,
        lambda: Figures(
            in_flight=5,
            waiting=6,
            waiting_parked=7,
            unsettled=18,
            commit_gap=9,
            results_waiting=10,
            flood_stopped=True,
            ledger_away=False,
            bus_away=True,
        ),
    )
    return metrics


EXPECTED: dict[Metric, dict[Sample, float]] = {
    Metric.RECORDS_READ: {at("emr_records_read_total", route=ROUTE): 4},
    Metric.SETTLED: {
        at("emr_settled_total", route=ROUTE, state="delivered", reason=""): 1,
        at("emr_settled_total", route=ROUTE, state="parked", reason="mapping_failed"): 2,
    },
    Metric.ATTEMPTS: {
        at("emr_attempts_total", route=ROUTE, operation="patient-create", verdict="delivered"): 2,
        at("emr_attempts_total", route=ROUTE, operation="patient-update", verdict="failed"): 1,
    },
    Metric.RESPONSE_SECONDS: {
        at("emr_response_seconds_count", route=ROUTE, operation="patient-create"): 2,
        at("emr_response_seconds_sum", route=ROUTE, operation="patient-create"): 2.531,
        **{
            at("emr_response_seconds_bucket", route=ROUTE, operation="patient-create", le=le): float(
                (bound >= 0.031) + (bound >= 2.5)
            )
            for bound, le in [*((bound, str(float(bound))) for bound in SECONDS), (float("inf"), "+Inf")]
        },
    },
    Metric.IN_FLIGHT: {at("emr_in_flight", route=ROUTE): 5},
    Metric.LANES_WAITING: {
        at("emr_lanes_waiting", route=ROUTE, where="memory"): 6,
        at("emr_lanes_waiting", route=ROUTE, where="parked"): 7,
    },
    Metric.UNSETTLED: {at("emr_unsettled", route=ROUTE): 18},
    Metric.COMMIT_GAP: {at("emr_commit_gap", route=ROUTE): 9},
    Metric.RESULTS_WAITING: {at("emr_results_waiting", route=ROUTE): 10},
    Metric.GATE_STATE: {
        at("emr_gate_state", partner="roche", state=state): float(state == "half_open")
        for state in ("closed", "throttled", "open", "half_open")
    },
    Metric.FLOOD_STOPPED: {at("emr_flood_stopped", route=ROUTE): 1},
    Metric.LEDGER_AWAY: {at("emr_ledger_away", route=ROUTE): 0},
    Metric.BUS_AWAY: {at("emr_bus_away", route=ROUTE): 1},
    Metric.WATCH_POLLS: {at("emr_watch_polls_total", watch="roqua-watch", verdict="absent"): 1},
    Metric.WATCH_APPENDED: {at("emr_watch_appended_total", watch="roqua-watch", change="corrected"): 2},
    Metric.WATCH_DOSSIERS: {at("emr_watch_dossiers", watch="roqua-watch"): 11},
    Metric.WATCH_LATE_SECONDS: {at("emr_watch_late_seconds", watch="roqua-watch"): 12.5},
    Metric.SERVED: {
        at("emr_served_total", interaction="search", status="200"): 1,
        at("emr_served_total", interaction="none", status="401"): 1,
    },
    Metric.SERVED_REFUSED: {at("emr_served_refused_total", reason="bad_token"): 1},
    Metric.SERVED_SECONDS: {
        key: value
        for interaction, seconds in (("search", 0.004), ("none", 0.5))
        for key, value in {
            at("emr_served_seconds_count", interaction=interaction): 1.0,
            at("emr_served_seconds_sum", interaction=interaction): seconds,
            **{
                at("emr_served_seconds_bucket", interaction=interaction, le=le): float(bound >= seconds)
                for bound, le in [*((bound, str(float(bound))) for bound in SERVED_SECONDS), (float("inf"), "+Inf")]
            },
        }.items()
    },
    Metric.SERVED_CONNECTIONS: {at("emr_served_connections"): 13},
    Metric.STORE_AWAY: {at("emr_store_away"): 1},
    Metric.ISSUER_FAILED: {at("emr_issuer_failed_total", way="introspection"): 1},
    Metric.KEYS_AGE_SECONDS: {at("emr_keys_age_seconds"): 14.5},
}


@pytest.mark.parametrize("metric", Metric)
def test_a_metric_says_what_happened(metric: Metric) -> None:
    family = metric.value.name
    assert {key: value for key, value in samples(lived()).items() if key[0].startswith(family)} == EXPECTED[metric]


def test_nothing_else_of_ours_is_exposed() -> None:
    assert set(samples(lived())) == {key for one in EXPECTED.values() for key in one}


def test_names_labels_and_sentences_are_those_declared() -> None:
    exposed = {family.name: family for family in text_string_to_metric_families(lived().exposed().decode())}
    for metric in Metric:
        declared = metric.value
        family = exposed[declared.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (declared.kind.value, declared.sentence)
        labels = {name for sample in family.samples for name in sample.labels}
        assert labels - {"le"} == set(declared.labels)


def test_labels_are_names_of_settings_and_of_closed_vocabularies_only() -> None:
    allowed = {
        "route",
        "partner",
        "operation",
        "state",
        "reason",
        "verdict",
        "where",
        "watch",
        "change",
        "interaction",
        "status",
        "way",
    }
    assert {label for metric in Metric for label in metric.value.labels} <= allowed


def test_what_stands_is_looked_at_anew_each_time() -> None:
    metrics, states = Metrics(), iter([GateState.CLOSED, GateState.OPEN])
    metrics.look_at_gate("roche", lambda: next(states))
    place = at("emr_gate_state", partner="roche", state="open")
    assert [samples(metrics)[place], samples(metrics)[place]] == [0, 1]


def test_metrics_of_two_processes_in_one_do_not_mix() -> None:
    lived()
    assert samples(Metrics()) == {}


def test_response_times_are_told_apart_where_partners_differ() -> None:
    assert SECONDS[0] == 0.03
    assert SECONDS[-1] == 30
    assert all(after <= 2 * before for before, after in pairwise(SECONDS))


def test_the_table_of_metrics_is_the_list() -> None:
    page = (Path(__file__).parents[1] / "deploy" / "metrics.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{one.value.name}` | {one.value.kind} | {', '.join(one.value.labels)} | {one.value.sentence} |" for one in Metric
    ]
    words = [*(one.value for one in Decision), *(one.value for one in GateState)]
    assert [word for word in words if word not in page] == []


def test_counters_are_called_total_and_nothing_else_is() -> None:
    assert all((one.value.kind is Kind.COUNTER) == one.value.name.endswith("_total") for one in Metric)
