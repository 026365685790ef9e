"""The embedded log against lists: append, poll, commit, seek, retention, restart in any order. Nothing lost, doubled, reordered or skipped."""

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.embedded_consumer import EmbeddedConsumer
from pipeline.bus.embedded_producer import EmbeddedProducer
from pipeline.bus.port import Record, TopicPartition, TopicSettings, Where

PARTITIONS = 2
DAY = 86_400_000
NUMBERS = st.integers(0, PARTITIONS - 1)


def at(number: int) -> TopicPartition:
    return TopicPartition("t", number)


class LogAgainstLists(RuleBasedStateMachine):
    """Per partition the model has all values ever appended, the earliest that must still be there, what the group committed and read."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="bus-machine-")
        self.now = 1_800_000_000_000
        self.counter = 0
        self.appended: list[list[tuple[bytes, bool]]] = [[] for _ in range(PARTITIONS)]
        self.first = [0] * PARTITIONS
        self.committed = [0] * PARTITIONS
        self.position = [0] * PARTITIONS
        self.paused: set[int] = set()
        self.bus: EmbeddedBus
        self.producer: EmbeddedProducer
        self.consumer: EmbeddedConsumer

    @initialize()
    def begin(self) -> None:
        self.bus = EmbeddedBus(Path(self.folder.name) / "bus", clock=lambda: self.now)
        self.bus.create_topics([TopicSettings("t", PARTITIONS, retention_ms=DAY)])
        self.bus.start("g", ["t"], Where.EARLIEST)
        self._open()
        self.append([0, 1, 0, 1, 0])  # Hypothesis likes short runs; without this most would look at an empty log

    def _open(self) -> None:
        self.producer = self.bus.producer()
        self.consumer = self.bus.consumer("g", ["t"])

    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=6))
    def append(self, numbers: list[int]) -> None:
        records = []
        for number in numbers:
            self.counter += 1
            value = str(self.counter).encode()
            records.append(Record("t", value, partition=number))
        offsets = [len(part) for part in self.appended]
        for record, position in zip(records, self.producer.append(records), strict=True):
            number = position.partition
            assert position.offset == offsets[number]
            offsets[number] += 1
            self.appended[number].append((record.value or b"", False))

    @rule(most=st.integers(1, 5))
    def poll(self, most: int) -> None:
        records = self.consumer.poll(0, most)
        due = sum(len(self.appended[number]) - self.position[number] for number in range(PARTITIONS) if number not in self.paused)
        assert len(records) == min(most, due)
        for record in records:
            number = record.position.partition
            assert number not in self.paused
            assert record.position.offset == self.position[number]
            assert record.value == self.appended[number][self.position[number]][0]
            self.position[number] += 1

    @rule(number=NUMBERS, back=st.integers(0, 3))
    def commit(self, number: int, back: int) -> None:
        offset = max(self.committed[number], self.position[number] - back)
        self.consumer.commit({at(number): offset})
        self.committed[number] = offset

    @rule(most=st.integers(1, 5))
    def poll_and_commit_all(self, most: int) -> None:
        self.poll(most)
        self.consumer.commit({at(number): self.position[number] for number in range(PARTITIONS)})
        self.committed = list(self.position)

    @rule(number=NUMBERS)
    def seek_to_the_commit(self, number: int) -> None:
        self.consumer.seek(at(number), self.committed[number])
        self.position[number] = self.committed[number]

    @rule(number=NUMBERS)
    def pause_or_resume(self, number: int) -> None:
        if number in self.paused:
            self.consumer.resume([at(number)])
        else:
            self.consumer.pause([at(number)])
        self.paused ^= {number}

    @rule()
    def two_days_pass(self) -> None:
        """All that is there is old now; `True` marks it."""
        self.now += 2 * DAY
        self.appended = [[(value, True) for value, _ in part] for part in self.appended]

    @rule()
    def forget(self) -> None:
        gone = self.bus.retain()
        before = list(self.first)
        for number, part in enumerate(self.appended):
            while self.first[number] < self.committed[number] and part[self.first[number]][1]:
                self.first[number] += 1
        assert gone == sum(self.first) - sum(before)

    @rule()
    def restart(self) -> None:
        self.bus.close()
        self.bus = EmbeddedBus(Path(self.folder.name) / "bus", clock=lambda: self.now)
        self._open()
        self.position, self.paused = list(self.committed), set()

    @precondition(lambda self: hasattr(self, "bus"))
    @invariant()
    def the_log_is_the_lists(self) -> None:
        for number, part in enumerate(self.appended):
            assert self.bus.bounds("t")[at(number)] == (self.first[number], len(part))
            assert self.consumer.committed([at(number)]) == {at(number): self.committed[number]}
        there = [value for number, part in enumerate(self.appended) for value, _ in part[self.first[number] :]]
        assert [record.value for record in self.bus.read("t")] == there

    def teardown(self) -> None:
        if hasattr(self, "bus"):
            self.bus.close()
        self.folder.cleanup()


TestLogAgainstLists = LogAgainstLists.TestCase
TestLogAgainstLists.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
