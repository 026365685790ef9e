"""Docs that fail when they are false: every name that the program can write has its heading in the runbook, every command its example."""

import importlib
import re
from pathlib import Path

import pytest

from pipeline.cli import COMMANDS, parser_of
from pipeline.health import NotReady
from pipeline.telemetry import LogEvent
from schemas.outcomes import Reason

ROOT = Path(__file__).parents[1]
RUNBOOK = (ROOT / "deploy" / "runbook.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^#{3,4} ([a-z0-9_]+)$", RUNBOOK, re.MULTILINE)


def test_every_log_event_and_every_reason_has_one_heading_in_the_runbook() -> None:
    said = {*(event.value for event in LogEvent), *(reason.value for reason in Reason), *(why.value for why in NotReady)}
    assert sorted(HEADINGS) == sorted(said)


def test_the_runbook_and_the_readme_name_no_command_that_is_not_there() -> None:
    text = RUNBOOK + (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"emr-pipeline ([a-z][a-z-]*)(?: ([a-z]+)\b)?", text)
    assert {command for command, _ in named} - set(COMMANDS) == set()
    actions = {(command, action) for command, action in named if command in {"identities", "topics", "replay"} and action}
    more = {"import": ["x.csv"], "forget": ["x.csv", "--why", "x"], "start": ["--at", "latest"]} | {
        key: ["--plan", "x"] for key in ("run", "show", "pause", "resume", "cancel")
    }
    for command, action in sorted(actions):
        assert action in parser_of(command).parse_args([command, action, *more.get(action, [])]).__dict__.values()


def test_every_heading_says_what_to_do() -> None:
    sections = dict(re.findall(r"^#{3,4} ([a-z0-9_]+)\n([^#]*)", RUNBOOK, re.MULTILINE))
    assert [name for name in HEADINGS if not sections[name].strip()] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_shows_an_example_in_its_help(name: str) -> None:
    module = importlib.import_module(f"pipeline.commands.{name.replace('-', '_')}")
    assert f"emr-pipeline {name}" in module.EXAMPLE
    assert parser_of(name).format_help()
