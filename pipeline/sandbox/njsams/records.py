"""What NJSAMS's stand-in has: every version of every resource, with the time by its own clock. Rebuilt from the log of effects at start. No I/O."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.sandbox.log import Effect, Written

IG: Final = "https://fhir.njsams.rutgers.edu/NJSAMS-fhir"
CLIENT_ID: Final = f"{IG}/client-id"
Resource = dict[str, Any]


def client_id_of(patient: Resource) -> str | None:
    """The identifier that a Patient is known by."""
    return next((one["value"] for one in patient.get("identifier", ()) if one.get("system") == CLIENT_ID), None)


def keys_of(resource: Resource) -> tuple[str, ...]:
    """What it is known by outside: client-id, visit number, payor and policy number."""
    if resource["resourceType"] not in {"Patient", "Encounter", "Coverage"}:
        return ()
    identifiers = [f"{one['system']}|{one['value']}" for one in resource.get("identifier", ())]
    if resource["resourceType"] == "Patient":
        value = client_id_of(resource)
        return (value,) if value else ()
    if resource["resourceType"] == "Coverage":
        payors = [one.get("reference", "") for one in resource.get("payor", ())]
        policies = [resource["subscriberId"]] if "subscriberId" in resource else identifiers
        return tuple(f"{payor}|{policy}" for payor in payors[:1] for policy in policies)
    return tuple(identifiers)


@dataclass(slots=True)
class Records:
    """All resources. Where a partner creates twice, the latest answers to the key."""

    _versions: dict[tuple[str, str], list[tuple[float, Resource]]] = field(default_factory=dict)
    _by_key: dict[tuple[str, str], str] = field(default_factory=dict)

    def restore(self, effects: Iterable[Effect]) -> None:
        """What the log says."""
        for effect in effects:
            for one in effect.written:
                self.put(one, effect.clock or effect.time)

    def put(self, written: Written, clock: float) -> None:
        """A version more."""
        place = (written.type, written.id)
        self._versions.setdefault(place, []).append((clock, written.resource))
        for key in written.keys:
            self._by_key[written.type, key] = written.id

    def __contains__(self, place: tuple[str, str]) -> bool:
        return place in self._versions

    def count(self, kind: str) -> int:
        """How many there are of a type."""
        return sum(1 for found, _ in self._versions if found == kind)

    def with_key(self, kind: str, keys: Iterable[str]) -> str | None:
        """The id of what is known by one of these."""
        return next((self._by_key[kind, key] for key in keys if (kind, key) in self._by_key), None)

    def newest(self, kind: str, wanted: str) -> Resource | None:
        """As it was written last, visible or not."""
        versions = self._versions.get((kind, wanted))
        return versions[-1][1] if versions else None

    def visible(self, kind: str, wanted: str, until: float) -> Resource | None:
        """As it can be read: the newest version of that time or before."""
        versions = self._versions.get((kind, wanted), ())
        return next((resource for clock, resource in reversed(versions) if clock <= until), None)

    def all_visible(self, kind: str, until: float) -> Iterator[Resource]:
        """In the order of their making."""
        for found, wanted in list(self._versions):
            resource = self.visible(found, wanted, until) if found == kind else None
            if resource is not None:
                yield resource
