"""Seeded mistakes: each is one edit of the real mappings, and lint names its file and line. One table, read top to bottom."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.templates.lint import Rule, lint

MAPPINGS = Path(__file__).parents[2] / "mappings"


class Edit(NamedTuple):
    rule: Rule
    file: str
    old: str
    new: str
    offset: int = 0
    """Lines from the edited text to the line that must be named."""
    told_in: str | None = None
    """The file that must be named, where it is another one; `old_there` finds the line."""
    old_there: str = ""


PATIENT, HEADER, CONDITION, MACROS = (f"roche/{name}.json.j2" for name in ("patient", "message-header", "condition", "macros"))
GENDER, DIABETES, SYSTEMS = (f"codes/{name}.yaml" for name in ("gender", "diabetes-type", "identifier-systems"))
EVENTS, MAPPING = "events.yaml", "roche/mapping.yaml"
CLIENT = "njsams/patient.json.j2"
SITE_GENDER = "sites/demo/codes/gender.yaml"

EDITS = [
    # FHIR elements
    Edit(Rule.UNKNOWN_ELEMENT, PATIENT, '"birthDate":', '"birthdate":'),
    Edit(Rule.UNKNOWN_ELEMENT, MACROS, '{"family":', '{"familyName":'),
    Edit(Rule.UNKNOWN_ELEMENT, HEADER, '"software":', '"sofware":'),
    Edit(Rule.UNKNOWN_ELEMENT, CONDITION, '"resourceType": "Condition"', '"resourceType": "Conditions"'),
    Edit(Rule.UNKNOWN_ELEMENT, GENDER, "element: Patient.gender", "element: Patient.sex"),
    Edit(Rule.MISSING_ELEMENT, CONDITION, '  "subject": {"reference": {{ partner.patient_reference }}},\n', "", -10),
    Edit(Rule.MISSING_ELEMENT, HEADER, '    "endpoint": {{ partner.endpoint }},\n', "", -1),
    Edit(Rule.DUPLICATE_KEY, PATIENT, '  "active": true,', '  "active": true, "x": 1,\n  "active": false,', 1),
    Edit(
        Rule.WRONG_SHAPE,
        PATIENT,
        '"name": [{{ XPN_HumanName((patient.names | prefer("L", "D", "")).first) }}]',
        '"name": {"family": "x"}',
    ),
    Edit(Rule.WRONG_SHAPE, CONDITION, '"clinicalStatus": "active"', '"clinicalStatus": ["active"]'),
    Edit(Rule.WRONG_SHAPE, PATIENT, '"active": true', '"active": "true"'),
    Edit(
        Rule.WRONG_SHAPE,
        PATIENT,
        '"managingOrganization": {"reference": {{ partner.managing_organization }}}',
        '"managingOrganization": {{ partner.managing_organization }}',
    ),
    Edit(
        Rule.CHOICE,
        PATIENT,
        '  "active": true,',
        '  "active": true, "deceasedBoolean": false,\n  "deceasedDateTime": {{ patient.death.datetime }},',
        1,
    ),
    Edit(
        Rule.REFERENCE,
        CONDITION,
        '"subject": {"reference": {{ partner.patient_reference }}}',
        '"subject": {"reference": "Practitioner/1"}',
    ),
    Edit(
        Rule.REFERENCE,
        PATIENT,
        '{"reference": {{ partner.managing_organization }}}',
        '{"reference": {{ "Patient/" ~ partner.patient_id }}}',
    ),
    # bindings
    Edit(Rule.BINDING, CONDITION, '"clinicalStatus": "active"', '"clinicalStatus": "actief"'),
    Edit(Rule.BINDING, MACROS, '"mobile" if', '"mobiel" if'),
    Edit(Rule.BINDING, PATIENT, 'XTN_ContactPoint(telecom, "work")', 'XTN_ContactPoint(telecom, "werk")'),
    Edit(Rule.BINDING, GENDER, "to: female}", "to: vrouw}"),
    Edit(Rule.BINDING, SITE_GENDER, "{code: MAN, to: male}", "{code: MAN, to: man}"),
    Edit(Rule.BINDING, SYSTEMS, '"urn:oid:2.16.724.4.41", means', '"urn:oid:2.16.724.4.041", means'),
    # expressions
    Edit(Rule.UNKNOWN_FIELD, PATIENT, "patient.gender |", "patient.gendr |"),
    Edit(Rule.UNKNOWN_FIELD, PATIENT, "patient.birth.date", "patient.birth.day"),
    Edit(Rule.UNKNOWN_FIELD, MACROS, "name.own_prefix, name", "name.own_prefx, name"),
    Edit(Rule.UNKNOWN_FIELD, MACROS, "telecom.equipment not in", "telecom.equipement not in"),
    Edit(Rule.UNKNOWN_FIELD, CONDITION, "concept.display", "concept.text"),
    Edit(Rule.UNKNOWN_FIELD, HEADER, "partner.software_version", "partner.version"),
    Edit(Rule.UNKNOWN_FIELD, PATIENT, "for telecom in patient.home_telecoms", "for telecom in patient.home_telecom"),
    Edit(Rule.UNKNOWN_FIELD, PATIENT, "patient.birth.date", 'hl7("PID.7")'),
    Edit(Rule.UNKNOWN_NAME, PATIENT, "patient.birth.date", "patiënt.birth.date"),
    Edit(Rule.UNKNOWN_NAME, MACROS, "telecom.email | email", "telcom.email | email"),
    Edit(Rule.UNKNOWN_FILTER, HEADER, "event.message_time | instant or", "event.message_time | instnt or"),
    Edit(Rule.UNKNOWN_MACRO, PATIENT, "{{ CX_Identifier(identity) }}", "{{ CX_Identifer(identity) }}"),
    Edit(Rule.UNKNOWN_MACRO, PATIENT, "import CX_Identifier,", "import CX_Identifyer,"),
    Edit(Rule.UNKNOWN_TABLE, PATIENT, 'code("gender")', 'code("sex")'),
    Edit(Rule.WRONG_ARGUMENT, PATIENT, 'XTN_ContactPoint(telecom, "home")', "XTN_ContactPoint(telecom)"),
    Edit(Rule.WRONG_ARGUMENT, CONDITION, 'diagnoses | diagnosis("diabetes-type")', 'coverages | diagnosis("diabetes-type")'),
    Edit(Rule.WRONG_ARGUMENT, PATIENT, "for telecom in patient.home_telecoms", "for telecom in patient.gender"),
    Edit(Rule.WHOLE_VALUE, PATIENT, "{{ patient.birth.date }}", "{{ patient.birth }}"),
    # the template itself
    Edit(Rule.QUOTES, PATIENT, "{{ patient.birth.date }}", '"{{ patient.birth.date }}"'),
    Edit(Rule.QUOTES, HEADER, '"New bundle generated"', '"New bundle [generated]"'),
    Edit(Rule.SYNTAX, PATIENT, "{{ patient.birth.date }}", "{{ patient.birth.date }"),
    Edit(Rule.SYNTAX, PATIENT, "{% from", '{% include "condition.json.j2" %}{% from'),
    Edit(Rule.NOT_JSON, HEADER, '"code": "new-bundle",', '"code": "new-bundle"', 1),
    Edit(Rule.NOT_JSON, PATIENT, '"active": true,', '"active" true,'),
    Edit(
        Rule.NOT_JSON,
        PATIENT,
        "{{ CX_Identifier(identity) }},",
        "{{ CX_Identifier(identity) }}",
        told_in=MACROS,
        old_there='{"system": {{ identity.system',
    ),
    # code tables, events, the mapping
    Edit(Rule.YAML, GENDER, "{code: M, to: male}", "{code: M, too: male}"),
    Edit(Rule.YAML, GENDER, "{code: O, to: other, means: other}", "{code: F, to: other}"),
    Edit(Rule.YAML, GENDER, "ignore: [case]", "ignore: [case", 1),
    Edit(Rule.YAML, GENDER, "ignore: [case]", "ignore: [case]\nignore: [dots]", 1),
    Edit(Rule.YAML, DIABETES, "prefix: E11, to: type-2", "prefix: E11, to: type-3"),
    Edit(Rule.YAML, DIABETES, "{system: icd-10, prefix: E10", "{system: icd10, prefix: E10"),
    Edit(Rule.YAML, MAPPING, "fhir: STU3", "fhir: STU2"),
    Edit(Rule.YAML, MAPPING, "  - condition.json.j2", "  - conditions.json.j2", -3),
    Edit(Rule.UNUSED, MAPPING, "  - condition.json.j2\n", "", told_in=CONDITION),
    Edit(Rule.UNUSED, CLIENT, 'patient.language | code("language")', "patient.language", told_in="codes/language.yaml"),
    Edit(Rule.EVENTS, EVENTS, "events: [A14]", "events: [A15]", 4),
    Edit(Rule.EVENTS, EVENTS, "events: [A14], ", "events: [A08], "),
    Edit(Rule.EVENTS, EVENTS, "events: [A14]", "events: [A84]"),
    Edit(Rule.EVENTS, EVENTS, "{events: [A20], kind: fact", "{events: [A20], kind: facts"),
    Edit(Rule.EVENTS, EVENTS, "{events: [A20], kind", "{events: [A20], older: goes, kind"),
    Edit(Rule.EVENTS, EVENTS, "subject: appointment, older: goes,", "subject: appointment, older: parks,"),
    Edit(Rule.EVENTS, EVENTS, "{events: [A20], kind", "{events: [A20], class: P, kind"),
    Edit(Rule.EVENTS, EVENTS, "{events: [A20], kind", "{events: [A20], status: [final], kind"),
    Edit(
        Rule.EVENTS,
        EVENTS,
        "{events: [ORU^*, OUL^*, VXU^*], kind",
        "{events: [ORU^*, OUL^*, VXU^*], status: [F], kind",
        told_in=EVENTS,
        old_there="roche:",
    ),
    Edit(Rule.EVENTS, EVENTS, "roche:", "rochee:"),
    Edit(Rule.EVENTS, EVENTS, "[A18, A34, A40]", "[A18, A34]", told_in=EVENTS, old_there="roche:"),
    # overlays
    Edit(Rule.OVERLAY, SITE_GENDER, "{code: MAN, to: male}", "{code: M, to: male}"),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.rule}-{edit.file}-{edit.new[:30]!r}")
def test_a_seeded_mistake_is_found_at_its_line(edit: Edit, tmp_path: Path) -> None:
    folder = tmp_path / "mappings"
    shutil.copytree(MAPPINGS, folder, ignore=shutil.ignore_patterns("golden"))
    text = (folder / edit.file).read_text(encoding="utf-8")
    assert edit.old in text, "the mapping has changed: give this edit another text"
    (folder / edit.file).write_text(text.replace(edit.old, edit.new, 1), encoding="utf-8")
    line = 1 + text[: text.index(edit.old)].count("\n") + edit.offset
    told_in = edit.told_in or edit.file
    if edit.told_in is not None:
        there = (folder / told_in).read_text(encoding="utf-8")
        line = 1 + there[: there.index(edit.old_there)].count("\n")

    found = [(problem.rule, str(problem.file.relative_to(folder)), problem.line) for problem in lint(folder)]

    assert (edit.rule, told_in, line) in found, found


def test_the_mappings_as_they_are_have_no_problem() -> None:
    assert lint(MAPPINGS) == []


def test_a_template_that_nobody_lists_is_unused(tmp_path: Path) -> None:
    folder = shutil.copytree(MAPPINGS, tmp_path / "mappings")
    (folder / "roche" / "encounter.json.j2").write_text("{}\n")

    assert [(problem.file.name, problem.rule) for problem in lint(folder)] == [("encounter.json.j2", Rule.UNUSED)]


def test_an_overlay_that_replaces_nothing_is_told(tmp_path: Path) -> None:
    folder = shutil.copytree(MAPPINGS, tmp_path / "mappings")
    (folder / "sites" / "demo" / "roche").mkdir()
    (folder / "sites" / "demo" / "roche" / "patients.json.j2").write_text("{}\n")

    found = [(problem.file.name, problem.line, problem.rule) for problem in lint(folder)]

    assert ("patients.json.j2", 1, Rule.OVERLAY) in found


ADMISSIONS = """medmij:
  - {events: [A05, A14], kind: snapshot, subject: appointment, action: upsert}
  - {events: [A27, A38], kind: cancel, subject: appointment, only: known, action: upsert}
  - {events: [A08], kind: fact, subject: appointment, only: known, behind: hold, action: upsert, why: "no snapshot: older or not, it goes"}
  - {events: [A23], kind: cancel, subject: appointment, action: park, reason: merge_needs_rekey, why: "nothing of it goes"}
"""


def test_a_sites_row_from_before_older_goes_is_told_in_one_line_unless_it_says_what_it_means(tmp_path: Path) -> None:
    """Seen to fail without _lacks_older (pipeline/templates/lint/folder.py), without its kinds, and without says_older."""
    folder = shutil.copytree(MAPPINGS, tmp_path / "mappings")
    site = folder / "sites" / "demo" / "events.yaml"
    site.write_text(ADMISSIONS)
    found = lint(folder)
    assert [(problem.file, problem.line, problem.rule) for problem in found] == [(site, line, Rule.OVERLAY) for line in (2, 3)]
    assert "A05, A14: the row lacks `older: goes`" in found[0].message
    site.write_text(ADMISSIONS.replace("appointment, action: upsert", "appointment, older: stale, action: upsert", 1))
    assert [problem.line for problem in lint(folder)] == [3]
    site.write_text(ADMISSIONS.replace("appointment, only: known, action", "appointment, only: known, older: goes, action"))
    assert [problem.line for problem in lint(folder)] == [2]


def test_an_overlay_is_checked_as_the_template_that_it_replaces(tmp_path: Path) -> None:
    folder = shutil.copytree(MAPPINGS, tmp_path / "mappings")
    (folder / "sites" / "demo" / "roche").mkdir()
    text = (folder / PATIENT).read_text().replace("patient.birth.date", "patient.brith.date")
    (folder / "sites" / "demo" / PATIENT).write_text(text)

    found = [(problem.file.parts[-4:], problem.rule) for problem in lint(folder)]

    assert (("sites", "demo", "roche", "patient.json.j2"), Rule.UNKNOWN_FIELD) in found
