"""RoQua's document, rule by rule (sections of the dossier as the models name them): what the published example does not have does not go."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import roqua
from tests.partners.roqua_samples import example

OWN = "30002596-395f-430f-aac8-abdb6de37104"
EXAMPLE = example(OWN, "p", "q", "2026-04-19T14:44:52+02:00", ("urn:oid:1.2", "urn:oid:1.3"))
Change = Callable[[dict[str, Any]], object]


def wrong(tree: dict[str, Any], **terms: Any) -> list[str]:  # noqa: ANN401 - any term
    """What each rule that is not met says of itself: the rule's name, else the error's type and the last named step."""
    try:
        roqua.CHECK.validate_python(tree, context=roqua.Terms(**terms))
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        return [one.get("ctx", {}).get("about") or f"{one['type']} {one['loc'][-1]}" for one in details]
    return []


def changed(change: Change) -> dict[str, Any]:
    tree = deepcopy(EXAMPLE)
    change(tree)
    return tree


def resource(tree: dict[str, Any], at: int) -> dict[str, Any]:
    found: dict[str, Any] = tree["entry"][at]["resource"]
    return found


def test_the_published_example_meets_it() -> None:
    assert wrong(EXAMPLE) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree.update(timestamp="2026-04-19T14:44:52+02:00"), "extra_forbidden timestamp"),
        (lambda tree: tree.update(total=20), "extra_forbidden total"),
        (lambda tree: tree.update(type="collection"), "literal_error type"),
        (lambda tree: tree.pop("meta"), "missing meta"),
        (lambda tree: tree.update(id="1"), "string_pattern_mismatch id"),
        (
            lambda tree: tree.update(identifier={"system": "urn:a", "value": "1"}),
            "identifier as the setting bundle_identifier says",
        ),
        (lambda tree: tree["entry"].pop(0), "one Composition, first"),
        (lambda tree: tree["entry"].append(tree["entry"][0]), "one Composition, first"),
        (lambda tree: tree["entry"].pop(3), "item 3"),
        (lambda tree: tree["entry"].append(tree["entry"][3]), "item 3 more than once"),
        (lambda tree: tree["entry"].insert(5, tree["entry"].pop(3)), "the order of the items"),
        (lambda tree: resource(tree, 3).update(id="3"), "ids that follow from Bundle.id and item"),
        (lambda tree: tree["entry"][3].update(fullUrl="urn:uuid:3"), "fullUrls that follow from the ids"),
        (lambda tree: resource(tree, 0)["section"][0]["entry"].reverse(), "a section of the items in their order"),
    ],
)
def test_the_document(change: Change, said: str) -> None:
    assert wrong(changed(change)) == [said]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.update(status="amended"), "literal_error status"),
        (lambda one: one.update(type={"text": "HoNOS"}), "literal_error text"),
        (lambda one: one.update(date="2026-04-19T10:00:00+02:00"), "string_pattern_mismatch date"),
        (lambda one: one.update(author=[]), "too_short author"),
        (lambda one: one["author"][0].pop("identifier"), "missing identifier"),
        (lambda one: one["subject"].pop("identifier"), "missing identifier"),
        (lambda one: one["subject"].pop("display"), "missing display"),
        (lambda one: one["subject"]["identifier"].pop("system"), "missing system"),
        (lambda one: one.update(confidentiality="N"), "extra_forbidden confidentiality"),
        (lambda one: one["meta"].update(profile=["http://hl7.org/fhir/StructureDefinition/Composition"]), "literal_error 0"),
    ],
)
def test_the_composition(change: Change, said: str) -> None:
    assert wrong(changed(lambda tree: change(resource(tree, 0)))) == [said]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.update(category=[]), "extra_forbidden category"),
        (lambda one: one.update(performer=[]), "extra_forbidden performer"),
        (lambda one: one.update(effectiveDateTime="2026-04-19"), "a time with an offset"),
        (lambda one: one.update(effectiveDateTime="2026-04-19T10:00:00"), "a time with an offset"),
        (lambda one: one["code"]["coding"][0].update(code="HV20"), "string_pattern_mismatch code"),
        (lambda one: one["code"]["coding"][0].update(system="urn:a"), "literal_error system"),
        (lambda one: one["valueQuantity"].update(unit="1"), "extra_forbidden unit"),
        (lambda one: one["valueQuantity"].update(code="HA02"), "answer code"),
        (lambda one: one["valueQuantity"].update(value=5), "scores are 0 to 4, or 9"),
        (lambda one: one["valueQuantity"].update(value=-1), "greater_than_equal value"),
        (lambda one: one["valueQuantity"].update(value="0"), "int_type value"),
        (lambda one: one["valueQuantity"].update(value=True), "int_type value"),
        (lambda one: one["valueQuantity"].update(value=9), "answer 9, which the setting unknown_answer parks"),
        (lambda one: one.update(component=resource(EXAMPLE, 8)["component"]), "a component of another item than 8"),
    ],
)
def test_an_answer(change: Change, said: str) -> None:
    assert wrong(changed(lambda tree: change(resource(tree, 1)))) == [said]


def test_an_unknown_answer_has_the_code_of_the_setting_and_no_other() -> None:
    unknown = changed(lambda tree: resource(tree, 1)["valueQuantity"].update(value=9, code="HA99"))
    assert wrong(unknown, unknown_answer="HA99") == []
    assert wrong(unknown, unknown_answer="HA98") == ["answer code"]


@pytest.mark.parametrize(
    ("item_8", "score", "said"),
    [
        ("scored", 4, ["which other problem item 8 rates"]),
        ("scored", 0, []),
        ("always", 0, ["which other problem item 8 rates"]),
        ("optional", 4, []),
    ],
)
def test_item_8_says_which_other_problem_it_rates_as_the_setting_says(item_8: str, score: int, said: list[str]) -> None:
    def without(tree: dict[str, Any]) -> None:
        del resource(tree, 8)["component"]
        resource(tree, 8)["valueQuantity"].update(value=score, code=f"HA{36 + score}")

    assert wrong(changed(without), item_8=item_8) == said


@given(st.sets(st.sampled_from(roqua.ITEMS), min_size=1))
def test_what_is_missing_is_named_in_the_order_of_the_items(missing: set[str]) -> None:
    def without(tree: dict[str, Any]) -> None:
        tree["entry"] = [one for one in tree["entry"] if one["resource"]["id"].removeprefix(f"{OWN}-") not in missing]

    assert wrong(changed(without)) == [roqua.named(item for item in roqua.ITEMS if item in missing)]


@given(st.sampled_from(roqua.ITEMS), st.integers(0, 4))
def test_the_answer_code_leads_back_to_question_and_score(item: str, score: int) -> None:
    place, back = divmod(int(roqua.answer_code(item, score)[2:]) - 1, 5)
    assert (roqua.ITEM_OF[f"HV{place + 1:02}"], back) == (item, score)
