"""A partner whose records come by an upsert key of ours, with a token for each dossier: answers lost, connections closed, a worker killed.

The oracle is the stand-in's own log: each response made once, and then exactly the versions that the messages brought, in their order.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest

from pipeline.sandbox.log import CREATED, NOTHING
from pipeline.trial import invariants
from pipeline.trial.invariants import Evidence
from pipeline.trial.traffic import Message, Patient, Traffic, when
from schemas.outcomes import State
from tests.faults.conftest import THOROUGH
from tests.faults.hospital import Hospital

Seen = Callable[[str], None]
NAME = "roqua-responses"
DOSSIERS, RESULTS, VERSIONS = 5, 2, 3
RULES = (invariants.conservation, invariants.no_loss, invariants.told, invariants.committed, invariants.silence)
"""Those that need no bundle id: RoQua's REST API has none."""


@pytest.fixture
def rom(make_hospital: Callable[[], Hospital]) -> Hospital:
    hospital = make_hospital()
    hospital.rom(latency=0.005)
    return hospital


def oru(patient: Patient, minute: int, number: int, version: int) -> bytes:
    """A questionnaire of a patient, or its correction: the answer to the first question says which."""
    has, at = patient.canaries, when(minute)
    status = "C" if version else "F"
    obr = ["OBR", "1", "", f"{has['visit']}-{number}^EPD", "OQ45", "", "", at, *[""] * 17, status]
    segments = [
        f"MSH|^~\\&|EPD|CLINIC|EMR|PIPELINE|{at}||ORU^R01|R{patient.number:04}{minute:05}|P|2.5.1",
        f"PID|1||{patient.name}^^^ZGDEMO^PI||{has['family name']}^{has['given name']}^^^^^L||{patient.birth}|F",
        "|".join(obr),
        f"OBX|1|NM|OQ45_1||{version}||||||{status}",
        f"OBX|2|NM|OQ45_2||{number}||||||{status}",
    ]
    return "\r".join(segments).encode()


def seeded(seed: int) -> Traffic:
    """Each dossier's questionnaires with their corrections, mixed with those of the others."""
    random_ = random.Random(seed)
    people = tuple(Patient(number, seed) for number in range(DOSSIERS))
    lines = [[(one, number, version) for version in range(VERSIONS)] for one in people for number in range(RESULTS)]
    messages: list[Message] = []
    while any(lines):
        patient, number, version = random_.choice([line for line in lines if line]).pop(0)
        minute = len(messages)
        value = oru(patient, minute, number, version)
        messages.append(Message(value, patient.name.encode(), patient.name, minute, "R01", State.DELIVERED))
    return Traffic(tuple(messages), people)


def versions(evidence: Evidence) -> dict[tuple[str, str], list[int]]:
    """Of each response, by dossier and external_id, what it said after each effect; the same once more is the same."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for one in evidence.effects:
        for part in one.written:
            key = (str(part.resource["dossier"]), str(part.resource["external_id"]))
            found[key].append(part.resource["values"]["v_1"])
    return {key: [version for version, _ in groupby(told)] for key, told in found.items()}


def made(evidence: Evidence) -> Counter[tuple[str, str]]:
    """How often each response was made."""
    return Counter(
        (str(part.resource["dossier"]), str(part.resource["external_id"]))
        for one in evidence.effects
        for part in one.written
        if part.effect == CREATED
    )


def judged(hospital: Hospital, traffic: Traffic) -> Evidence:
    """One effect for each message, in order, each response made once, all told, nothing seen."""
    evidence = hospital.evidence(NAME)
    assert [violation for rule in RULES for violation in rule(evidence)] == []
    assert evidence.states == Counter({State.DELIVERED: len(traffic.messages)}), Counter(one.reason for one in evidence.results)
    assert sorted(versions(evidence).values()) == [list(range(VERSIONS))] * (DOSSIERS * RESULTS)
    assert set(made(evidence).values()) == {1}
    return evidence


@pytest.mark.fault("none", "each response is made once and then corrected, by a token of its own dossier")
def test_each_response_is_made_once(rom: Hospital, seed: int, seen: Seen) -> None:
    traffic = seeded(seed)
    rom.fill(traffic)
    assert rom.drain() == 0, rom.logs()
    evidence = judged(rom, traffic)
    assert sum(one.effect != NOTHING for one in evidence.effects) == len(traffic.messages)
    seen(f"{len(traffic.messages)} messages, {rom.partners[NAME].requests} requests")


FAULTS: dict[str, dict[str, Any]] = {
    "commit_then_drop": {"every": 3},
    "drop": {"every": 3},
    "truncated": {"every": 3},
    "502": {"every": 3},
    "503": {"every": 3},
    "401": {"every": 4},
    "close_idle": {"every": 2},
}
"""Each strikes so many of the requests."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "commit_then_drop" else THOROUGH) for name in FAULTS])
@pytest.mark.fault(
    "F1, F2, F5, F9, F11 at RoQua", "nothing is lost, nothing made twice: what is in doubt is sent again under its external_id"
)
def test_answers_that_are_lost_or_bad(rom: Hospital, seed: int, name: str, seen: Seen) -> None:
    traffic = seeded(seed)
    rom.fill(traffic)
    rom.partners[NAME].inject(name, next=9, **FAULTS[name])
    assert rom.drain() == 0, rom.logs()
    evidence = judged(rom, traffic)
    struck = sum(one.fault == name for one in evidence.effects)
    assert struck
    seen(f"{name}: {struck} of {rom.partners[NAME].requests} requests struck")


@THOROUGH
@pytest.mark.fault("F1 at RoQua, no upsert", "where a repeated POST would make a second response, a PUT finds the lost one")
def test_a_lost_post_is_looked_for_where_posts_do_not_repeat(rom: Hospital, seed: int, seen: Seen) -> None:
    traffic = seeded(seed)
    rom.set(NAME, upsert=False)
    rom.partners[NAME].set(create_again="twice")
    rom.fill(traffic)
    rom.partners[NAME].inject("commit_then_drop", operation="create", next=4, every=2)
    assert rom.drain() == 0, rom.logs()
    evidence = judged(rom, traffic)
    found = sum(one.confirmed_by == "probe" for one in evidence.results)
    assert found
    seen(f"{found} found by a PUT")


@pytest.mark.once
@pytest.mark.fault(
    "the checker", "where a repeated POST makes a second response, and the settings say that it does not, the oracle sees it"
)
def test_a_tenant_whose_posts_repeat_under_the_wrong_setting_shows(rom: Hospital, seed: int, seen: Seen) -> None:
    rom.partners[NAME].set(create_again="twice")
    rom.fill(seeded(seed))
    rom.partners[NAME].inject("commit_then_drop", operation="create", next=1)
    assert rom.drain() == 0, rom.logs()
    twice = [key for key, number in made(rom.evidence(NAME)).items() if number > 1]
    assert len(twice) == 1
    seen("made twice, and seen")


@pytest.mark.fault("R1 at RoQua", "killed in mid-stream, each response is made once")
def test_a_worker_that_is_killed_in_mid_stream(rom: Hospital, seed: int, seen: Seen) -> None:
    traffic = seeded(seed)
    rom.fill(traffic)
    rom.partners[NAME].set(latency=0.05)
    worker = rom.start("--drain")
    rom.until(lambda: rom.partners[NAME].requests >= 5)
    rom.crash(worker)
    assert rom.drain() == 0, rom.logs()
    judged(rom, traffic)
    seen(f"{len(traffic.messages)} messages, {rom.partners[NAME].requests} requests, killed once")
