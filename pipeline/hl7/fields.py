"""How a segment's fields become a part of the event: tables of readings by field number, and the rows of them that somebody reads.

Of what a message does not have, and of what nobody reads, nothing is made.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.hl7.datatypes import Reader, Where
from pipeline.hl7.message import Message
from pipeline.hl7.parts import Members, absent, built
from schemas.event import Frozen

Make = Callable[[Reader, str, Where], Any]
Table = dict[int, tuple[str, Make]]


def one(model: type[Frozen], read: Callable[[Reader, str], Members]) -> Make:
    """The first repetition, by the function of its type."""
    missing = absent(model)

    def make(reader: Reader, raw: str, _where: Where) -> Frozen | None:
        members = read(reader, reader.single(raw))
        return built(model, missing, members) if members else None

    return make


def each_of(model: type[Frozen], read: Callable[[Reader, str], Members]) -> Make:
    """Each repetition that has something in it."""
    missing = absent(model)

    def make(reader: Reader, raw: str, _where: Where) -> tuple[Frozen, ...] | None:
        repetitions = reader.repetitions(raw)
        return tuple([built(model, missing, members) for each in repetitions if (members := read(reader, each))]) or None

    return make


class Fields(NamedTuple):
    """What is read of a segment."""

    rows: tuple[tuple[int, str, Make], ...]
    """Number, name and reading of its fields, in their order."""
    missing: Members
    """What the members of its part are where nothing is said."""


def fields_of(table: Table, model: type[Frozen], only: frozenset[str] | None, *always: str) -> Fields:
    """The rows of a table whose names are in `only` or `always`; None: all."""
    rows = [(number, name, make) for number, (name, make) in table.items() if only is None or name in (*always, *only)]
    return Fields(tuple(sorted(rows, key=lambda row: row[0])), absent(model, only))


def read(message: Message, reader: Reader, segment: str, nth: int, fields: Fields) -> Members:
    """What a segment says, by name."""
    members: Members = {}
    raws = message.fields(segment, nth)
    count = len(raws)
    for number, name, make in fields.rows:
        if number >= count:
            break
        if (raw := raws[number]) and (value := make(reader, raw, (segment, nth, number))) is not None:
            members[name] = value
    return members
