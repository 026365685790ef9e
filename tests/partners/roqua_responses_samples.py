"""RoQua's REST API with its settings, and real results through the hops before it: what the tests of pack, stand-in and faults start from."""

from collections.abc import Mapping
from typing import Any

from pipeline import offline, wiring
from pipeline.commands.test import changed
from pipeline.model import Packed
from pipeline.settings import DEFAULTS, Settings, load_offline
from pipeline.stages.plan import Plan

NAME = "roqua-responses"
DOSSIER = "2075"
ANSWERS = {"OQ45_1": "3", "OQ45_2": "0", "OQ45_46": "4"}


def settings_with(**settings: Any) -> Settings:  # noqa: ANN401 - any setting
    return changed(load_offline(DEFAULTS), NAME, settings)


def plan_with(**settings: Any) -> Plan:  # noqa: ANN401 - any setting
    return wiring.plan_offline(settings_with(**settings), NAME)


def oru(
    number: str = "R-77",
    status: str = "F",
    *,
    dossier: str = DOSSIER,
    answers: Mapping[str, str] = ANSWERS,
    control: str = "M1",
    when: str = "20260419150000+0200",
    questionnaire: str = "OQ45",
) -> bytes:
    obr = [""] * 33
    obr[1], obr[3], obr[4], obr[7], obr[25], obr[32] = "1", number, questionnaire, "20260419144000+0200", status, "prof_1"
    lines = [
        f"MSH|^~\\&|EPD|ZGDEMO|PIPELINE|ROQUA|{when}||ORU^R01|{control}|P|2.5.1",
        f"PID|1||{dossier}^^^ZGDEMO^PI||Tester^Anna^^^^^L||19800203|F",
        "|".join(["OBR", *obr[1:]]),
        *(f"OBX|{nth}|NM|{code}||{value}||||||{status}" for nth, (code, value) in enumerate(answers.items(), 1)),
    ]
    return "\r".join([*lines, ""]).encode()


def packed(message: bytes, plan: Plan, *, known: str | None = None, part: str | None = None) -> Packed:
    came = offline.convert(message, plan, known=known, parts=[part])
    assert isinstance(came, Packed), came
    return came
