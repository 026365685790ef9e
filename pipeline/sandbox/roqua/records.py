"""What RoQua's stand-in has: every response of every dossier, rebuilt from the log of effects at start. No I/O, no rule of the contract.

A record is one JSON object that stands in the log as it is: id, dossier, external_id, questionnaire_key, values, answer_data, status,
times as Unix seconds, completer_type, respondent_id, entered_by, …
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.sandbox.log import CREATED, UPDATED, Effect, Written

DELETED: Final = "deleted"
RESPONSE: Final = "Response"
Record = dict[str, Any]

BLANK: Final[Mapping[str, Any]] = {
    "external_id": None,
    "values": {},
    "answer_data": {},
    "status": "completed",
    "started_at": None,
    "completed_at": None,
    "open_from": None,
    "open_till": None,
    "completer_type": "patient",
    "respondent_id": None,
    "entered_by": None,
    "requesters": [],
    "protocol_subscription_id": None,
    "hide_values": False,
}


def record(**given: Any) -> Record:  # noqa: ANN401 - JSON
    """A response that has everything; what is not given is as nobody told."""
    return {**BLANK, **given}


@dataclass(slots=True)
class Responses:
    """All of them. Where there are two of one external_id, the latest answers to it."""

    _records: dict[int, Record] = field(default_factory=dict)
    _respondents: dict[tuple[str, str], int] = field(default_factory=dict)
    _dossiers: dict[str, None] = field(default_factory=dict)
    _highest: int = 0

    def restore(self, effects: Iterable[Effect]) -> None:
        """What the log says: of requests, and of orders."""
        for effect in effects:
            for one in effect.written:
                self._take(one.effect, one.resource)
            if effect.token and "response" in effect.token:
                self._take(UPDATED, effect.token["response"])

    def _take(self, effect: str, one: Record) -> None:
        self._highest = max(self._highest, one["id"])
        self._dossiers[one["dossier"]] = None
        if effect == DELETED:
            self._records.pop(one["id"], None)
            return
        self._records[one["id"]] = one
        if one["respondent_id"] is not None:
            self._respondents.setdefault((one["dossier"], str(one["completer_type"])), one["respondent_id"])

    # changes

    def add(self, one: Record) -> Written:
        """A new one; it gets an id, and a respondent where it names none."""
        respondent = one["respondent_id"] or self.respondent(one["dossier"], str(one["completer_type"]))
        whole = {**one, "id": self._highest + 1, "respondent_id": respondent}
        self._take(CREATED, whole)
        return _written(whole, CREATED)

    def change(self, before: Record, **values: Any) -> Written:  # noqa: ANN401 - JSON
        """Another state of one."""
        whole = {**before, **values}
        self._take(UPDATED, whole)
        return _written(whole, UPDATED)

    def delete(self, one: Record) -> Written:
        """It is not there any more."""
        self._take(DELETED, one)
        return _written(one, DELETED)

    def respondent(self, dossier: str, kind: str) -> int:
        """Who of a dossier fills out: the same number for the same one."""
        return self._respondents.setdefault((dossier, kind), len(self._respondents) + 1)

    # questions

    def of(self, dossier: str) -> list[Record]:
        """Of one dossier, in the order of their making."""
        return [one for _, one in sorted(self._records.items()) if one["dossier"] == dossier]

    def with_external(self, dossier: str, external_id: str) -> Record | None:
        """The one that was sent under this id."""
        return next((one for one in reversed(self.of(dossier)) if one["external_id"] == external_id), None)

    def with_id(self, dossier: str, wanted: str) -> Record | None:
        """By RoQua's own id."""
        return next((one for one in self.of(dossier) if str(one["id"]) == wanted), None)

    def dossiers(self) -> list[str]:
        """Of which it has heard."""
        return list(self._dossiers)


def _written(one: Record, effect: str) -> Written:
    keys = (one["external_id"],) if one["external_id"] is not None else ()
    return Written(RESPONSE, str(one["id"]), effect, None, keys, one)
