"""Roche's verdict table: total, never a success on an error, and row by row what the dossier says."""

import itertools
from typing import Any, TypeAlias

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import NoAnswer
from pipeline.model import Decision, Intent, Learned, Packed, Reply, Request, Resource, Verdict
from pipeline.partners.answers import ISSUE_TYPES, Form
from pipeline.partners.roche.partner import Roche
from pipeline.partners.roche.verdicts import TABLE, Flag, Operation, row_of
from pipeline.partners.verdicts import Signal
from schemas.outcomes import Reason
from schemas.roche import CIP
from tests.partners.samples import identified, mapped, reply, roche

D: TypeAlias = Decision
R: TypeAlias = Reason
LOGIN = b"<html><title>Log in</title></html>"
CERTIFICATE = b'{"status": "error", "detail": "Validation policy error: Certificate validation failed."}'
CLIENT = b'{"error": "Invalid Client"}'


def issue(*codes: str, severity: str = "error") -> bytes:
    return orjson.dumps({"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": code} for code in codes]})


def echo(partner_id: object = "Bj6.1Lq-hvb-28", value: str = "TEST0000000001") -> bytes:
    patient = {"resourceType": "Patient", "id": partner_id, "identifier": [{"system": CIP, "value": value}]}
    return orjson.dumps(
        {
            "resourceType": "Bundle",
            "id": partner_id,
            "type": "message",
            "entry": [{"resource": {"resourceType": "MessageHeader"}}, {"resource": patient}],
        }
    )


def asked(partner: Roche, operation: str) -> tuple[Packed, Request]:
    intent = Intent.UPDATE if operation == "update" else Intent.CREATE
    packed = partner.pack(mapped(partner, identified(intent=intent, partner_id="Known.1" if intent is Intent.UPDATE else None)))
    if operation == "probe":
        probe = partner.probe(packed)
        assert probe is not None
        return packed, probe
    return packed, packed.requests[0]


def judge(operation: str, came: Reply | NoAnswer, *, after_unknown: bool = False, **settings: Any) -> Verdict:  # noqa: ANN401
    partner = roche(**settings)
    packed, request = asked(partner, operation)
    if operation == "probe":
        return partner.judge_probe(packed, request, came)
    return partner.judge(packed, request, came, after_unknown=after_unknown)


# the table as a whole


def test_the_table_is_total() -> None:
    codes = [frozenset[str](), *(frozenset({code}) for code in sorted(ISSUE_TYPES))]
    flags = [frozenset(some) for length in range(5) for some in itertools.combinations(Flag, length)]
    statuses = [
        0,
        100,
        *range(200, 206),
        *range(300, 309),
        *range(400, 426),
        429,
        451,
        495,
        496,
        *range(500, 506),
        511,
        599,
        600,
        999,
    ]
    used = set()
    find = row_of.__wrapped__  # without its memory: each combination comes once
    for operation, status, form in itertools.product(Operation, statuses, Form):
        for some_codes, some_flags in itertools.product(codes, flags):
            if some_codes and form is not Form.ERROR:
                continue
            row = find(Signal(operation, status, form, some_codes, some_flags))
            used.add(id(row))
            if row.decision is Decision.DELIVERED and "duplicate" not in some_codes:
                assert 200 <= status < 300
                assert form not in {Form.ERROR, Form.JSON, Form.OTHER}
    unused = [row.line for row in TABLE if id(row) not in used]
    assert unused == []


def test_every_row_says_where_it_comes_from() -> None:
    assert all(row.line.partition(":")[0].strip()[:1] in "BCRI" or row.line.startswith("the rest") for row in TABLE)


def test_every_row_that_is_no_delivery_and_no_answer_has_a_reason() -> None:
    silent = [row.line for row in TABLE if row.reason is None]
    assert all(row.reason or row.decision in {D.DELIVERED, D.ABSENT} or 0 in row.statuses[0] for row in TABLE), silent


any_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(max_size=8)
    | st.sampled_from(["Patient", "Bundle", "OperationOutcome", "error"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resourceType", "entry", "resource", "issue", "severity", "code", "id", "identifier", "value", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
bodies = (
    st.binary(max_size=100)
    | any_json.map(orjson.dumps)
    | st.sampled_from([b"", LOGIN, CLIENT, CERTIFICATE, echo(), issue("required")])
)
PARTNERS = [roche(), roche(update_id="returned"), roche(api="v2"), roche(api="v2", v2_unknown="again")]


@given(
    st.sampled_from(PARTNERS),
    st.sampled_from(["create", "update"]),
    st.integers(100, 999),
    bodies,
    st.booleans(),
)
def test_any_answer_has_a_verdict_and_none_but_a_success_is_one(
    partner: Roche,
    operation: str,
    status: int,
    body: bytes,
    after_unknown: bool,
) -> None:
    packed, request = asked(partner, operation)
    verdict = partner.judge(packed, request, reply(status, body), after_unknown=after_unknown)
    if verdict.decision is D.DELIVERED:
        assert status in {200, 201, 204} or "duplicate" in verdict.issue_codes
        assert verdict.learned
    else:
        assert verdict.reason is not None
        assert verdict.learned == ()
    if operation == "update":
        assert verdict.decision is not D.EXISTS
        assert verdict.decision is not D.UNKNOWN or status == 202


@given(
    st.sampled_from(PARTNERS),
    st.sampled_from(["create", "update"]),
    st.integers(400, 999),
    st.lists(st.sampled_from(sorted(ISSUE_TYPES))),
)
def test_no_error_is_ever_delivered_on_a_first_try(partner: Roche, operation: str, status: int, codes: list[str]) -> None:
    packed, request = asked(partner, operation)
    verdict = partner.judge(packed, request, reply(status, issue(*codes)), after_unknown=False)
    assert verdict.decision is not D.DELIVERED


# row by row

CASES: list[tuple[int, bytes, tuple[D, R | None], tuple[D, R | None], tuple[D, R | None]]] = [
    # status, body, create, update, probe
    (200, echo(), (D.DELIVERED, None), (D.DELIVERED, None), (D.DELIVERED, None)),
    (201, echo(), (D.DELIVERED, None), (D.DELIVERED, None), (D.DELIVERED, None)),
    (200, b"", (D.UNKNOWN, R.ANSWER_UNREADABLE), (D.DELIVERED, None), (D.DELIVERED, None)),
    (204, b"", (D.UNKNOWN, R.ANSWER_UNREADABLE), (D.DELIVERED, None), (D.DELIVERED, None)),
    (202, b"", (D.UNKNOWN, R.AWAITING_PROBE), (D.UNKNOWN, R.AWAITING_PROBE), (D.UNKNOWN, R.AWAITING_PROBE)),
    (200, LOGIN, (D.UNKNOWN, R.ANSWER_UNREADABLE), (D.FAILED, R.ANSWER_UNREADABLE), (D.UNKNOWN, R.ANSWER_UNREADABLE)),
    (200, CLIENT, (D.UNKNOWN, R.ANSWER_UNREADABLE), (D.FAILED, R.ANSWER_UNREADABLE), (D.UNKNOWN, R.ANSWER_UNREADABLE)),
    (200, issue("required"), (D.PARKED, R.REJECTED_REQUIRED), (D.PARKED, R.REJECTED_REQUIRED), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (
        200,
        issue("exception"),
        (D.UNKNOWN, R.PARTNER_EXCEPTION),
        (D.FAILED, R.PARTNER_EXCEPTION),
        (D.UNKNOWN, R.PARTNER_EXCEPTION),
    ),
    (200, issue("nonsense"), (D.PARKED, R.REJECTED_OTHER), (D.PARKED, R.REJECTED_OTHER), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (
        200,
        issue("informational", severity="information"),
        (D.UNKNOWN, R.ANSWER_UNREADABLE),
        (D.DELIVERED, None),
        (D.DELIVERED, None),
    ),
    (200, issue("invalid", severity="warning"), (D.UNKNOWN, R.ANSWER_UNREADABLE), (D.DELIVERED, None), (D.DELIVERED, None)),
    (400, issue("required"), (D.PARKED, R.REJECTED_REQUIRED), (D.PARKED, R.REJECTED_REQUIRED), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (
        400,
        issue("structure"),
        (D.PARKED, R.REJECTED_STRUCTURE),
        (D.PARKED, R.REJECTED_STRUCTURE),
        (D.PARKED, R.PROBE_CANNOT_TELL),
    ),
    (400, issue("too-long"), (D.PARKED, R.REJECTED_TOO_LONG), (D.PARKED, R.REJECTED_TOO_LONG), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (422, issue("invalid"), (D.PARKED, R.REJECTED_INVALID), (D.PARKED, R.REJECTED_INVALID), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (422, b"", (D.PARKED, R.REJECTED_INVALID), (D.PARKED, R.REJECTED_INVALID), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (
        400,
        issue("not-supported"),
        (D.PARKED, R.REJECTED_NOT_SUPPORTED),
        (D.PARKED, R.REJECTED_NOT_SUPPORTED),
        (D.PARKED, R.PROBE_CANNOT_TELL),
    ),
    (400, issue("timeout"), (D.UNKNOWN, R.PARTNER_TIMEOUT), (D.FAILED, R.PARTNER_TIMEOUT), (D.UNKNOWN, R.PARTNER_TIMEOUT)),
    (400, issue("duplicate"), (D.EXISTS, R.REJECTED_DUPLICATE), (D.PARKED, R.REJECTED_CONFLICT), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (409, issue("duplicate"), (D.EXISTS, R.REJECTED_DUPLICATE), (D.PARKED, R.REJECTED_CONFLICT), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (409, b"", (D.PARKED, R.REJECTED_CONFLICT), (D.PARKED, R.REJECTED_CONFLICT), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (400, b"", (D.PARKED, R.REJECTED_OTHER), (D.PARKED, R.REJECTED_OTHER), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (413, b"", (D.PARKED, R.REJECTED_TOO_LONG), (D.PARKED, R.REJECTED_TOO_LONG), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (401, CLIENT, (D.HALTED, R.REFUSED_CLIENT), (D.HALTED, R.REFUSED_CLIENT), (D.HALTED, R.REFUSED_CLIENT)),
    (403, b"", (D.HALTED, R.REFUSED_CLIENT), (D.HALTED, R.REFUSED_CLIENT), (D.HALTED, R.REFUSED_CLIENT)),
    (403, CERTIFICATE, (D.HALTED, R.REFUSED_CERTIFICATE), (D.HALTED, R.REFUSED_CERTIFICATE), (D.HALTED, R.REFUSED_CERTIFICATE)),
    (
        400,
        b"<html>400 The SSL certificate error</html>",
        (D.HALTED, R.REFUSED_CERTIFICATE),
        (D.HALTED, R.REFUSED_CERTIFICATE),
        (D.HALTED, R.REFUSED_CERTIFICATE),
    ),
    (400, issue("forbidden"), (D.HALTED, R.REFUSED_CLIENT), (D.HALTED, R.REFUSED_CLIENT), (D.HALTED, R.REFUSED_CLIENT)),
    (404, issue("not-found"), (D.PARKED, R.REJECTED_OTHER), (D.ABSENT, R.REJECTED_NOT_FOUND), (D.ABSENT, None)),
    (404, b"", (D.HALTED, R.REJECTED_NOT_SUPPORTED), (D.ABSENT, R.REJECTED_NOT_FOUND), (D.ABSENT, None)),
    (404, LOGIN, *3 * ((D.HALTED, R.REJECTED_NOT_SUPPORTED),)),
    (410, b"", (D.PARKED, R.REJECTED_OTHER), (D.PARKED, R.REJECTED_NOT_FOUND), (D.PARKED, R.PROBE_CANNOT_TELL)),
    (405, b"", *3 * ((D.HALTED, R.REJECTED_NOT_SUPPORTED),)),
    (415, b"", *3 * ((D.HALTED, R.REJECTED_NOT_SUPPORTED),)),
    (501, b"", *3 * ((D.HALTED, R.REJECTED_NOT_SUPPORTED),)),
    (429, b"", *3 * ((D.THROTTLED, R.THROTTLED),)),
    (503, b"", *3 * ((D.FAILED, R.UNAVAILABLE),)),
    (503, issue("timeout"), (D.UNKNOWN, R.PARTNER_TIMEOUT), (D.FAILED, R.PARTNER_TIMEOUT), (D.UNKNOWN, R.PARTNER_TIMEOUT)),
    (
        500,
        issue("exception"),
        (D.UNKNOWN, R.PARTNER_EXCEPTION),
        (D.FAILED, R.PARTNER_EXCEPTION),
        (D.UNKNOWN, R.PARTNER_EXCEPTION),
    ),
    (500, issue("timeout"), (D.UNKNOWN, R.PARTNER_TIMEOUT), (D.FAILED, R.PARTNER_TIMEOUT), (D.UNKNOWN, R.PARTNER_TIMEOUT)),
    (502, LOGIN, (D.UNKNOWN, R.PARTNER_EXCEPTION), (D.FAILED, R.PARTNER_EXCEPTION), (D.UNKNOWN, R.PARTNER_EXCEPTION)),
    (504, LOGIN, (D.UNKNOWN, R.PARTNER_TIMEOUT), (D.FAILED, R.PARTNER_TIMEOUT), (D.UNKNOWN, R.PARTNER_TIMEOUT)),
    (302, b"", *3 * ((D.HALTED, R.REJECTED_OTHER),)),
    (303, b"", (D.UNKNOWN, R.ANSWER_UNREADABLE), (D.FAILED, R.ANSWER_UNREADABLE), (D.UNKNOWN, R.ANSWER_UNREADABLE)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1][:60].decode()}")
def test_each_answer_means_what_the_dossier_says(
    case: tuple[int, bytes, tuple[D, R | None], tuple[D, R | None], tuple[D, R | None]],
) -> None:
    status, body, *expected = case
    verdicts = [judge(operation, reply(status, body)) for operation in ("create", "update", "probe")]
    assert [(verdict.decision, verdict.reason) for verdict in verdicts] == expected


@pytest.mark.parametrize("reason", [R.TIMEOUT, R.CONNECTION_LOST, R.ANSWER_TOO_LARGE])
@pytest.mark.parametrize(("operation", "decision"), [("create", D.UNKNOWN), ("update", D.FAILED), ("probe", D.UNKNOWN)])
def test_no_answer_is_unknown_for_a_create_and_tried_again_for_an_update(
    reason: Reason, operation: str, decision: Decision
) -> None:
    verdict = judge(operation, NoAnswer(reason))
    assert (verdict.decision, verdict.reason, verdict.suspect) == (decision, reason, False)


def test_an_update_in_doubt_waits_until_the_first_one_is_over() -> None:
    assert judge("update", NoAnswer(R.CONNECTION_LOST)).retry_after == 4.0
    assert judge("update", reply(504, b"")).retry_after == 4.0
    assert judge("update", reply(503, b"")).retry_after is None


def test_a_fresh_connection_that_ended_before_any_answer_is_suspect() -> None:
    assert judge("create", NoAnswer(R.CONNECTION_LOST, fresh=True)).suspect


@pytest.mark.parametrize(("said", "seconds"), [("7", 7.0), ("99999", 300.0), ("soon", None)])
def test_we_wait_as_told(said: str, seconds: float | None) -> None:
    throttled = judge("create", reply(429, retry_after=said))
    assert (throttled.decision, throttled.retry_after) == (D.THROTTLED, seconds)
    unavailable = judge("create", reply(503, retry_after=said))
    assert (unavailable.decision, unavailable.retry_after) == (D.THROTTLED if seconds else D.FAILED, seconds)


@pytest.mark.parametrize(
    ("settings", "after_unknown", "decision"),
    [
        ({}, False, D.EXISTS),
        ({}, True, D.EXISTS),
        ({"update_id": "returned"}, False, D.PARKED),
        ({"api": "v2"}, False, D.PARKED),
        ({"api": "v2"}, True, D.PARKED),
        ({"api": "v2", "v2_unknown": "again"}, False, D.PARKED),
        ({"api": "v2", "v2_unknown": "again"}, True, D.DELIVERED),
    ],
)
def test_a_duplicate_means_what_the_settings_can_do_with_it(
    settings: dict[str, Any], decision: Decision, *, after_unknown: bool
) -> None:
    verdict = judge("create", reply(400, issue("duplicate")), after_unknown=after_unknown, **settings)
    assert verdict.decision is decision
    assert verdict.issue_codes == ("duplicate",)


# what is learned


def learned(operation: str, body: bytes, **settings: Any) -> tuple[Learned, ...]:  # noqa: ANN401
    return judge(operation, reply(200, body), **settings).learned


def bundle_with(*entries: Resource) -> bytes:
    return orjson.dumps({"resourceType": "Bundle", "type": "message", "entry": [{"resource": entry} for entry in entries]})


@pytest.mark.parametrize("settings", [{}, {"api": "v2"}])
def test_the_partners_id_is_taken_from_the_patient_entry_wherever_it_stands(settings: dict[str, Any]) -> None:
    patient: Resource = {"resourceType": "Patient", "id": "Bj6.1", "identifier": [{"system": CIP, "value": "TEST0000000001"}]}
    header: Resource = {"resourceType": "MessageHeader", "id": "no"}
    identity = identified().identity
    assert identity is not None
    assert learned("create", bundle_with(patient, header), **settings) == (Learned(identity, "Bj6.1"),)
    assert learned("create", bundle_with(header, header, patient), **settings) == (Learned(identity, "Bj6.1"),)
    assert learned("create", orjson.dumps(patient), **settings) == (Learned(identity, "Bj6.1"),)


def test_an_update_with_an_empty_answer_keeps_the_id_that_is_known() -> None:
    assert [one.partner_id for one in learned("update", b"")] == ["Known.1"]


@pytest.mark.parametrize("partner_id", [None, "", 7, ["x"], "with space", "a\nb", 201 * "x", "é"])
def test_an_id_that_can_be_none_is_not_learned(partner_id: object) -> None:
    assert [one.partner_id for one in learned("create", echo(partner_id), api="v2")] == [None]
    assert [one.partner_id for one in learned("create", echo(partner_id), update_id="returned")] == [None]


def test_where_the_business_id_is_the_partners_a_create_that_was_told_no_id_is_known_by_it() -> None:
    """So that all numbers that went out with it are one patient's in a merge, whichever of them it names."""
    assert [one.partner_id for one in learned("probe", b"")] == ["TEST0000000001"]
    assert [one.partner_id for one in learned("create", echo(None))] == ["TEST0000000001"]


@pytest.mark.parametrize(("operation", "decision"), [("create", D.UNKNOWN), ("update", D.FAILED), ("probe", D.UNKNOWN)])
def test_somebody_elses_patient_is_no_success(operation: str, decision: Decision) -> None:
    verdict = judge(operation, reply(200, echo(value="SOMEBODY-ELSE")))
    assert (verdict.decision, verdict.reason, verdict.learned) == (decision, R.ANSWER_UNREADABLE, ())


def test_ours_is_found_among_several_patients() -> None:
    other: Resource = {"resourceType": "Patient", "id": "other", "identifier": [{"value": "SOMEBODY-ELSE"}]}
    ours: Resource = {"resourceType": "Patient", "id": "ours", "identifier": [{"value": " test0000000001"}]}
    assert [one.partner_id for one in learned("create", bundle_with(other, ours))] == ["ours"]


def test_no_verdict_shows_an_id_or_a_text_of_the_answer() -> None:
    verdict = judge("create", reply(200, echo("canary-id")))
    assert verdict.learned[0].partner_id == "canary-id"
    assert "canary" not in repr(verdict)
    assert "TEST0000000001" not in repr(verdict)
