"""Sample messages of a Dutch mental-health clinic that does not exist: HoNOS+ questionnaires as ORU^R01, with what is to become of each at RoQua.

States and reasons are plain text, as in traffic.py; what is expected is read off RoQua's contract with default settings, and a stand-in without
faults. The clinic's own names of the items are the question codes of the published example. Shares nothing with our reader or mapping.
"""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

FACILITY: Final = "GGZDEMO"
CLIENTS: Final = 3
START: Final = dt.datetime(2026, 4, 20, 9, 0)  # noqa: DTZ001 - the offset is written beside it
STEP: Final = dt.timedelta(minutes=7)
ITEMS: Final = (*(str(number) for number in range(1, 14)), "A", "B", "C", "D", "E", "Q")
OTHER_PROBLEM: Final = "K"
"""What item 8 rates, where it is scored."""

End = tuple[str, str | None]
DELIVERED: Final[End] = ("delivered", None)
STALE: Final[End] = ("superseded", "stale")


@dataclass(frozen=True, slots=True)
class RomSample:
    """A message, and (state, reason) on the way to RoQua."""

    bytes: bytes = field(repr=False)
    end: End
    dossier: str = field(repr=False)
    number: str
    """Of the questionnaire."""
    answers: Mapping[str, int] = field(repr=False)
    """By item."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message before it has its time."""

    client: int
    nth: int = 1
    """Of the client's questionnaires."""
    end: End = DELIVERED
    version: int = 0
    """Of the answers."""
    status: str = "F"
    last: str = ""
    """Of the last item; nothing: as the others."""
    days_ago: int = 0
    without: tuple[str, ...] = ()
    """Items that nobody answered."""
    unknown: tuple[str, ...] = ()
    """Items that were answered with 9."""
    again: bool = False
    """A second questionnaire in the same message."""


def messages() -> list[RomSample]:
    """All of them, in the order of sending."""
    return [_sample(turn, at, START + STEP * at) for at, turn in enumerate(_turns(), 1)]


def kept() -> dict[str, dict[str, Mapping[str, int]]]:
    """What RoQua is to have at the end: dossier, number of the questionnaire, answers by item."""
    there: dict[str, dict[str, Mapping[str, int]]] = {}
    for sample in messages():
        if sample.end == DELIVERED:
            there.setdefault(sample.dossier, {})[sample.number] = sample.answers
    return there


def _turns() -> Iterator[_Turn]:
    for client in range(1, CLIENTS + 1):
        yield _Turn(client)
        yield _Turn(client, version=1, status="C", last="F")
        yield _Turn(client, end=STALE, days_ago=1)
        yield _Turn(client, 2, ("filtered", "result_not_final"), status="P")
        yield _Turn(client, 2, version=2)
    yield _Turn(1, 9, ("filtered", "result_not_known"), status="D")
    yield _Turn(2, 2, ("parked", "partner_has_no_delete"), status="D")
    yield _Turn(1, 3, ("parked", "result_status_mixed"), last="D")
    yield _Turn(2, 3, ("parked", "profile_required"), without=("13", "Q"))
    yield _Turn(3, 3, ("parked", "profile_invalid"), unknown=("3",))
    yield _Turn(3, 4, ("parked", "several_results"), again=True)


def _sample(turn: _Turn, at: int, now: dt.datetime) -> RomSample:
    dossier, number = f"{2074 + turn.client}", f"ROM{turn.client:03}{turn.nth}"
    answers = {item: _answer(turn, place) for place, item in enumerate(ITEMS) if item not in turn.without}
    answers |= dict.fromkeys(turn.unknown, 9)
    when = f"{now - dt.timedelta(days=turn.days_ago):%Y%m%d%H%M%S}+0200"
    lines = [
        rf"MSH|^~\&|GGZEPD|{FACILITY}|EMRPIPE|MW|{when}||ORU^R01^ORU_R01|ROM{at:05}|P|2.5|||AL|NE|NLD|UNICODE UTF-8",
        f"PID|1||{dossier}^^^ZGDEMO^PI||Voorbeeld{turn.client}&&Voorbeeld{turn.client}^^A.^^^^L||19700401|F",
    ]
    for nth in (1, 2) if turn.again else (1,):
        lines += [_obr(turn, nth, f"{number}{'B' * (nth - 1)}", when), *_obx(turn, answers, when)]
    return RomSample(("\r".join(lines) + "\r").encode(), turn.end, dossier, number, answers)


def _answer(turn: _Turn, place: int) -> int:
    return (turn.client * 2 + turn.nth + turn.version + place * 3) % 5


def _obr(turn: _Turn, nth: int, number: str, when: str) -> str:
    fields = [""] * 33
    fields[:5] = ["OBR", str(nth), "", f"{number}^GGZEPD", "HONOS+^HoNOS+^L"]
    fields[7], fields[22], fields[25] = f"{START:%Y%m%d}090000+0200", when, "" if turn.last else turn.status
    fields[32] = "prof_1&Behandelaar&B."
    return "|".join(fields)


def _obx(turn: _Turn, answers: Mapping[str, int], when: str) -> Iterator[str]:
    """An OBX for each item, and one for what item 8 is about."""
    rows = [(f"HV{ITEMS.index(item) + 1:02}", f"HoNOS+ item {item}", "NM", str(answer)) for item, answer in answers.items()]
    rows += [("I8", "HoNOS+ item 8: which problem", "ST", OTHER_PROBLEM)] if answers.get("8") else []
    for place, (code, name, kind, value) in enumerate(rows, 1):
        status = turn.last if turn.last and place == len(rows) else turn.status
        yield f"OBX|{place}|{kind}|{code}^{name}^L||{value}||||||{status}|||{when}"
