"""Faults on order: what goes wrong, for which requests. Same seed, same requests in the same order: same faults.

A rule names a fault and, to narrow it, operation, patient, request number, `next`, `every` or `probability`. The first rule that
matches a request counts. Kinds are few, names are many: `503` is `answer` with status 503 (NAMES).
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import SettingsError

Kind = Literal[
    "refuse_tls",
    "drop_before_reading",
    "close_idle",
    "answer",
    "altered",
    "drop",
    "late",
    "slow_loris",
    "endless_chunks",
    "huge_body",
    "truncated",
]

Operation = Literal[
    "create",
    "update",
    "read",
    "search",
    "metadata",
    "discovery",
    "jwks",
    "authorize",
    "token",
    "document",
    "delete",
    "list",
    "questionnaire",
    "health",
    "introspect",
]
"""search is not Roche's; authorize is NJSAMS's alone; document (the PUT of a Bundle) to health are RoQua's; introspect is MedMij's."""

CONNECTION: Final = frozenset({"refuse_tls", "drop_before_reading"})
"""Kinds that strike before a request is known; only next, every and probability narrow them."""


class Rule(BaseModel):
    """One fault, the requests that it strikes, and its details."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    name: str
    kind: Kind

    # which requests
    operation: Operation | None = None
    patient: str | None = None
    """The patient's business id, in the body or in the URL."""
    request: int | None = Field(default=None, gt=0)
    """The number of the request in the log of effects."""
    next: int | None = Field(default=None, gt=0)
    """The next so many that match; then the rule is spent."""
    every: int | None = Field(default=None, gt=0)
    """Each so-many-th that matches: 1 in N."""
    probability: float = Field(default=1.0, ge=0, le=1)

    # what happens
    effect: bool = False
    """The patient is created or updated all the same."""
    status: int = Field(default=503, ge=200, le=599)
    body: Literal["empty", "outcome", "html", "json", "echo"] = "empty"
    """Of kind answer: nothing, an OperationOutcome with `issue`, a login page, the gateway's JSON, or what would have been answered."""
    issue: str = "exception"
    retry_after: str | None = None
    """The header as it is sent: seconds, a date, nonsense."""
    reset: bool = False
    """A dropped connection is reset (RST) instead of closed (FIN)."""
    effect_after: float = Field(default=0.0, ge=0)
    """Of kind late: seconds until it takes effect."""
    answer_after: float = Field(default=0.0, ge=0)
    """Of kind late: seconds until it is answered, counted from the effect."""
    seconds: float = Field(default=1.0, ge=0)
    """Of slow_loris and endless_chunks: between pieces; of close_idle: from the answer to the close."""
    megabytes: int = Field(default=200, gt=0)
    """Of huge_body."""
    entry: int = Field(default=-1)
    """Of failed_entry and missing_entry: which, from 0; -1 is the last."""
    value: str = ""
    """Of expires_in: JSON that stands there instead; nothing: it is left out."""

    @model_validator(mode="after")
    def _possible(self) -> "Rule":
        if self.kind in CONNECTION and (self.operation or self.patient or self.request):
            raise ValueError("strikes before a request is read: only next, every and probability narrow it")
        if self.kind == "answer" and self.status in {204, 304} and self.body != "empty":
            raise ValueError("an answer of this status has no body")
        return self


NAMES: Final[Mapping[str, Mapping[str, Any]]] = {
    # connections
    "refuse_tls": {"kind": "refuse_tls", "reset": True},
    "drop_before_reading": {"kind": "drop_before_reading"},
    "close_idle": {"kind": "close_idle", "seconds": 0},
    # no answer
    "commit_then_drop": {"kind": "drop", "effect": True},
    "drop": {"kind": "drop"},
    "late": {"kind": "late", "effect": True},
    # a status
    "answer": {"kind": "answer"},
    "400": {"kind": "answer", "status": 400, "body": "outcome", "issue": "invalid"},
    "401": {"kind": "answer", "status": 401, "body": "json"},
    "403": {"kind": "answer", "status": 403},
    "403_certificate": {"kind": "answer", "status": 403, "body": "json"},
    "422": {"kind": "answer", "status": 422, "body": "outcome", "issue": "invalid"},
    "429": {"kind": "answer", "status": 429},
    "500": {"kind": "answer", "status": 500, "body": "outcome", "issue": "exception"},
    "502": {"kind": "answer", "status": 502, "body": "html"},
    "503": {"kind": "answer", "status": 503},
    "504": {"kind": "answer", "status": 504, "body": "html"},
    "timeout_outcome": {"kind": "answer", "status": 500, "body": "outcome", "issue": "timeout"},
    "exception_outcome": {"kind": "answer", "status": 500, "body": "outcome", "issue": "exception"},
    # looks like success
    "error_in_200": {"kind": "answer", "status": 200, "body": "outcome", "issue": "exception"},
    "login_page": {"kind": "answer", "status": 200, "body": "html"},
    "202": {"kind": "answer", "status": 202},
    "empty_200": {"kind": "answer", "status": 200, "effect": True},
    # answers that do not end well; the effect is there unless effect=false
    "slow_loris": {"kind": "slow_loris", "effect": True},
    "endless_chunks": {"kind": "endless_chunks", "effect": True, "seconds": 0.01},
    "huge_body": {"kind": "huge_body", "effect": True},
    "truncated": {"kind": "truncated", "effect": True},
    # NJSAMS: 200, and yet; nothing takes effect when an entry failed, unless effect=true: then the others do
    "failed_entry": {"kind": "altered", "status": 422},
    "missing_entry": {"kind": "altered", "effect": True},
    "swapped_entries": {"kind": "altered", "effect": True},
    "no_location": {"kind": "altered", "effect": True},
    "403_label": {"kind": "answer", "status": 403, "body": "outcome", "issue": "forbidden"},
    "not_processed": {"kind": "answer", "status": 404, "body": "outcome", "issue": "not-found", "operation": "update"},
    # RoQua: a success in an envelope that is not documented
    "enveloped": {"kind": "altered", "effect": True},
    # the authorization server of NJSAMS
    "expires_in": {"kind": "altered", "effect": True, "operation": "token"},
    "no_access_token": {"kind": "altered", "effect": True, "operation": "token"},
    "token_type": {"kind": "altered", "effect": True, "operation": "token"},
}
"""Name and what it stands for; every detail can be given too."""


def rule(name: str, **details: Any) -> Rule:  # noqa: ANN401 - text or JSON
    """A rule by its name; SettingsError saying which names or details there are."""
    if name not in NAMES:
        raise SettingsError(f"no such fault; there are {', '.join(NAMES)}", where=f"fault {name}")
    try:
        return Rule.model_validate({**NAMES[name], "name": name, **details})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"{first['msg'].removeprefix('Value error, ')}; details are {', '.join(Rule.model_fields)}",
            where=f"fault {name}{':' if place else ''}{place}",
        ) from None


def parse(text: str) -> Rule:
    """`503:probability=0.3,retry_after=7` as a rule: the command line's way to say it."""
    name, _, rest = text.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",") if pair]
    if any(not equals for _, equals, _ in pairs):
        raise SettingsError("write NAME or NAME:detail=value,detail=value", where=f"fault {name}")
    return rule(name, **{key.strip(): value.strip() for key, _, value in pairs})


@dataclass(slots=True)
class _Standing:
    rule: Rule
    left: int | None
    matched: int = 0


@dataclass(slots=True)
class Faults:
    """The rules that stand, in order. Used by one thread at a time."""

    seed: int = 1
    _standing: list[_Standing] = field(default_factory=list)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.reseed(self.seed)

    def reseed(self, seed: int) -> None:
        """Begin anew with the probabilities."""
        self._random = random.Random(seed)  # noqa: S311 - reproducible on purpose

    def add(self, *rules: Rule) -> None:
        """Behind those that stand."""
        self._standing += [_Standing(one, one.next) for one in rules]

    def clear(self) -> None:
        """No faults any more."""
        self._standing.clear()

    def rules(self) -> list[Rule]:
        """Those that stand and are not spent."""
        return [one.rule for one in self._standing]

    def for_connection(self) -> Rule | None:
        """The fault of a new connection."""
        return self._first(lambda one: one.kind in CONNECTION)

    def for_request(self, operation: str, patients: frozenset[str], number: int) -> Rule | None:
        """The fault of a request; `patients` are the business ids that it names."""
        return self._first(
            lambda one: (
                one.kind not in CONNECTION
                and one.operation in {None, operation}
                and (one.patient is None or one.patient in patients)
                and one.request in {None, number}
            )
        )

    def _first(self, matches: Any) -> Rule | None:  # noqa: ANN401 - a predicate of a rule
        for standing in list(self._standing):
            if not matches(standing.rule):
                continue
            standing.matched += 1
            if standing.rule.every and standing.matched % standing.rule.every:
                continue
            if standing.rule.probability < 1 and self._random.random() >= standing.rule.probability:
                continue
            if standing.left is not None:
                standing.left -= 1
                if not standing.left:
                    self._standing.remove(standing)
            return standing.rule
        return None
