"""What holds R3 to R7, each with a way to take it away: for the launcher of tests/faults alone, in the worker's own process.

`python -m tests.faults.guards [NAME …]` runs the fault tests of each with the guard off, and prints what failed. A guard whose absence
nobody notices is redundant there, or not tested. Nothing here changes the program: it is patched, in memory, where a test starts it.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

from pipeline.bus import kafka_client, kafka_consumer, kafka_membership, kafka_producer
from pipeline.bus.kafka_consumer import KafkaBusConsumer
from pipeline.bus.kafka_membership import Membership
from pipeline.bus.kafka_producer import KafkaBusProducer
from pipeline.bus.port import TopicPartition
from pipeline.delivery import intake
from pipeline.delivery.attempts import Delivery
from pipeline.delivery.offsets import Offsets
from pipeline.delivery.worker import Worker
from pipeline.errors import BusError, BusRefused
from pipeline.ledger import deliveries
from pipeline.ledger.sql import SqlLedger
from pipeline.model import Position
from schemas.outcomes import State

WITHOUT: Final = "EMR_WITHOUT"
"""Names of guards, by commas: workers of a hospital start without them."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What is taken away, and which tests have to notice."""

    row: str
    what: str
    off: Callable[[], None]
    tests: str
    """Of pytest -k."""


def _always(owner: object, name: str, answer: object) -> Callable[[], None]:
    """What is asked has one answer from now on."""
    return lambda: setattr(owner, name, lambda *_, **__: answer)


def _commit_taken_for_made() -> None:
    real = KafkaBusConsumer.commit

    @wraps(real)
    def commit(self: KafkaBusConsumer, offsets: Mapping[TopicPartition, int]) -> None:
        try:
            real(self, offsets)
        except BusError:
            return

    KafkaBusConsumer.commit = commit  # type: ignore[method-assign]


def _offsets_reset() -> None:
    real = vars(kafka_consumer)["connect"]

    def connect(*things: Any, **more: Any) -> Any:  # noqa: ANN401 - kafka-python has no types
        return real(*things, **more | {"auto_offset_reset": "earliest"})

    vars(kafka_consumer)["connect"] = connect


def _no_topic_id() -> None:
    for module in (kafka_consumer, kafka_membership):
        module.metadata_of = lambda _: ""  # type: ignore[attr-defined]


def _lanes_of_nobody() -> None:
    class Free:
        """A lane that everybody gets."""

        @staticmethod
        def first(*_: object) -> bool:
            return True

    deliveries._enter = lambda _: Free  # type: ignore[assignment]


def _revoked_at_once() -> None:
    def revoked(self: Worker, partitions: Iterable[TopicPartition]) -> None:
        self.lost(list(partitions))

    Worker.revoked = revoked  # type: ignore[method-assign]


def _no_epochs() -> None:
    def done(self: Offsets, position: Position, state: State) -> None:
        with self._guard:
            reading = self._frontier._readings.get((position.topic, position.partition))
            if reading is not None and self._frontier.done(position, reading.epoch):
                self.progress.count(state)

    Offsets.done = done  # type: ignore[method-assign]


def _every_error_for_good() -> None:
    def failure(error: Exception, where: str) -> BusError:
        return BusRefused(f"refused ({type(error).__name__})", where=where)

    for module in (kafka_client, kafka_consumer, kafka_producer):
        module.failure = failure  # type: ignore[attr-defined]


def _late_answer_counts() -> None:
    """What a process that stood still tells of its attempt is written whatever happened since."""
    real: Any = SqlLedger.retry

    @wraps(real)
    def retry(self: SqlLedger, route: str, position: Position, *told: Any) -> None:  # noqa: ANN401 - as it is there
        seen = self.seen(route, position)
        real(self, route, position, *told[:-1], seen.intents if seen is not None else told[-1])

    SqlLedger.retry = retry  # type: ignore[method-assign, assignment]


GUARDS: Final = {
    "one-intent-per-lane": Guard("R3", "the ledger lets one open intent into a lane", _lanes_of_nobody, "test_members_join"),
    "settled-before-passed-on": Guard("R3", "Worker.revoked waits, and commits", _revoked_at_once, "passed_on_in_peace"),
    "stood-still": Guard(
        "R4", "nothing is sent long after its intent", _always(Delivery, "_stood_since", answer=False), "stood_still_between"
    ),
    "asks-its-group": Guard(
        "R4",
        "nothing is handed out after a session without the group's word",
        _always(KafkaBusConsumer, "_in_doubt", answer=False),
        "test_a_worker_that_stood_still",
    ),
    "epochs": Guard("R4", "a late completion of a lost partition moves no offset", _no_epochs, "test_a_worker_that_stood_still"),
    "lease": Guard(
        "R4",
        "another's open intent is left alone until its deadline",
        _always(Delivery, "_lease", answer=0.0),
        "test_a_worker_that_stood_still or stood_still_between",
    ),
    "late-answer": Guard(
        "R4",
        "a late answer takes nothing back (after)",
        _late_answer_counts,
        "test_a_worker_that_stood_still or stood_still_between",
    ),
    "commit-verdict": Guard(
        "R5", "a refused commit is none", _commit_taken_for_made, "coordinator_dies or cut_off_from_its_group"
    ),
    "outage": Guard(
        "R6",
        "an error of Kafka is an outage, unless known to be for good",
        _every_error_for_good,
        "broker_is_away or leader_dies",
    ),
    "spent-producer": Guard(
        "R6",
        "a producer that failed is made anew",
        _always(KafkaBusProducer, "_failed", answer=None),
        "broker_is_away or leader_dies",
    ),
    "no-reset": Guard(
        "R7", "auto_offset_reset is none", _offsets_reset, "test_records_that_retention or test_offsets_that_somebody"
    ),
    "topic-id-committed": Guard("R7", "the topic's id stands beside each commit", _no_topic_id, "made_anew_stops"),
    "topic-id-read": Guard(
        "R7", "the topic that is read is the one it was", _always(Membership, "check_ids", answer=None), "made_anew_under"
    ),
    "known-record": Guard(
        "R7", "the ledger knows what stood in a place", lambda: setattr(intake, "is_known_as", lambda *_: True), "made_anew_stops"
    ),
    "topic-there": Guard(
        "R7", "a topic that is gone is told", _always(KafkaBusConsumer, "_check_there", answer=None), "deleted_under"
    ),
    "added": Guard(
        "R7",
        "an added partition is read from its first record",
        _always(Membership, "_added", answer=[]),
        "partition_that_was_added",
    ),
}
"""By the name that the launcher takes."""


def take_away(names: Iterable[str]) -> None:
    """In this process, from now on."""
    for name in names:
        GUARDS[name].off()


def noticed(name: str) -> tuple[bool, str]:
    """Run the tests of one guard without it: whether one failed, and pytest's last line."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "tests/faults",
        "-k",
        GUARDS[name].tests,
    ]
    done = subprocess.run(command, env=os.environ | {WITHOUT: name}, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines() or [done.stderr]
    failed = [line.split(" - ")[0].removeprefix("FAILED tests/faults/") for line in lines if line.startswith("FAILED ")]
    return done.returncode == 1 and bool(failed), "; ".join([lines[-1], *failed])


def main(names: list[str]) -> int:
    """A line for each; 1 where one was not missed."""
    missed = True
    for name in names or list(GUARDS):
        seen, said = noticed(name)
        missed = missed and seen
        sys.stdout.write(f"{GUARDS[name].row} {name} ({GUARDS[name].what}): {'missed' if seen else 'NOT MISSED'}: {said}\n")
        sys.stdout.flush()
    return 0 if missed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
