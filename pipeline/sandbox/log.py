"""The log of effects: one JSON line per request, in the file before the answer leaves. It is what tests judge by, and the stand-in's memory.

A line is one write() to an append-only file: it survives a kill -9 of the process, not a power cut. The file holds what was
sent (patients!) and is its owner's alone. SandboxLog reads it from any process, also while it is written.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import orjson

from pipeline.errors import Refused

NAME: Final = "effects.jsonl"

CREATED: Final = "created"
UPDATED: Final = "updated"
NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Written:
    """One thing of several that a request brought."""

    type: str
    id: str
    """The partner's own."""
    effect: str
    full_url: str | None = None
    """The sender's name for it in the request."""
    keys: tuple[str, ...] = ()
    """What it is known by outside: two with one key are one thing twice."""
    resource: dict[str, Any] = field(default_factory=dict, repr=False)
    """As it stands afterwards."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One line: what came, what it did, what was answered. Handshakes and connections that were refused have lines too."""

    number: int
    """Counts from 1, on through restarts."""
    time: float
    """When it took effect, seconds since 1970."""
    received: float
    """When the request was read."""
    connection: int
    operation: str
    """create, update, read, search, token, …, other; handshake, connection."""
    effect: str
    """created, updated, nothing."""
    api: str | None = None
    """v1, v2."""
    method: str | None = None
    path: str | None = None
    query: str | None = None
    status: int | None = None
    """What is answered; None where the connection is dropped instead."""
    issues: tuple[str, ...] = ()
    fault: str | None = None
    request_id: str | None = None
    identifier: str | None = None
    """The patient's business id."""
    system: str | None = None
    partner_id: str | None = None
    """The partner's id of the patient."""
    bundle_id: str | None = None
    """Where the bundle has none, the fullUrl of its first entry."""
    bundle_sha256: str | None = None
    message_header_id: str | None = None
    patient: dict[str, Any] | None = field(default=None, repr=False)
    """The Patient resource as it stands after a create or an update."""
    written: tuple[Written, ...] = ()
    """All that it brought, in order, where a request may bring several things."""
    clock: float | None = None
    """When it took effect by the partner's own clock, where that can be moved."""
    token: Mapping[str, Any] | None = field(default=None, repr=False)
    """What else it must remember: of the authorization server what was issued, tokens as digests; of RoQua what was ordered."""


class EffectWriter:
    """The one writer; holds the folder by a lock. Lines of before are read at the start, a torn last line is cut off."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._fd)
            raise Refused(
                "another sandbox is running on this folder; stop it or name another --folder", where=str(folder)
            ) from None
        os.fchmod(self._fd, 0o600)
        self._cut_torn_line()
        self.before = SandboxLog(folder).effects()
        self.next = self.before[-1].number + 1 if self.before else 1

    def _cut_torn_line(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.ftruncate(self._fd, whole)

    def write(self, effect: Effect) -> None:
        """Append one line; it is in the file when this returns."""
        line = memoryview(orjson.dumps(effect, option=orjson.OPT_APPEND_NEWLINE))
        while line:
            line = line[os.write(self._fd, line) :]

    def number(self) -> int:
        """The next number."""
        self.next += 1
        return self.next - 1

    def close(self) -> None:
        """Let go of the file and its lock."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SandboxLog:
    """The oracle: reads the log of a sandbox folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def __iter__(self) -> Iterator[Effect]:
        """Whole lines, oldest first; an unfinished last line is left for the next time."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield _effect(line)

    def effects(self, *, operation: str | None = None, effect: str | None = None, identifier: str | None = None) -> list[Effect]:
        """What is there, narrowed."""
        return [
            one
            for one in self
            if (operation is None or one.operation == operation)
            and (effect is None or one.effect == effect)
            and (identifier is None or one.identifier == identifier)
        ]

    def creates(self) -> dict[str, int]:
        """How often each patient was created, by business id. No number may be above 1."""
        counts: dict[str, int] = {}
        for one in self:
            if one.effect == CREATED and one.identifier:
                counts[one.identifier] = counts.get(one.identifier, 0) + 1
        return counts

    def history(self, identifier: str) -> list[Effect]:
        """What changed this patient, in the order of taking effect."""
        return [one for one in self if one.identifier == identifier and one.effect != NOTHING]


def _effect(line: bytes) -> Effect:
    values = orjson.loads(line)
    values["issues"] = tuple(values["issues"])
    values["written"] = tuple(Written(**{**one, "keys": tuple(one["keys"])}) for one in values.get("written", ()))
    return Effect(**values)
