"""Sample messages of a Dutch mental-health clinic that does not exist: OQ-45 as ORU^R01, with what is to become of each at RoQua by either way in.

One OBX per question. States and reasons are plain text, as in traffic.py; what is expected is read off RoQua's contract with default settings, the
demo site's tables and a stand-in without faults, for messages that are sent in order. Shares nothing with our reader or mapping.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

FACILITY: Final = "GGZDEMO"
CLIENTS: Final = 3
START: Final = dt.datetime(2026, 4, 21, 9, 0)  # noqa: DTZ001 - the offset is written beside it
STEP: Final = dt.timedelta(minutes=11)
QUESTIONS: Final = tuple(number for number in range(1, 47) if number != 17)  # noqa: PLR2004 - the brief's sample has no v_17

End = tuple[str, str | None]
DELIVERED: Final[End] = ("delivered", None)
NO_HONOS: Final[End] = ("filtered", "event_not_for_partner")
NOT_FINAL: Final[End] = ("filtered", "result_not_final")
NOT_KNOWN: Final[End] = ("filtered", "result_not_known")
MIXED: Final[End] = ("parked", "result_status_mixed")
SEVERAL: Final[End] = ("parked", "several_results")


@dataclass(frozen=True, slots=True)
class RoquaSample:
    """A message, and (state, reason) by each way in."""

    bytes: bytes = field(repr=False)
    documents: End
    """Kind roqua: HoNOS+ alone."""
    responses: End
    """Kind roqua-responses."""
    dossier: str = field(repr=False)
    number: str
    """Of the questionnaire."""
    status: str
    answers: Mapping[int, int] = field(repr=False)
    """By question; what was not answered is not there."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message before it has its time."""

    client: int
    nth: int
    """Of the client's questionnaires."""
    responses: End = DELIVERED
    documents: End = NO_HONOS
    version: int = 0
    """Of the answers."""
    status: str = "F"
    last: str = ""
    """Of the last question; nothing: as the others."""
    days_ago: int = 0
    without: tuple[int, ...] = ()
    """Questions that were left out."""
    odd: Mapping[int, int] = field(default_factory=dict)
    """Answers that the scale does not have."""
    numbered: bool = True
    authority: str = "ZGDEMO"
    again: bool = False
    """A second questionnaire in the same message."""


def messages() -> list[RoquaSample]:
    """All of them, in the order of sending."""
    return [_sample(turn, at, START + STEP * at) for at, turn in enumerate(_turns(), 1)]


def kept() -> dict[str, dict[str, Mapping[int, int]]]:
    """What RoQua is to have at the end by its REST API: dossier, number of the questionnaire, answers by question."""
    there: dict[str, dict[str, Mapping[int, int]]] = {}
    for sample in messages():
        if sample.responses == DELIVERED:
            of_dossier = there.setdefault(sample.dossier, {})
            of_dossier[sample.number] = sample.answers
            if sample.status in {"D", "X"}:
                del of_dossier[sample.number]
    return there


def _turns() -> Iterator[_Turn]:
    for client in range(1, CLIENTS + 1):
        yield _Turn(client, 1)
        yield _Turn(client, 1, version=1, status="C", last="F")
        yield _Turn(client, 1, ("superseded", "stale"), days_ago=1)
        yield _Turn(client, 2, NOT_FINAL, NOT_FINAL, status="P")
        yield _Turn(client, 2, without=(5, 9))
        yield _Turn(client, 3)
        yield _Turn(client, 3, status="DX"[client % 2])
    yield _Turn(1, 9, NOT_KNOWN, status="D")
    yield _Turn(2, 9, NOT_KNOWN, status="X")
    yield _Turn(1, 4, MIXED, MIXED, last="D")
    yield _Turn(2, 4, SEVERAL, again=True)
    yield _Turn(3, 4, ("parked", "profile_required"), odd={7: 6})
    yield _Turn(1, 5, ("parked", "number_missing"), numbered=False)
    yield _Turn(2, 5, ("parked", "identifier_system"), ("parked", "identifier_system"), authority="OTHERGGZ")


def _sample(turn: _Turn, at: int, now: dt.datetime) -> RoquaSample:
    dossier, number = f"{2084 + turn.client}", f"OQ{turn.client:03}{turn.nth}"
    answers = {one: (turn.client + turn.nth + turn.version + one) % 5 for one in QUESTIONS if one not in turn.without}
    answers |= turn.odd
    message = _oru(turn, at, now, number, answers)
    return RoquaSample(message, turn.documents, turn.responses, dossier, number, turn.status, answers)


def _oru(turn: _Turn, at: int, now: dt.datetime, number: str, answers: Mapping[int, int]) -> bytes:
    when = f"{now - dt.timedelta(days=turn.days_ago):%Y%m%d%H%M%S}+0200"
    lines = [
        rf"MSH|^~\&|GGZEPD|{FACILITY}|EMRPIPE|MW|{when}||ORU^R01^ORU_R01|OQ{at:05}|P|2.5|||AL|NE|NLD|UNICODE UTF-8",
        f"PID|1||{2084 + turn.client}^^^{turn.authority}^PI||Testpersoon{turn.client}&&Testpersoon{turn.client}^^T.^^^^L||19810202|M",
    ]
    for nth in (1, 2) if turn.again else (1,):
        obr = [""] * 26
        obr[0], obr[1], obr[4] = "OBR", str(nth), "OQ45^OQ-45^L"
        obr[3] = f"{number}{'B' * (nth - 1)}^GGZEPD" if turn.numbered else ""
        obr[7], obr[22], obr[25] = f"{START:%Y%m%d}085000+0200", when, "" if turn.last else turn.status
        lines += ["|".join(obr), *_obx(turn, answers, when)]
    return ("\r".join(lines) + "\r").encode()


def _obx(turn: _Turn, answers: Mapping[int, int], when: str) -> Iterator[str]:
    for place, (question, answer) in enumerate(answers.items(), 1):
        status = turn.last if turn.last and place == len(answers) else turn.status
        yield f"OBX|{place}|NM|OQ45_{question}^OQ-45 question {question}^L||{answer}||||||{status}|||{when}"
