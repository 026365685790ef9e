"""A profile's findings: our codes, FHIR paths, no values."""

from pipeline.fhir import profile
from schemas import roche
from schemas.outcomes import FindingCode as Code
from schemas.outcomes import Severity
from tests.fhir.samples import message


def test_what_meets_the_profile_has_no_findings() -> None:
    assert profile.check(roche.CHECK, message(), "Bundle") == ()


def test_findings_name_the_place_in_the_bundle_and_the_rule() -> None:
    bundle = message()
    bundle["entry"][1]["resource"]["address"] = [{"city": "Geheim"}]
    del bundle["entry"][1]["resource"]["name"][0]["family"]
    bundle["entry"][1]["resource"]["identifier"][0] = {"system": "urn:oid:1.2.3", "value": "8" * 65}

    findings = profile.check(roche.CHECK, bundle, "Bundle")

    assert {(one.code, one.fhir, one.about, one.severity) for one in findings} == {
        (Code.NOT_IN_PROFILE, "Bundle.entry[1].resource.address", None, Severity.ERROR),
        (Code.PROFILE_MANDATORY, "Bundle.entry[1].resource.name[0].family", None, Severity.ERROR),
        (Code.PROFILE_SYSTEM, "Bundle.entry[1].resource.identifier[0].system", "identifier-system", Severity.ERROR),
        (Code.PROFILE_LENGTH, "Bundle.entry[1].resource.identifier[0].value", None, Severity.ERROR),
    }
    assert "Geheim" not in repr(findings)
    assert "888" not in repr(findings)


def test_a_resource_that_the_profile_has_not_is_told_at_its_entry() -> None:
    bundle = message()
    bundle["entry"][2]["resource"]["resourceType"] = "Observation"

    assert [(one.code, one.fhir) for one in profile.check(roche.CHECK, bundle, "Bundle")] == [
        (Code.NOT_IN_PROFILE, "Bundle.entry[2].resource")
    ]
