"""Which files count, what a version is, what happens when a file changes; the events table; the golden pairs."""

import shutil
from pathlib import Path

import pytest

from pipeline import offline
from pipeline.commands.test import converter
from pipeline.errors import SettingsError
from pipeline.model import Action, Kind, Outcome
from pipeline.settings import DEFAULTS, load, load_offline
from pipeline.stages.mapping import context_of
from pipeline.templates import catalogue as module
from pipeline.templates import golden
from pipeline.templates.catalogue import Catalogue
from pipeline.templates.events import ADT_EVENTS, RESULT_FIELDS, missing, read
from pipeline.templates.filters import filters_of
from pipeline.templates.lint import Rule
from pipeline.wiring import plan_offline
from schemas.event import Event, Report
from schemas.outcomes import Reason
from tests.templates.samples import MAPPINGS, catalogue, context


def test_a_site_replaces_a_template_and_nothing_else(tmp_path: Path) -> None:
    site = {"sites/s/p/t.json.j2": '{"id": {{ partner.id }}, "site": {{ site }}}'}
    base = catalogue(tmp_path, '{"id": {{ partner.id }}}', **site)
    assert base.render("p", context()).resources == ({"id": "1"},)
    assert Catalogue(tmp_path, "s").render("p", context()).resources == ({"id": "1", "site": "test"},)
    assert Catalogue(tmp_path, "s").version("p") != base.version("p")


def test_a_changed_file_is_used_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    mappings = catalogue(tmp_path, '{"id": "old"}')
    before = mappings.version("p")
    (tmp_path / "p" / "t.json.j2").write_text('{"id": "brand new"}')
    assert mappings.render("p", context()).resources == ({"id": "brand new"},)
    assert mappings.version("p") != before


def test_a_change_that_does_not_compile_is_told_and_the_last_good_mapping_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    mappings = catalogue(tmp_path, '{"id": "good"}')
    mappings.version("p")
    (tmp_path / "p" / "t.json.j2").write_text('{"id": "{{ partner.id }}"}')
    for _ in range(3):
        assert mappings.render("p", context()).resources == ({"id": "good"},)
    assert capsys.readouterr().err.count("mapping_not_reloaded") == 1


def test_a_file_that_goes_away_while_it_is_edited_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    mappings = catalogue(tmp_path, '{"id": "good"}')
    mappings.version("p")
    text = (tmp_path / "p" / "mapping.yaml").read_text()
    (tmp_path / "p" / "mapping.yaml").unlink()
    assert mappings.render("p", context()).resources == ({"id": "good"},)
    (tmp_path / "p" / "mapping.yaml").write_text(text)
    (tmp_path / "p" / "t.json.j2").write_text('{"id": "better"}')
    assert mappings.render("p", context()).resources == ({"id": "better"},)


def test_a_mapping_that_is_broken_from_the_start_names_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        catalogue(tmp_path, '{\n"id": "{{ partner.id }}"}').version("p")
    assert caught.value.where == f"{tmp_path / 'p' / 't.json.j2'}:2"


def test_a_partner_that_is_not_there_and_an_overlay_that_is_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        catalogue(tmp_path, "{}").version("q")
    with pytest.raises(SettingsError):
        Catalogue(tmp_path, "nowhere")


def test_roche_has_a_rule_for_every_adt_event_and_for_each_type_beside() -> None:
    rules = Catalogue(MAPPINGS, "demo").rules("roche")
    assert [event for event in ADT_EVENTS if event not in rules] == []
    assert rules["ORU^R01"].reason == Reason.EVENT_NOT_FOR_PARTNER
    assert rules["SIU^S15"].kind is Kind.CANCEL
    assert rules.get("XYZ^Z99") is None


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("A01 A04 A05 A08 A28 A31", (Kind.SNAPSHOT, Action.UPSERT, None)),
        ("A02 A03 A06 A07", (Kind.FACT, Action.FILTER, Reason.PARTNER_HAS_NO_VISIT)),
        ("A11 A12 A13 A38", (Kind.CANCEL, Action.FILTER, Reason.PARTNER_HAS_NO_VISIT)),
        ("A23 A29", (Kind.CANCEL, Action.FILTER, Reason.PARTNER_HAS_NO_DELETE)),
        ("A18 A34 A40", (Kind.MERGE, Action.MERGE, None)),
        ("A45", (Kind.MOVE, Action.PARK, Reason.MERGE_NEEDS_REKEY)),
        ("A47", (Kind.CHANGE_OF_ID, Action.MERGE, None)),
        ("A24 A37", (Kind.LINK, Action.FILTER, Reason.EVENT_NOT_FOR_PARTNER)),
    ],
)
def test_what_roche_does_with_an_event(events: str, expected: tuple[Kind, Action, Reason | None]) -> None:
    rules = Catalogue(MAPPINGS).rules("roche")
    for event in events.split():
        rule = rules[f"ADT^{event}"]
        assert (rule.kind, rule.action, rule.reason) == expected, event


def test_a_site_changes_a_row_of_the_events(tmp_path: Path) -> None:
    row = "p:\n  - {events: [A14], kind: fact, subject: visit, action: filter, reason: partner_has_no_visit}\n"
    catalogue(tmp_path, "{}", **{"sites/s/events.yaml": row})
    assert Catalogue(tmp_path, "s").rules("p")["ADT^A14"].action is Action.FILTER
    assert Catalogue(tmp_path).rules("p")["ADT^A14"].action is Action.UPSERT


RESULTS = """p:
  - {events: [ORU^*], status: [F, C], kind: snapshot, subject: result, action: upsert}
  - {events: [ORU^*], status: [D], kind: cancel, subject: result, action: upsert}
  - {events: [ORU^*], status: ["?"], kind: fact, subject: result, action: park, reason: result_status_mixed}
  - {events: [ORU^R30], kind: fact, subject: result, action: filter, reason: event_not_for_partner}
"""


def oru(status: str, *, trigger: str = "R01", kind: str = "ORU") -> Event:
    return Event(type=kind, trigger=trigger, reports=(Report(nth=1, status=status or None),))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (oru("F"), (Kind.SNAPSHOT, Action.UPSERT)),
        (oru("C"), (Kind.SNAPSHOT, Action.UPSERT)),
        (oru("D"), (Kind.CANCEL, Action.UPSERT)),
        (oru("P"), (Kind.FACT, Action.FILTER)),
        (oru(""), (Kind.FACT, Action.FILTER)),
        (oru("F", trigger="R30"), (Kind.FACT, Action.FILTER)),
        (oru("F", trigger="A04", kind="ADT"), (Kind.SNAPSHOT, Action.UPSERT)),
        (oru("F", kind="XYZ"), None),
    ],
)
def test_a_row_of_a_status_goes_before_that_of_any(tmp_path: Path, event: Event, expected: tuple[Kind, Action] | None) -> None:
    catalogue(tmp_path, "{}", **{"sites/s/events.yaml": RESULTS})
    rule = Catalogue(tmp_path, "s").rules("p").of(event)
    assert (None if rule is None else (rule.kind, rule.action)) == expected


def test_results_that_contradict_each_other_have_a_row_of_their_own(tmp_path: Path) -> None:
    catalogue(tmp_path, "{}", **{"sites/s/events.yaml": RESULTS})
    mixed = Event(type="ORU", trigger="R01", reports=(Report(nth=1, status="F"), Report(nth=2, status="D")))
    rule = Catalogue(tmp_path, "s").rules("p").of(mixed)
    assert rule is not None
    assert (rule.action, rule.reason) == (Action.PARK, Reason.RESULT_STATUS_MIXED)


def test_the_status_is_read_where_a_row_asks_for_it_and_nowhere_else(tmp_path: Path) -> None:
    plain = catalogue(tmp_path, '{"id": {{ partner.id }}}', **{"sites/s/events.yaml": RESULTS})
    assert (plain.fields("p"), Catalogue(tmp_path, "s").fields("p")) == (frozenset(), RESULT_FIELDS)


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("{events: [ORU^*], status: F, kind: fact", 2),
        ("{events: [ORU^*], status: [], kind: fact", 2),
        ("{events: [ORU^*], status: [F, final], kind: fact", 2),
        ("{events: [ORU^*], status: [F, F], kind: fact", 2),
    ],
)
def test_a_status_that_hl7_does_not_have_or_that_stands_twice_is_a_mistake(tmp_path: Path, row: str, line: int) -> None:
    text = f"p:\n  - {row}, subject: result, action: filter, reason: result_not_final}}\n"
    catalogue(tmp_path, "{}", **{"sites/s/events.yaml": text})
    with pytest.raises(SettingsError) as caught:
        Catalogue(tmp_path, "s").rules("p")
    assert str(caught.value.where).endswith(f"events.yaml:{line}")


def test_rows_of_statuses_alone_leave_a_gap(tmp_path: Path) -> None:
    text = (MAPPINGS / "events.yaml").read_text(encoding="utf-8").replace("[ORU^*, OUL^*, VXU^*],", "[OUL^*, VXU^*],")
    rows = text.replace("roche:\n", RESULTS.replace("p:", "roche:").replace("ORU^R30", "ORU^R31"), 1)
    (tmp_path / "events.yaml").write_text(rows, encoding="utf-8")
    assert missing(read(tmp_path / "events.yaml", "roche")) == ["ORU^*"]


def test_every_golden_pair_is_as_expected() -> None:
    pairs = list(golden.pairs(MAPPINGS))
    convert = {partner: converter(load_offline(DEFAULTS), partner) for partner in {pair.partner for pair in pairs}}
    assert len(pairs) >= 100
    differences = (golden.compare(pair, convert[pair.partner]) for pair in pairs)
    assert [difference.lines for difference in differences if difference is not None] == []


def test_a_pair_that_differs_is_shown_as_a_diff_and_rewritten_on_demand(tmp_path: Path) -> None:
    folder = tmp_path / "p" / "golden"
    folder.mkdir(parents=True)
    (folder / "one.hl7").write_bytes(b"MSH")
    (folder / "one.json").write_text('{\n  "known": "1"\n}\n')
    (folder / "one.yaml").write_text("known: '2'\n")
    (pair,) = golden.pairs(tmp_path, "p")

    difference = golden.compare(pair, lambda _, variant: dict(variant), update=True)

    assert difference is not None
    assert ('-  "known": "1"' in difference.lines, '+  "known": "2"' in difference.lines) == (True, True)
    assert golden.compare(pair, lambda _, variant: dict(variant)) is None


def test_an_expected_file_without_a_message_is_told(tmp_path: Path) -> None:
    folder = shutil.copytree(MAPPINGS / "roche" / "golden", tmp_path / "roche" / "golden")
    (folder / "create-a04.hl7").unlink()
    with pytest.raises(SettingsError):
        list(golden.pairs(tmp_path))


def test_the_analysts_page_names_every_filter_and_every_rule() -> None:
    page = (MAPPINGS / "README.md").read_text(encoding="utf-8")
    names = [*filters_of({}), *Rule]
    assert [name for name in names if f"`{name}`" not in page and f"`{name}(" not in page] == []


def test_tracing_renders_the_same_resources_and_places_every_finding() -> None:
    mappings = Catalogue(MAPPINGS, "demo")
    plan = plan_offline(load(DEFAULTS), "roche-patients")
    for pair in golden.pairs(MAPPINGS):
        converted = offline.convert(pair.message.read_bytes(), plan)
        if not isinstance(converted, Outcome):
            seen = context_of(converted.mapped.identified, plan)
            rendered = mappings.render("roche", seen)
            assert mappings._traced("roche", mappings._of("roche"), seen)[0] == rendered.resources, pair.message.name
            assert [finding for finding in rendered.findings if finding.hl7 is None] == [], pair.message.name
