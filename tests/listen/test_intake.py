"""Whatever a frame holds: it is stored or refused, and nothing raises."""

import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.errors import Ended
from pipeline.hl7.ack import read_header
from pipeline.hl7.batch import split
from pipeline.hl7.er7 import parse
from pipeline.hl7.mllp import Frame, Framer
from pipeline.listen.intake import Intake, Peer
from pipeline.settings import Site
from tests.listen.stand_ins import TOPIC, FailingBus, adt

PEER = Peer("127.0.0.1", "127.0.0.1:2575")
SAMPLES = Path(__file__).parents[2] / "../shared/hl7-samples"


def intake(bus: FailingBus) -> Intake:
    return Intake(bus.producer(), TOPIC, Site(name="test"), in_flight=1, store_seconds=1)


def mangled(seed: int) -> bytes:
    chance = random.Random(seed)
    message = bytearray(adt("C1", extra="ZPI|\\X41\\|~^&||\r"))
    for _ in range(chance.randrange(1, 12)):
        message[chance.randrange(len(message))] = chance.choice(b'|^~\\&\r\n\x00\xff\xc3MSH"')
    return bytes(message)


@given(
    st.one_of(
        st.binary(max_size=200), st.binary(max_size=80).map(lambda rest: b"MSH|" + rest), st.integers(0, 1 << 32).map(mangled)
    )
)
@example(adt("C1") + b"MSH\x80")
@example(adt("C1") + b"MSH|")
def test_whatever_comes_is_stored_or_refused(content: bytes) -> None:
    bus = FailingBus()
    its = intake(bus)
    taken = its.take(Frame(content), PEER)
    header = read_header(content)
    assert not taken.ends
    if header is None:
        assert (len(bus.records), its.refused) == (0, 1)
    elif header.segment == "MSH" and its.stored == 1:
        assert bus.values() == [content]
    answers = Framer(1_000_000).feed(taken.answer)
    assert all(isinstance(answer, Frame) for answer in answers)


def test_each_public_sample_that_the_reader_reads_is_taken() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("the public samples are not on this machine (../shared/hl7-samples)")
    read = 0
    for file in sorted(SAMPLES.rglob("*.hl7")):
        for message in split(file.read_bytes()):
            try:
                its = parse(message, charset="UTF-8")
            except Ended:
                assert read_header(message) is None, file.name
                continue
            header = read_header(message)
            assert header is not None, file.name
            assert (its("MSH-12.1") or "") == header.first(12), file.name
            read += 1
    assert read > 100
