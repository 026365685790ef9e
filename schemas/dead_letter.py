"""The dead letter: a parked message with its original bytes. Value and key are the source record's own; this is in the headers.

Where the topic does not take a record of that size, the dead letter has no value: `left_out` says so, and the bytes stand in the source alone,
at the position that the headers name. Header values are UTF-8 text. There is no free text and no patient data in them.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from schemas.outcomes import Reason

VERSION = 1
PREFIX = "emr-"
"""Every header of ours begins with it; the source record's own headers follow as they were."""


class LeftOut(StrEnum):
    """What of the source record is not in its dead letter, because the topic does not take it."""

    VALUE = "value"
    RECORD = "record"
    """The value, the source record's own headers, and its key."""


class DeadLetter(BaseModel):
    """The headers of a record on a dead-letter topic, without their prefix."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    schema_version: int = VERSION
    route: str
    partner: str
    reason: Reason
    where: str | None = None
    request_id: str | None = None
    result_id: str
    source_topic: str
    source_partition: int
    source_offset: int
    parked_ms: int
    attempt: int = 0
    mapping_version: str | None = None
    left_out: LeftOut | None = None
    source_bytes: int | None = None
    """How long the value is that was left out."""
