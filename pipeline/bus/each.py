"""Appending some records and telling what became of each: one that is refused stands in no other's way. The same on both buses."""

import time
from collections.abc import Sequence

from pipeline.bus.port import Pending, Producer, Record
from pipeline.errors import BusError
from pipeline.model import Position


def append_each(producer: Producer, records: Sequence[Record], deadline: float) -> list[Position | BusError]:
    """All begun, then each waited for until `deadline` (monotonic)."""
    return [_came_of(pending, deadline) for pending in [_begun(producer, record) for record in records]]


def _begun(producer: Producer, record: Record) -> Pending | BusError:
    try:
        return producer.send(record)
    except BusError as error:
        return error


def _came_of(pending: Pending | BusError, deadline: float) -> Position | BusError:
    if isinstance(pending, BusError):
        return pending
    try:
        return pending.wait(max(0.0, deadline - time.monotonic()))
    except BusError as error:
        return error
