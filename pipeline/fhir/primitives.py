"""The forms of FHIR's primitive types as pydantic-core schemas: regular expressions of the specification (STU3 and R4, datatypes.html).

Stricter than its expressions where its text is: a date exists (29 February only in leap years), a string is not blank and holds no
control characters but tab, CR and LF, an id has at most 64 characters. STU3's negative years are refused: nobody was born in one.
"""

from collections.abc import Mapping
from typing import Final

from pydantic_core import CoreSchema, core_schema

_LEAP: Final = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_YEAR: Final = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_MONTH: Final = "(?:0[1-9]|1[0-2])"
_DAY: Final = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_CLOCK: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
_ZONE: Final = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_TEXT: Final = r"[ \t\r\n]*[^\x00-\x20\x7F][^\x00-\x08\x0B\x0C\x0E-\x1F]*"
MOST: Final = 2_147_483_647

PATTERNS: Final[Mapping[str, str]] = {
    "date": f"{_DAY}|{_YEAR}(?:-{_MONTH})?",
    "dateTime": f"{_DAY}(?:T{_CLOCK}{_ZONE})?|{_YEAR}(?:-{_MONTH})?",
    "instant": f"{_DAY}T{_CLOCK}{_ZONE}",
    "time": _CLOCK,
    "id": r"[A-Za-z0-9.\-]{1,64}",
    "code": "[^ \\t\\r\\n\\x00-\\x1F]+(?: [^ \\t\\r\\n\\x00-\\x1F]+)*",
    "oid": r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+",
    "uuid": r"urn:uuid:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}",
    "uri": r"[^\x00-\x20\x7F\u00A0]+",
    "absolute": r"[A-Za-z][A-Za-z0-9+.\-]*:[^\x00-\x20\x7F\u00A0]+",
    "url": r"[^\x00-\x20\x7F\u00A0]+",
    "canonical": r"[^\x00-\x20\x7F\u00A0]+",
    "string": _TEXT,
    "markdown": _TEXT,
    "xhtml": r"(?s)<div[\s>].*</div>\s*|<div[^>]*/>",
    "base64Binary": r"\s*(?:(?:[0-9a-zA-Z+/]\s*){4})*(?:(?:[0-9a-zA-Z+/]\s*){2}(?:=\s*){2}|(?:[0-9a-zA-Z+/]\s*){3}=\s*)?",
}
"""By FHIR type name; the whole value has to match. `absolute` is a uri with a scheme, where the specification wants one."""


def schema(name: str) -> CoreSchema:
    """The schema of a primitive type, by FHIR's name. JSON's own types: no date objects, no numbers as text."""
    match name:
        case "boolean":
            return core_schema.bool_schema(strict=True)
        case "decimal":
            return core_schema.float_schema(strict=True, allow_inf_nan=False)
        case "integer":
            return core_schema.int_schema(strict=True, ge=-MOST - 1, le=MOST)
        case "unsignedInt":
            return core_schema.int_schema(strict=True, ge=0, le=MOST)
        case "positiveInt":
            return core_schema.int_schema(strict=True, ge=1, le=MOST)
        case _:
            return core_schema.str_schema(strict=True, pattern=rf"^(?:{PATTERNS[name]})$", min_length=1)
