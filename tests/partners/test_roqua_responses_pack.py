"""RoQua's REST requests: which verb, which id, what of the message stands in the body, and how an attempt is judged. The golden pairs show the rest."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import NoAnswer
from pipeline.model import Decision, Identity, Intent, Packed, Reply, Request, Subject
from pipeline.partners.roqua.ids import result_id
from pipeline.partners.roqua.verdicts import Operation
from schemas.outcomes import Reason
from tests.partners.roqua_responses_samples import DOSSIER, oru, packed, plan_with

PLAN = plan_with()
OWN = result_id(DOSSIER, Identity(Subject.RESULT, "urn:emr-pipeline:filler-number:EPD", "R-77"))
RESPONSE = {"id": 1, "questionnaire_key": "oq45"}


def request_of(status: str = "F", *, known: bool = False, **settings: Any) -> Request:  # noqa: ANN401 - any setting
    plan = plan_with(**settings) if settings else PLAN
    return sent(status, known=known, plan=plan).requests[0]


def sent(status: str = "F", *, known: bool = False, plan: Any = PLAN) -> Packed:  # noqa: ANN401 - a plan
    return packed(oru(status=status), plan, **({"known": DOSSIER, "part": OWN} if known else {}))


def reply(status: int, body: object = b"", **headers: str) -> Reply:
    said = body if isinstance(body, bytes) else orjson.dumps(body)
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, said, 12.0, 0, 12)


def verdict_of(packed_: Packed, came: Reply | NoAnswer) -> tuple[Decision, Reason | None]:
    verdict = PLAN.partner.judge(packed_, packed_.requests[0], came, after_unknown=False)
    return verdict.decision, verdict.reason


@pytest.mark.parametrize(
    ("status", "known", "operation", "method", "path"),
    [
        ("F", False, Operation.CREATE, "POST", f"/api/v1/dossiers/{DOSSIER}/responses"),
        ("C", False, Operation.CREATE, "POST", f"/api/v1/dossiers/{DOSSIER}/responses"),
        ("F", True, Operation.UPDATE, "PUT", f"/api/v1/dossiers/{DOSSIER}/responses/{OWN}"),
        ("C", True, Operation.UPDATE, "PUT", f"/api/v1/dossiers/{DOSSIER}/responses/{OWN}"),
        ("D", True, Operation.DELETE, "DELETE", f"/api/v1/dossiers/{DOSSIER}/responses/{OWN}"),
        ("X", True, Operation.DELETE, "DELETE", f"/api/v1/dossiers/{DOSSIER}/responses/{OWN}"),
        ("W", True, Operation.DELETE, "DELETE", f"/api/v1/dossiers/{DOSSIER}/responses/{OWN}"),
    ],
)
def test_status_and_ledger_choose_the_operation(status: str, known: bool, operation: Operation, method: str, path: str) -> None:
    request = request_of(status, known=known)
    assert (request.operation, request.method, request.path, request.intent) == (operation, method, path, Intent.UPDATE)
    assert (request.subject, bool(request.body)) == (DOSSIER, operation is not Operation.DELETE)
    assert DOSSIER not in request.path_template


def test_a_correction_meets_the_same_external_id() -> None:
    first, correction = orjson.loads(request_of().body), request_of("C", known=True)
    assert first["external_id"] == OWN == correction.path.rpartition("/")[2]


def test_an_update_brings_the_four_that_the_page_lists() -> None:
    assert list(orjson.loads(request_of("C", known=True).body)) == [
        "questionnaire_key",
        "answer_data",
        "started_at",
        "filled_out_at",
    ]


def test_times_are_unix_seconds() -> None:
    body = orjson.loads(request_of().body)
    assert body["started_at"] == body["filled_out_at"] == datetime(2026, 4, 19, 12, 40, tzinfo=UTC).timestamp()


@given(
    st.sampled_from(["F", "C"]),
    st.dictionaries(st.integers(1, 16), st.integers(0, 4), min_size=1),
    st.from_regex(r"[A-Z0-9]{1,8}", fullmatch=True),
)
def test_every_answer_of_the_message_is_in_the_body_and_no_other(status: str, answers: dict[int, int], number: str) -> None:
    told = {f"OQ45_{question}": str(value) for question, value in answers.items()}
    body = orjson.loads(packed(oru(number, status, answers=told), PLAN).requests[0].body)
    assert body["answer_data"] == {f"v_{question}": f"a{value}" for question, value in answers.items()}
    assert body["external_id"] == result_id(DOSSIER, Identity(Subject.RESULT, "urn:emr-pipeline:filler-number:EPD", number))


def test_the_same_message_gives_the_same_bytes_and_a_resend_another_request_of_the_same_response() -> None:
    first = sent()
    (again,) = PLAN.partner.resent(first, "plan-1").requests
    assert first.requests == sent().requests
    assert (again.body, again.path) == (first.requests[0].body, first.requests[0].path)
    assert again.request_id != first.requests[0].request_id


# answers


def test_what_is_delivered_teaches_the_dossier_and_the_response_in_it() -> None:
    first = sent()
    verdict = PLAN.partner.judge(first, first.requests[0], reply(201, RESPONSE), after_unknown=False)
    assert verdict.decision is Decision.DELIVERED
    assert [(one.identity.kind, one.partner_id, one.belongs_to) for one in verdict.learned] == [
        (Subject.PATIENT, DOSSIER, None),
        (Subject.RESULT, OWN, DOSSIER),
    ]
    assert [PLAN.partner.public_partner_id(one.identity, one.partner_id) for one in verdict.learned] == [None, None]


@pytest.mark.parametrize(
    "body", [{"id": 1, "questionnaire_key": "honos_plus"}, RESPONSE | {"external_id": "another"}, {}, b"", b"<html>"]
)
def test_a_success_without_our_response_is_none(body: object) -> None:
    assert verdict_of(sent(), reply(201, body)) == (Decision.FAILED, Reason.ANSWER_UNREADABLE)


@pytest.mark.parametrize(
    ("told", "decision"), [(OWN, Decision.DELIVERED), (None, Decision.DELIVERED), ("another", Decision.FAILED)]
)
@pytest.mark.parametrize(("status", "known"), [("F", False), ("C", True)])
def test_a_success_says_our_external_id_or_none(status: str, known: bool, told: str | None, decision: Decision) -> None:
    """An update's body has it not: it is held against that of its path."""
    assert verdict_of(sent(status, known=known), reply(200, RESPONSE | {"external_id": told}))[0] is decision


@pytest.mark.parametrize(
    ("status", "known", "came", "verdict"),
    [
        ("C", True, reply(403), (Decision.PARKED, Reason.REJECTED_STORED)),
        ("C", True, reply(404), (Decision.ABSENT, Reason.REJECTED_NOT_FOUND)),
        ("F", False, reply(404), (Decision.PARKED, Reason.TARGET_UNKNOWN)),
        ("D", True, reply(404), (Decision.DELIVERED, None)),
        ("D", True, reply(204), (Decision.DELIVERED, None)),
        ("F", False, NoAnswer(Reason.TIMEOUT), (Decision.FAILED, Reason.TIMEOUT)),
    ],
)
def test_a_refusal_is_judged_by_what_was_asked(
    status: str,
    known: bool,
    came: Reply | NoAnswer,
    verdict: tuple[Decision, Reason | None],
) -> None:
    assert verdict_of(sent(status, known=known), came) == verdict


def test_an_issue_is_told_by_field_and_keyword() -> None:
    first = sent()
    came = reply(422, {"errors": {"answer_data": {"v_1": ["invalid"]}, "entered_by": "blank"}})
    verdict = PLAN.partner.judge(first, first.requests[0], came, after_unknown=False)
    assert (verdict.reason, verdict.issue_codes) == (Reason.REJECTED_REQUIRED, ("answer_data.v_1.invalid", "entered_by.blank"))


@pytest.mark.parametrize(("came", "wait"), [(NoAnswer(Reason.TIMEOUT), 10), (reply(502), 10), (reply(502, retry_after="30"), 30)])
def test_what_is_in_doubt_waits_before_it_is_sent_again(came: Reply | NoAnswer, wait: float) -> None:
    first = sent()
    verdict = PLAN.partner.judge(first, first.requests[0], came, after_unknown=False)
    assert (verdict.decision, verdict.retry_after) == (Decision.FAILED, wait)


# where a repeated POST may make a second one


@pytest.mark.parametrize("fresh", [True, False])
def test_an_end_before_any_answer_on_a_new_connection_may_be_a_refused_certificate(fresh: bool) -> None:
    first = sent()
    verdict = PLAN.partner.judge(first, first.requests[0], NoAnswer(Reason.CONNECTION_LOST, fresh=fresh), after_unknown=False)
    assert verdict.suspect is fresh


def test_without_upsert_a_new_one_is_a_create_whose_doubt_a_put_resolves() -> None:
    plan = plan_with(upsert=False)
    first = sent(plan=plan)
    (request,) = first.requests
    question = plan.partner.probe(first)
    assert question is not None
    assert (request.intent, plan.partner.judge(first, request, NoAnswer(Reason.TIMEOUT), after_unknown=False).decision) == (
        Intent.CREATE,
        Decision.UNKNOWN,
    )
    assert (question.method, question.path) == ("PUT", f"/api/v1/dossiers/{DOSSIER}/responses/{OWN}")
    answered = {
        status: plan.partner.judge_probe(first, question, reply(status, RESPONSE if status == 200 else b""))
        for status in (200, 403, 404)
    }
    assert [one.decision for one in answered.values()] == [Decision.DELIVERED, Decision.DELIVERED, Decision.ABSENT]
