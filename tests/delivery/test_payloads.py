"""The bytes of records whose source is gone: the dead letters are read on from where the last look ended, as far as that is there."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from pipeline.bus.port import TopicPartition
from pipeline.delivery.payloads import SOURCE, Payloads
from pipeline.errors import BusRefused
from pipeline.model import Position, Received

LETTERS: Final = "letters"
P0: Final = TopicPartition(LETTERS, 0)


def letter(at: int, of: int) -> Received:
    said = ("his.adt", "0", f"{of}")
    headers = tuple((name, value.encode()) for name, value in zip(SOURCE, said, strict=True))
    return Received(Position(LETTERS, 0, at), f"bytes of {of}".encode(), headers=headers)


class OnlyLetters:
    """A bus whose source topic is gone."""

    def __init__(self, *records: Received) -> None:
        self.records = list(records)

    def topics(self) -> dict[str, int]:
        return {LETTERS: 1}

    def bounds(self, _topic: str) -> dict[TopicPartition, tuple[int, int]]:
        offsets = [record.position.offset for record in self.records]
        return {P0: (offsets[0], offsets[-1] + 1)}

    def read(self, topic: str, *, start: Mapping[TopicPartition, int]) -> Iterator[Received]:
        first, end = self.bounds(topic)[P0]
        at = start.get(P0, first)
        if not first <= at <= end:
            raise BusRefused("that offset is not there", where=topic)
        return iter([record for record in self.records if record.position.offset >= at])

    def fetch(self, position: Position) -> Received | None:
        if position.topic not in self.topics():
            raise BusRefused("no such topic", where=position.topic)
        return next((record for record in self.records if record.position == position), None)


def without_bytes(at: int, of: int) -> Received:
    """One whose message was too large for the topic."""
    whole = letter(at, of)
    return replace(whole, value=None, headers=(*whole.headers, ("emr-left_out", b"value")))


def found(payloads: Payloads, offset: int, *, fits: bool = True) -> bytes | None:
    received = payloads.received(Position("his.adt", 0, offset), lambda _: fits)
    return received.value if received is not None else None


def test_dead_letters_that_were_taken_away_or_made_anew_stop_nobody_from_reading_the_others() -> None:
    bus: Any = OnlyLetters(*(letter(at, at + 10) for at in range(3)))
    payloads = Payloads(bus, LETTERS)
    assert found(payloads, 10) == b"bytes of 10"
    bus.records = [letter(7, 17), letter(8, 18)]  # somebody gave it a retention
    assert found(payloads, 18) == b"bytes of 18"
    bus.records = [letter(0, 30)]  # made anew
    assert found(payloads, 30) == b"bytes of 30"
    assert found(payloads, 30, fits=False) is None


def test_a_dead_letter_without_its_message_is_never_taken_for_it() -> None:
    tombstone = replace(letter(4, 13), value=None)
    own = replace(letter(3, 12), headers=(*letter(3, 12).headers, ("emr-left_out", b"value")))  # of its source record
    bus: Any = OnlyLetters(letter(0, 10), without_bytes(1, 10), without_bytes(2, 11), own, tombstone)
    payloads = Payloads(bus, LETTERS)
    assert [found(payloads, offset) for offset in (10, 11, 12)] == [b"bytes of 10", None, b"bytes of 12"]
    assert payloads.find(Position("his.adt", 0, 13), lambda _: True) is tombstone
