"""What may be read at another hospital's appointment server by MedMij's eAfspraak (contracts/medmij.md section 2): appointments by date. A table, no I/O.

Nothing names a patient: the token does.
"""

from typing import TYPE_CHECKING, Any, Final

from pipeline.partners.searches import Search, bound

if TYPE_CHECKING:
    from pipeline.partners.medmij.reader import MedmijReader

RESOURCES: Final[dict[str, tuple[Search, ...]]] = {
    "Appointment": (Search("from", "date", bound("ge")), Search("to", "date", bound("le"))),
    "Patient": (),
    "Practitioner": (),
    "PractitionerRole": (),
    "Location": (),
    "Organization": (),
}
"""The five are what an appointment references: by id alone."""


def reader(settings: Any) -> "MedmijReader":  # noqa: ANN401 - the settings block
    """The read side."""
    from pipeline.partners.medmij.reader import MedmijReader  # noqa: PLC0415 - 0.2 s that `fetch --help` does not need

    return MedmijReader.of(settings)
