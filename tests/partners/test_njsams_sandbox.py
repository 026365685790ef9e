"""NJSAMS's contract as we read it against the stand-in, over real TLS and with a real token: creates, updates, searches, and its own faults.

The stand-in shares no code with what it judges.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.model import Answer, Decision, Packed, Reply, Request, Subject
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from pipeline.settings_sections import TlsFiles
from pipeline.stages.send import probe, send
from pipeline.transport.https import HttpsTransport
from pipeline.transport.port import landed
from schemas.outcomes import Reason
from tests.partners.njsams_samples import adt, packed, plan_with

POLICY = [("MEDICAID", "P-1")]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NjsamsSandbox]:
    with NjsamsSandbox(tmp_path_factory.mktemp("njsams"), {"visible_after_hours": 0}) as sandbox:
        yield sandbox


class Line:
    """A transport with a token, and a client of its own for each test."""

    def __init__(self, sandbox: NjsamsSandbox) -> None:
        self.sandbox, self.plan = sandbox, plan_with()
        self.inner = HttpsTransport(sandbox.base_url, TlsFiles(ca=sandbox.files.ca), {})
        self.token = sandbox.token()
        self.client = f"T{uuid.uuid4().hex[:12]}"

    def exchange(self, request: Request) -> Reply:
        return self.inner.exchange(replace(request, headers=(*request.headers, ("Authorization", f"Bearer {self.token}"))))

    def knock(self) -> None:
        self.inner.knock()

    def close(self) -> None:
        self.inner.close()

    def pack(self, trigger: str = "A04", known: str | None = None, parts: Sequence[str | None] = (), **message: Any) -> Packed:  # noqa: ANN401
        given = {"policies": POLICY, "visit": f"V{self.client}", **message}
        return packed(adt(trigger, client=self.client, **given), self.plan, known=known, parts=parts)

    def send(self, sent: Packed, at: int = 0) -> Answer:
        return landed(send(sent, sent.requests[at], self, self.plan.partner, attempt=1, after_unknown=False))


@pytest.fixture
def line(house: NjsamsSandbox) -> Iterator[Line]:
    opened = Line(house)
    yield opened
    opened.close()
    house.clear_faults()


def ids(answer: Answer) -> dict[Subject, str]:
    return {one.identity.kind: str(one.partner_id) for one in answer.verdict.learned}


def test_a_create_is_taken_and_its_ids_are_what_an_update_goes_to(line: Line) -> None:
    created = line.send(line.pack())
    assert (created.verdict.decision, set(ids(created))) == (
        Decision.DELIVERED,
        {Subject.PATIENT, Subject.VISIT, Subject.COVERAGE},
    )

    there = ids(created)
    update = line.pack("A08", there[Subject.PATIENT], [there[Subject.VISIT], there[Subject.COVERAGE]])
    again = line.send(update)
    assert (again.request.method, again.verdict.decision, ids(again)) == ("PUT", Decision.DELIVERED, there)


def test_a_known_patient_with_a_new_visit_goes_in_two_steps(line: Line) -> None:
    there = ids(line.send(line.pack()))
    sent = line.pack("A01", there[Subject.PATIENT], [None, there[Subject.COVERAGE]], visit=f"W{line.client}")
    verdicts = [line.send(sent, at).verdict for at in range(len(sent.requests))]
    assert [one.decision for one in verdicts] == [Decision.DELIVERED] * 2


def test_each_part_of_a_create_is_found_by_its_search(line: Line) -> None:
    there = ids(line.send(line.pack()))
    known: dict[Subject, str] = {}
    decisions = []
    for _ in range(3):
        parts = [known.get(Subject.VISIT), known.get(Subject.COVERAGE)]
        sent = line.pack("A04", known.get(Subject.PATIENT), parts)
        question = line.plan.partner.probe(sent)
        assert question is not None
        answer = landed(probe(sent, question, line, line.plan.partner, attempt=2))
        decisions.append(answer.verdict.decision)
        known |= ids(answer)
    assert (decisions, known) == ([Decision.UNKNOWN, Decision.UNKNOWN, Decision.DELIVERED], there)


def test_what_was_never_sent_is_absent(line: Line) -> None:
    sent = line.pack()
    question = line.plan.partner.probe(sent)
    assert question is not None
    assert landed(probe(sent, question, line, line.plan.partner, attempt=2)).verdict.decision is Decision.ABSENT


def test_a_label_that_is_not_ours_is_this_messages(line: Line) -> None:
    verdict = line.send(line.pack(facility="CLINIC-A", service="SUD-OP")).verdict
    assert (verdict.decision, verdict.reason) == (Decision.PARKED, Reason.REFUSED_LABEL)


def test_a_token_that_is_no_good_is_nobodys_message(line: Line) -> None:
    line.token = "no-token"
    verdict = line.send(line.pack()).verdict
    assert (verdict.decision, verdict.reason) == (Decision.HALTED, Reason.REFUSED_CLIENT)


@pytest.mark.parametrize("fault", ["missing_entry", "swapped_entries", "no_location"])
def test_a_200_that_does_not_say_what_became_of_each_entry_is_no_success(line: Line, fault: str) -> None:
    line.sandbox.inject(fault)
    verdict = line.send(line.pack()).verdict
    assert (verdict.decision, verdict.learned) == (Decision.UNKNOWN, ())


def test_a_200_in_which_an_entry_failed_and_nothing_was_done_is_that_entrys_refusal(line: Line) -> None:
    line.sandbox.inject("failed_entry")
    verdict = line.send(line.pack()).verdict
    assert (verdict.decision, verdict.reason, verdict.learned) == (Decision.PARKED, Reason.REJECTED_INVALID, ())


def test_a_200_in_which_an_entry_failed_and_others_may_have_been_done_is_unknown(line: Line) -> None:
    line.sandbox.inject("failed_entry", effect=True)
    assert line.send(line.pack()).verdict.decision is Decision.UNKNOWN


def test_an_update_of_what_is_not_processed_yet_is_not_parked_at_once(line: Line) -> None:
    there = ids(line.send(line.pack(policies=[])))
    line.sandbox.inject("not_processed")
    verdict = line.send(line.pack("A08", there[Subject.PATIENT], [there[Subject.VISIT]], policies=[])).verdict
    assert (verdict.decision, verdict.reason) == (Decision.UNKNOWN, Reason.AWAITING_PROBE)


@pytest.mark.parametrize(
    "knob",
    [
        {"location": "relative"},
        {"location": "path"},
        {"location_history": "with"},
        {"create_status": 201},
        {"answer_media": "application/fhir+json"},
        {"search_type": "searchset"},
        {"update_id": "required"},
        {"accept": "checked"},
        {"profiles": "required"},
    ],
    ids=str,
)
def test_it_works_with_each_way_that_the_contract_leaves_open(line: Line, knob: dict[str, Any]) -> None:
    before = line.sandbox.knobs.model_dump()
    line.sandbox.set(**knob)
    try:
        there = ids(line.send(line.pack()))
        update = line.pack("A08", there[Subject.PATIENT], [there[Subject.VISIT], there[Subject.COVERAGE]])
        assert line.send(update).verdict.decision is Decision.DELIVERED
        question = line.plan.partner.probe(line.pack())
        assert question is not None
        assert (
            landed(probe(line.pack(), question, line, line.plan.partner, attempt=2)).verdict.learned[0].partner_id
            == there[Subject.PATIENT]
        )
    finally:
        line.sandbox.set(**{name: before[name] for name in knob})
