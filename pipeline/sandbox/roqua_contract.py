"""RoQua as contracts/roqua.md describes it: a request is read, may take effect, is answered. No sockets, no faults.

`read` checks (token, right, media type, body) and changes nothing; `apply` does what was asked. A document and a response of one
external_id are one response: that is the stand-in's reading.
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
from pipeline.sandbox import bodies, roqua_documents, roqua_rest
from pipeline.sandbox.bodies import Refusal
from pipeline.sandbox.faults import Rule
from pipeline.sandbox.log import CREATED, Effect, Written
from pipeline.sandbox.partner import Done, Reading, Sent
from pipeline.sandbox.roqua_access import Access, NotAllowed, allow, denied
from pipeline.sandbox.roqua_documents import Document, dossier_of
from pipeline.sandbox.roqua_knobs import RoquaKnobs
from pipeline.sandbox.roqua_observations import searched
from pipeline.sandbox.roqua_questionnaires import HONOS_PLUS, ITEM8_KEY, ITEM_KEYS, shown
from pipeline.sandbox.roqua_records import Record, Responses, record
from pipeline.sandbox.roqua_rest import EMPTY_LOCATION, HEADERS, Submission, WrongFilter, answer
from pipeline.sandbox.shapes import Issue
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
            refusal = roqua_rest.refused(self.knobs.invalid_status, errors, self.knobs.errors)
            return replace(reading, refusal=refusal, issues=tuple(f"{name}:{code}" for name, code in errors.items()))
        brought = roqua_rest.submission(body, self.knobs)
        external_id = brought.external_id if create else asked.external_id
        return replace(reading, submission=replace(asked, external_id=external_id, brought=brought))

    def _refuse(self, reading: Reading[Asked], status: int, *issues: Issue) -> Reading[Asked]:
        return replace(
            reading,
            refusal=self._failure(reading.operation, status, *issues),
            issues=tuple(one.code for one in issues),
        )

    def _failure(self, operation: str, status: int, *issues: Issue) -> Answer:
        """Errors of /medmij_fhir by their knob; of /api: 404 and its like have no body, the others are as 422."""
        fhir = operation in {"document", "search"}
        if fhir and self.knobs.document_errors == "outcome":
            return replace(outcome(status, *issues, headers=HEADERS), content_type=self.knobs.answer_media)
        if (fhir and self.knobs.document_errors == "empty") or status in {403, 404, 413, 415}:
            return Answer(status, headers=HEADERS)
        return roqua_rest.refused(status, {"base": issues[0].code}, self.knobs.errors)

    # taking effect

    def apply(self, reading: Reading[Asked], number: int) -> Done:  # noqa: ARG002 - the port's: its ids count by themselves
        """Do what was asked."""
        limited = self._limited()
        if limited:
            return Done(limited, issues=("throttled",))
        if reading.refusal:
            return Done(reading.refusal, issues=reading.issues)
        asked = reading.submission or Asked()
        if isinstance(asked.brought, Document):
            return self._write_document(asked.brought)
        if isinstance(asked.brought, Submission):
            write = self._create if reading.operation == "create" else self._update
            return write(str(asked.dossier), asked, asked.brought)
        if reading.operation == "delete":
            return self._delete(str(asked.dossier), str(asked.external_id))
        return self._show(reading.operation, asked)

    def _limited(self) -> Answer | None:
        if not self.knobs.rate_limit:
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

    def _known(self, dossier: str) -> bool:
        known = self.knobs.known_dossiers
        return not known or dossier in known or (self.knobs.unknown_dossier == "created" and dossier in self.responses.dossiers())

    def _no_dossier(self, operation: str, dossier: str) -> Done | None:
        """A write to a dossier that was never opened."""
        if self._known(dossier) or self.knobs.unknown_dossier == "created":
            return None
        if self.knobs.unknown_dossier == "invalid":
            return self._failed(operation, self.knobs.invalid_status, "invalid", "The dossier is not known")
        return self._failed(operation, 404, "not-found", "The dossier is not known")

    def _failed(self, operation: str, status: int, code: str, text: str) -> Done:
        return Done(self._failure(operation, status, Issue(code, text)), issues=(code,))

    def _write_document(self, given: Document) -> Done:
        refusal = self._no_dossier("document", given.dossier)
        if refusal:
            return refusal
        there = self.responses.with_external(given.dossier, given.id)
        if there and self.knobs.document_again in {"forbidden", "conflict"}:
            forbidden = self.knobs.document_again == "forbidden"
            return self._failed("document", 403 if forbidden else 409, "conflict", "The response is there")
        values = {
            "values": {ITEM_KEYS[item]: value for item, value in given.answers.items()} | {ITEM8_KEY: given.item8},
            "status": "completed",
            "started_at": given.at,
            "completed_at": given.at,
            "entered_by": given.professional,
            "completer_type": self._completer("profess"),
        }
        if there and self.knobs.document_again == "updated":
            written = self.responses.change(there, **values)
        else:
            new = record(dossier=given.dossier, external_id=given.id, questionnaire_key=HONOS_PLUS, **values)
            written = self.responses.add(new)
        created = written.effect == CREATED
        return self._stored(self._told(self.knobs.document_created if created else self.knobs.document_updated, written), written)

    def _told(self, status: int, written: Written) -> Answer:
        """What a document's success says."""
        kind, one = self.knobs.document_body, written.resource
        if status == 204 or kind == "empty":  # noqa: PLR2004 - No Content
            return Answer(status, headers=HEADERS)
        if kind == "text":
            return Answer(status, b"OK", "text/plain; charset=utf-8", HEADERS)
        if kind == "response":
            return answer(status, roqua_rest.shown(one, self.knobs, self.base))
        told = answer(status, {"resourceType": "Bundle", "id": one["external_id"], "type": "document"})
        return replace(told, content_type=self.knobs.answer_media)

    def _create(self, dossier: str, asked: Asked, given: Submission) -> Done:
        refusal = self._no_dossier("create", dossier)
        if refusal:
            return refusal
        there = self.responses.with_external(dossier, asked.external_id) if asked.external_id else None
        if there and self.knobs.create_again in {"forbidden", "invalid"}:
            if self.knobs.create_again == "forbidden":
                return self._failed("create", 403, "forbidden", "The response stores data")
            errors = {"external_id": "invalid"}
            return Done(roqua_rest.refused(self.knobs.invalid_status, errors, self.knobs.errors), issues=("external_id:invalid",))
        if there and self.knobs.create_again == "updated":
            return self._changed(there, given, self.knobs.create_again_status)
        return self._added(dossier, asked.external_id, given)

    def _added(self, dossier: str, external_id: str | None, given: Submission) -> Done:
        completer = self._completer(given.respondent)
        new = record(dossier=dossier, external_id=external_id, completer_type=completer, **self._values(given))
        written = self.responses.add({**new, "entered_by": given.entered_by})
        return self._stored(self._response(201, written), written)

    def _changed(self, there: Record, given: Submission, status: int) -> Done:
        written = self.responses.change(there, **self._values(given))
        return self._stored(self._response(status, written), written)

    def _values(self, given: Submission) -> Tree:
        return {
            "questionnaire_key": given.questionnaire_key,
            "answer_data": given.answer_data,
            "values": given.values,
            "status": "completed",
            "started_at": given.started_at,
            "completed_at": self.now() if given.filled_out_at is None else given.filled_out_at,
        }

    def _completer(self, respondent: str) -> str | None:
        if respondent != "profess":
            return respondent
        return None if self.knobs.profess_completer == "null" else self.knobs.profess_completer

    def _response(self, status: int, written: Written) -> Answer:
        return answer(status, roqua_rest.shown(written.resource, self.knobs, self.base), EMPTY_LOCATION)

    def _stored(self, said: Answer, written: Written) -> Done:
        return Done(said, written.effect, written.resource["dossier"], written=(written,))

    def _named(self, dossier: str, wanted: str) -> Record | None:
        """By what stands in the path."""
        kind = self.knobs.path_id
        found = self.responses.with_external(dossier, wanted) if kind != "internal" else None
        return found or (self.responses.with_id(dossier, wanted) if kind != "external" else None)

    def _update(self, dossier: str, asked: Asked, given: Submission) -> Done:
        refusal = self._no_dossier("update", dossier)
        if refusal:
            return refusal
        wanted = str(asked.external_id)
        there = self._named(dossier, wanted)
        if there is None:
            if self.knobs.update_unknown == "created":
                return self._added(dossier, wanted, given)
            return self._failed("update", 404, "not-found", "No such response")
        if there["status"] == "completed" and self.knobs.update_stored == "forbidden":
            return self._failed("update", 403, "forbidden", "The response stores data")
        return self._changed(there, given, 200)

    def _delete(self, dossier: str, wanted: str) -> Done:
        there = self._named(dossier, wanted)
        if there is None:
            return self._failed("delete", 404, "not-found", "No such response")
        if there["external_id"] is None:
            return self._failed("delete", 403, "forbidden", "The response is RoQua's own")
        return self._stored(Answer(204, headers=HEADERS), self.responses.delete(there))

    # showing

    def _show(self, operation: str, asked: Asked) -> Done:
        if operation == "search":
            return self._search(asked.query)
        if operation == "list":
            return self._list(str(asked.dossier), asked.query)
        if operation == "questionnaire":
            key, legacy = str(asked.external_id), dict(parse_qsl(asked.query)).get("use_legacy_keys", "true") != "false"
            if key not in self.knobs.questionnaires:
                return self._failed(operation, 404, "not-found", "No such questionnaire")
            return Done(answer(200, shown(key, legacy_keys=legacy)))
        stream = {"queue_size": 0, "last_success": roqua_rest.iso(self.now())}
        return Done(answer(200, {"a19": stream, "oru": stream}))

    def _search(self, query: str) -> Done:
        names = {"subject", "patient.identifier"}
        taken = names if self.knobs.subject_parameter == "either" else {self.knobs.subject_parameter}
        given = next((value for name, value in parse_qsl(query) if name in taken), None)
        if given is None and self.knobs.no_subject == "invalid":
            return self._failed("search", self.knobs.invalid_status, "required", "subject is missing")
        dossier = (given or "").rpartition("|")[2]
        tree = searched(self.responses.of(dossier), self.knobs, f"{self.base}{FHIR}")
        return Done(replace(answer(200, tree), content_type=self.knobs.answer_media))

    def _list(self, dossier: str, query: str) -> Done:
        if not self._known(dossier) and self.knobs.unknown_dossier_list == "not-found":
            return self._failed("list", 404, "not-found", "The dossier is not known")
        try:
            found = roqua_rest.listed(self.responses.of(dossier), query, self.knobs)
        except WrongFilter as error:
            errors = {str(error): "invalid"}
            return Done(roqua_rest.refused(self.knobs.invalid_status, errors, self.knobs.errors), issues=(f"{error}:invalid",))
        return Done(answer(200, [roqua_rest.shown(one, self.knobs, self.base) for one in found]))

    # orders and faults

    def order(self, name: str, details: Mapping[str, Any]) -> Mapping[str, Any]:
        """A patient fills out a questionnaire, is invited to one; the client's public key."""
        if name == "key":
            self.access.register(details.get("pem"))
            return {}
        raise SettingsError("the orders are complete, invite and key", where=f"order {name}")

    def altered(self, reading: Reading[Asked], number: int, fault: Rule) -> Done:
        """A success in another form than the documented one."""
        done = self.apply(reading, number)
        if fault.name != "enveloped" or done.answer.content_type != roqua_rest.JSON:
            return done
        enveloped = {"data": orjson.loads(done.answer.body)}
        return replace(done, answer=replace(done.answer, body=orjson.dumps(enveloped)))

    def instead(self, fault: Rule) -> Answer:
        """`outcome` as FHIR has it; `json` as its REST API has errors."""
        if fault.body == "json":
            return roqua_rest.refused(fault.status, {"base": fault.issue}, self.knobs.errors)
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
