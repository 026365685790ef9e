"""Which format a client gets."""

import pytest

from pipeline.serve.xis.faults import Fault
from pipeline.serve.xis.formats import Format, chosen

JSON, XML = Format.JSON, Format.XML


@pytest.mark.parametrize(
    ("asked", "accept", "expected"),
    [
        (None, None, JSON),
        (None, "", JSON),
        (None, "*/*", JSON),
        (None, "application/fhir+xml", XML),
        (None, "application/fhir+json", JSON),
        (None, "application/json", JSON),
        (None, "text/html, application/xml;q=0.9, */*;q=0.1", XML),
        (None, "application/fhir+json;q=0.5, application/fhir+xml", XML),
        (None, "application/fhir+xml;q=0, */*", JSON),
        (None, "*/*, application/fhir+xml", XML),
        (None, "Application/FHIR+XML; charset=utf-8", XML),
        ("xml", "application/fhir+json", XML),
        ("json", "application/fhir+xml", JSON),
        ("application/fhir+xml", None, XML),
        ("application/fhir xml", None, XML),
        ("json", "text/html", JSON),
    ],
)
def test_format_goes_before_accept_and_quality_before_order(asked: str | None, accept: str | None, expected: Format) -> None:
    assert chosen(asked, accept) is expected


@pytest.mark.parametrize(
    ("asked", "accept"), [(None, "text/html"), ("turtle", None), ("", None), (None, "json"), (None, "*/*;q=0")]
)
def test_what_is_not_offered_is_not_acceptable(asked: str | None, accept: str | None) -> None:
    with pytest.raises(Fault) as refused:
        chosen(asked, accept)
    assert refused.value.status == 406
