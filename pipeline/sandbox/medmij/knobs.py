"""How MedMij's stand-in behaves where servers may differ or err. As knobs.py; each names its section of contracts/medmij.md."""

from typing import Literal

from pydantic import Field

from pipeline.sandbox.knobs import Common


class MedmijKnobs(Common):
    """All knobs of another hospital's appointment server and of its token issuer."""

    # the issuer
    token: Literal["jwt", "opaque"] = "jwt"  # noqa: S105 - its form
    """What an access token is: a signed JWT, or a text that only introspection can read (RFC 7662)."""
    token_seconds: int = 900
    """How long one is good; a negative number: it has ended before it comes."""
    bsn_claim: str = "bsn"
    """The claim that has the patient's BSN."""
    local_claim: str = "local"
    """The claim that has the hospital's own number of the patient."""

    # what a request must be
    request_ids: Literal["required", "optional"] = "required"
    """MedMij-Request-ID and X-Correlation-ID, each a UUID (section 2); without them 400."""
    colon: Literal["refused", "accepted"] = "refused"
    """`date=ge:2018-01-01`, as the obsolete guide writes it (section 3)."""
    patient_parameter: Literal["refused", "empty", "ignored"] = "refused"
    """A query that names a patient: 400, nothing found, or not looked at (section 2: it must not)."""
    unknown_parameter: Literal["ignored", "refused"] = "ignored"
    """Any other parameter: not looked at and not in the self link, or 400 (section 3)."""
    formats: Literal["both", "json", "xml"] = "both"
    """What it can write; servers shall have both (section 2). What it cannot is 406."""
    zone: str = "Europe/Amsterdam"
    """In which a date without one is read."""

    # what is answered
    date: Literal["used", "ignored"] = "used"
    """Whether it searches by date at all; one that does not gives all, and says so in the self link and in an outcome entry (section 4)."""
    self_link: Literal["used", "absent", "as_sent", "wider"] = "used"
    """The parameters that it used; nothing; the query as it came; or another date than was asked for (section 4)."""
    outcome: Literal["none", "information", "warning", "error"] = "none"
    """An OperationOutcome entry with an issue of this severity; `error` breaks the rules (section 4)."""
    total: Literal["page", "all", "absent"] = "absent"
    """What `total` counts (section 4, assert 15)."""
    page_size: int = Field(default=0, ge=0)
    """Appointments on a page; 0: all on one."""
    next_link: Literal["absolute", "relative", "foreign", "below", "loop", "insecure"] = "absolute"
    """Where the link to the next page leads: as it should; without the base; to another server; to another path of this one; back; to http."""
    referenced: Literal["reads", "included"] = "reads"
    """How what an appointment references is had: by reads, or as entries of search mode include as well (section 2)."""
    bundle_type: Literal["searchset", "collection"] = "searchset"
    """Of the answer."""
    errors: Literal["outcome", "empty", "html"] = "outcome"
    """The body of an error (section 4: an OperationOutcome is a SHOULD)."""
    security_code: Literal["security", "login", "forbidden"] = "security"
    """The issue code of 401 and 403 (section 4: security or a child of it)."""
