"""fetch, run and doctor at RoQua's stand-in: what is read of it, what a watch puts onto a topic, and what is never shown."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from pipeline.bus.open import open_bus
from pipeline.bus.port import Record
from pipeline.cli import main
from pipeline.fhir.validator import Release, Validator
from pipeline.sandbox.roqua.stand_in import RoquaSandbox
from pipeline.settings import load
from tests.delivery.partner_script import adt, until
from tests.sandbox.roqua_client import Client, submission

ROOT = Path(__file__).parents[2]
Said = tuple[int, str, str]
Run = Callable[..., Said]


@pytest.fixture
def roqua(tmp_path: Path) -> Iterator[RoquaSandbox]:
    with RoquaSandbox(tmp_path / "sandbox", {"last_responses": 1}) as one, Client(one) as client:
        for number in (1, 2):
            filled = 1654088400 + number * 86_400
            assert client.post(submission(f"x-{number}", started_at=filled, filled_out_at=filled)).status_code == 201
        yield one


def written(folder: Path, roqua: RoquaSandbox, **watch: Any) -> Path:  # noqa: ANN401 - settings of a watch
    (folder / "key").write_text("a secret of the tests, long enough")
    reads = {
        "base_url": roqua.base_url,
        "tls": {"ca": str(roqua.files.ca)},
        "token": {"consumer_key": roqua.token_key, "consumer_secret": {"file": str(roqua.files.client_secret)}},
    }
    tree = {
        "site": {"name": "test"},
        "bus": {"kind": "embedded", "path": str(folder / "bus")},
        "ledger": {"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
        "keys": {"patient_hash": {"file": str(folder / "key")}},
        "partners": {
            "roqua": {"kind": "roqua", "professional_system": "urn:x:professional", **reads},
            "rest": {"kind": "roqua-responses", **reads},
        },
        "routes": {},
        "watches": {"roqua-watch": {"partner": "rest", "into": "roqua.completions", "from": "all", "rate": 1000, **watch}},
    }
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def run(tmp_path: Path, roqua: RoquaSandbox, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command of ours: its exit code and what it said."""
    settings = written(tmp_path, roqua, dossiers=["2075"])

    def of(*words: str) -> Said:
        capsys.readouterr()
        code = main([*words, "--settings", str(settings)])
        out, err = capsys.readouterr()
        return code, out, err

    return of


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("partner", ["roqua", "rest"])
def test_observations_come_of_the_last_responses_and_a_larger_total_is_no_error(run: Run, partner: str) -> None:
    code, out, err = run("fetch", partner, "Observation", "--subject", "2075")
    assert (code, err) == (0, "")
    found = documents(out)
    assert {one["resourceType"] for one in found} == {"Observation"}
    assert all(one["id"].startswith("r-2") for one in found)


def test_an_unknown_dossier_has_nothing(run: Run) -> None:
    code, out, err = run("fetch", "roqua", "Observation", "--subject", "nobody")
    assert (code, out) == (0, "")
    assert "nothing was found" in err


@pytest.mark.parametrize("partner", ["roqua", "rest"])
def test_responses_come_as_the_partner_gives_them(run: Run, partner: str) -> None:
    code, out, err = run("fetch", partner, "responses", "--dossier", "2075")
    assert (code, err) == (0, "")
    assert [one["external_id"] for one in documents(out)] == ["x-1", "x-2"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--questionnaire-keys", "oq45,honos_plus"), 2),
        (("--questionnaire-keys", "oq45"), 0),
        (("--completed-after", "2022-06-03"), 1),
        (("--completed-before", "2022-06-03T00:00:00+00:00"), 1),
        (("--status", "completed"), 2),
        (("--status", "open"), 0),
        (("--respondent-type", "profess"), 2),
        (("--respondent-type", "patient"), 0),
        (("--respondent-id", "999"), 0),
        (("--protocol-subscription-id", "7"), 0),
    ],
)
def test_each_filter_is_understood(run: Run, words: tuple[str, ...], found: int) -> None:
    code, out, _ = run("fetch", "roqua", "responses", "--dossier", "2075", *words)
    assert (code, len(documents(out))) == (0, found)


def test_a_table_of_responses_shows_what_a_person_looks_for(run: Run) -> None:
    code, out, _ = run("fetch", "roqua", "responses", "--dossier", "2075", "--table")
    assert code == 0
    title, head, first, second = out.splitlines()
    assert (title, head.split()) == ("responses", ["id", "questionnaire", "completed_at", "status", "scores"])
    for line, day in ((first, "02"), (second, "03")):
        assert re.search(rf"honos_plus +2022-06-{day}T15:00:00.000\+02:00 +completed +\S+ \d+", line)


def test_responses_become_observations_that_are_right_and_have_every_answer(run: Run) -> None:
    code, out, _ = run("fetch", "roqua", "responses", "--dossier", "2075", "--completed-after", "2022-06-03", "--observations")
    assert code == 0
    found, check = documents(out), Validator(Release.STU3).check
    assert [check(one) for one in found] == [()] * len(found)
    _, listed, _ = run("fetch", "roqua", "responses", "--dossier", "2075", "--completed-after", "2022-06-03")
    (response,) = documents(listed)
    codes = {one["code"]["coding"][0]["code"]: one for one in found}
    answers = {key: value for key, value in response["values"].items() if value is not None}
    assert {key: codes[key]["valueQuantity"]["value"] for key in answers} == answers
    assert set(response["outcome"]["scores"]) <= set(codes)


def test_onto_a_topic_a_response_goes_by_its_dossier(run: Run, tmp_path: Path) -> None:
    settings = load(tmp_path / "settings.yaml")
    assert run("fetch", "roqua", "responses", "--dossier", "2075", "--topic", "roqua.completions")[0] == 4
    assert run("topics", "create")[0] == 0
    bus = open_bus(settings)
    assert "roqua.completions" in bus.topics()
    bus.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("responses", "--status", "completed"), "which dossier? give --dossier"),
        (("responses", "--dossier", "1", "--subject", "1"), "--subject: does not go with responses"),
        (("responses", "12"), "RoQua gives nothing by an id of its own: give --dossier"),
        (("Observation", "--subject", "1", "--observations"), "--observations: Observation is FHIR already"),
    ],
)
def test_what_does_not_go_is_one_line(run: Run, words: tuple[str, ...], said: str) -> None:
    code, out, err = run("fetch", "roqua", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("fault", "said"),
    [("401", "it refuses our token"), ("403", "our token has not the right"), ("500", "HTTP 500")],
)
def test_a_partner_in_trouble_is_one_line_without_the_dossier(run: Run, roqua: RoquaSandbox, fault: str, said: str) -> None:
    roqua.inject(fault)
    code, out, err = run("fetch", "roqua", "responses", "--dossier", "2075")
    assert (code, out) == (3, "")
    assert said in err
    assert "2075" not in err


# the watch


def records(folder: Path) -> list[dict[str, Any]]:
    bus = open_bus(load(folder / "settings.yaml"))
    try:
        return [
            json.loads(one.value or b"") | {"change": dict(one.headers)["emr-change"]} for one in bus.read("roqua.completions")
        ]
    finally:
        bus.close()


def watched(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """A process of ours, to its end."""
    words = [sys.executable, "-m", "pipeline.cli", "run", "roqua-watch", "--drain", "--settings", str(folder / "settings.yaml")]
    return subprocess.run([*words, *more], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)


@pytest.mark.parametrize("filters", ["exclusive", "inclusive"])
def test_a_watch_puts_each_completion_onto_its_topic_once_and_a_corrected_one_again(
    run: Run, roqua: RoquaSandbox, tmp_path: Path, filters: str
) -> None:
    roqua.set(time_filters=filters)
    assert run("topics", "create")[0] == 0
    for _ in range(2):
        done = watched(tmp_path)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert [(one["external_id"], one["change"]) for one in records(tmp_path)] == [("x-1", b"new"), ("x-2", b"new")]
        assert {one["dossier_id"] for one in records(tmp_path)} == {"2075"}
    body = submission("x-2", started_at=None, filled_out_at=1654088400 + 2 * 86_400)
    with Client(roqua) as client:
        assert client.update("x-2", body | {"answer_data": body["answer_data"] | {"v_1": "a4"}}).status_code == 200
    assert watched(tmp_path).returncode == 0
    assert [(one["external_id"], one["change"]) for one in records(tmp_path)][2:] == [("x-2", b"corrected")]
    for word in ("2075", "x-1", "honos", roqua.token_secret):
        assert word not in done.stderr


def test_a_watch_of_a_topic_asks_for_the_patients_in_it(run: Run, roqua: RoquaSandbox, tmp_path: Path) -> None:
    settings = written(tmp_path, roqua, source="his.adt", form="observations", partner="roqua")
    tree = yaml.safe_load(settings.read_text())
    tree["site"]["overlay"] = "demo"
    settings.write_text(yaml.safe_dump(tree))
    assert run("topics", "create")[0] == 0
    bus = open_bus(load(settings))
    with bus.producer() as producer:
        producer.append([Record("his.adt", adt(patient="2075", authority="ZGDEMO")), Record("his.adt", adt(patient="2076"))])
    bus.close()
    for _ in range(2):
        done = watched(tmp_path)
        assert done.returncode == 0, done.stderr
        found = records(tmp_path)
        assert [(one["type"], one["change"]) for one in found] == [("collection", b"new")] * 2
        assert {each["resource"]["subject"]["identifier"]["value"] for one in found for each in one["entry"]} == {"2075"}


def test_a_watch_that_is_refused_ends_a_drain_with_exit_4_and_says_so(run: Run, roqua: RoquaSandbox, tmp_path: Path) -> None:
    assert run("topics", "create")[0] == 0
    roqua.set(tokens=["another=all"])
    done = watched(tmp_path)
    assert done.returncode == 4
    assert "route_halted" in done.stderr
    assert "refuses us as a whole" in done.stderr
    assert records(tmp_path) == []


def metrics(port: int) -> str:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        found: str = answer.read().decode()
    return found


def test_a_watch_is_watched_and_ends_with_a_signal(run: Run, tmp_path: Path) -> None:
    assert run("topics", "create")[0] == 0
    words = [sys.executable, "-m", "pipeline.cli", "run", "--http", "127.0.0.1:0", "--settings", str(tmp_path / "settings.yaml")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            until(lambda: len(records(tmp_path)) == 2)
            assert process.stderr is not None
            said = [json.loads(process.stderr.readline()) for _ in range(2)]
            port = next(one["port"] for one in said if one["event"] == "http_started")
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60) as answer:
                assert json.loads(answer.read()) == {"ready": True}
            until(lambda: 'emr_watch_appended_total{change="new",watch="roqua-watch"} 2.0' in metrics(port))
            process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()][-1] == "watch_stopped"


def test_doctor_knows_a_watch_before_and_after_it_ran(run: Run, tmp_path: Path) -> None:
    assert run("topics", "create")[0] == 0

    def line(what: str) -> dict[str, Any]:
        return {one["what"]: one for one in documents(run("doctor", "--json")[1])}[what]

    assert watched(tmp_path).returncode == 0
    assert line("topic roqua.completions")["level"] == "OK"
    assert line("capabilities of rest")["found"].startswith("it has no CapabilityStatement")
    found = line("watch roqua-watch")
    assert (found["level"], found["found"]) == ("OK", "1 dossiers, 0 of them not asked for yet, 2 completions")
