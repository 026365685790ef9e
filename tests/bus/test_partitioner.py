"""Kafka's partitioner, against values that Kafka's own test holds (UtilsTest.testMurmur2) and against kafka-python's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as their_murmur2

from pipeline.bus.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_that_of_the_java_client(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@given(st.binary(max_size=40), st.integers(1, 64))
def test_every_key_goes_where_kafka_python_puts_it(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (their_murmur2(key) & 0x7FFFFFFF) % partitions
