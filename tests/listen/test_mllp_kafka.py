"""The listener on a real Kafka: what is answered AA is on the topic; a stopped broker gets no answer out of it."""

import pytest

from pipeline.bus.kafka import KafkaBus
from pipeline.bus.port import TopicSettings
from pipeline.hl7.ack import Acknowledgement
from pipeline.listen.server import MllpServer
from pipeline.settings import Listen, Site
from tests.listen.stand_ins import Sender, adt

pytestmark = pytest.mark.kafka


def test_what_was_answered_aa_is_on_the_topic_with_key_and_headers(kafka_bus: KafkaBus, prefix: str) -> None:
    topic = f"{prefix}his.adt"
    kafka_bus.create_topics([TopicSettings(topic, partitions=3)])
    messages = [adt(f"C{number}", patient=str(number % 5)) for number in range(30)]
    with (
        MllpServer(kafka_bus, Listen(topic=topic, address="127.0.0.1:0"), Site(name="test")) as server,
        Sender.to(server.address) as sender,
    ):
        sender.send(*messages)
        assert [sender.acknowledgement() for _ in messages] == [Acknowledgement("AA", f"C{number}") for number in range(30)]
    records = list(kafka_bus.read(topic))
    assert sorted(record.value or b"" for record in records) == sorted(messages)
    assert {record.key for record in records} == {f"ZH|{number}".encode() for number in range(5)}
    for patient in range(5):
        its = [record.value for record in records if record.key == f"ZH|{patient}".encode()]
        assert its == messages[patient::5]
    assert {name for name, _ in records[0].headers} == {"received_ms", "received_by", "listener", "peer"}
