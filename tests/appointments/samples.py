"""Changes of appointments, as small as they can be."""

import orjson

from pipeline.appointments.port import Change, Key
from pipeline.model import Position

HOUR = 3_600_000


def change(
    name: str = "a1",
    *,
    keys: tuple[str, ...] = ("anna",),
    bsn: str | None = None,
    event_ms: int | None = 1_000,
    offset: int | None = 1,
    start_ms: int | None = HOUR,
    body: bytes = b"",
    refs: tuple[tuple[str, str], ...] = (),
    ref_body: bytes = b"{}",
) -> Change:
    resources = {("Appointment", name): body or orjson.dumps({"id": name, "event": event_ms})}
    return Change(
        appointment=name,
        keys=(*(Key(key) for key in keys), *((Key(bsn, sole=True),) if bsn else ())),
        event_ms=event_ms,
        position=None if offset is None else Position("siu", 0, offset),
        start_ms=start_ms,
        resources=resources | dict.fromkeys(refs, ref_body),
    )
