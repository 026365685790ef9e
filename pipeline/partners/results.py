"""What a message of results brings that a partner keeps under an id of its own: its one result. No I/O, no settings, no partner."""

from typing import Final
from urllib.parse import quote

from pipeline.errors import Parked
from pipeline.model import Identity, Subject
from pipeline.partners.packing import OID
from schemas.event import EntityIdentifier, Event
from schemas.outcomes import Reason

READS: Final = frozenset({"reports", "filler", "placer"})
"""Names of the event's fields that `result_of` reads."""
FILLER: Final = "urn:emr-pipeline:filler-number:"
PLACER: Final = "urn:emr-pipeline:placer-number:"


def result_of(event: Event) -> tuple[Identity, ...]:
    """The result of the message; none of a message without one. Parked: SEVERAL_RESULTS, NUMBER_MISSING, CHARSET.

    Its number is the filler's (OBR-3), which a correction repeats, or where there is none the placer's (OBR-2). OBX before any OBR are a second result.
    """
    if not event.reports or event.prior:
        return ()
    first, *others = event.reports
    if others:
        raise Parked(Reason.SEVERAL_RESULTS, where="OBR[2]" if first.nth else "OBX")
    for number, place, names in ((first.filler, "OBR-3.1", FILLER), (first.placer, "OBR-2.1", PLACER)):
        if number is not None and number.value:
            if "\N{REPLACEMENT CHARACTER}" in number.value:
                raise Parked(Reason.CHARSET, where=place)
            return (Identity(Subject.RESULT, _system(number, names, event), number.value, place),)
    raise Parked(Reason.NUMBER_MISSING, where="OBR-3")


def _system(number: EntityIdentifier, names: str, event: Event) -> str:
    """Whose number it is: the authority's by its OID or its name, else the sending application's."""
    oid = number.authority_oid
    if oid and OID.fullmatch(oid):
        return f"urn:oid:{oid}"
    return names + quote(number.authority or str(event.sending_application or ""), safe="")
