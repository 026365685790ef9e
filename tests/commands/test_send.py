"""`emr-pipeline send` as a user types it: files, folders, batches, stdin; onto a topic and to an MLLP address."""

import io
import json
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import TopicSettings
from pipeline.cli import main
from pipeline.commands import send
from pipeline.errors import BusRefused
from pipeline.hl7.mllp import frame
from pipeline.listen.server import MllpServer
from pipeline.settings import Listen, Site, load
from tests.listen.certificates import Authority
from tests.listen.stand_ins import TOPIC, FailingBus, adt

SETTINGS = """
site: {name: test, most_bytes: 2000}
bus: {kind: embedded, path: bus}
ledger: {url: "sqlite:///ledger.sqlite"}
keys: {patient_hash: {env: UNUSED}}
partners:
  roche:
    {kind: roche, base_url: "https://localhost:1", org_id: "1", client_id: "1", client_secret: {env: UNUSED}, tls: {}}
routes:
  roche-patients: {partner: roche, source: his.adt, start: earliest}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "emr-pipeline.yaml").write_text(SETTINGS)
    with closing(EmbeddedBus(tmp_path / "bus")) as bus:
        bus.create_topics([TopicSettings(TOPIC, partitions=4), TopicSettings("other")])
    return tmp_path


def on_topic(folder: Path, topic: str = TOPIC) -> list[bytes]:
    with closing(EmbeddedBus(folder / "bus")) as bus:
        return sorted(received.value or b"" for received in bus.read(topic))


def bare(*control_ids: str) -> list[bytes]:
    return [adt(control_id).rstrip(b"\r") for control_id in control_ids]


def test_files_go_onto_the_source_topic_of_the_only_route(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.hl7").write_bytes(adt("C1"))
    (folder / "b.hl7").write_bytes(adt("C2"))
    assert main(["send", "a.hl7", "b.hl7"]) == 0
    assert on_topic(folder) == bare("C1", "C2")
    assert capsys.readouterr().out == "2 read, 2 on topic his.adt, 0 failed\n"


def test_key_and_origin_go_with_the_record(folder: Path) -> None:
    (folder / "a.hl7").write_bytes(adt("C1"))
    main(["send", "a.hl7"])
    with closing(EmbeddedBus(folder / "bus")) as bus:
        record = next(iter(bus.read(TOPIC)))
    assert record.key == b"ZH|100"
    assert dict(record.headers)["received_by"] == b"send"


def test_a_folder_stands_for_its_files_in_order_of_their_names(folder: Path) -> None:
    (folder / "day" / "deep").mkdir(parents=True)
    for name, control_id in (("2.hl7", "C2"), ("1.hl7", "C1"), ("deep/3.hl7", "C3"), (".hidden", "C4")):
        (folder / "day" / name).write_bytes(adt(control_id))
    assert main(["send", "day", "--topic", "other"]) == 0
    with closing(EmbeddedBus(folder / "bus")) as bus:
        assert [received.value for received in bus.read("other")] == bare("C1", "C2", "C3")


@pytest.mark.parametrize(
    "content",
    [
        b"FHS|^~\\&|\rBHS|^~\\&|\r" + adt("C1") + adt("C2") + b"BTS|2\rFTS|1\r",
        adt("C1") + adt("C2"),
        frame(adt("C1")) + frame(adt("C2")),
        (adt("C1") + adt("C2")).replace(b"\r", b"\r\n"),
    ],
)
def test_several_messages_of_a_file_are_several_records(folder: Path, content: bytes) -> None:
    (folder / "many.hl7").write_bytes(content)
    assert main(["send", "many.hl7"]) == 0
    assert [value.replace(b"\r\n", b"\r") for value in on_topic(folder)] == bare("C1", "C2")


def test_a_dash_is_stdin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(adt("C1"))))
    assert main(["send", "-"]) == 0
    assert on_topic(folder) == bare("C1")


def test_what_is_no_message_or_too_large_is_said_with_its_place_and_the_rest_goes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.hl7").write_bytes(b"Jansen\r\n" + adt("C1") + adt("C2", extra="OBX|" + "x" * 3000 + "\r") + adt("C3"))
    assert main(["send", "bad.hl7", "--json"]) == 3
    out, err = capsys.readouterr()
    assert on_topic(folder) == bare("C1", "C3")
    assert json.loads(out) == {
        "to": TOPIC,
        "read": 4,
        "sent": 2,
        "failed": 2,
        "not_sent": 0,
        "problem": None,
        "failures": [
            {"file": "bad.hl7", "index": 1, "line": 1, "why": "no readable MSH segment"},
            {"file": "bad.hl7", "index": 3, "line": 5, "why": "larger than site.most_bytes (2000)"},
        ],
    }
    assert err.splitlines() == [
        "emr-pipeline send: bad.hl7:1: message 1: no readable MSH segment",
        "emr-pipeline send: bad.hl7:5: message 3: larger than site.most_bytes (2000)",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent.hl7"], "absent.hl7: cannot be read (No such file or directory)"),
        (["a.hl7", "--topic", "nowhere"], "--topic: the bus has no topic nowhere; make it with: emr-pipeline topics create"),
        (["a.hl7", "--route", "nobody"], "--route nobody: no such route in the settings; there is roche-patients"),
        (["a.hl7", "hollow"], "hollow: the folder holds no file (hidden ones are left out)"),
        (["a.hl7", "--tls"], "--tls: only with --to"),
        (["a.hl7", "--to", "localhost:1", "--ca", "ca.pem"], "--ca: only with --tls"),
        (["a.hl7", "--to", "localhost"], "--to: HOST:PORT, as 127.0.0.1:2575"),
        (["a.hl7", "--to", "localhost:1", "--tls", "--certificate", "x"], "--certificate: --certificate and --key go together"),
    ],
)
def test_wrong_words_are_one_line_and_exit_2(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    (folder / "a.hl7").write_bytes(adt("C1"))
    (folder / "hollow").mkdir()
    assert main(["send", *words]) == 2
    assert capsys.readouterr().err == f"emr-pipeline send: {said}\n"


def test_to_an_mllp_address_each_message_is_acknowledged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bus = FailingBus()
    (folder / "many.hl7").write_bytes(adt("C1") + adt("C2"))
    with MllpServer(bus, Listen(topic=TOPIC, address="127.0.0.1:0"), Site(name="test")) as server:
        assert main(["send", "many.hl7", "--to", str(server.address)]) == 0
        assert capsys.readouterr().out == f"2 read, 2 accepted by {server.address}, 0 failed\n"
    assert bus.values() == bare("C1", "C2")


def test_over_mutual_tls(folder: Path) -> None:
    bus, authority = FailingBus(), Authority(folder)
    ours, his = authority.issue("listener"), authority.issue("his")
    (folder / "a.hl7").write_bytes(adt("C1"))
    tls = {"ca": authority.ca, "certificate": ours.certificate, "key": ours.key}
    listen = Listen.model_validate({"topic": TOPIC, "address": "127.0.0.1:0", "tls": tls, "client_certificates": "required"})
    with MllpServer(bus, listen, Site(name="test")) as server:
        words = ["send", "a.hl7", "--to", f"localhost:{server.address.port}", "--tls", "--ca", str(authority.ca)]
        assert main(words) == 3
        assert main([*words, "--certificate", str(his.certificate), "--key", str(his.key)]) == 0
    assert bus.values() == bare("C1")


def test_a_refused_message_is_said_with_its_code_and_the_next_goes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bus = FailingBus()
    (folder / "many.hl7").write_bytes(adt("C1") + adt("C2", extra="OBX|" + "x" * 1500 + "\r") + adt("C3"))
    with MllpServer(bus, Listen(topic=TOPIC, address="127.0.0.1:0"), Site(name="test", most_bytes=1000)) as server:
        assert main(["send", "many.hl7", "--to", str(server.address)]) == 3
        out, err = capsys.readouterr()
        assert out == f"3 read, 2 accepted by {server.address}, 1 failed\n"
    assert "emr-pipeline send: many.hl7:4: message 2: answered AR, error 207 of table 0357\n" in err
    assert bus.values() == bare("C1", "C3")


def test_after_a_message_without_answer_nothing_more_is_sent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bus = FailingBus(failing={b"|C2|"})
    (folder / "many.hl7").write_bytes(adt("C1") + adt("C2") + adt("C3") + adt("C4"))
    with MllpServer(bus, Listen(topic=TOPIC, address="127.0.0.1:0"), Site(name="test")) as server:
        assert main(["send", "many.hl7", "--to", str(server.address)]) == 3
        out, err = capsys.readouterr()
        assert out == f"4 read, 1 accepted by {server.address}, 1 failed, 2 not sent\n"
    assert "many.hl7:4: message 2: the receiver closed the connection without an acknowledgement" in err
    assert "Jansen" not in err
    assert bus.values() == bare("C1")


def test_where_nobody_listens_nothing_went_and_that_is_exit_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.hl7").write_bytes(adt("C1"))
    assert main(["send", "a.hl7", "--to", "127.0.0.1:1", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["sent"], told["not_sent"], told["problem"]) == (0, 1, "no connection to 127.0.0.1:1 (Connection refused)")


@pytest.mark.parametrize(
    ("failing", "stored", "tail"),
    [
        ({b"|C3|", b"|C4|", b"|C5|", b"|C6|"}, ["C1", "C2"], ""),
        ({b"|C3|"}, ["C1", "C2", "C4", "C5", "C6"], " (but 3 of those behind it, on other partitions)"),
    ],
)
def test_a_bus_that_takes_no_more_is_one_line_for_all(
    folder: Path, failing: set[bytes], stored: list[str], tail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = FailingBus(failing=failing, error=BusRefused("the disk is full", where="bus"))
    (folder / "big.hl7").write_bytes(b"".join(adt(f"C{number}") for number in range(1, 7)))
    tally = send.Tally(TOPIC)
    loaded = load(folder / "emr-pipeline.yaml")
    with bus.producer() as producer:
        send._append(producer, TOPIC, loaded, list(send._items(["big.hl7"])), tally)
    assert capsys.readouterr().err == (
        f"emr-pipeline send: from big.hl7:7 message 3 on nothing was stored{tail}: bus: the disk is full\n"
    )
    told = tally.as_json()
    assert (told["read"], told["sent"], told["failed"], told["not_sent"]) == (6, len(stored), 1, 5 - len(stored))
    assert bus.values() == bare(*stored)
