"""What the pure hops of one route need to know, made once by wiring. Frozen; nothing here opens or sends anything."""

from dataclasses import dataclass, field

from pipeline.fhir.validator import Validator
from pipeline.partners.port import Partner
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings import Route, Site
from pipeline.templates.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class Plan:
    """A route with all that its hops look things up in."""

    name: str
    route: Route
    site: Site
    partner: Partner
    catalogue: Catalogue
    validator: Validator
    pseudonyms: Pseudonyms = field(repr=False)
    beside: tuple[str, ...] = ()
    """The other routes to the same partner, or into the same store: what holds a patient there holds him here."""
