"""Results of one dossier in any order of times and statuses, through attempts and a real ledger, against a model of a few lines."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import flow
from pipeline.delivery.attempts import Delivery
from pipeline.model import Outcome, Reply, Request, Routed
from pipeline.stages.settle import settle
from pipeline.transport.port import landed
from schemas.outcomes import Reason, State
from tests.delivery.partner_script import House, Script
from tests.delivery.test_attempts import Desk
from tests.partners.roqua_responses_samples import oru, plan_with
from tests.stages.plans import received

MESSAGES = st.lists(
    st.tuples(st.sampled_from(["R-1", "R-2"]), st.sampled_from(["F", "C", "D", "P"]), st.integers(0, 3)), min_size=1, max_size=8
)
End = tuple[State, Reason | None]
WHERE = {Reason.RESULT_NOT_FINAL: "OBX-11", Reason.STALE: "MSH-7", Reason.RESULT_NOT_KNOWN: "OBR-3.1", None: None}


class Answering(Script):
    """Does what it is asked, and says so."""

    def exchange(self, request: Request) -> Reply:
        self.requests.append(request)
        made = b'{"id": 1, "questionnaire_key": "oq45"}'
        status, body = {"POST": (201, made), "PUT": (200, made), "DELETE": (204, b"")}[request.method]
        return Reply(status, {}, body, 12.0, 0, 12)


@dataclass
class Model:
    """What should become of each: a result's own times decide, and those of no other."""

    newest: dict[str, int] = field(default_factory=dict)

    def end(self, number: str, status: str, minute: int) -> End:
        if status == "P":
            return State.FILTERED, Reason.RESULT_NOT_FINAL
        if minute < self.newest.get(number, minute):
            return State.SUPERSEDED, Reason.STALE
        if status == "D" and number not in self.newest:
            return State.FILTERED, Reason.RESULT_NOT_KNOWN
        self.newest[number] = minute
        return State.DELIVERED, None


def sent(desk: Desk, value: bytes, offset: int) -> Outcome:
    """To its end, and into the ledger."""
    came = flow.read(received(value, offset), desk.plan)
    outcome = landed(Delivery(came, desk.plan, desk.hands()).step()) if isinstance(came, Routed) else came
    assert isinstance(outcome, Outcome)
    written = settle(outcome, desk.plan, results_topic="results", dead_letter_topic="letters", at_ms=desk.house.clock())
    desk.house.ledger.settle(written.settlement)
    return outcome


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(told=MESSAGES)
def test_nothing_older_goes_over_a_newer_one_of_its_result_and_no_other_result_counts(
    told: list[tuple[str, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = tmp_path_factory.mktemp("house")
    house = House(folder)
    try:
        house.script = Answering()
        desk, model = Desk(house), Model()
        desk.plan = plan_with()
        for offset, (number, status, minute) in enumerate(told):
            message = oru(number, status, control=f"M{offset}", when=f"202604191500{minute:02}+0200")
            outcome = sent(desk, message, offset)
            assert (outcome.state, outcome.reason) == model.end(number, status, minute)
            assert outcome.where == WHERE[outcome.reason]
    finally:
        house.close()
