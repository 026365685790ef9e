"""HTTP/1.1 on asyncio streams: read one request, write one answer. Strict where looseness would hide a client's mistake. No contract here."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import orjson

from pipeline.sandbox.roche.shapes import Issue

LONGEST_HEAD: Final = 32 * 1024
PIECE: Final = 64 * 1024


class Malformed(Exception):
    """Not HTTP, or not in a way that can be answered by more than a status and a close."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """What came. The path is as it was sent, without its query. Header names are in lower case; several of one name are joined by a comma."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    too_long: bool = False
    """The body was larger than the limit; it was not kept."""
    query: str = field(default="", repr=False)
    """Behind the question mark, as it was sent."""

    @property
    def keep_alive(self) -> bool:
        """Whether the client wants the connection to stay."""
        return self.headers.get("connection", "").lower() != "close"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    body: bytes = field(default=b"", repr=False)
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def head(self, *, close: bool, length: int | None = None) -> bytes:
        """Status line and headers; `length` says another length than the body's."""
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        if self.content_type:
            lines.append(f"Content-Type: {self.content_type}")
        if self.status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(self.body) if length is None else length}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append("Connection: close" if close else "Connection: keep-alive")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def bytes(self, *, close: bool) -> bytes:
        """All of it."""
        return self.head(close=close) + self.body


def as_json(status: int, tree: object, *, fhir: bool = False, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, orjson.dumps(tree), "application/fhir+json" if fhir else "application/json", headers)


def outcome(status: int, *issues: Issue, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """An OperationOutcome; the text sits in details.text."""
    tree = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": one.code, "details": {"text": one.text}} for one in issues],
    }
    return as_json(status, tree, fhir=True, headers=headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: Callable[[], int]) -> Request | None:
    """The next request, or None where the client closed. A body above `limit()` bytes is read past, up to ten times that.

    `limit` is asked when the head is there: it may change while a connection is idle.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise Malformed(400, "the head is incomplete") from None
        return None
    except asyncio.LimitOverrunError:
        raise Malformed(431, "the head is too large") from None
    method, target, headers = _head(head)
    path, _, query = target.partition("?")
    most = limit()
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked" or "content-length" in headers:
            raise Malformed(400, "a transfer encoding that is not chunked alone")
        body, too_long = await _chunks(reader, most)
    else:
        body, too_long = await _counted(reader, headers.get("content-length", "0"), most)
    return Request(method, path, headers, body, too_long, query)


def _head(head: bytes) -> tuple[str, str, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, target, version
        raise Malformed(400, "the request line is none")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not name or name != name.strip():
            raise Malformed(400, "a header line is none")
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return parts[0], parts[1], headers


async def _counted(reader: asyncio.StreamReader, length: str, most: int) -> tuple[bytes, bool]:
    if not (length.isascii() and length.isdecimal()):
        raise Malformed(400, "Content-Length is not a number")
    count = int(length)
    if count <= most:
        return await reader.readexactly(count), False
    if count > 10 * most:
        raise Malformed(413, "the body is far too large")
    while count:
        count -= len(await reader.readexactly(min(PIECE, count)))
    return b"", True


async def _chunks(reader: asyncio.StreamReader, most: int) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    total = 0
    while True:
        try:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        except ValueError:
            raise Malformed(400, "a chunk size is no number") from None
        if size < 0:
            raise Malformed(400, "a chunk size is negative")
        total += size
        if total > 10 * most:
            raise Malformed(413, "the body is far too large")
        piece = await reader.readexactly(size)
        if total <= most:
            pieces.append(piece)
        if await reader.readuntil(b"\r\n") != b"\r\n":
            raise Malformed(400, "a chunk is longer than it said")
        if not size:
            return (b"", True) if total > most else (b"".join(pieces), False)
