"""The demo ends as its traffic was made for, at all three partners and for the patients."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_the_messages_end_as_expected_at_all_partners_and_come_back_from_roqua_and_for_patients_as_a_page(tmp_path: Path) -> None:
    """In a process of its own, so that the browser is what the environment names."""
    (tmp_path / "browser").write_text('printf %s "$1" > "$0.opened"')
    words = ["demo", "--folder", str(tmp_path / "demo"), "--messages", "0", "--json", "--open"]
    environment = os.environ | {"BROWSER": f"sh {tmp_path / 'browser'} %s"}
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *words], capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads(ended.stdout)
    assert (told["as_expected"], told["unexpected"]) == (True, [])
    at_njsams = told["routes"]["njsams-clients"]
    assert at_njsams["partner"]["created"] == {"Coverage": 6, "Encounter": 12, "Patient": 6}
    assert at_njsams["partner"]["created_twice"] == {"Coverage": 0, "Encounter": 0, "Patient": 0}
    assert at_njsams["states"]["delivered"] == 24
    at_roqua = told["routes"]["roqua-honos"]
    assert at_roqua["partner"] == {"created": {"Response": 6}, "created_twice": {"Response": 0}, "updated": {"Response": 3}}
    assert told["routes"]["medmij-appointments"]["states"]["delivered"] == 16
    assert told["read_back"]["appointments"] == {"patients": 5, "appointments": 12, "wrong": 0}
    assert told["read_back"]["lost"] == 0
    assert told["read_back"]["answers"] >= 6 * 19
    page = tmp_path / "demo" / "appointments.html"
    assert (tmp_path / "browser.opened").read_text() == page.as_uri()
    assert page.read_text().count("<tr") == 2 + 4
    assert page.stat().st_mode & 0o077 == 0
