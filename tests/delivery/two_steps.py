"""A partner that keeps patients and visits, as a test stand-in: PUT of what it knows (step 0), POST of what is new (step 1).

Its other side, `Registry`, does what it is asked and counts it, so that a test reads from it alone what was done there. Faults come from a list, one
for each exchange. Patients go by Roche's mapping; only what is about steps is its own.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import orjson
import pytest
import yaml

from pipeline import wiring
from pipeline.errors import NoAnswer, NotSent
from pipeline.model import (
    Decision,
    Identity,
    Intent,
    Learned,
    Mapped,
    Packed,
    Reply,
    Request,
    Subject,
    Timeouts,
    Verdict,
)
from pipeline.partners.roche.partner import Roche
from pipeline.settings import Settings, load
from pipeline.settings_partners import RocheSettings
from pipeline.templates.catalogue import Catalogue
from schemas.event import Event
from schemas.outcomes import Reason
from tests.commands.replaying import Hospital
from tests.delivery.partner_script import Killed, adt, reply

VISITS = "urn:test:visits"
EVENTS = [
    {"events": ["A01", "A04", "A08"], "kind": "snapshot", "subject": "visit", "action": "upsert"},
    {"events": ["A28", "A31"], "kind": "snapshot", "subject": "patient", "action": "upsert"},
    {"events": ["A11"], "kind": "cancel", "subject": "visit", "action": "upsert"},
    {"events": ["A40"], "kind": "merge", "subject": "patient", "action": "merge"},
]
MONDAY, TUESDAY, WEDNESDAY = "20240506090000+0200", "20240507090000+0200", "20240508090000+0200"


def visit(
    event: str = "A01", control_id: str = "1", *, number: str = "V1", patient: str = "12345678Z", time: str = MONDAY
) -> bytes:
    """A message of a patient's visit."""
    return adt(event, control_id, patient=patient, time=time) + f"\rPV1|1|I|||||||||||||||||{number}".encode()


class TwoSteps(Roche):
    """See the module."""

    reads = frozenset({"visit", "number"})

    def parts(self, event: Event) -> tuple[Identity, ...]:
        number = event.visit.number if event.visit else None
        return (Identity(Subject.VISIT, VISITS, str(number.value), "PV1-19"),) if number and number.value else ()

    def pack(self, mapped: Mapped) -> Packed:
        what = mapped.identified
        known = {} if what.stale_patient or what.identity is None else {what.identity: what.partner_id}
        things = [*([] if what.intent is Intent.CREATE or what.stale_patient else known.items()), *what.part_ids.items()]
        new = [
            *(known if what.intent is Intent.CREATE else ()),
            *(part for part in what.routed.parts if part not in what.part_ids),
        ]
        put: list[list[str | None]] = [[name_of(one), given] for one, given in things]
        post: list[list[str | None]] = [[name_of(one), None] for one in new]
        asked = what.routed.request_id
        return Packed(
            mapped, (*([_request("PUT", put, asked)] if put else []), *([_request("POST", post, asked)] if post else []))
        )

    def of_attempt(self, packed: Packed, request: Request, attempt: int) -> Request:
        del packed, attempt
        return request

    def resent(self, packed: Packed, replay: str) -> Packed:
        return replace(packed, requests=tuple(replace(one, request_id=f"{one.request_id}-{replay}") for one in packed.requests))

    def judge(self, packed: Packed, request: Request, came: Reply | NoAnswer, *, after_unknown: bool) -> Verdict:
        del after_unknown
        creating = request.intent is Intent.CREATE
        if isinstance(came, NoAnswer):
            return Verdict(Decision.UNKNOWN if creating else Decision.FAILED, came.reason)
        match came.status:
            case 200:
                return Verdict(Decision.DELIVERED, learned=tuple(_learned(packed, came)))
            case 404:
                return Verdict(Decision.ABSENT, Reason.REJECTED_NOT_FOUND)
            case 429:
                return Verdict(Decision.THROTTLED, Reason.THROTTLED, retry_after=0.01)
            case 503:
                return Verdict(Decision.FAILED, Reason.UNAVAILABLE)
        return Verdict(Decision.PARKED, Reason.REJECTED_INVALID)

    def probe(self, packed: Packed) -> Request | None:
        (request,) = packed.requests
        if request.intent is Intent.UPDATE:
            return request
        first = orjson.loads(request.body)[:1]
        return replace(
            request, method="GET", operation="search", body=orjson.dumps(first), request_id=f"{request.request_id}-probe"
        )

    def judge_probe(self, packed: Packed, probe: Request, came: Reply | NoAnswer) -> Verdict:
        """One thing after the other: found, and more is to be found, it stays unknown with what was learned."""
        verdict = self.judge(packed, probe, came, after_unknown=True)
        further = len(orjson.loads(packed.requests[0].body)) > 1
        found = verdict.decision is Decision.DELIVERED and probe.intent is Intent.CREATE
        return replace(verdict, decision=Decision.UNKNOWN, reason=Reason.AWAITING_PROBE) if found and further else verdict

    def probe_after(self, operation: str) -> float:
        del operation
        return 0.0


def name_of(identity: Identity) -> str:
    """How a body names it."""
    return f"{identity.kind}|{identity.value}"


def _request(method: str, things: list[list[str | None]], request_id: str) -> Request:
    creating = method == "POST"
    return Request(
        operation="create" if creating else "update",
        method=method,
        path="/Bundle",
        path_template="/Bundle",
        headers=(),
        body=orjson.dumps(things),
        request_id=f"{request_id}-{method}",
        timeouts=Timeouts(1, 1, 1),
        intent=Intent.CREATE if creating else Intent.UPDATE,
        step=1 if creating else 0,
    )


def _learned(packed: Packed, came: Reply) -> Iterator[Learned]:
    what, ids = packed.mapped.identified, orjson.loads(came.body)
    for one in (*what.routed.identities, *what.routed.parts):
        if name_of(one) in ids:
            yield Learned(one, ids[name_of(one)], created_with=one == what.identity and what.intent is Intent.CREATE)


class Fault(StrEnum):
    """What becomes of one exchange; a status is answered and nothing done."""

    NONE = "none"
    LOST = "lost"
    """It is done, and no answer comes."""
    SWALLOWED = "swallowed"
    """Nothing is done, and no answer comes."""
    NOT_SENT = "not_sent"
    KILLED = "killed"
    """It is done, and we die."""
    BUSY = "429"
    DOWN = "503"
    REFUSED = "422"


@dataclass
class Registry:
    """The partner's side: what it has, and what was done, each time."""

    faults: list[Fault] = field(default_factory=list)
    has: dict[str, str] = field(default_factory=dict)
    created: Counter[str] = field(default_factory=Counter)
    updates: list[list[str]] = field(default_factory=list)
    """Names of what each PUT brought, where it was done."""
    requests: list[Request] = field(default_factory=list)

    def exchange(self, request: Request) -> Reply:
        self.requests.append(request)
        fault = self.faults.pop(0) if self.faults else Fault.NONE
        if fault is Fault.NOT_SENT:
            raise NotSent(Reason.NOT_SENT_CONNECT)
        if fault is Fault.SWALLOWED:
            raise NoAnswer(Reason.TIMEOUT)
        if fault.isdigit():
            return reply(int(fault))
        answer = self._do(request)
        if fault is Fault.LOST:
            raise NoAnswer(Reason.TIMEOUT)
        if fault is Fault.KILLED:
            raise Killed
        return answer

    def _do(self, request: Request) -> Reply:
        things: list[tuple[str, str | None]] = orjson.loads(request.body)
        names = [name for name, _ in things]
        if request.method == "GET":
            found = {name: self.has[name] for name in names if name in self.has}
            return reply(200, orjson.dumps(found)) if len(found) == len(names) else reply(404)
        if request.method == "PUT":
            assert [self.has.get(name) for name in names] == [given for _, given in things], "an id that it did not give"
            self.updates.append(names)
        for name in names if request.method == "POST" else ():
            self.created[name] += 1
            self.has[name] = f"{name}-{self.created[name]}"
        return reply(200, orjson.dumps({name: self.has[name] for name in names}))

    def knock(self) -> None:
        """Somebody is there."""

    def close(self) -> None:
        """Nothing is open."""

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requests]


class Clinic(Hospital):
    """A house whose partner is TwoSteps; `registry` is the other side."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        mappings = folder / "mappings"
        shutil.copytree(wiring.MAPPINGS, mappings, ignore=shutil.ignore_patterns("golden"))
        (mappings / "sites" / "steps").mkdir(parents=True)
        (mappings / "sites" / "steps" / "events.yaml").write_text(yaml.safe_dump({"roche": EVENTS}))
        tree = yaml.safe_load(self.settings_file.read_text()) | {
            "mappings": str(mappings),
            "site": {"name": "test", "overlay": "steps"},
            "delivery": {"backoff_first": 0.01, "backoff_most": 0.05, "drain_seconds": 0.5},
            "breaker": {"open_first": 0.01, "open_most": 0.05, "failures": 1000, "window": 1000},
        }
        self.settings_file.write_text(yaml.safe_dump(tree))
        self.settings = load(self.settings_file)
        self.registry, self.sent = Registry(), 0
        self.script = self.registry  # type: ignore[assignment]  # it answers by itself

    def send(self, *messages: bytes | None, partition: int = 0) -> None:
        super().send(*messages, partition=partition)
        self.sent += len(messages)

    def drain(self, *faults: Fault) -> None:
        """Work until all that is there is settled, or it dies."""
        self.registry.faults = list(faults)
        worker = self.worker(self.registry)
        worker.drain()
        worker.run()


def partner_of(settings: Settings, name: str, catalogue: Catalogue) -> TwoSteps:
    block = settings.partners[name]
    assert isinstance(block, RocheSettings)
    return TwoSteps(block, wiring.IdentifierSystems(catalogue, "roche"))


@contextmanager
def clinic(folder: Path) -> Iterator[Clinic]:
    """A clinic, with whatever is opened meanwhile wired to TwoSteps."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wiring, "partner_of", partner_of)
        house = Clinic(folder)
        yield house
        house.close()


@contextmanager
def reaching(action: Callable[[str], None]) -> Iterator[None]:
    """`action` at each named point that is passed."""
    with pytest.MonkeyPatch.context() as patched:
        for module in ("attempts", "courier", "emitter"):
            patched.setattr(f"pipeline.delivery.{module}.reach", action)
        yield
