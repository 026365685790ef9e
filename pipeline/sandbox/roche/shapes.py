"""The elements that Roche's profiles leave of STU3's Bundle, MessageHeader, Patient and Condition, as tables, and the walk over them.

Read off contracts/roche.md section 5 and the published STU3 pages (hl7.org/fhir/STU3), for the stand-in alone. Texts name places, never values.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple


class Issue(NamedTuple):
    """One issue of an OperationOutcome."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Primitive:
    """A primitive type: its JSON type, and which values it has."""

    json: type
    has: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a complex type."""

    of: "Primitive | Complex | None"
    """None: looked into by someone else (a resource in an entry)."""
    required: bool = False
    many: bool = False


@dataclass(frozen=True, slots=True)
class Complex:
    """A complex type or a resource: its elements by name. `closed` ones refuse other elements whatever the knob says."""

    elements: Mapping[str, Element]
    closed: bool = True


def walk(value: Any, shape: Complex, path: str, *, loose: bool = False) -> Iterator[Issue]:  # noqa: ANN401 - JSON
    """What is wrong with a value's elements: unknown, missing, of the wrong JSON type, without a value that they may have."""
    if not isinstance(value, dict):
        yield Issue("structure", f"{path} is not an object")
        return
    if not (loose and not shape.closed):
        # the name of an unknown element is the sender's text: it is not repeated
        yield from (
            Issue("invalid", f"{path} has an element that is not in the profile") for name in value if name not in shape.elements
        )
    for name, element in shape.elements.items():
        here = f"{path}.{name}"
        if name not in value:
            if element.required:
                yield Issue("required", f"{here} is missing")
        elif isinstance(value[name], list) != element.many:
            yield Issue("structure", f"{here} is {'not ' if element.many else ''}an array")
        elif element.many:
            for index, one in enumerate(value[name]):
                yield from _one(one, element, f"{here}[{index}]", loose=loose)
        else:
            yield from _one(value[name], element, here, loose=loose)


def _one(value: Any, element: Element, path: str, *, loose: bool) -> Iterator[Issue]:  # noqa: ANN401 - JSON
    if isinstance(element.of, Complex):
        yield from walk(value, element.of, path, loose=loose)
    elif element.of is not None:
        if type(value) is not element.of.json:  # a bool is an int for isinstance
            yield Issue("structure", f"{path} is of the wrong JSON type")
        elif not element.of.has(value):
            yield Issue("invalid", f"{path} has a value that the element does not take")


def _pattern(pattern: str) -> Primitive:
    compiled = re.compile(pattern)
    return Primitive(str, lambda value: compiled.fullmatch(value) is not None)


def _codes(*values: str) -> Element:
    return Element(Primitive(str, lambda value: value in values))


_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")


def _is_date(value: str) -> bool:
    match = _DATE.fullmatch(value)
    if not match:
        return False
    try:
        dt.date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError:
        return False
    return True


_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d)")


def _is_instant(value: str) -> bool:
    match = _TIME.fullmatch(value)
    return match is not None and _is_date(match[1])


STRING: Final = Element(Primitive(str, lambda value: bool(value.strip())))
STRINGS: Final = Element(STRING.of, many=True)
CODE: Final = Element(_pattern(r"\S+(\s\S+)*"))
URI: Final = Element(_pattern(r"\S+"))
ID: Final = Element(_pattern(r"[A-Za-z0-9\-.]{1,64}"))
BOOLEAN: Final = Element(Primitive(bool, lambda _: True))
POSITIVE: Final = Element(Primitive(int, lambda value: value > 0))
DATE: Final = Element(Primitive(str, _is_date))
INSTANT: Final = Element(Primitive(str, _is_instant))
DATETIME: Final = Element(Primitive(str, lambda value: _is_date(value) or _is_instant(value)))


def _must(element: Element) -> Element:
    return Element(element.of, required=True, many=element.many)


def _type(elements: Mapping[str, Element], *, required: bool = False, many: bool = False) -> Element:
    return Element(Complex(elements), required, many)


CODING: Final = {"system": URI, "version": STRING, "code": CODE, "display": STRING, "userSelected": BOOLEAN}
META: Final = _type(
    {
        "versionId": ID,
        "lastUpdated": INSTANT,
        "profile": Element(URI.of, many=True),
        "security": _type(CODING, many=True),
        "tag": _type(CODING, many=True),
    }
)
PERIOD: Final = _type({"start": DATETIME, "end": DATETIME})
REFERENCE: Final = {"reference": STRING, "display": STRING}
CONTACT_POINT: Final = {
    "system": _codes("phone", "fax", "email", "pager", "url", "sms", "other"),
    "value": STRING,
    "use": _codes("home", "work", "temp", "old", "mobile"),
    "rank": POSITIVE,
    "period": PERIOD,
}
RESOURCE: Final = {"resourceType": _must(STRING), "id": ID, "meta": META, "implicitRules": URI, "language": CODE}

BUNDLE: Final = Complex(
    {
        **RESOURCE,
        "identifier": _type({"use": CODE, "system": URI, "value": STRING, "period": PERIOD}),
        "type": _must(CODE),
        "entry": _type({"fullUrl": URI, "resource": Element(None, required=True)}, required=True, many=True),
    }
)
"""entry.request, response and search belong to other bundle types (bdl-2 to bdl-4), total too (bdl-1)."""

MESSAGE_HEADER: Final = Complex(
    {
        **RESOURCE,
        "event": _type(CODING, required=True),
        "destination": _type({"name": STRING, "target": _type(REFERENCE), "endpoint": _must(URI)}, many=True),
        "receiver": _type(REFERENCE),
        "sender": _type(REFERENCE),
        "timestamp": _must(INSTANT),
        "enterer": _type(REFERENCE),
        "author": _type(REFERENCE),
        "source": _type(
            {"name": STRING, "software": STRING, "version": STRING, "contact": _type(CONTACT_POINT), "endpoint": _must(URI)},
            required=True,
        ),
        "responsible": _type(REFERENCE),
        "focus": _type(REFERENCE, many=True),
    }
)
"""STU3's: `event` is a Coding, `timestamp` is there; R4's eventCoding, eventUri and definition are not (section 5.1)."""

PATIENT: Final = Complex(
    {
        **RESOURCE,
        "identifier": _type(
            {
                "use": _codes("usual", "official", "temp", "secondary"),
                "type": _type({"coding": _type(CODING, many=True), "text": STRING}),
                "system": _must(URI),
                "value": _must(STRING),
                "period": PERIOD,
            },
            required=True,
            many=True,
        ),
        "active": BOOLEAN,
        "name": _type(
            {
                "use": _codes("usual", "official", "temp", "nickname", "anonymous", "old", "maiden"),
                "text": STRING,
                "family": _must(STRING),
                "given": _must(STRINGS),
                "prefix": STRINGS,
                "suffix": STRINGS,
                "period": PERIOD,
            },
            required=True,
            many=True,
        ),
        "telecom": _type(CONTACT_POINT, many=True),
        "gender": _codes("male", "female", "other", "unknown"),
        "birthDate": DATE,
        "managingOrganization": _type(REFERENCE),
    },
    closed=False,
)
"""Section 5.2; what is not listed is inferred to be 0..0, so a knob opens it."""

CONDITION: Final = Complex(
    {
        **RESOURCE,
        "clinicalStatus": _must(_codes("active", "recurrence", "inactive", "remission", "resolved")),
        "code": _type(
            {"coding": _type({"system": URI, "code": CODE, "display": STRING}, many=True), "text": STRING}, required=True
        ),
        "subject": _type(REFERENCE, required=True),
    }
)
"""Section 5.3, found: version, userSelected and every element not named here are 0..0."""
