"""Which dossiers an HL7 message names: the patient's identifiers that the partner's table accepts. Pure; what cannot be read names none.

What becomes of the message is the routes' business. A merge needs nothing here: the survivor's dossier is named as any other.
"""

from collections.abc import Callable

from pipeline.errors import Ended
from pipeline.hl7.er7 import parse
from pipeline.hl7.event import typed
from pipeline.settings import Site
from schemas.event import Identifier

READ = frozenset({"processing_id", "patient", "identifiers"})


def dossiers_of(value: bytes | None, site: Site, system_of: Callable[[Identifier], str | None]) -> tuple[str, ...]:
    """The partner's ids of them."""
    if not value or len(value) > site.most_bytes:
        return ()
    try:
        event, _ = typed(parse(value, charset=site.charset), zone=site.zone, only=READ)
    except Ended:
        return ()
    if event.patient is None or str(event.processing_id or "") not in site.processing_ids:
        return ()
    named = (one.value for one in event.patient.identifiers if isinstance(one.value, str) and one.value and system_of(one))
    return tuple(dict.fromkeys(one for one in named if "\N{REPLACEMENT CHARACTER}" not in one))
