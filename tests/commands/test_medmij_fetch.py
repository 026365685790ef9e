"""fetch against another hospital's appointment server, MedMij's stand-in: what is asked and never asked, pages, what the server really did, errors."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pytest
import yaml

from pipeline import wiring
from pipeline.cli import main
from pipeline.errors import SettingsError
from pipeline.partners.medmij.reader import searched_by
from pipeline.sandbox.medmij.stand_in import MedmijSandbox
from pipeline.settings import load

Said = tuple[int, str, str]
Run = Callable[..., Said]
Tree = dict[str, Any]
OPEN: Final = ("Appointment", "--from", "1900")
PATIENT: Final = ("999900201", "71001", "p-1")


@pytest.fixture
def medmij(tmp_path: Path) -> Iterator[MedmijSandbox]:
    with MedmijSandbox(tmp_path / "sandbox") as one:
        yield one


def written(folder: Path, medmij: MedmijSandbox, **block: Any) -> Path:  # noqa: ANN401 - settings of any type
    (folder / "key").write_text("a secret of the tests, long enough")
    (folder / "token").write_text(medmij.token("p-1"))
    xis = {
        "kind": "medmij-xis",
        "base_url": medmij.base_url,
        "tls": {"ca": str(medmij.files.ca)},
        "token": {"file": str(folder / "token")},
        **block,
    }
    tree = {
        "site": {"name": "test"},
        "bus": {"kind": "embedded", "path": str(folder / "bus")},
        "ledger": {"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
        "keys": {"patient_hash": {"file": str(folder / "key")}},
        "partners": {"zuid": xis},
        "routes": {},
    }
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.fixture(params=["json", "xml"])
def run(request: pytest.FixtureRequest, tmp_path: Path, medmij: MedmijSandbox, capsys: pytest.CaptureFixture[str]) -> Run:
    """A fetch in each format: its exit code and what it said."""
    settings = written(tmp_path, medmij, format=request.param)

    def of(*words: str) -> Said:
        capsys.readouterr()
        code = main(["fetch", "zuid", *words, "--settings", str(settings)])
        out, err = capsys.readouterr()
        return code, out, err

    return of


def found(out: str) -> list[str]:
    return [json.loads(line)["id"] for line in out.splitlines()]


def test_appointments_come_by_day_and_the_query_has_no_colon_and_no_patient(run: Run, medmij: MedmijSandbox) -> None:
    code, out, err = run("Appointment", "--from", "2020-01-01", "--to", "2999-12")
    assert (code, found(out), err) == (0, ["a-1", "a-2", "a-3"], "")
    (effect,) = medmij.log.effects(operation="search")
    assert (effect.path, effect.query) == ("/fhir/Appointment", "date=ge2020-01-01&date=le2999-12")
    assert not any(one in f"{effect.path}?{effect.query}" for one in PATIENT)


def test_the_plus_of_an_offset_is_percent_encoded(run: Run, medmij: MedmijSandbox) -> None:
    code, out, err = run("Appointment", "--from", "2020-01-01T00:00:00+01:00")
    assert (code, len(found(out)), err) == (0, 3, "")
    assert medmij.log.effects()[-1].query == "date=ge2020-01-01T00:00:00%2B01:00"


def test_every_request_has_an_id_of_its_own_and_all_of_a_fetch_one_correlation_id(run: Run, medmij: MedmijSandbox) -> None:
    medmij.set(page_size=1)
    code, out, err = run(*OPEN)
    assert (code, found(out), err) == (0, ["a-1", "a-2", "a-3"], "")
    run(*OPEN)
    effects = medmij.log.effects(operation="search")
    assert len({str(uuid.UUID(one.request_id)) for one in effects}) == len(effects) == 6
    assert [len({(one.token or {})["correlation"] for one in each}) for each in (effects[:3], effects[3:], effects)] == [1, 1, 2]


def test_what_an_appointment_references_is_had_by_its_id(run: Run, medmij: MedmijSandbox) -> None:
    (first, *_) = (json.loads(line) for line in run(*OPEN)[1].splitlines())
    for one in first["participant"]:
        kind, _, identifier = one["actor"]["reference"].partition("/")
        assert found(run(kind, identifier)[1]) == [identifier]
    medmij.set(referenced="included")
    kinds = [json.loads(line)["resourceType"] for line in run(*OPEN)[1].splitlines()]
    assert kinds.count("Appointment") == 3
    assert {"Patient", "Practitioner", "PractitionerRole", "Location", "Organization"} <= {*kinds}


def test_xml_brings_the_same_as_json(tmp_path: Path, medmij: MedmijSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    medmij.set(referenced="included", outcome="information")
    said = []
    for form in ("json", "xml"):
        assert main(["fetch", "zuid", *OPEN, "--settings", str(written(tmp_path, medmij, format=form))]) == 0
        said.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert said[0] == said[1]
    assert len(said[0]) > 3


def test_a_server_without_the_format_says_so(tmp_path: Path, medmij: MedmijSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    medmij.set(formats="json")
    assert main(["fetch", "zuid", *OPEN, "--settings", str(written(tmp_path, medmij, format="xml"))]) == 3
    assert "HTTP 406 (not-supported): it cannot write what we asked for: the setting format" in capsys.readouterr().err


def test_a_table_has_when_what_with_whom_and_where(run: Run) -> None:
    code, out, _ = run(*OPEN, "--table")
    assert code == 0
    lines = out.splitlines()
    assert lines[:2] == ["Appointment", lines[1]]
    assert lines[1].split() == ["when", "status", "what", "with", "where", "instructions"]
    scan = r"  \d{4}-\d\d-\d\d 13:45 to 14:05  booked +CT-scan +R. Yilmaz +Radiologie, route 30 +Drie uur voor het onderzoek niets eten"
    assert re.fullmatch(scan, lines[-1])


def test_the_last_day_belongs_to_what_is_asked_for(run: Run) -> None:
    day = json.loads(run(*OPEN)[1].splitlines()[1])["start"][:10]
    assert found(run("Appointment", "--from", day, "--to", day)[1]) == ["a-2"]


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"date": "ignored"}, "the server searched not by date, and was asked for date=ge1900: look at the dates yourself"),
        ({"self_link": "absent"}, "the server does not say what it searched by: it gives no self link"),
        ({"outcome": "warning"}, "beside what it found the partner says: informational"),
        ({"outcome": "information"}, "beside what it found the partner says: informational"),
    ],
)
def test_what_the_server_did_otherwise_or_adds_is_told_once(run: Run, medmij: MedmijSandbox, knobs: Tree, said: str) -> None:
    medmij.set(**knobs)
    code, out, err = run(*OPEN)
    assert (code, len(found(out))) == (0, 3)
    assert err.count(said) == 1


def test_another_date_than_was_asked_for_is_told(run: Run, medmij: MedmijSandbox) -> None:
    medmij.set(self_link="wider", page_size=1)
    code, out, err = run("Appointment", "--from", "2000", "--to", "2999")
    assert (code, len(found(out))) == (0, 3)
    assert err.count("the server searched by date=ge1900, and was asked for date=ge2000, date=le2999") == 1


def test_the_colon_form_in_a_self_link_is_the_same_search_and_what_is_no_date_is_not_repeated() -> None:
    assert searched_by("https://x/fhir/Appointment?date=ge:2020-01-01") == searched_by("/Appointment?date=ge2020-01-01")
    assert searched_by("?date=2020-01-01&date=Jansen") == {"2020-01-01", "(unreadable)"}


@pytest.mark.parametrize("link", ["foreign", "below", "insecure", "loop"])
def test_a_next_page_that_is_not_the_partners_own_is_not_asked_for(run: Run, medmij: MedmijSandbox, link: str) -> None:
    medmij.set(page_size=2, next_link=link)
    code, _, err = run(*OPEN)
    assert code == 3
    assert "its link to the next page leads " in err
    assert len(medmij.log.effects()) == 1


def test_a_relative_link_to_the_next_page_is_followed(run: Run, medmij: MedmijSandbox) -> None:
    medmij.set(page_size=2, next_link="relative")
    assert found(run(*OPEN)[1]) == ["a-1", "a-2", "a-3"]


def test_nothing_found_is_no_failure(run: Run) -> None:
    code, out, err = run("Appointment", "--to", "1995")
    assert (code, out, err) == (0, "", "emr-pipeline fetch: nothing was found\n")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("400", "HTTP 400 (invalid): it could not process the search"),
        ("401", "HTTP 401: our token is missing there, at its end, or not meant for it: the setting token"),
        ("403_label", "HTTP 403 (forbidden): it refuses this token: no consent, or nobody whom it treats"),
        ("not_processed", "HTTP 404 (not-found): not there, or it has no such resource"),
        ("429", "HTTP 429: it asks us to wait; ask again later"),
        ("500", "HTTP 500 (exception)"),
        ("502", "HTTP 502"),
        ("503", "HTTP 503"),
        ("error_in_200", "HTTP 200 with an error (exception)"),
        ("login_page", "HTTP 200 with a body that is no FHIR resource"),
        ("empty_200", "HTTP 200 with a body that is no FHIR resource"),
    ],
)
def test_an_error_says_what_it_means_and_the_id_that_the_other_side_knows_it_by(
    run: Run, medmij: MedmijSandbox, fault: str, said: str
) -> None:
    medmij.inject(fault, **({"operation": "search"} if fault == "not_processed" else {}))
    code, out, err = run(*OPEN)
    assert (code, out) == (3, "")
    number = medmij.log.effects()[-1].request_id
    assert err == f"emr-pipeline fetch: zuid Appointment: {said} (MedMij-Request-ID {number})\n"


@pytest.mark.parametrize(("errors", "codes"), [("outcome", " (security)"), ("empty", ""), ("html", "")])
def test_a_token_at_its_end_is_said_so_whatever_the_body(run: Run, medmij: MedmijSandbox, errors: str, codes: str) -> None:
    medmij.set(errors=errors)
    medmij.revoke()
    code, _, err = run(*OPEN)
    assert code == 3
    assert f"HTTP 401{codes}: our token is missing there, at its end" in err


def test_an_outcome_entry_with_an_error_and_a_bundle_of_another_type_are_no_success(run: Run, medmij: MedmijSandbox) -> None:
    medmij.set(outcome="error")
    assert "HTTP 200 with an error" in run(*OPEN)[2]
    medmij.set(outcome="none", bundle_type="collection")
    assert "a Bundle of another type than searchset" in run(*OPEN)[2]


def test_neither_patient_nor_token_is_in_what_an_error_says(run: Run, medmij: MedmijSandbox, tmp_path: Path) -> None:
    token = (tmp_path / "token").read_text()
    for fault in ("400", "500", "login_page", "truncated", "drop"):
        medmij.clear_faults()
        medmij.inject(fault)
        _, _, err = run(*OPEN)
        assert not any(one in unquote(err) for one in (token, *PATIENT, "Duinen"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("Appointment",), "Appointment: which one? give its id, or --from, --to"),
        (("Appointment", "--from", "ge2020"), "--from: must be a day as 2026-01-31, a month, a year"),
        (("Appointment", "--from", "2020-13"), "--from: must be a day as 2026-01-31, a month, a year"),
        (("Appointment", "--from", "2020-01-01T10:00"), "--from: must be a day as 2026-01-31, a month, a year"),
        (("Appointment", "--subject", "p-1"), "--subject: does not go with Appointment; there is --from, --to"),
        (("Slot", "--from", "2020"), "RESOURCE: not offered by this partner; there is Appointment, Patient"),
        (("Appointment", "--from", "2020", "--observations"), "--observations: Appointment is FHIR already"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_asked(run: Run, medmij: MedmijSandbox, words: tuple[str, ...], said: str) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert said in err
    assert medmij.log.effects() == []


def test_no_route_may_lead_to_what_is_only_read(tmp_path: Path, medmij: MedmijSandbox) -> None:
    path = written(tmp_path, medmij)
    tree = yaml.safe_load(path.read_text())
    tree["routes"] = {"r": {"partner": "zuid", "source": "his.adt", "start": "earliest"}}
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(SettingsError, match=r"routes\.r\.partner: zuid can only be read"):
        load(path)


def test_the_doctor_finds_its_capability_statement_whole(tmp_path: Path, medmij: MedmijSandbox) -> None:
    settings = load(written(tmp_path, medmij))
    reader = wiring.reader_of(settings, "zuid")
    transport = wiring.transport_of(settings, "zuid")
    try:
        asked = reader.capabilities()
        assert asked is not None
        assert reader.not_listed(transport.exchange(asked)) == []
    finally:
        transport.close()
