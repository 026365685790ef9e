"""A partner with tokens, who keeps visits and coverages by themselves and shows what was written only later: the whole chain with faults on it.

Faults are drawn for every request; when they are over, all must be told, once, in order, and nothing made twice.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.sandbox.log import CREATED
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from pipeline.trial.clinic import seeded
from pipeline.trial.invariants import violations
from schemas.outcomes import State
from tests.faults.conftest import THOROUGH
from tests.faults.hospital import Hospital

Seen = Callable[[str], None]
NAME = "njsams"


@pytest.fixture
def clinic(make_hospital: Callable[[], Hospital]) -> Hospital:
    hospital = make_hospital()
    hospital.clinic()
    return hospital


def njsams(hospital: Hospital) -> NjsamsSandbox:
    partner = hospital.partners[NAME]
    assert isinstance(partner, NjsamsSandbox)
    return partner


def made(hospital: Hospital) -> Counter[str]:
    """How many of each sort the partner made."""
    return Counter(part.type for one in njsams(hospital).log for part in one.written if part.effect == CREATED)


@pytest.mark.fault("none", "a patient, a visit and a coverage are made once each, and kept up to date")
def test_each_client_visit_and_coverage_is_made_once(clinic: Hospital, seed: int, seen: Seen) -> None:
    traffic = seeded(seed)
    clinic.fill(traffic)
    assert clinic.drain() == 0, clinic.logs()
    evidence = clinic.evidence(NAME)
    assert violations(evidence) == []
    assert evidence.states == Counter({State.DELIVERED: len(traffic.messages)}), Counter(one.reason for one in evidence.results)
    assert made(clinic) == {"Patient": 8, "Encounter": 16, "Coverage": 8}
    seen(f"{len(traffic.messages)} messages, {njsams(clinic).requests} requests")


FAULTS: dict[str, dict[str, Any]] = {
    "commit_then_drop": {"every": 4, "operation": "create"},
    "drop": {"every": 4, "operation": "create"},
    "truncated": {"every": 4, "operation": "create"},
    "503": {"every": 3},
    "401": {"every": 4},
}
"""Each strikes so many of the requests; what leaves an outcome unknown only creates, since an update of unknown outcome waits for a minute."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "commit_then_drop" else THOROUGH) for name in FAULTS])
@pytest.mark.fault(
    "F1, F2, F9 at NJSAMS", "nothing is lost, nothing made twice; a lost create is found by a search after the lag"
)
def test_answers_that_are_lost_or_bad(clinic: Hospital, seed: int, name: str, seen: Seen) -> None:
    traffic = seeded(seed)
    clinic.fill(traffic)
    njsams(clinic).inject(name, next=9, **FAULTS[name])
    assert clinic.drain() == 0, clinic.logs()
    evidence = clinic.evidence(NAME)
    assert violations(evidence) == []
    assert evidence.states == Counter({State.DELIVERED: len(traffic.messages)}), Counter(one.reason for one in evidence.results)
    assert made(clinic) == {"Patient": 8, "Encounter": 16, "Coverage": 8}
    struck = sum(one.fault == name for one in evidence.effects)
    assert struck
    seen(f"{name}: {struck} of {njsams(clinic).requests} requests struck")


@pytest.mark.once
@pytest.mark.fault("the checker", "a search before the lag is over finds nothing, and the second create shows")
def test_who_searches_too_early_creates_twice_and_the_checker_says_so(clinic: Hospital, seed: int, seen: Seen) -> None:
    clinic.fill(seeded(seed))
    clinic.set(NAME, visibility_hours=0, probe_margin=0)
    njsams(clinic).set(visible_after_hours=24)
    njsams(clinic).inject("commit_then_drop", operation="create", next=1)
    assert clinic.drain() == 0, clinic.logs()
    found = clinic.violations(NAME)
    assert sorted({line.split()[0] for line in found if line.endswith("was created 2 times")}) == [
        "Coverage",
        "Encounter",
        "patient",
    ]
    seen(f"{len(found)} violations")


@pytest.mark.fault("R1 at NJSAMS", "killed where messages are two requests each, nothing is made twice")
def test_a_worker_that_is_killed_in_mid_stream(clinic: Hospital, seed: int, seen: Seen) -> None:
    traffic = seeded(seed)
    clinic.fill(traffic)
    njsams(clinic).set(latency=0.02)
    worker = clinic.start("--drain")
    clinic.until(lambda: len(njsams(clinic).log.effects(effect="updated")) >= 3)
    clinic.crash(worker)
    assert clinic.drain() == 0, clinic.logs()
    evidence = clinic.evidence(NAME)
    assert violations(evidence) == []
    assert evidence.states == Counter({State.DELIVERED: len(traffic.messages)})
    assert made(clinic) == {"Patient": 8, "Encounter": 16, "Coverage": 8}
    seen(f"{len(traffic.messages)} messages, {njsams(clinic).requests} requests, killed once")
