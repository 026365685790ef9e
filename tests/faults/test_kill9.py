"""R1, in its first form: the worker is killed at random points, 20 times; the partner's own log is the judge.

The worker is a process of its own, the partner is the stand-in, the bus is embedded or a real Kafka. A seed gives the points again.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline import wiring
from pipeline.bus.port import Record
from pipeline.sandbox.log import Effect
from pipeline.sandbox.roche.stand_in import RocheSandbox
from pipeline.settings import Kafka, Settings, load
from pipeline.stages.route import request_id
from schemas.result import Result
from tests.delivery.partner_script import adt

KILLS = 20
PATIENTS = 100
SEED = int(os.environ.get("EMR_SEED", "1"))
ROUTE = "roche-patients"


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def bus_settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    if request.param == "embedded":
        return {"kind": "embedded", "path": str(tmp_path / "bus")}
    kafka: Kafka = request.getfixturevalue("kafka")
    return {"kind": "kafka", "bootstrap_servers": list(kafka.bootstrap_servers), "replication": 1, "session_timeout_ms": 1500}


@pytest.fixture
def partner(tmp_path: Path) -> Iterator[RocheSandbox]:
    """The worst there is: a second create of a patient is answered with 200 and makes a second patient."""
    with RocheSandbox(tmp_path / "sandbox", {"latency": 0.02, "duplicate": "twice"}) as sandbox:
        yield sandbox


def settings_file(folder: Path, partner: RocheSandbox, bus: dict[str, object], prefix: str) -> Path:
    """The published worst time is 10 s and the stand-in's is 20 ms: the margin brings the probe to 0.2 s after the last byte."""
    tree = {
        "site": {"name": "test"},
        "bus": bus,
        "ledger": {"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
        "keys": {"patient_hash": {"file": str(folder / "key")}},
        "topics": {"results": f"{prefix}results", "partitions": 2},
        "partners": {
            "roche": {
                "kind": "roche",
                "base_url": partner.base_url,
                "org_id": "2.16.724.4.2",
                "client_id": "1234567890",
                "client_secret": {"file": str(folder / "sandbox" / "client-secret")},
                "tls": {
                    name: str(folder / "sandbox" / file)
                    for name, file in {"ca": "ca.pem", "certificate": "client.pem", "key": "client.key"}.items()
                },
                "probe_margin": -9.8,
            }
        },
        "routes": {
            ROUTE: {
                "partner": "roche",
                "source": f"{prefix}adt",
                "start": "earliest",
                "dead_letters": f"{prefix}dead",
                "group": f"{prefix}group",
            }
        },
        "delivery": {"backoff_first": 0.05, "backoff_most": 0.2},
    }
    (folder / "key").write_text("a secret of the tests, long enough")
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def traffic() -> list[tuple[bytes, bytes]]:
    """A create and two updates for each patient, in a mixed order that keeps each patient's own; with garbage in between."""
    rounds = [("A04", "20240501"), ("A08", "20240502"), ("A08", "20240503")]
    messages = [
        (f"P{patient:04}".encode(), adt(event, f"{patient}-{day}", patient=f"P{patient:04}", time=f"{day}101500+0200"))
        for event, day in rounds
        for patient in range(PATIENTS)
    ]
    messages.insert(10, (b"nobody", b"garbage"))
    return messages


def start(settings: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "run", "--drain", "--settings", str(settings)], stderr=subprocess.DEVNULL
    )


def kill_somewhere(worker: subprocess.Popen[bytes], partner: RocheSandbox, random_: random.Random) -> bool:
    """Kill it a few requests and some milliseconds after it began to send; False where it was done before."""
    target = partner.requests + random_.randint(0, 4)
    while partner.requests < target and worker.poll() is None:
        time.sleep(0.001)
    time.sleep(random_.uniform(0, 0.06))
    if worker.poll() is not None:
        return False
    worker.send_signal(signal.SIGKILL)
    worker.wait(60)
    return True


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_twenty_times_every_message_is_in_one_state_and_no_patient_is_created_twice(
    tmp_path: Path, partner: RocheSandbox, bus_settings: dict[str, object]
) -> None:
    random_ = random.Random(SEED)
    path = settings_file(tmp_path, partner, bus_settings, f"kill9-{random_.randrange(10**9)}-{os.getpid()}-")
    settings = load(path)
    messages = traffic()
    fill(settings, messages)

    kills = sum(kill_somewhere(start(path), partner, random_) for _ in range(KILLS))
    assert start(path).wait(400) == 0

    assert kills == KILLS
    check(settings, messages, partner)


def fill(settings: Settings, messages: list[tuple[bytes, bytes]]) -> None:
    with wiring.opened(settings) as things:
        things.bus.create_topics(wiring.topic_settings(settings))
        with things.bus.producer() as producer:
            producer.append([Record(settings.routes[ROUTE].source, message, key=key) for key, message in messages])


def check(settings: Settings, messages: list[tuple[bytes, bytes]], partner: RocheSandbox) -> None:
    effects = partner.log.effects()
    created = Counter(effect.identifier for effect in effects if effect.effect == "created")
    assert created == Counter({f"P{patient:04}": 1 for patient in range(PATIENTS)})
    assert_source_order(effects, [message for _, message in messages])
    with wiring.opened(settings) as things:
        assert sum(things.ledger.counts(ROUTE)[ROUTE].values()) == len(messages)
        results = [
            Result.model_validate_json(record.value) for record in things.bus.read(settings.topics.results) if record.value
        ]
    settled = {(result.source_partition, result.source_offset): result.state for result in results if result.settled}
    assert Counter(str(state) for state in settled.values()) == Counter(delivered=3 * PATIENTS, parked=1)


def assert_source_order(effects: list[Effect], messages: list[bytes]) -> None:
    """First effects of a patient come in the order of its messages, and none is missing but where a probe did its work."""
    place = {request_id(ROUTE, message): number for number, message in enumerate(messages)}
    for patient in {effect.identifier for effect in effects if effect.effect != "nothing"}:
        of_patient = [effect.request_id for effect in effects if effect.identifier == patient and effect.effect != "nothing"]
        places = [place[one] for one in dict.fromkeys(of_patient) if one in place]
        assert places == sorted(places)
        assert len(places) >= 1
