"""/healthz, /readyz and /metrics of a worker's process, for whoever watches it. Nothing of a message, no directory, no other path.

It answers from memory: what it is handed may wait for nothing. A defect behind it is an answer of 500 without its text, and costs no delivery.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from pipeline.errors import SettingsError, place_of
from pipeline.health import Health
from pipeline.metrics import CONTENT_TYPE, Metrics
from pipeline.telemetry import LogEvent, log

Answer = tuple[int, str, bytes]
"""Status, media type, body."""
JSON: Final = "application/json"
SECONDS: Final = 5.0
"""How long a client may take to ask, or to take the answer."""


class Watch:
    """The answers, by path."""

    def __init__(self, routes: Mapping[str, Health], metrics: Metrics) -> None:
        """The health of each route by its name."""
        self._routes, self._metrics = routes, metrics
        self._paths: dict[str, Callable[[], Answer]] = {
            "/healthz": self._alive,
            "/readyz": self._ready,
            "/metrics": lambda: (200, CONTENT_TYPE, self._metrics.exposed()),
        }

    def answer(self, path: str) -> Answer:
        """What is said to GET of a path."""
        say = self._paths.get(path.partition("?")[0])
        if say is None:
            return 404, "text/plain", b"/healthz, /readyz, /metrics\n"
        try:
            return say()
        except Exception as error:  # noqa: BLE001 - whoever watches is told that there is a defect, and nothing that may hold values
            return 500, "text/plain", f"a defect: {type(error).__name__} at {place_of(error)}\n".encode()

    def _alive(self) -> Answer:
        return 200, JSON, b'{"alive": true}\n'

    def _ready(self) -> Answer:
        why = {route: [one.value for one in health.reasons()] for route, health in sorted(self._routes.items())}
        not_ready = {route: reasons for route, reasons in why.items() if reasons}
        said = {"ready": False, "routes": not_ready} if not_ready else {"ready": True}
        return 503 if not_ready else 200, JSON, json.dumps(said).encode() + b"\n"


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: a connection for each question."""

    server: "_Server"
    timeout = SECONDS
    server_version, sys_version = "emr-pipeline", ""
    error_message_format, error_content_type = "%(code)d\n", "text/plain"

    def do_GET(self) -> None:
        self.wfile.write(self._head())

    def do_HEAD(self) -> None:
        self._head()

    def _head(self) -> bytes:
        """Send all but the body, which is returned."""
        status, media_type, body = self.server.watch.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        return body

    def log_message(self, *_: Any) -> None:  # noqa: ANN401 - the signature is http.server's
        """Nothing: a line for each look is no news."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    watch: Watch

    def __init__(self, address: tuple[str, int], watch: Watch) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.watch = watch
        super().__init__(address, _Handler)

    def handle_error(self, *_: Any) -> None:  # noqa: ANN401 - the signature is socketserver's
        """Nothing: a client that goes away is no news, and a traceback may hold values."""


@contextmanager
def serving(address: tuple[str, int], watch: Watch) -> Iterator[tuple[str, int]]:
    """Answer on this address, and no other, meanwhile; the address with the port that it became. SettingsError where it cannot be had."""
    try:
        server = _Server(address, watch)
    except OSError as error:
        raise SettingsError(f"cannot listen there ({error.strerror}): take another address or port", where="--http") from None
    host, port = server.server_address[0], server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True)
    thread.start()
    log(LogEvent.HTTP_STARTED, host=str(host), port=port)
    try:
        yield str(host), port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
