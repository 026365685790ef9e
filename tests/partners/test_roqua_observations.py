"""A response of RoQua as FHIR Observations: what becomes of each part of it, and what holds of any."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.fhir.validator import Release, Validator
from pipeline.partners.roqua.observations import FLAGS, STATUSES, Origin, Turned, observations_of
from tests.partners.roqua_recorded import BASE, CAPABILITY, completed, invited

STU3 = Validator(Release.STU3)
HERE = Origin(BASE, "2075", "urn:oid:2.16.840.1.113883.2.4.3.11.999")


def turned(response: dict[str, Any], **how: bool) -> Turned:
    made = observations_of(response, HERE, **how)
    assert [STU3.check(one) for one in made.observations] == [()] * len(made.observations)
    return made


def by_code(made: Turned) -> dict[str, dict[str, Any]]:
    return {one["code"]["coding"][0]["code"]: one for one in made.observations}


def test_a_completed_response_is_its_questionnaire_its_scores_and_its_answers() -> None:
    made = turned(completed())
    found = by_code(made)
    assert list(found) == ["oq45", "totaal", "v_1", "v_2"]
    whole, score, one, two = made.observations
    assert [each["target"]["reference"] for each in whole["related"]] == [
        f"Observation/{each['id']}" for each in (score, one, two)
    ]
    assert {each["type"] for each in whole["related"]} == {"has-member"}
    assert whole["code"] == {
        "coding": [{"system": f"{BASE}/questionnaires", "code": "oq45", "display": "OQ-45"}],
        "text": "OQ-45",
    }
    assert whole["identifier"] == [{"system": f"{BASE}/responses", "value": "4"}]
    assert [(each["code"]["coding"][0]["code"], each["valueString"]) for each in whole["component"]] == [
        ("action", "alarm"),
        ("alarm", "v_1"),
    ]
    for each in made.observations:
        assert each["status"] == "final"
        assert each["effectiveDateTime"] == "2015-01-27T13:30:55.000+01:00"
        assert each["subject"]["identifier"]["value"] == "2075"
        assert each["category"][0]["coding"][0]["code"] == "survey"
    assert made.told == ()


def test_a_score_has_its_value_its_norm_what_it_means_its_t_score_and_what_it_was_made_of() -> None:
    made = turned(completed())
    score, first, second = made.observations[1:]
    assert score["code"]["coding"] == [{"system": f"{BASE}/questionnaires/oq45/scores", "code": "totaal", "display": "Totaal"}]
    assert score["valueQuantity"] == {"value": 135}
    assert score["interpretation"] == {
        "coding": [{"system": "http://hl7.org/fhir/v2/0078", "code": "HH", "display": "Critically high"}],
        "text": "Klinisch",
    }
    assert score["referenceRange"] == [{"text": ">= 55"}]
    assert [(one["valueQuantity"], one["interpretation"]) for one in score["component"]] == [
        ({"value": 110}, {"text": "Zeer hoog"})
    ]
    assert score["related"] == [
        {"type": "derived-from", "target": {"reference": f"Observation/{one['id']}"}} for one in (first, second)
    ]


def test_an_answer_of_zero_is_an_answer_and_null_is_none() -> None:
    found = by_code(turned(completed()))
    assert found["v_2"]["valueQuantity"] == {"value": 0}
    assert "v_3" not in found


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_each_flag_is_the_code_of_its_interpretation(flag: str) -> None:
    scores = {"t": {"value": 1, "oru_flag": flag}}
    score = turned(completed(outcome={"scores": scores}, values={})).observations[1]
    assert score["interpretation"]["coding"][0]["code"] == flag


def test_a_flag_of_no_list_is_told_and_no_code() -> None:
    made = turned(completed(outcome={"scores": {"t": {"value": 1, "oru_flag": "XX"}}}, values={}))
    assert "interpretation" not in made.observations[1]
    assert made.told == ("oru_flag XX",)


@pytest.mark.parametrize(("status", "becomes"), sorted(STATUSES.items()))
def test_each_status_has_its_own(status: str, becomes: str) -> None:
    made = turned(completed(status=status))
    assert {one["status"] for one in made.observations} == {becomes}
    assert made.told == ()


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("paused", ("status paused",)),
        ("Jan de Vries", ("status, which is no word",)),
        (None, ()),
        (7, ("status, which is no word",)),
    ],
)
def test_a_status_of_no_list_is_unknown_and_told_where_it_is_a_word(status: object, told: tuple[str, ...]) -> None:
    made = turned(completed(status=status))
    assert {one["status"] for one in made.observations} == {"unknown"}
    assert made.told == told


def test_one_that_was_completed_before_with_other_answers_is_corrected_and_one_that_is_open_is_not() -> None:
    assert {one["status"] for one in turned(completed(), corrected=True).observations} == {"corrected"}
    assert {one["status"] for one in turned(invited(), corrected=True).observations} == {"registered"}


def test_an_invitation_is_one_observation_without_its_link() -> None:
    made = turned(invited())
    assert [one["status"] for one in made.observations] == ["registered"]
    assert CAPABILITY not in str(made.observations)
    assert "effectiveDateTime" not in made.observations[0]


@pytest.mark.parametrize("gone", [("values", "outcome"), ("values",)])
def test_hidden_values_are_masked(gone: tuple[str, ...]) -> None:
    response = completed(hide_values_from_professionals=True, outcome={"scores": {"t": {"label": "T"}}})
    for name in gone:
        del response[name]
    made = turned(response)
    reason = {"coding": [{"system": "http://hl7.org/fhir/data-absent-reason", "code": "masked"}]}
    assert made.observations[-1]["dataAbsentReason"] == reason
    assert len(made.observations) == 3 - len(gone)


def test_a_score_that_could_not_be_calculated_says_so() -> None:
    made = turned(completed(outcome={"scores": {"t": {"label": "T", "value": None}}}, values={}))
    assert made.observations[1]["dataAbsentReason"]["coding"][0]["code"] == "unknown"


def test_who_uploaded_it_finds_it_by_its_own_id() -> None:
    whole = turned(completed(external_id="hosp-123")).observations[0]
    assert whole["identifier"][1] == {"system": f"{BASE}/external-responses", "value": "hosp-123"}


def test_two_tenants_responses_of_one_number_are_two() -> None:
    ids = {one["id"] for one in turned(completed()).observations}
    other = {one["id"] for one in observations_of(completed(), Origin("https://other.rom.example", "2075")).observations}
    assert len(ids) == 4
    assert not ids & other


def test_a_correction_keeps_the_ids() -> None:
    before, after = turned(completed()), turned(completed(values={"v_1": 3, "v_2": 0}), corrected=True)
    assert [one["id"] for one in before.observations] == [one["id"] for one in after.observations]


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
KEYS = st.text(max_size=8)
SCORES = st.fixed_dictionaries(
    {},
    optional={
        "label": VALUES,
        "value": VALUES,
        "norm": VALUES,
        "interpretation": VALUES,
        "tscore": VALUES,
        "tscore_interpretation": VALUES,
        "oru_flag": VALUES | st.sampled_from(sorted(FLAGS)),
        "referenced_values": VALUES | st.lists(KEYS),
    },
)
RESPONSES = st.fixed_dictionaries(
    {},
    optional={
        "id": VALUES,
        "external_id": VALUES,
        "questionnaire_key": VALUES,
        "questionnaire_name": VALUES,
        "status": VALUES | st.sampled_from(sorted(STATUSES)),
        "completed_at": VALUES | st.datetimes().map(lambda one: f"{one.isoformat(timespec='milliseconds')}+01:00"),
        "completer_type": VALUES,
        "hide_values_from_professionals": VALUES,
        "values": VALUES | st.dictionaries(KEYS, VALUES, max_size=4),
        "outcome": VALUES
        | st.fixed_dictionaries(
            {},
            optional={"scores": VALUES | st.dictionaries(KEYS, SCORES, max_size=3), "action": VALUES, "alarm": VALUES},
        ),
    },
)


@given(RESPONSES)
def test_whatever_a_response_holds_its_observations_are_right_stable_and_of_different_ids(response: dict[str, Any]) -> None:
    made = turned(response)
    ids = [one["id"] for one in made.observations]
    assert len(ids) == len(set(ids))
    assert observations_of(orjson.loads(orjson.dumps(response)), HERE).observations == made.observations
    members = [one["target"]["reference"] for one in made.observations[0].get("related", ())]
    assert members == [f"Observation/{one}" for one in ids[1:]]


@given(
    st.dictionaries(
        st.from_regex(r"v_z?\d{1,3}", fullmatch=True), st.integers(-9, 999) | st.sampled_from(["a1", "ja"]), max_size=9
    )
)
def test_every_answer_is_found_again(values: dict[str, int | str]) -> None:
    made = observations_of(completed(values=values, outcome={}), HERE)
    back = {
        one["code"]["coding"][0]["code"]: one["valueQuantity"]["value"] if "valueQuantity" in one else one["valueString"]
        for one in made.observations[1:]
    }
    assert back == values
