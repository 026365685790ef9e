"""NJSAMS's searches: the parameters that its documents show (contracts/njsams.md section 7), and pages. No I/O; the records are handed in."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from pipeline.sandbox.njsams.records import Records, Resource

Matches = Callable[[Resource, str], bool]
LATEST: Final = "9999"
_DATE: Final = re.compile(r"(eq|ge|le|gt|lt)?(\d{4}(?:-\d{2}(?:-\d{2}(?:T\S+)?)?)?)")
EVERYWHERE: Final = frozenset({"_format", "_count", "_offset", "_include"})


class WrongParameter(Exception):
    """A search that cannot be understood."""


def _family(patient: Resource, wanted: str) -> bool:
    """FHIR's string: begins with it, whatever the case."""
    return any(one.get("family", "").casefold().startswith(wanted.casefold()) for one in patient.get("name", ()))


def _identifier(resource: Resource, wanted: str) -> bool:
    """value, or system|value (the sample has the value alone)."""
    system, bar, value = wanted.rpartition("|")
    return any(
        one.get("value") == value and (not bar or one.get("system", "") == system) for one in resource.get("identifier", ())
    )


def _reference(element: str, kind: str) -> Matches:
    def matches(resource: Resource, wanted: str) -> bool:
        found = resource.get(element, ())
        references = [one.get("reference") for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]
        return wanted in references or f"{kind}/{wanted}" in references

    return matches


def _date(encounter: Resource, wanted: str) -> bool:
    """Overlap of the period with the date, by their texts: a date is the beginning of each of its times."""
    match = _DATE.fullmatch(wanted)
    if not match:
        raise WrongParameter("date is no date")
    prefix, date = match[1] or "eq", match[2]
    period = encounter.get("period", {})
    start, end = period.get("start", ""), period.get("end", LATEST)
    begins_by, ends_from = start[: len(date)] <= date, end[: len(date)] >= date
    verdicts: dict[str, bool] = {
        "eq": begins_by and ends_from,
        "ge": ends_from,
        "le": begins_by,
        "gt": end[: len(date)] > date,
        "lt": start[: len(date)] < date,
    }
    return verdicts[prefix]


PARAMETERS: Final[Mapping[str, Mapping[str, Matches]]] = {
    "Patient": {"family": _family, "identifier": _identifier},
    "Encounter": {"subject": _reference("subject", "Patient"), "date": _date},
    "Coverage": {"beneficiary": _reference("beneficiary", "Patient"), "payor": _reference("payor", "Organization")},
}


def find(records: Records, kind: str, pairs: Sequence[tuple[str, str]], until: float, *, strict: bool) -> list[Resource]:
    """All that match every parameter and can be read. WrongParameter."""
    known = PARAMETERS[kind]
    unknown = [name for name, _ in pairs if name not in known and name not in EVERYWHERE]
    if unknown and strict:
        raise WrongParameter("a search parameter that is not supported")
    tests = [(known[name], value) for name, value in pairs if name in known]
    return [one for one in records.all_visible(kind, until) if all(matches(one, value) for matches, value in tests)]


def page(
    where: tuple[str, str],
    pairs: Sequence[tuple[str, str]],
    found: Sequence[Resource],
    size: int,
    included: Callable[[Resource], Resource | None],
) -> dict[str, Any]:
    """The page that the parameters ask for, with links; `where` is base and type. WrongParameter."""
    base, kind = where
    offset = _number(pairs, "_offset", 0)
    length = min(size, _number(pairs, "_count", size))
    shown = list(found[offset : offset + length])
    entries = [_entry(base, one, "match") for one in shown]
    if ("_include", "Encounter:subject") in pairs:
        others = {one["id"]: one for each in shown if (one := included(each)) is not None}
        entries += [_entry(base, one, "include") for one in others.values()]
    links = [{"relation": "self", "url": _url(base, kind, pairs)}]
    if length and offset + length < len(found):
        rest = [pair for pair in pairs if pair[0] != "_offset"]
        links.append({"relation": "next", "url": _url(base, kind, [*rest, ("_offset", str(offset + length))])})
    return {"total": len(found), "link": links, **({"entry": entries} if entries else {})}


def _number(pairs: Sequence[tuple[str, str]], name: str, otherwise: int) -> int:
    text = next((value for key, value in pairs if key == name), str(otherwise))
    if not (text.isascii() and text.isdecimal()):
        raise WrongParameter(f"{name} is no number")
    return int(text)


def _entry(base: str, resource: Resource, mode: str) -> dict[str, Any]:
    url = f"{base}/{resource['resourceType']}/{resource['id']}"
    return {"fullUrl": url, "resource": resource, "search": {"mode": mode}}


def _url(base: str, kind: str, pairs: Sequence[tuple[str, str]]) -> str:
    return f"{base}/{kind}?{urlencode(pairs)}" if pairs else f"{base}/{kind}"
