"""RoQua with its settings, HoNOS+ messages, and the published example as the dossier states it: what the tests of both ways in start from."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from pipeline import offline, wiring
from pipeline.commands.test import changed
from pipeline.model import Outcome, Packed, Reply, Request
from pipeline.partners.roqua.documents import Roqua
from pipeline.settings import DEFAULTS, load_offline
from pipeline.stages.plan import Plan

ROUTE = "roqua-honos"
ITEMS: Final = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "A", "B", "C", "D", "E", "Q"]
PUBLISHED: Final = (
    ("1", "HV01", "item 1 - aggressive/disruptive behavior", 0, "HA01"),
    ("2", "HV02", "item 2 - non-accidental self injury", 0, "HA06"),
    ("3", "HV03", "item 3 - alcohol/drug problem", 0, "HA11"),
    ("4", "HV04", "item 4 - cognitive problems", 4, "HA20"),
    ("5", "HV05", "item 5 - physical illness/disability", 2, "HA23"),
    ("6", "HV06", "item 6 - hallucinations/delusions", 3, "HA29"),
    ("7", "HV07", "item 7 - depressed mood", 0, "HA31"),
    ("8", "HV08", "item 8 - other mental/behavioral problems", 4, "HA40"),
    ("9", "HV09", "item 9 - relationship problems", 3, "HA44"),
    ("10", "HV10", "item 10 - activities of daily living", 1, "HA47"),
    ("11", "HV11", "item 11 - living conditions", 3, "HA54"),
    ("12", "HV12", "item 12 - occupation/activities", 1, "HA57"),
    ("13", "HV13", "item 13", 0, "HA61"),
    ("A", "HV14", "item A", 1, "HA67"),
    ("B", "HV15", "item B", 0, "HA71"),
    ("C", "HV16", "item C", 0, "HA76"),
    ("D", "HV17", "item D", 2, "HA83"),
    ("E", "HV18", "item E", 3, "HA89"),
    ("Q", "HV19", "item Q", 1, "HA92"),
)
"""Item, question, display, score, answer of the published example (contracts/roqua.md 4.2)."""
SCORES: Final = {item: score for item, _, _, score, _ in PUBLISHED}


def plan_with(**settings: Any) -> Plan:  # noqa: ANN401 - any setting
    return wiring.plan_offline(changed(load_offline(DEFAULTS), "roqua", settings), ROUTE)


def roqua(**settings: Any) -> Roqua:  # noqa: ANN401 - any setting
    partner = plan_with(**settings).partner
    assert isinstance(partner, Roqua)
    return partner


def obx(code: str, value: str, status: str = "F", when: str = "20260419") -> str:
    """An OBX without its number."""
    return f"NM|{code}^a question^L||{value}||||||{status}|||{when}"


def answered(
    scores: Mapping[str, int | str] = SCORES, *, problem: str | None = "K", status: str = "F", when: str = "20260419"
) -> list[str]:
    """An OBX for each answer, and for the problem that item 8 rates."""
    lines = [obx(f"HV{ITEMS.index(item) + 1:02}", str(score), status, when) for item, score in scores.items()]
    return lines if problem is None else [*lines, obx("I8", problem, status, when)]


def oru(
    lines: Iterable[str] | None = None,
    *,
    status: str = "F",
    dossier: str = "2075",
    number: str = "F-1^EPD",
    placer: str = "",
    author: str = "prof_1&Behandelaar&B.",
    name: str = "Tester^A.",
    observed: str = "20260419",
    reported: str = "20260419144452+0200",
    sent: str = "20260419144453+0200",
    control: str = "H-1",
    more: Sequence[str] = (),
) -> bytes:
    """A questionnaire of the hospital's, by default that of the published example."""
    obr = [""] * 33
    obr[1], obr[2], obr[3], obr[4], obr[7], obr[22], obr[25], obr[32] = (
        *("1", placer, number, "HONOS+^HoNOS+^L"),
        *(observed, reported, status, author),
    )
    head = [
        f"MSH|^~\\&|EPD|ZGDEMO|EMR|ZGDEMO|{sent}||ORU^R01^ORU_R01|{control}|P|2.5|||||||UNICODE UTF-8",
        f"PID|1||{dossier}^^^ZGDEMO^PI||{name}||19700401|F",
        "|".join(["OBR", *obr[1:]]),
    ]
    found = answered(status=status) if lines is None else lines
    return "\r".join([*head, *(f"OBX|{nth}|{line}" for nth, line in enumerate(found, 1)), *more, ""]).encode()


def converted(message: bytes, plan: Plan, *, known: str | None = None, parts: Sequence[str | None] = ()) -> Packed | Outcome:
    return offline.convert(message, plan, known=known, parts=parts)


def packed(message: bytes, plan: Plan, *, known: str | None = None, parts: Sequence[str | None] = ()) -> Packed:
    came = converted(message, plan, known=known, parts=parts)
    assert isinstance(came, Packed), came
    return came


def bundle(request: Request) -> dict[str, Any]:
    tree: dict[str, Any] = orjson.loads(request.body)
    return tree


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, named, body, elapsed_ms=12.0, sent_ms=1_790_000_000_000, answered_ms=1_790_000_000_012)


# the published example, as the dossier states its shape (contracts/roqua.md 4.1 to 4.3)


def example(own: str, patient: str, practitioner: str, updated: str, systems: tuple[str, str]) -> dict[str, Any]:
    """The document of the example's answers. What differs from the published file is given: ids, the organisation's systems, and when."""
    return {
        "id": own,
        "meta": {"lastUpdated": updated},
        "resourceType": "Bundle",
        "type": "document",
        "entry": [
            {"fullUrl": f"urn:uuid:{own}", "resource": _composition(own, patient, practitioner, systems)},
            *({"fullUrl": f"urn:uuid:{own}-{row[0]}", "resource": _observation(own, patient, row)} for row in PUBLISHED),
        ],
    }


def _composition(own: str, patient: str, practitioner: str, systems: tuple[str, str]) -> dict[str, Any]:
    dossier_system, professional_system = systems
    return {
        "resourceType": "Composition",
        "id": own,
        "meta": {"profile": ["http://hl7.org/fhir/STU3/Composition"]},
        "status": "final",
        "type": {"text": "HoNOS+"},
        "date": "2026-04-19",
        "title": "HoNOS+ vragenlijst",
        "subject": {
            "reference": f"Patient/{patient}",
            "identifier": {"system": dossier_system, "value": "2075"},
            "display": "A. Tester",
        },
        "author": [
            {
                "reference": f"Practitioner/{practitioner}",
                "identifier": {"system": professional_system, "value": "prof_1"},
                "display": "B. Behandelaar",
            }
        ],
        "section": [
            {"entry": [{"reference": f"Observation/{own}-{item}", "display": display} for item, _, display, _, _ in PUBLISHED]}
        ],
    }


def _observation(own: str, patient: str, row: tuple[str, str, str, int, str]) -> dict[str, Any]:
    item, question, display, score, answer = row
    made: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"{own}-{item}",
        "meta": {"profile": ["http://nictiz.nl/fhir/StructureDefinition/zib-GeneralMeasurement"]},
        "status": "final",
        "code": {
            "coding": [
                {"system": "https://zorgprestatiemodel.nl/fhir/CodingSystem/HoNOSQuestion", "code": question, "display": display}
            ]
        },
        "subject": {"reference": f"Patient/{patient}", "display": "A. Tester"},
        "effectiveDateTime": "2026-04-19T00:00:00+02:00",
        "valueQuantity": {
            "value": score,
            "system": "https://zorgprestatiemodel.nl/fhir/CodingSystem/HoNOSAnswer",
            "code": answer,
        },
    }
    if item == "8":
        asked = {"system": "https://code24.nl/fhir/CodingSystem/HoNOSItem8Question", "code": "I8"}
        told = {"system": "https://code24.nl/fhir/CodingSystem/HoNOSItem8Answer", "code": "K", "display": "Overig"}
        made["component"] = [{"code": {"coding": [asked]}, "valueCodeableConcept": {"coding": [told]}}]
    return made
