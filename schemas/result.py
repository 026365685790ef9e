"""The result record: what became of a message on a route. One per settlement, and one per attempt that did not settle.

Keyed by x-origin-request-id on the results topic. It holds no patient data and no secret: the patient is a keyed hash, a partner id
that is a business id is left out (its hash stands in `partner_id_hash`).
"""

from pydantic import BaseModel, ConfigDict

from schemas.outcomes import FindingCode, Reason, Severity, State

VERSION = 1


class ResultFinding(BaseModel):
    """What was noticed: places, never values."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    code: FindingCode
    severity: Severity
    hl7: str | None = None
    fhir: str | None = None
    about: str | None = None


class Result(BaseModel):
    """A record of the results topic (JSON). Times are milliseconds since 1970 UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    schema_version: int = VERSION
    result_id: str
    """UUIDv5 of route, source position, attempt, outcome and replay: the same settlement emitted twice has the same id."""
    request_id: str | None = None
    """x-origin-request-id; none where the bytes could not be read."""
    route: str
    partner: str
    settled: bool
    """False: an attempt that did not settle, and the message goes on; or a replay of a closed record that left it what it was."""
    state: State
    reason: Reason | None = None
    where: str | None = None
    """HL7 place or FHIR path of the reason."""
    operation: str | None = None
    kind: str | None = None
    event: str | None = None
    """MSH-9 as ADT^A01; none where MSH-9 does not look like one."""
    control_id: str | None = None
    """MSH-10; # and a keyed hash where it does not look like one, which `find --control-id` finds by the original."""
    event_time_ms: int | None = None
    patient: str | None = None
    """Keyed hash."""
    source_topic: str
    source_partition: int
    source_offset: int
    attempt: int = 0
    step: int | None = None
    """Of a delivery that takes several requests: which of them this was, from 0."""
    http_status: int | None = None
    issue_codes: tuple[str, ...] = ()
    response_ms: float | None = None
    sent_ms: int | None = None
    settled_ms: int
    confirmed_by: str | None = None
    """response, probe or operator."""
    partner_id: str | None = None
    partner_id_hash: str | None = None
    mapping_version: str | None = None
    replay_id: str | None = None
    """The replay plan that it came of."""
    possible_duplicate: bool = False
    duplicate_of: str | None = None
    """topic/partition/offset."""
    findings: tuple[ResultFinding, ...] = ()
