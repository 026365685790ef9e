"""fetch, login, jwks and the doctor's part of them, against NJSAMS's stand-in: what is printed, where it ends, and what is never shown."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from pipeline.bus.open import open_bus
from pipeline.bus.port import TopicSettings
from pipeline.cli import main
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from pipeline.settings import load
from tests.sandbox.njsams_client import Client, coverage, encounter, ids, patient

ROOT = Path(__file__).parents[2]
LONG = 60.0
Said = tuple[int, str, str]
Run = Callable[..., Said]


@pytest.fixture
def njsams(tmp_path: Path) -> Iterator[NjsamsSandbox]:
    with NjsamsSandbox(tmp_path / "sandbox", {"visible_after_hours": 0, "page_size": 2}) as one:
        yield one


@pytest.fixture
def there(njsams: NjsamsSandbox) -> list[str]:
    """Ids of a patient, its encounter and its coverage."""
    with_client = Client(njsams)
    try:
        return ids(with_client.create(patient(), encounter(), coverage()))
    finally:
        with_client.session.close()


def written(folder: Path, njsams: NjsamsSandbox, **oauth: Any) -> Path:  # noqa: ANN401 - settings of any type
    (folder / "key").write_text("a secret of the tests, long enough")
    tree = {
        "site": {"name": "test"},
        "bus": {"kind": "embedded", "path": str(folder / "bus")},
        "ledger": {"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
        "keys": {"patient_hash": {"file": str(folder / "key")}},
        "partners": {
            "njsams": {
                "kind": "njsams",
                "base_url": njsams.base_url,
                "tls": {"ca": str(njsams.files.ca)},
                "facilities": {"DEMO": "123456"},
                "oauth": {
                    "client_id": njsams.knobs.client_id,
                    "scope": "system/*.read",
                    **({} if "private_key" in oauth else {"client_secret": {"file": str(njsams.files.client_secret)}}),
                    **oauth,
                },
            }
        },
        "routes": {"njsams-clients": {"partner": "njsams", "source": "his.adt", "start": "earliest"}},
    }
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture
def run(tmp_path: Path, njsams: NjsamsSandbox, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command of ours: its exit code and what it said."""
    settings = written(tmp_path, njsams)

    def of(*words: str, settings: Path = settings) -> Said:
        capsys.readouterr()
        code = main([*words, "--settings", str(settings)])
        out, err = capsys.readouterr()
        return code, out, err

    return of


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_resource_by_its_id_as_json(run: Run, there: list[str]) -> None:
    for kind, identifier in zip(("Patient", "Encounter", "Coverage"), there, strict=True):
        code, out, err = run("fetch", "njsams", kind, identifier)
        assert (code, err) == (0, "")
        assert [(one["resourceType"], one["id"]) for one in documents(out)] == [(kind, identifier)]


def test_each_search_of_the_documents_finds_what_is_there(run: Run, there: list[str]) -> None:
    one, visit, policy = there
    for words, found in (
        (("Patient", "--family", "example"), [one]),
        (("Patient", "--identifier", "TEST-1"), [one]),
        (("Patient", "--family", "nobody"), []),
        (("Encounter", "--subject", one), [visit]),
        (("Encounter", "--subject", f"Patient/{one}", "--date", "2024-05-03"), [visit]),
        (("Encounter", "--date", "2001-01-01"), []),
        (("Encounter", "--include", "subject"), [visit, one]),
        (("Coverage", "--beneficiary", one, "--payor", "12"), [policy]),
        (("Coverage", "--payor", "13"), []),
    ):
        code, out, err = run("fetch", "njsams", *words)
        assert (code, [each["id"] for each in documents(out)]) == (0, found), words
        assert ("nothing was found" in err) == (not found)


@pytest.mark.parametrize("kind", ["search-result", "searchset"])
def test_all_pages_are_followed_as_far_as_is_asked(run: Run, njsams: NjsamsSandbox, kind: str) -> None:
    njsams.set(search_type=kind)
    client = Client(njsams)
    for number in range(5):
        assert client.create(patient(f"TEST-{number}")).status_code == 200
    client.session.close()
    code, out, _ = run("fetch", "njsams", "Patient", "--family", "example")
    assert (code, len({one["id"] for one in documents(out)})) == (0, 5)
    code, out, err = run("fetch", "njsams", "Patient", "--family", "example", "--pages", "2")
    assert (code, len(documents(out))) == (3, 4)
    assert "there is more behind 2 pages" in err


def test_a_table_has_what_a_person_looks_for(run: Run, there: list[str]) -> None:
    code, out, _ = run("fetch", "njsams", "Encounter", "--include", "subject", "--table")
    assert code == 0
    assert re.findall(r"^\S+", out, re.MULTILINE) == ["Encounter", "Patient"]
    assert re.search(rf"  {there[1]} +in-progress +AMB +2024-05-02T10:00:00-04:00 +Patient/{there[0]}", out)
    assert re.search(rf"  {there[0]} +Example +Pat +female +1980-02-03 +TEST-1", out)


def test_onto_a_topic_each_resource_is_a_record(run: Run, there: list[str], tmp_path: Path) -> None:
    code, _, err = run("fetch", "njsams", "Patient", there[0], "--topic", "njsams.patients")
    assert code == 2
    assert "no such topic on the bus" in err
    bus = open_bus(load(tmp_path / "settings.yaml"))
    bus.create_topics([TopicSettings("njsams.patients")])
    code, out, _ = run("fetch", "njsams", "Patient", there[0], "--topic", "njsams.patients")
    assert (code, out) == (0, "1 resource onto njsams.patients\n")
    (record,) = bus.read("njsams.patients")
    bus.close()
    assert record.key == f"Patient/{there[0]}".encode()
    assert record.value is not None
    assert json.loads(record.value)["id"] == there[0]


@pytest.mark.parametrize("topic", ["his.adt", "emr.results", "emr.dead-letters.njsams-clients"])
def test_a_topic_of_the_pipelines_own_is_refused(run: Run, topic: str) -> None:
    code, _, err = run("fetch", "njsams", "Patient", "12", "--topic", topic)
    assert code == 4
    assert "name one of its own" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("njsams", "Patient", "not-there"), 3, "njsams Patient: HTTP 404 (not-found): not there, or not readable yet"),
        (("njsams", "Patient"), 2, "Patient: which one? give its id, or --family, --identifier"),
        (("njsams", "Patient", "12", "--family", "x"), 2, "ID: an id, or a search: --family does not go with an id"),
        (("njsams", "Patient", "--date", "2022"), 2, "--date: does not go with Patient"),
        (("njsams", "Observation", "12"), 2, "RESOURCE: not offered by this partner"),
        (("njsams", "Patient", "a/b"), 2, "ID: is no id"),
        (("njsams", "Patient", "12", "--pages", "0"), 2, "--pages: a number from 1 on"),
        (("roqua", "Patient", "12"), 2, "roqua: no such partner in the settings; there is njsams"),
    ],
)
def test_what_does_not_go_is_one_line(run: Run, words: tuple[str, ...], code: int, said: str) -> None:
    ended, out, err = run("fetch", *words)
    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("500", "HTTP 500 (exception)"),
        ("login_page", "HTTP 200 with a body that is no FHIR resource"),
        ("401", "HTTP 401: it refuses our token (emr-pipeline doctor)"),
        ("drop", "the connection broke"),
    ],
)
def test_a_partner_in_trouble_is_one_line(run: Run, njsams: NjsamsSandbox, there: list[str], fault: str, said: str) -> None:
    njsams.inject(fault, operation="read")
    code, out, err = run("fetch", "njsams", "Patient", there[0])
    assert (code, out) == (3, "")
    assert said in err
    assert there[0] not in err


def test_a_token_endpoint_in_trouble_is_told(run: Run, njsams: NjsamsSandbox) -> None:
    njsams.inject("500", operation="token")
    code, _, err = run("fetch", "njsams", "Patient", "12")
    assert code == 3
    assert "no access token could be had" in err


# login


def browsed(url: str, njsams: NjsamsSandbox) -> str:
    """A person says yes: where the browser is sent."""
    with requests.Session() as browser:
        browser.trust_env = False
        answer = browser.get(url, verify=str(njsams.files.ca), allow_redirects=False, timeout=LONG)
        return answer.headers["Location"]


def code_flow(tmp_path: Path, njsams: NjsamsSandbox, **more: Any) -> Path:  # noqa: ANN401 - as above
    return written(
        tmp_path,
        njsams,
        grant="authorization_code",
        scope="openid fhirUser user/*.read",
        refresh_file=str(tmp_path / "login"),
        **more,
    )


def login(settings: Path, njsams: NjsamsSandbox, *words: str) -> Said:
    """A process of ours, and a person with a browser who opens the address that it prints."""
    command = [sys.executable, "-m", "pipeline.cli", "login", "njsams", *words, "--settings", str(settings)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        url = process.stdout.readline()
        assert url, process.communicate(timeout=LONG)
        back = browsed(url.strip(), njsams)
        if "--paste" not in words:
            with requests.Session() as browser:
                browser.trust_env = False
                assert "you can close this window" in browser.get(back, timeout=LONG).text
        out, err = process.communicate(back + "\n" if "--paste" in words else None, timeout=LONG)
        return process.returncode, url + out, err


def test_a_login_is_kept_and_fetch_goes_on_with_it(run: Run, njsams: NjsamsSandbox, tmp_path: Path, there: list[str]) -> None:
    settings = code_flow(tmp_path, njsams)
    code, _, err = run("fetch", "njsams", "Patient", there[0], settings=settings)
    assert code == 3
    assert "emr-pipeline login" in err
    code, out, err = login(settings, njsams, "--paste")
    assert code == 0, err
    assert "a refresh token came and is kept in" in out
    assert (tmp_path / "login").stat().st_mode & 0o777 == 0o600
    for _ in range(2):
        assert run("fetch", "njsams", "Patient", there[0], settings=settings)[0] == 0


def test_the_browser_comes_back_to_this_machine(njsams: NjsamsSandbox, tmp_path: Path) -> None:
    with socket.socket() as held:  # a port that nobody else takes meanwhile
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        redirect = f"http://127.0.0.1:{held.getsockname()[1]}/callback"
        njsams.set(redirect_uris=[redirect])
        code, out, err = login(code_flow(tmp_path, njsams, redirect_uri=redirect), njsams)
    assert code == 0, err
    assert "a refresh token came" in out


def test_a_login_without_a_refresh_token_says_how_long_it_lasts_and_serves_until_then(
    run: Run, njsams: NjsamsSandbox, tmp_path: Path, there: list[str]
) -> None:
    njsams.set(refresh="never", token_seconds=3600)
    settings = code_flow(tmp_path, njsams)
    code, out, _ = login(settings, njsams, "--paste")
    assert code == 0
    assert re.search(r"no refresh token came .*: the access token lasts (59|60) minutes, until \d{4}-", out)
    assert run("fetch", "njsams", "Patient", there[0], settings=settings)[0] == 0


def test_somebody_who_says_no_ends_the_login(njsams: NjsamsSandbox, tmp_path: Path) -> None:
    njsams.set(approval="denied")
    code, _, err = login(code_flow(tmp_path, njsams), njsams, "--paste")
    assert code == 2
    assert "says no: access_denied" in err
    assert not (tmp_path / "login").exists()


def test_a_partner_that_needs_no_login_says_so(run: Run) -> None:
    code, _, err = run("login", "njsams")
    assert code == 2
    assert "needs no login: its grant is client_credentials" in err


# jwks


def test_a_new_key_is_made_once_and_its_public_half_published(run: Run, njsams: NjsamsSandbox, tmp_path: Path) -> None:
    key = {"file": str(tmp_path / "key.pem"), "key_id": "2026-01", "algorithm": "ES384"}
    settings = written(tmp_path, njsams, client_auth="private_key_jwt", private_key=key)
    code, out, _ = run("jwks", "njsams", "--new", settings=settings)
    assert code == 0
    published = json.loads(out)
    assert [(one["kid"], one["alg"], "d" in one) for one in published["keys"]] == [("2026-01", "ES384", False)]
    code, _, err = run("jwks", "--new", settings=settings)
    assert code == 2
    assert "is there already" in err
    njsams.register_keys(published)
    assert run("fetch", "njsams", "Patient", "--family", "x", settings=settings)[0] == 0
    code, out, _ = run("jwks", "--also", str(tmp_path / "next.pem"), "--key-id", "2026-07", "--new", settings=settings)
    assert code == 0
    assert [one["kid"] for one in json.loads(out)["keys"]] == ["2026-01", "2026-07"]


def test_without_a_key_there_is_no_key_set(run: Run) -> None:
    code, _, err = run("jwks")
    assert code == 2
    assert "no partner has oauth.private_key" in err
    assert run("jwks", "--also", "x.pem")[0] == 2


# doctor


def doctor(run: Run, **more: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - as above
    _, out, _ = run("doctor", "--json", **more)
    return {line["what"]: line for line in documents(out)}


def test_the_doctor_gets_a_token_and_reads_what_the_partner_lists(run: Run, njsams: NjsamsSandbox) -> None:
    lines = doctor(run)
    assert (lines["token of njsams"]["level"], lines["token of njsams"]["found"]) == ("OK", "one came, for 5 minutes")
    assert lines["capabilities of njsams"]["level"] == "OK"
    njsams.set(capability="no_search", granted_scope="something/else")
    lines = doctor(run)
    assert "without a part of the scope: system/*.read" in lines["token of njsams"]["found"]
    assert "does not list: Patient search-type, Patient search by family" in lines["capabilities of njsams"]["found"]
    njsams.set(capability="no_writes")
    assert doctor(run)["capabilities of njsams"]["found"].endswith("does not list: Bundle create, Bundle update")


def test_the_doctor_says_what_is_wrong_with_our_client_and_where_a_login_is_missing(
    run: Run, njsams: NjsamsSandbox, tmp_path: Path
) -> None:
    njsams.set(client_id="another")
    line = doctor(run)["token of njsams"]
    assert (line["level"], "invalid_client" in line["found"]) == ("FAIL", True)
    line = doctor(run, settings=code_flow(tmp_path, njsams))["token of njsams"]
    assert (line["level"], line["do"]) == ("FAIL", "emr-pipeline login njsams")
    njsams.inject("503", operation="token")
    line = doctor(run, settings=written(tmp_path, njsams))["token of njsams"]
    assert "HTTP 503" in line["found"]


def test_no_command_shows_a_token_a_secret_or_a_code(run: Run, njsams: NjsamsSandbox, tmp_path: Path) -> None:
    settings = code_flow(tmp_path, njsams)
    said = "".join(str(one) for one in login(settings, njsams, "--paste"))
    said += "".join(str(one) for one in run("doctor", settings=settings)) + str(
        run("fetch", "njsams", "Patient", "x", settings=settings)
    )
    for secret in (njsams.files.secret(), "code=", "code_verifier", "Bearer", "refresh_token="):
        assert secret not in said
