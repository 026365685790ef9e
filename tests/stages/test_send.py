"""send and probe: one exchange, judged; what did not leave this machine is never unknown. The transport is a real one, or a fake of its port."""

import pytest

from pipeline.errors import NoAnswer, NotSent
from pipeline.model import Decision, Reply, Request
from pipeline.stages.send import probe, send
from pipeline.transport.port import landed
from schemas.outcomes import Reason
from tests.partners.samples import mapped, reply, roche

CREATED = b'{"resourceType":"Patient","id":"Bj6.1"}'


class Told:
    """A transport that answers as it was told, and remembers what it was asked."""

    def __init__(self, came: Reply | NotSent | NoAnswer) -> None:
        self.came = came
        self.asked: list[Request] = []

    def exchange(self, request: Request) -> Reply:
        self.asked.append(request)
        if isinstance(self.came, Reply):
            return self.came
        raise self.came

    def knock(self) -> None:
        """Not asked for here."""

    def close(self) -> None:
        """Nothing to close."""


def test_an_attempt_holds_what_went_out_what_came_back_and_what_it_means() -> None:
    partner, transport = roche(), Told(reply(200, CREATED))
    packed = partner.pack(mapped(partner))
    answer = landed(send(packed, packed.requests[0], transport, partner, attempt=3, after_unknown=False))
    assert transport.asked == [packed.requests[0]]
    assert (answer.request, answer.reply, answer.attempt, answer.probe) == (packed.requests[0], transport.came, 3, False)
    assert answer.verdict.decision is Decision.DELIVERED
    assert [one.partner_id for one in answer.verdict.learned] == ["Bj6.1"]


@pytest.mark.parametrize(
    ("reason", "decision"),
    [
        (Reason.NOT_SENT_DNS, Decision.FAILED),
        (Reason.NOT_SENT_CONNECT, Decision.FAILED),
        (Reason.NOT_SENT_TLS, Decision.FAILED),
        (Reason.NOT_SENT_CERTIFICATE, Decision.HALTED),
        (Reason.REFUSED_CERTIFICATE, Decision.HALTED),
        (Reason.NOT_SENT_TOKEN, Decision.FAILED),
        (Reason.REFUSED_TOKEN, Decision.HALTED),
        (Reason.LOGIN_NEEDED, Decision.HALTED),
    ],
)
def test_what_was_not_sent_is_tried_again_or_halts_and_is_never_unknown(reason: Reason, decision: Decision) -> None:
    partner = roche()
    packed = partner.pack(mapped(partner))
    for after_unknown in (False, True):
        answer = landed(send(packed, packed.requests[0], Told(NotSent(reason)), partner, attempt=1, after_unknown=after_unknown))
        assert (answer.reply, answer.verdict.decision, answer.verdict.reason) == (None, decision, reason)
    question = partner.probe(packed)
    assert question is not None
    assert landed(probe(packed, question, Told(NotSent(reason)), partner, attempt=1)).verdict.decision is decision


def test_no_answer_goes_to_the_partners_table() -> None:
    partner = roche()
    packed = partner.pack(mapped(partner))
    answer = landed(send(packed, packed.requests[0], Told(NoAnswer(Reason.TIMEOUT)), partner, attempt=1, after_unknown=False))
    assert (answer.reply, answer.verdict.decision, answer.verdict.reason) == (None, Decision.UNKNOWN, Reason.TIMEOUT)


def test_a_probe_is_judged_as_one() -> None:
    partner = roche()
    packed = partner.pack(mapped(partner))
    question = partner.probe(packed)
    assert question is not None
    answer = landed(probe(packed, question, Told(reply(404)), partner, attempt=2))
    assert (answer.request, answer.probe, answer.verdict.decision) == (question, True, Decision.ABSENT)


def test_each_attempt_has_an_id_of_its_own_where_the_setting_says_so() -> None:
    partner, transport = roche(request_id="per_attempt"), Told(reply(503))
    packed = partner.pack(mapped(partner))
    for attempt in (1, 2):
        landed(send(packed, packed.requests[0], transport, partner, attempt=attempt, after_unknown=False))
    assert len({asked.request_id for asked in transport.asked}) == 2
    assert [dict(asked.headers)["x-origin-request-id"] for asked in transport.asked] == [
        asked.request_id for asked in transport.asked
    ]
