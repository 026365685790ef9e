"""What RoQua's answers hold, of its documents and its REST API alike. What follows from it stands in verdicts.py. No I/O.

Error bodies are arrays, plain texts, nested, empty or HTML (contracts/roqua.md section 5). Of them only names and codes of the closed lists below
are ever repeated: anything else may be a patient's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipeline.model import Reply
from pipeline.partners import answers
from pipeline.partners.roqua.verdicts import Said

CODES: Final = frozenset({"in_past", "blank", "invalid", "missing", "flag_does_not_exist", "flag_value_invalid"})
"""Keywords of a 422."""
FIELDS: Final = frozenset(
    {
        *("questionnaire_key", "external_id", "answer_data", "started_at", "filled_out_at", "respondent", "respondent_type"),
        *("entered_by", "dossier_id", "base"),
        *("filters", "questionnaire_keys", "completed_before", "completed_after", "respondent_id", "status"),
        *("protocol_subscription_id",),
    }
)
"""What they are told of: what we send and ask by, and `base` for the whole."""
QUESTION: Final = re.compile(r"v_z?\d{1,3}", re.ASCII)
"""A question key, below answer_data."""
MOST: Final = 20
"""Codes of one answer that are kept."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What an answer is held against: whose response it has to be. None where the operation answers with none."""

    external_id: str | None = None
    questionnaire_key: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, read."""

    said: Said
    codes: tuple[str, ...] = ()
    """As answer_data.blank: the field and the keyword, each where it is of the lists above."""

    @property
    def keywords(self) -> frozenset[str]:
        """The codes without their fields."""
        return frozenset(code.rpartition(".")[2] for code in self.codes) & CODES


def read(reply: Reply, sent: Sent = Sent()) -> Told:
    """Any bytes."""
    body = answers.read(reply.body)
    if body.form is answers.Form.EMPTY:
        return Told(Said.EMPTY)
    if body.form is answers.Form.OTHER:
        return Told(Said.PAGE)
    if body.form is answers.Form.ERROR:
        return Told(Said.ERRORS, body.codes)
    tree = orjson.loads(reply.body.removeprefix(b"\xef\xbb\xbf").strip())
    if not isinstance(tree, dict):
        return Told(Said.OTHER)
    if tree.get("errors") or tree.get("error"):
        return Told(Said.ERRORS, tuple(dict.fromkeys(_codes(tree.get("errors"))))[:MOST])
    return Told(Said.DONE if _ours(tree, sent) else Said.OTHER)


def _ours(tree: dict[str, Any], sent: Sent) -> bool:
    """Whether it can be what the write made. A response need not say its external_id (contracts/roqua.md 6.1), but may not say another's."""
    if sent.questionnaire_key is None:
        return True
    its = tree.get("external_id")
    return tree.get("questionnaire_key") == sent.questionnaire_key and its in (None, sent.external_id)


def _codes(tree: Any, field: str = "") -> Iterator[str]:  # noqa: ANN401 - any JSON
    """Depth first; what is none of the lists' names costs its name, not the codes below it."""
    if isinstance(tree, str):
        told = ".".join(part for part in (field, tree if tree in CODES else "") if part)
        yield from (told,) if told else ()
    elif isinstance(tree, list):
        for one in tree[:MOST]:
            yield from _codes(one, field)
    elif isinstance(tree, dict):
        for name, inner in list(tree.items())[:MOST]:
            known = name in FIELDS or (field == "answer_data" and QUESTION.fullmatch(name))
            yield from _codes(inner, ".".join(part for part in (field, name if known else "") if part))
