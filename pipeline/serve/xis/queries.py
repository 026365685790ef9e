"""A search as it was asked, read from the query string. Pure. A parameter is used, or named as ignored, or the search is refused: never silently dropped.

Whoever a parameter names as patient, it can only narrow what the token allows. Nothing here repeats a value but those of dates and counts.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes
from zoneinfo import ZoneInfo

from pipeline.serve.xis.dates import NoDate, Spans, both, spans, united
from pipeline.serve.xis.faults import Fault, Kind

CURSOR: Final = "_page"
"""Of our own next links: which page it is. Sealed (pages.py)."""
PATIENTS: Final = frozenset({"patient", "subject", "actor"})
"""Parameters of Appointment that may name a patient; `subject` is none, and clients write it."""
MOST_DATES: Final = 50
MOST_PARAMETERS: Final = 100
_SHOWN: Final = re.compile(r"[A-Za-z_][A-Za-z_.-]{0,63}")
"""A parameter's name that may be repeated to the client: no digits, so no number of a person."""
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_OTHER: Final = re.compile(r"(?:^|/)(?:Practitioner|Location|Device|HealthcareService|RelatedPerson)/[A-Za-z0-9.-]{1,64}$")
_NUMBER: Final = re.compile(r"\d{1,40}", re.ASCII)
"""However many: there is a most, and a client that wants all asks for as many as it can write."""


class Pair(NamedTuple):
    """A parameter."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient whom the query names: by the id of a resource, or by an identifier."""

    id: str | None = field(default=None, repr=False)
    identifier: tuple[str, str] | None = field(default=None, repr=False)
    """System and value; both None: by something that nobody has."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for."""

    spans: Spans | None
    """Where the start has to lie; None: anywhere, or nowhere at all."""
    count: int
    only_total: bool
    """`_summary=count`, and `_count=0`, which STU3 says is the same."""
    patients: tuple[tuple[Patient, ...], ...] = field(repr=False)
    """Each of these has to be the token's; of the alternatives one."""
    backwards: bool
    """`_sort=-date`: the latest first."""
    ids: frozenset[str] | None = field(repr=False)
    """`_id`: one of these; None: any."""
    statuses: frozenset[str] | None
    """`status`: one of these; None: any."""
    used: tuple[Pair, ...]
    """As they go into the self link, apart from those that name a patient."""
    ignored: tuple[str, ...]
    """What the client is to know, a sentence each."""


def pairs(raw: str) -> list[Pair]:
    """The parameters of a query string. A plus is a plus: no value here has blanks, and offsets are often not encoded."""
    found = [one.partition("=") for one in raw.split("&") if one]
    if len(found) > MOST_PARAMETERS:
        raise Fault(Kind.TOO_MUCH, f"the search has more than {MOST_PARAMETERS} parameters")
    return [Pair(_text(name), _text(value)) for name, _, value in found]


def _text(encoded: str) -> str:
    try:
        return unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise Fault(Kind.SYNTAX, "the query string is not UTF-8") from None


def one(given: Sequence[Pair], name: str) -> str | None:
    """The value of a parameter that may stand once."""
    found = list(dict.fromkeys(pair.value for pair in given if pair.name == name))
    if len(found) > 1:
        raise Fault(Kind.SYNTAX, f"{name} stands more than once")
    return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Limits:
    """Entries of a page."""

    usual: int
    most: int


def query(given: Sequence[Pair], zone: ZoneInfo, now_ms: int, limits: Limits, *, strict: bool) -> Query:
    """What the parameters mean; Fault 400 where one cannot be read, or is not supported and the client wants to be told (`handling=strict`)."""
    for pair in given:
        _no_modifier(pair)
    ignored = [*_unknown(given), *_summary(given), *_sort(given)]
    if strict and ignored:
        raise Fault(Kind.NOT_SUPPORTED, "; ".join(ignored))
    count = _count(given, limits)
    dates = [pair for pair in given if pair.name == "date"]
    if sum(pair.value.count(",") + 1 for pair in dates) > MOST_DATES:
        raise Fault(Kind.TOO_MUCH, f"the search has more than {MOST_DATES} dates")
    return Query(
        spans=reduce(both, (_any(pair.value, zone, now_ms) for pair in dates)) if dates else None,
        count=count or limits.usual,
        only_total=count == 0 or one(given, "_summary") == "count",
        patients=tuple(_patients(pair) for pair in given if _names_patient(pair)),
        backwards=one(given, "_sort") == BACKWARDS,
        ids=_each(given, "_id", str),
        statuses=_each(given, "status", _status),
        used=tuple(Pair(pair.name, str(count) if pair.name == "_count" else pair.value) for pair in given if _used(pair)),
        ignored=tuple(ignored),
    )


USED: Final = frozenset({"date", "_id", "status", "_sort", "_count", "_format", "_summary"})
SUMMARIES: Final = frozenset({None, "false", "count"})
BACKWARDS: Final = "-date"
SORTS: Final = frozenset({None, "date", BACKWARDS})
"""By start is how they come anyway."""
STATUS: Final = "http://hl7.org/fhir/appointmentstatus"


def _used(pair: Pair) -> bool:
    values = {"_summary": SUMMARIES, "_sort": SORTS}.get(pair.name)
    return pair.name in USED and (values is None or pair.value in values)


def _each(given: Sequence[Pair], name: str, read: Callable[[str], str]) -> frozenset[str] | None:
    """What all parameters of that name allow (AND), each of them one of several (OR)."""
    allowed = [frozenset(read(value) for value in pair.value.split(",")) for pair in given if pair.name == name]
    return reduce(frozenset.intersection, allowed) if allowed else None


def _status(token: str) -> str:
    """A code, with or without its system; that of another system is nobody's."""
    system, bar, code = token.rpartition("|")
    return code if not bar or system in {"", STATUS} else token


def _no_modifier(pair: Pair) -> None:
    """STU3: a modifier that is not supported has to be refused, whatever parameter it stands at."""
    if ":" in pair.name:
        name = pair.name.partition(":")[0]
        raise Fault(Kind.NOT_SUPPORTED, f"no modifier (:) is supported at {name if _SHOWN.fullmatch(name) else 'a parameter'}")


def _any(value: str, zone: ZoneInfo, now_ms: int) -> Spans:
    """OR: values between commas."""
    try:
        return united(span for each in value.split(",") for span in spans(each, zone, now_ms))
    except NoDate:
        raise Fault(Kind.SYNTAX, "date is no date, as ge2026-01-31 or 2026-01-31T09:00:00+01:00") from None


def _count(given: Sequence[Pair], limits: Limits) -> int | None:
    said = one(given, "_count")
    if said is None:
        return None
    if not _NUMBER.fullmatch(said):
        raise Fault(Kind.SYNTAX, "_count is no number")
    return min(int(said), limits.most)


def _unknown(given: Sequence[Pair]) -> list[str]:
    names = dict.fromkeys(pair.name for pair in given if pair.name not in USED | {CURSOR} and not _names_patient(pair))
    return [
        f"the parameter {name} is not supported" if _SHOWN.fullmatch(name) else "a parameter is not supported" for name in names
    ]


def _summary(given: Sequence[Pair]) -> list[str]:
    said = one(given, "_summary")
    return [] if said in SUMMARIES else ["_summary is supported as count and false only: resources are whole"]


def _sort(given: Sequence[Pair]) -> list[str]:
    said = one(given, "_sort")
    return [] if said in SORTS else ["_sort is supported as date and -date only: appointments come by their start"]


def _names_patient(pair: Pair) -> bool:
    """An actor may be a practitioner or a place too, where its type says so."""
    name = pair.name.partition(".")[0]
    return name in PATIENTS and not (name == "actor" and all(_OTHER.search(value) for value in pair.value.split(",")))


def _patients(pair: Pair) -> tuple[Patient, ...]:
    return tuple(_patient(pair.name.partition(".")[2], value) for value in pair.value.split(","))


def _patient(chained: str, value: str) -> Patient:
    """By what cannot be looked up (a name, a type that is no patient) nobody is found."""
    if chained == "identifier":
        system, bar, of_system = value.partition("|")
        return Patient(identifier=(system, of_system)) if bar else Patient()
    found = value.rpartition("Patient/")[2]
    return Patient() if chained or not _ID.fullmatch(found) else Patient(id=found)
