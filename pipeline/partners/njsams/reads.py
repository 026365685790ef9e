"""What may be read at NJSAMS: the searches that its documents show (contracts/njsams.md section 7), and no others. A table, no I/O."""

from typing import TYPE_CHECKING, Final, Protocol

from pipeline.partners.searches import Search, date, one_of, reference

if TYPE_CHECKING:
    from pipeline.partners.reads import FhirReader
    from pipeline.settings_sections import OperationTimes

RESOURCES: Final = {
    "Patient": (Search("family", "family"), Search("identifier", "identifier")),
    "Encounter": (
        Search("subject", "subject", reference("Patient")),
        Search("date", "date", date),
        Search("include", "_include", one_of({"subject": "Encounter:subject"})),
    ),
    "Coverage": (
        Search("beneficiary", "beneficiary", reference("Patient")),
        Search("payor", "payor", reference("Organization")),
    ),
}
"""[BRIEF], all of it. `_include` alone is shown there too: all encounters."""
BUNDLES: Final = frozenset({"searchset", "search-result"})
"""FHIR's own, and the documented one (section 5)."""
WRITES: Final = (("Bundle", "create"), ("Bundle", "update"))
"""What deliveries use (section 5)."""


class Readable(Protocol):
    """What the settings of NJSAMS say of reading."""

    @property
    def base_url(self) -> str:
        """The server base."""
        ...

    @property
    def media_type(self) -> str:
        """What is asked for (section 3)."""
        ...

    @property
    def search(self) -> "OperationTimes":
        """How long it may take."""
        ...


def reader(settings: Readable) -> "FhirReader":
    """NJSAMS's read side."""
    from pipeline.model import Timeouts  # noqa: PLC0415 - 0.2 s that `fetch --help` does not need
    from pipeline.partners.reads import FhirReader  # noqa: PLC0415 - as above

    times = Timeouts(settings.search.connect, settings.search.read, settings.search.total)
    return FhirReader(settings.base_url, RESOURCES, settings.media_type, times, bundle_types=BUNDLES, writes=WRITES)
