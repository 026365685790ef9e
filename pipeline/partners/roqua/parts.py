"""What both ways into RoQua know a message by, what of its answers none can be made of, and what RoQua's own answer teaches. No I/O, no settings.

That is the dossier, the questionnaire and its upsert key.
"""

from collections.abc import Callable
from typing import Final

from pipeline.errors import Parked, ProfileNotMet
from pipeline.model import Decoded, Identified, Identity, Intent, Learned, Subject
from pipeline.partners.roqua.ids import result_id
from schemas.event import Coded
from schemas.outcomes import Reason

PARTS: Final = range(2, 10)
"""Components of a coded value beside its code."""


def dossier(identified: Identified) -> str:
    """The number of the dossier: the one that RoQua got its first questionnaire under, whatever else PID-3 lists by now."""
    assert identified.identity is not None  # noqa: S101 - route parks a message of nobody
    return identified.partner_id or identified.identity.value


def result(identified: Identified) -> Identity:
    """The questionnaire that a message which is to go is about."""
    return next(part for part in identified.routed.parts if part.kind is Subject.RESULT)


def own_id(identified: Identified) -> str:
    """What RoQua has the questionnaire under; of one that is new it follows from its number."""
    about = result(identified)
    return identified.part_ids.get(about) or result_id(dossier(identified), about)


def one_answer_each(decoded: Decoded, asked: Callable[[Coded], bool]) -> None:
    """A question that is `asked` has one answer, whole: of several RoQua would get the first, of one without a code none.

    ProfileNotMet: PROFILE_INVALID. Parked: CHARSET.
    """
    for observation in (one for report in decoded.event.reports for one in report.observations):
        if observation.code is None or not asked(observation.code):
            continue
        place = f"OBX[{observation.nth}]-5"
        if decoded.hl7.count(place) > 1:
            raise ProfileNotMet(
                Reason.PROFILE_INVALID, where=place, message="several values (~), and RoQua takes one of a question"
            )
        if observation.value is None and any(isinstance(decoded.hl7(f"{place}.{part}"), str) for part in PARTS):
            raise ProfileNotMet(Reason.PROFILE_INVALID, where=place, message="a value without a code: it cannot be sent")
        if isinstance(observation.value, str) and "\N{REPLACEMENT CHARACTER}" in observation.value:
            raise Parked(Reason.CHARSET, where=place)


def learned(identified: Identified) -> tuple[Learned, ...]:
    """The dossier, under every number that PID-3 has of it, and the questionnaire in it."""
    about, number = identified.identity, dossier(identified)
    assert about is not None  # noqa: S101 - as above
    others = (Learned(one, number) for one in identified.routed.identities if one != about)
    created = Learned(about, number, created_with=identified.intent is Intent.CREATE)
    return (created, *others, Learned(result(identified), own_id(identified), belongs_to=number))
