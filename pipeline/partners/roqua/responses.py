"""RoQua, responses by its REST API (no FHIR): POST what it has not, PUT what it has, DELETE what is taken back, all by our external_id.

What its answers hold stands in answers.py, what they mean in verdicts.py. No I/O; the token never comes here. Sources: the partner's page
(B) and contracts/roqua.md sections 5 and 6; what is inferred there is a setting here. The mapping renders a QuestionnaireResponse (STU3), so
that lint and the checks hold; what RoQua gets is made of it here, and of nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import orjson

from pipeline.errors import Filtered, NoAnswer, ProfileNotMet
from pipeline.ids import uuid5
from pipeline.model import (
    Identified,
    Identity,
    Intent,
    Kind,
    Mapped,
    Packed,
    Reply,
    Request,
    Resource,
    Variable,
    Verdict,
)
from pipeline.partners import answers, packing, results
from pipeline.partners.roqua import answers as roqua_answers
from pipeline.partners.roqua import parts as roqua_parts
from pipeline.partners.roqua.answers import Sent, Told
from pipeline.partners.roqua.verdicts import Flag, Operation, Said, row_of
from pipeline.partners.verdicts import Signal
from pipeline.settings_partners import RoquaResponsesSettings
from schemas.event import Coded, Event, Identifier
from schemas.outcomes import FindingCode, Reason

STARTED: Final = "urn:emr-pipeline:questionnaire-started"
"""Extension of the mapping's QuestionnaireResponse: when it was begun, for which STU3 has no element."""
EARLIEST: Final = 946_594_800
"""31 December 1999 in Amsterdam: B, "greater or equal"."""
STATUSES: Final = {"F": "completed", "C": "amended"}
"""Of the QuestionnaireResponse, by that of the results; any other that is sent takes it back."""
NOT_OURS: Final = "no questionnaire and no question of RoQua's: see codes/roqua-questionnaires.yaml and roqua-questions.yaml"
TABLES: Final = frozenset({"roqua-questions", "roqua-options"})
"""Without a row there an answer would be missing at RoQua, so the message parks."""


class RoquaResponses:
    """Implements partners/port.py.

    Args:
        settings: the partner's block of the settings.
        identifier_systems: which system an identifier is accepted under, from the mapping's table: that of dossiers.
        questionnaires: whether a result (OBR-4) is a questionnaire of RoQua's, from the mapping's table.
        questions: the same of an answer (OBX-3).

    """

    name: str = "roqua-responses"
    secret_headers: tuple[str, ...] = ("Authorization",)
    part2: bool = False
    reads: frozenset[str] = results.READS | {"observations", "status"}
    unders: frozenset[str] = frozenset()
    gives_ids: bool = False

    def __init__(
        self,
        settings: RoquaResponsesSettings,
        identifier_systems: Callable[[Identifier], str | None],
        questionnaires: Callable[[Coded], bool],
        questions: Callable[[Coded], bool],
    ) -> None:
        self._settings = settings
        self._identifier_systems = identifier_systems
        self._questionnaires, self._questions = questionnaires, questions
        self._timeouts = packing.timeouts(settings.write)
        self.longest = self._timeouts.total

    def system_of(self, identifier: Identifier) -> str | None:
        """See partners/port.py."""
        return self._identifier_systems(identifier)

    def under(self, event: Event) -> str:  # noqa: ARG002 - the port's signature
        """See partners/port.py: a dossier's number is unique in an organisation (contracts/roqua.md 2.3)."""
        return ""

    def parts(self, event: Event) -> tuple[Identity, ...]:
        """See partners/port.py: the one questionnaire. Parked: SEVERAL_RESULTS, NUMBER_MISSING. Filtered: results, and nothing of a questionnaire.

        Looked at first, as for documents. What takes back is not: it may be about what went before the site's tables were changed.
        """
        if event.reports and event.result_status in STATUSES and not self._is_ours(event):
            raise Filtered(Reason.EVENT_NOT_FOR_PARTNER, where="OBR-4", message=NOT_OURS)
        return results.result_of(event)

    def _is_ours(self, event: Event) -> bool:
        """One table is enough: what the other lacks is a mistake, and parks."""
        answers_ = (one.code for report in event.reports for one in report.observations)
        asked = any(code is not None and self._questions(code) for code in answers_)
        return asked or any(report.code is not None and self._questionnaires(report.code) for report in event.reports)

    def variables(self, identified: Identified) -> Mapping[str, Variable]:
        """See partners/port.py."""
        assert identified.identity is not None  # noqa: S101 - route parks a message of nobody
        status = identified.routed.decoded.event.result_status
        return {
            "status": STATUSES.get(status, "entered-in-error"),
            "external_id": roqua_parts.own_id(identified),
            "dossier": roqua_parts.dossier(identified),
            "dossier_system": identified.identity.system,
            "entered_by": self._settings.entered_by,
        }

    def absent_is_create(self, identified: Identified) -> bool:  # noqa: ARG002 - the port's signature
        """See partners/port.py."""
        return self._settings.on_absent == "create"

    def public_partner_id(self, identity: Identity | None, partner_id: str | None) -> str | None:  # noqa: ARG002 - the port's signature
        """See partners/port.py: a dossier's number is a business id, and external_id can be computed from it."""
        return None

    # requests

    def pack(self, mapped: Mapped) -> Packed:
        """One request. ProfileNotMet: PROFILE_REQUIRED, PROFILE_INVALID."""
        identified = mapped.identified
        if identified.routed.rule.kind is Kind.CANCEL:
            return Packed(mapped, (self._request(identified, Operation.DELETE, b""),))
        known = roqua_parts.result(identified) in identified.part_ids
        operation = Operation.UPDATE if known else Operation.CREATE
        return Packed(mapped, (self._request(identified, operation, self._body(mapped, operation)),))

    def _request(self, identified: Identified, operation: Operation, body: bytes) -> Request:
        dossier = roqua_parts.dossier(identified)
        if not dossier.strip("."):
            # a URL has no way to say "." or "..": they mean the folder, however they are quoted (RFC 3986 section 5.2.4)
            raise ProfileNotMet(Reason.PROFILE_INVALID, where="PID-3", message="the dossier's number cannot stand in a URL")
        creates = operation is Operation.CREATE
        own = "" if creates else f"/{roqua_parts.own_id(identified)}"
        headers = (("Content-Type", "application/json"),) if body else ()
        return Request(
            operation=operation.value,
            method={Operation.CREATE: "POST", Operation.DELETE: "DELETE"}.get(operation, "PUT"),
            path=f"/api/v1/dossiers/{quote(dossier, safe='')}/responses{own}",
            path_template=f"/api/v1/dossiers/{{dossier}}/responses{'' if creates else '/{external_id}'}",
            headers=(*headers, ("Accept", "application/json")),
            body=body,
            request_id=uuid5(packing.namespace(identified), operation.value.encode()),
            timeouts=self._timeouts,
            intent=Intent.CREATE if creates and not self._settings.upsert else Intent.UPDATE,
            subject=dossier,
        )

    def _body(self, mapped: Mapped, operation: Operation) -> bytes:
        """B: what POST takes, and the four that PUT takes."""
        roqua_parts.one_answer_each(mapped.identified.routed.decoded, self._questions)
        _nothing_left_out(mapped)
        response = next((one for one in mapped.resources if one["resourceType"] == "QuestionnaireResponse"), {})
        told = {
            "questionnaire_key": _required(_inner(response, "questionnaire"), "questionnaire", "OBR-4"),
            "external_id": roqua_parts.own_id(mapped.identified),
            "answer_data": _required(_answers(response), "item", "OBX"),
            "started_at": _unix(_started(response), "extension", "OBR-7"),
            "filled_out_at": _unix(response.get("authored"), "authored", "OBR-8"),
            self._settings.respondent_parameter: self._settings.respondent,
            "entered_by": _inner(response, "author"),
        }
        taken = told if operation is Operation.CREATE else {name: told[name] for name in OF_AN_UPDATE}
        return orjson.dumps({name: value for name, value in taken.items() if value is not None})

    def of_attempt(self, packed: Packed, request: Request, attempt: int) -> Request:  # noqa: ARG002 - the port's signature
        """See partners/port.py: RoQua has no header for it, so the attempts of a request are one."""
        return request

    def resent(self, packed: Packed, replay: str) -> Packed:
        """See partners/port.py. external_id is the upsert key and stays."""
        namespace = packing.namespace(packed.mapped.identified)
        requests = (replace(one, request_id=uuid5(namespace, f"{one.operation}-{replay}".encode())) for one in packed.requests)
        return replace(packed, requests=tuple(requests))

    # the look for an unknown create, where the setting `upsert` is off

    def probe(self, packed: Packed) -> Request | None:
        """A PUT to its external_id: 404 says that it is not there (B)."""
        return self._request(packed.mapped.identified, Operation.PROBE, self._body(packed.mapped, Operation.PROBE))

    def probe_after(self, operation: str) -> float:  # noqa: ARG002 - the port's signature
        """See partners/port.py."""
        return self._settings.again_after

    # answers

    def judge(self, packed: Packed, request: Request, came: Reply | NoAnswer, *, after_unknown: bool) -> Verdict:  # noqa: ARG002 - the port's signature
        """See partners/port.py and verdicts.py."""
        operation = Operation(request.operation)
        if isinstance(came, NoAnswer):
            return self._verdict(packed, operation, Told(Said.EMPTY), came)
        return self._verdict(packed, operation, roqua_answers.read(came, _sent(request)), came)

    def judge_probe(self, packed: Packed, probe: Request, came: Reply | NoAnswer) -> Verdict:
        """See partners/port.py."""
        return self.judge(packed, probe, came, after_unknown=True)

    def _verdict(self, packed: Packed, operation: Operation, told: Told, came: Reply | NoAnswer) -> Verdict:
        lost = isinstance(came, NoAnswer)
        wait = None if isinstance(came, NoAnswer) else answers.retry_after(came)
        flags = {Flag.UPSERT: self._settings.upsert, Flag.RETRY_AFTER: wait is not None}
        there = frozenset(flag for flag, is_there in flags.items() if is_there)
        row = row_of(Signal(operation, 0 if isinstance(came, NoAnswer) else came.status, told.said, told.keywords, there))
        return Verdict(
            decision=row.decision,
            reason=came.reason if isinstance(came, NoAnswer) and row.reason is None else row.reason,
            issue_codes=told.codes,
            learned=roqua_parts.learned(packed.mapped.identified) if row.decision.value == "delivered" else (),
            retry_after=max(wait or 0.0, self._settings.again_after) if row.pause else wait,
            suspect=lost and isinstance(came, NoAnswer) and came.fresh,
        )


OF_AN_UPDATE: Final = ("questionnaire_key", "answer_data", "started_at", "filled_out_at")


def _sent(request: Request) -> Sent:
    """Whose response an answer has to be."""
    if not request.body:
        return Sent()
    body = orjson.loads(request.body)
    return Sent(body.get("external_id") or request.path.rpartition("/")[2], body["questionnaire_key"])


def _nothing_left_out(mapped: Mapped) -> None:
    """A table without a row for a question or an answer: sent without, RoQua would score what the patient did not say."""
    for finding in mapped.findings:
        if finding.code is FindingCode.CODE_UNMAPPED and finding.about in TABLES:
            message = f"the table {finding.about} has no row for it: add one for the site"
            raise ProfileNotMet(Reason.PROFILE_REQUIRED, where=f"QuestionnaireResponse.item ({finding.hl7})", message=message)


def _required(value: Any, element: str, place: str) -> Any:  # noqa: ANN401 - any JSON
    if not value:
        raise ProfileNotMet(Reason.PROFILE_REQUIRED, where=f"QuestionnaireResponse.{element} ({place})")
    return value


def _answers(response: Resource) -> dict[str, str | None]:
    """Question key and option key; None of a question that has no answer. ProfileNotMet where a question comes twice with two answers."""
    found: dict[str, str | None] = {}
    for item in response.get("item", ()):
        answer: Resource = next(iter(item.get("answer", ())), {})
        if found.setdefault(item["linkId"], answer.get("valueString")) != answer.get("valueString"):
            raise ProfileNotMet(
                Reason.PROFILE_INVALID, where="QuestionnaireResponse.item (OBX-3)", message="two answers to one question"
            )
    return found


def _inner(response: Resource, element: str) -> str | None:
    """The identifier's value of a reference."""
    value = response.get(element, {}).get("identifier", {}).get("value")
    return None if value is None else str(value)


def _started(response: Resource) -> str | None:
    return next((str(one["valueDateTime"]) for one in response.get("extension", ()) if one.get("url") == STARTED), None)


def _unix(when: str | None, element: str, place: str) -> int | None:
    """Seconds since 1970 of a FHIR dateTime with an offset."""
    if when is None:
        return None
    seconds = int(datetime.fromisoformat(when).timestamp())
    if seconds < EARLIEST:
        where = f"QuestionnaireResponse.{element} ({place})"
        raise ProfileNotMet(Reason.PROFILE_INVALID, where=where, message="RoQua takes no time before 31 December 1999")
    return seconds
