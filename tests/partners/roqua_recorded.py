"""Responses as RoQua lists them (contracts/roqua.md section 6.1), and a reader of a tenant: what the tests of its read side start from."""

from types import SimpleNamespace
from typing import Any, Final

from pipeline.model import Reply
from pipeline.partners.roqua.reader import RoquaReader
from pipeline.settings_sections import OperationTimes

BASE: Final = "https://demo.rom.example"
CAPABILITY: Final = "https://demo.rom.example/client/session/new?token=canary-link"
"""What lets whoever has it fill in the questionnaire."""


def reader(**settings: Any) -> RoquaReader:  # noqa: ANN401 - any setting
    given = {
        "base_url": BASE,
        "subject_parameter": "subject",
        "filter_times": "iso8601",
        "dossier_system": "urn:oid:2.16.840.1.113883.2.4.3.11.999",
        "search": OperationTimes(read=30, total=45),
        **settings,
    }
    return RoquaReader.of(SimpleNamespace(**given))


def completed(**other: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON's own types
    """An OQ-45, shortened."""
    return {
        "id": 4,
        "respondent_id": 5,
        "name": "OQ-45",
        "questionnaire_name": "OQ-45",
        "questionnaire_key": "oq45",
        "open_from": None,
        "open_till": None,
        "requesters": [{"epd_id": "epdid_0"}],
        "completer_type": None,
        "completed_at": "2015-01-27T13:30:55.000+01:00",
        "status": "completed",
        "completing_url": None,
        "values": {"v_1": 4, "v_2": 0, "v_3": None},
        "outcome": {
            "scores": {
                "totaal": {
                    "score": True,
                    "label": "Totaal",
                    "value": 135,
                    "norm": ">= 55",
                    "interpretation": "Klinisch",
                    "tscore": 110,
                    "tscore_interpretation": "Zeer hoog",
                    "oru_flag": "HH",
                    "global": True,
                    "referenced_values": ["v_1", "v_2", "v_3"],
                }
            },
            "action": "alarm",
            "alarm": ["v_1"],
            "attention": [],
            "complete": None,
        },
        "flags": {},
        "textvars": {},
        "started_at": "2015-01-27T13:20:55.000+01:00",
        "measurement_id": None,
        "non_response_id": None,
    } | other


def invited(**other: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    """One that is not filled in yet."""
    nothing: dict[str, Any] = {"scores": {}, "action": None, "alarm": None, "attention": None, "complete": None}
    return (
        completed(
            id=2,
            questionnaire_key="quest1",
            questionnaire_name="Questionnaire With Flags",
            completer_type="patient",
            completed_at=None,
            status="open",
            completing_url=CAPABILITY,
            values={},
            outcome=nothing,
            started_at=None,
        )
        | other
    )


def answered(body: bytes, status: int = 200, media: str = "application/json; charset=utf-8") -> Reply:
    return Reply(status, {"content-type": media}, body, 1.0, 0, 1)
