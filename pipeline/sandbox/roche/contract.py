"""Roche's Patient services as contracts/roche.md describes them: a request is read, may take effect, is answered. No sockets, no clocks, no faults.

`read` checks (gateway, headers, body) and changes nothing; `apply` does what was asked, at once and for all requests in one order.
"""

import hashlib
import hmac
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import unquote

from pipeline.errors import SettingsError
from pipeline.sandbox.bodies import Refusal
from pipeline.sandbox.faults import Rule
from pipeline.sandbox.knobs import Knobs
from pipeline.sandbox.log import CREATED, UPDATED, Effect
from pipeline.sandbox.partner import Done, Reading, Sent
from pipeline.sandbox.patients import Patients, new_id
from pipeline.sandbox.roche import checks
from pipeline.sandbox.roche.checks import Submission
from pipeline.sandbox.roche.shapes import Issue
from pipeline.sandbox.wire import Answer, Request, as_json, outcome

BASE: Final = "/partners/fhir/stu3/api"
MEDIA: Final = ("application/json", "application/fhir+json")
CERTIFICATE_REFUSED: Final = {"status": "error", "detail": "Validation policy error: Certificate validation failed."}
INVALID_CLIENT: Final = {"error": "Invalid Client"}

_ROUTES: Final = (
    ("Bundle", "v1", re.compile(rf"{BASE}/Bundle(?:/([^/]*))?/?")),
    ("Bundle", "v2", re.compile(rf"{BASE}/v2/Bundle(?:/([^/]*))?/?")),
    ("Patient", "v1", re.compile(rf"{BASE}/Patient(?:/([^/]*))?/?")),
)

Asked = Reading[Submission]


@dataclass(slots=True)
class Roche:
    """The partner: its knobs and its patients. Used by one thread."""

    secret: str = field(repr=False)
    knobs: Knobs = field(default_factory=Knobs)
    patients: Patients = field(default_factory=Patients)

    @property
    def asks_certificate(self) -> bool:
        """Mutual TLS (section 4)."""
        return True

    def turn(self, knobs: Knobs) -> None:
        """Other knobs from now on."""
        self.knobs = knobs

    def listening(self, port: int) -> None:
        """It names its own address nowhere."""

    def restore(self, effects: Iterable[Effect]) -> None:
        """What the log says."""
        self.patients.restore(effects)

    def count(self) -> int:
        """How many patients it has."""
        return len(self.patients)

    def order(self, name: str, details: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - the port's
        """It has none."""
        raise SettingsError("no such order; Roche's stand-in has none", where=f"order {name}")

    # reading

    def read(self, request: Request, *, certificate: bool = True) -> Asked:
        """Check it; nothing changes. `certificate`: whether the gateway accepts the client's."""
        reading = _route(request)
        if not certificate:
            return replace(reading, refusal=as_json(403, CERTIFICATE_REFUSED))
        refusal = self._headers(request, reading.operation)
        if refusal:
            return replace(reading, refusal=refusal)
        if reading.operation == "other":
            return replace(reading, refusal=_no_route(request))
        if reading.operation != "create" and not reading.id:
            return _refused(reading, 400, Issue("not-supported", "The id is missing in the URL"))
        if reading.operation == "read":
            return reading
        return self._body(request, reading)

    def _headers(self, request: Request, operation: str) -> Answer | None:
        """Section 7.2: a header that is missing or malformed, or an unknown organisation, is an empty 403; a wrong client is a 401."""
        headers = request.headers
        needed = {"org_id", "client_id", "client_secret"} | ({"x-origin-request-id"} if operation != "read" else set())
        if any(not headers.get(name) for name in needed):
            return Answer(403)
        if operation != "read" and self.knobs.request_id == "uuid" and not _is_uuid(headers["x-origin-request-id"]):
            return Answer(403)
        known = hmac.compare_digest(headers["client_secret"].encode("latin-1"), self.secret.encode())
        if headers["client_id"] != self.knobs.client_id or not known:
            return as_json(401, INVALID_CLIENT)
        return Answer(403) if headers["org_id"] != self.knobs.org_id else None

    def _body(self, request: Request, reading: Asked) -> Asked:
        media, _, parameters = request.headers.get("content-type", "").partition(";")
        charset = parameters.lower().replace(" ", "").replace('"', "")
        if media.strip().lower() not in MEDIA or charset not in {"", "charset=utf-8"}:
            return replace(reading, refusal=Answer(int(self.knobs.content_type)))
        if request.too_long or len(request.body) > self.knobs.most_bytes:
            return _refused(reading, self.knobs.too_long_status, Issue("too-long", "The body is too long"))
        reading = replace(reading, sha256=hashlib.sha256(request.body).hexdigest())
        try:
            bundle = checks.read(request.body)
        except Refusal as error:
            return _refused(reading, 400, error.issue)
        issues = checks.check(bundle, reading.api or "v1", self.knobs)
        return _refused(reading, 400, *issues) if issues else replace(reading, submission=checks.submission(bundle))

    # taking effect

    def apply(self, reading: Asked, number: int) -> Done:
        """Do what was asked; `number` is the request's in the log."""
        if reading.refusal:
            return Done(reading.refusal, issues=reading.issues)
        if reading.operation == "create" and reading.submission:
            return self._create(reading.submission, reading.api, number)
        if reading.operation == "update" and reading.submission:
            return self._update(reading.submission, reading, number)
        found = self.patients.resource(reading.id or "")
        return Done(as_json(200, found, fhir=True), partner_id=reading.id) if found else _not_found()

    def altered(self, reading: Asked, number: int, fault: Rule) -> Done:  # noqa: ARG002 - the port's
        """Its answers have no parts that could be wrong one by one."""
        return self.apply(reading, number)

    def instead(self, fault: Rule) -> Answer:
        """Section 7.2."""
        if fault.body == "outcome":
            return outcome(fault.status, Issue(fault.issue, "Ordered by a fault"))
        return as_json(fault.status, INVALID_CLIENT if fault.status == 401 else CERTIFICATE_REFUSED)  # noqa: PLR2004 - section 7.2

    def named(self, reading: Asked) -> frozenset[str]:
        """The body's identifiers and the URL's id, also those of the patient whom a URL names by Roche's own id."""
        values = {value for _, value in reading.submission.identifiers} if reading.submission else set()
        resource = self.patients.resource(reading.id) if reading.id else None
        values |= {one["value"] for one in resource["identifier"]} if resource else set()
        return frozenset(values | {reading.id}) if reading.id else frozenset(values)

    def sent(self, reading: Asked) -> Sent:
        """For the log."""
        sent = reading.submission
        if sent is None:
            return Sent()
        system, value = sent.identifiers[0]
        return Sent(value, system, sent.bundle.get("id"), sent.header.get("id") if sent.header else None)

    def _create(self, submission: Submission, api: str | None, number: int) -> Done:
        there = self.patients.with_identifier_of(submission)
        if there and self.knobs.duplicate != "twice":
            text = f"The patient exists: {there}" if self.knobs.duplicate == "with_id" else "Identifier exists"
            code = "invalid" if self.knobs.duplicate == "invalid" else "duplicate"
            return _failed(self.knobs.duplicate_status, Issue(code, text))
        return self._email_refusal(submission) or self._make(submission, api, number)

    def _email_refusal(self, submission: Submission, besides: str | None = None) -> Done | None:
        if self.knobs.email_duplicate == "accepted" or not self.patients.with_email_of(submission, besides=besides):
            return None
        return _failed(self.knobs.duplicate_status, Issue(self.knobs.email_duplicate, "E-mail address exists"))

    def _make(self, submission: Submission, api: str | None, number: int) -> Done:
        partner_id = new_id(self.knobs.seed, number)
        self.patients.put(partner_id, submission.patient)
        business = api == "v1" and self.knobs.v1_create_id == "business"
        returned = submission.identifiers[0][1] if business else partner_id
        status = self.knobs.v2_create_status if api == "v2" else 200
        answer = as_json(status, _echo(submission, partner_id, returned), fhir=True)
        return Done(answer, CREATED, partner_id, submission.patient)

    def _update(self, submission: Submission, reading: Asked, number: int) -> Done:
        partner_id = self.find(reading.id or "", reading.api)
        if partner_id is None:
            return self._update_unknown(submission, reading, number)
        owner = self.patients.with_identifier_of(submission)
        if owner != partner_id and (owner or self.knobs.update_other_identifier == "invalid"):
            return _failed(400, Issue("invalid", "Patient.identifier is not that of the patient that is updated"))
        refusal = self._email_refusal(submission, besides=partner_id)
        if refusal:
            return refusal
        self.patients.put(partner_id, submission.patient)
        bundle = reading.api == "v2" and self.knobs.v2_update_body == "bundle"
        answer = as_json(200, _echo(submission, partner_id, partner_id), fhir=True) if bundle else Answer(200)
        return Done(answer, UPDATED, partner_id, submission.patient)

    def _update_unknown(self, submission: Submission, reading: Asked, number: int) -> Done:
        if self.knobs.update_unknown == "not-found":
            return _not_found()
        if self.knobs.update_unknown == "invalid":
            return _failed(400, Issue("invalid", "No such patient"))
        made = self._make(submission, reading.api, number)
        return made if reading.api == "v2" else replace(made, answer=Answer(200))

    def find(self, wanted: str, api: str | None) -> str | None:
        """The patient that an update's URL names: by Roche's id in v2, as the knob says in v1 (section 2)."""
        by_id = wanted if self.patients.resource(wanted) else None
        by_value = self.patients.with_value(wanted)
        if api == "v2":
            return by_id
        if self.knobs.update_id == "business" or (self.knobs.update_id == "returned" and self.knobs.v1_create_id == "business"):
            return by_value
        return by_id if self.knobs.update_id == "returned" else by_id or by_value


def _route(request: Request) -> Asked:
    for resource, api, pattern in _ROUTES:
        match = pattern.fullmatch(request.path)
        if not match:
            continue
        wanted = unquote(match[1]) if match[1] else None
        operation = "other"
        if resource == "Patient":
            operation = "read" if request.method == "GET" else "other"
        elif request.method == "POST" and wanted is None:
            operation = "create"
        elif request.method == "PUT":
            operation = "update"
        return Asked(operation, api, wanted, request.headers.get("x-origin-request-id"))
    return Asked(request_id=request.headers.get("x-origin-request-id"))


def _no_route(request: Request) -> Answer:
    for resource, _, pattern in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match:
            return Answer(405, headers=(("Allow", "GET" if resource == "Patient" else "PUT" if match[1] else "POST"),))
    return Answer(404)


def _refused(reading: Asked, status: int, *issues: Issue) -> Asked:
    return replace(reading, refusal=outcome(status, *issues), issues=tuple(one.code for one in issues))


def _failed(status: int, issue: Issue) -> Done:
    return Done(outcome(status, issue), issues=(issue.code,))


def _not_found() -> Done:
    return _failed(404, Issue("not-found", "No such patient"))


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _echo(submission: Submission, bundle_id: str, patient_id: str) -> dict[str, Any]:
    """The answer to a create. As in the published sample, Condition.subject still points at the request's own id (section 6, trap)."""
    entries = [
        {**entry, "resource": {**entry["resource"], "id": patient_id}}
        if entry["resource"]["resourceType"] == "Patient"
        else entry
        for entry in submission.bundle["entry"]
    ]
    return {**submission.bundle, "id": bundle_id, "entry": entries}
