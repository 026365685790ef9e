"""What NJSAMS's answers hold: the entries of a transaction-response, and of a search those that are ours. What follows stands in verdicts.py."""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import orjson

from pipeline.model import Identity, Intent, Learned, Mapped, Reply, Resource, Subject
from pipeline.partners import answers
from pipeline.partners.njsams.entries import ID, Item, patient_id
from pipeline.partners.njsams.verdicts import Operation, Said
from schemas.njsams import LABEL

LOCATION: Final = re.compile(r"(?:.*/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/[^/]*)?/?")


class Written:
    """The answer to a bundle, entry by entry (C section 5: by index)."""

    def __init__(self, items: tuple[Item, ...], reply: Reply, operation: Operation) -> None:
        body = answers.read(reply.body)
        self.status, self.codes = reply.status, body.codes if body.form is answers.Form.ERROR else ()
        self.ids: dict[Identity, str] = {}
        self.said = _outcome(body)
        if reply.status in {200, 201} and (entries := _entries(reply.body, "transaction-response")) is not None:
            self._read(items, entries, operation)

    def _read(self, items: tuple[Item, ...], entries: list[Any], operation: Operation) -> None:
        if len(entries) != len(items):
            self.said = Said.OTHER
            return
        statuses = [_status(entry) for entry in entries]
        failed = [status for status in statuses if not 200 <= status < 300]  # noqa: PLR2004 - HTTP's success
        if failed:
            whole = operation is Operation.UPDATE or len(failed) == len(entries)
            self.said = Said.OUTCOME if whole else Said.PARTLY
            self.status = max(failed, key=_tells) if whole else self.status
            self.codes = self.codes or tuple(code for entry in entries for code in _codes(entry))
            return
        located = [_located(entry, item.kind) for entry, item in zip(entries, items, strict=True)]
        if operation is Operation.CREATE and None in located:
            self.said = Said.OTHER
            return
        self.said = Said.DONE
        self.ids = {item.identity: item.partner_id or str(given) for item, given in zip(items, located, strict=True)}


class Searched:
    """The answer to a search: which of what is sought it has."""

    def __init__(self, sought: tuple[Item, ...], reply: Reply, operation: Operation) -> None:
        body = answers.read(reply.body)
        self.status, self.codes = reply.status, body.codes if body.form is answers.Form.ERROR else ()
        self.ids: dict[Identity, str] = {}
        self.said = _outcome(body)
        kind = {Operation.PATIENT: "Patient", Operation.ENCOUNTER: "Encounter", Operation.COVERAGE: "Coverage"}[operation]
        wanted = [item for item in sought if item.kind == kind]
        if reply.status == 200 and self.said is Said.OTHER:  # noqa: PLR2004 - HTTP's OK
            entries = _entries(reply.body, "searchset", "search-result")
            if entries is not None:
                self._read(wanted, entries, more=_has_next(reply.body))
        self.further = len(self.ids) < len(sought)

    def _read(self, wanted: list[Item], entries: list[Any], *, more: bool) -> None:
        there = [one for entry in entries if isinstance(one := entry.get("resource") if isinstance(entry, dict) else None, dict)]
        matches = {item.identity: {str(one.get("id")) for one in there if _same(item, one)} for item in wanted}
        unclear = any(len(ids) > 1 or not all(ID.fullmatch(one) for one in ids) for ids in matches.values())
        if unclear or any(_nearly(item, one) for item in wanted if not matches[item.identity] for one in there):
            self.said = Said.UNCLEAR
            return
        self.ids = {identity: next(iter(ids)) for identity, ids in matches.items() if ids}
        missing = len(self.ids) < len(matches)
        self.said = Said.UNCLEAR if missing and more else Said.FOUND if self.ids else Said.NONE


def _same(item: Item, there: Resource) -> bool:
    """Whether a resource of NJSAMS's is what we sent: by identifier, a coverage by payor and policy number; and not under another's label."""
    return _ours(item, there) and bool(_keys(item, item.resource) & _keys(item, there))


def _nearly(item: Item, there: Resource) -> bool:
    """Whether it is what we sent but for its label, its number's system or case: ours or another's, which nobody here can tell."""
    its = _policy(there) if item.kind == "Coverage" else _identifiers(there, {item.identity.system, None})
    mine = {key.lower() for key in _keys(item, item.resource)}
    return there.get("resourceType") == item.kind and bool(mine & {key.lower() for key in its})


def _ours(item: Item, there: Resource) -> bool:
    """Of the kind that we sent, and under our label; one that is shown without a label may be ours (B: read sample)."""
    labels = _labels(there)
    return there.get("resourceType") == item.kind and (not labels or bool(labels & _labels(item.resource)))


def _keys(item: Item, resource: Resource) -> set[str]:
    """What it is known by there."""
    return _policy(resource) if item.kind == "Coverage" else _identifiers(resource, {item.identity.system})


def _labels(resource: Resource) -> set[str]:
    """The provider ids whose label it has."""
    meta = resource.get("meta")
    given = meta.get("security") if isinstance(meta, dict) else None
    return {
        str(one["code"])
        for one in (given if isinstance(given, list) else ())
        if isinstance(one, dict) and one.get("system") == LABEL and one.get("code")
    }


def _identifiers(resource: Resource, systems: AbstractSet[str | None]) -> set[str]:
    """Values of these systems; None: of those without one."""
    given = resource.get("identifier")
    return {
        str(one["value"]).strip()
        for one in (given if isinstance(given, list) else ())
        if isinstance(one, dict) and one.get("system") in systems and one.get("value")
    }


def _policy(resource: Resource) -> set[str]:
    payors, number = resource.get("payor"), resource.get("subscriberId")
    first = payors[0] if isinstance(payors, list) and payors else None
    reference = first.get("reference") if isinstance(first, dict) else None
    found = LOCATION.fullmatch(reference) if isinstance(reference, str) else None
    return {f"{found['id']}|{str(number).strip()}"} if found and number else set()


def _outcome(body: answers.Body) -> Said:
    """What a body says that is no bundle of the kind that was asked for."""
    return {answers.Form.ERROR: Said.OUTCOME, answers.Form.EMPTY: Said.EMPTY}.get(body.form, Said.OTHER)


def _tree(body: bytes) -> Resource:
    try:
        tree = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return {}
    return tree if isinstance(tree, dict) else {}


def _entries(body: bytes, *types: str) -> list[Any] | None:
    """The entries of a bundle of one of these types; None where it is none. A search that found nothing may leave them out."""
    tree = _tree(body)
    if tree.get("resourceType") != "Bundle" or tree.get("type") not in types:
        return None
    entries = tree.get("entry", [])
    return entries if isinstance(entries, list) else None


def _has_next(body: bytes) -> bool:
    links = _tree(body).get("link")
    return isinstance(links, list) and any(isinstance(one, dict) and one.get("relation") == "next" for one in links)


def _response(entry: object) -> Mapping[str, Any]:
    response = entry.get("response") if isinstance(entry, dict) else None
    return response if isinstance(response, dict) else {}


def _status(entry: object) -> int:
    """Of `201 Created` 201; 0 where there is none."""
    found = re.match(r"\s*([1-9]\d\d)\b", str(_response(entry).get("status", "")), re.ASCII)
    return int(found[1]) if found else 0


def _tells(status: int) -> tuple[bool, int]:
    """Which of several failed entries says most: not one that failed because another did (424)."""
    return status != 424, status  # noqa: PLR2004 - RFC 4918 section 11.4


def _located(entry: object, kind: str) -> str | None:
    """The id in an entry's location, absolute or relative, with or without a version; None where it is of another type."""
    location = _response(entry).get("location")
    found = LOCATION.fullmatch(location) if isinstance(location, str) else None
    return found["id"] if found and found["type"] == kind else None


def _codes(entry: object) -> Iterable[str]:
    outcome = _response(entry).get("outcome")
    return answers.read(orjson.dumps(outcome)).codes if isinstance(outcome, dict) else ()


def learned_of(mapped: Mapped, ids: Mapping[Identity, str]) -> tuple[Learned, ...]:
    """What NJSAMS has, and under which id: the patient under every client-id that went out; a part with the patient that it belongs to."""
    identified = mapped.identified
    creating = identified.intent is Intent.CREATE
    about = identified.identity
    assert about is not None  # noqa: S101 - route parks a message of nobody
    patient = ids.get(about) or patient_id(identified)
    if patient is None:
        return ()
    found = [Learned(about, patient, created_with=creating)]
    found += [Learned(other, patient) for other in identified.routed.identities if other != about]
    parts = {**identified.part_ids, **{one: given for one, given in ids.items() if one.kind is not Subject.PATIENT}}
    found += [Learned(part, given, belongs_to=patient) for part, given in parts.items()]
    return tuple(found)
