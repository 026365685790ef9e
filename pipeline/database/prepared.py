"""The statements of the hot path without SQLAlchemy's way through: each is compiled once, and run on the driver's own cursor.

They stay written in SQLAlchemy Core, one source for both databases, and run in SQLAlchemy's connection and transaction. Nothing is decided here, and no
error shows a value: what the driver refuses goes SQLAlchemy's own way (wrapped; a lost connection leaves the pool).
"""

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Delete, Dialect, Insert, Select, Update, literal
from sqlalchemy.sql.selectable import CompoundSelect

Statement = Select[Any] | CompoundSelect[Any] | Insert | Update | Delete
Row = Any
"""A named tuple with the statement's columns."""


def one_by_one(values: Iterable[str]) -> list[ColumnElement[str]]:
    """For IN: a list that SQLAlchemy is given as it is becomes text only when it is run, by SQLAlchemy."""
    return [literal(str(value)) for value in sorted(values)]


class Prepared:
    """One statement, for any connection and for whichever columns it is given."""

    __slots__ = ("_forms", "statement")

    def __init__(self, statement: Statement) -> None:
        self.statement: Final = statement
        self._forms: dict[tuple[str, tuple[str, ...]], _Form] = {}
        """By dialect and the names that are bound: of an INSERT or UPDATE they are the columns that it writes."""

    def all(self, connection: Connection, bound: Mapping[str, Any]) -> list[Row]:
        """Run it; the rows that come back."""
        key = (connection.dialect.name, tuple(bound))
        form = self._forms.get(key)
        if form is None:  # two threads that meet here make the same
            form = self._forms[key] = _Form(self.statement, connection.dialect, key[1])
        return form.run(connection, bound)

    def first(self, connection: Connection, bound: Mapping[str, Any]) -> Row | None:
        """Run it; the first row that comes back."""
        rows = self.all(connection, bound)
        return rows[0] if rows else None


class _Form:
    """A statement's text for one dialect, the order of its parameters, and what its columns are read as."""

    __slots__ = ("_constants", "_convert", "_order", "_row", "_text")

    def __init__(self, statement: Statement, dialect: Dialect, names: tuple[str, ...]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(names))
        columns = statement.exported_columns
        read = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
        self._text: Final = str(compiled)
        self._order: Final = compiled.positiontup if compiled.positional else None
        self._constants: Final = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
        """What the statement itself says. What it asks for and is not given is a KeyError, and never NULL."""
        self._row: Final[Any] = namedtuple("Row", [str(column.key) for column in columns]) if len(columns) else None  # noqa: PYI024 - the columns are the statement's
        self._convert: Final[list[tuple[int, Callable[[Any], Any]]]] = [(n, each) for n, each in enumerate(read) if each]

    def run(self, connection: Connection, bound: Mapping[str, Any]) -> list[Row]:
        values: Any = {**self._constants, **bound}
        if self._order is not None:
            values = [values[name] for name in self._order]
        cursor = connection.connection.cursor()
        try:
            cursor.execute(self._text, values)
            found = cursor.fetchall() if self._row is not None else []
        except BaseException as error:  # noqa: BLE001 - it is raised again, wrapped where it is the driver's
            connection._handle_dbapi_exception(error, None, None, cursor, None)  # noqa: SLF001 - no public way takes a lost connection out of the pool
        cursor.close()
        return self._rows(found)

    def _rows(self, found: Iterable[Sequence[Any]]) -> list[Row]:
        if not self._convert:
            return [self._row._make(values) for values in found]
        return [self._row._make(self._converted(list(values))) for values in found]

    def _converted(self, values: list[Any]) -> list[Any]:
        for number, convert in self._convert:
            values[number] = convert(values[number])
        return values
