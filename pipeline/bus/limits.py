"""What a bus takes at all: legal names, types and sizes. Both buses refuse the same, before anything is stored or sent.

The rules for names are Kafka's (org.apache.kafka.common.internals.Topic), so that a hospital can move from the embedded bus to Kafka
without renaming. No message here repeats a key or a value.
"""

import re
from typing import Final

from pipeline.bus.port import Record
from pipeline.errors import BusRefused, BusTooLarge

MOST_BYTES: Final = 32 * 1024 * 1024
"""Key, value and headers of one record: twice the largest message of a site (settings, site.most_bytes), which a dead letter may wrap.

A source record near it does not fit into its dead letter, which has our headers too (pipeline/stages/settle.py).
"""
OVERHEAD_BYTES: Final = 64 * 1024
"""What Kafka's batch and record framing may add to a record."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)


def check_name(name: str, what: str) -> None:
    """BusRefused where Kafka would not take this name for a topic; `what` says whose name it is."""
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise BusRefused(f"{name[:60]!a} is no {what} name: 1 to 249 of A-Z a-z 0-9 . _ - (Kafka's rule)", where=what)


def check_record(record: Record) -> int:
    """The record's bytes; BusRefused where it is no record that both buses take, BusTooLarge where that is for its size."""
    check_name(record.topic, "topic")
    _check_bytes(record, "key", record.key)
    _check_bytes(record, "value", record.value)
    if record.key is None and record.value is None:
        raise BusRefused("a record with neither key nor value says nothing", where=record.topic)
    for name, value in record.headers:
        if not isinstance(name, str) or not isinstance(value, bytes):
            raise BusRefused("a header is a pair of text and bytes", where=record.topic)
    size = size_of(record)
    if size > MOST_BYTES:
        raise BusTooLarge(f"a record of {size} bytes; the bus takes {MOST_BYTES} (key, value and headers)", where=record.topic)
    return size


def size_of(record: Record) -> int:
    """Its bytes as the bus counts them: key, value and headers."""
    headers = sum(len(name.encode()) + len(value) for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _check_bytes(record: Record, what: str, value: object) -> None:
    if value is not None and not isinstance(value, bytes):
        raise BusRefused(
            f"the {what} is {type(value).__name__}; it must be bytes (encode text first) or nothing", where=record.topic
        )


def check_partition(record: Record, partitions: int) -> None:
    """BusRefused where the record names a partition that the topic does not have."""
    if record.partition is not None and not 0 <= record.partition < partitions:
        raise BusRefused(f"no partition {record.partition}: the topic has 0 to {partitions - 1}", where=record.topic)


def no_such_topic(topic: str) -> BusRefused:
    """The one line for a topic that is not there."""
    return BusRefused("no such topic; make the topics of the settings with: emr-pipeline topics create", where=topic)
