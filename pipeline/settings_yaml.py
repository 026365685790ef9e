"""The settings' file as YAML: what the standard lets pass and a person would not mean (a key twice, an anchor in itself) is refused, with the line.

Templates and tables have a reader of their own (templates/lined.py), which keeps the lines and reads every scalar as text. No error
repeats a value: a secret may stand where none should.
"""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from pipeline.errors import SettingsError

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_QUOTED: Final = re.compile(r"\s*(['\"])(.*?)\1")
_DELIMITER: Final = re.compile(r"[^\w!]{1,3}|<[a-z ]+>")


def read(path: Path) -> dict[Any, Any]:
    """The mapping that the file holds. SettingsError with file, line and why where there is none."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot be read ({error.strerror})", where=str(path)) from None
    try:
        tree = _tree(raw.decode("utf-8"), path)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SettingsError("is not UTF-8", where=f"{path}:{line}") from None
    except yaml.reader.ReaderError:
        raise SettingsError("is not YAML: it holds a control character", where=str(path)) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = _QUOTED.sub(_without_content, error.problem or error.context or "")
        raise SettingsError(f"is not YAML: {why}", where=f"{path}:{mark.line + 1}" if mark else str(path)) from None
    if not isinstance(tree, dict):
        what = "it is empty" if tree is None else "it holds no settings by name (name: value)"
        raise SettingsError(f"is no settings file: {what}; deploy/settings.example.yaml shows one", where=str(path))
    return tree


def _without_content(quoted: re.Match[str]) -> str:
    """PyYAML quotes the name of an alias or a tag, which is the file's; a delimiter that it misses, as ',' or '<document start>', stays."""
    return quoted[0] if _DELIMITER.fullmatch(quoted[2]) else ""


def _tree(text: str, path: Path) -> Any:  # noqa: ANN401 - YAML's own types
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, path, ())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check(node: yaml.Node, path: Path, above: tuple[yaml.Node, ...]) -> None:
    where = f"{path}:{node.start_mark.line + 1}"
    if any(node is one for one in above):
        raise SettingsError("an anchor holds itself", where=where)
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, where)
        return
    children = node.value if isinstance(node, yaml.SequenceNode) else [value for _, value in node.value]
    if isinstance(node, yaml.MappingNode):
        _check_keys(node, path)
    for child in children:
        _check(child, path, (*above, node))


def _check_scalar(node: yaml.ScalarNode, where: str) -> None:
    """2026-13-45 looks like a date to YAML and is none."""
    try:
        _LOADER("").construct_object(node)
    except ValueError:
        raise SettingsError("looks like a date or a number and is none: put it in quotes, or mend it", where=where) from None


def _check_keys(node: yaml.MappingNode, path: Path) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise SettingsError("a setting's name must be a plain text", where=f"{path}:{line}")
        if key.value in seen:
            raise SettingsError(f"{key.value} stands twice, first on line {seen[key.value]}", where=f"{path}:{line}")
        seen[key.value] = line
