"""The service on a socket: Starlette in front of it, uvicorn below. Requests are answered on threads, since store and tokens may wait.

Nothing here writes what a request holds: uvicorn's logs are off, since they have URLs and tracebacks with values.
"""

import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, cast
from urllib.parse import urlsplit

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pipeline.errors import SettingsError
from pipeline.serve.xis.connections import HEAD_TOO_LARGE, LARGEST_HEAD, PATIENCE, Guarded, Patience
from pipeline.serve.xis.service import LARGEST_FORM, Asked, Service, Told
from pipeline.telemetry import LogEvent, log

PASSED: Final = 1024 * 1024
"""Bytes of a form that are let go by."""
PREFIX: Final = 64
"""Bits of an IPv6 address that are one client's: below it he has as many as he likes."""


def application(service: Service, client_header: str | None = None) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """The ASGI application: the service below the path of its base URL. `client_header`: where a proxy in front writes the client's address."""
    base = urlsplit(service.searching.base).path

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if _head_bytes(scope) > LARGEST_HEAD:
            await _response(service.refused(*HEAD_TOO_LARGE))(scope, receive, send)
            return
        try:
            body = await _body(request) if request.method == "POST" else b""
        except ClientDisconnect:
            return
        asked = Asked(
            request.method,
            _below(base, scope["path"]),
            scope["query_string"].decode("latin-1"),
            {name: ", ".join(request.headers.getlist(name)) for name in request.headers},  # RFC 9110 section 5.3
            repeated=frozenset(name for name, many in Counter(request.headers.keys()).items() if many > 1),
            body=body,
            client=_client(request, client_header),
        )
        told = await run_in_threadpool(service.answer, asked)
        await _response(told)(scope, receive, send)

    return answer


def _response(told: Told) -> Response:
    return Response(told.body, told.status, dict(told.headers))


def _head_bytes(scope: Scope) -> int:
    """Uvicorn itself measures only a head that comes in several pieces."""
    return len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"])


async def _body(request: Request) -> bytes:
    """No more of it than says that it is too much. The rest is let go by: who is still sending may not hear an answer."""
    read, passed = bytearray(), 0
    async for some in request.stream():
        passed += len(some)
        read += some[: LARGEST_FORM + 1 - len(read)]
        if passed > PASSED:
            break
    return bytes(read)


def _below(base: str, path: str) -> str:
    """Behind the base; what is beside it is no endpoint, which the service says itself. A proxy may write the whole URL (RFC 9112 section 3.2.2)."""
    if path.startswith(("http://", "https://")):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path[len(base) :] if path == base or path.startswith(f"{base}/") else "/-"


def _client(request: Request, header: str | None) -> str:
    """Whose limit of refused tokens it is: of what a proxy says the last, which is what it saw itself."""
    peer = request.client.host if request.client is not None else ""
    said = request.headers.getlist(header)[-1:] if header is not None else []
    address = _address(said[0].rpartition(",")[2].strip()) if said else None
    return address or _address(peer) or peer


def _address(text: str) -> str | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(int(address) >> (128 - PREFIX))
    return str(getattr(address, "ipv4_mapped", None) or address)


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers."""

    host: str
    port: int
    connections: Callable[[], int]
    """How many there are now."""


@contextmanager
def serving(
    service: Service,
    address: tuple[str, int],
    context: ssl.SSLContext | None,
    *,
    drain_seconds: float,
    patience: Patience = PATIENCE,
    client_header: str | None = None,
) -> Iterator[Serving]:
    """Answer there meanwhile; at the end requests in flight have `drain_seconds`. SettingsError where the address cannot be had."""
    listening = _bound(address)
    host, port = listening.getsockname()[:2]
    config = uvicorn.Config(
        cast("Any", application(service, client_header)),
        http=cast("Any", partial(Guarded, patience=patience, refused=service.refused)),
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        h11_max_incomplete_event_size=LARGEST_HEAD,
        timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )
    _silence()
    config.load()
    config.ssl = context
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="xis", daemon=True)
    thread.start()
    log(LogEvent.SERVE_STARTED, host=str(host), port=port)
    try:
        yield Serving(str(host), port, lambda: len(server.server_state.connections))
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
        log(LogEvent.SERVE_STOPPED)


def _silence() -> None:
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "asyncio"):
        logging.getLogger(name).disabled = True


def _bound(address: tuple[str, int]) -> socket.socket:
    # its protocol is named, since asyncio turns Nagle's algorithm off (40 ms for each answer) only where it is
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"cannot listen there ({error.strerror}): take another address or port", where="serve.address"
        ) from None
    return listening
