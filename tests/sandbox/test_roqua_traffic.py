"""The clinic's questionnaires end as they say, by either way into RoQua; and what RoQua pushes back tells what happened there."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import hl7
import yaml

from pipeline import wiring
from pipeline.bus.port import Record
from pipeline.sandbox.roqua.oru import pushes
from pipeline.sandbox.roqua.stand_in import RoquaSandbox
from pipeline.sandbox.roqua.traffic import End, kept, messages
from pipeline.settings import Settings, load
from schemas.result import Result
from tests.sandbox.roqua_client import Client, submission

TOPIC = "his.oru"
ROUTES = {"roqua": "honos", "roqua-responses": "responses"}


def house(folder: Path, roqua: RoquaSandbox) -> tuple[Path, Settings]:
    """A site with both ways in, and the clinic's messages on its topic."""
    token = {"consumer_key": roqua.token_key, "consumer_secret": {"file": str(roqua.files.client_secret)}}
    block = {"base_url": roqua.base_url, "tls": {"ca": str(roqua.files.ca)}, "token": token}
    (folder / "hash.key").write_text("0" * 64)
    (folder / "hash.key").chmod(0o600)
    tree = {
        "site": {"name": "test", "zone": "Europe/Amsterdam", "overlay": "demo"},
        "bus": {"kind": "embedded", "path": "bus"},
        "ledger": {"url": "sqlite:///ledger.sqlite"},
        "keys": {"patient_hash": {"file": "hash.key"}},
        "partners": {
            "roqua": {"kind": "roqua", "professional_system": "urn:x:professionals", **block},
            "roqua-responses": {"kind": "roqua-responses", **block},
        },
        "routes": {route: {"partner": kind, "source": TOPIC, "start": "earliest"} for kind, route in ROUTES.items()},
    }
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(tree))
    loaded = load(path)
    with wiring.opened(loaded) as things:
        things.bus.create_topics(wiring.topic_settings(loaded))
        with things.bus.producer() as producer:
            producer.append([Record(TOPIC, one.bytes, key=one.dossier.encode()) for one in messages()])
    return path, loaded


def test_every_message_ends_as_it_says_and_roqua_has_what_is_kept(tmp_path: Path, roqua: RoquaSandbox) -> None:
    path, loaded = house(tmp_path, roqua)
    command = [sys.executable, "-m", "pipeline.cli", "run", "--drain", "--settings", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    with wiring.opened(loaded) as things:
        results = [Result.model_validate_json(one.value) for one in things.bus.read(loaded.topics.results) if one.value]
    found = {(one.route, one.control_id): (str(one.state), one.reason and str(one.reason)) for one in results if one.settled}
    wanted: dict[tuple[str, str | None], End] = {}
    for number, sample in enumerate(messages(), 1):
        wanted["honos", f"OQ{number:05}"] = sample.documents
        wanted["responses", f"OQ{number:05}"] = sample.responses
    assert {key: (end, wanted[key]) for key, end in found.items() if end != wanted[key]} == {}
    assert found.keys() == wanted.keys()
    answers = {
        dossier: Counter(tuple(sorted(one["values"].items())) for one in responses if responses)
        for dossier, responses in roqua.dossiers.items()
    }
    expected = {
        dossier: Counter(tuple(sorted((f"v_{question}", answer) for question, answer in one.items())) for one in numbers.values())
        for dossier, numbers in kept().items()
    }
    assert answers == expected


def test_another_reader_reads_the_clinics_messages() -> None:
    for sample in messages():
        parsed = hl7.parse(sample.bytes.decode())
        assert str(parsed.segment("MSH")[9]) == "ORU^R01^ORU_R01"
        assert len(parsed.segments("OBX")) == len(sample.answers) * len(parsed.segments("OBR"))
        assert str(parsed.segment("OBX")[5]) == str(sample.answers[1])
    assert {sample.status for sample in messages()} == {"F", "C", "P", "D", "X"}


def test_the_pushes_tell_what_happened_to_each_response(roqua: RoquaSandbox) -> None:
    roqua.invite("2075", "oq45")
    roqua.complete("2075", "oq45", {"v_1": 4, "v_2": 1}, at=1_700_000_000)
    roqua.invite("2075", "oq45", status="expired")
    with Client(roqua) as client:
        client.post()
        client.post()  # nothing changes: nothing is pushed
        client.put()
        client.update(body=submission(answer_data={"v_1": "a1"}))
        client.update(body=submission(answer_data={"v_1": "a2"}))
        client.delete()
        client.observations()
    assert [(one.response, one.status) for one in roqua.pushes()] == [
        (1, "S"),
        (1, "F"),
        (2, "X"),
        (3, "F"),
        (4, "F"),
        (3, "C"),
        (3, "C"),
        (3, "D"),
    ]
    assert {one.dossier for one in roqua.pushes()} == {"2075"}


def test_a_push_is_as_the_dossier_has_it(roqua: RoquaSandbox) -> None:
    with Client(roqua) as client:
        client.put()
    (push,) = pushes(roqua.log)
    parsed = hl7.parse(push.bytes.decode())
    assert [str(parsed.segment("MSH")[place]) for place in (3, 4, 9, 12)] == ["Roqua", "RGOc", "ORU^R01", "2.4"]
    obr = parsed.segment("OBR")
    assert [str(obr[place]) for place in (3, 7, 15, 25)] == ["1", "202604190000", "honos_plus", "F"]
    rows = {str(one[3][0][0]): (str(one[2]), str(one[5]), str(one[8]), str(one[11])) for one in parsed.segments("OBX")}
    assert rows["honos_plus_tot"] == ("NM", "21", "HH", "F")
    assert rows["honos_plus_v_4"] == ("NM", "4", "", "F")
    assert rows["honos_plus_compl_by"] == ("ST", "profess", "", "F")
    assert {str(one[3][0][2]) for one in parsed.segments("OBX")} == {"L"}
