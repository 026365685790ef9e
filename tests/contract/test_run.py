"""The same run on the embedded bus with SQLite and on the real Kafka with the real PostgreSQL: the same requests, byte for byte, the same ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.bus.kafka import KafkaBus
from pipeline.model import Request
from schemas.outcomes import Reason, State
from tests import postgres_server
from tests.delivery.partner_script import House, adt

GOLDEN = sorted((Path(__file__).parents[2] / "mappings" / "roche" / "golden").glob("*.hl7"))
MESSAGES = [
    adt(),
    adt("A08", "2", time="20240503101500+0200"),
    adt(),
    b"garbage",
    None,
    adt("A40", "3", patient="S1", prior="P1"),
    adt("A04", "4", authority="NOBODY"),
    *(path.read_bytes() for path in GOLDEN),
]


def named(prefix: str) -> Callable[[dict[str, Any]], None]:
    def change(tree: dict[str, Any]) -> None:
        tree["topics"]["results"] = f"{prefix}results"
        tree["routes"]["roche-patients"] |= {"source": f"{prefix}adt", "dead_letters": f"{prefix}dead", "group": f"{prefix}group"}
        tree["listen"]["topic"] = f"{prefix}adt"

    return change


def done(house: House) -> tuple[list[tuple[str, str, tuple[tuple[str, str], ...], bytes]], list[tuple[State, Reason | None]]]:
    house.send(*MESSAGES)
    house.work()
    try:
        return [told(request) for request in house.script.requests], house.settled()
    finally:
        house.ledger.close()


def told(request: Request) -> tuple[str, str, tuple[tuple[str, str], ...], bytes]:
    return request.method, request.path, request.headers, request.body


@pytest.mark.kafka
@pytest.mark.postgres
def test_the_same_run_gives_the_same_requests_and_ends(tmp_path: Path, kafka_bus: KafkaBus, prefix: str) -> None:
    (tmp_path / "embedded").mkdir()
    on_embedded = done(House(tmp_path / "embedded", change=named(prefix)))
    on_kafka = done(House(tmp_path, change=named(prefix), bus=kafka_bus, ledger=postgres_server.a_schema()))
    assert len(on_embedded[1]) == len(MESSAGES)
    assert on_embedded == on_kafka
