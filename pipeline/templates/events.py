"""The events table: what each HL7 event does on each partner's routes. A total table; a gap is a mistake with a line, not a surprise."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Final, TypeVar

from pipeline.model import Action, Behind, EventRule, Kind, Subject
from pipeline.templates.lined import Lined, YamlMistake, load
from schemas.event import CONTRADICTING, Event
from schemas.outcomes import Reason

ADT_EVENTS: Final = tuple(f"ADT^A{number:02d}" for number in range(1, 63))
"""HL7 v2.8 table 0003: the ADT events A01 to A62; the table must have every one (A19, a query, and the deprecated ones too)."""
OTHER_TYPES: Final = (
    *("ACK", "BAR", "CRM", "DFT", "MDM", "MFN", "OMG", "OMI", "OML", "OMP", "ORL", "ORM", "ORU", "OUL", "PMU", "PPR"),
    *("QBP", "QRY", "RAS", "RDE", "RDS", "REF", "RGV", "RSP", "SIU", "SRM", "VXU"),
)
"""Message types (table 0076) that an ADT feed may bring along; each must have at least a row for all its events (`ORU^*`)."""
STATUSES: Final = (*"ABCDFINOPRSUVWXYZ", CONTRADICTING)
"""Of results (tables 0085 and 0123), and `?`: the message's results do not agree on one (Event.result_status)."""
RESULT_FIELDS: Final = frozenset({"reports", "observations", "status"})
"""What of the event is read where a row asks for a status."""
ROW_KEYS: Final = frozenset(
    {"events", "status", "kind", "subject", "action", "reason", "behind", "only", "older", "class", "why"}
)
KNOWN: Final = "known"
GOES: Final = "goes"
STALE: Final = "stale"
"""As where a row says nothing of what is older; a site says it where it means it."""
CLASS_FIELDS: Final = frozenset({"visit", "patient_class"})
"""What of the event is read where a row asks for a class of patients."""
BEHIND: Final = {Kind.SNAPSHOT: Behind.PASS, Kind.MERGE: Behind.PASS, Kind.CHANGE_OF_ID: Behind.PASS}
"""Where a row does not say: a snapshot goes ahead and makes the parked one needless; a merge is recorded here, and waiting would hold the survivor up
for the prior's mistake. What takes something back or moves it holds. A fact has to say."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the file, for one event."""

    rule: EventRule
    path: Path
    line: int
    says_older: bool = False
    """Whether it says what becomes of what is older."""

    @property
    def drops_older(self) -> bool:
        """Whether what is older than the last that was delivered does not go (stages/identify.py)."""
        may_be_stale = self.rule.action is Action.UPSERT and self.rule.kind in {Kind.SNAPSHOT, Kind.CANCEL}
        return may_be_stale and not self.rule.older_goes


class Rules(Mapping[str, EventRule]):
    """Rules by `TYPE^TRIGGER`; a type's row `TYPE^*` stands for its events that have none of their own.

    A rule of one status is `TYPE^TRIGGER/F`, of one class of patients `TYPE^TRIGGER:P`: `of` looks for it first.
    """

    def __init__(self, rules: Mapping[str, EventRule]) -> None:
        self._rules = dict(rules)
        self.by_status: Final = frozenset(event.partition("^")[0] for event in rules if "/" in event)
        """Types of which some row asks for a status."""
        self.by_class: Final = frozenset(event.partition(":")[0] for event in rules if ":" in event)
        """Events of which some row asks for a class of patients (PV1-2)."""

    def of(self, event: Event) -> EventRule | None:
        """The rule of an event: its own row of its status, its own row, its type's of its status, its type's. None: not even the type has one."""
        rules, name, kind = self._rules, f"{event.type}^{event.trigger}", f"{event.type}^*"
        if name in self.by_class and (rule := rules.get(f"{name}:{event.visit.patient_class if event.visit else ''}")):
            return rule
        if event.type not in self.by_status:
            return rules.get(name) or rules.get(kind)
        status = event.result_status
        keys = (f"{name}/{status}", name, f"{kind}/{status}", kind)
        return next((rules[key] for key in keys if key in rules), None)

    def __getitem__(self, event: str) -> EventRule:
        rule = self._rules.get(event)
        return rule if rule is not None else self._rules[f"{event.partition('^')[0]}^*"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)


def rules(partner: str, base: Path, site: Path | None = None) -> Rules:
    """A partner's rules; a site's rows replace those of the same event. YamlMistake with the line of the first mistake, or of a gap."""
    rows = read(base, partner)
    if site is not None:
        rows |= read(site, partner)
    for event in missing(rows):
        raise YamlMistake(base, 1, f"{partner} has no row for {event}")
    return Rules({event: row.rule for event, row in rows.items()})


def missing(rows: Mapping[str, Row]) -> list[str]:
    """Events that must have a row and have none."""
    return [event for event in ADT_EVENTS if event not in rows] + [f"{kind}^*" for kind in OTHER_TYPES if f"{kind}^*" not in rows]


def read(path: Path, partner: str) -> dict[str, Row]:
    """A file's rows for one partner."""
    tree = load(path)
    rows = tree.get(partner, [])
    if not isinstance(rows, list):
        raise YamlMistake(path, tree.line_of(partner), f"{partner} must be a list of rows")
    found: dict[str, Row] = {}
    for row in rows:
        for event, read_row in _row(row, path, tree.line_of(partner)):
            if event in found:
                raise YamlMistake(path, read_row.line, f"{event} stands twice, first on line {found[event].line}")
            found[event] = read_row
    return found


def _row(row: object, path: Path, line: int) -> Iterator[tuple[str, Row]]:
    if not isinstance(row, Lined):
        raise YamlMistake(path, line, "each row must be a mapping with events, kind, subject, action")
    for key in row:
        if key not in ROW_KEYS:
            raise YamlMistake(path, row.line_of(key), f"there is no {key} here; there is {', '.join(sorted(ROW_KEYS))}")
    events = row.get("events")
    if not isinstance(events, list) or not events:
        raise YamlMistake(path, row.line, "events must be a list, as [A01, A04] or [SIU^*]")
    kind, subject = _member(row, "kind", Kind, path), _member(row, "subject", Subject, path)
    action = _member(row, "action", Action, path)
    reason = _member(row, "reason", Reason, path) if row.get("reason") else None
    if (action in {Action.FILTER, Action.PARK}) != (reason is not None):
        raise YamlMistake(path, row.line, "filter and park need a reason, the other actions have none")
    behind = _member(row, "behind", Behind, path) if row.get("behind") else BEHIND.get(kind, Behind.HOLD)
    _weighed(row, action, subject, path)
    if kind is Kind.FACT and action is Action.UPSERT and not row.get("behind"):
        raise YamlMistake(path, row.line, "a fact that is sent must say behind: pass or hold, where an earlier one is parked")
    for event, status in product(events, _statuses(row, path)):
        name = str(event) if "^" in event else f"ADT^{event}"
        if name not in ADT_EVENTS and (name.startswith("ADT^") or name.partition("^")[0] not in OTHER_TYPES):
            raise YamlMistake(path, row.line_of("events"), f"HL7 has no event {event} here")
        rule = EventRule(
            name, kind, subject, action, reason, behind, only_known="only" in row, older_goes=row.get("older") == GOES
        )
        yield f"{name}{status}", Row(rule, path, row.line_of("events"), says_older="older" in row)


def _weighed(row: Lined, action: Action, subject: Subject, path: Path) -> None:
    """What a row asks of what the partner has."""
    if "only" in row and (row["only"] != KNOWN or action is not Action.UPSERT or subject is Subject.PATIENT):
        raise YamlMistake(path, row.line_of("only"), "only is known, of what is sent and is about something of the patient's")
    if "older" in row and (row["older"] not in {GOES, STALE} or action is not Action.UPSERT):
        raise YamlMistake(path, row.line_of("older"), "older is goes or stale, of what is sent")


def _statuses(row: Lined, path: Path) -> list[str]:
    """What stands behind an event's name for each status or class of the row: nothing where it does not ask for one."""
    if "class" in row:
        classes = row["class"]
        if "status" in row or not isinstance(classes, list) or not classes:
            raise YamlMistake(
                path, row.line_of("class"), "class must be a list of codes of table 0004, without a status beside it"
            )
        return [f":{one}" for one in classes]
    if "status" not in row:
        return [""]
    statuses = row["status"]
    if not isinstance(statuses, list) or not statuses or any(status not in STATUSES for status in statuses):
        raise YamlMistake(path, row.line_of("status"), 'status must be a list of letters of table 0085 or 0123, or "?"')
    return [f"/{status}" for status in statuses]


E = TypeVar("E", bound=StrEnum)


def _member(row: Lined, key: str, vocabulary: type[E], path: Path) -> E:
    said = row.get(key, "")
    found = next((member for member in vocabulary if member.value == said), None)
    if found is None:
        names = ", ".join(member.value for member in vocabulary)
        there = f"; there is {names}" if len(vocabulary) <= MOST_SHOWN else ""
        raise YamlMistake(path, row.line_of(key), f"there is no {key} {said}{there}")
    return found


MOST_SHOWN: Final = 10
