"""NJSAMS's verdict table: total, a success only where every entry is one; entry by entry; and the searches for an unknown create."""

import itertools
from dataclasses import replace
from typing import Any, TypeAlias

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import NoAnswer
from pipeline.model import Decision, Learned, Packed, Reply, Request, Subject, Verdict
from pipeline.partners.njsams.partner import Njsams
from pipeline.partners.njsams.verdicts import SEARCHES, TABLE, WRITES, Flag, Operation, Said, row_of
from pipeline.partners.verdicts import Signal
from schemas.njsams import CLIENT_ID, LABEL
from schemas.outcomes import OUTCOME_UNKNOWN, Reason
from tests.partners.njsams_samples import (
    BASE,
    COVERAGE,
    ENCOUNTER,
    PATIENT,
    adt,
    answer,
    entries,
    found,
    packed,
    plan_with,
    reply,
)

D: TypeAlias = Decision
R: TypeAlias = Reason
PLAN = plan_with()
MESSAGE = adt(policies=[("MEDICAID", "P-1")])
CREATE = packed(MESSAGE, PLAN)
UPDATE = packed(MESSAGE, PLAN, known=PATIENT, parts=[ENCOUNTER, COVERAGE])
IDS = (f"{BASE}/Patient/p1", f"{BASE}/Encounter/e1", f"{BASE}/Coverage/c1")
LOGIN = b"<html><title>Log in</title></html>"


def outcome(code: str = "invalid", severity: str = "error") -> bytes:
    return orjson.dumps({"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": code}]})


def judge(sent: Packed, came: Reply | NoAnswer, *, after_unknown: bool = False) -> Verdict:
    return PLAN.partner.judge(sent, sent.requests[0], came, after_unknown=after_unknown)


def said(verdict: Verdict) -> tuple[Decision, Reason | None]:
    return verdict.decision, verdict.reason


# the table as a whole


def test_the_table_is_total_every_row_is_reached_and_only_a_2xx_that_says_done_or_found_is_delivered() -> None:
    flags = [frozenset(some) for length in range(len(Flag) + 1) for some in itertools.combinations(Flag, length)]
    statuses = [0, 100, *range(200, 206), *range(300, 309), *range(400, 427), 429, 451, *range(500, 506), 511, 599, 600, 999]
    used, find = set(), row_of.__wrapped__  # without its memory: each combination comes once
    for operation, status, body, some in itertools.product(Operation, statuses, Said, flags):
        row = find(Signal(operation, status, body, flags=some))
        used.add(id(row))
        if row.decision is D.DELIVERED:
            assert (status, body) in {(200, Said.DONE), (201, Said.DONE), (200, Said.FOUND)}
        if row.decision is D.ABSENT:
            assert (operation in SEARCHES, status, body) == (True, 200, Said.NONE)
        if row.decision is D.UNKNOWN and operation is Operation.UPDATE:
            assert (status in {404, 409}, row.reason) == (True, R.AWAITING_PROBE)
        if operation is Operation.CREATE and 500 <= status < 600 and status not in {501, 503}:
            assert row.decision is D.UNKNOWN
    assert [row.line for row in TABLE if id(row) not in used] == []


def test_every_row_says_where_it_comes_from_and_why() -> None:
    assert all(row.line[:1] in "BCRI" or row.line.startswith("the rest") for row in TABLE)
    assert all(row.reason or row.decision in {D.DELIVERED, D.ABSENT} or 0 in row.statuses[0] for row in TABLE)
    assert all(row.reason in OUTCOME_UNKNOWN for row in TABLE if row.decision is D.UNKNOWN and row.reason)


# a transaction-response, entry by entry


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    "locations",
    [
        IDS,
        tuple(one.removeprefix(f"{BASE}/") for one in IDS),
        tuple(f"{one}/_history/1" for one in IDS),
        tuple(f"/NJSAMS-FHIR-API{one.removeprefix(BASE)}" for one in IDS),
    ],
    ids=["absolute", "relative", "with a version", "path"],
)
def test_a_create_teaches_the_ids_of_the_patient_the_visit_and_the_coverage(status: int, locations: tuple[str, ...]) -> None:
    verdict = judge(CREATE, reply(status, answer(*locations)))
    identified = CREATE.mapped.identified
    visit, coverage = identified.routed.parts
    assert said(verdict) == (D.DELIVERED, None)
    assert verdict.learned == (
        Learned(identified.routed.identities[0], "p1", created_with=True),
        Learned(visit, "e1", belongs_to="p1"),
        Learned(coverage, "c1", belongs_to="p1"),
    )
    assert [(one.identity.kind, one.belongs_to) for one in verdict.learned] == [
        (Subject.PATIENT, None),
        (Subject.VISIT, "p1"),
        (Subject.COVERAGE, "p1"),
    ]


def test_an_update_confirms_the_ids_that_it_was_sent_to() -> None:
    verdict = judge(UPDATE, reply(200, answer(None, None, None, status="200 OK")))
    assert said(verdict) == (D.DELIVERED, None)
    assert [one.partner_id for one in verdict.learned] == [PATIENT, ENCOUNTER, COVERAGE]


@pytest.mark.parametrize(
    "body",
    [
        answer(*IDS[:2]),
        answer(*IDS, f"{BASE}/Coverage/c2"),
        answer(IDS[0], None, IDS[2]),
        answer(IDS[1], IDS[0], IDS[2]),
        answer(),
        orjson.dumps({"resourceType": "Bundle", "type": "searchset", "entry": orjson.loads(answer(*IDS))["entry"]}),
        LOGIN,
        b"",
        b'{"status": "ok"}',
    ],
    ids=["too few", "too many", "no location", "swapped", "none", "another bundle", "login", "empty", "json"],
)
def test_a_create_that_is_not_told_what_became_of_every_entry_is_unknown(body: bytes) -> None:
    assert said(judge(CREATE, reply(200, body))) == (D.UNKNOWN, R.ANSWER_UNREADABLE)
    assert judge(CREATE, reply(200, body)).learned == ()


def test_a_create_of_which_one_entry_failed_is_unknown_since_the_others_may_be_there() -> None:
    came = reply(200, answer(*IDS, statuses=["201 Created", "422 Unprocessable Entity", "201 Created"]))
    assert said(judge(CREATE, came)) == (D.UNKNOWN, R.ANSWER_UNREADABLE)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("422 Unprocessable Entity", (D.PARKED, R.REJECTED_INVALID)),
        ("503 Unavailable", (D.FAILED, R.UNAVAILABLE)),
        ("403 Forbidden", (D.PARKED, R.REFUSED_LABEL)),
    ],
)
def test_where_no_entry_was_done_the_whole_has_the_status_of_its_entries(status: str, verdict: tuple[Decision, Reason]) -> None:
    assert said(judge(CREATE, reply(200, answer(None, None, None, status=status)))) == verdict


def test_an_update_of_which_one_entry_failed_is_refused_as_that_entry_is() -> None:
    came = reply(200, answer(*IDS, statuses=["200 OK", "422 Unprocessable Entity", "200 OK"]))
    assert said(judge(UPDATE, came)) == (D.PARKED, R.REJECTED_INVALID)


@given(
    st.lists(st.sampled_from(["201 Created", "200 OK", "422 x", "500 x", "", "nonsense"]), min_size=3, max_size=3),
    st.sampled_from([CREATE, UPDATE]),
)
def test_no_answer_with_an_entry_that_is_not_done_is_delivered(statuses: list[str], sent: Packed) -> None:
    verdict = judge(sent, reply(200, answer(*IDS, statuses=statuses)))
    assert (verdict.decision is D.DELIVERED) == all(one.startswith("20") for one in statuses)
    assert bool(verdict.learned) == (verdict.decision is D.DELIVERED)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 999) | st.sampled_from(["Bundle", "transaction-response", "201 Created", "Patient/p1", "OperationOutcome"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["resourceType", "type", "entry", "response", "status", "location", "resource", "issue", "link"]), inner, max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip


@given(JSON, st.sampled_from([200, 201, 400, 403, 404, 409, 500]), st.sampled_from([CREATE, UPDATE]))
def test_any_body_has_a_verdict(tree: Any, status: int, sent: Packed) -> None:  # noqa: ANN401 - any JSON
    assert judge(sent, reply(status, orjson.dumps(tree))).decision in Decision
    question = PLAN.partner.probe(CREATE)
    assert question is not None
    assert PLAN.partner.judge_probe(CREATE, question, reply(status, orjson.dumps(tree))).decision is not D.DELIVERED


# refusals


@pytest.mark.parametrize("sent", [CREATE, UPDATE], ids=["create", "update"])
def test_whose_fault_a_refusal_is(sent: Packed) -> None:
    cases = {
        (401, b"", ""): (D.HALTED, R.REFUSED_CLIENT),
        (403, outcome("forbidden"), ""): (D.PARKED, R.REFUSED_LABEL),
        (403, b"", ""): (D.PARKED, R.REFUSED_LABEL),
        (403, b"", 'Bearer error="insufficient_scope"'): (D.HALTED, R.REFUSED_CLIENT),
        (403, LOGIN, ""): (D.HALTED, R.REFUSED_CLIENT),
        (400, outcome(), ""): (D.PARKED, R.REJECTED_INVALID),
        (422, outcome(), ""): (D.PARKED, R.REJECTED_INVALID),
        (412, outcome(), ""): (D.PARKED, R.REJECTED_CONFLICT),
        (413, b"", ""): (D.PARKED, R.REJECTED_TOO_LONG),
        (404, LOGIN, ""): (D.HALTED, R.REJECTED_NOT_SUPPORTED),
        (405, b"", ""): (D.HALTED, R.REJECTED_NOT_SUPPORTED),
        (415, b"", ""): (D.HALTED, R.REJECTED_NOT_SUPPORTED),
        (302, b"", ""): (D.HALTED, R.REJECTED_OTHER),
        (429, b"", ""): (D.THROTTLED, R.THROTTLED),
        (503, b"", ""): (D.FAILED, R.UNAVAILABLE),
        (200, outcome(), ""): (D.PARKED, R.REJECTED_OTHER),
    }
    for (status, body, challenge), verdict in cases.items():
        assert said(judge(sent, reply(status, body, www_authenticate=challenge))) == verdict, status


@pytest.mark.parametrize("status", [202, 204, 303, 408, 500, 502, 504, 599, 700])
def test_what_is_in_doubt_is_unknown_for_a_create_and_tried_again_after_a_pause_for_an_update(status: int) -> None:
    assert judge(CREATE, reply(status)).decision is D.UNKNOWN
    again = judge(UPDATE, reply(status))
    assert (again.decision, (again.retry_after or 0) > 0) == (D.FAILED, True)


def test_no_answer_is_the_same_doubt_with_the_transports_reason() -> None:
    lost = NoAnswer(R.TIMEOUT)
    assert said(judge(CREATE, lost)) == (D.UNKNOWN, R.TIMEOUT)
    assert said(judge(UPDATE, lost)) == (D.FAILED, R.TIMEOUT)


@pytest.mark.parametrize("status", [404, 409])
def test_an_update_of_what_may_not_be_processed_yet_waits_once_and_then_parks(status: int) -> None:
    first = judge(UPDATE, reply(status, outcome("not-found")))
    assert said(first) == (D.UNKNOWN, R.AWAITING_PROBE)
    assert said(judge(UPDATE, reply(status, outcome("not-found")), after_unknown=True)) == (D.PARKED, R.REJECTED_NOT_FOUND)


# the search for an unknown create


class Unknown:
    """A create whose answer was lost, with what is learned of it by and by."""

    def __init__(self, *, policies: bool = True, **settings: Any) -> None:  # noqa: ANN401 - any setting
        self.message = MESSAGE if policies else adt()
        self.plan = plan_with(**settings)
        partner = self.plan.partner
        assert isinstance(partner, Njsams)
        self.partner = partner
        self.known: dict[Subject, str] = {}

    @property
    def packed(self) -> Packed:
        parts = [self.known.get(Subject.VISIT), self.known.get(Subject.COVERAGE)]
        sent = packed(self.message, self.plan, known=self.known.get(Subject.PATIENT), parts=parts)
        return replace(sent, requests=tuple(one for one in sent.requests if one.step == 1))

    def question(self) -> Request:
        question = self.partner.probe(self.packed)
        assert question is not None
        return question

    def told(self, came: Reply) -> Verdict:
        verdict = self.partner.judge_probe(self.packed, self.question(), came)
        for one in verdict.learned:
            assert one.partner_id is not None
            self.known[one.identity.kind] = one.partner_id
        return verdict


def there(sent: Packed, kind: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    resource = next(one for one in sent.mapped.resources if one["resourceType"] == kind)
    return {**resource, "id": {"Patient": "p1", "Encounter": "e1", "Coverage": "c1"}[kind], **changes}


@pytest.mark.parametrize("kind", ["search-result", "searchset"])
def test_the_patient_is_searched_for_then_its_encounter_then_its_coverages_and_each_id_is_learned(kind: str) -> None:
    unknown = Unknown()
    asked = []
    verdicts = []
    for resource in ("Patient", "Encounter", "Coverage"):
        question = unknown.question()
        asked.append((question.method, question.path, question.path_template))
        verdicts.append(said(unknown.told(reply(200, found(there(CREATE, resource), kind=kind)))))
    assert asked == [
        ("GET", "/Patient?identifier=C-1001", "/Patient?identifier={id}"),
        ("GET", "/Encounter?subject=Patient/p1", "/Encounter?subject=Patient/{id}"),
        ("GET", "/Coverage?beneficiary=Patient/p1", "/Coverage?beneficiary=Patient/{id}"),
    ]
    assert verdicts == [(D.UNKNOWN, R.AWAITING_PROBE), (D.UNKNOWN, R.AWAITING_PROBE), (D.DELIVERED, None)]
    assert unknown.known == {Subject.PATIENT: "p1", Subject.VISIT: "e1", Subject.COVERAGE: "c1"}


def test_what_is_shown_without_its_label_is_found_too() -> None:
    assert Unknown().told(reply(200, found(there(CREATE, "Patient", meta={})))).learned


def test_a_policy_under_another_label_is_not_ours_and_not_nobodys() -> None:
    unknown = Unknown()
    for kind in ("Patient", "Encounter"):
        unknown.told(reply(200, found(there(CREATE, kind))))
    other = there(CREATE, "Coverage", meta={"security": [{"system": LABEL, "code": "999999"}]})
    assert said(unknown.told(reply(200, found(other)))) == (D.PARKED, R.PROBE_CANNOT_TELL)


def test_what_is_not_found_is_absent_or_by_the_setting_a_persons_business() -> None:
    none = reply(200, orjson.dumps({"resourceType": "Bundle", "type": "search-result"}))
    assert said(Unknown().told(none)) == (D.ABSENT, None)
    assert said(Unknown(not_found="park").told(none)) == (D.PARKED, R.PROBE_CANNOT_TELL)


@pytest.mark.parametrize(
    "came",
    [
        found(there(CREATE, "Patient", identifier=[{"system": "http://hl7.org/fhir/sid/us-ssn", "value": "C-1001"}])),
        found({"resourceType": "OperationOutcome", "issue": [{"severity": "information", "code": "informational"}]}),
    ],
    ids=["another system", "a hint"],
)
def test_somebody_elses_record_is_not_ours(came: bytes) -> None:
    assert Unknown().told(reply(200, came)).decision is D.ABSENT


@pytest.mark.parametrize(
    "came",
    [
        reply(200, found(there(CREATE, "Patient"), there(CREATE, "Patient", id="p2"))),
        reply(200, found(link=[{"relation": "next", "url": "x"}])),
        reply(200, found(there(CREATE, "Patient", id="a/b"))),
        reply(200, found(there(CREATE, "Patient", identifier=[{"value": "C-1001"}]))),
        reply(200, found(there(CREATE, "Patient", identifier=[{"system": CLIENT_ID, "value": "c-1001"}]))),
        reply(200, found(there(CREATE, "Patient", meta={"security": [{"system": LABEL, "code": "999999"}]}))),
        reply(400, outcome()),
        reply(403, outcome("forbidden")),
        reply(404, outcome("not-found")),
    ],
    ids=["two", "further pages", "a strange id", "no system", "another case", "another label", "400", "403", "404"],
)
def test_a_search_that_cannot_tell_parks_for_a_person(came: Reply) -> None:
    assert said(Unknown().told(came)) == (D.PARKED, R.PROBE_CANNOT_TELL)


@pytest.mark.parametrize("status", [202, 500, 504, 200])
def test_a_search_that_fails_leaves_it_unknown(status: int) -> None:
    assert Unknown().told(reply(status, LOGIN)).decision is D.UNKNOWN


def test_it_is_not_searched_for_before_it_can_be_seen_nor_where_the_setting_says_so() -> None:
    partner = Unknown(visibility_hours=24, probe_margin=600).partner
    assert partner.probe_after("bundle-create") == 24 * 3600 + 600
    assert Unknown(probe="off").partner.probe(CREATE) is None


def test_a_search_names_the_patient_in_its_path_alone_and_has_an_id_of_its_own() -> None:
    question = Unknown().question()
    assert question.request_id != CREATE.requests[0].request_id
    assert "C-1001" not in question.path_template + repr(question) + str(question.headers)


def test_nothing_of_an_answer_but_ids_and_codes_stands_in_a_verdict() -> None:
    body = orjson.dumps(
        {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "canary", "diagnostics": "canary"}]}
    )
    assert "canary" not in repr(judge(CREATE, reply(422, body)))
    assert entries(CREATE.requests[0])
    assert {Operation(one.operation) for one in (*CREATE.requests, *UPDATE.requests)} == WRITES
