"""What has to answer: bus and topics, ledger, partners, and whether their clocks agree with ours. Nothing is written there.

A partner is asked by HEAD on its base URL, without organisation, client id or secret: it may refuse, only its Date is read.
"""

import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from socket import gaierror
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pipeline.bus.limits import MOST_BYTES, OVERHEAD_BYTES
from pipeline.commands.doctor.report import Level, Line
from pipeline.errors import BusError, LedgerError, NotSent, PipelineError, Refused
from pipeline.ledger.port import STARTING
from pipeline.settings import Embedded, Kafka, Settings
from schemas.outcomes import State

if TYPE_CHECKING:
    from pipeline.bus.port import Bus, TopicPartition, TopicSettings
    from pipeline.ledger.sql import SqlLedger
    from pipeline.model import Position

SECONDS: Final = 5.0
LATE: Final = 15
"""Times `every` of a watch after which a dossier is late; one that the partner does not know is asked for twelve times more seldom."""
SKEW, BAD_SKEW = 5.0, 60.0
"""Seconds between two clocks that are worth a warning, and a failure. A Date header is cut to seconds."""


def bus(settings: Settings) -> Iterator[Line]:
    """The bus answers, and the topics are there as the settings want them."""
    if isinstance(settings.bus, Embedded):
        if not settings.bus.path.exists():
            yield Line(Level.WARN, "bus", f"nothing has run yet: there is no {settings.bus.path}", "emr-pipeline topics create")
            return
    elif why := _why_unreachable(settings.bus):
        yield Line(Level.FAIL, "bus", f"Kafka: {why}", "mend bus.bootstrap_servers, bus.tls, bus.sasl, or the way there")
        return
    from pipeline.bus.open import open_bus

    try:
        with closing(open_bus(settings)) as opened:
            there = opened.topics()
            yield Line(Level.OK, "bus", f"{settings.bus.kind}, {len(there)} topics")
            yield from _topics(settings, opened, frozenset(there))
    except BusError as error:
        yield Line(Level.FAIL, "bus", str(error), "see whether the bus is up and we may use it")


def _why_unreachable(kafka: Kafka) -> str:
    from pipeline.bus.kafka_diagnosis import why_unreachable

    return why_unreachable(kafka)


def _topics(settings: Settings, opened: "Bus", there: frozenset[str]) -> Iterator[Line]:
    from pipeline.commands.topics import differences
    from pipeline.wiring import topic_settings

    letters = {settings.dead_letters_of(route) for route in settings.routes}
    for wanted in topic_settings(settings):
        what = f"topic {wanted.name}"
        if wanted.name not in there:
            yield Line(Level.FAIL, what, "is not there", "emr-pipeline topics create")
            continue
        has = opened.described(wanted.name)
        differs = differences(wanted, has)
        if wanted.name in letters and has is not None and (has.retention_ms, has.retention_bytes) != (None, None):
            yield Line(Level.FAIL, what, "dead letters expire there: parked messages would be lost", "take its retention away")
        elif (
            wanted.name in letters
            and has is not None
            and has.most_bytes is not None
            and has.most_bytes < (need := _letter(settings, opened, wanted.name, there))
        ):
            found = f"takes records of {has.most_bytes} bytes, and what its source holds makes one of {need}: parked, it would stand in the source alone"
            yield Line(
                Level.FAIL,
                what,
                found,
                f"set its max.message.bytes to {need}, and the broker's message.max.bytes, or lower that of the source topic",
            )
        elif differs:
            yield Line(
                Level.WARN,
                what,
                f"is not as the settings say: {', '.join(sorted(differs))}",
                "emr-pipeline topics create shows both; change one",
            )
        else:
            yield Line(Level.OK, what, f"{wanted.partitions} partition{'s' * (wanted.partitions != 1)}, kept {_kept(wanted)}")


def _letter(settings: Settings, opened: "Bus", topic: str, there: frozenset[str]) -> int:
    """Bytes of the largest dead letter: what a source topic of it takes (else a message of site.most_bytes), our headers and the bus's own.

    What no producer of ours takes needs no room.
    """
    sources = {route.source for name, route in settings.routes.items() if settings.dead_letters_of(name) == topic}
    described = [opened.described(source) for source in sorted(sources & there)]
    most = [each.most_bytes for each in described if each is not None and each.most_bytes is not None]
    return min(max(most, default=settings.site.most_bytes), MOST_BYTES) + OVERHEAD_BYTES


def _kept(topic: "TopicSettings") -> str:
    return "for ever" if topic.retention_ms is None else f"{topic.retention_ms / 86_400_000:g} days"


def ledger(settings: Settings) -> Iterator[Line]:
    """The ledger answers, is ours by its key, and nothing in it waits for a person."""
    from pipeline.ledger.open import not_there_yet, open_ledger

    if place := not_there_yet(settings):
        yield Line(
            Level.WARN,
            "ledger",
            f"nothing has run yet: there is no {place.removeprefix('ledger ')}",
            "the first emr-pipeline run makes it",
        )
        yield from _read_before(settings, None)
        return
    try:
        with closing(open_ledger(settings)) as opened:
            yield from _ledger(settings, opened)
    except LedgerError as error:
        yield Line(
            Level.FAIL, "ledger", str(error).removeprefix("ledger "), "mend ledger.url and ledger.password, or the way there"
        )
    except PipelineError as error:  # it says what to do itself
        yield Line(Level.FAIL, "ledger", str(error), ours=True, refused=isinstance(error, Refused))


def _ledger(settings: Settings, opened: "SqlLedger") -> Iterator[Line]:
    if not opened.exists():
        yield Line(
            Level.WARN,
            "ledger",
            f"{opened.place.removeprefix('ledger ')} answers, nothing has run on it yet",
            "the first emr-pipeline run makes its tables",
        )
        yield from _read_before(settings, None)
        return
    opened.check_key()
    yield Line(Level.OK, "ledger", f"{opened.place.removeprefix('ledger ')} answers, the key is the one that it began with")
    fitting: list[str] = []
    for name, its in sorted(settings.routes.items()):
        try:
            opened.fits(name, settings.group_of(name), its.partner)
            fitting.append(name)
        except Refused as error:
            yield Line(Level.FAIL, f"route {name}", str(error), refused=True)
    yield from _read_before(settings, opened)
    started = [name for name in fitting if not (opened.started(name) or STARTING).startswith(STARTING)]
    yield from _lost_places(settings, started)
    yield from _behind(settings, opened, started)
    for route, states in sorted(opened.counts().items()):
        text = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        open_states = [state for state in (State.UNKNOWN, State.PARKED) if states.get(state)]
        do = f"emr-pipeline find --route {route} --state {open_states[0]}" if open_states else None
        if open_states and route not in settings.routes:
            text += "; the settings have no such route"
            do = f"name the route {route} again: replay, resolve and discard find its records by that name only"
        yield Line(Level.WARN if open_states else Level.OK, f"deliveries of {route}", text, do)
        yield from _retention(settings, opened, route)
    for watch in sorted(settings.watches):
        yield _watch(settings, opened, watch)


def _read_before(settings: Settings, opened: "SqlLedger | None") -> Iterator[Line]:
    """Of routes that the ledger (None: there is none) does not know, those whose group has read its topic: the ledger is not the one that it was. Of a bus that is away nothing is said twice."""
    from pipeline.bus.open import open_bus
    from pipeline.delivery.first import COMMITTED, is_known, read_before

    asked = [
        (name, its)
        for name, its in sorted(settings.routes.items())
        if its.start != COMMITTED and not (opened and is_known(opened.started(name), settings.group_of(name), its.source))
    ]
    if not asked or not _bus_answers(settings):
        return
    try:
        with closing(open_bus(settings)) as bus:
            there = bus.topics()
            found = [
                (name, read_before(bus, name, settings.group_of(name), its.source)) for name, its in asked if its.source in there
            ]
    except BusError:
        return
    for name, why in found:
        if why is not None:
            yield Line(Level.FAIL, f"route {name}", str(why), refused=True)


def _bus_answers(settings: Settings) -> bool:
    """`bus` tells why not."""
    if isinstance(settings.bus, Embedded):
        return settings.bus.path.exists()
    return not _why_unreachable(settings.bus)


def _lost_places(settings: Settings, routes: list[str]) -> Iterator[Line]:
    """Of routes that the ledger has started, those whose group has no place in its source any more, or not yet: `run` stops there (offset_gone)."""
    from pipeline.bus.open import open_bus
    from pipeline.commands.topics.starting import lost_place

    if not routes or not _bus_answers(settings):
        return
    try:
        with closing(open_bus(settings)) as bus:
            there = bus.topics()
            asked = [(name, settings.routes[name].source) for name in sorted(routes) if settings.routes[name].source in there]
            found = [(name, lost_place(bus, settings.group_of(name), source)) for name, source in asked]
    except BusError:
        return
    for name, why in found:
        if why is not None:
            do = f"emr-pipeline topics start --route {name} --at earliest|latest|TIME, when it is known what is missing (runbook: offset_gone)"
            yield Line(Level.FAIL, f"route {name}", why, do, refused=True)


def _behind(settings: Settings, opened: "SqlLedger", routes: list[str]) -> Iterator[Line]:
    """Of routes that have started: a ledger that has less than the group has read, and a setting that would let an empty one pass."""
    from pipeline.bus.open import open_bus
    from pipeline.delivery.first import COMMITTED

    for name in routes:
        if settings.routes[name].start == COMMITTED:
            found = "start: committed stands in the settings still: with it a ledger that is gone is not noticed, and patients are created again"
            yield Line(Level.WARN, f"start of {name}", found, "the route has started: take it out")
    if not routes or not _bus_answers(settings):
        return
    try:
        with closing(open_bus(settings)) as bus:
            there = bus.topics()
            asked = [(name, settings.routes[name].source) for name in routes if settings.routes[name].source in there]
            stands = [(name, bus.committed(settings.group_of(name), source)) for name, source in asked]
    except BusError:
        return
    for name, committed in stands:
        if lacking := [str(last) for last in _last_read(committed) if _has_less(opened, name, last)]:
            found = f"the group has read up to {', '.join(lacking)}, and the ledger knows of earlier ones and not of that: is it from a backup?"
            do = "runbook, Names that the ledger holds on to: emr-pipeline topics start --again reads again what was read since"
            yield Line(Level.WARN, f"ledger of {name}", found, do)


def _last_read(committed: "dict[TopicPartition, int]") -> "list[Position]":
    from pipeline.model import Position

    places = [Position(each.topic, each.partition, offset - 1) for each, offset in committed.items() if offset]
    return sorted(places, key=lambda each: each.partition)


def _has_less(opened: "SqlLedger", route: str, last: "Position") -> bool:
    """Whether it has earlier records of the partition, and not this one. Where it has none at all, the route began there."""
    from pipeline.ledger.port import Query

    earlier = Query(route=route, position=replace(last, offset=0), last_offset=last.offset, most=1)
    return opened.seen(route, last) is None and bool(opened.find(earlier))


def _watch(settings: Settings, opened: "SqlLedger", watch: str) -> Line:
    """How far a watch is, and whether it is late."""
    from pipeline.wiring import watched_reader

    watched_reader(settings, watch)
    what, standing = f"watch {watch}", opened.watches.standing(watch)
    if standing.dossiers == 0:
        return Line(Level.WARN, what, "it knows no dossier yet", f"emr-pipeline run {watch}")
    found = f"{standing.dossiers} dossiers, {standing.never_polled} of them not asked for yet, {standing.responses} completions"
    late = time.time() - (standing.oldest_polled_ms or 0) / 1000
    if standing.oldest_polled_ms is not None and late > LATE * settings.watches[watch].every:
        found += f"; one was asked for {late / 60:.0f} minutes ago"
        return Line(
            Level.WARN, what, found, f"see that emr-pipeline run {watch} runs, and its log; rate and every may ask too much"
        )
    return Line(Level.OK, what, found)


def _retention(settings: Settings, opened: "SqlLedger", route: str) -> Iterator[Line]:
    """A source that forgets before the oldest open delivery is done (RELIABILITY section 4)."""
    days = settings.topics.source_retention.days
    oldest = opened.oldest_open_ms(route)
    if days is None or oldest is None:
        return
    waited = (time.time() - oldest / 1000) / 86_400
    if waited > days / 2:
        found = f"the oldest open delivery waits since {waited:.1f} days, and the source keeps {days:g}"
        yield Line(Level.WARN, f"source of {route}", found, "end it, or lengthen topics.source_retention")


def partners(settings: Settings) -> Iterator[Line]:
    """Each partner is there over TCP and TLS with our certificate, and its clock agrees with ours."""
    from pipeline.settings_partners import MedmijSettings
    from pipeline.transport import certificates

    for name, partner in settings.partners.items():
        if isinstance(partner, MedmijSettings):
            continue  # our own store: no network
        try:
            context = certificates.read(partner.tls, ssl.SSLSocket).context
        except NotSent as error:
            yield Line(Level.FAIL, f"partner {name}", f"not asked: {error.message}", "put the right PEM files there", ours=True)
            continue
        yield from _partner(name, partner.base_url, context, certified=partner.tls.certificate is not None)


def _partner(name: str, base_url: str, context: ssl.SSLContext, *, certified: bool) -> Iterator[Line]:
    address = urlsplit(base_url)
    assert address.hostname  # noqa: S101 - the settings saw to it
    what, place = f"partner {name}", f"{address.hostname}:{address.port or 443}"
    connection = HTTPSConnection(address.hostname, address.port or 443, timeout=SECONDS, context=context)
    try:
        connection.request("HEAD", address.path or "/")
        sent = time.time()
        answer = connection.getresponse()
    except (OSError, HTTPException) as error:
        yield Line(Level.FAIL, what, f"{place}: {_why(error)}", _what_to_see(error, certified=certified))
        return
    finally:
        connection.close()
    yield Line(Level.OK, what, f"{place} answers over TLS (HTTP {answer.status} to a HEAD without credentials)")
    yield _clock(name, answer, sent)


def _clock(name: str, answer: HTTPResponse, sent: float) -> Line:
    try:
        theirs = parsedate_to_datetime(answer.getheader("Date") or "").timestamp()
    except ValueError:
        return Line(Level.OK, f"clock of {name}", "not compared: its answer has no Date")
    now = time.time()
    skew = 0.0 if sent - 1 <= theirs <= now else theirs - now
    if abs(skew) < SKEW:
        return Line(Level.OK, f"clock of {name}", "agrees with ours")
    level = Level.FAIL if abs(skew) >= BAD_SKEW else Level.WARN
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} ours"
    return Line(level, f"clock of {name}", found, "see whether this machine follows a time server (timedatectl)")


def _why(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted ({error.verify_message}): is tls.ca the right one?"
        case gaierror():
            return "the host name does not resolve (DNS)"
        case ConnectionRefusedError():
            return "nothing listens there (connection refused)"
        case TimeoutError():
            return f"no answer in {SECONDS:g} s"
        case ssl.SSLError():
            return f"TLS failed ({(error.reason or 'no reason given').lower().replace('_', ' ')})"
        case _:
            return "the connection broke"


def _what_to_see(error: Exception, *, certified: bool) -> str:
    """A partner that does not take our certificate may say so, end the handshake without a word, or the connection after it."""
    told = "see whether the partner is up, the address right, a firewall in the way"
    elsewhere = isinstance(error, ssl.SSLCertVerificationError | gaierror | ConnectionRefusedError | TimeoutError)
    return (
        f"{told}; or it does not take our client certificate (is it registered there?)" if certified and not elsewhere else told
    )
