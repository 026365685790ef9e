"""RoQua's verdict table: total, a success only where the body says so; and its error bodies in every shape, of which no value comes through."""

import itertools
import json
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import Decision, Reply
from pipeline.partners.roqua.answers import CODES, FIELDS, QUESTION, Sent, Told, read
from pipeline.partners.roqua.verdicts import TABLE, Flag, Operation, Said, row_of
from pipeline.partners.verdicts import Row, Signal
from schemas.outcomes import OUTCOME_UNKNOWN, Reason

D: TypeAlias = Decision
R: TypeAlias = Reason
O: TypeAlias = Operation  # noqa: E741 - as D and R
KEYWORDS = (frozenset[str](), frozenset({"blank"}), frozenset({"invalid"}))
LOGIN = b"<html><title>Inloggen</title></html>"
RESPONSE = {"id": 1, "questionnaire_key": "oq45", "values": {"v_1": 4}, "status": "completed"}
SENT = Sent("hosp-1", "oq45")


def reply(status: int, body: bytes = b"") -> Reply:
    return Reply(status, {}, body, elapsed_ms=12.0, sent_ms=1_790_000_000_000, answered_ms=1_790_000_000_012)


def told(body: object, status: int = 422, sent: Sent = SENT) -> Told:
    return read(reply(status, body if isinstance(body, bytes) else json.dumps(body).encode()), sent)


def row(operation: Operation, status: int, said: Said = Said.EMPTY, *flags: Flag, codes: frozenset[str] = frozenset()) -> Row:
    return row_of(Signal(operation, status, said, codes, frozenset(flags)))


# the table as a whole


def test_the_table_is_total_every_row_is_reached_and_only_what_its_operation_promises_is_delivered() -> None:
    flags = [frozenset(some) for length in range(len(Flag) + 1) for some in itertools.combinations(Flag, length)]
    statuses = [0, 100, *range(200, 206), *range(300, 309), *range(400, 427), 429, 451, *range(500, 506), 511, 599, 600, 999]
    used, find = set(), row_of.__wrapped__  # without its memory: each combination comes once
    for operation, status, body, some, codes in itertools.product(Operation, statuses, Said, flags, KEYWORDS):
        found = find(Signal(operation, status, body, codes, some))
        used.add(id(found))
        if found.decision is D.DELIVERED:
            assert (operation, status, body) in {
                *itertools.product([O.DOCUMENT], [200, 201, 204], [Said.DONE, Said.EMPTY]),
                *itertools.product([O.CREATE, O.UPDATE, O.PROBE], [200, 201], [Said.DONE]),
                *itertools.product([O.DELETE], [200, 204], [Said.DONE, Said.EMPTY]),
                *itertools.product([O.DELETE], [404, 410], set(Said)),
                *itertools.product([O.PROBE], [403], set(Said)),
            }
            assert (status, body) not in {(403, Said.PAGE), (404, Said.PAGE)}
        if found.decision is D.ABSENT:
            assert (operation in {O.UPDATE, O.PROBE}, status, body is Said.PAGE) == (True, 404, False)
        if found.decision is D.UNKNOWN:
            assert operation is O.PROBE or (operation is O.CREATE and Flag.UPSERT not in some)
        if status == 403 and operation is O.UPDATE:
            assert found.decision in {D.PARKED, D.HALTED}
    assert [one.line for one in TABLE if id(one) not in used] == []


def test_every_row_says_where_it_comes_from_and_why() -> None:
    assert all(one.line[:1] in "BCRI" or one.line.startswith("the rest") for one in TABLE)
    assert all(one.reason or one.decision in {D.DELIVERED, D.ABSENT} or 0 in one.statuses[0] for one in TABLE)
    assert all(one.reason in OUTCOME_UNKNOWN for one in TABLE if one.decision is D.UNKNOWN and one.reason)


@pytest.mark.parametrize("operation", [O.DOCUMENT, O.CREATE, O.UPDATE, O.DELETE])
def test_whose_fault_a_refusal_is(operation: Operation) -> None:
    cases = {
        (401, Said.EMPTY): (D.HALTED, R.REFUSED_CLIENT),
        (403, Said.PAGE): (D.HALTED, R.REFUSED_CLIENT),
        (404, Said.PAGE): (D.HALTED, R.REJECTED_NOT_SUPPORTED),
        (405, Said.EMPTY): (D.HALTED, R.REJECTED_NOT_SUPPORTED),
        (302, Said.PAGE): (D.HALTED, R.REJECTED_OTHER),
        (422, Said.ERRORS): (D.PARKED, R.REJECTED_INVALID),
        (409, Said.ERRORS): (D.PARKED, R.REJECTED_CONFLICT),
        (413, Said.EMPTY): (D.PARKED, R.REJECTED_TOO_LONG),
        (418, Said.EMPTY): (D.PARKED, R.REJECTED_OTHER),
        (200, Said.ERRORS): (D.PARKED, R.REJECTED_OTHER),
        (429, Said.EMPTY): (D.THROTTLED, R.THROTTLED),
        (503, Said.EMPTY): (D.FAILED, R.UNAVAILABLE),
    }
    for (status, body), verdict in cases.items():
        found = row(operation, status, body, Flag.UPSERT)
        assert (found.decision, found.reason) == verdict, status


@pytest.mark.parametrize(
    ("operation", "status", "verdict"),
    [
        (O.DOCUMENT, 403, (D.HALTED, R.REFUSED_CLIENT)),
        (O.CREATE, 403, (D.HALTED, R.REFUSED_CLIENT)),
        (O.UPDATE, 403, (D.PARKED, R.REJECTED_STORED)),
        (O.DELETE, 403, (D.PARKED, R.REJECTED_STORED)),
        (O.PROBE, 403, (D.DELIVERED, None)),
        (O.DOCUMENT, 404, (D.PARKED, R.TARGET_UNKNOWN)),
        (O.CREATE, 404, (D.PARKED, R.TARGET_UNKNOWN)),
        (O.UPDATE, 404, (D.ABSENT, R.REJECTED_NOT_FOUND)),
        (O.PROBE, 404, (D.ABSENT, None)),
        (O.DELETE, 404, (D.DELIVERED, None)),
    ],
)
def test_what_403_and_404_mean_is_a_matter_of_what_was_asked(
    operation: Operation, status: int, verdict: tuple[Decision, Reason | None]
) -> None:
    found = row(operation, status)
    assert (found.decision, found.reason) == verdict


@pytest.mark.parametrize("status", [0, 202, 206, 303, 408, 500, 502, 504, 599, 700])
def test_what_is_in_doubt_is_sent_again_after_a_pause_since_every_write_is_an_upsert(status: int) -> None:
    for operation in (O.DOCUMENT, O.CREATE, O.UPDATE, O.DELETE):
        found = row(operation, status, Said.OTHER, Flag.UPSERT)
        assert (found.decision, found.pause) == (D.FAILED, True)
    assert row(O.CREATE, status, Said.OTHER).decision is D.UNKNOWN


def test_a_503_that_says_when_waits_so_long_and_a_422_of_what_is_missing_is_required() -> None:
    assert row(O.CREATE, 503, Said.EMPTY, Flag.RETRY_AFTER).decision is D.THROTTLED
    assert row(O.CREATE, 422, Said.ERRORS, codes=frozenset({"blank"})).reason is R.REJECTED_REQUIRED


# bodies


@pytest.mark.parametrize(
    ("errors", "codes"),
    [
        ({"answer_data": ["blank"]}, ("answer_data.blank",)),
        ({"questionnaire_key": "missing", "external_id": "missing"}, ("questionnaire_key.missing", "external_id.missing")),
        ({"base": ["flag_does_not_exist"]}, ("base.flag_does_not_exist",)),
        ({"answer_data": {"v_1": ["invalid"], "v_z1": "blank"}}, ("answer_data.v_1.invalid", "answer_data.v_z1.blank")),
        ({"filters": {"questionnaire_keys": ["blank"]}}, ("filters.questionnaire_keys.blank",)),
        (["invalid"], ("invalid",)),
        ("invalid", ("invalid",)),
        ({"started_at": ["in_past", "in_past"]}, ("started_at.in_past",)),
        ({"answer_data": [{"v_1": "invalid"}]}, ("answer_data.v_1.invalid",)),
        ({"answer_data": ["Jansen heeft v_1 niet beantwoord"]}, ("answer_data",)),
        ({"jansen": ["de_vries"]}, ()),
        ({"jansen": ["blank"]}, ("blank",)),
        ({"v_1": ["blank"]}, ("blank",)),
    ],
    ids=str,
)
def test_a_422_gives_its_fields_and_keywords_in_both_shapes_and_nested(errors: object, codes: tuple[str, ...]) -> None:
    assert told({"errors": errors}) == Told(Said.ERRORS, codes)


def test_the_keywords_are_told_without_their_fields() -> None:
    assert told({"errors": {"answer_data": {"v_1": ["blank"]}, "base": ["?"]}}).keywords == {"blank"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", Said.EMPTY),
        (b"\xef\xbb\xbf \n", Said.EMPTY),
        (LOGIN, Said.PAGE),
        (b'{"id": 1', Said.PAGE),
        (b"[]", Said.OTHER),
        (b"\x0c {}", Said.OTHER),
        (b"1e999", Said.PAGE),
        (b"null", Said.OTHER),
        ({"error": "access denied"}, Said.ERRORS),
        ({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "invalid"}]}, Said.ERRORS),
        (RESPONSE, Said.DONE),
        (RESPONSE | {"external_id": None}, Said.DONE),
        (RESPONSE | {"external_id": "hosp-1"}, Said.DONE),
        (RESPONSE | {"errors": {}}, Said.DONE),
        (RESPONSE | {"external_id": "hosp-2"}, Said.OTHER),
        (RESPONSE | {"questionnaire_key": "honos_plus"}, Said.OTHER),
        ({"status": "ok"}, Said.OTHER),
    ],
    ids=str,
)
def test_what_a_body_is(body: object, said: Said) -> None:
    assert told(body, 200).said is said


def test_a_document_may_be_answered_with_any_json_but_an_error() -> None:
    assert told({"resourceType": "Bundle", "id": "B"}, 200, Sent()).said is Said.DONE
    assert told({"status": "ok"}, 200, Sent()).said is Said.DONE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["Jansen", "blank", "oq45", "missing", "hosp-1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["errors", "error", "answer_data", "v_1", "jansen", "questionnaire_key", "base"]), inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON, st.sampled_from(list(Operation)), st.sampled_from([200, 201, 204, 400, 403, 404, 422, 500]))
def test_any_body_has_a_verdict_and_no_word_of_it_comes_through(tree: Any, operation: Operation, status: int) -> None:  # noqa: ANN401 - any JSON
    found = told(tree, status)
    assert row(operation, status, found.said, codes=found.keywords).decision in Decision
    for code in found.codes:
        assert all(part in FIELDS | CODES or QUESTION.fullmatch(part) for part in code.split("."))


@given(st.binary(max_size=12) | st.text('{}[]"errors:0123 \x0c\ufeff', max_size=24).map(str.encode))
def test_any_bytes_are_something(body: bytes) -> None:
    assert told(body).said in Said
