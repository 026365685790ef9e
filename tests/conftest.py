"""What every test may use. The real servers start when a test first asks for one, once per session (kafka_server.py, postgres_server.py)."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings

from pipeline.bus.kafka import KafkaBus
from pipeline.settings import Kafka
from tests.kafka_server import Server, from_jars, kafka_settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
"""An example that is slow on a machine with much else to do is no failure."""


@pytest.fixture
def prefix() -> str:
    """A beginning of topic and group names that no other test has."""
    return f"test.{uuid.uuid4().hex[:10]}."


@pytest.fixture
def kafka() -> Kafka:
    """Settings of the session's real Kafka."""
    return kafka_settings()


@pytest.fixture
def brokers() -> Iterator[Callable[..., Server]]:
    """Some that are this test's alone: `brokers("--brokers", "3")`."""
    with ExitStack() as stack:
        yield lambda *words: stack.enter_context(from_jars(*words))


@pytest.fixture
def kafka_bus(kafka: Kafka) -> Iterator[KafkaBus]:
    """The bus on the session's real Kafka."""
    bus = KafkaBus(kafka)
    yield bus
    bus.close()
