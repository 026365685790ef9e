"""What goes into a template and what comes out of it. Frozen; both hold patient data, and neither repr shows any."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.model import Finding, Hl7, Identity, Intent, Resource, Variable
from schemas.event import Event


@dataclass(frozen=True, slots=True)
class Context:
    """One message, as templates see it: `event`, `hl7(…)`, `intent`, `identifiers`, `partner.<name>`, `site`."""

    event: Event = field(repr=False)
    hl7: Hl7 = field(repr=False)
    intent: Intent
    identities: tuple[Identity, ...] = field(repr=False)
    """The patient's identities that the partner accepts, in order; templates call them `identifiers`."""
    partner: Mapping[str, Variable] = field(repr=False)
    """What partners/<partner>.py computes; the names stand in mappings/<partner>/mapping.yaml."""
    site: str
    fields: frozenset[str] | None = None
    """Of which fields the event was built, as `Catalogue.fields` named them then; None: of all."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The resources of one message, in the order of the mapping's templates."""

    resources: tuple[Resource, ...] = field(repr=False)
    findings: tuple[Finding, ...] = ()
