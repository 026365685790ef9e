"""What goes wrong, and the OperationOutcome that says it (STU3 issue-type codes). No text here holds a value of a request, a token or a resource."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

BEARER: Final = "WWW-Authenticate"


@dataclass(frozen=True, slots=True)
class Said:
    """How a fault is answered."""

    status: int
    code: str
    """Issue type, of STU3's closed list."""


class Kind(Enum):
    """All faults."""

    SYNTAX = Said(400, "invalid")
    NOT_SUPPORTED = Said(400, "not-supported")
    TOO_MUCH = Said(400, "too-costly")
    NO_TOKEN = Said(401, "security")
    BAD_TOKEN = Said(401, "security")  # noqa: PIE796 - answered alike, but for WWW-Authenticate
    FORBIDDEN = Said(403, "forbidden")
    NO_SUCH_TYPE = Said(404, "not-supported")
    NOT_FOUND = Said(404, "not-found")
    METHOD = Said(405, "not-supported")
    NOT_ACCEPTABLE = Said(406, "not-supported")
    GONE = Said(410, "not-found")
    """STU3 has no `deleted` yet."""
    PAGE_GONE = Said(410, "expired")
    THROTTLED = Said(429, "throttled")
    DEFECT = Said(500, "exception")
    AWAY = Said(503, "transient")


class Fault(Exception):
    """A request that is not answered with what it asked for."""

    def __init__(self, kind: Kind, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = kind.value.status, kind.value.code, text
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def outcome(severity: str, code: str, *texts: str) -> dict[str, Any]:
    """An OperationOutcome with an issue for each text."""
    issues = [{"severity": severity, "code": code, "details": {"text": text}} for text in texts]
    return {"resourceType": "OperationOutcome", "issue": issues}
