"""Golden pairs: `NAME.hl7` and the requests that it becomes, `NAME.json`, beside the mapping that makes them. The diff is the review.

The conversion is handed in, so that the pairs are proof of the whole path and not of the templates alone. `NAME.yaml`, where there is one,
holds what is different for this pair: `known: ID` for an update, `parts: [ID, null]` for what else of the message the partner knows, any setting
of the partner or the site (`api: v2`, `absent: unchanged`).
"""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from pipeline.errors import SettingsError

Convert = Callable[[bytes, Mapping[str, Any]], Any]
"""A message and a pair's own settings to what JSON can hold: the requests, or why there are none."""
GOLDEN: Final = "golden"


@dataclass(frozen=True, slots=True)
class Pair:
    """A message and what it becomes."""

    partner: str
    message: Path

    @property
    def expected(self) -> Path:
        """NAME.json."""
        return self.message.with_suffix(".json")

    def variant(self) -> dict[str, Any]:
        """NAME.yaml; empty where there is none. SettingsError where it is no mapping."""
        path = self.message.with_suffix(".yaml")
        if not path.is_file():
            return {}
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            raise SettingsError("is not YAML", where=str(path)) from None
        if not isinstance(tree, dict):
            raise SettingsError("must be a mapping, as `known: 12345678Z`", where=str(path))
        return tree


@dataclass(frozen=True, slots=True)
class Difference:
    """A pair that is not as expected; `lines` is a unified diff, from what is expected to what came."""

    pair: Pair
    lines: tuple[str, ...]


def pairs(folder: Path, partner: str | None = None) -> Iterator[Pair]:
    """All pairs of a mappings folder, or of one partner. SettingsError where there are none, or a NAME.json has no message."""
    found = [
        Pair(path.parent.parent.name, path)
        for path in sorted(folder.glob(f"*/{GOLDEN}/*.hl7"))
        if partner in {None, path.parent.parent.name}
    ]
    if not found:
        raise SettingsError("there are no golden pairs", where=str(folder / (partner or "*") / GOLDEN))
    for path in sorted(folder.glob(f"{partner or '*'}/{GOLDEN}/*")):
        if path.suffix in {".json", ".yaml"} and not path.with_suffix(".hl7").is_file():
            raise SettingsError("has no message beside it", where=str(path))
    yield from found


def compare(pair: Pair, convert: Convert, *, update: bool = False) -> Difference | None:
    """Convert the message and hold it against the expected; with `update` rewrite the expected. None where they are the same."""
    came = text_of(convert(pair.message.read_bytes(), pair.variant()))
    expected = pair.expected.read_text(encoding="utf-8") if pair.expected.is_file() else ""
    if came == expected:
        return None
    if update:
        pair.expected.write_text(came, encoding="utf-8")
    lines = difflib.unified_diff(
        expected.splitlines(), came.splitlines(), f"{pair.expected.name} (expected)", f"{pair.expected.name} (now)", lineterm=""
    )
    return Difference(pair, tuple(lines))


def text_of(tree: object) -> str:
    """JSON as it stands in NAME.json."""
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
