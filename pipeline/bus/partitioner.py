"""Which partition a key belongs to: Kafka's murmur2, so that both buses and every other client put a patient in the same place.

Source: Kafka's org.apache.kafka.common.utils.Utils.murmur2 and BuiltInPartitioner.partitionForKey; the test holds known values of it.
"""

import struct
from functools import lru_cache
from typing import Final

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_MASK: Final = 0xFFFFFFFF


@lru_cache(maxsize=4096)
def murmur2(data: bytes) -> int:
    """The 32-bit hash, unsigned."""
    whole = len(data) // 4
    state = _SEED ^ len(data)
    for word in struct.unpack_from(f"<{whole}I", data):
        mixed = (word * _M) & _MASK
        mixed = ((mixed ^ (mixed >> 24)) * _M) & _MASK
        state = ((state * _M) & _MASK) ^ mixed
    rest = data[whole * 4 :]
    if rest:
        state = ((state ^ int.from_bytes(rest, "little")) * _M) & _MASK
    state = ((state ^ (state >> 13)) * _M) & _MASK
    return state ^ (state >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
