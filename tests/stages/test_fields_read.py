"""The event is built of what is read: the same requests and the same outcome as with all of it, on every message, also while files change."""

import ast
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline
from pipeline import flow, offline, wiring
from pipeline.commands.test import changed
from pipeline.hl7.event import typed
from pipeline.model import Decoded, Finding, Knowledge, Mapped, Outcome, Packed, Routed
from pipeline.partners import results
from pipeline.partners.medmij import parts as medmij_parts
from pipeline.partners.njsams.partner import Njsams
from pipeline.settings import DEFAULTS, load_offline
from pipeline.stages.decode import READ_HERE
from pipeline.stages.plan import Plan
from pipeline.templates import catalogue as module
from pipeline.templates import golden
from pipeline.templates.catalogue import Catalogue
from pipeline.templates.reads import FIELDS
from schemas.event import Patient
from schemas.outcomes import FindingCode
from tests.delivery.partner_script import adt
from tests.stages.plans import received

LOADED = load_offline(DEFAULTS)
READ = re.compile(r"MSH|EVN-2|PID-(3|5|7|8|13|14)(?!\d)|DG1(\[\d+\])?-(2|3|6|21)(?!\d)")
"""Places that the program or Roche's templates read: what is wrong with them is always found."""
PAIRS = list(golden.pairs(wiring.MAPPINGS))


class Everything(Catalogue):
    """The same mappings, for which all of the event is built."""

    def fields(self, partner: str) -> None:
        super().fields(partner)


def plans(variant: Mapping[str, Any], partner: str = "roche") -> tuple[Plan, Plan]:
    """As it is, and with the whole event."""
    changes = {name: change for name, change in variant.items() if name not in {"known", "parts"}}
    key = partner, repr(sorted(changes.items()))
    if key not in MADE:
        route = next(name for name, each in LOADED.routes.items() if each.partner == partner)
        plan = wiring.plan_offline(changed(LOADED, partner, changes), route)
        MADE[key] = plan, replace(plan, catalogue=Everything(wiring.MAPPINGS, plan.site.overlay))
    return MADE[key]


MADE: dict[tuple[str, str], tuple[Plan, Plan]] = {}
"""Kept: compiling the mappings takes longer than all that is done with them."""


def told(converted: Packed | Outcome) -> Any:  # noqa: ANN401 - what is compared
    if isinstance(converted, Outcome):
        return converted.state, converted.reason, converted.where, converted.message
    return converted.requests, converted.mapped.findings, converted.mapped.identified.routed.findings


def noticed(converted: Packed | Outcome) -> tuple[Finding, ...]:
    decoded = converted.decoded if isinstance(converted, Outcome) else converted.mapped.identified.routed.decoded
    return decoded.findings if decoded else ()


def same(value: bytes, plan: Plan, whole: Plan, known: str | None = None, parts: Sequence[str | None] = ()) -> None:
    part, all_of_it = (offline.convert(value, one, known=known, parts=parts) for one in (plan, whole))
    assert told(part) == told(all_of_it)
    here, there = noticed(part), noticed(all_of_it)
    assert [one for one in here if one not in there and one.code is not FindingCode.ZONE_ASSUMED] == []
    missed = [one for one in there if one not in here and one.code is not FindingCode.ZONE_ASSUMED]
    assert [one for one in missed if READ.match(one.hl7 or "")] == []


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.message.stem)
def test_every_golden_pair_is_the_same_with_what_is_read_as_with_everything(pair: golden.Pair) -> None:
    given = pair.variant()
    same(pair.message.read_bytes(), *plans(given, pair.partner), given.get("known"), given.get("parts", ()))


PLAN, WHOLE = plans({})
VALUES = (
    *("20240502101530+0200", "19800203", "20240231", "202410270230", '""', "A", "F", "M", "L", "D", "E11.9^x^I10", "250.00^^I9C"),
    *(
        "1^^^CIP&2.16.724.4.41&ISO^PI",
        "2^^^LOCAL^MR",
        "Berg^Jo^^^^^L~B^J^^^^^N",
        "0612345678^PRN^CP~^NET^Internet^a@b.nl",
        "x\\S\\y",
    ),
)
VALUE = st.sampled_from(VALUES) | st.text(alphabet="aB1 é\\^&~.+@", max_size=8)
SEGMENT = st.builds(
    lambda name, fields: "|".join([name, *fields]),
    st.sampled_from(["PID", "MRG", "PV1", "PV2", "DG1", "IN1", "ZPI"]),
    st.lists(VALUE, max_size=34),
)
PID = st.builds(
    lambda fields: "|".join(["PID", "1", "", "1^^^CIP&2.16.724.4.41&ISO^PI", "", "Berg^Jo^^^^^L", "", *fields]),
    st.lists(VALUE, max_size=30),
)


@settings(max_examples=300)
@given(
    st.sampled_from(["A01", "A08", "A40", "A47", "A03"]), PID, st.lists(SEGMENT, max_size=6), st.sampled_from([None, "roche-1"])
)
def test_any_message_is_the_same_with_what_is_read_as_with_everything(
    event: str, pid: str, segments: list[str], known: str | None
) -> None:
    header = f"MSH|^~\\&|HIS|Z|E|P|20240502101530||ADT^{event}|1|P|2.5||||||UNICODE UTF-8"
    same("\r".join([header, f"EVN||{event}", pid, *segments]).encode(), PLAN, WHOLE, known)


def test_roches_event_has_no_address_visit_or_coverage() -> None:
    routed = flow.read(received(adt()), PLAN)
    assert isinstance(routed, Routed)
    event = routed.decoded.event
    assert isinstance(event.patient, Patient)
    assert {"visit", "coverages"} & set(event.__dict__) == set()
    assert {"addresses", "race", "death", "language"} & set(event.patient.__dict__) == set()


def changing(folder: Path) -> Plan:
    """A plan on mappings of its own, which can be changed."""
    shutil.copytree(wiring.MAPPINGS, folder / "mappings")
    return replace(PLAN, catalogue=Catalogue(folder / "mappings"))


def ask_for_the_death(folder: Path) -> None:
    path = folder / "mappings" / "roche" / "patient.json.j2"
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace('"birthDate": {{ patient.birth.date }}', '"birthDate": {{ patient.death.date }}'), encoding="utf-8"
    )


def birth_date(mapped: Mapped) -> object:
    return next(one for one in mapped.resources if one["resourceType"] == "Patient")["birthDate"]


DEAD = adt().rstrip(b"\r") + b"\rDG1|1\r"
DEAD = b"\r".join(
    line + b"|" * (29 - line.count(b"|")) + b"20260102|Y" if line[:3] == b"PID" else line for line in DEAD.split(b"\r")
)


def test_a_message_that_was_decoded_before_a_template_read_more_is_built_whole_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    plan = changing(tmp_path)
    routed = flow.read(received(DEAD), plan)
    assert isinstance(routed, Routed)
    assert "death" not in routed.decoded.event.patient.__dict__
    ask_for_the_death(tmp_path)
    packed = flow.prepare(routed, Knowledge(), plan)
    assert isinstance(packed, Packed), packed
    assert birth_date(packed.mapped) == "2026-01-02"
    assert packed.mapped.identified.routed.decoded.fields is None


def test_the_next_message_has_what_a_changed_template_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    plan = changing(tmp_path)
    assert isinstance(offline.convert(DEAD, plan), Packed)
    ask_for_the_death(tmp_path)
    packed = offline.convert(DEAD, plan)
    assert isinstance(packed, Packed)
    assert (birth_date(packed.mapped), packed.mapped.identified.routed.decoded.fields) == (
        "2026-01-02",
        plan.catalogue.fields("roche"),
    )


def test_places_are_not_told_by_a_mapping_that_reads_more_than_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    plan = changing(tmp_path)
    packed = offline.convert(DEAD, plan)
    assert isinstance(packed, Packed)
    assert offline.explain(packed, plan)["Patient.gender"] == "PID-8"
    ask_for_the_death(tmp_path)
    assert offline.explain(packed, plan) == {}


def test_a_broken_time_that_no_template_reads_is_not_found_and_stays_reachable_by_path() -> None:
    decoded: list[Decoded] = []
    for plan in (PLAN, WHOLE):
        routed = flow.read(received(DEAD.replace(b"20260102", b"20260231")), plan)
        assert isinstance(routed, Routed)
        decoded.append(routed.decoded)
    places = [[one.hl7 for one in each.findings if one.code is FindingCode.TIMESTAMP] for each in decoded]
    assert (places, decoded[0].hl7("PID-29")) == ([[], ["PID-29"]], "20260231")


def test_what_the_program_reads_of_an_event_by_itself_is_always_built() -> None:
    rooms = ("stages", "partners", "delivery", "ledger", "flow.py", "offline.py", "commands", "wiring.py")
    top = Path(pipeline.__file__).parent
    paths = [path for room in rooms for path in ([top / room] if room.endswith(".py") else (top / room).rglob("*.py"))]
    read = {
        node.attr
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"event", "patient", "merge"}
    }
    assert (read & FIELDS) - READ_HERE - Njsams.reads - results.READS - medmij_parts.READS == {
        "time"
    }  # the property: EVN-2, else MSH-7
    assert {"recorded", "message_time"} <= READ_HERE
    assert {"trigger", "identifiers", "others"} <= read
    assert typed(flow.read(received(adt()), PLAN).decoded.hl7, zone="UTC")  # type: ignore[union-attr,arg-type]  # a message can be typed anew
