"""What a write does at RoQua's stand-in: a document, a POST, a PUT, a DELETE that was checked (contracts/roqua.md sections 4, 6). No I/O, no routes.

A document and a response of one external_id are one response: that is the stand-in's reading.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipeline.sandbox.log import CREATED, Written
from pipeline.sandbox.partner import Done
from pipeline.sandbox.roche.shapes import Issue
from pipeline.sandbox.roqua import answers as roqua_answers
from pipeline.sandbox.roqua import rest as roqua_rest
from pipeline.sandbox.roqua.answers import EMPTY_LOCATION, HEADERS, answer
from pipeline.sandbox.roqua.documents import Document
from pipeline.sandbox.roqua.knobs import RoquaKnobs
from pipeline.sandbox.roqua.questionnaires import HONOS_PLUS, ITEM8_KEY, ITEM_KEYS
from pipeline.sandbox.roqua.records import Record, Responses, record
from pipeline.sandbox.roqua.rest import Submission
from pipeline.sandbox.wire import Answer


@dataclass(frozen=True, slots=True)
class Writes:
    """The writes of one request."""

    knobs: RoquaKnobs
    responses: Responses
    base: str
    now: Callable[[], float]

    def document(self, given: Document) -> Done:
        """A HoNOS+ document becomes a response."""
        if refusal := self._no_dossier("document", given.dossier):
            return refusal
        there, again = self.responses.with_external(given.dossier, given.id), self.knobs.document_again
        if there and again in {"forbidden", "conflict"}:
            return self._failed("document", 403 if again == "forbidden" else 409, again, "The response is there")
        values = {
            "values": {ITEM_KEYS[item]: value for item, value in given.answers.items()} | {ITEM8_KEY: given.item8},
            "status": "completed",
            "started_at": given.at,
            "completed_at": given.at,
            "entered_by": given.professional,
            "completer_type": self._completer("profess"),
        }
        if there and again == "updated":
            written = self.responses.change(there, **values)
        else:
            new = record(dossier=given.dossier, external_id=given.id, questionnaire_key=HONOS_PLUS, **values)
            written = self.responses.add(new)
        created = written.effect == CREATED
        return _stored(self._told(self.knobs.document_created if created else self.knobs.document_updated, written), written)

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

    def create(self, dossier: str, external_id: str | None, given: Submission) -> Done:
        """A POST."""
        if refusal := self._no_dossier("create", dossier):
            return refusal
        there = self.responses.with_external(dossier, external_id) if external_id else None
        again = self.knobs.create_again
        if there and again == "forbidden":
            return self._failed("create", 403, "forbidden", "The response stores data")
        if there and again == "invalid":
            return Done(roqua_answers.refused({"external_id": "invalid"}, self.knobs), issues=("external_id:invalid",))
        if there and again == "updated":
            return self._changed(there, given, self.knobs.create_again_status)
        return self._added(dossier, external_id, given)

    def update(self, dossier: str, wanted: str, given: Submission) -> Done:
        """A PUT."""
        if refusal := self._no_dossier("update", dossier):
            return refusal
        there = self._named(dossier, wanted)
        if there is None and self.knobs.update_unknown == "created":
            return self._added(dossier, wanted, given)
        if there is None:
            return self._failed("update", 404, "not-found", "No such response")
        if there["status"] == "completed" and self.knobs.update_stored == "forbidden":
            return self._failed("update", 403, "forbidden", "The response stores data")
        return self._changed(there, given, 200)

    def delete(self, dossier: str, wanted: str) -> Done:
        """A DELETE: of those that were uploaded alone."""
        there = self._named(dossier, wanted)
        if there is None:
            return self._failed("delete", 404, "not-found", "No such response")
        if there["external_id"] is None:
            return self._failed("delete", 403, "forbidden", "The response is RoQua's own")
        return _stored(Answer(204, headers=HEADERS), self.responses.delete(there))

    def _named(self, dossier: str, wanted: str) -> Record | None:
        """By what stands in the path."""
        kind = self.knobs.path_id
        found = self.responses.with_external(dossier, wanted) if kind != "internal" else None
        return found or (self.responses.with_id(dossier, wanted) if kind != "external" else None)

    def _added(self, dossier: str, external_id: str | None, given: Submission) -> Done:
        completer = self._completer(given.respondent)
        new = record(dossier=dossier, external_id=external_id, completer_type=completer, **self._values(given))
        written = self.responses.add({**new, "entered_by": given.entered_by})
        return _stored(self._response(201, written), written)

    def _changed(self, there: Record, given: Submission, status: int) -> Done:
        written = self.responses.change(there, **self._values(given))
        return _stored(self._response(status, written), written)

    def _values(self, given: Submission) -> dict[str, Any]:
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

    def _no_dossier(self, operation: str, dossier: str) -> Done | None:
        """A write to a dossier that was never opened."""
        if is_known(dossier, self.knobs, self.responses) or self.knobs.unknown_dossier == "created":
            return None
        if self.knobs.unknown_dossier == "invalid":
            return self._failed(operation, self.knobs.invalid_status, "invalid", "The dossier is not known")
        return self._failed(operation, 404, "not-found", "The dossier is not known")

    def _failed(self, operation: str, status: int, code: str, text: str) -> Done:
        return Done(roqua_answers.failure(operation, status, [Issue(code, text)], self.knobs), issues=(code,))


def is_known(dossier: str, knobs: RoquaKnobs, responses: Responses) -> bool:
    """Whether the dossier was opened."""
    known = knobs.known_dossiers
    return not known or dossier in known or (knobs.unknown_dossier == "created" and dossier in responses.dossiers())


def _stored(said: Answer, written: Written) -> Done:
    return Done(said, written.effect, written.resource["dossier"], written=(written,))
