"""How NJSAMS's stand-in behaves where the contract is silent or inferred. As knobs.py; each names its line of contracts/njsams.md."""

from typing import Final, Literal

from pydantic import Field

from pipeline.sandbox.knobs import Common, Seconds

READ_SCOPE: Final = "openid fhirUser user/*.read"


class NjsamsKnobs(Common):
    """All knobs of NJSAMS and of its authorization server."""

    # its clock
    visible_after_hours: Seconds = 24.0
    """What was written can be read so many hours later ("at least 24 hours", section 6)."""
    clock_hours: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """How far its clock is ahead of ours: turning it moves the time of what can be read. Tokens live by the true clock."""

    # who may do what
    provider_ids: tuple[str, ...] = ("123456",)
    """Codes of the security label that the client may use (sample of section 4); another one is 403."""
    label: Literal["required", "ignored"] = "required"
    """Every entry resource carries the label, else 403 (section 4)."""
    scopes: Literal["ignored", "checked"] = "ignored"
    """Whether a write needs a write scope: none is documented (section 2, gap)."""

    # what a request must be
    content_type: Literal["documented", "any"] = "documented"
    """application/json+fhir alone (section 3), or application/fhir+json and application/json too."""
    accept: Literal["ignored", "checked"] = "ignored"
    """Whether an Accept that does not name application/json+fhir is 406 (section 3)."""
    mixed: Literal["refused", "accepted"] = "refused"
    """PUT and POST entries in one bundle, or another verb than the request's (section 5, gap)."""
    conditional: Literal["refused", "ignored"] = "refused"
    """ifNoneExist, ifMatch and their like (section 5, gap)."""
    full_url: Literal["required", "optional"] = "required"
    """urn:uuid in both samples, also on an update (section 5)."""
    update_id: Literal["optional", "required"] = "optional"
    """Whether an update's resource must carry its id: R4 wants it, the brief's sample has none (section 5)."""
    other_types: Literal["refused", "accepted"] = "refused"
    """Resources besides Patient, Encounter and Coverage (section 8, gap)."""
    profiles: Literal["checked", "required", "ignored"] = "checked"
    """meta.profile, where there, is NJSAMS's; or must be there; or is not looked at (section 8)."""
    required_identifiers: tuple[str, ...] = ("client-id", "ssn")
    """Of a Patient: client-id found, ssn found for the legacy profile and inferred for the other (section 8.1)."""
    level_of_care: Literal["required", "optional"] = "required"
    """Encounter.serviceType 1..1 with a required binding: found at 0.1.0 (section 8.2)."""
    encounter_class: Literal["checked", "ignored"] = "checked"
    """Encounter.class is a code of v3-ActCode."""
    unknown_elements: Literal["invalid", "ignored"] = "invalid"
    """Elements that R4 does not have."""
    payors: tuple[str, ...] = ()
    """Organizations that it knows, as Organization/12; none named: any is taken (section 8.3: they are there before)."""
    invalid_status: Literal[422, 400] = 422
    """Of what the profile refuses (section 9, gap)."""
    too_long_status: Literal[400, 413] = 413
    """Of a body above most_bytes (section 9, gap)."""

    # what it does
    duplicate: Literal["accepted", "conflict"] = "accepted"
    """A second create with the same client-id, visit or policy: taken without a word (worst), or 409 (section 6, gap)."""
    update_unknown: Literal["not-found", "created"] = "not-found"
    """A PUT of an id that it never gave (section 9, gap); R4 servers may make it."""
    update_unprocessed: Literal["accepted", "not-found", "conflict"] = "accepted"
    """A PUT of an id that cannot be read yet (section 6, gap): taken, 404 or 409."""
    reference_unknown: Literal["refused", "accepted"] = "refused"
    """A reference to an id that it never gave."""

    # what is answered
    create_status: Literal[200, 201] = 200
    """HTTP status of a transaction of creates: R4 says 200, each entry its own (section 5)."""
    location: Literal["absolute", "relative", "path"] = "absolute"
    """{base}/Patient/1 (section 5), Patient/1, or /NJSAMS-FHIR-API/Patient/1."""
    location_history: Literal["without", "with"] = "without"
    """Whether /_history/1 follows (section 5)."""
    answer_media: Literal["application/json+fhir", "application/fhir+json", "application/json"] = "application/json+fhir"
    """Content-Type of answers (section 3)."""
    search_type: Literal["search-result", "searchset"] = "search-result"
    """Bundle.type of a search: documented, or R4's (section 5)."""
    page_size: int = Field(default=20, gt=0)
    """Entries of a search's page; _count can ask for fewer (section 7, gap)."""
    unknown_parameter: Literal["ignored", "refused"] = "ignored"
    """A search parameter that the documents do not show (section 7, gap)."""
    capability: Literal["whole", "no_writes", "no_search"] = "whole"
    """What /metadata lists."""

    # the authorization server
    client_id: str = "emr-pipeline"
    """The registered client; its secret is the file client-secret."""
    client_auth: Literal["any", "client_secret_basic", "client_secret_post", "private_key_jwt"] = "any"
    """How it may prove who it is (section 2)."""
    grants: tuple[str, ...] = ("authorization_code", "refresh_token", "client_credentials")
    """Only the first is documented (section 2, blocking gap)."""
    redirect_uris: tuple[str, ...] = ("http://127.0.0.1:8765/callback", "http://localhost:8765/callback")
    """Those that were registered; compared whole."""
    redirect_port: Literal["exact", "any"] = "exact"
    """Whether the port of a registered 127.0.0.1 may differ (RFC 8252 section 7.3)."""
    approval: Literal["auto", "page", "denied"] = "auto"
    """/authorize sends back at once, shows a page with a button, or sends back access_denied."""
    pkce: Literal["required", "optional"] = "required"
    """Of the authorization code; S256 alone."""
    aud: Literal["required", "optional"] = "required"
    """aud = server base at /authorize (section 2)."""
    assertion_aud: Literal["token_endpoint", "issuer", "either"] = "token_endpoint"
    """aud of a client assertion (section 2)."""
    assertion_seconds: int = Field(default=300, gt=0)
    """How far ahead the exp of a client assertion may lie (SMART: 5 minutes)."""
    jwks_url: str = ""
    """Where the client has its keys; nothing: those of the file client-jwks.json in the folder (section 2)."""
    token_seconds: int = Field(default=300, gt=0)
    """Life of an access token (section 2, gap)."""
    code_seconds: int = Field(default=60, gt=0)
    """Life of an authorization code."""
    refresh: Literal["offline_access", "always", "never"] = "offline_access"
    """When a refresh token comes with an authorization code (section 2, gap)."""
    rotation: Literal["rotated", "kept"] = "rotated"
    """Whether a refresh brings a new refresh token and the old one ends."""
    granted_scope: str = ""
    """Granted whatever was asked for; nothing: what was asked for."""
    smart_configuration: Literal["served", "absent"] = "served"
    """{base}/.well-known/smart-configuration: by convention (section 1, gap)."""
    openid_configuration: Literal["served", "absent"] = "served"
    """{issuer}/.well-known/openid-configuration: by convention (section 1, gap)."""
