"""What goes wrong, and the OperationOutcome that says it (STU3 issue-type codes). No text here holds a value of a request, a token or a resource."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

BEARER: Final = "WWW-Authenticate"


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """How a fault is answered. None equals another: two kinds that are answered alike stay two."""

    status: int
    code: str
    """Issue type, of STU3's closed list."""


class Kind(Enum):
    """All faults."""

    SYNTAX = Said(400, "invalid")
    NOT_SUPPORTED = Said(400, "not-supported")
    TOO_MUCH = Said(400, "too-costly")
    NO_TOKEN = Said(401, "security")
    BAD_TOKEN = Said(401, "security")  # noqa: PIE796 - see Said
    FORBIDDEN = Said(403, "forbidden")
    NO_SUCH_TYPE = Said(404, "not-supported")
    NOT_FOUND = Said(404, "not-found")
    METHOD = Said(405, "not-supported")
    NOT_ACCEPTABLE = Said(406, "not-supported")
    GONE = Said(410, "not-found")
    """What was deleted, unlike what is not known (STU3, http.html#read); its list of codes has no `deleted` yet."""
    PAGE_GONE = Said(410, "not-found")  # noqa: PIE796 - see Said
    """A page that cannot be had any more. STU3 names no status for it; its `expired` is that of a session: the token would be thought bad."""
    TOO_LARGE = Said(413, "too-long")
    MEDIA_TYPE = Said(415, "not-supported")
    THROTTLED = Said(429, "throttled")
    """A patient asks too often."""
    TOO_MANY_REFUSED = Said(429, "throttled")  # noqa: PIE796 - see Said
    """Too many tokens were refused: of this client, or of all."""
    NO_HTTP = Said(400, "structure")
    HEAD_TOO_LARGE = Said(431, "too-long")
    FULL = Said(503, "throttled")
    """As many connections as there may be."""
    DEFECT = Said(500, "exception")
    AWAY = Said(503, "transient")


class Fault(Exception):
    """A request that is not answered with what it asked for."""

    def __init__(self, kind: Kind, text: str, **headers: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.status, self.code, self.text = kind.value.status, kind.value.code, text
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def outcome(severity: str, code: str, *texts: str) -> dict[str, Any]:
    """An OperationOutcome with an issue for each text."""
    issues = [{"severity": severity, "code": code, "details": {"text": text}} for text in texts]
    return {"resourceType": "OperationOutcome", "issue": issues}
