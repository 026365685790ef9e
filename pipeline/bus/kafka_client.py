"""What all of the Kafka adapter shares: how a client of kafka-python is made, and what its errors mean to us. No records here.

kafka-python's own logging is cut off: at DEBUG it prints keys, values and passwords. No error text of it is passed on either.
"""

import logging
import ssl
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, TypeVar

from kafka import TopicPartition as KafkaTopicPartition
from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient

from pipeline.bus.kafka_diagnosis import why_unreachable
from pipeline.bus.port import TopicPartition
from pipeline.bus.tls import context_of
from pipeline.errors import BusError, BusGap, BusLost, BusRefused, BusTooLarge, BusUnavailable, SettingsError
from pipeline.settings import Kafka

CONNECT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 20.0
"""How long a question to the cluster is asked again while its answer is that somebody is just being elected."""

T = TypeVar("T")

REFUSED: Final[dict[str, str]] = {
    "TopicAuthorizationFailedError": "Kafka does not allow our user this topic (ACL)",
    "GroupAuthorizationFailedError": "Kafka does not allow our user this group (ACL)",
    "ClusterAuthorizationFailedError": "Kafka does not allow our user this on the cluster (ACL)",
    "SaslAuthenticationFailedError": "Kafka refused our user or password",
    "UnsupportedSaslMechanismError": "Kafka does not offer this SASL mechanism",
    "InvalidTopicError": "Kafka does not take this topic name",
    "InvalidReplicationFactorError": "the cluster has fewer brokers than copies are wanted (setting bus.replication)",
    "InvalidPartitionsError": "Kafka does not take this number of partitions",
    "InvalidConfigurationError": "Kafka does not take this topic setting",
    "PolicyViolationError": "the cluster's policy forbids this topic",
    "MessageSizeTooLargeError": "the record is larger than the topic takes (max.message.bytes)",
    "RecordTooLargeError": "a record is larger than can be read",
    "RecordListTooLargeError": "the batch is larger than the topic's segments",
    "InvalidTimestampError": "the timestamp lies outside of what the topic takes (message.timestamp.after.max.ms)",
    "CorruptRecordError": "a record is damaged (checksum)",
    "OffsetOutOfRangeError": "the committed offset is not there any more (retention, or a topic made anew); nothing was skipped: decide where to"
    " go on: emr-pipeline topics start --again (runbook: offset_gone)",
    "LogTruncationError": "the log was cut off behind what was read (an unclean election); nothing was skipped: decide where to go on",
    "NoOffsetForPartitionError": "the group has no offset here: start it first, emr-pipeline topics start --at earliest|latest|TIME --route R"
    " (runbook: offset_gone)",
    "FencedInstanceIdError": "another worker has the same setting bus.static_membership",
    "InconsistentGroupProtocolError": "the group's other members divide partitions in another way (setting bus.rebalance)",
    "InvalidSessionTimeoutError": "the broker does not take this session_timeout_ms (group.min/max.session.timeout.ms)",
    "UnsupportedVersionError": "the broker is too old for this",
    "KafkaConfigurationError": "kafka-python does not take these settings",
    "IllegalStateError": "the consumer or producer was closed",
}
"""kafka-python's errors that no patience helps with. All others are worth another try."""
LOST: Final[dict[str, str]] = {
    "CommitFailedError": "not committed: the group has given the partition to another member meanwhile",
    "IllegalGenerationError": "not committed: the group has been divided anew meanwhile",
    "UnknownMemberIdError": "the group does not know this member any more",
}
"""Those that say that we are no member now: what we held is another's."""
GAPS: Final = frozenset({"OffsetOutOfRangeError", "LogTruncationError", "NoOffsetForPartitionError"})
"""Of the refused: those that say that the place to read on is gone."""
TOO_LARGE: Final = frozenset({"MessageSizeTooLargeError", "RecordListTooLargeError"})
"""Of the refused: those that say that a record is too large. kafka-python parts a batch of several before it says so of one."""


def failure(error: Exception, where: str) -> BusError:
    """kafka-python's error as ours: one line, no value."""
    for kind in type(error).__mro__:
        if kind.__name__ in REFUSED:
            return _refused(kind.__name__)(f"{REFUSED[kind.__name__]} ({type(error).__name__})", where=where)
        if kind.__name__ in LOST:
            return BusLost(f"{LOST[kind.__name__]} ({type(error).__name__})", where=where)
    return BusUnavailable(f"Kafka did not do it ({type(error).__name__}); it is worth another try", where=where)


def _refused(name: str) -> type[BusRefused]:
    if name in GAPS:
        return BusGap
    return BusTooLarge if name in TOO_LARGE else BusRefused


@lru_cache(maxsize=1)
def silence() -> None:
    """Cut off kafka-python's logging, once."""
    logger = logging.getLogger("kafka")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.CRITICAL)


def shared_config(settings: Kafka) -> dict[str, Any]:
    """What every client needs: servers, security. SettingsError where a file or secret is not there."""
    config: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": "emr-pipeline",
        "bootstrap_timeout_ms": int(CONNECT_SECONDS * 1000),
        "reconnect_backoff_max_ms": 5_000,
    }
    protocol = "PLAINTEXT"
    if settings.tls is not None:
        protocol = "SSL"
        config["ssl_context"] = context_of(settings.tls)
    if settings.sasl is not None:
        if settings.tls is None and settings.sasl.mechanism == "PLAIN":
            raise SettingsError(
                "PLAIN would send the password in the clear; give bus.tls (tls: {} trusts the system's CAs)", where="bus.sasl"
            )
        protocol = "SASL_SSL" if settings.tls is not None else "SASL_PLAINTEXT"
        config |= {
            "sasl_mechanism": settings.sasl.mechanism,
            "sasl_plain_username": settings.sasl.username,
            "sasl_plain_password": settings.sasl.password.read("bus.sasl.password"),
        }
    return config | {"security_protocol": protocol}


def connect(kind: Callable[..., Any], settings: Kafka, **more: object) -> Any:  # noqa: ANN401 - kafka-python has no types
    """A KafkaConsumer, KafkaProducer or KafkaAdminClient; BusUnavailable with the reason where no broker takes us."""
    silence()
    config = shared_config(settings)
    if why := why_unreachable(settings):  # asked first: kafka-python would try for ten seconds, and then not know why
        raise BusUnavailable(why, where="Kafka")
    made: list[Any] = []

    def client(**config: object) -> Any:  # noqa: ANN401 - the same
        made.append(KafkaNetClient(**config))
        return made[-1]

    try:
        return kind(**config, kafka_client=client, **more)
    except (kafka_errors.KafkaError, OSError, ssl.SSLError) as error:
        for each in made:
            each.close()  # kafka-python leaves its thread running when it cannot bootstrap
        if isinstance(error, kafka_errors.KafkaConfigurationError):
            raise failure(error, "bus") from None
        raise BusUnavailable(why_unreachable(settings) or f"no broker answered ({type(error).__name__})", where="Kafka") from None


def patiently(question: Callable[[], T], where: str) -> T:
    """Ask until the cluster has an answer: a coordinator or leader that is just being elected is no failure yet."""
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return question()
        except kafka_errors.KafkaError as error:
            again = isinstance(error, kafka_errors.RetriableError) or getattr(error, "retriable", False)
            if not again or time.monotonic() > deadline:
                raise failure(error, where) from None
            time.sleep(0.1)


def theirs(partitions: Iterable[TopicPartition]) -> list[Any]:
    """Our partitions as kafka-python's."""
    return [KafkaTopicPartition(each.topic, each.partition) for each in partitions]


def ours(partitions: Iterable[Any]) -> list[TopicPartition]:
    """kafka-python's partitions as ours, in order."""
    return sorted((TopicPartition(each.topic, each.partition) for each in partitions), key=lambda one: (one.topic, one.partition))
