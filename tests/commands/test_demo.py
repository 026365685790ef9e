"""The demo ends as its traffic was made for, at both partners."""

import json
from pathlib import Path

import pytest

from pipeline.cli import main


def test_the_clinics_messages_end_as_expected_at_both_partners(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--folder", str(tmp_path / "demo"), "--messages", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["as_expected"], told["unexpected"]) == (True, [])
    at_njsams = told["routes"]["njsams-clients"]
    assert at_njsams["partner"]["created"] == {"Coverage": 6, "Encounter": 12, "Patient": 6}
    assert at_njsams["partner"]["created_twice"] == {"Coverage": 0, "Encounter": 0, "Patient": 0}
    assert at_njsams["states"]["delivered"] == 24
