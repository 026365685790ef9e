"""A mistake in a mappings folder, and the closed list of rules that find them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Rule(StrEnum):
    """What is looked for; mappings/README.md has a sentence for each."""

    SYNTAX = "syntax"
    QUOTES = "quotes"
    UNKNOWN_NAME = "unknown-name"
    UNKNOWN_FIELD = "unknown-field"
    UNKNOWN_FILTER = "unknown-filter"
    UNKNOWN_MACRO = "unknown-macro"
    UNKNOWN_TABLE = "unknown-table"
    WRONG_ARGUMENT = "wrong-argument"
    WHOLE_VALUE = "whole-value"
    NOT_JSON = "not-json"
    UNKNOWN_ELEMENT = "unknown-element"
    DUPLICATE_KEY = "duplicate-key"
    MISSING_ELEMENT = "missing-element"
    WRONG_SHAPE = "wrong-shape"
    CHOICE = "choice"
    REFERENCE = "reference"
    BINDING = "binding"
    YAML = "yaml"
    EVENTS = "events"
    UNUSED = "unused"
    OVERLAY = "overlay"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake. `str()` is the line that a person reads."""

    file: Path
    line: int
    rule: Rule
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message} [{self.rule}]"


class Problems:
    """What was found, each once."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def add(self, file: Path, line: int, rule: Rule, message: str) -> None:
        """Note one."""
        self._found[Problem(file, line, rule, message)] = None

    def extend(self, others: Iterable[Problem]) -> None:
        """Note several."""
        self._found |= dict.fromkeys(others)

    def __iter__(self) -> Iterator[Problem]:
        return iter(sorted(self._found))


def near(name: str, names: Iterable[str]) -> str:
    """`; did you mean …?` where something is spelt nearly so."""
    from difflib import get_close_matches  # noqa: PLC0415 - only when there is a mistake to tell

    close = get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""
