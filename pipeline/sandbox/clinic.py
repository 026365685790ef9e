"""Sample messages of an American clinic that does not exist, whose clients go to Roche and to NJSAMS: with what is to become of each at both.

States and reasons are plain text, as in traffic.py; what is expected is read off the same rules, NJSAMS's contract with default settings, and a
stand-in without faults.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

FACILITY: Final = "NJDEMO"
PROGRAM: Final = "SUD-IOP"
"""The one of its programs whose messages may go to NJSAMS."""
CLIENTS: Final = 6
START: Final = dt.datetime(2026, 3, 2, 8, 0)  # noqa: DTZ001 - the offset is written beside it
STEP: Final = dt.timedelta(minutes=3)

End = tuple[str, str | None]
DELIVERED: Final[End] = ("delivered", None)
STALE: Final[End] = ("superseded", "stale")
NO_VISIT: Final[End] = ("filtered", "partner_has_no_visit")


@dataclass(frozen=True, slots=True)
class ClinicSample:
    """A message, and (state, reason) at each partner."""

    bytes: bytes = field(repr=False)
    roche: End
    njsams: End


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message before it has its time."""

    trigger: str
    client: int
    visit: str
    roche: End = DELIVERED
    njsams: End = DELIVERED
    program: str = PROGRAM
    version: int = 0
    """Of the client's telephone number."""
    days_ago: int = 0
    ssn: bool = True


def messages() -> list[ClinicSample]:
    """All of them, in the order of sending."""
    return [
        ClinicSample(_adt(turn, number, START + STEP * number), turn.roche, turn.njsams)
        for number, turn in enumerate(_turns(), 1)
    ]


def _turns() -> Iterator[_Turn]:
    for client in range(1, CLIENTS + 1):
        first, second = f"NJV{client:03}1", f"NJV{client:03}2"
        yield _Turn("A04", client, first)
        yield _Turn("A08", client, first, version=1)
        yield _Turn("A01", client, second, version=2)  # known client, new visit: two requests at NJSAMS
        yield _Turn("A03", client, first, NO_VISIT, version=2)
        yield _Turn("A08", client, first, STALE, STALE, days_ago=1)
    yield _Turn("A11", 1, "NJV9991", NO_VISIT, ("filtered", "visit_not_known"))
    yield _Turn("A11", 2, "NJV9992", NO_VISIT, ("filtered", "visit_not_known"))
    for client in (51, 52, 53):
        yield _Turn("A04", client, f"NJV{client}", njsams=("filtered", "part2_not_allowed"), program="ORTHOPEDICS")
    yield _Turn("A04", 54, "NJV54", njsams=("parked", "profile_required"), ssn=False)
    yield _Turn("A04", 55, "", njsams=("parked", "number_missing"))


def _adt(turn: _Turn, number: int, now: dt.datetime) -> bytes:
    when = f"{now - dt.timedelta(days=turn.days_ago):%Y%m%d%H%M%S}-0500"
    began, client = f"{START:%Y%m%d}080000-0500", turn.client
    ended = f"|{when}" if turn.trigger == "A03" else ""
    ssn = f"900-01-{client:04}" if turn.ssn else ""
    home = f"{client} Test Street^^Newark^NJ^07102^USA^H||^PRN^PH^^1^973^555{1000 + client * 10 + turn.version}"
    lines = [
        rf"MSH|^~\&|NJEHR|{FACILITY}|EMRPIPE|MW|{when}||ADT^{turn.trigger}|NJ{number:06}|P|2.5.1|||AL|NE||UNICODE UTF-8",
        f"EVN|{turn.trigger}|{when}",
        f"PID|1||C-{client:04}^^^NJSAMS^PI~{8_000_000 + client}^^^METEDA^PI||Example{client}^Pat^Quinn^^^^L||19800203|F|||{home}||EN^English^ISO639||||{ssn}",
        f"PV1|1|O|CLINIC^^^{FACILITY}|||||||{turn.program}|||||||||{turn.visit}^^^NJEHR^VN|||||||||||||||||||||||||{began}{ended}",
        "DG1|1||E11.9^Diabetes mellitus type 2^I10||20260302|W",
        f"IN1|1|MCD^Medicaid|MEDICAID|NJ Medicaid||||||||20260101||||Example{client}^Pat|SEL|||||||||||||||||||P-{77000 + client}",
    ]
    return ("\r".join(lines) + "\r").encode()
