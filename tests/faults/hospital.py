"""A hospital for fault tests: settings, source topic, partner stand-ins, and real `emr-pipeline run` processes that can be killed.

Time-outs are small, so that each test ends in seconds: the published worst time of a create is 10 s and the margin brings the probe to a
fifth of a second after the last byte. Whoever tests with a slow partner sets the time-outs that the test is about.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import urlopen

import yaml

from pipeline import wiring
from pipeline.bus.open import open_bus
from pipeline.bus.port import Record
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from pipeline.sandbox.roche.stand_in import RocheSandbox
from pipeline.sandbox.roqua.stand_in import RoquaSandbox
from pipeline.sandbox.running import Sandbox
from pipeline.settings import Settings, load
from pipeline.trial.invariants import Evidence, gather, violations
from pipeline.trial.rates import percentile
from pipeline.trial.traffic import Message, Patient, Traffic, adt
from schemas.outcomes import State
from tests.faults.guards import WITHOUT

ROOT: Final = Path(__file__).parents[2]
ROUTE: Final = "roche-patients"
PARTNER: Final = "roche"
Change = Callable[[dict[str, Any]], None]
AGAIN_SECONDS: Final = 0.5
"""Until RoQua is sent again what may have arrived."""
PROBE_SECONDS: Final = 0.2
LAG_SECONDS: Final = 1.0
WORST_CREATE: Final = 10.0
BOUND: Final = 90.0
"""Seconds that a loaded machine may take for what takes two."""
WATCHED: Final = ("--http", "127.0.0.1:0")
"""A worker that answers /readyz and /metrics."""


class Worker:
    """A process of ours, its exit code and what it said."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as stderr, log.with_suffix(".out").open("wb") as stdout:
            self._process = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=ROOT)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float = BOUND) -> int:
        """Its exit code; negative: the signal that ended it."""
        return self._process.wait(seconds)

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self, seconds: float = BOUND) -> int:
        """SIGTERM, and its exit code."""
        self.tell(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """Whatever state it is in."""
        if self.running:
            self.tell(signal.SIGCONT)
            self.tell(signal.SIGKILL)
        self._process.wait(BOUND)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Its log lines of these events."""
        lines = (json.loads(line) for line in self.said.splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] in names]

    def answers(self, path: str) -> tuple[int, str]:
        """What one that was started with WATCHED says there: status and body."""
        (there,) = self.events("http_started")
        try:
            with urlopen(f"http://127.0.0.1:{there['port']}{path}", timeout=BOUND) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()


class Hospital:
    """Made by the fixture of the same name; closed by it."""

    def __init__(self, folder: Path, bus: dict[str, Any], ledger: str | None = None, *, prefix: str = "") -> None:
        self.folder = folder
        self.partners: dict[str, Sandbox] = {}
        self.workers: list[Worker] = []
        self.crashes = 0
        self.traffic = Traffic(())
        self.prefix = prefix
        self._stack = ExitStack()
        (folder / "key").write_text(f"a secret of the tests, long enough {folder.name}")
        self.tree: dict[str, Any] = {
            "site": {"name": "test"},
            "bus": bus,
            "ledger": {"url": ledger or f"sqlite:///{folder / 'ledger.sqlite'}"},
            "keys": {"patient_hash": {"file": str(folder / "key")}},
            "topics": {"results": f"{prefix}results", "partitions": 2},
            "partners": {},
            "routes": {},
            "delivery": {"backoff_first": 0.05, "backoff_most": 0.2},
            "breaker": {"open_first": 0.05, "open_most": 0.5},
            "flood": {"pause": 0.2},
        }

    # parts

    def partner(self, name: str = PARTNER, *, route: str | None = None, **knobs: Any) -> RocheSandbox:  # noqa: ANN401 - as knobs.parse
        """One more partner with its route. The worst there is: a second create of a patient makes a second patient."""
        folder = self.folder / f"sandbox-{name}"
        worst = {"duplicate": "twice", "email_duplicate": "accepted", "latency": 0.005}
        sandbox = self._stack.enter_context(RocheSandbox(folder, {**worst, **knobs}))
        self.partners[name] = sandbox
        times = {"connect": 3, "read": 10, "total": 15}
        self.tree["partners"][name] = {
            "kind": "roche",
            "base_url": sandbox.base_url,
            "org_id": "2.16.724.4.2",
            "client_id": "1234567890",
            "client_secret": {"file": str(folder / "client-secret")},
            "tls": {
                key: str(folder / file) for key, file in (("ca", "ca.pem"), ("certificate", "client.pem"), ("key", "client.key"))
            },
            "probe_margin": PROBE_SECONDS - WORST_CREATE,
            "create": dict(times),
            "update": dict(times),
        }
        route = route or f"{name}-patients"
        self.tree["routes"][route] = {
            "partner": name,
            "source": f"{self.prefix}adt",
            "start": "earliest",
            "dead_letters": f"{self.prefix}dead-{name}",
            "group": f"{self.prefix}group-{name}",
        }
        return sandbox

    def clinic(self, name: str = "njsams", **knobs: Any) -> NjsamsSandbox:  # noqa: ANN401 - as knobs.turned
        """NJSAMS with its route. The worst there is: a second create makes a second one; what was written can be read after a second."""
        folder = self.folder / f"sandbox-{name}"
        sandbox = self._stack.enter_context(NjsamsSandbox(folder, {"visible_after_hours": LAG_SECONDS / 3600, **knobs}))
        self.partners[name] = sandbox
        self.tree["site"]["overlay"] = "demo"  # its table of levels of care
        self.tree["partners"][name] = {
            "kind": "njsams",
            "base_url": sandbox.base_url,
            "tls": {"ca": str(folder / "ca.pem")},
            "facilities": {"CLINIC": "123456"},
            "payors": {"MEDICAID": "Organization/12"},
            "visibility_hours": LAG_SECONDS / 3600,
            "probe_margin": PROBE_SECONDS,
            "oauth": {"client_id": "emr-pipeline", "client_secret": {"file": str(folder / "client-secret")}},
            **{operation: {"connect": 3, "read": 10, "total": 15} for operation in ("create", "update", "search")},
        }
        self.tree["routes"][f"{name}-clients"] = {
            "partner": name,
            "source": f"{self.prefix}clinic",
            "start": "earliest",
            "dead_letters": f"{self.prefix}dead-{name}",
            "group": f"{self.prefix}group-{name}",
            "part2": [{"facility": "CLINIC", "programs": ["SUD-OP"]}],
        }
        return sandbox

    def rom(self, name: str = "roqua-responses", **knobs: Any) -> RoquaSandbox:  # noqa: ANN401 - as knobs.turned
        """RoQua's REST API with its route, and tokens that we sign ourselves."""
        folder = self.folder / f"sandbox-{name}"
        sandbox = self._stack.enter_context(RoquaSandbox(folder, knobs))
        self.partners[name] = sandbox
        self.tree["site"]["overlay"] = "demo"  # its tables of questions
        self.tree["partners"][name] = {
            "kind": "roqua-responses",
            "base_url": sandbox.base_url,
            "tls": {"ca": str(folder / "ca.pem")},
            "jwt": {"consumer_key": sandbox.token_key, "file": str(folder / "client.key"), "issuer": "hospital"},
            "again_after": AGAIN_SECONDS,
            "write": {"connect": 3, "read": 10, "total": 15},
        }
        self.tree["routes"][name] = {
            "partner": name,
            "source": f"{self.prefix}oru",
            "start": "earliest",
            "dead_letters": f"{self.prefix}dead-{name}",
            "group": f"{self.prefix}group-{name}",
        }
        return sandbox

    def change(self, change: Change) -> None:
        """Some settings."""
        change(self.tree)

    def set(self, name: str = PARTNER, **settings: Any) -> None:  # noqa: ANN401 - whatever the settings have
        """Settings of a partner."""
        self.tree["partners"][name] |= settings

    @property
    def path(self) -> Path:
        """The settings as they are now, in their file."""
        path, new = self.folder / "settings.yaml", self.folder / "settings.new"
        new.write_text(yaml.safe_dump(self.tree))
        return new.replace(path)  # at once: a worker that starts may be reading it

    @property
    def settings(self) -> Settings:
        return load(self.path)

    @property
    def source(self) -> str:
        """Of the first route."""
        return next((str(route["source"]) for route in self.tree["routes"].values()), f"{self.prefix}adt")

    @property
    def group(self) -> str:
        return f"{self.prefix}group-{PARTNER}"

    # traffic and work

    def fill(self, traffic: Traffic) -> None:
        """Make the topics and append. The ledger is not touched: it may be what is wrong."""
        self.traffic += traffic
        settings = self.settings
        with closing(open_bus(settings)) as bus:
            bus.create_topics(wiring.topic_settings(settings))
            with bus.producer() as producer:
                producer.append([Record(self.source, message.value, key=message.key) for message in traffic.messages])

    def live(
        self, people: Sequence[Patient], random_: random.Random, count: int, *, every: float, minute: int
    ) -> dict[bytes, float]:
        """Updates of patients by chance, one after the other, so many seconds apart: each message, and when it was on the topic."""
        appended: dict[bytes, float] = {}
        messages: list[Message] = []
        with closing(open_bus(self.settings)) as bus, bus.producer() as producer:
            for number in range(minute, minute + count):
                patient = random_.choice(people)
                message = Message(adt(patient, "A08", number), patient.name.encode(), patient.name, number, "A08")
                producer.append([Record(self.source, message.value, key=message.key)])
                messages.append(message)
                appended[message.value or b""] = time.time()
                time.sleep(every)
        self.traffic += Traffic(tuple(messages), tuple(people))
        return appended

    def p95(self, name: str, appended: Mapping[bytes, float]) -> float:
        """Seconds from the topic to what the partner did or said."""
        evidence = self.evidence(name, over=False)
        return percentile([evidence.requests_of(value)[0].time - at for value, at in appended.items()], 0.95)

    def command(self, *words: str, at: Iterable[str] = (), clock: float = 0) -> list[str]:
        """A command of ours, through the launcher where failpoints or a clock are asked for."""
        plain = [*words, "--settings", str(self.path)]
        armed = [word for one in at for word in ("--at", one)] + ([f"--clock={clock:+}"] if clock else [])
        if words[0] == "run" and WITHOUT in os.environ:
            armed += ["--without", os.environ[WITHOUT]]
        if not armed:
            return [sys.executable, "-m", "pipeline.cli", *plain]
        return [sys.executable, "-m", "tests.faults.launcher", *armed, "--", *plain]

    def start(self, *options: str, at: Iterable[str] = (), clock: float = 0) -> Worker:
        """One more worker, running."""
        command = self.command("run", *options, at=at, clock=clock)
        self.workers.append(Worker(command, self.folder / f"worker-{len(self.workers)}.log"))
        return self.workers[-1]

    def drain(self, *, at: Iterable[str] = (), clock: float = 0, seconds: float = BOUND) -> int:
        """One more worker, until all is settled; its exit code."""
        return self.start("--drain", at=at, clock=clock).wait(seconds)

    def crash(self, worker: Worker, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill it."""
        worker.tell(number)
        self.crashed(worker)

    def crashed(self, worker: Worker, seconds: float = BOUND) -> None:
        """Wait for one that kills itself."""
        assert worker.wait(seconds) == -signal.SIGKILL, self.logs()
        self.crashes += 1

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of ours to its end."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=BOUND, check=False, cwd=ROOT)

    # what is seen

    def evidence(self, name: str = PARTNER, *, over: bool = True, traffic: Traffic | None = None) -> Evidence:
        """All that stands now."""
        route = next(route for route, each in self.tree["routes"].items() if each["partner"] == name)
        return gather(
            self.settings,
            route,
            traffic=traffic or self.traffic,
            effects=self.partners[name].log.effects(),
            files=[path for path in sorted(self.folder.rglob("*")) if path.is_file() and not self._is_payload(path)],
            secrets={sandbox.files.secret(): "client secret" for sandbox in self.partners.values()},
            crashes=self.crashes,
            over=over,
        )

    def _is_payload(self, path: Path) -> bool:
        first = path.relative_to(self.folder).parts[0]
        return first in {"bus", "key"} or first.startswith(("sandbox", "mappings"))

    def violations(self, name: str = PARTNER, *, over: bool = True, silence: bool = True) -> list[str]:
        """What is not as RELIABILITY section 6 has it; of thousands of messages without `silence`: each canary is looked for in each of their results."""
        evidence = self.evidence(name, over=over)
        return violations(evidence if silence else replace(evidence, canaries={}))

    def logs(self) -> str:
        """What the workers said, for whoever reads a failure."""
        return "\n".join(f"{worker.log.name}: {worker.said}" for worker in self.workers)

    def until(self, condition: Callable[[], object], seconds: float = BOUND) -> None:
        """Wait for it."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"it did not come\n{self.logs()}"
            assert any(worker.running for worker in self.workers) or condition(), f"all have ended\n{self.logs()}"
            time.sleep(0.02)

    def more(self, number: int, name: str = PARTNER) -> None:
        """Wait until the partner has had so many more requests, or all that there is for it."""
        partner = self.partners[name]
        target = min(partner.requests + number, self.traffic.states[State.DELIVERED])
        self.until(lambda: partner.requests >= target)

    def asked(self, name: str = PARTNER, *, still: float = 1.0) -> int:
        """How many requests the partner has had, once none has come for so many seconds: what was begun before has come out by then."""
        partner, since = self.partners[name], time.monotonic()
        end, count = since + BOUND, partner.requests
        while time.monotonic() - since < still:
            assert time.monotonic() < end, f"requests go on\n{self.logs()}"
            if partner.requests != count:
                since, count = time.monotonic(), partner.requests
            time.sleep(0.02)
        return count

    def settled(self) -> bool:
        """Whether all that stands in the source topic is committed."""
        with closing(open_bus(self.settings)) as bus:
            ends = {partition: end for partition, (_, end) in bus.bounds(self.source).items() if end}
            return {partition: at for partition, at in bus.committed(self.group, self.source).items() if at} == ends

    def states(self, name: str = PARTNER) -> Mapping[str, int]:
        """How many deliveries are in which state."""
        route = next(route for route, each in self.tree["routes"].items() if each["partner"] == name)
        with wiring.opened(self.settings) as things:
            return {str(state): number for state, number in things.ledger.counts(route).get(route, {}).items() if number}

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self._stack.close()

    def __del__(self) -> None:
        """Processes are never left, whatever a test did."""
        for worker in self.workers:
            if worker.running:
                os.kill(worker.pid, signal.SIGKILL)
