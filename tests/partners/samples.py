"""A mapped patient of Roche's, and the partner with its settings: what the tests of pack, verdicts and sandbox start from."""

import uuid
from pathlib import Path
from typing import Any

from pipeline.model import (
    Action,
    Decoded,
    EventRule,
    Identified,
    Identity,
    Intent,
    Kind,
    Mapped,
    Position,
    Received,
    Reply,
    Resource,
    Routed,
    Subject,
)
from pipeline.partners.roche.partner import Roche
from pipeline.settings_partners import RocheSettings
from pipeline.settings_sections import Secret, TlsFiles
from schemas.event import Event, Identifier, Null
from schemas.roche import CIP, CONDITION_PROFILE, HEADER_PROFILE, MESSAGE_TYPE, METEDA, NEW_BUNDLE, PATIENT_PROFILE, SNOMED

MESSAGE = uuid.UUID("5109d51b-421e-4746-b673-16e3fe2b3442")


class Silent:
    """A message of which nothing is asked."""

    def __call__(self, path: str) -> str | Null | None:  # noqa: ARG002 - the protocol's signature
        return None

    def count(self, path: str) -> int:  # noqa: ARG002 - as above
        return 0


def roche(**settings: Any) -> Roche:  # noqa: ANN401 - any setting
    given = {
        "kind": "roche",
        "base_url": "https://localhost/partners/fhir/stu3/api",
        "org_id": "2.16.724.4.2",
        "client_id": "1234567890",
        "client_secret": Secret(file=Path("secret")),
        "tls": TlsFiles(),
        **settings,
    }
    return Roche(RocheSettings.model_validate(given), system_of)


def system_of(identifier: Identifier) -> str | None:
    return {"CIP": CIP, "MTD": METEDA}.get(str(identifier.authority))


def identified(
    value: str = "TEST0000000001",
    intent: Intent = Intent.CREATE,
    partner_id: str | None = None,
    message: uuid.UUID | str = MESSAGE,
    *,
    system: str = CIP,
    accepted: bool = True,
) -> Identified:
    identity = Identity(Subject.PATIENT, system, value)
    routed = Routed(
        decoded=Decoded(Received(Position("his.adt", 0, 1), b"MSH|"), Silent(), Event(type="ADT", trigger="A04")),
        route="roche-patients",
        partner="roche",
        rule=EventRule("ADT^A04", Kind.SNAPSHOT, Subject.PATIENT, Action.UPSERT),
        identities=(identity,) if accepted else (),
        prior=(),
        lanes=("lane",),
        subjects=("subject",),
        sender="HIS|HOSPITAL",
        dedupe="dedupe",
        request_id=str(message),
        event_ms=None,
    )
    return Identified(routed, intent, partner_id, identity if accepted else None)


def resources(partner: Roche, what: Identified, *, diabetes: bool = True, **patient: Any) -> tuple[Resource, ...]:  # noqa: ANN401
    """What the mapping renders, in its own order; `patient` overrides elements, None takes one out."""
    ids = partner.variables(what)
    header = {
        "resourceType": "MessageHeader",
        "id": ids["message_header_id"],
        "meta": {"profile": [HEADER_PROFILE]},
        "event": {"system": MESSAGE_TYPE, "code": NEW_BUNDLE, "display": "New bundle generated"},
        "timestamp": "2026-05-02T10:15:30.000+02:00",
        "source": {"endpoint": ids["endpoint"], "software": ids["software"], "version": ids["software_version"]},
    }
    person: dict[str, Any] = {
        "resourceType": "Patient",
        "id": ids["patient_id"],
        "meta": {"profile": [PATIENT_PROFILE]},
        "identifier": [{"system": what.identity.system, "value": what.identity.value}] if what.identity else [],
        "active": True,
        "name": [{"family": "Example", "given": ["Ana"]}],
        "gender": "female",
        "birthDate": "1980-02-03",
    }
    if ids["managing_organization"]:
        person["managingOrganization"] = {"reference": ids["managing_organization"]}
    person = {name: value for name, value in {**person, **patient}.items() if value is not None}
    condition = {
        "resourceType": "Condition",
        "id": ids["condition_id"],
        "meta": {"profile": [CONDITION_PROFILE]},
        "clinicalStatus": "active",
        "code": {"coding": [{"system": SNOMED, "code": "46635009", "display": "Diabetes mellitus type 1"}]},
        "subject": {"reference": ids["patient_reference"]},
    }
    return (header, person, condition) if diabetes else (header, person)


def mapped(partner: Roche, what: Identified | None = None, *, diabetes: bool = True, **patient: Any) -> Mapped:  # noqa: ANN401
    what = what or identified()
    return Mapped(what, resources(partner, what, diabetes=diabetes, **patient), "version")


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, named, body, elapsed_ms=12.0, sent_ms=1_790_000_000_000, answered_ms=1_790_000_000_012)
