"""What becomes of one frame: onto the bus, durably, and only then an acknowledgement. No socket here.

Nothing is answered AA (CA) that the bus does not have. One message of a connection is with the bus at a time: what follows a message that
failed is therefore never stored ahead of it, whatever the partitions do. `take` is called by many threads, one per connection.
"""

import itertools
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from zoneinfo import ZoneInfo

from pipeline.bus.port import Producer, Record
from pipeline.errors import BusError, Ended
from pipeline.hl7.ack import Header, Problem, acknowledge, acknowledge_batch, read_header
from pipeline.hl7.batch import split
from pipeline.hl7.er7 import parse
from pipeline.hl7.event import source_key
from pipeline.hl7.mllp import Frame, TooLarge, frame
from pipeline.listen.refusals import Refusal, Refusals
from pipeline.settings import Site
from pipeline.telemetry import LogEvent, log

_ANOTHER: Final = re.compile(rb"[\r\n]MSH[!-/:-@\[-`{-~]")
"""A second message in one frame."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What to do on the connection: bytes to write, frames included; and whether it ends there."""

    answer: bytes = field(default=b"", repr=False)
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a message came from, for the record's headers."""

    host: str
    listener: str

    def headers(self, received_ms: int) -> tuple[tuple[str, bytes], ...]:
        """The headers of a source record: no value of the message is among them."""
        return (
            ("received_ms", str(received_ms).encode()),
            ("received_by", b"listen"),
            ("listener", self.listener.encode()),
            ("peer", self.host.encode()),
        )


class Intake:
    """Stores what comes in. `producer` is the caller's to close."""

    def __init__(
        self,
        producer: Producer,
        topic: str,
        site: Site,
        *,
        in_flight: int,
        store_seconds: float,
        bus_away: Literal["close", "error"] = "close",
    ) -> None:
        """`in_flight`: messages that may wait for the bus at once; `store_seconds`: how long one may take."""
        self._producer = producer
        self._topic = topic
        self._charset = site.charset
        self._zone = ZoneInfo(site.zone)
        self._store_seconds = store_seconds
        self._bus_away = bus_away
        self._slots = threading.BoundedSemaphore(in_flight)
        self._control_ids: Callable[[], str] = map(
            "{}{:08x}".format, itertools.repeat(secrets.token_hex(4)), itertools.count(1)
        ).__next__
        self._guard = threading.Lock()
        self._away = False
        self.stored = 0
        self._refusals = Refusals()

    @property
    def refused(self) -> int:
        """Frames, and messages of batches, that were not stored for their own sake."""
        return self._refusals.count

    def take(self, item: Frame | TooLarge, peer: Peer) -> Taken:
        """Store what the frame holds and say what to answer."""
        if isinstance(item, TooLarge):
            return self._refuse(peer, read_header(item.head), Problem.TOO_LARGE, ends=item.abandoned)
        header = read_header(item.content)
        if header is not None and header.segment != "MSH":
            return self._take_batch(header, item.content, peer)
        if header is not None and _ANOTHER.search(item.content):
            return self._take_several(item.content, peer)
        return self._take_message(item.content, header, peer)

    def _take_message(self, message: bytes, header: Header | None, peer: Peer) -> Taken:
        if header is None:
            return self._refuse(peer, None, Problem.NOT_HL7)
        problem = self._store(message, peer)
        if problem and self._bus_away == "close":
            return Taken(ends=True)
        return Taken(_framed(self._answer(header, problem)), ends=problem is not None)

    def _take_several(self, content: bytes, peer: Peer) -> Taken:
        """Several messages in one frame: each as if it had had a frame of its own."""
        answers: list[bytes] = []
        for message in split(content):
            taken = self._take_message(message, read_header(message), peer)
            answers.append(taken.answer)
            if taken.ends:
                return Taken(b"".join(answers), ends=True)
        return Taken(b"".join(answers))

    def _take_batch(self, header: Header, content: bytes, peer: Peer) -> Taken:
        """A batch in one frame: each message a record, one frame back with the batch of their acknowledgements."""
        answers: list[bytes] = []
        away = wanted = False
        messages = list(split(content))
        for message in messages:
            its = read_header(message)
            if its is None:
                self._refusals.note(peer.host, Refusal.NOT_HL7)
            problem = Problem.NOT_HL7 if its is None else Problem.STORE_AWAY if away else self._store(message, peer)
            away = away or problem is Problem.STORE_AWAY
            if away and self._bus_away == "close":
                return Taken(ends=True)
            answer = self._answer(its, problem)
            if answer is not None:
                answers.append(answer)
            wanted = wanted or its is None or its.wants(accepted=True) or its.wants(accepted=False)
        if messages and not wanted:
            return Taken(ends=away)
        now = self._now()
        return Taken(
            _framed(acknowledge_batch(_batch_headers(header, content), answers, control_id=self._control_ids(), now=now)),
            ends=away,
        )

    def cut_off(self, peer: Peer) -> None:
        """The connection ended within a frame: there is nothing to store, and nobody to answer."""
        self._refusals.note(peer.host, Refusal.CUT_OFF)

    def _refuse(self, peer: Peer, header: Header | None, problem: Problem, *, ends: bool = False) -> Taken:
        self._refusals.note(peer.host, Refusal.TOO_LARGE if problem is Problem.TOO_LARGE else Refusal.NOT_HL7)
        return Taken(_framed(self._answer(header, problem)), ends=ends)

    def _answer(self, header: Header | None, problem: Problem | None) -> bytes | None:
        return acknowledge(header, problem, control_id=self._control_ids(), now=self._now())

    def _now(self) -> datetime:
        return datetime.now(self._zone)

    def _store(self, message: bytes, peer: Peer) -> Problem | None:
        """One message onto the bus; returns when it is durable, or the problem when it is not known to be."""
        received_ms = time.time_ns() // 1_000_000
        record = Record(self._topic, message, key=self._key_of(message), headers=peer.headers(received_ms))
        try:
            with self._slots:
                self._producer.send(record).wait(self._store_seconds)
        except BusError as error:
            self._note_away(error)
            return Problem.STORE_AWAY
        self._note_stored()
        return None

    def _key_of(self, message: bytes) -> bytes | None:
        """Assigning authority and patient id, so that a patient's messages share a partition; None where they cannot be read."""
        try:
            return source_key(parse(message, charset=self._charset))
        except Ended:
            return None
        except Exception as error:  # noqa: BLE001 - a defect of the reader must not keep a message out: the worker parks it
            log(
                LogEvent.LISTEN_FAILED,
                problem=f"key: {type(error).__name__}",
                do="the message was stored without a key; report this",
            )
            return None

    def _note_stored(self) -> None:
        with self._guard:
            self.stored += 1
            back, self._away = self._away, False
        if back:
            log(LogEvent.BUS_BACK, topic=self._topic)

    def _note_away(self, error: BusError) -> None:
        with self._guard:
            new, self._away = not self._away, True
        if new:
            log(
                LogEvent.BUS_AWAY,
                topic=self._topic,
                problem=str(error),
                do="senders keep their messages meanwhile; bring the bus back (emr-pipeline doctor says what is wrong)",
            )


def _framed(answer: bytes | None) -> bytes:
    return b"" if answer is None else frame(answer)


def _batch_headers(header: Header, content: bytes) -> list[Header]:
    """The FHS and the first BHS of a batch, as far as they are there."""
    if header.segment == "BHS":
        return [header]
    start = re.search(rb"[\r\n]BHS", content)
    inner = read_header(content[start.start() + 1 :]) if start else None
    return [header, inner] if inner else [header]
