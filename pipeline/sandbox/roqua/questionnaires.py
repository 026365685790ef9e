"""The questionnaires that RoQua's stand-in knows: questions, options, simple scores. Made up where the dossier is silent (contracts/roqua.md 4.2, 6, 7).

Which v_ key is which HV question is not documented: the pairs here are the stand-in's own, readable at GET /api/v1/questionnaires/honos_plus
and nothing to build on. Thresholds and flags are made up too. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Values = dict[str, Any]
HONOS_PLUS: Final = "honos_plus"
OQ45: Final = "oq45"


@dataclass(frozen=True, slots=True)
class Question:
    """One question: option keys with the values that they stand for; without options it takes text."""

    title: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Score:
    """A sum over questions, with the value from which it is high and very high."""

    label: str
    keys: tuple[str, ...]
    high: int
    very_high: int


@dataclass(frozen=True, slots=True)
class Questionnaire:
    """One of them."""

    id: int
    key: str
    name: str
    questions: Mapping[str, Question]
    scores: Mapping[str, Score]
    alarming: tuple[str, ...] = ()
    """Questions whose highest answers raise an alarm; the others' want attention."""
    optional: tuple[str, ...] = ()
    """Questions without which it is complete."""

    def value(self, question: str, answer: Any) -> Any:  # noqa: ANN401 - JSON
        """What an option key stands for; KeyError where question or option are not its own."""
        options = self.questions[question].options
        if answer is None:
            return None
        if not isinstance(answer, str):
            raise KeyError(question)
        return options[answer] if options else answer

    def missing(self, values: Values) -> list[str]:
        """Questions without an answer."""
        return [one for one in self.questions if one not in self.optional and values.get(one) is None]

    def outcome(self, values: Values) -> dict[str, Any]:
        """Scores and signals, as the response object has them (section 6.1)."""
        top = [key for key, value in values.items() if _number(value) and value >= 3]  # noqa: PLR2004 - of 0 to 4
        alarm, attention = [key for key in top if key in self.alarming], [key for key in top if key not in self.alarming]
        return {
            "scores": {key: _scored(one, values, key == next(iter(self.scores))) for key, one in self.scores.items()},
            "action": "alarm" if alarm else "attention" if attention else None,
            "alarm": alarm or None,
            "attention": attention or None,
            "complete": None if self.missing(values) else "100%",
        }


def _number(value: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, int) and not isinstance(value, bool)


def _scored(score: Score, values: Values, total: bool) -> dict[str, Any]:
    """A score has a value where all its questions have one."""
    found: dict[str, Any] = {"score": True, "label": score.label, "referenced_values": list(score.keys)}
    given = [values.get(key) for key in score.keys]
    if not all(_number(one) and one in range(5) for one in given):  # 9 is unknown
        return found
    value = sum(one or 0 for one in given)
    flag = "HH" if value >= score.very_high else "H" if value >= score.high else None
    found |= {"value": value, "norm": f">= {score.high}", "interpretation": "Klinisch" if flag else "Normaal"}
    return {**found, **({"oru_flag": flag} if flag else {}), **({"global": True} if total else {})}


def empty_outcome() -> dict[str, Any]:
    """Of a response that nobody has filled out."""
    return {"scores": {}, "action": None, "alarm": None, "attention": None, "complete": None}


_SCALE: Final = {f"a{value}": value for value in range(5)}
ITEM_KEYS: Final[Mapping[str, str]] = {
    **{str(item): f"v_{item}" for item in range(1, 9)},
    "9": "v_11",
    **{item: f"v_{number}" for number, item in enumerate(("10", "11", "12", "13", "A", "B", "C", "D", "E", "Q"), 14)},
}
"""Of a document's item. Made up: see above."""
ITEM8_KEY: Final = "v_9"
_LETTERS: Final = {f"a{number}": letter for number, letter in enumerate("ABCDEFGHIJK")}
"""What other problem item 8 is about; K is `other` (section 4.1), the rest is not documented."""

_HONOS: Final = Questionnaire(
    1,
    HONOS_PLUS,
    "HoNOS+",
    {
        **{key: Question(f"HoNOS+ item {item}", {**_SCALE, "a9": 9}) for item, key in ITEM_KEYS.items()},
        ITEM8_KEY: Question("HoNOS+ item 8: which problem", _LETTERS),
        "v_10": Question("HoNOS+ item 8: other, namely", {}),
        "v_z1": Question("HoNOS+ remark", _SCALE),
    },
    {
        "tot": Score("Totaalscore", tuple(ITEM_KEYS[str(item)] for item in range(1, 13)), 10, 20),
        "gedrag": Score("Gedragsproblemen", ("v_1", "v_2", "v_3"), 3, 6),
        "beperk": Score("Beperkingen", ("v_4", "v_5"), 3, 6),
        "sympt": Score("Symptomatologie", ("v_6", "v_7", "v_8"), 4, 8),
        "sociaal": Score("Sociale problemen", ("v_11", "v_14", "v_15", "v_16"), 5, 10),
    },
    alarming=("v_2",),
    optional=(ITEM8_KEY, "v_10", "v_z1"),
)
_OQ_KEYS: Final = tuple(f"v_{number}" for number in range(1, 47) if number != 17)  # noqa: PLR2004 - the brief's sample has no v_17
_OQ: Final = Questionnaire(
    2,
    OQ45,
    "OQ-45",
    {key: Question(f"OQ-45 {key}", _SCALE) for key in _OQ_KEYS},
    {
        "totaal": Score("Totaal", _OQ_KEYS, 55, 100),
        "interpers": Score("Interpersoonlijk Functioneren", ("v_1", "v_7", "v_16"), 5, 9),
    },
    alarming=("v_8", "v_11", "v_27", "v_33", "v_45"),
)
KNOWN: Final[Mapping[str, Questionnaire]] = {one.key: one for one in (_HONOS, _OQ)}


def name_of(key: str) -> str:
    """As it is shown."""
    return KNOWN[key].name if key in KNOWN else key


def shown(key: str, *, legacy_keys: bool) -> dict[str, Any]:
    """As GET /api/v1/questionnaires/:key has it: legacy keys begin with the questionnaire's (section 7)."""
    one = KNOWN.get(key, Questionnaire(9, key, key, {}, {}))
    before = f"{key}_" if legacy_keys else ""
    questions = {
        f"{before}{name}": {
            "title": asked.title,
            "type": "radio" if asked.options else "string",
            "options": {option: {"value": value, "description": str(value)} for option, value in asked.options.items()},
        }
        for name, asked in one.questions.items()
    }
    scores = {name: {"label": score.label} for name, score in one.scores.items()}
    described = {"id": one.id, "key": key, "name": one.name, "description": None, "short_description": None}
    return {"questionnaire": {**described, "questions": questions, "scores": scores, "sbg_info": None}}
