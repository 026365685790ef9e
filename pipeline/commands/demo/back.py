"""What RoQua's stand-in has at the end, read as `fetch roqua Observation` does, against what went out."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pipeline.model import Resource
    from pipeline.settings import Settings

CAP: Final = 4 * 1024 * 1024
"""Bytes of an answer at most."""


def read_back(settings: "Settings") -> dict[str, int]:
    """How many Observations of how many dossiers, and how many answers that went out are not among them."""
    from pipeline import wiring
    from pipeline.sandbox import rom

    reader, transport = wiring.reader_of(settings, "roqua"), wiring.transport_of(settings, "roqua", CAP)
    told: Counter[str] = Counter()
    try:
        for dossier, questionnaires in rom.kept().items():
            asked = reader.by_search("Observation", {"subject": dossier})
            found = reader.page(asked, transport.exchange(asked)).resources
            went = Counter(pair for answers in questionnaires.values() for pair in _expected(answers))
            told += Counter(dossiers=1, observations=len(found), answers=went.total(), lost=(went - _answers(found)).total())
    finally:
        transport.close()
    return {name: told[name] for name in ("dossiers", "observations", "answers", "lost")}


def _expected(answers: Mapping[str, int]) -> Iterable[tuple[str, Any]]:
    """Each answer under the stand-in's own key of the question."""
    from pipeline.sandbox.rom import OTHER_PROBLEM
    from pipeline.sandbox.roqua.questionnaires import ITEM8_KEY, ITEM_KEYS

    yield from ((ITEM_KEYS[item], answer) for item, answer in answers.items())
    if answers.get("8"):
        yield ITEM8_KEY, OTHER_PROBLEM


def _answers(found: Iterable["Resource"]) -> Counter[tuple[str, Any]]:
    """Values by the last word of the code, which is the question's key or the score's."""
    rows = (
        (one["code"]["text"].rpartition(" ")[2], one.get("valueQuantity", {}).get("value", one.get("valueString")))
        for one in found
    )
    return Counter(rows)
