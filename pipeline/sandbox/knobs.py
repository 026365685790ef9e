"""How the stand-in behaves where the contract is silent, ambiguous or inferred, and how fast it is. Faults are in faults.py.

Each knob names its line of contracts/roche.md; the first value is the default. A knob is set at start (`--knob name=value`,
`RocheSandbox(knobs={…})`) or at run time (`set(…)`, PUT /knobs on the control port). A wrong name or value is refused, never ignored.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import SettingsError

SNOMED_DIABETES: Final = ("46635009", "44054006", "11687002")
"""Section 5.3: type 1 is found, type 2 and gestational are inferred."""


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Common(BaseModel):
    """What every stand-in has; unchangeable, a change makes a new one."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, use_attribute_docstrings=True)

    # at the door
    tls: Literal["any", "1.2", "1.3"] = "any"
    """TLS versions that are spoken, for new connections."""
    wrong_certificate: Literal["alert", "403"] = "alert"
    """A wrong client certificate ends the handshake, or is answered by the gateway with 403 and JSON (section 7.2). The latter needs a
    certificate of the stand-in's own CA (expired, not yet valid), of its foreign one, or none; any other still ends the handshake."""
    most_bytes: int = Field(default=1_000_000, gt=0)
    """A larger body is `too-long`; the numeric limit is not published."""

    # how fast
    latency: Literal["none", "published", "mixed"] | Seconds = "none"
    """At once; the published times (of Roche, section 8: the others publish none) as a distribution; 1.5 s on average with every fiftieth at 10 s; or a number of seconds."""
    latency_scale: Seconds = 1.0
    """The published times times this."""
    idle_seconds: Seconds = 300.0
    """A connection on which nothing comes for so long is closed without a word."""
    seed: int = 1
    """Of latency and of faults by probability."""


class Knobs(Common):
    """All knobs of Roche."""

    # who may call
    org_id: str = "2.16.724.4.2"
    """The organisation that the stand-in knows (section 3)."""
    client_id: str = "1234567890"
    """The client that it knows; the secret is the file client-secret."""
    request_id: Literal["uuid", "any"] = "uuid"
    """x-origin-request-id is a UUID (found), or any unique text (the brief's wording)."""
    content_type: Literal["415", "400"] = "415"
    """The status for a Content-Type that is neither application/json nor application/fhir+json (not published)."""

    # what a body must be
    message_header: Literal["first", "anywhere", "optional"] = "first"
    """MessageHeader is mandatory and first (found, section 5), or optional (the brief never names it)."""
    condition: Literal["optional", "required"] = "optional"
    """Condition is optional (found), or required (the brief: "composed by Patient and Condition")."""
    extra_elements: Literal["invalid", "accepted"] = "invalid"
    """Elements that the profile does not list are refused (inferred 0..0 for Patient, found 0..0 for Condition), or overlooked."""
    profiles: Literal["checked", "required", "ignored"] = "checked"
    """meta.profile, where there, is the right one; or must be there; or is not looked at."""
    references: Literal["checked", "ignored"] = "checked"
    """Condition.subject points at the bundle's Patient, or is not looked at."""
    full_url: Literal["accepted", "invalid"] = "accepted"
    """entry.fullUrl: the partner's samples have none, FHIR demands it."""
    code_text_only: Literal["invalid", "accepted"] = "invalid"
    """A Condition.code without a coding: its binding refuses it, or its table (coding 0..*) takes it."""
    diabetes_codes: tuple[str, ...] = SNOMED_DIABETES
    """The value set diabetes-type."""
    identifier_too_long: Literal["too-long", "invalid"] = "too-long"
    """The issue code for an identifier of more than 64 characters."""
    too_long_status: Literal[400, 413] = 400
    """Its status."""

    # what is answered
    v1_create_id: Literal["logical", "business"] = "logical"
    """v1 create returns an id of Roche's own (the brief), or the patient's identifier (what the published sample shows: section 6, trap)."""
    v2_create_status: Literal[201, 200] = 201
    """Not published; inferred from Practitioner v2."""
    v2_update_body: Literal["empty", "bundle"] = "empty"
    """Not published."""
    update_id: Literal["business", "returned", "either"] = "business"
    """v1 PUT /Bundle/{id}: the patient's identifier (found), the id that the create returned (a reading of the brief's "Patient ID")."""
    update_unknown: Literal["not-found", "invalid", "created"] = "not-found"
    """An update of a patient that is not there: 404, 400 invalid, or (worst) it is made."""
    update_other_identifier: Literal["invalid", "rekeyed"] = "invalid"
    """An update whose body carries another identifier than the patient has."""
    duplicate: Literal["duplicate", "invalid", "twice", "with_id"] = "duplicate"
    """A create of a patient that is there: issue code duplicate, or invalid; 200 and a second patient (worst); or duplicate with the id in the text."""
    duplicate_status: Literal[400, 409, 422] = 400
    """Its status."""
    email_duplicate: Literal["duplicate", "invalid", "accepted"] = "duplicate"
    """An e-mail address that another patient has (section 5.2)."""


WORDS: Final = {"latency": "none, published, mixed, or a number of seconds, as 0.25"}
"""What a knob takes, where pydantic names only the first of its types."""


K = TypeVar("K", bound=Common)


def parse(values: Mapping[str, Any], start: Knobs | None = None) -> Knobs:
    """Roche's knobs from names and values, as text or as JSON; SettingsError naming the knob and what it takes."""
    return turned(start or Knobs(), values)


def turned(start: K, values: Mapping[str, Any]) -> K:
    """Others than those of the start, of whichever partner they are."""
    before = start.model_dump()
    unknown = sorted(set(values) - set(before))
    if unknown:
        near = get_close_matches(unknown[0], before, n=2)
        hint = f"; there is {' and '.join(near)}" if near else ""
        raise SettingsError(f"no such knob{hint}; emr-pipeline sandbox --list has them all", where=f"knob {unknown[0]}")
    try:
        return type(start).model_validate({**before, **{name: _read(before[name], value) for name, value in values.items()}})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = str(first["loc"][0])
        raise SettingsError(WORDS.get(name, first["msg"]), where=f"knob {name}") from None


def _read(before: Any, value: Any) -> Any:  # noqa: ANN401 - text or JSON
    """Text to what the field wants where pydantic would not by itself: a Literal of numbers, a tuple, a number that is a word."""
    if not isinstance(value, str):
        return str(value) if isinstance(before, str) and type(value) in {int, float} else value
    if isinstance(before, tuple):
        return tuple(code.strip() for code in value.split(",") if code.strip())
    return int(value) if isinstance(before, int) and not isinstance(before, bool) and value.isdecimal() else value
