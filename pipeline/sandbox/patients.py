"""The patients that the stand-in has: by its own id, by identifier, by e-mail address. Rebuilt from the log of effects at start. No I/O."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.sandbox.log import NOTHING, Effect
from pipeline.sandbox.roche.checks import Submission, emails_of, identifiers_of


@dataclass(slots=True)
class Patients:
    """All patients. Where a partner creates twice, the latest answers to the identifier."""

    _resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    _by_identifier: dict[tuple[str, str], str] = field(default_factory=dict)
    _by_value: dict[str, str] = field(default_factory=dict)
    _by_email: dict[str, str] = field(default_factory=dict)

    def restore(self, effects: Iterable[Effect]) -> None:
        """What the log says."""
        for effect in effects:
            if effect.effect != NOTHING and effect.partner_id and effect.patient:
                self.put(effect.partner_id, effect.patient)

    def __len__(self) -> int:
        return len(self._resources)

    def put(self, partner_id: str, resource: dict[str, Any]) -> None:
        """Create or replace."""
        before = self._resources.get(partner_id)
        if before is not None:
            self._forget(partner_id, before)
        self._resources[partner_id] = {**resource, "id": partner_id}
        for system, value in identifiers_of(resource):
            self._by_identifier[system, value] = partner_id
            self._by_value[value] = partner_id
        for email in emails_of(resource):
            self._by_email[email] = partner_id

    def _forget(self, partner_id: str, resource: dict[str, Any]) -> None:
        for identifier in identifiers_of(resource):
            if self._by_identifier.get(identifier) == partner_id:
                del self._by_identifier[identifier]
            if self._by_value.get(identifier[1]) == partner_id:
                del self._by_value[identifier[1]]
        for email in emails_of(resource):
            if self._by_email.get(email) == partner_id:
                del self._by_email[email]

    def resource(self, partner_id: str) -> dict[str, Any] | None:
        """The Patient as it stands."""
        return self._resources.get(partner_id)

    def with_value(self, value: str) -> str | None:
        """The id of the patient with this business id, in whichever system."""
        return self._by_value.get(value)

    def with_identifier_of(self, submission: Submission) -> str | None:
        """The id of a patient that has one of the identifiers."""
        return next((self._by_identifier[one] for one in submission.identifiers if one in self._by_identifier), None)

    def with_email_of(self, submission: Submission, *, besides: str | None = None) -> bool:
        """Whether another patient has one of the e-mail addresses."""
        return any(self._by_email.get(email, besides) != besides for email in submission.emails)


def new_id(seed: int, number: int) -> str:
    """An id in the form of the published sample (Bj6.1Lq-hvb-28): the same for the same request number and seed."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()
    return f"R{digest[:3]}.{digest[3:7]}-{digest[7:10]}-{number}"
