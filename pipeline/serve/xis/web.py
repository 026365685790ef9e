"""The service on a socket: Starlette in front of it, uvicorn below. Requests are answered on threads, since store and tokens may wait.

Nothing here writes what a request holds: uvicorn's logs are off, since they have URLs and tracebacks with values.
"""

import json
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.errors import SettingsError
from pipeline.serve.xis.service import Asked, Service
from pipeline.telemetry import LogEvent, log

JSON: Final = "application/json"
EVERY: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
LARGEST_HEAD: Final = 64 * 1024
"""Bytes of a request line and its headers."""
STARTED_WITHIN: Final = 60.0


def application(service: Service) -> Starlette:
    """The ASGI application: the service below the path of its base URL, /healthz and /readyz beside it."""
    base = urlsplit(service.searching.base).path

    def fhir(request: Request) -> Response:
        return told(request, request.path_params.get("path", ""))

    def elsewhere(request: Request, _: Exception) -> Response:
        """Beside the base, and methods that nobody knows: no endpoint of ours, said as FHIR as well."""
        return told(request, "")

    def told(request: Request, path: str) -> Response:
        told = service.answer(
            Asked(
                request.method,
                path,
                request.scope["query_string"].decode("latin-1"),
                {name: value for name, value in request.headers.items()},  # noqa: C416 - the last of several counts, as a dict
            )
        )
        return Response(told.body, told.status, dict(told.headers))

    def alive(_: Request) -> Response:
        return Response(b'{"alive": true}\n', media_type=JSON)

    def ready(_: Request) -> Response:
        why = service.ready()
        body = json.dumps({"ready": False, "why": why} if why else {"ready": True}) + "\n"
        return Response(body, 503 if why else 200, media_type=JSON)

    watched = [] if not base else [Route("/healthz", alive), Route("/readyz", ready)]
    routes = [*watched, Route(f"{base}/{{path:path}}", fhir, methods=EVERY), Route(base or "/", fhir, methods=EVERY)]
    return Starlette(routes=routes, exception_handlers={404: elsewhere, 405: elsewhere})


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers."""

    host: str
    port: int


@contextmanager
def serving(
    service: Service, address: tuple[str, int], context: ssl.SSLContext | None, *, drain_seconds: float
) -> Iterator[Serving]:
    """Answer there meanwhile; at the end requests in flight have `drain_seconds`. SettingsError where the address cannot be had."""
    listening = _bound(address)
    host, port = listening.getsockname()[:2]
    config = uvicorn.Config(
        application(service),
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
        yield Serving(str(host), port)
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
