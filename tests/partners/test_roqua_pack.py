"""RoQua's documents: the published shape to the letter, every answer in its place, what is not whole stays here, one id for ever."""

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import wiring
from pipeline.model import Decision, Intent, Outcome, Subject
from pipeline.settings import DEFAULTS, load_offline
from pipeline.wiring import MAPPINGS
from schemas.outcomes import Reason, State
from schemas.roqua import answer_code, question_code
from tests.partners.roqua_samples import (
    ITEMS,
    PUBLISHED,
    ROUTE,
    SCORES,
    answered,
    bundle,
    converted,
    example,
    obx,
    oru,
    packed,
    plan_with,
    reply,
    roqua,
)

PLAN = plan_with()
SYSTEMS = ("urn:oid:2.16.840.1.113883.2.4.3.11.999.7.6", "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.7")


def ended(message: bytes, **changes: Any) -> tuple[State, Reason | None, str | None]:  # noqa: ANN401 - any setting
    came = converted(message, plan_with(**changes))
    assert isinstance(came, Outcome), "it was sent"
    return came.state, came.reason, came.where


def sent(message: bytes, **settings: Any) -> dict[str, Any]:  # noqa: ANN401 - any setting
    (request,) = packed(message, plan_with(**settings)).requests
    return bundle(request)


def scores_of(document: dict[str, Any]) -> dict[str, int]:
    """Item to score, in the order of the document."""
    observations = [entry["resource"] for entry in document["entry"][1:]]
    return {one["id"].rpartition("-")[2]: one["valueQuantity"]["value"] for one in observations}


# the published shape


def test_the_answers_of_the_published_example_make_the_published_example_but_for_ids_and_times() -> None:
    document = sent(oru())
    subject, author = (document["entry"][0]["resource"][name] for name in ("subject", "author"))
    patient, practitioner = (one["reference"].partition("/")[2] for one in (subject, author[0]))
    assert document == example(document["id"], patient, practitioner, "2026-04-19T14:44:52.000+02:00", SYSTEMS)
    assert list(document) == ["id", "meta", "resourceType", "type", "entry"]


def test_no_id_that_refers_to_a_person_says_who() -> None:
    text = orjson.dumps(sent(oru(dossier="99887766", author="prof_77&B&C"))).decode()
    assert (text.count("99887766"), text.count("prof_77")) == (1, 1)  # the identifiers of subject and author


def test_it_goes_as_one_put_to_its_own_id_as_plain_json() -> None:
    (request,) = packed(oru(), PLAN).requests
    assert (request.method, request.path) == ("PUT", f"/medmij_fhir/Bundle/{bundle(request)['id']}")
    assert (request.path_template, request.intent) == ("/medmij_fhir/Bundle/{id}", Intent.UPDATE)
    assert dict(request.headers) == {"Content-Type": "application/json", "Accept": "application/json"}


@pytest.mark.parametrize(("item", "question", "display", "score", "answer"), PUBLISHED)
def test_the_tables_say_what_was_published_of_each_item(item: str, question: str, display: str, score: int, answer: str) -> None:
    assert (question_code(item), answer_code(item, score)) == (question, answer)
    table = PLAN.catalogue.table("honos-item").find(question)
    assert (getattr(table, "code", None), getattr(table, "display", None)) == (question, display)


def test_the_table_of_answers_is_the_formula_and_no_code_is_two_answers() -> None:
    rows = yaml.safe_load((MAPPINGS / "codes" / "honos-answer.yaml").read_text())["rows"]
    by_formula = {f"{question_code(item)} {score}": answer_code(item, score) for item in ITEMS for score in range(5)}
    assert {row["code"]: row["to"] for row in rows} == by_formula
    assert sorted(by_formula.values()) == [f"HA{number:02}" for number in range(1, 96)]


@given(st.lists(st.integers(0, 4), min_size=19, max_size=19), st.permutations(range(20)))
@settings(max_examples=50)
def test_whatever_the_answers_and_the_order_of_the_obx_the_document_has_them_in_the_order_of_the_items(
    scores: list[int], order: list[int]
) -> None:
    wanted = dict(zip(ITEMS, scores, strict=True))
    lines = answered(wanted)
    straight = packed(oru(lines), PLAN).requests[0].body
    (request,) = packed(oru(lines[at] for at in order), PLAN).requests
    assert request.body == straight
    document = bundle(request)
    assert list(scores_of(document).items()) == list(wanted.items())
    answers = [entry["resource"]["valueQuantity"]["code"] for entry in document["entry"][1:]]
    assert [divmod(int(code[2:]) - 1, 5) for code in answers] == list(enumerate(scores))


# what is not whole


@pytest.mark.parametrize("item", ITEMS)
def test_a_questionnaire_without_an_item_parks_and_says_which(item: str) -> None:
    left = {name: score for name, score in SCORES.items() if name != item}
    expected = (State.PARKED, Reason.PROFILE_REQUIRED, f"Bundle.entry (item {item})")
    assert ended(oru(answered(left))) == expected
    assert ended(oru(answered(SCORES | {item: ""}))) == expected


def test_all_items_that_are_missing_are_named() -> None:
    left = {name: score for name, score in SCORES.items() if name not in {"3", "8", "Q"}}
    assert ended(oru(answered(left))) == (State.PARKED, Reason.PROFILE_REQUIRED, "Bundle.entry (items 3, 8, Q)")


@pytest.mark.parametrize("value", ["5", "-1", "2.5", "1 2", "matig", "8", "99"])
def test_an_answer_that_is_none_parks_with_its_place(value: str) -> None:
    assert ended(oru(answered(SCORES | {"3": value}))) == (State.PARKED, Reason.PROFILE_INVALID, "OBX[3]-5")


def test_an_unknown_answer_parks_or_goes_with_the_code_that_the_setting_has() -> None:
    message = oru(answered(SCORES | {"3": 9, "Q": 9}))
    assert ended(message) == (State.PARKED, Reason.PROFILE_INVALID, "Observation (items 3, Q)")
    by_item = {
        entry["resource"]["id"][-2:]: entry["resource"] for entry in sent(message, unknown_answer={"code": "HA99"})["entry"]
    }
    assert [(by_item[name]["valueQuantity"]["value"], by_item[name]["valueQuantity"]["code"]) for name in ("-3", "-Q")] == [
        (9, "HA99"),
        (9, "HA99"),
    ]


def test_an_answer_that_stands_twice_parks() -> None:
    message = oru([*answered(), obx("HV03", "1")])
    assert ended(message) == (State.PARKED, Reason.PROFILE_INVALID, "Bundle.entry (item 3 more than once)")


@pytest.mark.parametrize(
    ("score", "setting", "goes"),
    [(0, "scored", True), (1, "scored", False), (0, "always", False), (4, "optional", True)],
)
def test_item_8_names_its_other_problem_where_the_setting_says_so(score: int, setting: str, goes: bool) -> None:
    message = oru(answered(SCORES | {"8": score}, problem=None))
    if goes:
        assert "component" not in sent(message, item_8=setting)["entry"][8]["resource"]
    else:
        assert ended(message, item_8=setting) == (State.PARKED, Reason.PROFILE_REQUIRED, "Observation (item 8)")


def test_another_problem_that_the_table_does_not_have_is_not_guessed() -> None:
    assert ended(oru(answered(problem="C"))) == (State.PARKED, Reason.PROFILE_REQUIRED, "Observation (item 8)")


@pytest.mark.parametrize(
    ("given", "reason", "where"),
    [
        ({"author": ""}, Reason.PROFILE_REQUIRED, "Composition.author (OBR-32.1.1)"),
        ({"name": ""}, Reason.PROFILE_REQUIRED, "Composition.subject.display (PID-5)"),
        ({"number": ""}, Reason.NUMBER_MISSING, "OBR-3"),
        ({"more": ["OBR|2||F-2^EPD"]}, Reason.SEVERAL_RESULTS, "OBR[2]"),
    ],
)
def test_what_a_document_cannot_do_without_parks(given: dict[str, Any], reason: Reason, where: str) -> None:
    assert ended(oru(**given)) == (State.PARKED, reason, where)


def test_a_result_that_is_no_honos_is_filtered() -> None:
    expected = (State.FILTERED, Reason.EVENT_NOT_FOR_PARTNER, "OBX-3")
    laboratory = [obx("2160-0", "88"), obx("718-7", "8.1")]
    assert ended(oru(laboratory, author="")) == expected
    assert ended(oru(laboratory, number="")) == expected
    assert ended(oru(laboratory, more=["OBR|2||L-2", "OBX|3|NM|718-7||8.1||||||F"])) == expected


def test_a_honos_beside_a_laboratorys_report_is_not_sent_by_halves() -> None:
    message = oru(more=["OBR|2||L-2", "OBX|21|NM|718-7||8.1||||||F"])
    assert ended(message) == (State.PARKED, Reason.SEVERAL_RESULTS, "OBR[2]")


def test_what_takes_a_questionnaire_back_need_not_repeat_its_answers() -> None:
    bare = oru([], status="X")
    assert ended(bare) == (State.FILTERED, Reason.RESULT_NOT_KNOWN, "OBR-3.1")
    came = converted(bare, PLAN, known="2075", parts=["30002596-395f-430f-aac8-abdb6de37104"])
    assert isinstance(came, Outcome)
    assert (came.state, came.reason) == (State.PARKED, Reason.PARTNER_HAS_NO_DELETE)


def test_a_questionnaire_without_any_answer_names_all_its_items() -> None:
    assert ended(oru([])) == (State.PARKED, Reason.PROFILE_REQUIRED, f"Bundle.entry (items {', '.join(ITEMS)})")


def test_what_is_not_an_item_is_left_out() -> None:
    assert sent(oru([obx("totaal", "23"), *answered(), obx("notes", "")])) == sent(oru())


def test_a_sites_own_codes_of_items_and_answers_are_rows_of_its_tables(tmp_path: Path) -> None:
    mappings = shutil.copytree(MAPPINGS, tmp_path / "mappings", ignore=shutil.ignore_patterns("golden"))
    codes = mappings / "sites" / "demo" / "codes"
    items = [{"code": f"N-{item}", "to": f"item-{item.lower()}"} for item in ITEMS]
    (codes / "honos-item.yaml").write_text(yaml.safe_dump({"table": "honos-item", "rows": items}))
    (codes / "honos-score.yaml").write_text(yaml.safe_dump({"table": "honos-score", "rows": [{"code": "mild", "to": "2"}]}))
    changed = load_offline(DEFAULTS).model_copy(update={"mappings": mappings})
    message = oru([*(obx(f"N-{item}", "mild") for item in ITEMS), obx("I8", "K")])

    (request,) = packed(message, wiring.plan_offline(changed, ROUTE)).requests

    assert scores_of(bundle(request)) == dict.fromkeys(ITEMS, 2)
    assert ended(message) == (State.PARKED, Reason.PROFILE_REQUIRED, f"Bundle.entry (items {', '.join(ITEMS)})")


# who rated, and when


def test_who_rated_is_read_where_the_setting_says() -> None:
    lines = [f"{line}||77^Bos^Corrie^^^dr." for line in answered()]
    (author,) = sent(oru(lines, author=""), author="OBX-16.1")["entry"][0]["resource"]["author"]
    assert (author["identifier"]["value"], author["display"]) == ("77", "Corrie Bos")


def test_who_rated_may_come_without_a_name() -> None:
    (author,) = sent(oru(author="prof_1"))["entry"][0]["resource"]["author"]
    assert sorted(author) == ["identifier", "reference"]


@pytest.mark.parametrize(
    ("when", "observed", "expected"),
    [
        ("20260419101500", "", "2026-04-19T10:15:00+02:00"),
        ("20260419101500-0500", "20260101", "2026-04-19T10:15:00-05:00"),
        ("", "20260119", "2026-01-19T00:00:00+01:00"),
        ("", "", "2026-04-19T14:44:52+02:00"),
    ],
)
def test_each_answer_says_when_with_an_offset(when: str, observed: str, expected: str) -> None:
    document = sent(oru(answered(when=when), observed=observed))
    assert {entry["resource"]["effectiveDateTime"] for entry in document["entry"][1:]} == {expected}
    assert len(document["entry"][0]["resource"]["date"]) == 10


@pytest.mark.parametrize(
    ("reported", "told", "expected"),
    [
        ("", "20260420080000+0200", "2026-04-20T08:00:00.000+02:00"),
        ("20260419", "20260420080000+0200", "2026-04-20T08:00:00.000+02:00"),
        ("", "", "1970-01-01T00:00:00.000+00:00"),
    ],
)
def test_it_was_updated_when_it_was_reported_else_sent_else_read(reported: str, told: str, expected: str) -> None:
    assert sent(oru(reported=reported, sent=told))["meta"]["lastUpdated"] == expected


# one id for ever


def test_a_correction_goes_over_what_it_corrects() -> None:
    corrected = oru(answered(SCORES | {"1": 3}, status="C"), status="C", control="H-2", sent="20260420090000+0200")
    first, second = sent(oru()), sent(corrected)
    assert first["id"] == second["id"]
    assert (scores_of(first)["1"], scores_of(second)["1"]) == (0, 3)


def test_another_questionnaire_dossier_or_sender_of_numbers_has_another_id() -> None:
    messages = [oru(), oru(number="F-2^EPD"), oru(number="F-1^LAB"), oru(dossier="2076"), oru(number="", placer="F-1^EPD")]
    assert len({sent(message)["id"] for message in messages}) == 5


def test_what_the_ledger_knows_it_by_is_kept() -> None:
    own = "30002596-395f-430f-aac8-abdb6de37104"
    (request,) = packed(oru(), PLAN, known="2075", parts=[own]).requests
    assert (bundle(request)["id"], request.path) == (own, f"/medmij_fhir/Bundle/{own}")


def test_bdl_9_is_a_setting() -> None:
    with_it = sent(oru(), bundle_identifier=True)
    assert with_it.pop("identifier") == {"system": "urn:emr-pipeline:document", "value": with_it["id"]}
    assert with_it == sent(oru())


def test_a_deliberate_resend_is_the_same_document_under_another_request_id() -> None:
    once = packed(oru(), PLAN)
    again, third = (PLAN.partner.resent(once, replay) for replay in ("replay-1", "replay-2"))
    assert again.requests[0].body == once.requests[0].body
    assert len({one.requests[0].request_id for one in (once, again, third)}) == 3
    assert PLAN.partner.of_attempt(once, once.requests[0], 2) == once.requests[0]


def test_what_is_in_doubt_is_the_same_put_again() -> None:
    once = packed(oru(), PLAN)
    question = PLAN.partner.probe(once)
    assert question is not None
    assert (question.body, question.path) == (once.requests[0].body, once.requests[0].path)


# answers


def test_what_is_delivered_is_learned_the_dossier_and_the_questionnaire_in_it() -> None:
    once = packed(oru(), PLAN)
    verdict = roqua().judge(once, once.requests[0], reply(201), after_unknown=False)
    assert verdict.decision is Decision.DELIVERED
    assert {(one.identity.kind, one.partner_id, one.belongs_to) for one in verdict.learned} == {
        (Subject.PATIENT, "2075", None),
        (Subject.RESULT, bundle(once.requests[0])["id"], "2075"),
    }
    assert roqua().public_partner_id(verdict.learned[0].identity, "2075") is None


@pytest.mark.parametrize(
    ("status", "body", "decision", "reason"),
    [
        (200, b'{"resourceType":"Bundle"}', Decision.DELIVERED, None),
        (204, b"", Decision.DELIVERED, None),
        (200, b"<html>login</html>", Decision.FAILED, Reason.ANSWER_UNREADABLE),
        (401, b"", Decision.HALTED, Reason.REFUSED_CLIENT),
        (403, b"", Decision.HALTED, Reason.REFUSED_CLIENT),
        (404, b"", Decision.PARKED, Reason.TARGET_UNKNOWN),
        (422, b'{"errors":{"base":["missing"]}}', Decision.PARKED, Reason.REJECTED_REQUIRED),
        (422, b'{"errors":{"entry":"invalid"}}', Decision.PARKED, Reason.REJECTED_INVALID),
        (429, b"", Decision.THROTTLED, Reason.THROTTLED),
        (500, b"", Decision.FAILED, Reason.PARTNER_EXCEPTION),
        (503, b"", Decision.FAILED, Reason.UNAVAILABLE),
    ],
)
def test_an_answer_means_what_the_table_says(status: int, body: bytes, decision: Decision, reason: Reason | None) -> None:
    once = packed(oru(), PLAN)
    verdict = roqua().judge(once, once.requests[0], reply(status, body), after_unknown=False)
    assert (verdict.decision, verdict.reason) == (decision, reason)
    assert bool(verdict.learned) is (decision is Decision.DELIVERED)


def test_a_403_on_what_roqua_has_may_be_of_that_document_alone_and_stops_nobody_else() -> None:
    first, again = packed(oru(), PLAN), packed(oru(), PLAN, known="2075", parts=["30002596-395f-430f-aac8-abdb6de37104"])
    verdicts = [roqua().judge(one, one.requests[0], reply(403), after_unknown=False) for one in (first, again)]
    assert [(one.decision, one.reason) for one in verdicts] == [
        (Decision.HALTED, Reason.REFUSED_CLIENT),
        (Decision.PARKED, Reason.REJECTED_STORED),
    ]
