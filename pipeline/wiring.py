"""Where the parts are put together from the settings. The only module that knows which implementation stands behind a port.

What opens something imports it when it is called: `map` of one file needs neither SQLAlchemy nor requests, which take 0.3 s.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pipeline
from pipeline.bus.port import Bus, TopicSettings
from pipeline.errors import SettingsError
from pipeline.fhir.validator import Validator
from pipeline.partners.medmij.partner import Medmij
from pipeline.partners.njsams.partner import Njsams
from pipeline.partners.port import Partner
from pipeline.partners.readers import READERS
from pipeline.partners.reads import Reader
from pipeline.partners.roche.partner import Roche
from pipeline.partners.roqua.documents import Roqua
from pipeline.partners.roqua.responses import RoquaResponses
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings import Kafka, RetentionSettings, Settings
from pipeline.settings_partners import MedmijSettings, NjsamsSettings, RocheSettings, RoquaResponsesSettings, RoquaSettings
from pipeline.stages.plan import Plan
from pipeline.tally import NobodyCounts, ServeTally, Tally, WatchTally
from pipeline.templates.catalogue import Catalogue
from pipeline.templates.tables import CodeTable, Concept, identifier_system
from schemas.event import Coded, Identifier, Text

if TYPE_CHECKING:
    from pipeline.appointments.sql import SqlStore
    from pipeline.delivery.courier import Topics
    from pipeline.delivery.gate import Gate
    from pipeline.delivery.worker import Worker
    from pipeline.ledger.port import Ledger
    from pipeline.oauth.keys import Signing
    from pipeline.oauth.open import Protected
    from pipeline.serve.xis.context import Tokens
    from pipeline.serve.xis.service import Service
    from pipeline.settings_serve import ServeSettings
    from pipeline.transport.jwt import Signer
    from pipeline.transport.port import Knock, Transport
    from pipeline.watch.watcher import Watcher

MAPPINGS: Final = Path(pipeline.__file__).parent.parent / "mappings"
"""The mappings that come with the program: beside the package, in a checkout as when installed."""
READ_CAP: Final = 16 * 1024 * 1024
"""Bytes of an answer to a question, at most."""
OFFLINE: Final = "no ledger, so no hash of this leaves"


def clock() -> int:
    """Wall clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def catalogue_of(settings: Settings) -> Catalogue:
    """The mappings with the site's overlay."""
    return Catalogue(settings.mappings or MAPPINGS, settings.site.overlay)


def what_runs(settings: Settings, names: list[str]) -> tuple[list[str], list[str]]:
    """Routes and watches by name, all where none is named; SettingsError where one is not there."""
    if not names:
        return sorted(settings.routes), sorted(settings.watches)
    known = {*settings.routes, *settings.watches}
    for name in names:
        if name not in known:
            raise SettingsError(f"no such route or watch in the settings; there is {', '.join(sorted(known))}", where=name)
    watches = [name for name in names if name in settings.watches]
    return [name for name in names if name not in watches], watches


def the_route(settings: Settings, name: str | None) -> str:
    """A route by name, or the only one; SettingsError where it is not there or not told."""
    if name is None:
        if len(settings.routes) == 1:
            return next(iter(settings.routes))
        raise SettingsError(f"several routes, name one of {', '.join(sorted(settings.routes))}", where="--route")
    if name not in settings.routes:
        raise SettingsError(
            f"no such route in the settings; there is {', '.join(sorted(settings.routes))}", where=f"--route {name}"
        )
    return name


def partner_of(settings: Settings, name: str, catalogue: Catalogue) -> Partner:
    """The partner's contract with its settings and the mapping's tables."""
    settings_of = settings.partners[name]
    return PARTNERS[settings_of.kind](settings_of, catalogue, IdentifierSystems(catalogue, settings_of.kind))


def _roche(settings: RocheSettings, catalogue: Catalogue, systems: "IdentifierSystems") -> Partner:
    diabetes = catalogue.table("diabetes-type").targets
    codes = frozenset((target.system, target.code) for target in diabetes if isinstance(target, Concept))
    return Roche(settings, systems, codes)


def _njsams(settings: NjsamsSettings, _: Catalogue, systems: "IdentifierSystems") -> Partner:
    return Njsams(settings, systems)


def _roqua(settings: RoquaSettings, catalogue: Catalogue, systems: "IdentifierSystems") -> Partner:
    return Roqua(settings, systems, Listed(catalogue, settings.kind, "honos-item"))


def _roqua_responses(settings: RoquaResponsesSettings, catalogue: Catalogue, systems: "IdentifierSystems") -> Partner:
    questionnaires, questions = (Listed(catalogue, settings.kind, table) for table in ("roqua-questionnaires", "roqua-questions"))
    return RoquaResponses(settings, systems, questionnaires, questions)


def _medmij(settings: MedmijSettings, _: Catalogue, systems: "IdentifierSystems") -> Partner:
    return Medmij(settings, systems)


PARTNERS: Final[Mapping[str, Callable[[Any, Catalogue, "IdentifierSystems"], Partner]]] = {
    "roche": _roche,
    "njsams": _njsams,
    "roqua": _roqua,
    "roqua-responses": _roqua_responses,
    "medmij": _medmij,
}
"""By kind: its settings, the mappings and the systems of identifiers make the contract. A new partner is a line here and one in TRANSPORTS."""


class IdentifierSystems:
    """Which system an identifier is accepted under, by the table as it stands: looked up anew when the mapping's version changes."""

    def __init__(self, catalogue: Catalogue, partner: str) -> None:
        """The table is `identifier-systems`, or the partner's own."""
        self._catalogue, self._partner = catalogue, partner
        self._version = ""

    def __call__(self, identifier: Identifier) -> str | None:
        """The system, a URI; None where the table has none."""
        version = self._catalogue.version(self._partner)
        if version != self._version:
            self._found, self._version = _lookup(self._catalogue.identifier_systems(self._partner)), version
        return self._found(identifier.authority_oid, identifier.authority, identifier.type)


class Listed:
    """Whether a table as it stands has a code, and not to say that it is left out."""

    def __init__(self, catalogue: Catalogue, partner: str, table: str) -> None:
        self._catalogue, self._partner, self._name = catalogue, partner, table
        self._version = ""

    def __call__(self, code: Coded) -> bool:
        """Whether the table has it."""
        version = self._catalogue.version(self._partner)
        if version != self._version:
            self._table, self._version = self._catalogue.table(self._name), version
        return self._table.find_coded(code) is not None


def _lookup(table: CodeTable) -> Callable[[Text, Text, Text], str | None]:
    """`identifier_system` by what it looks at: a hospital's messages have a handful of these, and each has several."""

    @lru_cache(maxsize=1024)
    def found(oid: Text, authority: Text, kind: Text) -> str | None:
        return identifier_system(table, Identifier(authority_oid=oid, authority=authority, type=kind))

    return found


def plan_of(settings: Settings, route: str, catalogue: Catalogue, pseudonyms: Pseudonyms) -> Plan:
    """All that the pure hops of a route need."""
    name = settings.routes[route].partner
    partner = partner_of(settings, name, catalogue)
    return Plan(
        name=route,
        route=settings.routes[route],
        site=settings.site,
        partner=partner,
        catalogue=catalogue,
        validator=Validator(catalogue.release(partner.name)),
        pseudonyms=pseudonyms,
        beside=tuple(each for each, its in settings.routes.items() if each != route and _is_one(settings, its.partner, name)),
    )


def _is_one(settings: Settings, one: str, other: str) -> bool:
    """Whether what goes to the one is the other's, too: all of kind medmij are our one store."""
    return one == other or settings.partners[one].kind == settings.partners[other].kind == "medmij"


def plan_offline(settings: Settings, route: str) -> Plan:
    """A plan for `map`, the golden pairs and `bench`: no secret is read."""
    return plan_of(settings, route, catalogue_of(settings), Pseudonyms(OFFLINE))


def pseudonyms_of(settings: Settings) -> Pseudonyms:
    """With the settings' secret."""
    return Pseudonyms(settings.keys.patient_hash.read("keys.patient_hash"))


def topics_of(settings: Settings, route: str) -> "Topics":
    """The topics of a route."""
    from pipeline.delivery.courier import Topics

    return Topics(settings.routes[route].source, settings.topics.results, settings.dead_letters_of(route))


@dataclass(frozen=True, slots=True)
class Opened:
    """What a command that works has open; closed by `opened`."""

    settings: Settings
    bus: Bus
    ledger: "Ledger"
    catalogue: Catalogue
    pseudonyms: Pseudonyms


@contextmanager
def opened(settings: Settings) -> Iterator[Opened]:
    """Bus, ledger and mappings of the settings, with the ledger's key checked; all closed at the end."""
    from pipeline.bus.open import open_bus
    from pipeline.ledger.open import open_ledger

    with ExitStack() as stack:
        pseudonyms = pseudonyms_of(settings)
        ledger = open_ledger(settings)
        stack.callback(ledger.close)
        ledger.check()
        bus = open_bus(settings)
        stack.callback(bus.close)
        yield Opened(settings, bus, ledger, catalogue_of(settings), pseudonyms)


def as_started(things: Opened, route: str) -> None:
    """Refused where the route was started with another group, or to a partner of another name: patients are known by that."""
    things.ledger.fits(route, things.settings.group_of(route), things.settings.routes[route].partner)


@dataclass(frozen=True, slots=True)
class Working:
    """What `run` runs."""

    workers: list["Worker"]
    watchers: list["Watcher"]


@contextmanager
def workers(settings: Settings, routes: list[str], tally: Tally | None = None) -> Iterator[list["Worker"]]:
    """A worker for each route, not yet running, with one connection pool for each partner."""
    with working(settings, routes, [], tally) as those:
        yield those.workers


@contextmanager
def working(
    settings: Settings, routes: list[str], watches: list[str], tally: Tally | None = None, looks: WatchTally | None = None
) -> Iterator[Working]:
    """The same, and a watcher for each watch. What a partner's routes and watches know of it together is its gate."""
    from pipeline.delivery.worker import Worker

    with opened(settings) as things, ExitStack() as stack:
        transports: dict[str, Transport] = {}
        gates: dict[str, Gate] = {}
        slots: dict[str, threading.Semaphore] = {}
        for name in dict.fromkeys(settings.routes[route].partner for route in routes):
            transports[name] = transport_of(settings, name)
            stack.callback(transports[name].close)
            if sum(settings.routes[route].partner == name for route in routes) > 1:
                slots[name] = threading.Semaphore(settings.partners[name].in_flight)
            gates[name] = gate_of(settings, name, transports[name].knock)
        those = [
            Worker(
                plan_of(settings, route, things.catalogue, things.pseudonyms),
                topics_of(settings, route),
                settings.group_of(route),
                things.bus,
                things.ledger,
                transport=transports[settings.routes[route].partner],
                gate=gates[settings.routes[route].partner],
                clock=clock,
                settings=settings.delivery,
                flood=settings.flood,
                in_flight=settings.partners[settings.routes[route].partner].in_flight,
                slots=slots.get(settings.routes[route].partner),
                tally=tally,
            )
            for route in routes
        ]
        yield Working(those, [_watcher(things, watch, gates, stack, looks) for watch in watches])


def gate_of(settings: Settings, name: str, knock: "Knock") -> "Gate":
    """What all routes of a partner know of it together."""
    from pipeline.delivery.gate import Gate

    partner = settings.partners[name]
    certified = not isinstance(partner, MedmijSettings) and partner.tls.certificate is not None
    return Gate(name, settings.breaker, knock=knock, certified=certified)


def _watcher(things: Opened, name: str, gates: "dict[str, Gate]", stack: ExitStack, looks: WatchTally | None) -> "Watcher":
    """With connections of its own, for answers that are larger than a delivery's."""
    from pipeline.delivery.attempts import Backoff
    from pipeline.watch.named import dossiers_of
    from pipeline.watch.watcher import Watcher

    settings = things.settings
    partner = settings.watches[name].partner
    systems = IdentifierSystems(things.catalogue, settings.partners[partner].kind)
    transport = transport_of(settings, partner, READ_CAP)
    stack.callback(transport.close)
    if partner not in gates:
        gates[partner] = gate_of(settings, partner, transport.knock)
    return Watcher(
        name,
        settings.watches[name],
        reader=watched_reader(settings, name),
        transport=transport,
        gate=gates[partner],
        bus=things.bus,
        ledger=things.ledger,
        hashed=things.pseudonyms.hash,
        named=lambda value: dossiers_of(value, settings.site, systems),
        clock=clock,
        backoff=Backoff(settings.delivery.backoff_first, settings.delivery.backoff_most),
        counts=looks,
    )


def watched_reader(settings: Settings, watch: str) -> Reader:
    """The read side of a watch's partner; SettingsError where it has no responses to watch."""
    reader = reader_of(settings, settings.watches[watch].partner)
    if "responses" not in reader.plain:
        raise SettingsError("this partner has no responses that could be watched", where=f"watches.{watch}.partner")
    return reader


def transport_of(settings: Settings, name: str, body_cap: int = 1024 * 1024) -> "Transport":
    """The partner's connection pool, with its certificates and its secret, or its access tokens. `body_cap`: bytes of an answer at most."""
    return TRANSPORTS[settings.partners[name].kind](settings, name, body_cap)


def _with_secret(settings: Settings, name: str, body_cap: int) -> "Transport":
    from pipeline.transport.https import HttpsTransport

    partner: Any = settings.partners[name]
    secret = partner.client_secret.read(f"partners.{name}.client_secret")
    return HttpsTransport(partner.base_url, partner.tls, {"client_secret": secret}, pool=partner.in_flight, body_cap=body_cap)


def _with_tokens(settings: Settings, name: str, body_cap: int) -> "Transport":
    from pipeline.oauth.open import bearer_of
    from pipeline.transport.https import HttpsTransport

    partner: Any = settings.partners[name]
    inner = HttpsTransport(partner.base_url, partner.tls, {}, pool=partner.in_flight, body_cap=body_cap)
    return bearer_of(name, protected_of(settings, name), inner, pseudonyms_of(settings))


def _with_basic(settings: Settings, name: str, body_cap: int) -> "Transport":
    """HTTP Basic (RFC 7617)."""
    from base64 import b64encode

    from pipeline.transport.https import HttpsTransport

    partner: Any = settings.partners[name]
    secret = partner.token.consumer_secret.read(f"partners.{name}.token.consumer_secret")
    pair = b64encode(f"{partner.token.consumer_key}:{secret}".encode()).decode()
    header = {"Authorization": f"Basic {pair}"}
    return HttpsTransport(partner.base_url, partner.tls, header, pool=partner.in_flight, body_cap=body_cap)


def _with_own_token(settings: Settings, name: str, body_cap: int) -> "Transport":
    """A bearer token that was given to us (RFC 6750)."""
    from pipeline.transport.https import HttpsTransport

    partner: Any = settings.partners[name]
    header = {"Authorization": f"Bearer {partner.token.read(f'partners.{name}.token')}"}
    return HttpsTransport(partner.base_url, partner.tls, header, pool=partner.in_flight, body_cap=body_cap)


def _with_basic_or_jwt(settings: Settings, name: str, body_cap: int) -> "Transport":
    """HTTP Basic, or tokens that we sign ourselves, one for each dossier."""
    from pipeline.transport.https import HttpsTransport

    partner: Any = settings.partners[name]
    if partner.jwt is None:
        return _with_basic(settings, name, body_cap)
    from pipeline.transport.jwt import JwtTransport

    inner = HttpsTransport(partner.base_url, partner.tls, {}, pool=partner.in_flight, body_cap=body_cap)
    return JwtTransport(inner, signer_of(settings, name))


def signer_of(settings: Settings, name: str) -> "Signer":
    """What signs the partner's tokens; SettingsError where the key cannot be used."""
    from pipeline.oauth import keys
    from pipeline.transport.jwt import Signer

    jwt: Any = signing_keys_of(settings, name)[f"partners.{name}.jwt"]
    key = keys.read(jwt, f"partners.{name}.jwt.file")
    return Signer(jwt.issuer, jwt.key_id, jwt.algorithm, key, round(jwt.minutes * 60))


def signing_keys_of(settings: Settings, name: str) -> "dict[str, Signing]":
    """Our private keys of a partner, by the name of the setting: by these it knows us."""
    partner = _partner(settings, name)
    jwt, oauth = (getattr(partner, block, None) for block in ("jwt", "oauth"))
    found = {"jwt": jwt, "oauth.private_key": None if oauth is None else oauth.private_key}
    return {f"partners.{name}.{setting}": key for setting, key in found.items() if key is not None}


def _into_the_store(settings: Settings, _name: str, _body_cap: int) -> "Transport":
    """No network: the store of appointments, which is ours."""
    from pipeline.appointments.transport import StoreTransport

    return StoreTransport(store_of(settings), pseudonyms_of(settings), clock)


def store_of(settings: Settings) -> "SqlStore":
    """The store of appointments, made where it is missing. SettingsError where the settings name none."""
    from pipeline.appointments.sql import SqlStore

    if settings.appointments is None:
        raise SettingsError("this setting is missing: where appointments are kept", where="appointments")
    password = settings.appointments.password
    store = SqlStore(
        settings.appointments.url,
        pseudonyms_of(settings).check,
        password.read("appointments.password") if password else None,
        clock,
    )
    try:
        store.check()
    except BaseException:
        store.close()
        raise
    return store


def tokens_of(serve: "ServeSettings", tally: ServeTally | None = None) -> "Tokens":
    """Who checks the tokens that patients' PHRs bring: the issuer's keys, or the issuer itself."""
    from pipeline.oauth.wire import Wire
    from pipeline.serve.xis.context import Names
    from pipeline.serve.xis.jwks import Keys, from_file, from_url
    from pipeline.serve.xis.tokens import Introspection, Jwts

    tokens, local, counted = serve.tokens, serve.tokens.claims.local, tally or NobodyCounts()
    names = Names(tokens.claims.bsn, local.claim if local else None, local.system if local else "", tokens.scope)
    wire = Wire(tokens.tls, tokens.times)
    if tokens.introspection is not None:
        tokens.introspection.client_secret.read(
            "serve.tokens.introspection.client_secret"
        )  # told at the start, not to the first patient
        return Introspection(
            wire,
            tokens.introspection,
            names,
            tokens.issuer,
            tokens.audience,
            leeway=tokens.leeway,
            failed=partial(counted.issuer_failed, "introspection"),
        )
    fetch = from_file(tokens.jwks_file) if tokens.jwks_file else from_url(wire, str(tokens.jwks_url))
    keys = Keys(fetch, time.monotonic, partial(counted.issuer_failed, "keys"))
    return Jwts(keys, tokens.issuer, tokens.audience, names, leeway=tokens.leeway, close=wire.close)


@contextmanager
def xis_of(settings: Settings, tally: ServeTally | None = None) -> Iterator["Service"]:
    """Appointments for patients, from the store of the settings; closed at the end. SettingsError where a section is missing."""
    from zoneinfo import ZoneInfo

    from pipeline.serve.xis.limits import Rates, Refusals
    from pipeline.serve.xis.queries import Limits
    from pipeline.serve.xis.searching import Searching
    from pipeline.serve.xis.service import Service

    serve = settings.serve
    if serve is None:
        raise SettingsError("this setting is missing: base_url and tokens", where="serve")
    with ExitStack() as stack:
        store = store_of(settings)
        stack.callback(store.close)
        tokens = tokens_of(serve, tally)
        stack.callback(tokens.close)
        limits = Limits(serve.count, serve.count_most)
        searching = Searching(store, pseudonyms_of(settings), serve.base_url, ZoneInfo(settings.site.zone), limits, clock)
        refusals = Refusals(serve.refused_rate, serve.refused_rate_all, time.monotonic)
        yield Service(searching, tokens, Rates(serve.rate, time.monotonic), refusals, tally or NobodyCounts())


TRANSPORTS: Final[Mapping[str, Callable[[Settings, str, int], "Transport"]]] = {
    "medmij-xis": _with_own_token,
    "roche": _with_secret,
    "njsams": _with_tokens,
    "roqua": _with_basic,
    "roqua-responses": _with_basic_or_jwt,
    "medmij": _into_the_store,
}
"""By kind: how the partner knows us."""


def reader_of(settings: Settings, name: str) -> Reader:
    """The partner's read side; SettingsError where it is not there, or has none."""
    partner = _partner(settings, name)
    if partner.kind not in READERS:
        raise SettingsError("this partner offers nothing to read", where=f"partners.{name}")
    return READERS[partner.kind](partner)


def _partner(settings: Settings, name: str) -> Any:  # noqa: ANN401 - a settings block of any partner
    if name not in settings.partners:
        raise SettingsError(f"no such partner in the settings; there is {', '.join(sorted(settings.partners))}", where=name)
    return settings.partners[name]


def has_oauth(settings: Settings, name: str) -> bool:
    """Whether the partner wants access tokens: its settings have an oauth block."""
    return getattr(settings.partners[name], "oauth", None) is not None


def protected_of(settings: Settings, name: str) -> "Protected":
    """A partner with OAuth, by name; SettingsError where it is not there, or has none."""
    found: Protected = _partner(settings, name)
    if not has_oauth(settings, name):
        raise SettingsError("this partner has no oauth block: it knows us by certificate and secret", where=f"partners.{name}")
    return found


def topic_settings(settings: Settings) -> list[TopicSettings]:
    """All topics of the settings, as they are to be made: dead letters without expiry (RELIABILITY section 4)."""
    topics = settings.topics
    replication = settings.bus.replication if isinstance(settings.bus, Kafka) else 1
    watches = settings.watches.values()
    names = {route.source for route in settings.routes.values()} | {watch.source for watch in watches if watch.source}
    names |= {watch.into for watch in watches} | ({settings.listen.topic} if settings.listen else set())
    source = [_topic(name, topics.partitions, topics.source_retention, replication) for name in sorted(names)]
    results = _topic(topics.results, topics.partitions, topics.results_retention, replication)
    letters = [TopicSettings(settings.dead_letters_of(route), 1, replication=replication) for route in sorted(settings.routes)]
    return [*source, results, *letters]


def _topic(name: str, partitions: int, retention: RetentionSettings, replication: int) -> TopicSettings:
    milliseconds = None if retention.days is None else int(retention.days * 86_400_000)
    size = None if retention.megabytes is None else int(retention.megabytes * 1_048_576)
    return TopicSettings(name, partitions, milliseconds, size, replication)
