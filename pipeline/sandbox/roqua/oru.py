"""RoQua's own HL7 v2.4: an ORU^R01 for each change of a response, as it pushes them to the hospital (contracts/roqua.md section 8.2). No I/O.

One OBR per response; metadata, scores, raw answers as OBX, each `<questionnaire key>_<field>`; times to the minute without a zone. S can be
filled out, F final, C corrected (from then on), X cannot be filled out any more, D deleted. What did not change is not sent again.
"""

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.sandbox.log import Effect
from pipeline.sandbox.roqua.orders import OPEN
from pipeline.sandbox.roqua.questionnaires import KNOWN, name_of
from pipeline.sandbox.roqua.records import DELETED, Record
from pipeline.sandbox.roqua.rest import AMSTERDAM

FINAL: Final = frozenset({"F", "C"})
_ESCAPES: Final = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\X0D\\", "\n": "\\X0A\\"}
)


@dataclass(frozen=True, slots=True)
class Push:
    """One message."""

    bytes: bytes = field(repr=False)
    status: str
    dossier: str = field(repr=False)
    response: int


def pushes(effects: Iterable[Effect]) -> Iterator[Push]:
    """What RoQua sends of all that the log says, in order."""
    told: dict[int, tuple[str, Record]] = {}
    for effect in effects:
        for one, deleted in _changes(effect):
            before, as_it_was = told.get(one["id"], ("", None))
            if deleted or as_it_was != one:
                status = "D" if deleted else _status(one, before)
                told[one["id"]] = (status, one)
                yield Push(message(one, status, effect.number, effect.time), status, one["dossier"], one["id"])


def _changes(effect: Effect) -> Iterator[tuple[Record, bool]]:
    """Responses as they stand after it, and whether they are gone."""
    for one in effect.written:
        yield one.resource, one.effect == DELETED
    if effect.token and "response" in effect.token:
        yield effect.token["response"], False


def _status(one: Record, before: str) -> str:
    if one["status"] in OPEN:
        return "S"
    if one["status"] != "completed":
        return "X"
    return "C" if before in FINAL else "F"


def message(one: Record, status: str, number: int, at: float) -> bytes:
    """Of one response."""
    key, when = one["questionnaire_key"], _minute(one["completed_at"] or one["open_from"] or at)
    obr = [""] * 26
    obr[0], obr[1], obr[3], obr[7], obr[15], obr[25] = "OBR", "1", str(one["id"]), when, key, status
    lines = [
        rf"MSH|^~\&|Roqua|RGOc|EMRPIPE|MW|{_minute(at)}||ORU^R01|RQ{number}|P|2.4||||||UNICODE UTF-8",
        f"PID|1||{_text(one['dossier'])}^^^^PI",
        "|".join(obr),
    ]
    rows = _metadata(one) if status == "D" else [*_metadata(one), *_scores(one), *_answers(one)]
    for place, (name, value, flag) in enumerate(rows, 1):
        kind = "NM" if isinstance(value, (int, float)) and not isinstance(value, bool) else "ST"
        lines.append(f"OBX|{place}|{kind}|{key}_{_text(name)}^^L||{_text(value)}|||{flag}|||{status}|||{when}")
    return ("\r".join(lines) + "\r").encode()


Row = tuple[str, Any, str]


def _metadata(one: Record) -> list[Row]:
    invited = one["open_from"]
    return [
        ("protocol", one["protocol_subscription_id"] or "", ""),
        ("measurement", name_of(one["questionnaire_key"]), ""),
        ("invited_at", "" if invited is None else _minute(invited), ""),
        ("compl_by", one["completer_type"] or "", ""),
        ("date", "" if one["completed_at"] is None else _minute(one["completed_at"])[:8], ""),
    ]


def _scores(one: Record) -> Iterator[Row]:
    questionnaire = KNOWN.get(one["questionnaire_key"])
    if questionnaire and one["status"] == "completed" and not one["hide_values"]:
        for name, score in questionnaire.outcome(one["values"])["scores"].items():
            if "value" in score:
                yield name, score["value"], score.get("oru_flag", "")


def _answers(one: Record) -> Iterator[Row]:
    if one["status"] == "completed" and not one["hide_values"]:
        yield from ((name, value, "") for name, value in one["values"].items() if value is not None)


def _minute(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(seconds, AMSTERDAM):%Y%m%d%H%M}"


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    return str(value).translate(_ESCAPES)
