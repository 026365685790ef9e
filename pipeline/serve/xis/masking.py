"""The last look at what goes out: the patient's own BSN is nowhere in it, wherever it came from. Pure.

MedMij lets no BSN go out, and a mask at the way in (identifiers, texts) knows only the numbers that came with the appointment. A token may know more.
"""

from typing import Any, Final

import orjson

from pipeline.appointments.bsns import starred
from pipeline.serve.xis.context import BSN, Context

NO_DIGITS: Final = bytes(set(range(256)) - set(b"0123456789"))
BLANK: Final = b"&#160;"
"""In a narrative: the one thing between the digits of a number that has digits of its own."""


def without_bsn(body: bytes, context: Context) -> bytes:
    """The same JSON, with stars where a text has the token's BSN, and without a number that has it. That is rare: else not even a copy is made."""
    for system, bsn in context.identities:
        if system == BSN and bsn.removeprefix("0").encode() in body.replace(BLANK, b"").translate(None, NO_DIGITS):
            body = orjson.dumps(_masked(orjson.loads(body), bsn))
    return body


def _masked(node: Any, bsn: str) -> Any:  # noqa: ANN401 - JSON
    if isinstance(node, str):
        return starred(node, frozenset({bsn}))
    if isinstance(node, list):
        return [_masked(each, bsn) for each in node if not _is_number(each, bsn)]
    if isinstance(node, dict):
        return {name: _masked(value, bsn) for name, value in node.items() if not _is_number(value, bsn)}
    return node


def _is_number(node: Any, bsn: str) -> bool:  # noqa: ANN401 - JSON
    """Stars are no number: it is left out."""
    return isinstance(node, int | float) and (bsn in orjson.dumps(node).decode() or node == int(bsn))
