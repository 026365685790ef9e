"""YAML whose mappings know their lines, so that a mistake can be named with file and line.

Scalars stay texts: a code `250.0`, `NO` or `0` is never a number or a boolean here. A key that stands twice is a mistake.
"""

from pathlib import Path
from typing import Any, Final

import yaml

from pipeline.errors import SettingsError


class Lined(dict[str, Any]):
    """A mapping; `line` is its own, `lines[key]` that of a key, from 1."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}

    def line_of(self, key: str) -> int:
        """The key's line, else the mapping's."""
        return self.lines.get(key, self.line)


class YamlMistake(SettingsError):
    """A mistake in a YAML file, with its line."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(message, where=f"{path}:{line}")
        self.path = path
        self.line = line


_Loader: Final[type] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def load(path: Path) -> Lined:
    """A YAML file that holds a mapping. YamlMistake where it cannot be read."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlMistake(path, mark.line + 1 if mark else 1, f"is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise YamlMistake(path, 1, "is not YAML") from None
    except OSError as error:
        raise YamlMistake(path, 1, f"cannot be read ({error.strerror})") from None
    if not isinstance(node, yaml.MappingNode):
        raise YamlMistake(path, 1, "must be a mapping (name: value)")
    value = _value(node, path)
    assert isinstance(value, Lined)  # noqa: S101 - a mapping node gives one
    return value


def _value(node: yaml.Node, path: Path) -> Any:  # noqa: ANN401 - YAML's own types
    if isinstance(node, yaml.ScalarNode):
        return "" if node.value in {"~", "null"} and node.style is None else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, path) for item in node.value]
    lined = Lined(node.start_mark.line + 1)
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlMistake(path, line, "a key must be a plain text")
        if key_node.value in lined:
            raise YamlMistake(path, line, f"the key {key_node.value} stands twice, first on line {lined.lines[key_node.value]}")
        lined[key_node.value] = _value(value_node, path)
        lined.lines[key_node.value] = line
    return lined
