"""RoQua's contract of documents as we read it against the stand-in, over real TLS and with its token: writes, corrections, refusals, faults.

The stand-in shares no code with what it judges.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline import wiring
from pipeline.commands.test import changed
from pipeline.model import Answer, Decision, Packed
from pipeline.sandbox.roqua.stand_in import RoquaSandbox
from pipeline.settings import DEFAULTS, Settings, load_offline
from pipeline.stages.send import send
from pipeline.transport.port import Transport, landed
from schemas.outcomes import Reason
from tests.partners.roqua_samples import ITEMS, ROUTE, SCORES, answered, bundle, oru, packed


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoquaSandbox]:
    with RoquaSandbox(tmp_path_factory.mktemp("roqua")) as sandbox:
        yield sandbox


def settings_of(sandbox: RoquaSandbox, **more: Any) -> Settings:  # noqa: ANN401 - any setting
    token = {"consumer_key": sandbox.token_key, "consumer_secret": {"file": sandbox.files.client_secret}}
    there = {"base_url": sandbox.base_url, "tls": {"ca": sandbox.files.ca}, "token": token}
    return changed(load_offline(DEFAULTS), "roqua", there | more)


class Line:
    """The transport that wiring makes, and a dossier of its own for each test."""

    def __init__(self, sandbox: RoquaSandbox, **settings: Any) -> None:  # noqa: ANN401 - any setting
        self.sandbox, self.settings = sandbox, settings_of(sandbox, **settings)
        self.transport: Transport = wiring.transport_of(self.settings, "roqua")
        self.plan = wiring.plan_offline(self.settings, ROUTE)
        self.dossier = f"T{uuid.uuid4().hex[:12]}"

    def pack(self, *, known: bool = False, **message: Any) -> Packed:  # noqa: ANN401 - see oru
        """Of the dossier's questionnaire; `known` as the ledger knows it once it was delivered."""
        value = oru(**{"dossier": self.dossier, **message})
        first = packed(value, self.plan)
        return packed(value, self.plan, known=self.dossier, parts=[bundle(first.requests[0])["id"]]) if known else first

    def send(self, sent: Packed) -> Answer:
        return landed(send(sent, sent.requests[0], self.transport, self.plan.partner, attempt=1, after_unknown=False))

    def stored(self) -> list[dict[str, Any]]:
        return self.sandbox.dossiers.get(self.dossier, [])


@pytest.fixture
def line(house: RoquaSandbox) -> Iterator[Line]:
    opened = Line(house)
    before = house.knobs.model_dump()
    yield opened
    opened.transport.close()
    house.clear_faults()
    house.set(**before)


def test_a_document_becomes_one_response_with_every_answer(line: Line) -> None:
    sent = line.pack()
    verdict = line.send(sent).verdict
    (stored,) = line.stored()
    assert verdict.decision is Decision.DELIVERED
    assert (stored["external_id"], stored["dossier"]) == (bundle(sent.requests[0])["id"], line.dossier)
    assert sorted(value for value in stored["values"].values() if isinstance(value, int)) == sorted(SCORES.values())


def test_a_correction_goes_over_it_and_a_resend_changes_nothing(line: Line) -> None:
    line.send(line.pack())
    (before,) = line.stored()
    corrected = oru(answered(SCORES | {"1": 3}, status="C"), status="C", dossier=line.dossier, control="H-2")
    again = packed(corrected, line.plan, known=line.dossier, parts=[before["external_id"]])
    assert line.send(again).verdict.decision is Decision.DELIVERED
    (after,) = line.stored()
    assert (after["id"], after["external_id"]) == (before["id"], before["external_id"])
    assert [name for name in before["values"] if before["values"][name] != after["values"][name]] != []

    assert line.send(line.plan.partner.resent(again, "replay-1")).verdict.decision is Decision.DELIVERED
    assert line.stored()[0]["values"] == after["values"]


@pytest.mark.parametrize("score", range(5))
def test_every_score_of_every_item_is_taken(line: Line, score: int) -> None:
    assert line.send(line.pack(lines=answered(dict.fromkeys(ITEMS, score)))).verdict.decision is Decision.DELIVERED


def test_a_token_that_is_no_good_is_nobodys_message(house: RoquaSandbox) -> None:
    secret = {"consumer_secret": {"file": house.files.client_secret}}
    for key in ("revoked", "fhir_reader"):
        line = Line(house, token={"consumer_key": key, **secret})
        verdict = line.send(line.pack()).verdict
        line.transport.close()
        assert (verdict.decision, verdict.reason) == (Decision.HALTED, Reason.REFUSED_CLIENT)


@pytest.mark.parametrize("body", ["outcome", "errors", "empty"])
@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"unknown_dossier": "not-found"}, Reason.TARGET_UNKNOWN),
        ({"unknown_dossier": "invalid"}, Reason.REJECTED_INVALID),
        ({"unknown_dossier": "invalid", "invalid_status": 400}, Reason.REJECTED_INVALID),
    ],
)
def test_a_dossier_that_roqua_does_not_have_parks_its_message_alone(
    line: Line, knobs: dict[str, Any], reason: Reason, body: str
) -> None:
    line.sandbox.set(known_dossiers=["somebody-else"], document_errors=body, **knobs)
    verdict = line.send(line.pack()).verdict
    assert (verdict.decision, verdict.reason) == (Decision.PARKED, reason)


@pytest.mark.parametrize(("again", "reason"), [("forbidden", Reason.REJECTED_STORED), ("conflict", Reason.REJECTED_CONFLICT)])
def test_where_a_document_may_not_be_changed_its_correction_parks(line: Line, again: str, reason: Reason) -> None:
    line.sandbox.set(document_again=again)
    assert line.send(line.pack()).verdict.decision is Decision.DELIVERED
    verdict = line.send(line.pack(known=True, control="H-2")).verdict
    assert (verdict.decision, verdict.reason) == (Decision.PARKED, reason)


def test_the_limiter_is_waited_for(line: Line) -> None:
    line.sandbox.set(rate_limit=1, rate_seconds=60, rate_retry_after="seconds")
    line.send(line.pack())
    verdict = line.send(line.pack()).verdict
    assert verdict.decision is Decision.THROTTLED
    assert verdict.retry_after is not None


@pytest.mark.parametrize("fault", ["500", "502", "503", "504", "202", "login_page", "drop"])
def test_what_is_in_doubt_or_was_not_done_is_the_same_again_and_then_there_is_one(line: Line, fault: str) -> None:
    line.sandbox.inject(fault, next=1)
    sent = line.pack()
    assert line.send(sent).verdict.decision is Decision.FAILED
    assert line.send(sent).verdict.decision is Decision.DELIVERED
    assert len(line.stored()) == 1


def test_an_error_beside_a_200_is_no_success(line: Line) -> None:
    line.sandbox.inject("error_in_200", next=1)
    verdict = line.send(line.pack()).verdict
    assert (verdict.decision, verdict.reason, line.stored()) == (Decision.PARKED, Reason.REJECTED_OTHER, [])


def test_a_lost_answer_is_the_same_put_again(line: Line) -> None:
    line.sandbox.inject("commit_then_drop", next=1)
    sent = line.pack()
    lost = line.send(sent)
    assert (lost.reply, lost.verdict.decision) == (None, Decision.FAILED)
    question = line.plan.partner.probe(sent)
    assert question is not None
    assert line.send(sent).verdict.decision is Decision.DELIVERED
    assert len(line.stored()) == 1


@pytest.mark.parametrize(
    "knobs",
    [
        {"document_created": 200},
        {"document_created": 204, "document_body": "empty"},
        {"document_updated": 204, "document_body": "empty"},
        {"document_body": "response"},
        {"document_body": "empty"},
        {"document_shape": "loose"},
        {"item8": "required"},
        {"answer_media": "application/fhir+json"},
    ],
    ids=str,
)
def test_it_works_with_each_way_that_the_contract_leaves_open(line: Line, knobs: dict[str, Any]) -> None:
    line.sandbox.set(**knobs)
    decisions = [line.send(line.pack(known=known)).verdict.decision for known in (False, True)]
    assert (decisions, len(line.stored())) == ([Decision.DELIVERED] * 2, 1)


def test_a_success_in_words_that_nobody_documented_is_not_believed_and_makes_no_second_one(line: Line) -> None:
    line.sandbox.set(document_body="text")
    verdicts = [line.send(line.pack()).verdict for _ in range(2)]
    assert [(one.decision, one.reason) for one in verdicts] == [(Decision.FAILED, Reason.ANSWER_UNREADABLE)] * 2
    assert len(line.stored()) == 1


def test_bdl_9s_identifier_goes_where_it_is_wanted(line: Line) -> None:
    line.sandbox.set(bundle_identifier="required")
    with_it = Line(line.sandbox, bundle_identifier=True)
    verdicts = [each.send(each.pack()).verdict for each in (line, with_it)]
    with_it.transport.close()
    assert [one.decision for one in verdicts] == [Decision.PARKED, Decision.DELIVERED]


def test_an_unknown_answer_goes_with_the_code_that_both_know(line: Line) -> None:
    line.sandbox.set(unknown_codes=["HA99"])
    with_it = Line(line.sandbox, unknown_answer={"code": "HA99"})
    verdict = with_it.send(with_it.pack(lines=answered(SCORES | {"3": 9}))).verdict
    with_it.transport.close()
    assert verdict.decision is Decision.DELIVERED
