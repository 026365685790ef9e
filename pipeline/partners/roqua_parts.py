"""What both ways into RoQua know a message by: the dossier, the questionnaire and its upsert key; and what an answer teaches. No I/O, no settings."""

from pipeline.model import Identified, Identity, Intent, Learned, Subject
from pipeline.partners.roqua_ids import result_id


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


def learned(identified: Identified) -> tuple[Learned, ...]:
    """The dossier, under every number that PID-3 has of it, and the questionnaire in it."""
    about, number = identified.identity, dossier(identified)
    assert about is not None  # noqa: S101 - as above
    others = (Learned(one, number) for one in identified.routed.identities if one != about)
    created = Learned(about, number, created_with=identified.intent is Intent.CREATE)
    return (created, *others, Learned(result(identified), own_id(identified), belongs_to=number))
