"""Stand-ins of a patient's way in: a store in memory behind the store's own port, an issuer of tokens with its keys, and a house around them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from zoneinfo import ZoneInfo

import orjson
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from pipeline.appointments.port import GONE, Alternatives, Change, Cursor, Found, Gone, Key, Merge, Page, Put, Snapshot
from pipeline.metrics import Metrics
from pipeline.pseudonyms import Pseudonyms
from pipeline.serve.xis.context import BSN, Names
from pipeline.serve.xis.jwks import Keys, NotFetched
from pipeline.serve.xis.limits import Rates, Refusals
from pipeline.serve.xis.queries import Limits
from pipeline.serve.xis.searching import Searching
from pipeline.serve.xis.service import Asked, Service, Told
from pipeline.serve.xis.tokens import Jwts

BASE = "https://xis.example/fhir"
ISSUER = "https://issuer.example"
LOCAL = "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.6"
ANNA, BRAM, CLARA = "999900006", "999900018", "999900031"
"""BSNs that pass the eleven test and are nobody's."""
NAMES = {ANNA: "anna", BRAM: "bram", CLARA: "clara"}
AMSTERDAM = ZoneInfo("Europe/Amsterdam")
NOW = 1_767_222_000_000
"""2026-01-01T00:00:00+01:00."""
WALL = NOW // 1000
"""What the clock shows, seconds since 1970: tokens are good or not whenever a test runs."""
OLDEST = 50
"""Versions that a snapshot may lie back."""


@dataclass
class _Version:
    version: int
    change: Change


@dataclass
class MemoryStore:
    """Keeps every version: a snapshot sees the newest one up to it."""

    people: dict[str, int] = field(default_factory=dict)
    kept: dict[tuple[int, str], list[_Version]] = field(default_factory=dict)
    version: int = 0
    broken: Exception | None = None

    def put(self, change: Change) -> Put:
        """See Store."""
        known = {self.people[key.hash] for key in change.keys if key.hash in self.people}
        owner = {person for person, name in self.kept if name == change.appointment}
        if len(known | owner) > 1:
            return Put.CONFLICT
        person = next(iter(known | owner), len(set(self.people.values())) + 1)
        self.people |= {key.hash: person for key in change.keys}
        versions = self.kept.setdefault((person, change.appointment), [])
        if versions and change.event_ms is not None and (versions[-1].change.event_ms or 0) > change.event_ms:
            return Put.STALE
        self.version += 1
        versions.append(_Version(self.version, change))
        return Put.CREATED if len(versions) == 1 else Put.UPDATED

    def put_all(self, changes: Sequence[Change]) -> tuple[Put, ...]:
        """See Store."""
        return tuple(self.put(change) for change in changes)

    def merge(self, merge: Merge) -> Put:
        """See Store: nobody merges here."""
        raise NotImplementedError

    def person(self, key: str) -> int | None:
        """See Store."""
        if self.broken is not None:
            raise self.broken
        return self.people.get(key)

    def sole_key(self, person: int) -> str | None:
        """See Store."""
        kept = (one.change for (whose, _), versions in self.kept.items() if whose == person for one in versions)
        return next((key.hash for change in kept for key in change.keys if key.sole), None)

    def search(
        self,
        person: int,
        ranges: Sequence[Alternatives] = (),
        *,
        after: Cursor | None = None,
        count: int,
        at: Snapshot | None = None,
        backwards: bool = False,
    ) -> Page | Literal[Gone.GONE]:
        """See Store."""
        if self.broken is not None:
            raise self.broken
        at = self.version if at is None else at
        if at < self.version - OLDEST:
            return GONE
        seen = [self._at(versions, at) for (whose, _), versions in self.kept.items() if whose == person]
        found = sorted(
            (one for one in seen if one is not None and self._within(one.start_ms, ranges)), key=_place, reverse=backwards
        )
        found.sort(key=lambda one: one.start_ms is None)
        place = next((number for number, one in enumerate(found, 1) if after is not None and one.id == after.id), 0)
        rest = found[place:]
        page, more = rest[:count], rest[count:]
        return Page(tuple(page), Cursor(page[-1].start_ms, page[-1].id) if more else None, at)

    def read(self, person: int, kind: str, name: str) -> bytes | Literal[Gone.GONE] | None:
        """See Store."""
        mine = [versions for (whose, _), versions in self.kept.items() if whose == person]
        now = [versions[-1].change.resources.get((kind, name)) for versions in mine]
        before = any((kind, name) in each.change.resources for versions in mine for each in versions)
        return next((one for one in now if one is not None), GONE if before else None)

    def close(self) -> None:
        """Nothing is held."""

    @staticmethod
    def _at(versions: list[_Version], at: int) -> Found | None:
        seen = [one for one in versions if one.version <= at]
        if not seen:
            return None
        change = seen[-1].change
        return Found(change.appointment, seen[-1].version, change.start_ms, change.resources["Appointment", change.appointment])

    @staticmethod
    def _within(start: int | None, ranges: Sequence[Alternatives]) -> bool:
        return all(any(_in(start, low, high) for low, high in each) for each in ranges)


def _in(start: int | None, low: int | None, high: int | None) -> bool:
    return start is not None and (low is None or low <= start) and (high is None or start < high)


def _place(one: Found | Cursor) -> tuple[bool, int, str]:
    return one.start_ms is None, one.start_ms or 0, one.id


@dataclass
class Issuer:
    """Signs tokens, and publishes its keys; `away`: nobody gets them."""

    keys: list[RSAKey | ECKey | OctKey] = field(default_factory=lambda: [ECKey.generate_key("P-256", {"kid": "one"})])
    away: bool = False
    asked: int = 0

    def fetch(self) -> KeySet:
        """See jwks.Fetch."""
        self.asked += 1
        if self.away:
            raise NotFetched("the issuer's key set: HTTP 503")
        return KeySet([type(key).import_key(key.as_dict(private=False)) for key in self.keys if not isinstance(key, OctKey)])

    def token(self, bsn: object = ANNA, *, header: dict[str, Any] | None = None, **claims: object) -> str:
        """A token for this patient; claims of None are left out."""
        key = self.keys[-1]
        said = {"iss": ISSUER, "aud": BASE, "exp": WALL + 3600, "bsn": bsn} | claims
        algorithm = {"RSA": "RS256", "EC": "ES256", "oct": "HS256"}[key.key_type]
        given = {name: value for name, value in said.items() if value is not None}
        return jwt.encode({"alg": algorithm, "kid": key.kid, **(header or {})}, given, key, algorithms=[algorithm])


@dataclass
class House:
    """A service with its parts."""

    store: MemoryStore = field(default_factory=MemoryStore)
    issuer: Issuer = field(default_factory=Issuer)
    pseudonyms: Pseudonyms = field(default_factory=lambda: Pseudonyms("a secret of sixteen bytes and more"))
    names: Names = field(default_factory=lambda: Names(local="patient_number", local_system=LOCAL))
    rate: float = 1e6
    refused_rates: tuple[float, float] = (1e6, 1e6)
    """Of one client, of all."""
    metrics: Metrics = field(default_factory=Metrics)
    limits: Limits = field(default_factory=lambda: Limits(50, 200))
    clock: Callable[[], float] = time.monotonic
    now_ms: int = NOW
    service: Service = field(init=False)

    def __post_init__(self) -> None:
        keys = Keys(self.issuer.fetch, self.clock, lambda: self.metrics.issuer_failed("keys"))
        searching = Searching(self.store, self.pseudonyms, BASE, AMSTERDAM, self.limits, lambda: self.now_ms)
        self.service = Service(
            searching,
            Jwts(keys, ISSUER, BASE, self.names, leeway=30, clock=lambda: WALL),
            Rates(self.rate, self.clock),
            Refusals(*self.refused_rates, self.clock),
            self.metrics,
        )

    def change(self, name: str, start_ms: int | None, *people: tuple[str, str], event_ms: int = 1, status: str = "booked") -> Put:
        """Put an appointment of somebody, with a patient and a practitioner behind it."""
        whose = people[0][1] if people else ANNA
        patient, resource = f"p-{NAMES.get(whose, whose)}", {"resourceType": "Appointment", "id": name, "status": status}
        return self.store.put(
            Change(
                name,
                tuple(self.key(*one) for one in people or ((BSN, ANNA),)),
                event_ms,
                None,
                start_ms,
                {
                    ("Appointment", name): orjson.dumps(resource),
                    ("Patient", patient): orjson.dumps({"resourceType": "Patient", "id": patient}),
                    ("Practitioner", f"d-{name}"): orjson.dumps({"resourceType": "Practitioner", "id": f"d-{name}"}),
                },
            )
        )

    def key(self, system: str, value: str) -> Key:
        """A person's key."""
        return Key(self.pseudonyms.person(system, value), sole=system == BSN)

    def asked(
        self, target: str, token: str | None = None, *, method: str = "GET", body: str = "", client: str = "", **headers: str
    ) -> Told:
        """The answer to a request; with a token of Anna's where none is given, and without one where it is empty."""
        path, _, query = target.partition("?")
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        given = self.issuer.token() if token is None else token
        said |= {"authorization": f"Bearer {given}"} if given else {}
        return self.service.answer(Asked(method, path, query, said, body=body.encode(), client=client))

    def posted(self, form: str, query: str = "", **headers: str) -> Told:
        """A search that is posted."""
        headers = {"content_type": "application/x-www-form-urlencoded", **headers}
        return self.asked(f"/Appointment/_search?{query}", method="POST", body=form, **headers)

    def found(self, query: str = "", token: str | None = None, **headers: str) -> list[str]:
        """The ids of the appointments on the first page."""
        return ids(tree(self.asked(f"/Appointment?{query}", token, **headers)))

    def pages(self, query: str, token: str | None = None, between: Callable[[], None] = lambda: None) -> Iterator[dict[str, Any]]:
        """All pages, by their next links."""
        target: str | None = f"/Appointment?{query}"
        while target is not None:
            page = tree(self.asked(target, token))
            yield page
            between()
            target = next((one["url"].removeprefix(BASE) for one in page["link"] if one["relation"] == "next"), None)


def tree(told: Told) -> dict[str, Any]:
    """The body, of an answer that succeeded."""
    assert told.status == 200, told.body
    found: dict[str, Any] = orjson.loads(told.body)
    return found


def ids(page: dict[str, Any]) -> list[str]:
    """Of the entries that match."""
    return [entry["resource"]["id"] for entry in page.get("entry", []) if entry["search"]["mode"] == "match"]


def fault(told: Told) -> tuple[int, str]:
    """Status and issue code of a fault; its text is there."""
    said = orjson.loads(told.body)
    assert said["resourceType"] == "OperationOutcome"
    (issue,) = said["issue"]
    assert issue["severity"] == "error"
    assert issue["details"]["text"]
    return told.status, issue["code"]
