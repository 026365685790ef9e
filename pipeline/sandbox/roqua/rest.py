"""RoQua's responses as its REST API has them: what a body must be, what a filter means, how a response is shown (contracts/roqua.md sections 5, 6).

No I/O and no routes; the records are handed in.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from pipeline.sandbox.roqua.answers import Errors
from pipeline.sandbox.roqua.knobs import RoquaKnobs
from pipeline.sandbox.roqua.questionnaires import KNOWN, Values, empty_outcome, name_of
from pipeline.sandbox.roqua.records import Record

EARLIEST: Final = 946_594_800
"""31 December 1999 in Amsterdam (section 6.2)."""
LATEST: Final = 253_402_210_000
"""A Unix time beyond the year 9999 cannot be shown."""
AMSTERDAM: Final = ZoneInfo("Europe/Amsterdam")


@dataclass(frozen=True, slots=True)
class Submission:
    """What a POST or a PUT brings."""

    questionnaire_key: str
    external_id: str | None
    answer_data: dict[str, Any] = field(repr=False)
    values: Values = field(repr=False)
    started_at: int | None
    filled_out_at: int | None
    respondent: str
    entered_by: str | None


def check(body: Mapping[str, Any], knobs: RoquaKnobs, *, create: bool) -> Errors:
    """What is wrong with it, by field; empty where it is taken. An unknown questionnaire is 404 and not looked at here."""
    errors: Errors = {}
    external_id = body.get("external_id")
    if create and not _text(external_id) and (external_id is not None or knobs.external_id == "required"):
        errors["external_id"] = "missing" if external_id is None else "blank" if external_id == "" else "invalid"
    for name in ("started_at", "filled_out_at"):
        if body.get(name) is not None and not _unix(body[name]):
            errors[name] = "invalid"
    if create and _respondent(body, knobs) not in knobs.respondents:
        errors["respondent_type" if "respondent_type" in body else "respondent"] = "invalid"
    if create and body.get("entered_by") is not None and not isinstance(body["entered_by"], str):
        errors["entered_by"] = "invalid"
    return {**errors, **_answers(body, knobs)}


def _answers(body: Mapping[str, Any], knobs: RoquaKnobs) -> Errors:
    data = body.get("answer_data")
    if data is None or not isinstance(data, dict) or not data:
        return {"answer_data": "missing" if data is None else "blank" if data == {} else "invalid"}
    if not all(one is None or isinstance(one, (str, int, float)) for one in data.values()):
        return {"answer_data": "invalid"}
    questionnaire = KNOWN.get(str(body.get("questionnaire_key")))
    if questionnaire is None or knobs.answers == "any":
        return {}
    try:
        values = {key: questionnaire.value(key, one) for key, one in data.items()}
    except KeyError:
        return {"answer_data": "invalid"}
    return {"answer_data": "missing"} if knobs.incomplete == "invalid" and questionnaire.missing(values) else {}


def submission(body: Mapping[str, Any], knobs: RoquaKnobs) -> Submission:
    """Of a body that `check` accepted."""
    key, data = str(body["questionnaire_key"]), dict(body["answer_data"])
    return Submission(
        key,
        body.get("external_id") if _text(body.get("external_id")) else None,
        data,
        {name: _value(key, name, one) for name, one in data.items()},
        body.get("started_at"),
        body.get("filled_out_at"),
        _respondent(body, knobs),
        body.get("entered_by") or None if isinstance(body.get("entered_by"), str) else None,
    )


def _value(key: str, question: str, answer: Any) -> Any:  # noqa: ANN401 - JSON
    """What an option stands for; the answer itself where the stand-in does not know it."""
    try:
        return KNOWN[key].value(question, answer)
    except KeyError:
        return answer


def _respondent(body: Mapping[str, Any], knobs: RoquaKnobs) -> str:
    names = ("respondent_type", "respondent") if knobs.respondent_parameter == "either" else (knobs.respondent_parameter,)
    given = next((body[name] for name in names if body.get(name) is not None), "patient")
    return given if isinstance(given, str) else ""


def _unix(value: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, int) and not isinstance(value, bool) and EARLIEST <= value <= LATEST


def _text(value: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, str) and bool(value.strip())


# how it is shown


def shown(one: Record, knobs: RoquaKnobs, base: str) -> dict[str, Any]:
    """The response object (section 6.1)."""
    key, completed = one["questionnaire_key"], one["status"] == "completed"
    questionnaire, values = KNOWN.get(key), one["values"] if completed else {}
    hidden = one["hide_values"]
    outcome = questionnaire.outcome(values) if questionnaire and completed else empty_outcome()
    return {
        "id": one["id"],
        **({"external_id": one["external_id"]} if knobs.external_id_shown == "shown" else {}),
        "respondent_id": one["respondent_id"],
        "name": name_of(key),
        "questionnaire_name": name_of(key),
        "questionnaire_key": key,
        "open_from": iso(one["open_from"]),
        "open_till": iso(one["open_till"]),
        "requesters": one["requesters"],
        "completer_type": one["completer_type"],
        "completed_at": iso(one["completed_at"]),
        "status": one["status"],
        "completing_url": None if completed else f"{base}/client/session/new?token=stand-in-{one['id']}",
        **({} if hidden else {"values": values, "outcome": outcome}),
        "flags": {},
        "textvars": {},
        "started_at": iso(one["started_at"]),
        "measurement_id": None,
        "non_response_id": None,
        "hide_pii_from_researchers": False,
        "hide_values_from_professionals": hidden,
    }


def iso(seconds: float | None) -> str | None:
    """ISO 8601 with milliseconds and Amsterdam's offset."""
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, AMSTERDAM).isoformat(timespec="milliseconds")


# which of them


class WrongFilter(Exception):
    """A filter that cannot be understood; the text is its name."""


def listed(records: Iterable[Record], query: str, knobs: RoquaKnobs) -> list[Record]:
    """Those that pass every filter (section 6.1); other parameters are not looked at. WrongFilter."""
    pairs = parse_qsl(query, keep_blank_values=True)
    keys = [value for name, value in pairs if name in {"questionnaire_keys[]", "questionnaire_keys"}]
    wanted = dict(pairs)
    before, after = (_when(wanted, name) for name in ("completed_before", "completed_after"))
    respondent = wanted.get("respondent_id")
    if respondent is not None and not (respondent.isascii() and respondent.isdecimal()):
        raise WrongFilter("respondent_id")
    equal = {
        "completer_type": wanted.get("respondent_type"),
        "status": wanted.get("status"),
        "protocol_subscription_id": wanted.get("protocol_subscription_id"),
    }
    return [
        one
        for one in records
        if (not keys or one["questionnaire_key"] in keys)
        and _between(one["completed_at"], after, before, inclusive=knobs.time_filters == "inclusive")
        and (respondent is None or str(one["respondent_id"]) == respondent.lstrip("0"))
        and all(value is None or one[name] == value for name, value in equal.items())
    ]


def _between(at: float | None, after: float | None, before: float | None, *, inclusive: bool) -> bool:
    if at is None:
        return after is None and before is None
    if inclusive and at in {after, before}:
        return True
    return (after is None or at > after) and (before is None or at < before)


def _when(wanted: Mapping[str, str], name: str) -> float | None:
    """Unix seconds, or ISO 8601."""
    text = wanted.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= len(str(LATEST)):
        return float(text)
    try:
        read = dt.datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=AMSTERDAM)).timestamp()
    except (ValueError, OverflowError):
        raise WrongFilter(name) from None
