"""RoQua as contracts/roqua.md describes it: a request is read, may take effect, is answered. No sockets, no faults.

`read` checks (token, right, media type, body) and changes nothing; `apply` does what was asked; what a write does is writes.py's.
"""

import email.utils
import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import orjson

from pipeline.errors import SettingsError
from pipeline.sandbox import bodies
from pipeline.sandbox.bodies import Refusal
from pipeline.sandbox.faults import Rule
from pipeline.sandbox.log import Effect
from pipeline.sandbox.partner import Done, Reading, Sent
from pipeline.sandbox.roche.shapes import Issue
from pipeline.sandbox.roqua import documents as roqua_documents
from pipeline.sandbox.roqua import orders as roqua_orders
from pipeline.sandbox.roqua import rest as roqua_rest
from pipeline.sandbox.roqua.access import Access, NotAllowed, allow, denied
from pipeline.sandbox.roqua.answers import HEADERS, JSON, answer, failure, refused
from pipeline.sandbox.roqua.documents import Document, dossier_of
from pipeline.sandbox.roqua.knobs import RoquaKnobs
from pipeline.sandbox.roqua.observations import searched
from pipeline.sandbox.roqua.questionnaires import shown
from pipeline.sandbox.roqua.records import Responses
from pipeline.sandbox.roqua.rest import Submission, WrongFilter
from pipeline.sandbox.roqua.writes import Writes, is_known
from pipeline.sandbox.wire import Answer, Request, outcome

FHIR: Final = "/medmij_fhir"
REST: Final = "/api/v1"
_NAMES: Final = frozenset({"entry", "resource", "meta", "subject", "identifier", "code", "coding", "valueQuantity"})
_BUNDLE: Final = re.compile(rf"{FHIR}/Bundle/([^/]+)/?")
_RESPONSES: Final = re.compile(rf"{REST}/dossiers/([^/]+)/responses(?:/([^/]+))?")
_QUESTIONNAIRE: Final = re.compile(rf"{REST}/questionnaires/([^/]+)")
_DOSSIER_METHODS: Final = {("GET", False): "list", ("POST", False): "create", ("PUT", True): "update", ("DELETE", True): "delete"}
RIGHTS: Final = {
    "document": "fhir_write",
    "search": "fhir_read",
    "list": "responses_read",
    "create": "responses_write",
    "update": "responses_write",
    "delete": "responses_write",
    "questionnaire": "questionnaires",
    "health": "health",
}

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is about."""

    dossier: str | None = None
    external_id: str | None = None
    """Of a document: the id of the URL; of a response: what the path or the body has."""
    query: str = field(default="", repr=False)
    brought: Document | Submission | None = field(default=None, repr=False)


@dataclass(slots=True)
class Roqua:
    """The partner: knobs, access, responses. Used by one thread."""

    access: Access
    knobs: RoquaKnobs = field(default_factory=RoquaKnobs)
    responses: Responses = field(default_factory=Responses)
    now: Callable[[], float] = time.time
    base: str = "https://localhost"
    _came: deque[float] = field(default_factory=deque)
    """When those came that the rate limiter counts."""

    @property
    def asks_certificate(self) -> bool:
        """By arrangement alone (section 2.1): a token says who calls."""
        return False

    def turn(self, knobs: RoquaKnobs) -> None:
        """Other knobs from now on."""
        self.knobs = knobs

    def listening(self, port: int) -> None:
        """It names its own address in fullUrls."""
        self.base = f"https://localhost:{port}"

    def restore(self, effects: Iterable[Effect]) -> None:
        """What the log says."""
        self.responses.restore(effects)

    def count(self) -> int:
        """How many dossiers it has heard of."""
        return len(self.responses.dossiers())

    # reading

    def read(self, request: Request, *, certificate: bool = True) -> Reading[Asked]:  # noqa: ARG002 - the port's: it asks for none
        """Check it; nothing changes."""
        reading = _route(request)
        if reading.refusal:
            return reading
        asked = reading.submission or Asked()
        try:
            fhir = request.path.startswith(FHIR)
            caller = self.access.caller(request.headers.get("authorization", ""), self.knobs, fhir=fhir)
            allow(caller, RIGHTS[reading.operation], asked.dossier)
        except NotAllowed as error:
            return replace(reading, refusal=denied(error, self.knobs))
        return self._body(request, reading, asked) if reading.operation in {"document", "create", "update"} else reading

    def _body(self, request: Request, reading: Reading[Asked], asked: Asked) -> Reading[Asked]:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json" and self.knobs.content_type == "documented":
            return self._refuse(reading, self.knobs.content_type_status, Issue("not-supported", "Content-Type is not JSON"))
        if request.too_long or len(request.body) > self.knobs.most_bytes:
            return self._refuse(reading, 413, Issue("too-long", "The body is too long"))
        reading = replace(reading, sha256=hashlib.sha256(request.body).hexdigest())
        try:
            if reading.operation == "document":
                return self._document(bodies.read(request.body, _NAMES), reading, asked)
            return self._submission(bodies.plain(request.body), reading, asked)
        except Refusal as error:
            return self._refuse(reading, 400, error.issue)

    def _document(self, bundle: Tree, reading: Reading[Asked], asked: Asked) -> Reading[Asked]:
        asked = replace(asked, dossier=dossier_of(bundle))
        issues = roqua_documents.check(bundle, str(asked.external_id), self.knobs)
        if issues:
            return self._refuse(replace(reading, submission=asked), self.knobs.invalid_status, *issues)
        return replace(reading, submission=replace(asked, brought=roqua_documents.document(bundle)))

    def _submission(self, body: Tree, reading: Reading[Asked], asked: Asked) -> Reading[Asked]:
        key, create = body.get("questionnaire_key"), reading.operation == "create"
        if isinstance(key, str) and key and key not in self.knobs.questionnaires:
            return self._refuse(reading, 404, Issue("not-found", "No such questionnaire"))
        errors = roqua_rest.check(body, self.knobs, create=create)
        if not isinstance(key, str) or not key:
            errors = {"questionnaire_key": "missing", **errors}
        if errors:
            issues = tuple(f"{name}:{code}" for name, code in errors.items())
            return replace(reading, refusal=refused(errors, self.knobs), issues=issues)
        brought = roqua_rest.submission(body, self.knobs)
        external_id = brought.external_id if create else asked.external_id
        return replace(reading, submission=replace(asked, external_id=external_id, brought=brought))

    def _refuse(self, reading: Reading[Asked], status: int, *issues: Issue) -> Reading[Asked]:
        refusal = failure(reading.operation, status, issues, self.knobs)
        return replace(reading, refusal=refusal, issues=tuple(one.code for one in issues))

    # taking effect

    def apply(self, reading: Reading[Asked], number: int) -> Done:  # noqa: ARG002 - the port's: its ids count by themselves
        """Do what was asked."""
        limited = self._limited()
        if limited:
            return Done(limited, issues=("throttled",))
        if reading.refusal:
            return Done(reading.refusal, issues=reading.issues)
        asked = reading.submission or Asked()
        return self._write(reading.operation, asked) or self._show(reading.operation, asked)

    def _write(self, operation: str, asked: Asked) -> Done | None:
        writes = Writes(self.knobs, self.responses, self.base, self.now)
        if isinstance(asked.brought, Document):
            return writes.document(asked.brought)
        if isinstance(asked.brought, Submission) and operation == "create":
            return writes.create(str(asked.dossier), asked.external_id, asked.brought)
        if isinstance(asked.brought, Submission):
            return writes.update(str(asked.dossier), str(asked.external_id), asked.brought)
        return writes.delete(str(asked.dossier), str(asked.external_id)) if operation == "delete" else None

    def _limited(self) -> Answer | None:
        if not self.knobs.rate_limit:
            self._came.clear()
            return None
        now = self.now()
        while self._came and self._came[0] <= now - self.knobs.rate_seconds:
            self._came.popleft()
        if len(self._came) < self.knobs.rate_limit:
            self._came.append(now)
            return None
        wait = max(1, round(self._came[0] + self.knobs.rate_seconds - now))
        told = {"absent": None, "seconds": str(wait), "date": email.utils.formatdate(now + wait, usegmt=True)}
        value = told[self.knobs.rate_retry_after]
        return Answer(429, headers=(("Retry-After", value),) if value else ())

    # showing

    def _show(self, operation: str, asked: Asked) -> Done:
        if operation == "search":
            return self._search(asked.query)
        if operation == "list":
            return self._list(str(asked.dossier), asked.query)
        if operation == "questionnaire":
            key, legacy = str(asked.external_id), dict(parse_qsl(asked.query)).get("use_legacy_keys", "true") != "false"
            if key not in self.knobs.questionnaires:
                return self._failed(operation, 404, "not-found")
            return Done(answer(200, shown(key, legacy_keys=legacy)))
        stream = {"queue_size": 0, "last_success": roqua_rest.iso(self.now())}
        return Done(answer(200, {"a19": stream, "oru": stream}))

    def _search(self, query: str) -> Done:
        names = {"subject", "patient.identifier"}
        taken = names if self.knobs.subject_parameter == "either" else {self.knobs.subject_parameter}
        given = next((value for name, value in parse_qsl(query) if name in taken), None)
        if given is None and self.knobs.no_subject == "invalid":
            return self._failed("search", self.knobs.invalid_status, "required")
        dossier = (given or "").rpartition("|")[2]
        tree = searched(self.responses.of(dossier), self.knobs, f"{self.base}{FHIR}")
        return Done(replace(answer(200, tree), content_type=self.knobs.answer_media))

    def _list(self, dossier: str, query: str) -> Done:
        if self.knobs.unknown_dossier_list == "not-found" and not is_known(dossier, self.knobs, self.responses):
            return self._failed("list", 404, "not-found")
        try:
            found = roqua_rest.listed(self.responses.of(dossier), query, self.knobs)
        except WrongFilter as error:
            return Done(refused({str(error): "invalid"}, self.knobs), issues=(f"{error}:invalid",))
        return Done(answer(200, [roqua_rest.shown(one, self.knobs, self.base) for one in found]))

    def _failed(self, operation: str, status: int, code: str) -> Done:
        return Done(failure(operation, status, [Issue(code, "It cannot be shown")], self.knobs), issues=(code,))

    # orders and faults

    def order(self, name: str, details: Mapping[str, Any]) -> Mapping[str, Any]:
        """A patient fills out a questionnaire, is invited to one; the client's public key."""
        if name == "key":
            self.access.register(details.get("pem"))
            return {}
        if name in {"complete", "invite"}:
            return {"response": roqua_orders.carry_out(name, details, self.responses, self.now())}
        raise SettingsError("the orders are complete, invite and key", where=f"order {name}")

    def altered(self, reading: Reading[Asked], number: int, fault: Rule) -> Done:
        """A success in another form than the documented one."""
        done = self.apply(reading, number)
        if fault.name != "enveloped" or done.answer.content_type != JSON:
            return done
        enveloped = {"data": orjson.loads(done.answer.body)}
        return replace(done, answer=replace(done.answer, body=orjson.dumps(enveloped)))

    def instead(self, fault: Rule) -> Answer:
        """`outcome` as FHIR has it; `json` as its REST API has errors."""
        if fault.body == "json":
            return refused({"base": fault.issue}, self.knobs, fault.status)
        return replace(outcome(fault.status, Issue(fault.issue, "Ordered by a fault")), content_type=self.knobs.answer_media)

    # whom it is about

    def named(self, reading: Reading[Asked]) -> frozenset[str]:
        """Dossier and external_id."""
        asked = reading.submission or Asked()
        return frozenset(one for one in (asked.dossier, asked.external_id) if one)

    def sent(self, reading: Reading[Asked]) -> Sent:
        """For the log."""
        asked = reading.submission or Asked()
        return Sent(asked.dossier, None, asked.external_id if reading.operation == "document" else None)


def _route(request: Request) -> Reading[Asked]:
    """Trailing slash and .json are tolerated under /api (section 5)."""
    path, method = request.path, request.method
    bundle = _BUNDLE.fullmatch(path)
    if bundle and method == "PUT":
        wanted = unquote(bundle[1])
        return Reading("document", id=wanted, submission=Asked(external_id=wanted))
    if path.rstrip("/") == f"{FHIR}/Observation" and method == "GET":
        return Reading("search", submission=Asked(query=request.query))
    path = path.removesuffix("/").removesuffix(".json")
    responses = _RESPONSES.fullmatch(path)
    operation = _DOSSIER_METHODS.get((method, bool(responses and responses[2])))
    if responses and operation:
        external_id = unquote(responses[2]) if responses[2] else None
        return Reading(operation, id=external_id, submission=Asked(unquote(responses[1]), external_id, request.query))
    questionnaire = _QUESTIONNAIRE.fullmatch(path)
    if questionnaire and method == "GET":
        return Reading("questionnaire", submission=Asked(external_id=unquote(questionnaire[1]), query=request.query))
    if path == f"{REST}/service_health" and method == "GET":
        return Reading("health")
    return Reading(refusal=Answer(404, headers=HEADERS))
