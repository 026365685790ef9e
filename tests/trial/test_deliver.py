"""bench deliver: which rows run where, what they have, and that one runs."""

import json
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.trial import deliver
from pipeline.trial.ground import Where

PROMISED = {
    "name",
    "bus",
    "in_flight",
    "latency_ms",
    "messages",
    "delivered_per_second",
    "steady_per_second",
    "share_of_bound",
    "cpu_ms_per_message",
    "rss_mb",
    "largest_commit_gap",
    "order_violations",
}


def test_two_workers_are_measured_only_where_they_can_share_bus_and_ledger() -> None:
    alone = {row.name for row in deliver.chosen([], Where())}
    shared = {row.name for row in deliver.chosen([], Where(("localhost:9092",), "postgresql://h/d"))}
    assert shared - alone == deliver.SHARED_ONLY
    assert alone < shared == {row.name for row in deliver.ROWS}


def test_a_row_brings_the_one_that_it_is_compared_with() -> None:
    assert [row.name for row in deliver.chosen(["stuck_lane"], Where())] == ["cold", "stuck_lane"]


def test_what_is_compared_stands_in_the_row() -> None:
    found = [{"name": "cold", "p99_ms": 1600}, {"name": "hot_and_cold", "p99_ms": 1760}]
    deliver.compared(found)
    assert found[1]["times_cold"] == 1.1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--rows", "nothing"], "--rows nothing: no such row; there are at_once"),
        (["--rows", "two_workers_64"], "--rows one_worker_64: needs --kafka and --ledger"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_reason(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    assert main(["bench", "deliver", *words]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.slow
def test_a_row_prints_what_is_promised(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert main(["bench", "deliver", "--rows", "at_once", "--seconds", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"machine", "rows"}
    (row,) = told["rows"]
    assert set(row) >= PROMISED
    assert (row["bus"], row["in_flight"], row["latency_ms"]) == ("embedded", 64, 0)
    assert (row["order_violations"], row["repeated"], row["created_twice"]) == (0, 0, 0)
    assert row["messages"] > 0
