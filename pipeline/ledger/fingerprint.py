"""Of what went out, a keyed hash per element: enough to say later which elements would differ, and never what stood in them. Pure.

Each is salted with the record's place: the gender of two patients has two hashes. Ids are left out: they change from create to update.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson

from pipeline.pseudonyms import Pseudonyms

LEFT_OUT: Final = frozenset({"resourceType", "id", "subject"})
BYTES: Final = 5


def elements(resources: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Patient.telecom, Condition[1].code and so on, with what stands there."""
    found: dict[str, Any] = {}
    count: dict[str, int] = {}
    for resource in resources:
        kind = str(resource.get("resourceType"))
        number = count[kind] = count.get(kind, -1) + 1
        name = f"{kind}[{number}]" if number else kind
        found |= {f"{name}.{element}": value for element, value in resource.items() if element not in LEFT_OUT}
    return found


def fingerprint(resources: Iterable[Mapping[str, Any]], salt: str, pseudonyms: Pseudonyms) -> str:
    """What the ledger keeps of them. On the hot path: one keyed hash makes the record's own key, under which each element is hashed."""
    key = pseudonyms.hash("sent", salt).encode()
    found = {
        path: blake2b(
            orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=BYTES, key=key, person=path.encode()[-16:]
        ).hexdigest()
        for path, value in elements(resources).items()
    }
    return orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode()


def differing(before: str | None, now: str) -> tuple[str, ...] | None:
    """The elements that are new, gone or other; None where it is not known what went out."""
    if before is None:
        return None
    old, new = orjson.loads(before), orjson.loads(now)
    return tuple(sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path)))
