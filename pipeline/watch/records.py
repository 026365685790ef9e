"""What a completion is on the topic: one record, by its dossier, with what it is known by after a crash. Pure.

A header holds keyed hashes and words of ours; the value is patient data, and has no link to the questionnaire.
"""

from typing import Final, Literal

import orjson

from pipeline.bus.port import Record
from pipeline.ids import uuid5
from pipeline.model import Received, Request, Resource
from pipeline.partners.reads import Reader
from pipeline.watch.core import News

KNOWN_BY: Final = "emr-record"
CHANGE: Final = "emr-change"
NEW, CORRECTED = "new", "corrected"
NAMESPACE: Final = bytes.fromhex("5c1c6a2a7f3d5d0b8a5f0f2e6a1b9c34")
"""Of the ids of Bundles (RFC 9562 section 5.5)."""
Form = Literal["response", "observations"]


def record_of(news: News, asked: Request, reader: Reader, topic: str, form: Form) -> tuple[Record, tuple[str, ...]]:
    """The record, and words of the partner's that are on no list of ours."""
    key, value = reader.record(asked, news.completion.response)
    told: tuple[str, ...] = ()
    if form == "observations":
        found, told = reader.observations(asked, news.completion.response, corrected=news.changed)
        value = _bundle(found)
    headers = (
        (KNOWN_BY, news.completion.item.record.encode()),
        (CHANGE, (CORRECTED if news.changed else NEW).encode()),
    )
    return Record(topic, orjson.dumps(value), key.encode("utf-8", "replace"), headers), told


def known_by(received: Received) -> str | None:
    """What a record of this or another watch is known by."""
    return next((value.decode("ascii", "replace") for name, value in received.headers if name == KNOWN_BY), None)


def _bundle(found: tuple[Resource, ...]) -> Resource:
    ids = "\x1f".join(str(one["id"]) for one in found)
    entries = [{"fullUrl": f"urn:uuid:{one['id']}", "resource": one} for one in found]
    return {"resourceType": "Bundle", "id": uuid5(NAMESPACE, ids.encode()), "type": "collection", "entry": entries}
