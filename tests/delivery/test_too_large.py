"""A message that is larger than its dead letter may be: it is parked as any other, and nobody waits for it. The whole worker on the embedded bus."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from pipeline.bus.embedded_producer import EmbeddedProducer
from pipeline.bus.limits import MOST_BYTES
from pipeline.bus.port import Record
from pipeline.delivery.payloads import Payloads
from pipeline.errors import BusError
from pipeline.ledger.port import Query
from pipeline.model import Position
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import House, Killed, adt

DELIVERED: Final = (State.DELIVERED, None)
PARKED: Final = (State.PARKED, Reason.TOO_LARGE)
LARGE: Final = b"x" * (MOST_BYTES - 200)
"""With our headers it is more than the bus takes."""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def states(house: House) -> list[tuple[State, Reason | None]]:
    return sorted(house.settled(), key=str)


def test_it_is_parked_without_its_bytes_and_the_others_go_on(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    house.send(adt(control_id="1"), LARGE, b"garbage", adt("A08", "2", time="20240503101500+0200"))
    worker = house.work()
    assert (states(house), house.committed()) == (
        sorted([DELIVERED, PARKED, (State.PARKED, Reason.NOT_HL7), DELIVERED], key=str),
        4,
    )
    assert len({result.result_id for result in house.results()}) == 4, "nothing is emitted twice"
    letters = {headers["emr-source_offset"]: (value, headers) for value, headers in house.dead_letters()}
    assert len(house.dead_letters()) == 2
    assert (letters["2"][0], "emr-left_out" in letters["2"][1]) == (b"garbage", False)
    assert (letters["1"][0], letters["1"][1]["emr-left_out"]) == (None, "value")
    assert letters["1"][1]["emr-source_bytes"] == str(len(LARGE))
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (line,) = (one for one in said if one["event"] == "dead_letter_without_bytes")
    assert (line["at"], line["topic"], line["bytes"]) == ("his.adt/0/1", house.topics.dead_letters, len(LARGE))
    assert not [one for one in said if one["event"] == "bus_away"]
    assert not worker.outages.bus


def test_its_bytes_are_those_of_the_source_record_and_nothing_stands_for_them(house: House) -> None:
    house.send(LARGE)
    house.work()
    payloads = Payloads(house.bus, house.topics.dead_letters)
    found = payloads.find(Position("his.adt", 0, 0), lambda _: True)
    assert found is not None
    assert (found.position, found.value == LARGE) == (Position("his.adt", 0, 0), True)
    assert payloads.find(Position("his.adt", 0, 0), lambda found: found.value is None) is None, "when the source has forgotten it"


@pytest.mark.parametrize("dies_at", [1, 2])
def test_killed_before_or_between_its_parts_the_next_start_writes_what_is_missing(
    house: House, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """The first part: the results, and that the dead letter is refused. The second: what stands for it."""
    house.send(LARGE)
    append_each, asked = EmbeddedProducer.append_each, [0]

    def dying(self: EmbeddedProducer, records: list[Record], timeout: float = 30.0) -> list[Position | BusError]:
        asked[0] += 1
        if asked[0] == dies_at:
            raise Killed
        return append_each(self, records, timeout)

    monkeypatch.setattr(EmbeddedProducer, "append_each", dying)
    with pytest.raises(Killed):
        house.work()
    (row,) = house.ledger.find(Query())
    assert (row.state, len(house.results()), house.dead_letters(), house.committed()) == (State.PARKED, dies_at - 1, [], 0)
    monkeypatch.undo()
    house.work()
    assert {result.result_id for result in house.results()} == {house.results()[0].result_id}
    assert ([value for value, _ in house.dead_letters()], house.committed()) == ([None], 1)
