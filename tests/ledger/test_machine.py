"""begin, retry, settle, emitted and reopen in any order, against a dict: the ledger says what the dict says, and no promise breaks."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pipeline.errors import Refused
from pipeline.ledger.port import Held
from pipeline.ledger.sql import SqlLedger
from pipeline.model import Decision, Intent, Position
from schemas.outcomes import CLOSED, Reason, State
from tests.ledger.samples import PSEUDONYMS, ROUTE, Message, answer, begun, outcome, result_of, settled

PATIENTS: Final = ("CIP1", "CIP2")
ROUTES: Final = (ROUTE, "other")
MESSAGES: Final = st.builds(
    Message, offset=st.integers(0, 1), patient=st.just("CIP1"), route=st.sampled_from(ROUTES), event_ms=st.just(1_000)
) | st.builds(Message, offset=st.just(4), patient=st.just("CIP2"), route=st.sampled_from(ROUTES), event_ms=st.just(1_000))
SETTLED: Final = st.sampled_from(
    [
        (State.DELIVERED, None, Decision.DELIVERED),
        (State.PARKED, Reason.REJECTED_INVALID, Decision.PARKED),
        (State.PARKED, Reason.PROBE_CANNOT_TELL, None),
        (State.FILTERED, Reason.EVENT_NOT_FOR_PARTNER, None),
        (State.SUPERSEDED, Reason.STALE, None),
    ]
)


@dataclass
class Row:
    """What the model holds of one record."""

    state: State
    patient: str
    open: bool = False
    creating: bool = False
    emitted: bool = False
    intents: int = 0
    result_id: str | None = None


@dataclass
class Model:
    """The ledger as dicts."""

    rows: dict[tuple[str, Position], Row] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)

    def open_lane(self, message: Message) -> bool:
        """Whether another record has the lane."""
        return any(
            row.open and row.patient == message.patient and key[0] == message.route and key != (message.route, message.position)
            for key, row in self.rows.items()
        )

    def open_create(self, message: Message, *, in_flight: bool | None = None) -> bool:
        """Whether another record's create is open: in flight, parked or unknown, or either."""
        return any(
            row.creating
            and row.patient == message.patient
            and row.patient not in self.known
            and in_flight in (None, row.state is State.PENDING)
            and key != (message.route, message.position)
            for key, row in self.rows.items()
        )


class Ledgers(RuleBasedStateMachine):
    """SQLite, reopened at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model = Model()

    @initialize()
    def start(self) -> None:
        self.ledger = self._open()
        self.ledger.check()

    def _open(self) -> SqlLedger:
        return SqlLedger(f"sqlite:///{self.folder / 'ledger.sqlite'}", PSEUDONYMS)

    def _row(self, message: Message) -> Row | None:
        return self.model.rows.get((message.route, message.position))

    @rule(message=MESSAGES, intent=st.sampled_from(Intent), behind=st.booleans())
    def begin(self, message: Message, intent: Intent, *, behind: bool) -> None:
        """`behind`: another process has begun it since it was read."""
        row = self._row(message)
        intents = row.intents if row is not None else 0
        behind = behind and intents > 0
        after = intents - behind
        closed = row is not None and row.state in CLOSED
        held = (
            behind
            or self.model.open_lane(message)
            or (intent is Intent.CREATE and (self.model.open_create(message) or message.patient in self.model.known))
        )
        if not closed and not held:
            self.ledger.begin(begun(message, intent, after=after))
            creating = intent is Intent.CREATE or (row is not None and row.creating)
            self.model.rows[message.route, message.position] = Row(
                State.PENDING,
                message.patient,
                open=True,
                creating=creating,
                emitted=bool(row and row.emitted),
                intents=intents + 1,
                result_id=row.result_id if row else None,
            )
            return
        with pytest.raises(Refused) as caught:
            self.ledger.begin(begun(message, intent, after=after))
        assert closed or isinstance(caught.value, Held)

    @rule(message=MESSAGES, unknown=st.booleans())
    def retry(self, message: Message, unknown: bool) -> None:
        row = self._row(message)
        if row is None or not row.open:
            return
        state, told = (
            (State.UNKNOWN, answer(Decision.UNKNOWN, None)) if unknown else (State.PENDING, answer(Decision.FAILED, 503))
        )
        self.ledger.retry(
            message.route, message.position, outcome(message, state, Reason.TIMEOUT, answered=told), 5_500, row.intents
        )
        row.state = state
        if not unknown:
            row.open = row.creating = False

    @rule(message=MESSAGES, how=SETTLED)
    def settle(self, message: Message, how: tuple[State, Reason | None, Decision | None]) -> None:
        state, reason, decision = how
        row = self._row(message)
        settlement = settled(message, state, reason, answered=answer(decision) if decision else None)
        stays = row is not None and (
            row.result_id == settlement.result_id
            or row.state is State.DELIVERED
            or (row.state in CLOSED and state is not State.DELIVERED)
        )
        assert self.ledger.settle(settlement) is not stays
        if stays:
            return
        row = self.model.rows.setdefault((message.route, message.position), Row(state, message.patient))
        if row.creating and state is State.DELIVERED:
            self.model.known.add(message.patient)
            row.creating = False
        elif decision is not None:
            row.creating = False
        row.state, row.open, row.emitted, row.result_id = state, False, False, settlement.result_id

    @rule(message=MESSAGES, how=SETTLED)
    def emitted(self, message: Message, how: tuple[State, Reason | None, Decision | None]) -> None:
        """Of the result that stands there, or of one that another has replaced."""
        row = self._row(message)
        result = result_of(message, how[0])
        self.ledger.emitted(message.route, [result])
        if row is not None and row.result_id == result[1]:
            row.emitted = True

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = self._open()
        self.ledger.check()

    @invariant()
    def every_record_is_in_one_state_and_as_it_was_left(self) -> None:
        expected = {key: (row.state, row.open, row.emitted) for key, row in self.model.rows.items()}
        found = {key: self.ledger.seen(*key) for key in expected}
        assert {key: (one.state, one.open, one.result_emitted) for key, one in found.items() if one} == expected
        assert sum(number for states in self.ledger.counts().values() for number in states.values()) == len(expected)

    @invariant()
    def who_is_known_and_being_created_is_as_it_was_left(self) -> None:
        for patient in PATIENTS:
            message = Message(99, patient=patient)
            knowledge = self.ledger.knowledge(message.routed())
            assert [one.value for one in knowledge.known] == ([patient] if patient in self.model.known else [])
            assert (knowledge.open_create is not None) == self.model.open_create(message, in_flight=False)
            assert (knowledge.creating is not None) == self.model.open_create(message, in_flight=True)

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)


def test_the_ledger_does_as_the_model_says() -> None:
    run_state_machine_as_test(
        Ledgers,
        settings=settings(max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)),
    )
