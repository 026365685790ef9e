"""Runs a partner's profile (a validator of schemas/) over a bundle and tells what it misses as findings. No I/O, no values.

The profile adds to FHIR: that the bundle is FHIR at all is the validator's business, before.
"""

from typing import Any, Final

from pydantic_core import ErrorDetails, SchemaValidator, ValidationError

from pipeline.fhir.validator import code_of, path_of
from pipeline.model import Finding
from schemas.outcomes import FindingCode, Severity

CODES: Final = {
    "extra_forbidden": FindingCode.NOT_IN_PROFILE,
    "missing": FindingCode.PROFILE_MANDATORY,
    "too_short": FindingCode.PROFILE_MANDATORY,
    "string_too_short": FindingCode.PROFILE_MANDATORY,
    "string_too_long": FindingCode.PROFILE_LENGTH,
    "too_long": FindingCode.NOT_IN_PROFILE,
    "literal_error": FindingCode.PROFILE_SYSTEM,
    "union_tag_invalid": FindingCode.NOT_IN_PROFILE,
    "union_tag_not_found": FindingCode.PROFILE_MANDATORY,
}
"""pydantic's error types as finding codes; others read as in the validator."""


def check(validator: SchemaValidator, bundle: dict[str, Any], root: str, terms: object = None) -> tuple[Finding, ...]:
    """What of the profile the bundle does not meet: errors, with FHIR paths from `root` on (Bundle).

    `terms` is what the profile leaves to the site or the endpoint (schemas.roche.Terms); None is the profile's own default.
    """
    try:
        validator.validate_python(bundle, context=terms)
    except ValidationError as error:
        details = error.errors(include_url=False)
        made = (
            Finding(
                CODES.get(one["type"]) or code_of(one),
                Severity.ERROR,
                fhir=path_of(root, _place(bundle, one["loc"])),
                about=_about(one),
            )
            for one in details
        )
        return tuple(dict.fromkeys(made))
    return ()


def _place(bundle: dict[str, Any], loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The place in the bundle: pydantic puts the tag of a union of resources (Patient) into its own."""
    node: Any = bundle
    place: list[int | str] = []
    for step in loc:
        if isinstance(node, dict) and step not in node and node.get("resourceType") == step:
            continue
        place.append(step)
        within = step in node if isinstance(node, dict) else isinstance(node, list) and isinstance(step, int) and step < len(node)
        node = node[step] if within else None
    return tuple(place)


def _about(detail: ErrorDetails) -> str | None:
    return str(detail["ctx"]["about"]) if "about" in detail.get("ctx", {}) else None
