"""What may be read at another hospital's appointment server by MedMij's eAfspraak (contracts/medmij.md section 2): appointments by date. A table, no I/O.

Nothing names a patient: the token does.
"""

from typing import Final

from pipeline.partners.searches import Search, bound

RESOURCES: Final[dict[str, tuple[Search, ...]]] = {
    "Appointment": (Search("from", "date", bound("ge")), Search("to", "date", bound("le"))),
    "Patient": (),
    "Practitioner": (),
    "PractitionerRole": (),
    "Location": (),
    "Organization": (),
}
"""The five are what an appointment references: by id alone."""
