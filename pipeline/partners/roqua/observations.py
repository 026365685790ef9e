"""A RoQua response as FHIR STU3 Observations: one for the questionnaire, one for each score, one for each answered value. Pure.

The first has the others as members; a score says which answers it was made of. Nothing is invented: a value that RoQua does not give (hidden from
professionals, not calculated) has its reason, an answer that is not there has no Observation, and a code that is on no list of ours is told.
`completing_url`, names of people and text variables stay out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import orjson

from pipeline.ids import uuid5
from pipeline.model import Resource

NAMESPACE: Final = bytes.fromhex("b3b8f3f2f0c355a7a3f26d6bb0a1c9d4")
"""Of our UUIDv5 ids (RFC 9562 section 5.5)."""
STATUSES: Final = {
    "completed": "final",
    "aborted": "cancelled",
    "expired": "cancelled",
    "open": "registered",
    "new": "registered",
    "scheduled": "registered",
    "inactive": "unknown",
    "unattached": "unknown",
}
"""RoQua's status (documented ones, and those of its exports) to STU3's observation-status."""
FLAGS: Final = {"HH": "Critically high", "H": "High", "N": "Normal", "L": "Low", "LL": "Critically low"}
"""oru_flag: HL7 v2 table 0078."""
INTERPRETATION: Final = "http://hl7.org/fhir/v2/0078"
CATEGORY: Final = {"coding": [{"system": "http://hl7.org/fhir/observation-category", "code": "survey", "display": "Survey"}]}
RECORD: Final = {"coding": [{"system": "http://hl7.org/fhir/v2/0203", "code": "MR"}]}
ABSENT: Final = "http://hl7.org/fhir/data-absent-reason"
HIDDEN: Final = "hide_values_from_professionals"
BESIDE: Final = ("action", "alarm", "attention", "complete")
"""Of the outcome as a whole: components of the first Observation."""
CODE: Final = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]+( [^\s\x00-\x1f\x7f-\x9f]+)*")
MOMENT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})", re.ASCII)
WORD: Final = re.compile(r"[A-Za-z_]{1,32}")
MOST: Final = 2**53


@dataclass(frozen=True, slots=True)
class Origin:
    """Where responses come from, and whose they are."""

    base_url: str
    """The tenant's: questionnaires, keys and ids are its own, so all systems of codes begin with it."""
    dossier: str = field(repr=False)
    dossier_system: str | None = None
    """Identifier system of dossier ids; None where the settings have none."""


@dataclass(frozen=True, slots=True)
class Turned:
    """What a response became."""

    observations: tuple[Resource, ...] = field(repr=False)
    """The first is the questionnaire's."""
    told: tuple[str, ...] = ()
    """What is on no list of ours, as `status paused`: words of the partner's vocabulary, never a value."""


def observations_of(response: Mapping[str, Any], origin: Origin, *, corrected: bool = False) -> Turned:
    """The same response gives the same ids. `corrected`: it was completed before, with other answers."""
    made = _Made(response, origin, "corrected" if corrected else "final")
    answers = {key: one for key, value in _dict(response.get("values")).items() if (one := made.answer(key, value)) is not None}
    scores = [
        made.score(key, _dict(score), answers) for key, score in _dict(_dict(response.get("outcome")).get("scores")).items()
    ]
    members = [*scores, *answers.values()]
    return Turned((made.whole(members), *members), tuple(dict.fromkeys(made.told)))


class _Made:
    """What the Observations of one response share."""

    def __init__(self, response: Mapping[str, Any], origin: Origin, done: str) -> None:
        self.response, self.origin = response, origin
        self.told: list[str] = []
        self.key = _text(response.get("questionnaire_key")) or "unknown"
        self.system = f"{origin.base_url}/questionnaires/{quote(self.key, safe='')}"
        self.number = (
            _text(response.get("id")) or _text(response.get("external_id")) or orjson.dumps(response, default=str).decode()
        )
        status = self._known("status", response.get("status"), STATUSES) or "unknown"
        person: Resource = {"type": RECORD, "value": origin.dossier}
        if origin.dossier_system:
            person["system"] = origin.dossier_system
        self.shared: Resource = {
            "status": done if status == "final" else status,
            "category": [CATEGORY],
            "subject": {"identifier": person},
        }
        moment = response.get("completed_at")
        if isinstance(moment, str) and _is_moment(moment):
            self.shared["effectiveDateTime"] = moment

    def whole(self, members: list[Resource]) -> Resource:
        """The questionnaire's."""
        response, name = self.response, _text(self.response.get("questionnaire_name"))
        made = self._made("", _concept(f"{self.origin.base_url}/questionnaires", self.key, name))
        made["identifier"] = [
            {"system": f"{self.origin.base_url}/{kind}", "value": value}
            for kind, value in (
                ("responses", _text(response.get("id"))),
                ("external-responses", _text(response.get("external_id"))),
            )
            if value
        ] or None
        outcome = _dict(response.get("outcome"))
        beside = [(name, outcome.get(name)) for name in BESIDE] + [("completer_type", response.get("completer_type"))]
        made["component"] = [
            {"code": _concept(f"{self.origin.base_url}/outcome", name, None), "valueString": text}
            for name, said in beside
            if (text := ", ".join(filter(None, map(_text, said if isinstance(said, list) else [said]))))
        ] or None
        made["related"] = [{"type": "has-member", "target": _to(member)} for member in members] or None
        made["dataAbsentReason"] = self._absent() if response.get(HIDDEN) is True and not members else None
        return _without_none(made)

    def score(self, key: str, score: Mapping[str, Any], answers: Mapping[str, Resource]) -> Resource:
        """A calculated score."""
        made = self._made(f"score\x1f{key}", _concept(f"{self.system}/scores", key, _text(score.get("label"))))
        made |= _value(score.get("value")) or {"dataAbsentReason": self._absent()}
        flag = self._known("oru_flag", score.get("oru_flag"), FLAGS)
        coding = [{"system": INTERPRETATION, "code": score["oru_flag"], "display": flag}] if flag else None
        said = _text(score.get("interpretation"))
        made["interpretation"] = _without_none({"coding": coding, "text": said}) if coding or said else None
        norm = _text(score.get("norm"))
        made["referenceRange"] = [{"text": norm}] if norm else None
        made["component"] = self._tscore(score)
        sources = [answers[one] for one in _list(score.get("referenced_values")) if isinstance(one, str) and one in answers]
        made["related"] = [{"type": "derived-from", "target": _to(one)} for one in sources] or None
        return _without_none(made)

    def _tscore(self, score: Mapping[str, Any]) -> list[Resource] | None:
        value, said = _value(score.get("tscore")), _text(score.get("tscore_interpretation"))
        if value is None:
            return None
        component = {"code": _concept(f"{self.origin.base_url}/outcome", "tscore", "T-score"), **value}
        return [component | ({"interpretation": {"text": said}} if said else {})]

    def answer(self, key: str, value: Any) -> Resource | None:  # noqa: ANN401 - JSON's own types
        """An answered value; None where there is no answer."""
        found = _value(value)
        return None if found is None else self._made(f"answer\x1f{key}", _concept(f"{self.system}/questions", key, None)) | found

    def _made(self, part: str, code: Resource) -> Resource:
        name = f"{self.origin.base_url}\x1f{self.number}\x1f{part}"
        return {
            "resourceType": "Observation",
            "id": uuid5(NAMESPACE, name.encode("utf-8", "replace")),
            "code": code,
            **self.shared,
        }

    def _absent(self) -> Resource:
        return {"coding": [{"system": ABSENT, "code": "masked" if self.response.get(HIDDEN) is True else "unknown"}]}

    def _known(self, name: str, said: object, words: Mapping[str, str]) -> str | None:
        """By a list that is open: what is not on it is told."""
        if isinstance(said, str) and said in words:
            return words[said]
        if said not in (None, ""):
            self.told.append(f"{name} {said}" if isinstance(said, str) and WORD.fullmatch(said) else f"{name}, which is no word")
        return None


def _value(value: Any) -> Resource | None:  # noqa: ANN401 - JSON's own types
    """As value[x]; None where there is none. What is neither a number, a truth nor a text is told as its JSON."""
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, int) and abs(value) > MOST:
        return {"valueString": str(value)}
    if isinstance(value, int | float):
        return {"valueQuantity": {"value": value}}
    text = _text(orjson.dumps(value, default=str).decode() if isinstance(value, dict | list) and value else value)
    return {"valueString": text} if text else None


def _concept(system: str, key: str, name: str | None) -> Resource:
    """A code of RoQua's; one that FHIR would not have as a code is a text."""
    if not CODE.fullmatch(key):
        return {"text": name or _text(key) or "unknown"}
    return _without_none({"coding": [_without_none({"system": system, "code": key, "display": name})], "text": name})


def _text(value: object) -> str | None:
    """As FHIR has texts: something to see in it, and no control characters."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    printable = "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in str(value))
    return printable.strip() or None


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return MOMENT.fullmatch(text) is not None


def _to(resource: Resource) -> Resource:
    return {"reference": f"Observation/{resource['id']}"}


def _without_none(made: Resource) -> Resource:
    return {name: value for name, value in made.items() if value is not None}


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
