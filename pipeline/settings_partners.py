"""Each partner's block of the settings. Every behaviour of a partner that is inferred or not published is a setting here. No secret stands in one."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.settings_sections import OperationTimes, Secret, Section, TlsFiles, hl7_path, https_url


class RocheSettings(Section):
    """Roche Diabetes Care (contracts/roche.md). Every inferred behaviour is a setting here."""

    kind: Literal["roche"]
    base_url: str
    """Up to and including /partners/fhir/stu3/api."""
    api: Literal["v1", "v2"] = "v1"
    org_id: str
    """The organisation's OID, sent as header org_id and as MessageHeader.source.endpoint."""
    client_id: str
    client_secret: Secret
    tls: TlsFiles
    software: str = "emr-pipeline"
    """MessageHeader.source.software."""
    content_type: Literal["application/json", "application/fhir+json"] = "application/json"
    update_id: Literal["business", "returned"] = "business"
    """v1 only: PUT /Bundle/{id} takes the patient's identifier, or the id that the create returned. v2 takes the returned one."""
    diagnosis: Literal["optional", "required"] = "optional"
    """`required` parks a message without a diabetes diagnosis (the brief's wording)."""
    full_url: bool = False
    """entry.fullUrl and urn:uuid references, as FHIR demands of a message; the partner's samples have none."""
    managing_organization: str | None = None
    """Patient.managingOrganization as a reference, v2 only (Organization/…)."""
    request_id: Literal["stable", "per_attempt"] = "stable"
    in_flight: int = Field(default=64, gt=0)
    """Messages that are on their way to the partner at once, from one worker."""
    create: OperationTimes = OperationTimes(read=15, total=20)
    """Published worst time 10 s (contracts/roche.md section 8)."""
    update: OperationTimes = OperationTimes(read=6, total=10)
    """Published worst time 4 s."""
    probe: Literal["on", "off"] = "on"
    """v1: an unknown create is probed by PUT with the patient's identifier (INFERENCE: 404 means not there)."""
    probe_margin: float = 5
    """Seconds past the published worst time before a probe."""
    on_absent: Literal["park", "create"] = "park"
    """An update answered with 404."""
    v2_unknown: Literal["park", "again"] = "park"
    """v2: an unknown create is parked, or posted again where `duplicate` means that it is there (INFERENCE)."""

    @field_validator("base_url")
    @classmethod
    def _address(cls, base_url: str) -> str:
        return https_url(base_url, "https://HOST/partners/fhir/stu3/api")


class SigningKey(Section):
    """Our private key, with which we prove to an authorization server who we are. `emr-pipeline jwks --new` makes one."""

    file: Path
    """PEM (PKCS 8), readable by us alone."""
    key_id: str = Field(min_length=1)
    """`kid`, under which the partner finds the public half in our key set (`emr-pipeline jwks`)."""
    algorithm: Literal["RS384", "ES384"] = "ES384"
    """RS384 goes with an RSA key, ES384 with one on the curve P-384."""


class OAuthSettings(Section):
    """How access tokens of a partner are had: OAuth 2, SMART on FHIR. An explicit address wins over what discovery says."""

    grant: Literal["client_credentials", "authorization_code"] = "client_credentials"
    """As a service, or for a person who said yes once: `emr-pipeline login PARTNER`."""
    client_id: str = Field(min_length=1)
    client_auth: Literal["client_secret_basic", "client_secret_post", "private_key_jwt"] = "client_secret_basic"
    """How we prove it: the secret as HTTP Basic or in the form, or an assertion that `private_key` signs."""
    client_secret: Secret | None = None
    private_key: SigningKey | None = None
    scope: str = "openid fhirUser user/*.read"
    """The documented one (contracts/njsams.md section 2); of the client_credentials grant ask the partner, as system/*.write."""
    aud: str | None = None
    """What the token is for, in the authorization request; else the partner's base_url."""
    discovery: bool = True
    """Ask {base_url}/.well-known/smart-configuration, else {issuer}/.well-known/openid-configuration, for the addresses that are not set."""
    issuer: str | None = None
    """The authorization server; else base_url."""
    token_url: str | None = None
    authorize_url: str | None = None
    redirect_uri: str = "http://127.0.0.1:8765/callback"
    """Where the browser ends after `login`, as registered with the partner: loopback, or any other with `login --paste`."""
    refresh_file: Path | None = None
    """Where `login` keeps what it was given, encrypted with keys.patient_hash. The authorization_code grant needs one."""
    tls: TlsFiles | None = None
    """For the authorization server; else the partner's."""
    times: OperationTimes = OperationTimes(connect=5, read=10, total=15)
    """For each request to the authorization server."""
    early: float = Field(default=60, ge=0)
    """Seconds before its end that a token is renewed; of a short-lived one a quarter of its life at most."""

    @field_validator("issuer", "token_url", "authorize_url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(r"https://[^\s/?#@\\]+(?:/[^\s#]*)?", url):
            raise ValueError("must be https:// and a host name, without fragment, user name or password")
        return url

    @model_validator(mode="after")
    def _whole(self) -> "OAuthSettings":
        signs = self.client_auth == "private_key_jwt"
        if signs != (self.private_key is not None) or signs == (self.client_secret is not None):
            raise ValueError("client_auth private_key_jwt goes with private_key, the others with client_secret")
        if self.grant == "authorization_code" and self.refresh_file is None:
            raise ValueError(
                "the authorization_code grant needs refresh_file, where `emr-pipeline login` keeps what it was given"
            )
        if not self.discovery and self.token_url is None:
            raise ValueError("without discovery token_url must be set")
        return self


class NjsamsPaths(Section):
    """Below base_url."""

    write: str = "/Bundle"
    """Where bundles are posted and put (the brief's form; FHIR's own is the base itself)."""

    @field_validator("write")
    @classmethod
    def _path(cls, path: str) -> str:
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", path):
            raise ValueError("must be a path, as /Bundle")
        return path


class NjsamsSettings(Section):
    """New Jersey Substance Abuse Monitoring System (contracts/njsams.md). Every inferred behaviour is a setting here."""

    kind: Literal["njsams"]
    base_url: str
    """Up to and including /NJSAMS-FHIR-API; the case matters."""
    tls: TlsFiles = TlsFiles()
    oauth: OAuthSettings
    facilities: dict[str, str]
    """Sending facility (MSH-4.1) to the provider id of the security label that every resource must have; never guessed."""
    payors: dict[str, str | None] = Field(default_factory=dict)
    """What an IN1 calls its payor (IN1-3, IN1-2 or IN1-4) to the Organization at NJSAMS, as Organization/12; null leaves that IN1 out."""
    required_identifiers: tuple[Literal["client-id", "ssn"], ...] = ("client-id", "ssn")
    """Without one of these the message is parked (FOUND of an older profile); an identifier is never made up."""
    level_of_care: str = "PV1-10"
    """HL7 path of what the site's table level-of-care is asked with."""
    media_type: Literal["application/json+fhir", "application/fhir+json", "application/json"] = "application/json+fhir"
    paths: NjsamsPaths = NjsamsPaths()
    update_includes_id: bool = True
    """The resource of an update has its id, as FHIR wants it; the partner's sample leaves it out (INFERENCE)."""
    in_flight: int = Field(default=16, gt=0)
    """Messages that are on their way to the partner at once, from one worker."""
    create: OperationTimes = OperationTimes(read=60, total=90)
    """Response times are not published."""
    update: OperationTimes = OperationTimes(read=60, total=90)
    search: OperationTimes = OperationTimes(read=30, total=45)
    visibility_hours: float = Field(default=24, ge=0)
    """What was written can be read after so long ("at least 24 hours"): no search proves anything before, and an update of it may still be refused."""
    probe: Literal["on", "off"] = "on"
    """An unknown create is searched for by identifier once it should be visible; off: a person decides."""
    probe_margin: float = Field(default=3600, ge=0)
    """Seconds past visibility_hours before a search."""
    not_found: Literal["again", "park"] = "again"
    """What a search then does not find was not done, and is sent again (INFERENCE); park: a person decides."""

    @field_validator("base_url")
    @classmethod
    def _address(cls, base_url: str) -> str:
        return https_url(base_url, "https://HOST/NJSAMS-FHIR-API")

    @field_validator("level_of_care")
    @classmethod
    def _place(cls, path: str) -> str:
        return hl7_path(path)

    @field_validator("payors")
    @classmethod
    def _organizations(cls, payors: dict[str, str | None]) -> dict[str, str | None]:
        if not all(payor is None or re.fullmatch(r"Organization/[A-Za-z0-9.-]{1,64}", payor) for payor in payors.values()):
            raise ValueError("each is Organization/ and NJSAMS's id of it, as Organization/12, or null")
        return payors

    @field_validator("facilities")
    @classmethod
    def _providers(cls, facilities: dict[str, str]) -> dict[str, str]:
        if not all(re.fullmatch(r"\S+( \S+)*", provider) for provider in facilities.values()):
            raise ValueError("each has a provider id, as EXAMPLE: '123456'")
        return facilities


class RoquaToken(Section):
    """An API token of RoQua's admin panel: HTTP Basic (contracts/roqua.md 2.1)."""

    consumer_key: str
    """The name that the administrator gave it."""
    consumer_secret: Secret
    """Shown once."""

    @field_validator("consumer_key")
    @classmethod
    def _key(cls, key: str) -> str:
        if not re.fullmatch(r"[\x21-\x39\x3b-\x7e]+", key):
            raise ValueError("is a name of printable characters without a colon (RFC 7617)")
        return key


class RoquaBlock(Section):
    """What both ways into RoQua share. Production and staging have tokens of their own."""

    base_url: str
    """Of the organisation, up to the host: https://ORGANISATION.rom.roqua.nl."""
    tls: TlsFiles = TlsFiles()
    """Certificate and key only where RoQua's support arranged for them (FOUND)."""
    in_flight: int = Field(default=8, gt=0)
    """Messages that are on their way to the partner at once, from one worker."""
    subject_parameter: Literal["subject", "patient.identifier"] = "subject"
    """What GET /medmij_fhir/Observation calls the dossier: the brief's name, or that of a release note (FOUND)."""
    filter_times: Literal["iso8601", "unix"] = "iso8601"
    """How the filters completed_before and completed_after are written: the brief says `time` (INFERENCE)."""
    dossier_system: str | None = None
    """Identifier system of dossier ids, in Observations that are made of responses."""
    search: OperationTimes = OperationTimes(read=30, total=45)
    """Of each read. Response times are not published."""
    again_after: float = Field(default=10, ge=0)
    """Seconds until what may still be at work there is sent again, or looked for."""

    @field_validator("dossier_system")
    @classmethod
    def _uri(cls, system: str | None) -> str | None:
        if system is not None and not re.fullmatch(r"(https?://|urn:)\S+", system):
            raise ValueError("is a URI, as urn:oid:2.16.528.1.1 or https://…")
        return system

    @field_validator("base_url")
    @classmethod
    def _address(cls, base_url: str) -> str:
        return https_url(base_url, "https://ORGANISATION.rom.roqua.nl")


class UnknownAnswer(Section):
    """A HoNOS+ answer 9 goes as this code."""

    code: str = Field(min_length=1)


class RoquaSettings(RoquaBlock):
    """RoQua, HoNOS+ documents: PUT /medmij_fhir/Bundle/{id} (contracts/roqua.md 4). Every inferred behaviour is a setting here."""

    kind: Literal["roqua"]
    token: RoquaToken
    professional_system: str
    """Identifier system of professionals at this organisation: Composition.author.identifier."""
    author: str = "OBR-32.1.1"
    """HL7 path of the id of the professional who rated, as RoQua knows it by SSO; family and given name stand in the two places after it (XCN, CNN)."""
    bundle_identifier: bool = False
    """Bundle.identifier, which FHIR demands of a document (bdl-9) and the published example lacks: not tried against RoQua."""
    unknown_answer: Literal["park"] | UnknownAnswer = "park"
    """HoNOS's 9: its code is not documented, so it is parked, or sent as what RoQua's support says."""
    item_8: Literal["scored", "always", "optional"] = "scored"
    """When item 8 must say which other problem it rates: where it is scored above 0, always, or never (INFERENCE; the one published example is scored)."""
    put: OperationTimes = OperationTimes(read=30, total=45)
    """Response times are not published."""

    @field_validator("author")
    @classmethod
    def _place(cls, path: str) -> str:
        if not re.search(r"\.1$", hl7_path(path)):
            raise ValueError("is the path of an id before its name, as OBR-32.1.1 or OBX-16.1")
        return path

    @field_validator("professional_system")
    @classmethod
    def _system(cls, system: str) -> str:
        if not re.fullmatch(r"(https?://|urn:)\S+", system):
            raise ValueError("is a URI, as urn:oid:2.16.528.1.1 or https://…")
        return system


class RoquaJwt(Section):
    """A JWT that we sign for each dossier, instead of the token's secret (contracts/roqua.md 2.2, FOUND)."""

    consumer_key: str = Field(min_length=1)
    """Of the token that our public key is hooked to: `kid`."""
    file: Path
    """Our private RSA key, PEM (PKCS 8), readable by us alone. `emr-pipeline jwks roqua-responses --new --pem` makes one and prints its public half for
    RoQua's support."""
    issuer: str = Field(min_length=1)
    algorithm: Literal["RS256", "RS512"] = "RS256"
    minutes: float = Field(default=15, gt=0, le=60)
    """How long one is good; RoQua takes no longer one than an hour."""

    @property
    def key_id(self) -> str:
        """`kid`: the name that RoQua has our public key under."""
        return self.consumer_key


class RoquaResponsesSettings(RoquaBlock):
    """RoQua, responses by its REST API: /api/v1/dossiers/{id}/responses (contracts/roqua.md 6). Every inferred behaviour is a setting here."""

    kind: Literal["roqua-responses"]
    token: RoquaToken | None = None
    jwt: RoquaJwt | None = None
    upsert: bool = True
    """POST and PUT both create or update by external_id (FOUND 2022-09-13)."""
    respondent_parameter: Literal["respondent", "respondent_type"] = "respondent"
    """The brief's name, or that which replaced it (FOUND 2024-07-10)."""
    respondent: Literal["patient", "parent", "second_parent", "teacher", "caregiver", "profess"] = "profess"
    """Who answered."""
    entered_by: str = "OBR-32.1.1"
    """HL7 path of the id of the professional who typed it in, as RoQua knows it by SSO."""
    on_absent: Literal["create", "park"] = "create"
    """A PUT of what RoQua does not have (404): it is posted, or parked."""
    write: OperationTimes = OperationTimes(read=30, total=45)
    """Response times are not published."""

    @field_validator("entered_by")
    @classmethod
    def _place(cls, path: str) -> str:
        return hl7_path(path)

    @model_validator(mode="after")
    def _known_by(self) -> "RoquaResponsesSettings":
        if (self.token is None) == (self.jwt is None):
            raise ValueError("give either token or jwt")
        return self


class MedmijXisSettings(Section):
    """Another hospital's appointment server (XIS) by MedMij's eAfspraak (contracts/medmij.md), for one patient: it is read, and nothing goes there."""

    kind: Literal["medmij-xis"]
    base_url: str
    tls: TlsFiles = TlsFiles()
    token: Secret
    """The patient's access token, as MedMij's authorization gave it; whoever got it renews it. It says whose appointments these are."""
    format: Literal["json", "xml"] = "json"
    """What is asked for; a server shall have both (section 2)."""
    in_flight: int = Field(default=4, gt=0)
    """Requests that are on their way to it at once."""
    search: OperationTimes = OperationTimes(read=30, total=45)
    """Of each read. Response times are not published."""

    @field_validator("base_url")
    @classmethod
    def _address(cls, base_url: str) -> str:
        return https_url(base_url, "https://HOST/fhir")


class Hospital(Section):
    """Whose appointments they are: the Organization that patients read."""

    name: str = Field(min_length=1)
    ura: str | None = Field(default=None, pattern=r"^[0-9]{8}$")
    """Its number in the UZI register."""
    agb: str | None = Field(default=None, pattern=r"^[0-9]{8}$")


class MedmijSettings(Section):
    """MedMij eAfspraak: appointments for patients, into our own store (contracts/medmij.md). What messages leave open is a setting here."""

    kind: Literal["medmij"]
    organization: Hospital
    specialty: str = "PV1-10"
    """HL7 path of what the table specialty is asked with."""
    default_minutes: int | None = Field(default=None, gt=0, le=1440)
    """How long an appointment takes of which the message tells neither end nor duration; without it such a message parks, since FHIR wants an end."""
    admission_time: str | None = Field(default=None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    """Time of day, as 08:00, of an expected admission (PV2-8) of which the message tells the day alone; without it such a message parks."""
    shared_numbers: Literal["park", "group"] = "park"
    """A schedule (SCH-2) that another patient has booked already: nobody can tell a group's from one that was corrected. group: each has a copy of its own."""
    untyped_notes: Literal["leave_out", "instructions"] = "leave_out"
    """A note without a type (NTE-4) may be the staff's own: it is left out, or shown as an instruction for the patient."""
    in_flight: int = Field(default=16, gt=0)
    """Messages that are on their way into the store at once, from one worker."""
    again_after: float = Field(default=5, ge=0)
    """Seconds until what the store did not answer is put again."""
    put: OperationTimes = OperationTimes(read=10, total=15)

    @field_validator("specialty")
    @classmethod
    def _place(cls, path: str) -> str:
        return hl7_path(path)


READ_ONLY: Final = frozenset({"medmij-xis"})
"""Kinds that no route may lead to."""
PartnerSettings = Annotated[
    RocheSettings | NjsamsSettings | RoquaSettings | RoquaResponsesSettings | MedmijXisSettings | MedmijSettings,
    Field(discriminator="kind"),
]
"""A block below `partners`: its `kind` says whose it is."""
