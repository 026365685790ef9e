"""fhir.resources as the oracle of the compiled checks: both verdicts on valid resources and on broken ones; differences have reasons."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from fhir.resources.R4B import get_fhir_model_class as r4b_model
from fhir.resources.STU3 import get_fhir_model_class
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.fhir.validator import Release, Validator
from schemas.outcomes import FindingCode
from tests.fhir.golden import golden
from tests.fhir.mutations import DELETED, LISTED, UNKNOWN, WRONG, damaged, mutations, places
from tests.fhir.samples import everything

STRICTER: Final = {
    FindingCode.NOT_IN_BINDING: "fhir.resources keeps code lists as a note and lets any code pass",
    FindingCode.INVARIANT: "fhir.resources has no invariants, and takes an empty object for an element",
    FindingCode.CARDINALITY: "fhir.resources takes an empty list",
    FindingCode.WRONG_TYPE: "fhir.resources takes null for an absent element, a number for a time (epoch), 1 for true, true for 1",
    FindingCode.WRONG_FORMAT: "fhir.resources takes empty and blank text, ids of any length, any text for a uri, reference or XHTML",
    FindingCode.REFERENCE_TYPE: "fhir.resources keeps target types as a note",
}
"""What we refuse and fhir.resources accepts, and why."""
PLACES_WHERE_IT_CHECKS_LESS: Final = {
    FindingCode.MISSING_ELEMENT: "fhir.resources takes an object without resourceType for a contained or entry's resource: it is then nothing",
}


def accepts(resource: dict[str, Any], models: Callable[[str], Any] = get_fhir_model_class) -> bool:
    try:
        models(resource["resourceType"]).model_validate(resource)
    except (ValidationError, KeyError, ValueError, TypeError):  # the last three: it does not expect some damage at all
        return False
    return True


VALIDATOR: Final = Validator(Release.STU3)
SAMPLES: Final = everything() | golden()


@pytest.mark.parametrize("name", SAMPLES)
def test_both_accept_what_is_valid(name: str) -> None:
    resource = SAMPLES[name]

    assert VALIDATOR.check(resource) == ()
    assert accepts(resource)


R4: Final = golden(Release.R4B)


@pytest.mark.parametrize("name", R4)
def test_both_accept_what_is_valid_in_r4(name: str) -> None:
    assert Validator(Release.R4B).check(R4[name]) == ()
    assert accepts(R4[name], r4b_model)


@pytest.mark.parametrize("name", everything())
def test_each_difference_over_systematic_damage_has_its_reason(name: str) -> None:
    looser, unreasoned, agreed = [], [], 0

    for place, how, resource in mutations(SAMPLES[name]):
        findings = VALIDATOR.check(resource)
        ours, theirs = not findings, accepts(resource)
        agreed += ours == theirs
        if ours and not theirs:
            looser.append((place, how))
        if theirs and not ours and any(not _reasoned(one.code, one.fhir or "") for one in findings):
            unreasoned.append((place, how, findings))

    assert looser == []
    assert unreasoned == []
    assert agreed > 200


def _reasoned(code: FindingCode, path: str) -> bool:
    return code in STRICTER or (code in PLACES_WHERE_IT_CHECKS_LESS and path.endswith(".resourceType"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_we_accept_after_any_two_damages_fhir_resources_accepts_too(data: st.DataObject) -> None:
    resource = SAMPLES[data.draw(st.sampled_from(sorted(everything())))]
    for _ in range(2):
        known = [one for one in places(resource) if one[-1] != "resourceType"]
        if known:
            how = data.draw(st.sampled_from([*WRONG, DELETED, LISTED, UNKNOWN]))
            resource = damaged(resource, data.draw(st.sampled_from(known)), how)

    if not VALIDATOR.check(resource):
        assert accepts(resource)


@settings(max_examples=150, deadline=None)
@given(
    resource=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "name", "_birthDate", "extension", "contained", "resourceType", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    ),
    kind=st.sampled_from(["Patient", "Bundle", "Condition", "Nothing", 7]),
)
def test_garbage_gives_findings_and_never_an_exception(resource: object, kind: object) -> None:
    thing: Any = {**resource, "resourceType": kind} if isinstance(resource, dict) else resource

    findings = VALIDATOR.check(thing)

    assert all(one.fhir for one in findings)
    assert findings or isinstance(thing, dict)
