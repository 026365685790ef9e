"""Which representation a client gets: `_format` over `Accept` (FHIR STU3, http.html), JSON where it does not say. Pure."""

import re
from enum import Enum
from typing import Final, NamedTuple

from pipeline.serve.xis.faults import Fault, Kind


class Format(Enum):
    """Media type of the answer."""

    JSON = "application/fhir+json"
    XML = "application/fhir+xml"


NAMES: Final = {
    "json": Format.JSON,
    "application/fhir+json": Format.JSON,
    "application/json": Format.JSON,
    "application/json+fhir": Format.JSON,
    "text/json": Format.JSON,
    "xml": Format.XML,
    "application/fhir+xml": Format.XML,
    "application/xml": Format.XML,
    "application/xml+fhir": Format.XML,
    "text/xml": Format.XML,
    "*/*": Format.JSON,
    "application/*": Format.JSON,
    "text/*": Format.JSON,
}
"""`+fhir` is what DSTU2 wrote, and clients still do."""
_QUALITY: Final = re.compile(r"(0(\.\d{0,3})?|1(\.0{0,3})?)", re.ASCII)


class _Wanted(NamedTuple):
    quality: float
    exact: bool
    """No wildcard: what is named goes before what would do."""
    format: Format


def chosen(asked: str | None, accept: str | None) -> Format:
    """`asked`: the value of `_format`. Fault 406 where neither JSON nor XML would do."""
    if asked is not None:
        found = NAMES.get(asked.partition(";")[0].strip().lower().replace(" ", "+"))
        if found is None:
            raise Fault(Kind.NOT_ACCEPTABLE, "_format names no format that is offered: json (application/fhir+json) or xml")
        return found
    if accept is None or not accept.strip():
        return Format.JSON
    wanted = [one for one in map(_wanted, accept.split(",")) if one is not None]
    if not wanted:
        raise Fault(Kind.NOT_ACCEPTABLE, "Accept names no format that is offered: application/fhir+json or application/fhir+xml")
    return max(wanted, key=lambda one: one[:2]).format


def _wanted(part: str) -> _Wanted | None:
    name, *parameters = (one.strip().lower() for one in part.split(";"))
    found = NAMES.get(name) if "/" in name else None
    said = next((one.partition("=")[2].strip() for one in parameters if one.partition("=")[0].strip() == "q"), "1")
    quality = float(said) if _QUALITY.fullmatch(said) else 0.0
    return _Wanted(quality, "*" not in name, found) if found is not None and quality > 0 else None
