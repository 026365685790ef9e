"""Settings: one YAML file, checked whole at start. Secrets are never in it: `{env: NAME}` or `{file: PATH}` says where they are.

Found, first wins: `--settings FILE`, $EMR_PIPELINE_SETTINGS, ./emr-pipeline.yaml, the built-in defaults (embedded bus and ledger in
./emr-pipeline-data, partner stand-ins on loopback). Relative paths count from the file. A wrong setting is one line: where, what, what to do.
"""

import os
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.errors import SettingsError
from pipeline.settings_partners import READ_ONLY, PartnerSettings
from pipeline.settings_sections import Secret, Section, TlsFiles, hl7_path
from pipeline.settings_serve import ServeSettings

DEFAULTS: Final = Path(__file__).with_name("defaults.yaml")
OFFLINE: Final = Path(__file__).with_name("offline.yaml")
"""Partners and routes beside the built-in ones, for what sends nothing."""
ENVIRONMENT: Final = "EMR_PIPELINE_SETTINGS"
LOCAL: Final = "emr-pipeline.yaml"


class Absent(StrEnum):
    """What an absent field means in this HIS (RELIABILITY section 2)."""

    DELETED = "deleted"
    UNCHANGED = "unchanged"


class Site(Section):
    """The hospital."""

    name: str
    zone: str = "Europe/Amsterdam"
    """IANA zone of timestamps without an offset."""
    charset: str = "UTF-8"
    """Python name of the character set of messages whose MSH-18 is empty."""
    absent: Absent = Absent.DELETED
    overlay: str | None = None
    """Folder below mappings/sites with the site's own templates and code tables."""
    processing_ids: tuple[str, ...] = ("P", "")
    """Values of MSH-11 that are taken; others are filtered as not_production."""
    most_bytes: int = 16 * 1024 * 1024
    """A larger message is parked, by `listen` refused."""
    most_ahead: float = Field(default=3600, ge=0, allow_inf_nan=False)
    """Seconds that an event time (EVN-2, else MSH-7) may lie ahead of the record's own. Further ahead, it counts as missing."""

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - `--help` does not need it

        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("not an IANA time zone, as Europe/Amsterdam") from None
        return zone

    @field_validator("charset")
    @classmethod
    def _known_charset(cls, charset: str) -> str:
        import codecs  # noqa: PLC0415 - as above

        try:
            codecs.lookup(charset)
        except LookupError:
            raise ValueError("not a character set that Python knows, as UTF-8 or ISO-8859-15") from None
        return charset


class Embedded(Section):
    """The embedded bus: a SQLite log, one machine."""

    kind: Literal["embedded"] = "embedded"
    path: Path
    """Folder of its files."""


class Sasl(Section):
    """SASL towards Kafka."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
    username: str
    password: Secret


class Kafka(Section):
    """An Apache Kafka cluster."""

    kind: Literal["kafka"]
    bootstrap_servers: tuple[str, ...]
    tls: TlsFiles | None = None
    sasl: Sasl | None = None
    replication: int = 3
    session_timeout_ms: int = 45_000
    max_poll_interval_ms: int = 300_000
    static_membership: str | None = None
    """group.instance.id of this worker, where membership is to outlive a restart."""
    rebalance: Literal["cooperative", "eager"] = "cooperative"
    """How partitions move between members: only those that must, or all of them each time. All members of a group need the same."""


class LedgerSettings(Section):
    """Where the ledger is: an SQLAlchemy URL, sqlite:///… or postgresql+psycopg://…; a password by `password`."""

    url: str
    password: Secret | None = None


class AppointmentsSettings(Section):
    """Where the store of appointments is, as the ledger; a database of its own, or the ledger's on PostgreSQL."""

    url: str
    password: Secret | None = None


class Keys(Section):
    """Secrets of our own."""

    patient_hash: Secret
    """What patients' ids are hashed and partner ids sealed with, at least 16 bytes; losing it loses every link."""


class RetentionSettings(Section):
    """How long a topic keeps what every group has settled; absent keeps for ever."""

    days: float | None = None
    megabytes: float | None = None


class Topics(Section):
    """Topic names and how they are made by `topics create`."""

    results: str = "emr.results"
    partitions: int = 8
    """Of source topics."""
    source_retention: RetentionSettings = RetentionSettings(days=14)
    results_retention: RetentionSettings = RetentionSettings(days=90)


class Programs(Section):
    """A facility, and those of its programs whose messages may go."""

    facility: str
    """MSH-4.1."""
    programs: tuple[str, ...]
    """Values at part2_program; "" is a message without one."""


class Route(Section):
    """One source topic to one partner operation; its own consumer group."""

    partner: str
    """Name of a partner below `partners`."""
    source: str
    """Source topic."""
    start: str
    """Where the group begins the first time: earliest, latest, a time (ISO 8601 with offset), or committed, where it has its offsets already (of another program,
    or put there by hand). No default: it decides what is sent."""
    group: str | None = None
    """Consumer group; else emr-pipeline.<route>."""
    dead_letters: str | None = None
    """Dead-letter topic; else emr.dead-letters.<route>."""
    facilities: tuple[str, ...] | None = None
    """MSH-4 values that are taken; absent takes all."""
    part2: tuple[Programs, ...] | None = None
    """42 CFR Part 2, of a partner that takes substance-use records: what may go to it. Without it nothing goes there."""
    part2_program: str = "PV1-10"
    """HL7 path of the program."""
    strict: bool = False
    """Check the message structure against its grammar (hl7apy, 13 ms a message)."""

    @field_validator("part2_program")
    @classmethod
    def _place(cls, path: str) -> str:
        return hl7_path(path)

    @field_validator("start", mode="before")
    @classmethod
    def _unquoted(cls, start: object) -> object:
        """YAML reads a time without quotes as one."""
        isoformat = getattr(start, "isoformat", None)
        return start if isoformat is None else isoformat()

    @field_validator("start")
    @classmethod
    def _start(cls, start: str) -> str:
        return start if start in {"earliest", "latest", "committed"} else _moment(start, "earliest, latest, committed")


def _moment(text: str, words: str) -> str:
    """A time with its offset, as it was written; `words`: what may stand there instead."""
    from datetime import datetime  # noqa: PLC0415 - `--help` does not need it

    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{words}, or a time as 2026-01-31T00:00:00+01:00") from None
    if when.tzinfo is None:
        raise ValueError("the time has no offset, as +01:00")
    return text


class WatchSettings(Section):
    """What is new at a partner, onto a topic: completed questionnaires of dossiers of a list, or of those that an ADT topic names."""

    partner: str
    """Name of a partner below `partners` that can be read."""
    dossiers: tuple[str, ...] | None = None
    """The partner's ids of them."""
    source: str | None = None
    """A topic of HL7 messages instead: the dossier of each patient in it, from its beginning on, by a consumer group of its own."""
    group: str | None = None
    """That consumer group; else emr-pipeline.<watch>."""
    into: str
    """Topic that gets each completion once, and again where it was corrected."""
    form: Literal["response", "observations"] = "response"
    """As the partner gives it, or as a Bundle of FHIR STU3 Observations."""
    begin: str = Field(alias="from")
    """`from`: all, now (when a dossier is first known), or a time (ISO 8601 with offset): what was completed before is left out. No default."""
    every: float = Field(default=300, gt=0)
    """Seconds between two questions for one dossier."""
    overlap: float = Field(default=604_800, ge=0)
    """Seconds before the newest completion that are asked for again: corrections, and what was entered late, are found so far back."""
    rate: float = Field(default=2, gt=0)
    """Questions a second at most."""

    @field_validator("begin", mode="before")
    @classmethod
    def _unquoted(cls, begin: object) -> object:
        """As of Route.start."""
        isoformat = getattr(begin, "isoformat", None)
        return begin if isoformat is None else isoformat()

    @field_validator("begin")
    @classmethod
    def _begin(cls, begin: str) -> str:
        return begin if begin in {"all", "now"} else _moment(begin, "all, now")

    @model_validator(mode="after")
    def _one(self) -> "WatchSettings":
        if (self.dossiers is None) == (self.source is None):
            raise ValueError("give either dossiers or source")
        return self


class DeliverySettings(Section):
    """How the worker tries again, and how much it holds. Seconds."""

    backoff_first: float = Field(default=0.5, gt=0)
    """Before the second attempt; doubled for each further one, with jitter."""
    backoff_most: float = Field(default=60, gt=0)
    patience: float = Field(default=900, gt=0)
    """How long one message may go on being answered with failures, or stay unknown, before it is parked and others go on. What was not sent, was
    throttled, or was refused for the partner as a whole does not count, nor does the time in which the partner serves nobody: that is no message's fault."""
    hold: float = Field(default=60, gt=0)
    """How long a message may wait behind another of its patient, or for a probe, before it is parked with its bytes: the offset passes, and it
    comes back by itself."""
    messages: int = Field(default=10_000, gt=0)
    """Messages of a route in memory; beyond it nothing more is read."""
    megabytes: int = Field(default=256, gt=0)
    """Their bytes."""
    per_patient: int = Field(default=100, gt=0)
    """Messages of one patient in memory; what comes on top is parked with its bytes and comes back by itself."""
    drain_seconds: float = Field(default=30, ge=0)
    """How long a stop waits for the requests in flight; what has not ended then is found out after the next start."""
    revoke_seconds: float = Field(default=10, ge=0)
    """The same, where the group gives partitions to another worker."""


class BreakerSettings(Section):
    """When a partner counts as away, and how it is tried again: one message at a time. All routes of a partner share it. Seconds."""

    failures: int = Field(default=5, gt=0)
    """So many attempts in a row that were not sent, failed or not answered: the partner counts as away."""
    ratio: float = Field(default=0.5, gt=0, le=1)
    """So large a share of the last `window` attempts: the same."""
    window: int = Field(default=20, gt=0)
    open_first: float = Field(default=1, gt=0)
    """Until one message is tried again; doubled after each that fails, with jitter."""
    open_most: float = Field(default=60, gt=0)
    """The longest of these pauses, and each one towards a partner that refuses us as a whole."""
    retry_after_most: float = Field(default=300, gt=0)
    """The longest Retry-After of a partner that is obeyed; after it one message is tried."""


class FloodSettings(Section):
    """When a route stops instead of parking everything: for reasons that smell of a common cause only."""

    parked: int = Field(default=20, gt=0)
    """So many parked with none delivered in between: the route stops."""
    share: float = Field(default=0.5, gt=0, le=1)
    """So large a share of the last `window` that were parked or delivered: the same."""
    window: int = Field(default=50, gt=0)
    pause: float = Field(default=60, gt=0)
    """Seconds between the single messages that are tried while it stands; one that is delivered ends it."""


class Listen(Section):
    """MLLP in."""

    address: str = "127.0.0.1:2575"
    topic: str
    tls: TlsFiles | None = None
    client_certificates: Literal["none", "required"] = "none"
    connections: int = Field(default=256, gt=0)
    idle_seconds: float = Field(default=600, gt=0)
    in_flight: int = Field(default=512, gt=0)
    """Messages that wait for the bus, over all connections; beyond it nothing more is read."""
    store_seconds: float = Field(default=20, gt=0)
    """How long the bus may take to make a message durable; beyond it it counts as away."""
    bus_away: Literal["close", "error"] = "close"
    """No answer and the connection is closed, or AE/CE (and closed then, so that nothing passes the message that failed)."""


class Settings(Section):
    """All of it."""

    site: Site
    bus: Embedded | Kafka = Field(discriminator="kind")
    ledger: LedgerSettings
    appointments: AppointmentsSettings | None = None
    """What a patient reads of himself; wanted by a partner of kind medmij, `appointments` and `serve`."""
    keys: Keys
    topics: Topics = Topics()
    partners: dict[str, PartnerSettings]
    routes: dict[str, Route]
    watches: dict[str, WatchSettings] = Field(default_factory=dict)
    delivery: DeliverySettings = DeliverySettings()
    breaker: BreakerSettings = BreakerSettings()
    flood: FloodSettings = FloodSettings()
    listen: Listen | None = None
    serve: ServeSettings | None = None
    mappings: Path | None = None
    """The mappings folder; else the one that comes with the program."""

    @model_validator(mode="after")
    def _names(self) -> "Settings":
        for name, route in self.routes.items():
            if route.partner not in self.partners:
                raise ValueError(
                    f"routes.{name}.partner: no such partner below partners; there is {', '.join(sorted(self.partners))}"
                )
            if self.partners[route.partner].kind in READ_ONLY:
                raise ValueError(
                    f"routes.{name}.partner: {route.partner} can only be read (emr-pipeline fetch): nothing goes there"
                )
        for name, watch in self.watches.items():
            if watch.partner not in self.partners:
                raise ValueError(
                    f"watches.{name}.partner: no such partner below partners; there is {', '.join(sorted(self.partners))}"
                )
            if name in self.routes:
                raise ValueError(f"watches.{name}: a route has this name already")
            if watch.into in self.own_topics(but=name):
                raise ValueError(f"watches.{name}.into: this topic has something else: name one of its own")
        return self

    def group_of(self, route: str) -> str:
        """The route's consumer group."""
        return self.routes[route].group or f"emr-pipeline.{route}"

    def own_topics(self, *, but: str = "") -> set[str]:
        """Those with messages, results, dead letters or a watch's completions (of all watches `but` this one)."""
        sources = {route.source for route in self.routes.values()} | {
            watch.source for watch in self.watches.values() if watch.source
        }
        written = {self.topics.results} | {self.dead_letters_of(route) for route in self.routes}
        into = {watch.into for name, watch in self.watches.items() if name != but}
        return sources | written | into | ({self.listen.topic} if self.listen else set())

    def dead_letters_of(self, route: str) -> str:
        """The route's dead-letter topic."""
        return self.routes[route].dead_letters or f"emr.dead-letters.{route}"


def find(explicit: Path | None) -> Path:
    """The settings file that counts; SettingsError where the one that was named is not there."""
    if explicit is not None:
        return explicit
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT])
    return Path(LOCAL) if Path(LOCAL).is_file() else DEFAULTS


def load_offline(path: Path) -> Settings:
    """A settings file for what sends nothing: the built-in one has every partner then."""
    return load(path, beside=OFFLINE if path == DEFAULTS else None)


def load(path: Path, *, beside: Path | None = None) -> Settings:
    """Read and check a settings file. SettingsError with the file and the setting of the first mistake, and how many more there are."""
    from pipeline import settings_yaml  # noqa: PLC0415 - `--help` does not need it

    tree = settings_yaml.read(path)
    for section, more in (settings_yaml.read(beside) if beside else {}).items():
        tree[section] |= more
    base = Path.cwd() if path == DEFAULTS else path.resolve().parent
    try:
        return Settings.model_validate(_resolve(tree, base))
    except ValidationError as error:
        raise _first(error, path) from None


PATHS: Final = frozenset({"path", "file", "ca", "certificate", "key", "mappings", "refresh_file", "jwks_file"})
"""Settings that are paths: a relative one counts from the settings file."""


def _resolve(tree: Any, base: Path, name: str = "") -> Any:  # noqa: ANN401 - YAML's own types
    if isinstance(tree, dict):
        return {key: _resolve(value, base, str(key)) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_resolve(value, base) for value in tree]
    if name in PATHS and isinstance(tree, str):
        return str(base / tree)
    if name == "url" and isinstance(tree, str) and tree.startswith("sqlite:///") and not tree.startswith("sqlite:////"):
        return f"sqlite:///{base / tree.removeprefix('sqlite:///')}"
    return tree


WORDS: Final = {
    "extra_forbidden": "no such setting",
    "missing": "this setting is missing",
    "string_type": "must be text: put it in quotes",
    "union_tag_not_found": "kind is missing",
    "model_type": "must be a section (name: value)",
    "model_attributes_type": "must be a section (name: value)",
    "dict_type": "must be a section (name: value)",
}
"""pydantic's types of mistakes, where a person needs other words."""


NAMED: Final = 5
"""Further mistakes that are named beside the first."""


def _first(error: ValidationError, path: Path) -> SettingsError:
    """The first mistake, and where the others are: who mends one wants to mend them all."""
    errors = error.errors(include_input=False, include_url=False, include_context=False)
    first, others = errors[0], [_setting(each["loc"]) for each in errors[1:]]
    setting = _setting(first["loc"])
    more = f" (and {len(others)} more: {', '.join(others[:NAMED])}{', …' if len(others) > NAMED else ''})" if others else ""
    message = first["msg"].removeprefix("Value error, ")
    what = WORDS.get(first["type"], message)
    if first["type"] == "union_tag_invalid":  # its message repeats the value
        what = f"kind must be one of{message.rpartition(':')[2]}"
    return SettingsError(f"{what}{more}", where=f"{path}: {setting}" if setting else str(path))


def _setting(loc: tuple[int | str, ...]) -> str:
    if loc[:1] == ("partners",):
        loc = loc[:2] + loc[3:]  # between them stands the kind, which is no setting's name
    return ".".join(str(part) for part in loc)
