"""What the house asks of a partner. Nothing else knows one. No I/O."""

from collections.abc import Mapping
from typing import Protocol

from pipeline.errors import NoAnswer
from pipeline.model import Identified, Identity, Mapped, Packed, Reply, Request, Variable, Verdict
from schemas.event import Event, Identifier


class Partner(Protocol):
    """A partner's contract as code."""

    name: str
    """Key of events.yaml and folder of mappings: `roche`."""

    longest: float
    """Seconds that one of its requests may take at most: the longest total time-out."""

    secret_headers: tuple[str, ...]
    """Names of the headers that the transport adds; `map` shows them masked."""

    def system_of(self, identifier: Identifier) -> str | None:
        """The identifier system (a URI) that the partner accepts this identifier under; None where it takes no such."""
        ...

    def under(self, event: Event) -> str:
        """Whose records a message's are there (Identity.under); empty where the partner has but one of each patient, whoever sends."""
        ...

    @property
    def unders(self) -> frozenset[str]:
        """All that `under` says of messages that may go; none where it says nothing."""
        ...

    @property
    def gives_ids(self) -> bool:
        """It knows a patient by an id of its own, which its answer to the create tells, and without which no update finds the patient."""
        ...

    part2: bool
    """It takes substance-use records (42 CFR Part 2): nothing goes but what the route names by facility and program (settings, part2)."""

    reads: frozenset[str]
    """Names of the event's fields, and those of its segments, that it reads itself, in `parts`, `variables` and `pack`: they are built whatever the
    templates read."""

    def parts(self, event: Event) -> tuple[Identity, ...]:
        """What else the message brings that it keeps under an id of its own, each once: the visit, coverages. Parked where one has no key to know it by."""
        ...

    def pack(self, mapped: Mapped) -> Packed:
        """The requests, by rising `step`. ProfileNotMet where the partner's profile is not met (DESIGN, pack)."""
        ...

    def of_attempt(self, packed: Packed, request: Request, attempt: int) -> Request:
        """The request as attempt number `attempt` sends it: the same, or with an id of its own (a setting). Asked twice, it answers the same."""
        ...

    def resent(self, packed: Packed, replay: str) -> Packed:
        """What was delivered before, for a deliberate resend: a request id of its own, and of a message bundle a Bundle.id of its own.

        MessageHeader.id stays (FHIR, messaging), and so does an id that is the partner's upsert key. The same replay gives the same bytes.
        """
        ...

    def judge(self, packed: Packed, request: Request, came: Reply | NoAnswer, *, after_unknown: bool) -> Verdict:
        """The verdict table: total over operation, status, issue code, first try or after an unknown."""
        ...

    def probe(self, packed: Packed) -> Request | None:
        """The request that finds out whether an unknown one was done (`packed` has that one alone), with an id of its own; None where nothing can tell."""
        ...

    def judge_probe(self, packed: Packed, probe: Request, came: Reply | NoAnswer) -> Verdict:
        """DELIVERED: it is there. ABSENT: it is proven not to be there. PARKED: cannot tell. UNKNOWN, FAILED, …: ask again later."""
        ...

    def probe_after(self, operation: str) -> float:
        """Seconds after the last byte before which a probe proves nothing: the published worst time and a margin."""
        ...

    def public_partner_id(self, identity: Identity | None, partner_id: str | None) -> str | None:
        """What a result may say of the partner's id: None where it is a business id (the hash stands there instead)."""
        ...

    def variables(self, identified: Identified) -> Mapping[str, Variable]:
        """What templates see as `partner.<name>`; the names stand in mappings/<partner>/mapping.yaml too, for lint. No secret."""
        ...

    def absent_is_create(self, identified: Identified) -> bool:
        """Whether an update of what the partner does not have is sent again as a create (a setting), or parked."""
        ...
