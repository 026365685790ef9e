"""`emr-pipeline topics create`: what it makes, what it finds, and where what it finds differs."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline.bus.kafka import KafkaBus
from pipeline.bus.port import TopicSettings
from pipeline.cli import main
from pipeline.settings import DEFAULTS, Kafka


def settings_file(folder: Path, **changes: object) -> Path:
    tree = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8")) | changes
    path = folder / "emr-pipeline.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def create(capsys: pytest.CaptureFixture[str], path: Path) -> dict[str, dict[str, object]]:
    assert main(["topics", "create", "--settings", str(path), "--json"]) == 0
    return {row["topic"]: row for row in json.loads(capsys.readouterr().out)["topics"]}


def test_all_topics_of_the_settings_are_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = settings_file(tmp_path, bus={"kind": "embedded", "path": "bus"})
    first = create(capsys, path)
    assert {name: row["made"] for name, row in first.items()} == {
        "his.adt": True,
        "emr.results": True,
        "emr.dead-letters.roche-patients": True,
    }
    assert {(row["made"], len(row["differs"])) for row in create(capsys, path).values()} == {(False, 0)}  # type: ignore[arg-type]


def test_where_a_topic_differs_is_said_for_people_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create(capsys, settings_file(tmp_path, bus={"kind": "embedded", "path": "bus"}))
    changed = settings_file(tmp_path, bus={"kind": "embedded", "path": "bus"}, topics={"partitions": 3, "source_retention": {}})
    assert create(capsys, changed)["his.adt"]["differs"] == {
        "partitions": {"is": 8, "settings": 3},
        "retention_ms": {"is": 14 * 86_400_000, "settings": None},
    }
    assert main(["topics", "create", "--settings", str(changed)]) == 0
    said = capsys.readouterr().out
    assert "differs  his.adt: partitions 8, the settings say 3, retention_ms 1209600000, the settings say without limit" in said
    assert "there    emr.dead-letters.roche-patients (1 partition, keeps for ever)" in said


def test_a_bus_that_cannot_be_opened_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bus").write_text("a file")
    path = settings_file(tmp_path, bus={"kind": "embedded", "path": "bus"})
    assert main(["topics", "create", "--settings", str(path)]) == 2
    said = capsys.readouterr().err
    assert "cannot be opened or made" in said
    assert said.count("\n") == 1


@pytest.mark.kafka
def test_the_same_on_kafka_with_dead_letters_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kafka: Kafka, kafka_bus: KafkaBus, prefix: str
) -> None:
    bus = kafka.model_dump(mode="json", exclude_none=True)
    route = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))["routes"]["roche-patients"]
    route |= {"source": prefix + "adt", "dead_letters": prefix + "dead"}
    topics = {"results": prefix + "results", "results_retention": {"days": 90, "megabytes": 80}}
    path = settings_file(tmp_path, bus=bus, routes={"r": route}, topics=topics, listen=None)
    assert {row["made"] for row in create(capsys, path).values()} == {True}
    assert {(row["made"], len(row["differs"])) for row in create(capsys, path).values()} == {(False, 0)}  # type: ignore[arg-type]
    assert kafka_bus.described(prefix + "dead") == TopicSettings(prefix + "dead", 1, None, None, 1)
    assert kafka_bus.described(prefix + "results") == TopicSettings(prefix + "results", 8, 90 * 86_400_000, 80 * 1_048_576, 1)
