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
from pipeline.templates.events import ADT_EVENTS
from pipeline.templates.filters import filters_of
from pipeline.templates.lint import Rule
from pipeline.wiring import plan_offline
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


def test_every_golden_pair_is_as_expected() -> None:
    pairs = list(golden.pairs(MAPPINGS))
    convert = {partner: converter(load_offline(DEFAULTS), partner) for partner in ("roche", "njsams")}
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
