"""Code tables: what a sender's code becomes for a partner. Read from YAML, looked up without I/O; the lookup never guesses.

A table has rows of an exact `code`, a `prefix` or a `pattern` (`?` is one character), each for one coding `system` where the table has
`systems` (the names that senders write). `to: nothing` says that the code is known and deliberately has no target: no finding. A site's
file of the same name adds rows and replaces those with the same key. An exact row wins over a pattern, a longer one over a shorter one.
"""

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pipeline.templates.lined import Lined, YamlMistake, load
from schemas.event import Coded, Identifier

KEYS: Final = frozenset({"table", "means", "source", "element", "ignore", "systems", "default_system", "concepts", "rows"})
ROW_KEYS: Final = frozenset({"system", "code", "prefix", "pattern", "to", "means"})
CONCEPT_KEYS: Final = frozenset({"system", "code", "display", "evidence"})
IGNORABLE: Final = frozenset({"case", "dots"})


@dataclass(frozen=True, slots=True)
class Concept:
    """A target that is a coding."""

    system: str
    code: str
    display: str | None = None


Target = str | Concept
IDENTIFIER_SYSTEMS: Final = "identifier-systems"
"""Which system a patient identifier is accepted under. A partner with other systems has a table of its own, identifier-systems-<partner>."""
NOTHING: Final = "nothing"
"""A `to` that is known and has no target."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `form` is code, prefix or pattern."""

    system: str
    form: str
    key: str
    to: str
    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table's file as it stands, or a site's addition to one."""

    name: str
    path: Path
    tree: Lined
    rows: tuple[Row, ...]
    systems: Mapping[str, tuple[str, ...]]
    concepts: Mapping[str, Concept]
    ignore: frozenset[str]
    default_system: str


@dataclass(frozen=True)
class CodeTable:
    """A table with a site's rows in it."""

    name: str
    ignore: frozenset[str]
    names: Mapping[str, str]
    """Coding-system name as senders write it, in upper case, to the table's own name of the system."""
    default_system: str
    exact: Mapping[tuple[str, str], Target]
    inexact: tuple[tuple[str, re.Pattern[str], Target], ...]
    """System, pattern, target; the most specific first."""
    element: str | None = None
    """The FHIR element that the table is for: lint holds its targets against that element's binding."""
    concepts: Mapping[str, Concept] = field(default_factory=dict)
    """Targets by name, where they are codings."""
    path: Path = Path()
    element_line: int = 1
    rows: tuple[Row, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cached", lru_cache(maxsize=4096)(self._find))

    def find(self, code: str, system: str | None = None) -> Target | None:
        """The target of a code; None where the table has none. `system` is the name that the sender wrote."""
        found: Target | None = self._cached(code, system)  # type: ignore[attr-defined]  # made in __post_init__
        return None if found == NOTHING else found

    @property
    def targets(self) -> frozenset[Target]:
        """All that a code can become."""
        return frozenset([*self.exact.values(), *(to for _, _, to in self.inexact)]) - {NOTHING}

    def knows(self, code: str, system: str | None = None) -> bool:
        """Whether the table has a row for the code, be it for nothing."""
        return self._cached(code, system) is not None  # type: ignore[attr-defined]  # made in __post_init__

    def leaves_out(self, value: str | Coded) -> bool:
        """Whether the table has a row for the code, or for one of a CE's two, and that says `nothing`."""
        if isinstance(value, str):
            return self.knows(value)
        pairs = ((value.code, value.system), (value.alternate_code, value.alternate_system))
        return any(self.knows(code, system or None) for code, system in pairs if code)

    def find_coded(self, coded: Coded, system: str | None = None) -> Target | None:
        """The target of a CE: its code, else its alternate. `system` serves where the CE itself names none (DG1-2 of old senders)."""
        for code, named in ((coded.code, coded.system or system), (coded.alternate_code, coded.alternate_system)):
            target = self.find(code, named or None) if code else None
            if target is not None:
                return target
        return None

    def _find(self, code: str, system: str | None) -> Target | None:
        own = self._system(system)
        if own is None:
            return None
        key = folded(code, self.ignore)
        if not key:
            return None
        target = self.exact.get((own, key))
        if target is not None:
            return target
        return next((to for at, pattern, to in self.inexact if at == own and pattern.match(key)), None)

    def _system(self, system: str | None) -> str | None:
        if not self.names:
            return ""
        if not system:
            return self.default_system or None
        return self.names.get(system.strip().upper())


def folded(code: str, ignore: Iterable[str]) -> str:
    """A code without what the table ignores."""
    code = code.strip()
    if "case" in ignore:
        code = code.upper()
    if "dots" in ignore:
        code = code.replace(".", "").replace(" ", "")
    return code


def identifier_table(partner: str, names: Container[str]) -> str:
    """The name of the table that tells a partner's identifiers: its own where there is one, else that of its family (before the dash), else the common one."""
    own = (f"{IDENTIFIER_SYSTEMS}-{name}" for name in (partner, partner.partition("-")[0]))
    return next((one for one in own if one in names), IDENTIFIER_SYSTEMS)


def identifier_system(table: CodeTable, identifier: Identifier) -> str | None:
    """The identifier system (a URI) of a CX by a table with the systems `oid`, `authority` and `type`; None where it has none.

    The universal id of the assigning authority decides before its namespace. The identifier type (`none` where that is empty too) counts only
    where no authority is named: the number of another hospital is of type MR as well.
    """
    oid, authority = identifier.authority_oid, identifier.authority
    keys = (
        (("oid", oid), ("oid", authority), ("authority", authority))
        if oid or authority
        else (("type", identifier.type or "none"),)
    )
    for system, key in keys:
        if not key:
            continue
        target = table.find(key.removeprefix("urn:oid:"), system)
        if isinstance(target, str):
            return target
    return None


def read(path: Path) -> TableFile:
    """One file. YamlMistake with the line of the first mistake."""
    tree = load(path)
    _known(tree, KEYS, path)
    name = tree.get("table")
    if name != path.stem:
        raise YamlMistake(path, tree.line_of("table"), f"table must be the file's name, {path.stem}")
    ignore = _texts(tree, "ignore", path)
    if wrong := [item for item in ignore if item not in IGNORABLE]:
        raise YamlMistake(path, tree.line_of("ignore"), f"ignore has no {wrong[0]}; there is {', '.join(sorted(IGNORABLE))}")
    systems = {key: tuple(_texts(_mapping(tree, "systems", path), key, path)) for key in _mapping(tree, "systems", path)}
    concepts = {key: _concept(_mapping(tree, "concepts", path), key, path) for key in _mapping(tree, "concepts", path)}
    rows = tree.get("rows") or []
    if not isinstance(rows, list):
        raise YamlMistake(path, tree.line_of("rows"), "rows must be a list")
    return TableFile(
        name=name,
        path=path,
        tree=tree,
        rows=tuple(_row(row, path, tree) for row in rows),
        systems=systems,
        concepts=concepts,
        ignore=frozenset(ignore),
        default_system=str(tree.get("default_system", "")),
    )


def joined(base: TableFile | None, site: TableFile | None) -> CodeTable:
    """A table from its file and a site's; either may be missing, not both. YamlMistake where a row names what is not there."""
    files = [file for file in (base, site) if file is not None]
    ignore = (base or files[0]).ignore
    systems: dict[str, tuple[str, ...]] = {}
    concepts: dict[str, Concept] = {}
    rows: dict[tuple[str, str, str], Row] = {}
    default = ""
    for file in files:
        default = file.default_system or default
        concepts.update(file.concepts)
        for own, names in file.systems.items():
            systems[own] = (*systems.get(own, ()), *names)
        seen: set[tuple[str, str, str]] = set()
        for row in file.rows:
            key = (row.system, row.form, folded(row.key, ignore))
            if key in seen:
                raise YamlMistake(row.path, row.line, f"the row of {row.form} {row.key} stands twice")
            seen.add(key)
            rows[key] = row
    kept = tuple(rows.values())
    for row in kept:
        if bool(systems) != bool(row.system) or (row.system and row.system not in systems):
            raise YamlMistake(
                row.path, row.line, f"system must be one of {', '.join(systems)}" if systems else "the table has no systems"
            )
        if concepts and row.to not in concepts and row.to != NOTHING:
            raise YamlMistake(row.path, row.line, f"there is no concept {row.to}; there is {', '.join(concepts)}")
    if default and default not in systems:
        raise YamlMistake(files[-1].path, files[-1].tree.line_of("default_system"), f"there is no system {default}")
    target = {row: concepts.get(row.to, row.to) for row in kept}
    inexact = sorted((row for row in kept if row.form != "code"), key=lambda row: -len(row.key.replace("?", "").replace(".", "")))
    return CodeTable(
        name=files[0].name,
        ignore=ignore,
        names={name.upper(): own for own, names in systems.items() for name in (own, *names)},
        default_system=default,
        exact={(row.system, folded(row.key, ignore)): target[row] for row in kept if row.form == "code"},
        inexact=tuple((row.system, _pattern(row, ignore), target[row]) for row in inexact),
        element=files[0].tree.get("element"),
        concepts=concepts,
        path=files[0].path,
        element_line=files[0].tree.line_of("element"),
        rows=kept,
    )


def _pattern(row: Row, ignore: frozenset[str]) -> re.Pattern[str]:
    text = re.escape(folded(row.key, ignore))
    return re.compile(text if row.form == "prefix" else text.replace(r"\?", ".") + r"\Z")


def _known(tree: Lined, keys: frozenset[str], path: Path) -> None:
    for key in tree:
        if key not in keys:
            raise YamlMistake(path, tree.line_of(key), f"there is no {key} here; there is {', '.join(sorted(keys))}")


def _mapping(tree: Lined, key: str, path: Path) -> Lined:
    value = tree.get(key) or Lined(tree.line_of(key))
    if not isinstance(value, Lined):
        raise YamlMistake(path, tree.line_of(key), f"{key} must be a mapping")
    return value


def _texts(tree: Lined, key: str, path: Path) -> list[str]:
    value: Any = tree.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise YamlMistake(path, tree.line_of(key), f"{key} must be a list of texts")
    return value


def _concept(tree: Lined, key: str, path: Path) -> Concept:
    value = tree[key]
    if not isinstance(value, Lined) or not value.get("system") or not value.get("code"):
        raise YamlMistake(path, tree.line_of(key), f"the concept {key} must have system and code")
    _known(value, CONCEPT_KEYS, path)
    return Concept(value["system"], value["code"], value.get("display") or None)


def _row(value: object, path: Path, tree: Lined) -> Row:
    if not isinstance(value, Lined):
        raise YamlMistake(path, tree.line_of("rows"), "each row must be a mapping, as {code: F, to: female}")
    _known(value, ROW_KEYS, path)
    forms = [form for form in ("code", "prefix", "pattern") if value.get(form)]
    if len(forms) != 1:
        raise YamlMistake(path, value.line, "a row has exactly one of code, prefix, pattern")
    if not value.get("to"):
        raise YamlMistake(path, value.line, "a row has a `to` (nothing, where the code deliberately has no target)")
    if any(not isinstance(value[key], str) for key in value):
        raise YamlMistake(path, value.line, "a row holds texts only")
    return Row(value.get("system", ""), forms[0], value[forms[0]], value["to"], path, value.line)
