"""NJSAMS's FHIR API as contracts/njsams.md describes it: a request is read, may take effect, is answered. No sockets, no faults.

`read` checks (token, media type, body) and changes nothing; `apply` does what was asked, all of a transaction or nothing. What
/authorize and /token say is njsams/authorization.py's.
"""

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from pipeline.sandbox import bodies
from pipeline.sandbox.bodies import Refusal
from pipeline.sandbox.faults import Rule
from pipeline.sandbox.log import CREATED, NOTHING, UPDATED, Effect, Written
from pipeline.sandbox.njsams import search as njsams_search
from pipeline.sandbox.njsams.authorization import Authorization, Call
from pipeline.sandbox.njsams.capability import statement
from pipeline.sandbox.njsams.checks import MAIN, Entry, Transaction, profiles, references, structure, transaction, unlabelled
from pipeline.sandbox.njsams.knobs import NjsamsKnobs
from pipeline.sandbox.njsams.records import CLIENT_ID, Records, Resource, client_id_of, keys_of
from pipeline.sandbox.njsams.search import WrongParameter
from pipeline.sandbox.partner import Done, Reading, Sent
from pipeline.sandbox.roche.shapes import Issue
from pipeline.sandbox.wire import Answer, Request, as_json, outcome

ROOT: Final = "/NJSAMS-FHIR-API"
MEDIA: Final = "application/json+fhir"
OTHER_MEDIA: Final = ("application/fhir+json", "application/json")
HOUR: Final = 3600.0
_NAMES: Final = frozenset({"entry", "resource", "request", "meta", "security", "identifier", "name", "period"})
_READ: Final = re.compile(rf"{ROOT}/([A-Za-z]+)(?:/([^/]*))?/?")

Asked = Reading[Transaction | Request | Call]


@dataclass(slots=True)
class Njsams:
    """The partner: knobs, records, authorization server. Used by one thread."""

    authorization: Authorization
    knobs: NjsamsKnobs = field(default_factory=NjsamsKnobs)
    records: Records = field(default_factory=Records)
    now: Callable[[], float] = time.time
    base: str = f"https://localhost{ROOT}"

    @property
    def asks_certificate(self) -> bool:
        """No mutual TLS is documented: a token says who calls (section 2)."""
        return False

    def turn(self, knobs: NjsamsKnobs) -> None:
        """Other knobs from now on."""
        self.knobs = knobs

    def listening(self, port: int) -> None:
        """It names its own address in locations, links and discovery."""
        self.base = f"https://localhost:{port}{ROOT}"
        self.authorization.listening(f"https://localhost:{port}", self.base)

    def restore(self, effects: Iterable[Effect]) -> None:
        """What the log says."""
        effects = list(effects)
        self.records.restore(effects)
        self.authorization.restore(effects)

    def count(self) -> int:
        """How many patients it has."""
        return self.records.count("Patient")

    def order(self, name: str, details: Mapping[str, Any]) -> Mapping[str, Any]:
        """An order of whoever drives it: the authorization server's."""
        return self.authorization.order(name, details)

    def clock(self) -> float:
        """Seconds since 1970, by its own clock."""
        return self.now() + self.knobs.clock_hours * HOUR

    # reading

    def read(self, request: Request, *, certificate: bool = True) -> Asked:  # noqa: ARG002 - the port's: it asks for none
        """Check it; nothing changes."""
        operation = self.authorization.operation(request)
        if operation:
            return Reading(operation, submission=Call(operation, request))
        reading = _route(request)
        if reading.operation == "metadata":
            return reading
        refusal = self._token(request, reading.operation)
        if refusal:
            return replace(reading, refusal=refusal)
        if reading.operation == "other":
            return _no_route(request, reading)
        if self.knobs.accept == "checked" and MEDIA not in request.headers.get("accept", ""):
            return _refused(reading, 406, Issue("not-supported", f"Accept does not name {MEDIA}"))
        return reading if reading.operation in {"read", "search"} else self._body(request, reading)

    def _token(self, request: Request, operation: str) -> Answer | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return _unauthorized('Bearer realm="NJSAMS"', "A bearer token is needed")
        granted = self.authorization.scope_of(token.strip())
        if granted is None:
            return _unauthorized('Bearer realm="NJSAMS", error="invalid_token"', "The token is unknown, expired or revoked")
        wanted = "write" if operation in {"create", "update"} else "read"
        if self.knobs.scopes == "checked" and not _allows(granted, wanted):
            challenge = (("WWW-Authenticate", 'Bearer realm="NJSAMS", error="insufficient_scope"'),)
            return outcome(403, Issue("forbidden", "The token's scope does not allow it"), headers=challenge)
        return None

    def _body(self, request: Request, reading: Asked) -> Asked:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != MEDIA and not (self.knobs.content_type == "any" and media in OTHER_MEDIA):
            return _refused(reading, 415, Issue("not-supported", f"Content-Type is not {MEDIA}"))
        if request.too_long or len(request.body) > self.knobs.most_bytes:
            return _refused(reading, self.knobs.too_long_status, Issue("too-long", "The body is too long"))
        reading = replace(reading, sha256=hashlib.sha256(request.body).hexdigest())
        try:
            bundle = bodies.read(request.body, _NAMES)
        except Refusal as error:
            return _refused(reading, 400, error.issue)
        if issues := structure(bundle, request.method, self.knobs):
            return _refused(reading, 400, *issues)
        return self._entries(replace(reading, submission=transaction(bundle)), transaction(bundle).entries)

    def _entries(self, reading: Asked, entries: tuple[Entry, ...]) -> Asked:
        if issues := unlabelled(entries, self.knobs):
            return _refused(reading, 403, *issues)
        issues = profiles(entries, self.knobs)
        return _refused(reading, self.knobs.invalid_status, *issues) if issues else reading

    # taking effect

    def apply(self, reading: Asked, number: int) -> Done:
        """Do what was asked; `number` is the request's in the log."""
        if isinstance(reading.submission, Call):
            return self.authorization.apply(reading.submission, self.knobs)
        done = self._apply(reading, number)
        fhir = done.answer.content_type == "application/fhir+json"
        answer = replace(done.answer, content_type=self.knobs.answer_media) if fhir else done.answer
        return replace(done, answer=answer, clock=self.clock())

    def _apply(self, reading: Asked, number: int) -> Done:
        if reading.refusal:
            return Done(reading.refusal, issues=reading.issues)
        if isinstance(reading.submission, Transaction):
            return self._transaction(reading.submission, number)
        if reading.operation == "metadata":
            return Done(as_json(200, statement(self.base, self.authorization.urls(), self.knobs.capability), fhir=True))
        kind, wanted = str(reading.api), reading.id
        if reading.operation == "read" and wanted:
            found = self.records.visible(kind, wanted, self._until())
            return Done(as_json(200, found, fhir=True)) if found else _failed(404, Issue("not-found", "No such resource"))
        return self._search(kind, reading.submission.query if isinstance(reading.submission, Request) else "")

    def _until(self) -> float:
        return self.clock() - self.knobs.visible_after_hours * HOUR

    def _search(self, kind: str, query: str) -> Done:
        pairs = parse_qsl(query, keep_blank_values=True)
        try:
            strict = self.knobs.unknown_parameter == "refused"
            found = njsams_search.find(self.records, kind, pairs, self._until(), strict=strict)
            rest = njsams_search.page((self.base, kind), pairs, found, self.knobs.page_size, self._subject)
        except WrongParameter as error:
            return _failed(400, Issue("invalid", str(error)))
        return Done(as_json(200, {"resourceType": "Bundle", "type": self.knobs.search_type, **rest}, fhir=True))

    def _subject(self, encounter: Resource) -> Resource | None:
        kind, _, wanted = encounter["subject"]["reference"].partition("/")
        return self.records.visible(kind, wanted, self._until())

    def _transaction(self, asked: Transaction, number: int) -> Done:
        """All or nothing: whatever can refuse it is asked before anything is written."""
        ids = [one.id or new_id(self.knobs.seed, number, index) for index, one in enumerate(asked.entries)]
        targets = {
            one.full_url.lower(): f"{one.type}/{wanted}" for one, wanted in zip(asked.entries, ids, strict=True) if one.full_url
        }
        refusal = self._state_refuses(asked.entries, targets)
        if refusal:
            return refusal
        written = tuple(self._written(one, wanted, targets) for one, wanted in zip(asked.entries, ids, strict=True))
        clock = self.clock()
        for one in written:
            self.records.put(one, clock)
        tree = {
            "resourceType": "Bundle",
            "id": new_id(self.knobs.seed, number, -1),
            "type": "transaction-response",
            "entry": [{"response": self._response(one)} for one in written],
        }
        created = any(one.effect == CREATED for one in written)
        patient = next((one for one in written if one.type == "Patient"), None)
        return Done(
            as_json(self.knobs.create_status if created else 200, tree, fhir=True),
            CREATED if created else UPDATED,
            patient.id if patient else self._patient_id(asked),
            patient.resource if patient else None,
            written=written,
        )

    def _state_refuses(self, entries: tuple[Entry, ...], targets: Mapping[str, str]) -> Done | None:
        for index, one in enumerate(entries):
            refusal = self._creates(one) if one.id is None else self._updates(one, one.id)
            if refusal:
                status, code, text = refusal
                return _failed(status, Issue(code, f"Bundle.entry[{index}]: {text}"))
            if self.knobs.reference_unknown == "refused" and not all(
                self._known(each, targets) for each in references(one.resource)
            ):
                text = f"Bundle.entry[{index}].resource refers to what is not there"
                return _failed(self.knobs.invalid_status, Issue("invalid", text))
        return None

    def _creates(self, entry: Entry) -> tuple[int, str, str] | None:
        there = self.records.with_key(entry.type, keys_of(entry.resource))
        if there and self.knobs.duplicate == "conflict":
            return 409, "duplicate", "it exists"
        return None

    def _updates(self, entry: Entry, wanted: str) -> tuple[int, str, str] | None:
        if (entry.type, wanted) not in self.records:
            return None if self.knobs.update_unknown == "created" else (404, "not-found", "no such resource")
        if self.knobs.update_unprocessed != "accepted" and not self.records.visible(entry.type, wanted, self._until()):
            conflict = self.knobs.update_unprocessed == "conflict"
            return (409, "conflict", "it is being processed") if conflict else (404, "not-found", "no such resource")
        return None

    def _known(self, reference: str, targets: Mapping[str, str]) -> bool:
        """Of what it holds itself; organizations and practitioners were there before."""
        if reference.startswith("urn:"):
            return reference.lower() in targets
        kind, _, wanted = reference.removeprefix(f"{self.base}/").partition("/")
        return kind not in MAIN or (kind, wanted) in self.records

    def _written(self, entry: Entry, wanted: str, targets: Mapping[str, str]) -> Written:
        resource = {**_resolved(entry.resource, targets, self.base), "id": wanted}
        effect = UPDATED if (entry.type, wanted) in self.records else CREATED
        return Written(entry.type, wanted, effect, entry.full_url, keys_of(resource), resource)

    def _response(self, one: Written) -> dict[str, Any]:
        place = {"absolute": f"{self.base}/", "path": f"{ROOT}/", "relative": ""}[self.knobs.location]
        history = "/_history/1" if self.knobs.location_history == "with" else ""
        status = "201 Created" if one.effect == CREATED else "200 OK"
        return {"status": status, "location": f"{place}{one.type}/{one.id}{history}"}

    # wrong on purpose

    def altered(self, reading: Asked, number: int, fault: Rule) -> Done:
        """A transaction's answer with a failed, a missing, a swapped entry, without locations; a token's with something odd."""
        if isinstance(reading.submission, Call):
            return self.authorization.altered(reading.submission, self.knobs, fault)
        if reading.refusal or not isinstance(reading.submission, Transaction):
            return self.apply(reading, number)
        if fault.name == "failed_entry":
            return self._partly(reading, reading.submission, number, fault)
        done = self.apply(reading, number)
        return done if done.effect == NOTHING else replace(done, answer=_changed(done.answer, fault))

    def _partly(self, reading: Asked, asked: Transaction, number: int, fault: Rule) -> Done:
        """200, though one entry failed; with `effect` the others were taken, which no transaction may do."""
        which = fault.entry % len(asked.entries)
        failed = {"response": {"status": _status(fault.status), "outcome": _told(fault)}}
        others = tuple(one for index, one in enumerate(asked.entries) if index != which)
        if fault.effect and others:
            done = self.apply(replace(reading, submission=replace(asked, entries=others)), number)
            if done.effect == NOTHING:
                return done
            tree = bodies.tree(done.answer.body)
            tree["entry"].insert(which, failed)
            return replace(done, answer=replace(done.answer, body=as_json(200, tree).body))
        entries = [failed if index == which else {"response": {"status": _status(424)}} for index in range(len(asked.entries))]
        tree = {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
        return Done(replace(as_json(200, tree), content_type=self.knobs.answer_media), issues=(fault.issue,), clock=self.clock())

    def instead(self, fault: Rule) -> Answer:
        """An outcome in its media type; 401 with its challenge."""
        challenge = (
            (("WWW-Authenticate", 'Bearer realm="NJSAMS", error="invalid_token"'),)
            if fault.status == HTTPStatus.UNAUTHORIZED
            else ()
        )
        if fault.body == "json":
            return as_json(fault.status, {"error": "temporarily_unavailable"}, headers=challenge)
        answer = outcome(fault.status, Issue(fault.issue, "Ordered by a fault"), headers=challenge)
        return replace(answer, content_type=self.knobs.answer_media)

    # whom it is about

    def named(self, reading: Asked) -> frozenset[str]:
        """Business ids and logical ids in the body, and of the patients to whom it refers."""
        asked = reading.submission
        if not isinstance(asked, Transaction):
            return frozenset({reading.id}) if reading.id else frozenset()
        ids = {one.id for one in asked.entries if one.id}
        keys = {key for one in asked.entries if not reading.refusal for key in keys_of(one.resource)}
        return frozenset(ids | keys | {value for value in (self._client_id(asked, reading),) if value})

    def sent(self, reading: Asked) -> Sent:
        """For the log: the patient whom it is about."""
        asked = reading.submission
        if not isinstance(asked, Transaction):
            return Sent()
        value, bundle_id = self._client_id(asked, reading), asked.bundle.get("id") or asked.entries[0].full_url
        return Sent(value, CLIENT_ID if value else None, bundle_id if isinstance(bundle_id, str) else None)

    def _client_id(self, asked: Transaction, reading: Asked) -> str | None:
        if reading.refusal:  # its resources may be anything
            return None
        sent = next((one.resource for one in asked.entries if one.type == "Patient"), None)
        resource = sent or self.records.newest("Patient", self._patient_id(asked) or "")
        return client_id_of(resource) if resource else None

    def _patient_id(self, asked: Transaction) -> str | None:
        """The patient to whom the first entry refers, where the bundle has none."""
        found = [one.removeprefix(f"{self.base}/") for entry in asked.entries for one in references(entry.resource)]
        return next((one.removeprefix("Patient/") for one in found if one.startswith("Patient/")), None)


def new_id(seed: int, number: int, index: int) -> str:
    """A logical id as in the samples: the same for the same request number and seed."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"njsams/{seed}/{number}/{index}"))


def _route(request: Request) -> Asked:
    if request.path in {f"{ROOT}/Bundle", f"{ROOT}/Bundle/"} and request.method in {"POST", "PUT"}:
        return Reading("create" if request.method == "POST" else "update")
    if request.path == f"{ROOT}/metadata" and request.method == "GET":
        return Reading("metadata")
    match = _READ.fullmatch(request.path)
    if match and match[1] in MAIN and request.method == "GET":
        wanted = unquote(match[2]) if match[2] else None
        return Reading("read" if wanted else "search", api=match[1], id=wanted, submission=request)
    return Reading()


def _no_route(request: Request, reading: Asked) -> Asked:
    match = _READ.fullmatch(request.path)
    if match and match[1] in {*MAIN, "Bundle", "metadata"}:
        allowed = "POST, PUT" if match[1] == "Bundle" and not match[2] else "GET"
        text = "Only Bundles can be created or updated"
        return replace(
            reading, refusal=outcome(405, Issue("not-supported", text), headers=(("Allow", allowed),)), issues=("not-supported",)
        )
    return _refused(reading, 404, Issue("not-found", "No such resource"))


def _refused(reading: Asked, status: int, *issues: Issue) -> Asked:
    return replace(reading, refusal=outcome(status, *issues), issues=tuple(one.code for one in issues))


def _failed(status: int, issue: Issue) -> Done:
    return Done(outcome(status, issue), issues=(issue.code,))


def _unauthorized(challenge: str, text: str) -> Answer:
    return outcome(401, Issue("login", text), headers=(("WWW-Authenticate", challenge),))


def _allows(scope: str, wanted: str) -> bool:
    """SMART v1 (user/*.read) and v2 (system/*.cruds); any type counts for all."""
    for one in scope.split():
        context, slash, rest = one.partition("/")
        rights = rest.rpartition(".")[2].partition("?")[0]
        if slash and context in {"user", "system", "patient"}:
            v2 = set(rights) <= set("cruds") and bool(set(rights) & set("cu" if wanted == "write" else "rs"))
            if rights in {"*", wanted} or v2:
                return True
    return False


def _resolved(tree: Any, targets: Mapping[str, str], base: str) -> Any:  # noqa: ANN401 - JSON
    """With references to what was stored instead of urn:uuid."""
    if isinstance(tree, dict):
        return {
            name: targets.get(value.lower(), value.removeprefix(f"{base}/"))
            if name == "reference" and isinstance(value, str)
            else _resolved(value, targets, base)
            for name, value in tree.items()
        }
    return [_resolved(one, targets, base) for one in tree] if isinstance(tree, list) else tree


def _status(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"


def _told(fault: Rule) -> dict[str, Any]:
    return bodies.tree(outcome(fault.status, Issue(fault.issue, "Ordered by a fault")).body)


def _changed(answer: Answer, fault: Rule) -> Answer:
    tree = bodies.tree(answer.body)
    entries = tree["entry"]
    if fault.name == "missing_entry":
        entries.pop(fault.entry % len(entries))
    elif fault.name == "swapped_entries":
        entries.reverse()
    elif fault.name == "no_location":
        tree["entry"] = [{"response": {"status": one["response"]["status"]}} for one in entries]
    return replace(answer, body=as_json(answer.status, tree).body)
