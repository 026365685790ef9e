"""identities import and export: all or nothing, line numbers, hashes only."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline.cli import main
from pipeline.commands.identities import placed, read
from pipeline.ledger.sql import SqlLedger
from tests.commands import hospital
from tests.ledger.samples import CIP, PSEUDONYMS

HEAD = "kind,system,value,partner_id"


@pytest.fixture
def settings(tmp_path: Path) -> str:
    return str(hospital.write(tmp_path))


def test_what_is_imported_is_exported_as_hashes(tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "known.csv").write_text(f"\ufeff{HEAD}\npatient,{CIP},CIP1,P1\n\npatient,{CIP},CIP2,\n")
    assert (
        main(["identities", "import", "--partner", "roche", str(tmp_path / "known.csv"), "--json", "--settings", settings]) == 0
    )
    assert json.loads(capsys.readouterr().out) == {"partner": "roche", "rows": 2, "changed": 2, "replaced": []}
    assert main(["identities", "export", "--json", "--settings", settings]) == 0
    out = capsys.readouterr().out
    assert {(row["value_hash"], row["partner_id"]) for row in map(json.loads, out.splitlines())} == {
        (PSEUDONYMS.hash("identity", "patient", CIP, "CIP1"), "P1"),
        (PSEUDONYMS.hash("identity", "patient", CIP, "CIP2"), None),
    }
    assert "CIP1" not in out


def test_one_wrong_row_and_nothing_is_imported(tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "known.csv").write_text(f"{HEAD}\npatient,{CIP},CIP1,P1\nperson,{CIP},CANARY,P2\n")
    assert main(["identities", "import", str(tmp_path / "known.csv"), "--settings", settings]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path / 'known.csv'}:3: kind is none of patient, visit, coverage, appointment, result" in err
    assert "1 row is wrong, nothing was imported" in err
    assert "CANARY" not in err
    assert not (tmp_path / "ledger.sqlite").exists()


def test_a_partner_id_that_is_replaced_is_named_by_its_line(
    tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "known.csv"
    words = ["identities", "import", str(file), "--settings", settings]
    file.write_text(f"{HEAD}\npatient,{CIP},CIP1,P1\npatient,{CIP},CIP2,P2\npatient,{CIP},CIP3,\n")
    assert main(words) == 0
    assert "replaced" not in capsys.readouterr().out
    file.write_text(f"{HEAD}\npatient,{CIP},CIP1,P1\npatient,{CIP},CIP2,CANARY\npatient,{CIP},CIP3,P3\n")
    assert main(words) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "3 identities of roche read, 2 new or changed",
        f"1 of them replaced another partner id of a known patient: line 3 of {file}",
    ]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "first line"),
        ("kind,system,value\n", 1, "first line"),
        (f"{HEAD}\npatient,s,v\n", 2, "3 columns"),
        (f"{HEAD}\npatient,,v,\n", 2, "system is empty"),
        (f"{HEAD}\npatient,s, ,p\n", 2, "value is empty"),
        (f"{HEAD}\npatient,s,v,p\npatient,s,v,q\n", 3, "same identity as in line 2"),
        (f'{HEAD}\npatient,s,"v,p\n', 2, "not CSV"),
        (f"{HEAD}\npatient,s,v\x00,p\n", 2, "control character"),
    ],
)
def test_each_mistake_is_named_with_its_line(text: str, line: int, what: str) -> None:
    rows, ((number, sentence),) = read(text.splitlines())
    assert number == line
    assert what in sentence
    assert len(rows) <= 1


def test_what_is_forgotten_is_created_again_and_the_log_says_who_without_a_value(
    tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "nurse-it")
    (tmp_path / "known.csv").write_text(f"{HEAD}\npatient,{CIP},CIP1,P1\npatient,{CIP},CIP2,\n")
    (tmp_path / "gone.csv").write_text(f"kind,system,value\npatient,{CIP},CIP1\n")
    assert main(["identities", "import", str(tmp_path / "known.csv"), "--settings", settings]) == 0
    capsys.readouterr()
    assert main(["identities", "forget", str(tmp_path / "gone.csv"), "--why", "asked", "--settings", settings]) == 0
    told = capsys.readouterr()
    assert "1 identity of roche forgotten" in told.out
    line = json.loads(told.err)
    assert (line["event"], line["identities"], line["by"]) == ("identities_forgotten", 1, "nurse-it")
    assert "CIP1" not in told.out + told.err
    assert main(["identities", "export", "--settings", settings]) == 0
    assert PSEUDONYMS.hash("identity", "patient", CIP, "CIP1") not in capsys.readouterr().out


def test_who_is_not_known_is_not_forgotten_and_neither_is_anybody_else(
    tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "known.csv").write_text(f"{HEAD}\npatient,{CIP},CIP1,P1\n")
    (tmp_path / "gone.csv").write_text(f"{HEAD}\npatient,{CIP},CIP1,\npatient,{CIP},CANARY,\n")
    assert main(["identities", "forget", str(tmp_path / "gone.csv"), "--why", "asked", "--settings", settings]) == 2
    assert "nothing has run yet" in capsys.readouterr().err
    assert main(["identities", "import", str(tmp_path / "known.csv"), "--settings", settings]) == 0
    assert main(["identities", "forget", str(tmp_path / "gone.csv"), "--why", "asked", "--settings", settings]) == 4
    err = capsys.readouterr().err
    assert f"{tmp_path / 'gone.csv'}:3: roche is not known to have it" in err
    assert "CANARY" not in err
    assert main(["identities", "export", "--settings", settings]) == 0
    assert "P1" in capsys.readouterr().out


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside one of the kind's name"])
def test_what_is_imported_and_forgotten_is_the_named_partners_whatever_its_kind(
    tmp_path: Path, settings: str, capsys: pytest.CaptureFixture[str], *, beside: bool
) -> None:
    """By the kind's name it would be another partner's, and the worker would create the patients again."""
    tree = yaml.safe_load(Path(settings).read_text())
    tree["partners"]["clinic"] = tree["partners"]["roche"] if beside else tree["partners"].pop("roche")
    tree["routes"]["roche-patients"]["partner"] = "clinic"
    Path(settings).write_text(yaml.safe_dump(tree))
    (tmp_path / "known.csv").write_text(f"{HEAD}\npatient,{CIP},CIP1,P1\n")

    def call(*words: str) -> str:
        assert main(["identities", *words, "--partner", "clinic", "--json", "--settings", settings]) == 0
        return capsys.readouterr().out

    assert json.loads(call("import", str(tmp_path / "known.csv")))["partner"] == "clinic"
    assert json.loads(call("export"))["partner_id"] == "P1"
    ledger = SqlLedger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", PSEUDONYMS)
    assert [len(list(ledger.export_identities(name))) for name in ("clinic", "roche")] == [1, 0]
    ledger.close()
    assert json.loads(call("forget", str(tmp_path / "known.csv"), "--why", "asked")) == {"partner": "clinic", "forgotten": 1}
    assert call("export") == ""


def test_semicolons_do_as_well() -> None:
    rows, wrong = read([HEAD.replace(",", ";"), f"patient;{CIP};CIP1;"])
    assert ([(line, row.partner_id) for line, row in rows], wrong) == ([(2, None)], [])


ROW = "patient,https://fhir.njsams.rutgers.edu/NJSAMS-fhir/client-id,C-1,8d5802a8"


@pytest.mark.parametrize(
    ("unders", "said", "under"),
    [
        (frozenset(), "", ""),
        (frozenset(), ",123456", None),
        (frozenset({"123456"}), "", "123456"),
        (frozenset({"123456", "234567"}), ",234567", "234567"),
        (frozenset({"123456", "234567"}), "", None),
        (frozenset({"123456"}), ",999999", None),
    ],
)
def test_a_row_stands_under_a_provider_that_messages_come_from_or_is_refused(
    unders: frozenset[str], said: str, under: str | None
) -> None:
    head = f"{HEAD},under" if said else HEAD
    rows, wrong = placed(*read([head, f"{ROW}{said}"]), unders)
    assert [row.identity.under for _, row in rows] == ([] if under is None else [under])
    assert [line for line, _ in wrong] == ([2] if under is None else [])


def test_a_partner_that_is_not_there_is_one_line(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["identities", "export", "--partner", "roqua", "--settings", settings]) == 2
    assert "there is roche" in capsys.readouterr().err
