"""MedMij with its settings, and SIU messages of a hospital: what its tests start from. No test in here."""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from pipeline import offline, wiring
from pipeline.commands.test import changed
from pipeline.model import Outcome, Packed, Request
from pipeline.settings import DEFAULTS, load_offline
from pipeline.stages.plan import Plan

ROUTE: Final = "medmij-appointments"
BSN: Final = "999911120"
"""Of the range that is never given out."""
LOCAL: Final = "99000111"
PID: Final = f"PID|1||{LOCAL}^^^ZGDEMO^PI~{BSN}^^^NLMINBIZA^NNNLD||de Vries-van den Berg&de&Vries&van den&Berg^Anna||19800203|F"
GROUP: Final = (
    "RGS|1|A",
    "AIS|1|A|CT^CT-scan^L|20260620093000+0200|||15|min||Booked",
    "AIP|1|A|01234567^de Kiek&de&Kiek^F.^^^dr.^^^AGB||||||||||Confirmed",
    "AIL|1|A|POLI^12^^ZH^^^OOST^2^Oostvleugel||||||||||Booked",
)


def plan_with(**settings: Any) -> Plan:  # noqa: ANN401 - any setting
    return wiring.plan_offline(changed(load_offline(DEFAULTS), "medmij", settings), ROUTE)


def siu(
    trigger: str = "S12",
    *,
    number: str = "A-1^AGENDA",
    pid: str = PID,
    start: str = "20260620093000+0200",
    end: str = "20260620094500+0200",
    duration: str = "15|min",
    status: str = "Booked",
    sent: str = "20260301120000+0100",
    group: Sequence[str] = GROUP,
) -> bytes:
    """A schedule, whole."""
    msh = f"MSH|^~\\&|AGENDA|ZIEKENHUIS|PIPE|MEDMIJ|{sent}||SIU^{trigger}^SIU_S12|M-1|P|2.5|||||NLD|UNICODE UTF-8"
    sch = f"SCH||{number}|||||K^Controle|AMB^Polikliniek^L|{duration}|^^15^{start}^{end}||||||||||||||{status}"
    return "\r".join((msh, sch, pid, "PV1|1|O||||||||0320", *group, "")).encode()


def converted(message: bytes, plan: Plan, *, known: str | None = None, parts: Sequence[str | None] = ()) -> Packed | Outcome:
    return offline.convert(message, plan, known=known, parts=parts)


def packed(message: bytes, plan: Plan, **known: Any) -> Packed:  # noqa: ANN401 - see converted
    came = converted(message, plan, **known)
    assert isinstance(came, Packed), (came.reason, came.where)
    return came


def request_of(message: bytes, plan: Plan, **known: Any) -> Request:  # noqa: ANN401 - see converted
    (request,) = packed(message, plan, **known).requests
    return request


def resources(request: Request) -> dict[str, dict[str, Any]]:
    """By type; of several the last."""
    return {entry["resource"]["resourceType"]: entry["resource"] for entry in orjson.loads(request.body)["entry"]}
