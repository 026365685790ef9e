"""Every public sample has a result or a typed reason, and of those with a patient under 1 % fail for reasons that are ours.

The samples are of hospitals that Roche does not know; so a site overlay is made here that gives their assigning authorities a system
that it takes, and training messages and old rows of the events table are let through: what is left is what the program itself does.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import offline, wiring
from pipeline.errors import Parked
from pipeline.hl7.batch import split
from pipeline.hl7.er7 import parse
from pipeline.hl7.event import typed
from pipeline.model import Outcome, Packed
from pipeline.stages.plan import Plan
from schemas.event import Event
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import settings_with

SAMPLES = Path(os.environ.get("EMR_SHARED", Path(__file__).parents[2] / "shared")) / "hl7-samples"
MESSAGES = [
    message
    for file in sorted(SAMPLES.rglob("*"))
    if file.is_file() and file.name != "README.md"
    for message in split(file.read_bytes())
]
NOT_OURS = {
    Reason.NOT_HL7: "the file holds no message",
    Reason.EVENT_MISSING: "no trigger event in the message",
    Reason.PATIENT_MISSING: "no patient identifier in the message",
    Reason.EVENT_UNLISTED: "a message type that is no ADT, or none of the standard",
    Reason.PROFILE_REQUIRED: "no family or given name in the message, which Roche demands",
    Reason.PROFILE_INVALID: "an identifier longer than Roche takes",
    Reason.SEVERAL_PATIENTS: "several patients in one message",
    Reason.MERGE_CYCLE: "the message merges a patient into itself",
}
"""Reasons that lie in the message."""
OURS = {Reason.MAPPING_FAILED, Reason.MAPPING_DEADLINE, Reason.FHIR_INVALID, Reason.IDENTIFIER_SYSTEM, Reason.CHARSET}

pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="the public samples are not here (EMR_SHARED names the folder that has hl7-samples)"
)


def events() -> Iterator[Event]:
    for message in MESSAGES:
        try:
            yield typed(parse(message, charset="UTF-8"), zone="UTC")[0]
        except Parked:
            continue


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return wiring.plan_offline(settings_with(overlaid(tmp_path_factory)), "roche-patients")


@pytest.fixture(scope="module")
def appointments(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    lay = overlaid(tmp_path_factory, "identifier-systems-medmij")

    def change(tree: dict[str, Any]) -> None:
        lay(tree)
        tree["partners"]["medmij"] = {"kind": "medmij", "organization": {"name": "Samples"}}
        tree["routes"]["medmij-appointments"] = {"partner": "medmij", "source": "his.siu", "start": "earliest"}

    return wiring.plan_offline(settings_with(change), "medmij-appointments")


def overlaid(tmp_path_factory: pytest.TempPathFactory, table: str = "identifier-systems") -> Callable[[dict[str, Any]], None]:
    """A site that knows every authority of the samples."""
    mappings = tmp_path_factory.mktemp("mappings") / "mappings"
    shutil.copytree(wiring.MAPPINGS, mappings)
    identifiers = [identifier for event in events() if event.patient for identifier in event.patient.identifiers]
    authorities = {str(one) for identifier in identifiers for one in (identifier.authority, identifier.authority_oid) if one}
    types = {str(identifier.type or "none") for identifier in identifiers}
    folded = [
        ("authority", {one.upper().strip() for one in authorities}),
        ("oid", {one.removeprefix("urn:oid:") for one in authorities}),
        ("type", types),
    ]
    rows = [
        {"system": system, "code": code, "to": "urn:oid:2.16.724.4.41"}
        for system, codes in folded
        for code in sorted(codes)
        if code.strip()
    ]
    site = mappings / "sites" / "samples" / "codes"
    site.mkdir(parents=True)
    (site / f"{table}.yaml").write_text(yaml.safe_dump({"table": table, "means": "all", "source": "the samples", "rows": rows}))

    def change(tree: dict[str, Any]) -> None:
        tree["mappings"] = mappings
        tree["site"] |= {"overlay": "samples", "processing_ids": ["P", "T", "D", ""]}

    return change


def test_every_public_sample_is_mapped_filtered_or_parked_for_a_reason_that_lies_in_it(plan: Plan) -> None:
    ends: Counter[str] = Counter()
    ours: list[Reason] = []
    for message in MESSAGES:
        converted = offline.convert(message, plan)
        if isinstance(converted, Packed):
            ends["mapped"] += 1
            continue
        assert isinstance(converted, Outcome)
        ends[converted.state] += 1
        assert converted.reason is not None
        if converted.state is State.PARKED and converted.reason not in NOT_OURS:
            ours.append(converted.reason)
    usable = ends["mapped"] + ends["filtered"] + len(ours)
    assert ends["mapped"] > 100
    assert len(ours) < usable / 100


def test_every_public_sample_becomes_an_appointment_or_says_why_it_does_not(appointments: Plan) -> None:
    ends: Counter[tuple[str, Reason | None]] = Counter()
    for message in MESSAGES:
        converted = offline.convert(message, appointments)
        if isinstance(converted, Packed):
            ends["mapped", None] += 1
        else:
            ends[converted.state, converted.reason] += 1
    assert ends["mapped", None] >= 2
    assert [reason for state, reason in ends if reason in {Reason.MAPPING_FAILED, Reason.MAPPING_DEADLINE, Reason.DEFECT}] == []
    assert sum(count for (_, reason), count in ends.items() if reason) + ends["mapped", None] == len(MESSAGES)
