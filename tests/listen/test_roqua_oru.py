"""RoQua's own results (ORU^R01, contracts/roqua.md 8.2) are an ordinary source: by MLLP onto the topic as they are, and from there by the events table."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline import wiring
from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import TopicSettings
from pipeline.cli import main
from pipeline.hl7.ack import Acknowledgement
from pipeline.hl7.er7 import parse
from pipeline.hl7.event import typed
from pipeline.listen.server import MllpServer
from pipeline.sandbox.roqua.questionnaires import ITEM_KEYS
from pipeline.settings import Listen, Site
from tests.listen.stand_ins import Sender
from tests.partners.roqua_samples import ITEMS, SCORES

STATUSES = ("S", "F", "C", "X", "D")
TOPIC = "roqua.oru"
OWN_TABLES = {
    "identifier-systems-roqua": ['{system: type, code: PI, to: "urn:x:dossiers"}'],
    "honos-item": [f"{{code: honos_plus_{ITEM_KEYS[item]}, to: item-{item.lower()}}}" for item in ITEMS],
}
"""What a site that knows RoQua's keys would add."""


def oru(status: str, control: str = "RQ1") -> bytes:
    """Metadata, scores, raw answers, each named `<questionnaire key>_<field>`; times to the minute, without a zone; PID-3 without an authority."""
    answers = [("NM", ITEM_KEYS[item], score, "") for item, score in SCORES.items()]
    rows = [("ST", "protocol", "HoNOS", ""), ("ST", "compl_by", "profess", ""), ("NM", "tot", 31, "HH"), *answers]
    lines = [
        f"MSH|^~\\&|Roqua|RGOc|EPD|GGZ|202603011330||ORU^R01|{control}|P|2.4",
        "PID|1||2075^^^^PI",
        f"OBR|1||4711||||202603011330||||||||honos_plus||||||||||{status}",
        *(
            f"OBX|{nth}|{kind}|honos_plus_{field}^^L||{value}|||{flag}|||{status}|||202603011330"
            for nth, (kind, field, value, flag) in enumerate(rows, 1)
        ),
    ]
    return ("\r".join(lines) + "\r").encode()


def test_each_is_on_the_topic_as_it_came_under_its_dossier(tmp_path: Path) -> None:
    bus = EmbeddedBus(tmp_path)
    bus.create_topics([TopicSettings(TOPIC, partitions=4)])
    messages = [oru(status, f"RQ{status}") for status in STATUSES]
    listen = Listen(address="127.0.0.1:0", topic=TOPIC)
    with MllpServer(bus, listen, Site(name="test")) as server, Sender.to(server.address) as sender:
        assert [sender.ask(message) for message in messages] == [Acknowledgement("AA", f"RQ{status}") for status in STATUSES]
    records = list(bus.read(TOPIC))
    bus.close()
    assert [record.value for record in records] == messages
    assert {record.key for record in records} == {b"|2075"}


def test_what_it_says_is_read_flag_status_and_score_alike() -> None:
    event = typed(parse(oru("C"), charset="utf-8"), zone="Europe/Amsterdam")[0]
    (report,) = event.reports
    assert (event.result_status, report.source and report.source.code, report.filler and report.filler.value) == (
        "C",
        "honos_plus",
        "4711",
    )
    total = report.observations[2]
    assert (total.code and total.code.code, total.value, total.flags, total.nth) == ("honos_plus_tot", "31", ("HH",), 3)
    assert total.time is not None
    assert getattr(total.time, "datetime", None) == "2026-03-01T13:30:00+01:00"


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A site that has RoQua's own keys in its tables."""
    mappings = shutil.copytree(wiring.MAPPINGS, tmp_path / "mappings")
    for table, rows in OWN_TABLES.items():
        path = mappings / "sites" / "own" / "codes" / f"{table}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([f"table: {table}", "rows:", *(f"  - {row}" for row in rows), ""]), encoding="utf-8")
    tree = {
        "mappings": str(mappings),
        "site": {"name": "test", "zone": "Europe/Amsterdam", "overlay": "own"},
        "bus": {"kind": "embedded", "path": "bus"},
        "ledger": {"url": "sqlite:///ledger.sqlite"},
        "keys": {"patient_hash": {"env": "NOTHING"}},
        "partners": {
            "roqua": {
                "kind": "roqua",
                "base_url": "https://localhost:1",
                "token": {"consumer_key": "key", "consumer_secret": {"env": "NOTHING"}},
                "professional_system": "urn:x:professionals",
                "item_8": "optional",
            }
        },
        "routes": {"roqua-honos": {"partner": "roqua", "source": TOPIC, "start": "earliest"}},
    }
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "settings.yaml"


def test_its_status_decides_what_map_says_of_it(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(settings.with_name(f"{number}.hl7")) for number, _ in enumerate(STATUSES)]
    for name, status in zip(names, STATUSES, strict=True):
        Path(name).write_bytes(oru(status))
    assert main(["map", "--jsonl", "--settings", str(settings), "--route", "roqua-honos", *names]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    author = "Composition.author (OBR-32.1.1)"  # RoQua does not say by number who rated
    assert [(line["outcome"], line["reason"], line["where"]) for line in lines] == [
        ("filtered", "result_not_final", "OBX-11"),
        ("parked", "profile_required", author),
        ("parked", "profile_required", author),
        ("filtered", "result_not_known", "OBR-3.1"),
        ("filtered", "result_not_known", "OBR-3.1"),
    ]


def test_map_explains_each_answer_by_its_obx(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rated = oru("F").replace(b"|||||||||F\r", b"|||||||||F|||||||prof_1&Berg&B.\r", 1)
    settings.with_name("one.hl7").write_bytes(rated.replace(b"PID|1||2075^^^^PI", b"PID|1||2075^^^^PI||Berg^A."))
    path = str(settings.with_name("one.hl7"))
    assert main(["map", "--settings", str(settings), "--route", "roqua-honos", "--explain", "--json", path]) == 0
    explained = json.loads(capsys.readouterr().out)[0]["explain"]
    values = [explained[f"Observation[{number}].valueQuantity.value"] for number in range(len(ITEMS))]
    assert values == [f"OBX[{number}]-5" for number in range(4, 4 + len(ITEMS))]
