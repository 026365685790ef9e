"""The doctor says what is wrong and what to do, in one line each; it makes nothing and tells no secret."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from pipeline import settings
from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.limits import MOST_BYTES, OVERHEAD_BYTES
from pipeline.bus.port import Record, TopicSettings, Where
from pipeline.cli import main
from pipeline.commands.demo.appointments import free_port
from pipeline.commands.doctor import exit_code, outside
from pipeline.commands.doctor.report import Level, Line
from pipeline.delivery.first import starting
from pipeline.ledger.sql import SqlLedger
from pipeline.sandbox.roche.stand_in import RocheSandbox
from pipeline.settings import DEFAULTS, Kafka
from pipeline.wiring import topic_settings
from schemas.outcomes import Reason, State
from tests import postgres_server
from tests.commands import hospital
from tests.ledger.samples import KEY, PSEUDONYMS, Message, settled


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[RocheSandbox]:
    with RocheSandbox(tmp_path / "sandbox", port=free_port()) as running:
        yield running


def doctor(settings: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    capsys.readouterr()
    code = main(["doctor", "--json", "--settings", str(settings)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, {line["what"]: line for line in lines}


def test_before_anything_exists_it_says_so_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMR_PIPELINE_SETTINGS", raising=False)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "nothing has run yet" in out
    assert "emr-pipeline demo" in out
    assert list(tmp_path.iterdir()) == []


def test_where_all_is_well_all_is_ok(tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    settings = hospital.write(tmp_path, sandbox)
    assert main(["topics", "create", "--settings", str(settings)]) == 0
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.check()
    ledger.close()
    before = sorted(tmp_path.rglob("*"))
    code, lines = doctor(settings, capsys)
    assert {what: line for what, line in lines.items() if line["level"] != "OK"} == {}
    assert code == 0
    assert {"bus", "ledger", "partner roche", "clock of roche", "topic his.adt", "mappings"} <= set(lines)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_has_not_run_yet_is_a_warning(tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = doctor(hospital.write(tmp_path, sandbox), capsys)
    assert (code, lines["bus"]["level"], lines["ledger"]["level"]) == (0, "WARN", "WARN")


def test_wrong_settings_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = doctor(hospital.write(tmp_path, ledgers={}), capsys)
    assert (code, list(lines)) == (2, ["settings"])
    assert "no such setting" in lines["settings"]["found"]


def test_a_secret_that_is_not_there_or_open_to_others_is_told(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = hospital.write(tmp_path, sandbox)
    (tmp_path / "hash.key").chmod(0o644)
    (sandbox.folder / "client-secret").unlink()
    code, lines = doctor(settings, capsys)
    assert (code, lines["secret partners.roche.client_secret"]["level"]) == (2, "FAIL")
    assert lines["secret keys.patient_hash"] == {
        "level": "WARN",
        "what": "secret keys.patient_hash",
        "found": f"{tmp_path / 'hash.key'} can be read by others",
        "do": f"chmod 600 {tmp_path / 'hash.key'}",
    }


def test_no_secret_is_printed(tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    secret = (sandbox.folder / "client-secret").read_text().strip()
    settings = hospital.write(tmp_path, sandbox)
    main(["doctor", "--settings", str(settings)])
    printed = "".join(capsys.readouterr())
    assert "secret partners.roche.client_secret: readable" in printed
    assert secret not in printed
    assert KEY not in printed


def test_a_key_that_does_not_fit_is_told(tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    settings = hospital.write(tmp_path, sandbox)
    (sandbox.folder / "client.key").write_bytes((sandbox.folder / "server.key").read_bytes())
    code, lines = doctor(settings, capsys)
    assert code == 2
    assert "is not the key of" in lines["certificates partners.roche.tls"]["found"]


def test_a_partner_who_is_away_is_exit_3(tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    settings = hospital.write(tmp_path, sandbox)
    sandbox.stop()
    code, lines = doctor(settings, capsys)
    assert (code, lines["partner roche"]["level"]) == (3, "FAIL")
    assert "connection refused" in lines["partner roche"]["found"]


@pytest.mark.parametrize("shown", ["foreign-client", None])
def test_a_partner_that_ends_the_handshake_may_not_take_our_certificate_where_we_show_one(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str], shown: str | None
) -> None:
    path = hospital.write(tmp_path, sandbox)
    tree = yaml.safe_load(path.read_text())
    tls = tree["partners"]["roche"]["tls"] = {"ca": str(sandbox.folder / "ca.pem")}
    if shown is not None:
        tls |= {"certificate": str(sandbox.folder / f"{shown}.pem"), "key": str(sandbox.folder / f"{shown}.key")}
    path.write_text(yaml.safe_dump(tree))
    _, lines = doctor(path, capsys)
    line = lines["partner roche"]
    assert (line["level"], "or it does not take our client certificate" in line["do"]) == ("FAIL", shown is not None)
    assert "our certificate" not in line["found"]


def test_a_topic_that_is_not_there_is_told(tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    settings = hospital.write(tmp_path, sandbox)
    main(["topics", "create", "--settings", str(settings)])
    hospital.write(tmp_path, sandbox, routes={"roche-patients": {"partner": "roche", "source": "another", "start": "latest"}})
    code, lines = doctor(settings, capsys)
    assert (code, lines["topic another"]["level"], lines["topic another"]["do"]) == (3, "FAIL", "emr-pipeline topics create")


@pytest.mark.parametrize(("there", "begun"), [(True, False), (True, True), (False, False)])
def test_a_ledger_that_is_not_the_one_that_the_group_was_read_with_is_told_as_run_tells_it(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str], *, there: bool, begun: bool
) -> None:
    """Also where a first start of another source was begun on it."""
    settings = hospital.write(tmp_path, sandbox)
    assert main(["topics", "create", "--settings", str(settings)]) == 0
    with closing(EmbeddedBus(tmp_path / "bus")) as bus:
        with bus.producer() as producer:
            producer.append([Record("his.adt", b"read before", partition=0)])
        bus.start("emr-pipeline.roche-patients", ["his.adt"], Where.LATEST)
    if there:
        ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
        ledger.check()
        if begun:
            ledger.start(
                "roche-patients", "emr-pipeline.roche-patients", "roche", starting("emr-pipeline.roche-patients", "his.atd")
            )
        ledger.close()
    code, lines = doctor(settings, capsys)
    said = lines["route roche-patients"]["found"]
    assert main(["run", "--drain", "--settings", str(settings)]) == code == 4
    assert said in capsys.readouterr().err
    assert "this ledger knows nothing of the route" in said


@pytest.mark.parametrize(("read", "told"), [(1, False), (3, True)], ids=["it has what was read", "it is from a backup"])
def test_a_ledger_that_has_less_than_the_group_has_read_is_told(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str], *, read: int, told: bool
) -> None:
    settings = hospital.write(tmp_path, sandbox)
    assert main(["topics", "create", "--settings", str(settings)]) == 0
    with closing(EmbeddedBus(tmp_path / "bus")) as bus:
        with bus.producer() as producer:
            producer.append([Record("his.adt", b"read", partition=0)] * read)
        bus.start("emr-pipeline.roche-patients", ["his.adt"], Where.LATEST)
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.check()
    ledger.start("roche-patients", "emr-pipeline.roche-patients", "roche", "earliest")
    ledger.settle(settled(Message(0), State.DELIVERED))
    ledger.close()
    _, lines = doctor(settings, capsys)
    line = lines.get("ledger of roche-patients")
    assert (line is not None) is told
    assert line is None or (line["level"], "his.adt/0/2" in line["found"]) == ("WARN", True)


def test_a_start_that_was_meant_for_one_time_and_still_stands_there_is_told(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """With it an empty ledger is taken for one that was never there."""
    settings = hospital.write(tmp_path, sandbox)
    tree = yaml.safe_load(settings.read_text())
    tree["routes"]["roche-patients"]["start"] = "committed"
    settings.write_text(yaml.safe_dump(tree))
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.check()
    ledger.start("roche-patients", "emr-pipeline.roche-patients", "roche", "committed")
    ledger.close()
    _, lines = doctor(settings, capsys)
    assert (lines["start of roche-patients"]["level"], lines["start of roche-patients"]["do"]) == (
        "WARN",
        "the route has started: take it out",
    )


def test_another_ledger_key_is_told(tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    settings = hospital.write(tmp_path, sandbox)
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.check()
    ledger.close()
    (tmp_path / "hash.key").write_text("another key of at least sixteen bytes")
    code, lines = doctor(settings, capsys)
    assert (code, lines["ledger"]["level"]) == (main(["run", "--drain", "--settings", str(settings)]), "FAIL")
    said = lines["ledger"]["found"]
    assert (said.count("began with"), "another key" in said, lines["ledger"]["do"]) == (1, True, None)


def test_an_overlay_that_is_not_there_is_told_as_run_tells_it(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = hospital.write(tmp_path, sandbox, site={"name": "test", "overlay": "nowhere"})
    code, lines = doctor(settings, capsys)
    assert main(["run", "--drain", "--settings", str(settings)]) == code == 2
    assert capsys.readouterr().err == f"emr-pipeline run: {lines['mappings']['found']}\n"
    assert "site.overlay: there is no folder" in lines["mappings"]["found"]


def test_a_folder_without_mappings_is_told(tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = doctor(hospital.write(tmp_path, sandbox, mappings="nowhere"), capsys)
    assert (code, lines["mappings"]["found"]) == (2, f"{tmp_path / 'nowhere'} is no mappings folder: it has no events.yaml")


@pytest.mark.parametrize("old", [False, True], ids=["newest schema", "schema of before"])
def test_a_route_that_was_started_to_a_partner_of_another_name_is_told_as_run_tells_it(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str], *, old: bool
) -> None:
    """A ledger that no newer program has brought up to date has no partners: nothing is told, and nothing written."""
    settings = hospital.write(tmp_path, sandbox)
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.check()
    ledger.start("roche-patients", "emr-pipeline.roche-patients", "roche-clinic", "earliest")
    if old:
        with ledger._write() as connection:
            connection.exec_driver_sql("ALTER TABLE routes DROP COLUMN partner")
    ledger.close()
    code, lines = doctor(settings, capsys)
    if old:
        assert (code, "route roche-patients" in lines, lines["ledger"]["level"]) == (0, False, "OK")
        return
    line = lines["route roche-patients"]
    assert (code, line["level"], "started to the partner roche-clinic" in line["found"]) == (4, "FAIL", True)


def test_what_is_parked_of_a_route_that_the_settings_have_no_more_is_told(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = hospital.write(tmp_path, sandbox)
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.check()
    ledger.settle(settled(Message(1, route="roche-before"), State.PARKED, Reason.FHIR_INVALID))
    ledger.close()
    _, lines = doctor(settings, capsys)
    line = lines["deliveries of roche-before"]
    assert (line["level"], line["found"]) == ("WARN", "1 parked; the settings have no such route")
    assert "name the route roche-before again" in line["do"]


def test_what_waits_for_a_person_is_a_warning_with_the_command(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = hospital.write(tmp_path, sandbox)
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    ledger.check()
    ledger.settle(settled(Message(1), State.PARKED, Reason.FHIR_INVALID))
    ledger.close()
    _, lines = doctor(settings, capsys)
    line = lines["deliveries of roche-patients"]
    assert (line["level"], line["found"], line["do"]) == (
        "WARN",
        "1 parked",
        "emr-pipeline find --route roche-patients --state parked",
    )
    assert lines["source of roche-patients"]["level"] == "WARN"


def test_a_postgresql_that_is_not_there_says_why(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = hospital.write(tmp_path, sandbox, ledger={"url": "postgresql+psycopg://emr@127.0.0.1:1/emr"})
    code, lines = doctor(settings, capsys)
    assert (code, lines["ledger"]["level"]) == (3, "FAIL")
    assert "nothing listens at that address" in lines["ledger"]["found"]


@pytest.mark.postgres
def test_a_postgresql_that_is_empty_is_a_warning(
    tmp_path: Path, sandbox: RocheSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = hospital.write(tmp_path, sandbox, ledger={"url": postgres_server.a_schema()})
    _, lines = doctor(settings, capsys)
    assert lines["ledger"]["level"] == "WARN"
    assert "nothing has run on it yet" in lines["ledger"]["found"]
    assert postgres_server.PASSWORD not in json.dumps(lines)


@pytest.mark.parametrize(("seconds", "level"), [(0, Level.OK), (-20, Level.WARN), (3_600, Level.FAIL)])
def test_a_clock_that_differs_is_named(seconds: int, level: Level) -> None:
    now = datetime.now(UTC)

    class Answer:
        def getheader(self, _: str) -> str:
            return format_datetime(now + timedelta(seconds=seconds), usegmt=True)

    line = outside._clock("roche", Answer(), now.timestamp())  # type: ignore[arg-type]
    assert line.level is level
    assert seconds == 0 or ("ahead of" if seconds > 0 else "behind") in line.found


@pytest.mark.parametrize(
    ("failed", "code"),
    [
        ([], 0),
        ([Line(Level.FAIL, "partner", "away")], 3),
        ([Line(Level.FAIL, "partner", "away"), Line(Level.FAIL, "ledger", "refused", ours=True, refused=True)], 4),
        ([Line(Level.FAIL, "ledger", "refused", ours=True, refused=True), Line(Level.FAIL, "mappings", "wrong", ours=True)], 2),
    ],
)
def test_the_exit_code_is_that_of_what_is_to_be_mended_first(failed: list[Line], code: int) -> None:
    assert exit_code(failed) == code


class Described:
    """A bus whose topics take so many bytes."""

    def __init__(self, wanted: list[TopicSettings], most: dict[str, int]) -> None:
        self.made = {each.name: replace(each, most_bytes=most.get(each.name)) for each in wanted}

    def described(self, topic: str) -> TopicSettings | None:
        return self.made.get(topic)


MEGABYTE = 1_048_588


@pytest.mark.parametrize(
    ("source", "dead", "need"),
    [
        (MEGABYTE, MEGABYTE, MEGABYTE + OVERHEAD_BYTES),
        (MEGABYTE, MEGABYTE + OVERHEAD_BYTES, None),
        (20 * MEGABYTE, 16 * MEGABYTE + OVERHEAD_BYTES, 20 * MEGABYTE + OVERHEAD_BYTES),
        (MOST_BYTES + OVERHEAD_BYTES, MOST_BYTES + OVERHEAD_BYTES, None),
        (None, MEGABYTE, 16 * 1024 * 1024 + OVERHEAD_BYTES),
    ],
    ids=[
        "as large as the source",
        "with room for our headers",
        "a source for large ones",
        "as we make them",
        "an unknown source",
    ],
)
def test_a_dead_letter_topic_is_to_take_what_its_source_may_hold_and_our_headers(
    source: int | None, dead: int, need: int | None
) -> None:
    loaded = settings.load(DEFAULTS)
    wanted = topic_settings(loaded)
    route, letters = loaded.routes["roche-patients"].source, loaded.dead_letters_of("roche-patients")
    bus = Described(wanted, {letters: dead} | ({route: source} if source is not None else {}))
    lines = outside._topics(loaded, bus, frozenset(bus.made))  # type: ignore[arg-type]
    failed = [(line.what, line.do) for line in lines if line.level is Level.FAIL]
    expected = f"set its max.message.bytes to {need}, and the broker's message.max.bytes, or lower that of the source topic"
    assert failed == ([(f"topic {letters}", expected)] if need is not None else [])


@pytest.mark.kafka
def test_dead_letters_that_take_less_than_a_message_are_told_before_one_is_parked(
    kafka: Kafka, kafka_bus: KafkaBus, prefix: str, tmp_path: Path
) -> None:
    tree = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    route = tree["routes"]["roche-patients"] | {"source": prefix + "adt", "dead_letters": prefix + "dead"}
    tree |= {"bus": kafka.model_dump(mode="json", exclude_none=True), "routes": {"r": route}, "listen": None}
    tree |= {"topics": {"results": prefix + "results"}}
    path = tmp_path / "emr-pipeline.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    loaded = settings.load(path)
    kafka_bus.create_topics(topic_settings(loaded))
    assert {line.level for line in outside.bus(loaded)} == {Level.OK}
    with closing(KafkaAdminClient(bootstrap_servers=list(kafka.bootstrap_servers))) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, prefix + "dead", configs={"max.message.bytes": "1000000"})])
    (line,) = (line for line in outside.bus(loaded) if line.level is Level.FAIL)
    assert (line.what, "stand in the source alone" in line.found) == (f"topic {prefix}dead", True)
