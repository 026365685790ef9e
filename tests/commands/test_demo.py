"""The demo ends as its traffic was made for, at all three partners."""

import json
from pathlib import Path

import pytest

from pipeline.cli import main


def test_the_clinics_messages_end_as_expected_at_all_partners_and_come_back_from_roqua(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--folder", str(tmp_path / "demo"), "--messages", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["as_expected"], told["unexpected"]) == (True, [])
    at_njsams = told["routes"]["njsams-clients"]
    assert at_njsams["partner"]["created"] == {"Coverage": 6, "Encounter": 12, "Patient": 6}
    assert at_njsams["partner"]["created_twice"] == {"Coverage": 0, "Encounter": 0, "Patient": 0}
    assert at_njsams["states"]["delivered"] == 24
    at_roqua = told["routes"]["roqua-honos"]
    assert at_roqua["partner"] == {"created": {"Response": 6}, "created_twice": {"Response": 0}, "updated": {"Response": 3}}
    assert told["read_back"]["lost"] == 0
    assert told["read_back"]["answers"] >= 6 * 19
