"""A process that produces or consumes until it is killed, and says on standard output what counts: [partition, offset] per line."""

import json
import sys
from pathlib import Path

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.kafka import KafkaBus
from pipeline.bus.port import Bus, Record, TopicPartition
from pipeline.settings import Kafka


def say(partition: int, offset: int) -> None:
    sys.stdout.write(json.dumps([partition, offset]) + "\n")
    sys.stdout.flush()


def produce(bus: Bus, topic: str) -> None:
    """Each record's value is its number; said once it is durable."""
    producer = bus.producer()
    number = 0
    while True:
        for position in producer.append(Record(topic, str(number + each).encode(), partition=0) for each in range(5)):
            say(position.partition, position.offset)
        number += 5


def consume(bus: Bus, topic: str, group: str) -> None:
    """Commit after every record; said once it is committed."""
    consumer = bus.consumer(group, [topic])
    while True:
        for record in consumer.poll(0.5, most=1):
            consumer.commit({TopicPartition(topic, record.position.partition): record.position.offset + 1})
            say(record.position.partition, record.position.offset + 1)


def main(what: str, where: str, topic: str, group: str) -> None:
    place = json.loads(where)
    bus: Bus = EmbeddedBus(Path(place["folder"])) if "folder" in place else KafkaBus(Kafka(**place["kafka"]))
    if what == "produce":
        produce(bus, topic)
    consume(bus, topic, group)


if __name__ == "__main__":
    main(*sys.argv[1:])
