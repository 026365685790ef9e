"""What `serve` needs: where it answers, whose tokens it believes, and how much it gives at once."""

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from pipeline.settings_sections import OperationTimes, Secret, Section, TlsFiles, https_url

ISSUER = "https://issuer.example"


class LocalClaim(Section):
    """A patient number of the hospital's own, in a token."""

    claim: str
    system: str
    """The identifier system that it stands for in appointments."""


class Claims(Section):
    """Which claims of a token name its patient."""

    bsn: str | None = "bsn"
    local: LocalClaim | None = None

    @model_validator(mode="after")
    def _one(self) -> "Claims":
        if self.bsn is None and self.local is None:
            raise ValueError("name the claim of the BSN, or a local one")
        return self


class IntrospectionSettings(Section):
    """An issuer that is asked about each token (RFC 7662)."""

    url: str
    client_id: str
    client_secret: Secret
    kept_seconds: float = Field(default=10, ge=0)
    """How long a good answer counts: so long a token that was taken back may still be good."""

    @field_validator("url")
    @classmethod
    def _https(cls, url: str) -> str:
        return https_url(url, f"{ISSUER}/introspect")


class TokenSettings(Section):
    """The tokens that patients' PHRs bring: JWTs, checked by the issuer's keys, or any, by asking the issuer."""

    issuer: str
    audience: str
    """Whom the tokens are for: us."""
    jwks_url: str | None = None
    jwks_file: Path | None = None
    introspection: IntrospectionSettings | None = None
    claims: Claims = Claims()
    scope: str | None = Field(default=None, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")
    """A scope that a token needs."""
    leeway: int = Field(default=30, ge=0, le=300)
    """Seconds by which the issuer's clock may differ from ours."""
    tls: TlsFiles = TlsFiles()
    """Of the issuer."""
    times: OperationTimes = OperationTimes(connect=3, read=5, total=8)

    @field_validator("jwks_url")
    @classmethod
    def _https(cls, url: str | None) -> str | None:
        return None if url is None else https_url(url, f"{ISSUER}/jwks")

    @model_validator(mode="after")
    def _one(self) -> "TokenSettings":
        if sum(way is not None for way in (self.jwks_url, self.jwks_file, self.introspection)) != 1:
            raise ValueError("give one of jwks_url, jwks_file and introspection")
        return self


class ServeSettings(Section):
    """Appointments for patients: the XIS of MedMij eAfspraak."""

    address: str = "127.0.0.1:8443"
    base_url: str
    """How PHRs reach us, with the path: links begin with it."""
    tls: TlsFiles | None = None
    """Without it plain HTTP, for a proxy on the same machine that does TLS."""
    client_certificates: bool = False
    """Only for clients whose certificate `tls.ca` vouches for."""
    tokens: TokenSettings
    count: int = Field(default=50, gt=0, le=1000)
    """Appointments of a page, where the client does not say."""
    count_most: int = Field(default=200, gt=0, le=1000)
    rate: float = Field(default=20, gt=0)
    """Requests a second for one patient; twice as many at once."""
    refused_rate: float = Field(default=10, gt=0)
    """Refused tokens a second of one client's address, and twice as many at once; then it waits."""
    refused_rate_all: float = Field(default=100, gt=0)
    """Of all clients together. Those whose token was good before do not wait for the others."""
    client_header: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]+$")
    """Where a proxy in front writes the client's address, as X-Forwarded-For: its last entry counts. Only where nobody gets past the proxy."""
    head_seconds: float = Field(default=10, gt=0)
    """A client has for the head of its request."""
    request_seconds: float = Field(default=60, gt=0)
    """From there until the answer has been taken."""
    connections: int = Field(default=500, gt=0)
    """At once; each is a handle of the process (`ulimit -n`)."""
    drain_seconds: float = Field(default=10, gt=0)
    """How long a stop waits for requests in flight."""

    @field_validator("base_url")
    @classmethod
    def _https(cls, base_url: str) -> str:
        return https_url(base_url, "https://xis.example/fhir")
