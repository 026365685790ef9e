"""The invariants of RELIABILITY section 6, checked over what a run left behind. One checker for fault tests and soak: `violations(gather(…)) == []`.

`gather` reads (source, results, dead letters, committed offsets, ledger, the partner's own log of effects, every file that is no payload);
the rules below are pure, and each gives its violations in plain words. It knows settings, topics, the ledger's port and the stand-in's log,
nothing of the worker's inside.

A delivery's bundle id is made of its request id (DESIGN decision 8), and a probe carries the same bundle under an id of its own: so the
bundle id says which message an effect belongs to; where a bundle has no id, its entries' fullUrls do, which are made likewise. The same
bundle twice in a row on a patient is one effect: a PUT is its own probe. So are the requests of a delivery of several.
"""

import base64
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import MetaData, create_engine, select

from pipeline import wiring
from pipeline.bus.port import TopicPartition
from pipeline.delivery.payloads import is_without_bytes
from pipeline.ids import uuid5
from pipeline.ledger.port import Delivery, Query
from pipeline.model import Position, Received
from pipeline.sandbox.log import CREATED, NOTHING, Effect
from pipeline.settings import Settings
from pipeline.stages.route import request_id
from pipeline.trial.traffic import Traffic
from schemas.dead_letter import PREFIX
from schemas.outcomes import CLOSED, OUTCOME_UNKNOWN, State
from schemas.result import Result

SETTLED: Final = CLOSED | {State.PARKED}
"""Final, or durably parked."""
OPEN: Final = frozenset({State.PENDING, State.UNKNOWN})
URN: Final = "urn:uuid:"
SHORTEST: Final = 6
"""A shorter canary would be found anywhere."""
MOST_SHOWN: Final = 3


@dataclass(frozen=True)
class Evidence:
    """What a run left behind, as plain values, and where each stands among them."""

    route: str
    sent: Mapping[TopicPartition, Mapping[int, bytes | None]] = field(repr=False)
    """The source topic as it stands: partition, offset, value."""
    bounds: Mapping[TopicPartition, tuple[int, int]]
    """First offset and end of each source partition."""
    committed: Mapping[TopicPartition, int | None]
    rows: Sequence[Delivery]
    results: Sequence[Result]
    letters: Sequence[Received]
    effects: Sequence[Effect]
    traffic: Traffic = field(repr=False)
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Places that must be silent, and what stands there."""
    canaries: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Texts that may stand in none of them, and what they are."""
    crashes: int = 0
    over: bool = True
    """The faults have stopped and a worker has drained: nothing may be open any more."""
    replays: Sequence[str] = ()
    """The names of the route's plans: what one sends again of what was delivered goes under a bundle id of its own."""

    @property
    def states(self) -> Counter[State]:
        """How many records are in which state."""
        return Counter(row.state for row in self.rows)

    def row_of(self, value: bytes) -> Delivery | None:
        """The ledger's row of the first record with these bytes."""
        place = self.place_of(value)
        return self.row_at(place) if place else None

    def row_at(self, position: Position) -> Delivery | None:
        """The ledger's row of a record."""
        return self._rows.get(position)

    def place_of(self, value: bytes) -> Position | None:
        """Where the first record with these bytes stands."""
        return self._places.get(value)

    def results_of(self, position: Position) -> list[Result]:
        """In the order of their topic's partitions."""
        return self._results.get(position, [])

    def settled(self, position: Position) -> list[Result]:
        """Those that settle it."""
        return [one for one in self.results_of(position) if one.settled]

    def effects_of(self, value: bytes) -> list[Effect]:
        """What the partner did because of this message, however often it was asked."""
        return [one for one in self.requests_of(value) if one.effect != NOTHING]

    def requests_of(self, value: bytes) -> list[Effect]:
        """Every request with this message's bundle, probes too."""
        return self._requests.get(bundle_id(self.route, value), [])

    @cached_property
    def resent(self) -> Mapping[str, bytes]:
        """The bundle ids that a replay may send delivered messages again under, and the message of each."""
        values = {value for records in self.sent.values() for value in records.values() if value}
        return {bundle_id(self.route, value, replay): value for value in values for replay in self.replays}

    @cached_property
    def _rows(self) -> Mapping[Position, Delivery]:
        return {row.position: row for row in reversed(self.rows)}

    @cached_property
    def _places(self) -> Mapping[bytes, Position]:
        found: dict[bytes, Position] = {}
        for partition, records in self.sent.items():
            for offset, value in records.items():
                if value is not None:
                    found.setdefault(value, Position(partition.topic, partition.partition, offset))
        return found

    @cached_property
    def _results(self) -> Mapping[Position, list[Result]]:
        found: dict[Position, list[Result]] = defaultdict(list)
        for one in self.results:
            found[Position(one.source_topic, one.source_partition, one.source_offset)].append(one)
        return found

    @cached_property
    def _requests(self) -> Mapping[str | None, list[Effect]]:
        found: dict[str | None, list[Effect]] = defaultdict(list)
        for one in self.effects:
            found[one.bundle_id].append(one)
        return found


def bundle_id(route: str, value: bytes, replay: str | None = None) -> str:
    """Of the message bundle that the message becomes; of one that was delivered before, as a replay sends it again."""
    name = f"Bundle-{replay}" if replay else "Bundle"
    return uuid5(bytes.fromhex(request_id(route, value).replace("-", "")), name.encode())


COVERAGES: Final = 5
"""So many of one message, at most."""


def _same(route: str, values: Iterable[bytes | None], effects: Sequence[Effect]) -> list[Effect]:
    """The effects, with the bundle id that belongs to their message instead of the fullUrl of an entry."""
    if not any((one.bundle_id or "").startswith(URN) for one in effects):
        return list(effects)
    names = ["Patient", "Encounter", *(f"Coverage-{number}" for number in range(COVERAGES))]
    known = {
        f"{URN}{uuid5(bytes.fromhex(request_id(route, value).replace('-', '')), name.encode())}": bundle_id(route, value)
        for value in values
        if value
        for name in names
    }
    return [replace(one, bundle_id=known.get(one.bundle_id or "", one.bundle_id)) for one in effects]


def gather(
    settings: Settings,
    route: str,
    *,
    traffic: Traffic,
    effects: Sequence[Effect],
    files: Sequence[Path] = (),
    secrets: Mapping[str, str] | None = None,
    crashes: int = 0,
    over: bool = True,
) -> Evidence:
    """Read everything. `files` are those that must be silent; `secrets` are canaries beside the traffic's and the partner's ids."""
    source = settings.routes[route].source
    texts = {str(path): _file_text(path) for path in files if path.exists()}  # first: closing a SQLite ledger takes its -wal away
    with wiring.opened(settings) as things:
        bounds = things.bus.bounds(source)
        sent: dict[TopicPartition, dict[int, bytes | None]] = {partition: {} for partition in bounds}
        for record in things.bus.read(source):
            sent[TopicPartition(source, record.position.partition)][record.position.offset] = record.value
        result_records = list(things.bus.read(settings.topics.results))
        letters = list(things.bus.read(settings.dead_letters_of(route)))
        rows = list(things.ledger.find(Query(route=route, most=1_000_000)))
        offsets = things.bus.committed(settings.group_of(route), source)
        replays = [one.id for one in things.ledger.replays.all(route)]
        committed = {partition: offsets.get(partition) for partition in bounds}
    parsed = [Result.model_validate_json(record.value) for record in result_records if record.value]
    own = {part.id for one in effects for part in one.written}
    texts |= {f"result record {record.position}": _without(own, record) for record in result_records}
    texts |= {f"header of dead letter {letter.position}": str(_own_headers(letter)) for letter in letters}
    texts |= {f"ledger table {name}": text for name, text in tables(settings.ledger.url).items()}
    texts["request ids at the partner"] = " ".join(one.request_id or "" for one in effects)
    ids = {one.partner_id: "partner id" for one in effects if one.partner_id and one.effect == CREATED}
    ids |= dict.fromkeys(own, "partner id")
    values = [value for records in sent.values() for value in records.values()]
    return Evidence(
        route=route,
        sent=sent,
        bounds=bounds,
        committed=committed,
        rows=rows,
        results=[one for one in parsed if one.route == route],
        letters=letters,
        effects=_same(route, values, effects),
        traffic=traffic,
        texts=texts,
        canaries={**traffic.canaries, **ids, **(secrets or {})},
        crashes=crashes,
        over=over,
        replays=replays,
    )


def tables(url: str) -> dict[str, str]:
    """Every table of the ledger as text, whatever its schema is."""
    engine = create_engine(url)
    metadata = MetaData()
    try:
        metadata.reflect(engine)
        with engine.connect() as connection:
            return {
                table.name: "\n".join(str(tuple(row)) for row in connection.execute(select(table)))
                for table in metadata.sorted_tables
            }
    finally:
        engine.dispose()


def _file_text(path: Path) -> str:
    return path.read_bytes().decode("latin-1")  # each byte a character: what stands in UTF-8 is looked for in UTF-8


def _record_text(record: Received) -> str:
    return " ".join((_latin(record.key), str([(name, _latin(value)) for name, value in record.headers]), _latin(record.value)))


def _without(own: AbstractSet[str], record: Received) -> str:
    """A result may say which id the partner gave, where it is none of the hospital's."""
    text = _record_text(record)
    told = Result.model_validate_json(record.value).partner_id if record.value else None
    return text.replace(f'"partner_id":"{told}"', "") if told in own else text


def _latin(value: bytes | None) -> str:
    return (value or b"").decode("latin-1")


def _own_headers(letter: Received) -> dict[str, str]:
    return {name: _latin(value) for name, value in letter.headers if name.startswith(PREFIX)}


# the rules


def violations(evidence: Evidence) -> list[str]:
    """All that is not as it must be, in plain words; empty where all is well."""
    return [violation for rule in RULES for violation in rule(evidence)]


def conservation(evidence: Evidence) -> Iterator[str]:
    """Every source offset is in exactly one state; what the topic has no record for (compaction, markers) is a gap."""
    for partition, records in evidence.sent.items():
        first, end = evidence.bounds[partition]
        gaps = end - first - len(records)
        counted = Counter(row.position.offset for row in evidence.rows if _partition(row.position) == partition)
        missing = [offset for offset in records if offset not in counted]
        if missing and evidence.over:
            yield f"{partition}: {len(missing)} of {len(records)} records have no state (gaps: {gaps}): {_some(missing)}"
        if strange := [offset for offset in counted if offset not in records]:
            yield f"{partition}: the ledger has {len(strange)} deliveries of records that are not there: {_some(strange)}"
        if twice := [offset for offset, number in counted.items() if number > 1]:
            yield f"{partition}: {len(twice)} records are in more than one state: {_some(twice)}"


def no_loss(evidence: Evidence) -> Iterator[str]:
    """When faults have stopped nothing stays pending or unknown."""
    if evidence.over:
        for row in evidence.rows:
            if row.state in OPEN:
                yield f"{row.position}: still {row.state}, though the faults are over"


def told(evidence: Evidence) -> Iterator[str]:
    """Each settlement stands on the results topic, once by its id, and says what the ledger says; each parked one has its dead letter."""
    letters = {_source_of(letter): letter for letter in evidence.letters}
    for row in evidence.rows:
        if row.state not in SETTLED:
            continue
        results = evidence.settled(row.position)
        if evidence.over and not results:
            yield f"{row.position}: settled as {row.state}, and no result says so"
        if results and evidence.over and results[-1].state != row.state:
            yield f"{row.position}: the ledger says {row.state}, its result {results[-1].state}"
        ids = {one.result_id for one in results}
        parked = sum(one.state is State.PARKED for one in {one.result_id: one for one in results}.values())
        if len(ids) > max(1 + parked, len({one.replay_id for one in results})):
            yield f"{row.position}: {len(ids)} different results settle it"
        if row.state is State.PARKED and evidence.over:
            letter = letters.get(row.position)
            if letter is None:
                yield f"{row.position}: parked, and no dead letter has it"
            elif not is_without_bytes(letter) and letter.value != evidence.sent[_partition(row.position)].get(
                row.position.offset
            ):
                yield f"{row.position}: its dead letter has other bytes than the record"


def effects(evidence: Evidence) -> Iterator[str]:
    """Effects per message at most 1, repeats explained: by an attempt that told nothing, or by a crash, and then flagged. None without an intent."""
    known = {bundle_id(evidence.route, value): value for records in evidence.sent.values() for value in records.values() if value}
    for bundle in dict.fromkeys(one.bundle_id for one in evidence.effects if one.effect != NOTHING):
        if bundle not in known and bundle not in evidence.resent:
            yield f"the partner took bundle {bundle}, which no record becomes"
    either = {**known, **evidence.resent}
    for history in _histories(evidence).values():
        again = Counter(one.bundle_id for one in _collapsed(history))
        for bundle, number in again.items():
            if number > 1 and bundle in either:
                yield f"{evidence.place_of(either[bundle])}: took effect {number} times, with something else in between"
    for value in known.values():
        if place := evidence.place_of(value):
            yield from _repeats(evidence, place, evidence.effects_of(value))
    yield from _resent_again(evidence)


def _resent_again(evidence: Evidence) -> Iterator[str]:
    """What a replay sends of what was delivered: once, and again only where a crash or an attempt that told nothing explains it."""
    for bundle, number in Counter(one.bundle_id for one in evidence.effects if one.effect != NOTHING).items():
        value = evidence.resent.get(bundle or "")
        place = evidence.place_of(value) if value is not None else None
        if place is not None:
            untold = sum(
                not one.settled or (one.state is State.PARKED and one.reason in OUTCOME_UNKNOWN)
                for one in evidence.results_of(place)
            )
            if number - 1 - untold > evidence.crashes:
                yield f"{place}: resent {number} times by one replay without a reason, with {evidence.crashes} crashes"


def _repeats(evidence: Evidence, place: Position, taken: Sequence[Effect]) -> Iterator[str]:
    """Of one message."""
    row = evidence.row_at(place)
    if taken and row is None:
        yield f"{place}: the partner took it, and the ledger has no intent of it"
    elif row is not None and len(taken) > row.attempt:
        yield f"{place}: the partner took it {len(taken)} times, and the ledger knows of {row.attempt} attempts"
    untold = sum(
        one.reason is not None and (not one.settled or (one.state is State.PARKED and one.reason in OUTCOME_UNKNOWN))
        for one in evidence.results_of(place)
    )
    steps = len({one.operation for one in taken})  # a message may be an update and then a create
    unexplained = len(taken) - steps - untold
    if unexplained > evidence.crashes:
        yield f"{place}: sent again {unexplained} times without a reason, with {evidence.crashes} crashes"
    elif unexplained > 0 and (results := evidence.settled(place)) and not any(one.possible_duplicate for one in results):
        yield f"{place}: sent again after a crash, and its result is not flagged possible_duplicate"


def creates(evidence: Evidence) -> Iterator[str]:
    """Per patient, visit and coverage at most one, always."""
    created = Counter(thing for one in evidence.effects if one.effect == CREATED for thing in _created(evidence, one))
    for thing, number in created.items():
        if number > 1:
            yield f"{thing} was created {number} times"


def _created(evidence: Evidence, effect: Effect) -> Iterator[str]:
    """What a request made, each by what it is known by."""
    if not effect.written:
        yield f"patient {_patient_of(evidence, effect)}"
    for part in effect.written:
        if part.effect == CREATED:
            yield f"patient {_patient_of(evidence, effect)}" if part.type == "Patient" else f"{part.type} {' '.join(part.keys)}"


def order(evidence: Evidence) -> Iterator[str]:
    """Per patient, first effects are a subsequence of the source's order, and never an older version after a newer one.

    What was sent again stands late in the source and is old: a newer one that was parked may go after it, when it is replayed.
    """
    by_value = {message.value: message for message in evidence.traffic.messages if message.value}
    by_bundle = {bundle_id(evidence.route, value): message for value, message in by_value.items()}
    by_bundle |= {bundle: by_value[value] for bundle, value in evidence.resent.items() if value in by_value}
    places = {bundle: evidence.place_of(message.value or b"") for bundle, message in by_bundle.items()}
    for patient, history in _histories(evidence).items():
        bundles = list(dict.fromkeys(one.bundle_id for one in history if one.bundle_id in by_bundle))
        stands = [(place, by_bundle[bundle].minute) for bundle in bundles if (place := places[bundle])]
        for partition in {_partition(place) for place, _ in stands}:
            ages = [(place.offset, minute) for place, minute in stands if _partition(place) == partition]
            if any(after[0] < before[0] and after[1] <= before[1] for before, after in pairwise(ages)):
                yield f"patient {patient}: effects came in the order {[offset for offset, _ in ages]} of {partition}"
    for thing, history in _things(evidence).items():
        minutes = [by_bundle[one.bundle_id].minute for one in _collapsed(history) if one.bundle_id in by_bundle]
        if minutes != sorted(minutes):
            yield f"{thing}: an older version after a newer one (event times {minutes})"


def committed(evidence: Evidence) -> Iterator[str]:
    """At most the lowest offset that is neither final nor durably parked, with its result on its topic."""
    state = {row.position: row.state for row in evidence.rows}
    for partition, records in evidence.sent.items():
        at = evidence.committed.get(partition) or 0
        passed = [Position(partition.topic, partition.partition, offset) for offset in sorted(records) if offset < at]
        unsettled = [place for place in passed if state.get(place) not in SETTLED]
        if unsettled:
            yield f"{partition}: committed {at}, and {unsettled[0]} is {state.get(unsettled[0], 'not known at all')}"
        silent = [place for place in passed if not evidence.settled(place)]
        if silent:
            yield f"{partition}: committed {at}, and no result tells of {silent[0]}"
        lettered = {_source_of(letter) for letter in evidence.letters}
        if lost := [place for place in passed if state.get(place) is State.PARKED and place not in lettered]:
            yield f"{partition}: committed {at}, and {lost[0]} is parked without a dead letter"
        if evidence.over and at < evidence.bounds[partition][1]:
            yield f"{partition}: drained, and committed is {at} of {evidence.bounds[partition][1]}"


def silence(evidence: Evidence) -> Iterator[str]:
    """No canary outside the payload topics, plain or in another dress."""
    dresses = {dress: what for text, what in evidence.canaries.items() if len(text) >= SHORTEST for dress in _dresses(text)}
    folded = {place: text.casefold() for place, text in evidence.texts.items()}
    everything = "\0".join(folded.values())
    for dress, what in dresses.items():
        if dress in everything:
            yield from (f"{place} holds a {what}: {dress}" for place, text in folded.items() if dress in text)


def _dresses(text: str) -> set[str]:
    raw = text.encode()
    plain = {text, raw.decode("latin-1"), quote(text, safe=""), raw.hex(), base64.b64encode(raw).decode().rstrip("=")[:-1]}
    return {dress.casefold() for dress in plain}


Rule = Callable[[Evidence], Iterator[str]]
RULES: Final[tuple[Rule, ...]] = (conservation, no_loss, told, effects, creates, order, committed, silence)


def _partition(position: Position) -> TopicPartition:
    return TopicPartition(position.topic, position.partition)


def _source_of(letter: Received) -> Position:
    said = _own_headers(letter)
    return Position(said[f"{PREFIX}source_topic"], int(said[f"{PREFIX}source_partition"]), int(said[f"{PREFIX}source_offset"]))


def _patient_of(evidence: Evidence, effect: Effect) -> str:
    """The traffic's name of the patient; else the identifier as the partner has it."""
    identifiers = [one["value"] for one in (effect.patient or {}).get("identifier", ())] or [effect.identifier or "?"]
    return next((name for one in identifiers if (name := evidence.traffic.patient_of(one))), identifiers[0])


def _histories(evidence: Evidence) -> dict[str, list[Effect]]:
    """What changed each patient, in the order of taking effect."""
    found: dict[str, list[Effect]] = defaultdict(list)
    for one in evidence.effects:
        if one.effect != NOTHING:
            found[_patient_of(evidence, one)].append(one)
    return found


def _things(evidence: Evidence) -> dict[str, list[Effect]]:
    """What changed each patient, and, where the partner keeps them by themselves, each visit and coverage."""
    found: dict[str, list[Effect]] = defaultdict(list)
    for one in evidence.effects:
        for thing in [f"{part.type} {part.id}" for part in one.written]:
            found[thing].append(one)
        if one.effect != NOTHING and not one.written:
            found[f"patient {_patient_of(evidence, one)}"].append(one)
    return found


def _collapsed(history: Sequence[Effect]) -> list[Effect]:
    """The same bundle twice in a row changes nothing the second time."""
    return [
        one for before, one in zip([None, *history], history, strict=False) if before is None or before.bundle_id != one.bundle_id
    ]


def _some(offsets: Sequence[int]) -> str:
    shown = ", ".join(str(offset) for offset in offsets[:MOST_SHOWN])
    return f"{shown}, …" if len(offsets) > MOST_SHOWN else shown
