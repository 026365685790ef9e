"""RoQua's REST API as we read it against the stand-in, over real TLS: Basic and JWT, each operation, each knob that the dossier leaves open, its faults.

The stand-in shares no code with what it judges. What took effect is read from its own log.
"""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from pipeline import wiring
from pipeline.model import Answer, Decision, Packed
from pipeline.partners.roqua.ids import result_id
from pipeline.partners.roqua.parts import result
from pipeline.sandbox.roqua.stand_in import RoquaSandbox
from pipeline.stages.send import probe, send
from pipeline.transport.port import landed
from schemas.outcomes import Reason
from tests.partners.roqua_responses_samples import ANSWERS, NAME, oru, packed, settings_with

D: TypeAlias = Decision
R: TypeAlias = Reason


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoquaSandbox]:
    with RoquaSandbox(tmp_path_factory.mktemp("roqua")) as sandbox:
        yield sandbox


class Line:
    """A partner, its transport as wiring makes it, and a dossier of its own for each test."""

    def __init__(self, sandbox: RoquaSandbox, **settings: Any) -> None:  # noqa: ANN401 - any setting
        files = sandbox.files
        basic = {"consumer_key": sandbox.token_key, "consumer_secret": {"file": sandbox.folder / "client-secret"}}
        place = {
            "base_url": sandbox.base_url,
            "tls": {"ca": files.ca},
            "token": basic,
            "write": {"connect": 30, "read": 30, "total": 45},
        }
        self.sandbox = sandbox
        self.settings = settings_with(**{**place, **settings})
        self.plan = wiring.plan_offline(self.settings, NAME)
        self.transport = wiring.transport_of(self.settings, NAME)
        self.dossier = f"T{uuid.uuid4().hex[:12]}"

    def pack(self, status: str = "F", *, known: bool = False, **message: Any) -> Packed:  # noqa: ANN401 - as oru
        value = oru(status=status, dossier=self.dossier, **message)
        first = packed(oru(dossier=self.dossier, **message), self.plan)
        own = result_id(self.dossier, result(first.mapped.identified))
        return packed(value, self.plan, known=self.dossier, part=own) if known else packed(value, self.plan)

    def send(self, sent: Packed) -> Answer:
        return landed(send(sent, sent.requests[0], self.transport, self.plan.partner, attempt=1, after_unknown=False))

    def said(self, sent: Packed) -> tuple[Decision, Reason | None]:
        verdict = self.send(sent).verdict
        return verdict.decision, verdict.reason

    def there(self) -> list[dict[str, Any]]:
        return self.sandbox.dossiers.get(self.dossier, [])


@pytest.fixture
def knobs(house: RoquaSandbox) -> Iterator[dict[str, Any]]:
    """Those that a test turns are turned back."""
    before = house.knobs.model_dump()
    yield before
    house.set(**before)
    house.clear_faults()


def jwt_of(house: RoquaSandbox, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - as RoquaJwt
    return {"token": None, "jwt": {"consumer_key": house.token_key, "file": house.files.client_key, "issuer": "hospital", **more}}


@pytest.fixture(params=["basic", "RS256", "RS512"])
def line(request: pytest.FixtureRequest, house: RoquaSandbox, knobs: dict[str, Any]) -> Iterator[Line]:  # noqa: ARG001 - turned back
    opened = Line(house, **({} if request.param == "basic" else jwt_of(house, algorithm=request.param)))
    yield opened
    opened.transport.close()


@pytest.fixture
def basic(house: RoquaSandbox, knobs: dict[str, Any]) -> Iterator[Line]:  # noqa: ARG001 - as above
    opened = Line(house)
    yield opened
    opened.transport.close()


def test_a_response_is_made_corrected_and_deleted(line: Line) -> None:
    made = line.pack()
    assert line.said(made) == (D.DELIVERED, None)
    (one,) = line.there()
    assert (one["questionnaire_key"], one["values"], one["external_id"]) == (
        "oq45",
        {"v_1": 3, "v_2": 0, "v_46": 4},
        result_id(line.dossier, result(made.mapped.identified)),
    )
    assert (one["completer_type"], one["started_at"], one["completed_at"]) == ("profess", 1776602400, 1776602400)

    assert line.said(line.pack("C", known=True, answers=ANSWERS | {"OQ45_1": "1"})) == (D.DELIVERED, None)
    assert [each["values"]["v_1"] for each in line.there()] == [1]

    assert line.said(line.pack("D", known=True)) == (D.DELIVERED, None)
    assert line.there() == []
    assert line.said(line.pack("D", known=True)) == (D.DELIVERED, None)


def test_the_same_post_twice_is_one_response(line: Line) -> None:
    assert [line.said(line.pack()) for _ in range(2)] == [(D.DELIVERED, None)] * 2
    assert len(line.there()) == 1


def test_two_dossiers_one_after_the_other_are_each_asked_for_by_a_token_of_their_own(line: Line) -> None:
    first = line.dossier
    for dossier in (first, f"{first}-b", first):
        line.dossier = dossier
        assert line.said(line.pack()) == (D.DELIVERED, None)


@pytest.mark.parametrize(
    ("turned", "status", "known", "verdict"),
    [
        ({"update_stored": "forbidden"}, "C", True, (D.PARKED, R.REJECTED_STORED)),
        ({"questionnaires": ("honos_plus",)}, "F", False, (D.PARKED, R.TARGET_UNKNOWN)),
        ({"questionnaires": ("honos_plus",)}, "C", True, (D.ABSENT, R.REJECTED_NOT_FOUND)),
        ({"known_dossiers": ("1",)}, "F", False, (D.PARKED, R.TARGET_UNKNOWN)),
        ({"incomplete": "invalid"}, "F", False, (D.PARKED, R.REJECTED_REQUIRED)),
        ({"incomplete": "invalid", "errors": "strings"}, "F", False, (D.PARKED, R.REJECTED_REQUIRED)),
        ({"incomplete": "invalid", "errors": "nested"}, "F", False, (D.PARKED, R.REJECTED_REQUIRED)),
        ({"incomplete": "invalid", "errors": "empty"}, "F", False, (D.PARKED, R.REJECTED_INVALID)),
        ({"incomplete": "invalid", "errors": "html"}, "F", False, (D.PARKED, R.REJECTED_INVALID)),
        ({"incomplete": "invalid", "invalid_status": 400}, "F", False, (D.PARKED, R.REJECTED_REQUIRED)),
        ({"tokens": ("token_key=responses_read",)}, "F", False, (D.HALTED, R.REFUSED_CLIENT)),
        ({"tokens": ("other=all",)}, "F", False, (D.HALTED, R.REFUSED_CLIENT)),
        ({"create_again_status": 200}, "F", False, (D.DELIVERED, None)),
        ({"external_id_shown": "absent"}, "F", False, (D.DELIVERED, None)),
        ({"respondent_parameter": "respondent"}, "F", False, (D.DELIVERED, None)),
    ],
    ids=str,
)
def test_what_the_dossier_leaves_open_has_a_verdict(
    basic: Line, turned: dict[str, Any], status: str, known: bool, verdict: tuple[Decision, Reason | None]
) -> None:
    if known or "create_again_status" in turned:
        assert basic.said(basic.pack()) == (D.DELIVERED, None)
    basic.sandbox.set(**turned)
    assert basic.said(basic.pack(status, known=known)) == verdict


@pytest.mark.parametrize(
    ("shape", "code"), [("arrays", "answer_data.missing"), ("strings", "answer_data.missing"), ("nested", "answer_data.missing")]
)
def test_the_fields_of_a_422_are_told_in_each_of_its_shapes(basic: Line, shape: str, code: str) -> None:
    basic.sandbox.set(incomplete="invalid", errors=shape)
    assert basic.send(basic.pack()).verdict.issue_codes == (code,)


def test_the_limiter_is_waited_for(basic: Line) -> None:
    basic.sandbox.set(rate_limit=1, rate_seconds=600, rate_retry_after="seconds")
    verdicts = [basic.send(basic.pack()).verdict for _ in range(2)]
    assert verdicts[1].decision is D.THROTTLED
    assert (verdicts[1].retry_after or 0) > 0


def test_a_respondent_that_the_tenant_no_longer_takes_parks(house: RoquaSandbox, knobs: dict[str, Any]) -> None:  # noqa: ARG001
    line = Line(house, respondent="parent", respondent_parameter="respondent_type")
    answer = line.send(line.pack())
    line.transport.close()
    assert (answer.verdict.reason, answer.verdict.issue_codes) == (R.REJECTED_INVALID, ("respondent_type.invalid",))


@pytest.mark.parametrize("fault", ["commit_then_drop", "truncated", "502", "login_page", "202"])
def test_what_is_in_doubt_is_sent_again_and_there_is_one_response(basic: Line, fault: str) -> None:
    basic.sandbox.inject(fault, next=1)
    sent = basic.pack()
    first = basic.send(sent).verdict
    assert (first.decision, (first.retry_after or 0) >= 10) == (D.FAILED, True)
    assert basic.said(sent) == (D.DELIVERED, None)
    assert len(basic.there()) == 1


def test_where_a_repeated_post_would_make_two_a_put_looks_for_the_lost_one(house: RoquaSandbox, knobs: dict[str, Any]) -> None:  # noqa: ARG001
    line = Line(house, upsert=False)
    house.set(create_again="twice")
    answers = []
    for number, fault in (("R-1", "commit_then_drop"), ("R-2", "drop")):
        house.inject(fault, next=1)
        sent = line.pack(number=number)
        assert line.send(sent).verdict.decision is D.UNKNOWN
        question = line.plan.partner.probe(sent)
        assert question is not None
        answers.append(landed(probe(sent, question, line.transport, line.plan.partner, attempt=2)).verdict.decision)
    line.transport.close()
    assert (answers, len(line.there())) == ([D.DELIVERED, D.ABSENT], 1)


# tokens of our own


@pytest.mark.parametrize(
    ("jwt", "turned"),
    [({"consumer_key": "another"}, {}), ({"issuer": "somebody"}, {"jwt_issuer": "hospital"}), ({}, {"jwt": "refused"})],
    ids=["kid", "iss", "not taken"],
)
def test_a_token_that_is_refused_is_nobodys_message(
    house: RoquaSandbox,
    knobs: dict[str, Any],  # noqa: ARG001 - turned back
    jwt: dict[str, Any],
    turned: dict[str, Any],
) -> None:
    house.set(**turned)
    line = Line(house, **jwt_of(house, **jwt))
    said = line.said(line.pack())
    line.transport.close()
    assert said == (D.HALTED, R.REFUSED_CLIENT)


def test_a_token_of_another_dossier_is_refused_and_the_log_has_neither(
    house: RoquaSandbox, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line(house, **jwt_of(house))
    sent = line.pack()
    wrong = replace(sent, requests=(replace(sent.requests[0], subject="another"),))
    answer = line.send(wrong)
    line.transport.close()
    assert (answer.verdict.decision, answer.verdict.reason) == (D.HALTED, R.REFUSED_CLIENT)
    assert line.dossier not in f"{caplog.text}{answer!r}"
