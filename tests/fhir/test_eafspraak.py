"""Nictiz's own profiles, by HAPI's validator: no error on any appointment of the golden pairs and all that it refers to; and it does find what is wrong.

It runs where test_hapi.py does, and the profiles are (a folder `fhir` beside the oracle).
"""

import copy
import json
import subprocess
from typing import Any

import pytest

from tests.fhir.golden import MAPPINGS
from tests.fhir.test_hapi import MISSING, ORACLE, PROJECT, SHARED

PROFILES = SHARED / "fhir"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING) or not PROFILES.is_dir(), reason="HAPI's validator or Nictiz's profiles are not here"),
]


def sent() -> dict[str, dict[str, Any]]:
    """The bundle of each pair, with an address for each resource: in a searchset they have one."""
    found = {}
    for path in sorted((MAPPINGS / "medmij" / "golden").glob("*.json")):
        requests = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(requests, list) and requests[0]["body"]:  # a merge has none
            found[path.stem] = addressed(requests[0]["body"])
    return found


def addressed(bundle: dict[str, Any]) -> dict[str, Any]:
    entries = [(entry["resource"], f"https://xis.example/fhir/{entry['resource']['resourceType']}") for entry in bundle["entry"]]
    return bundle | {"entry": [{"fullUrl": f"{base}/{one['id']}", "resource": one} for one, base in entries]}


def judged(bundles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps(one) + "\n" for one in bundles)
    command = [str(part) for part in (ORACLE, PROJECT / ".cache" / "oracle", "stu3", "--profiles", PROFILES)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def errors(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    return [error for error in verdict["errors"] if error["severity"] in {"error", "fatal"}]


def test_hapi_has_no_error_on_any_appointment_in_the_dutch_profiles_and_finds_what_breaks_them() -> None:
    good = sent()
    broken = copy.deepcopy(good["s12-book"])
    del broken["entry"][0]["resource"]["identifier"]
    blank = copy.deepcopy(good["s12-book"])
    blank["entry"][1]["resource"]["address"][0]["postalCode"] = "3511 AB"

    *verdicts, without_identifier, with_a_blank = judged([*good.values(), broken, blank])

    assert len(good) > 50
    assert {name: found for name, verdict in zip(good, verdicts, strict=True) if (found := errors(verdict))} == {}
    assert [error["code"] for error in errors(without_identifier)] == ["Validation_VAL_Profile_Minimum"]
    assert [error["code"] for error in errors(with_a_blank)] == ["nl-postal-code-pattern"]
