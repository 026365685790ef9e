"""Sample messages of the appointment system of a Dutch hospital that does not exist: SIU, with what is to become of each on its way to patients.

Days count from a given one, so that the three scenarios of the official suite can be asked of them (contracts/medmij.md section 8). States and reasons are
plain text, as in traffic.py, for messages that are sent in order. Shares nothing with our reader or mapping.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from zoneinfo import ZoneInfo

FACILITY: Final = "ZUIDDEMO"
ZONE: Final = ZoneInfo("Europe/Amsterdam")
SYSTEM: Final = "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.6"
"""Of the hospital's own patient numbers: what the demo site's table makes of ZGDEMO."""

End = tuple[str, str | None]
DELIVERED: Final[End] = ("delivered", None)
STALE: Final[End] = ("superseded", "stale")


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose appointments they are."""

    number: str
    """The hospital's own."""
    bsn: str | None
    """Of the range that is never given out; one came without."""
    name: str
    """PID-5."""
    born: str
    sex: str


PATIENTS: Final = (
    Patient("71001", "999900201", "van Duinen&van&Duinen^Noor^^^^^L", "19840309", "F"),
    Patient("71002", "999900213", "Rahman&&Rahman^Sami^^^^^L", "19711123", "M"),
    Patient("71003", "999900225", "ter Linden&ter&Linden^Bram^^^^^L", "19590630", "M"),
    Patient("71004", "999900237", "de Wit-van Houten&de&Wit&van&Houten^Eva^M.^^^^L", "19900214", "F"),
    Patient("71005", None, "Pieters&&Pieters^Ada^^^^^L", "19480105", "F"),
)
SURGERY: Final = ("0303", "01012345^Molenaar&&Molenaar^H^^^dr.^^^AGB", "CHI^12^^ZUIDDEMO^^^^^Polikliniek chirurgie, route 12")
PHYSIOTHERAPY: Final = ("0327", "04067890^Scholten&&Scholten^T^^^^^^AGB", "REV^2^^ZUIDDEMO^^^^^Oefenzaal, begane grond")
RADIOLOGY: Final = ("0362", "01098765^Yilmaz&&Yilmaz^R^^^drs.^^^AGB", "RAD^30^^ZUIDDEMO^^^^^Radiologie, route 30")


@dataclass(frozen=True, slots=True)
class AgendaSample:
    """A message, and what is to become of it."""

    bytes: bytes = field(repr=False)
    end: End
    patient: Patient = field(repr=False)
    number: str
    """Of the appointment."""
    start: dt.datetime | None
    """As the message has it."""
    status: str
    """What a patient then reads, where it is delivered."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message before it has its time."""

    event: str
    patient: int
    nth: int
    """Of the patient's appointments."""
    days: int
    at: str
    care: tuple[str, str, str]
    what: str
    filler: str = "Booked"
    """SCH-25."""
    status: str = "booked"
    end: End = DELIVERED
    note: str = ""
    ago: int = 0
    """Days by which the message is older than the others."""
    numbered: bool = True
    timed: bool = True


def messages(today: dt.date) -> list[AgendaSample]:
    """All of them, in the order of sending."""
    return [_sample(turn, at, today) for at, turn in enumerate(_turns(), 1)]


def kept(today: dt.date) -> dict[str, dict[str, tuple[dt.datetime, str]]]:
    """What each patient (by number) is to read at the end: start and status by the appointment's number."""
    there: dict[str, dict[str, tuple[dt.datetime, str]]] = {one.number: {} for one in PATIENTS}
    for sample in messages(today):
        if sample.end == DELIVERED and sample.start is not None:
            there[sample.patient.number][sample.number] = (sample.start, sample.status)
    return there


def _turns() -> Iterator[_Turn]:
    done = {"event": "S14", "filler": "Complete", "status": "fulfilled"}
    # the three patients of the scenarios
    yield _Turn("S12", 0, 1, -150, "0900", SURGERY, "Nacontrole operatie")
    yield _Turn(patient=0, nth=1, days=-150, at="0900", care=SURGERY, what="Nacontrole operatie", **done)  # type: ignore[arg-type]
    yield _Turn("S12", 0, 2, 20, "1030", PHYSIOTHERAPY, "Fysiotherapie")
    yield _Turn("S12", 0, 3, 42, "1345", RADIOLOGY, "CT-scan", note="Drie uur voor het onderzoek niets eten.")
    for nth, days, at, care, what in (
        (1, -30, "0820", SURGERY, "Controle"),
        (2, -28, "1100", PHYSIOTHERAPY, "Intake"),
        (3, -60, "1510", RADIOLOGY, "Echo"),
    ):
        yield _Turn("S12", 1, nth, days, at, care, what, filler="Complete", status="fulfilled")
    yield _Turn("S12", 2, 1, -700, "1200", SURGERY, "Controle", filler="Complete", status="fulfilled")
    # one with everything that can become of an appointment
    yield _Turn("S12", 3, 1, 3, "0915", SURGERY, "Eerste bezoek")
    yield _Turn("S13", 3, 1, 10, "1100", SURGERY, "Eerste bezoek", note="Neem een actueel medicatieoverzicht mee.")
    yield _Turn("S13", 3, 1, 5, "0800", SURGERY, "Eerste bezoek", end=STALE, ago=1)
    yield _Turn("S12", 3, 2, 12, "1400", RADIOLOGY, "MRI-scan")
    yield _Turn("S15", 3, 2, 12, "1400", RADIOLOGY, "MRI-scan", filler="Cancelled", status="cancelled")
    yield _Turn("S12", 3, 3, -7, "1620", PHYSIOTHERAPY, "Fysiotherapie")
    yield _Turn("S26", 3, 3, -7, "1620", PHYSIOTHERAPY, "Fysiotherapie", filler="Noshow", status="noshow")
    yield _Turn("S12", 3, 4, 31, "1005", PHYSIOTHERAPY, "Fysiotherapie")
    yield _Turn("S12", 4, 1, 15, "1330", SURGERY, "Controle")
    # what does not go
    yield _Turn("S23", 3, 9, 16, "1330", SURGERY, "Blokkade", end=("filtered", "event_not_for_partner"))
    yield _Turn("S12", 3, 9, 16, "1330", SURGERY, "Controle", end=("parked", "number_missing"), numbered=False)
    yield _Turn("S12", 3, 8, 16, "1330", SURGERY, "Controle", end=("parked", "time_missing"), timed=False)


def _sample(turn: _Turn, at: int, today: dt.date) -> AgendaSample:
    patient = PATIENTS[turn.patient]
    number = f"AF{patient.number}{turn.nth:02}"
    clock = dt.time(int(turn.at[:2]), int(turn.at[2:]))
    start = dt.datetime.combine(today + dt.timedelta(turn.days), clock, ZONE)
    sent = (
        dt.datetime.combine(today, dt.time(7, 30), ZONE) + dt.timedelta(minutes=at) - dt.timedelta(days=1 + turn.ago)
    )  # never ahead of now
    return AgendaSample(_siu(turn, at, number, start, sent), turn.end, patient, number, start, turn.status)


def _siu(turn: _Turn, at: int, number: str, start: dt.datetime, sent: dt.datetime) -> bytes:
    patient = PATIENTS[turn.patient]
    when, begins, ends = _stamp(sent), _stamp(start), _stamp(start + dt.timedelta(minutes=20))
    specialty, professional, place = turn.care
    sch = [""] * 26
    sch[0], sch[7], sch[8] = "SCH", f"{specialty}^{turn.what}^L", "AMB"
    sch[2] = f"{number}^ZUIDEPD" if turn.numbered else ""
    sch[9], sch[10], sch[25] = "20", "min", turn.filler
    sch[11] = f"^^20^{begins}^{ends}" if turn.timed else ""
    bsn = f"{patient.bsn}^^^NLMINBIZA^NNNLD~" if patient.bsn else ""
    lines = [
        rf"MSH|^~\&|ZUIDEPD|{FACILITY}|EMRPIPE|MW|{when}||SIU^{turn.event}^SIU_S12|AG{at:05}|P|2.5|||AL|NE|NLD|UNICODE UTF-8",
        "|".join(sch),
        *([f"NTE|1||{turn.note}|PI"] if turn.note else []),
        f"PID|1||{bsn}{patient.number}^^^ZGDEMO^PI||{patient.name}||{patient.born}|{patient.sex}",
        f"PV1|1|O||||||||{specialty}",
        "RGS|1|A",
        f"AIS|1|A|{specialty}^{turn.what}^L|{begins if turn.timed else ''}|||20|min",
        f"AIL|1|A|{place}",
        f"AIP|1|A|{professional}",
    ]
    return ("\r".join(lines) + "\r").encode()


def _stamp(at: dt.datetime) -> str:
    return f"{at:%Y%m%d%H%M%S%z}"
