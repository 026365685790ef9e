"""Appointments for patients: the XIS role of MedMij eAfspraak (FHIR STU3). Log lines go to stderr, one for each request.

GET [base]/Appointment?date=…, the same posted to [base]/Appointment/_search, reads of what it references, [base]/metadata. A Bearer token stands for one patient.
SIGTERM or Ctrl-C accepts no more and finishes what is in flight, for serve.drain_seconds at most; a second one ends at once.
"""

import os
import signal
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, settings_argument

if TYPE_CHECKING:
    from pipeline.metrics import Metrics
    from pipeline.serve.xis.service import Service
    from pipeline.serve.xis.web import Serving

EXAMPLE: Final = """  emr-pipeline serve                           as the settings say (sections `serve` and `appointments`)
  emr-pipeline serve --address 0.0.0.0:8443    on every interface
  emr-pipeline serve --http 127.0.0.1:9465     and answer /healthz, /readyz and /metrics there"""
LATE: Final = 5.0
"""Seconds behind drain_seconds after which a stop waits no longer for what hangs: a database, an issuer."""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--address", metavar="HOST:PORT", help="where to answer (else serve.address); port 0 takes a free one")
    parser.add_argument("--http", metavar="HOST:PORT", help="answer /healthz, /readyz and /metrics here, and nowhere else")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings, wiring
    from pipeline.errors import SettingsError
    from pipeline.listen.address import parse_address
    from pipeline.listen.tls import server_context
    from pipeline.serve.xis.condition import looked_at
    from pipeline.serve.xis.connections import Patience
    from pipeline.serve.xis.web import serving

    path = settings.find(arguments.settings)
    loaded = settings.load(path)
    serve = loaded.serve
    if serve is None:
        raise SettingsError("there is no section `serve` (base_url, tokens)", where=str(path))
    context = None
    if serve.tls is not None:
        context = server_context(serve.tls, client_certificates=serve.client_certificates, where="serve.tls")
    stop = _stop_on_signal(serve.drain_seconds + LATE)
    address = parse_address(arguments.address or serve.address, where="--address" if arguments.address else "serve.address")
    patience = Patience(serve.head_seconds, serve.request_seconds, serve.connections)
    metrics = _metrics() if arguments.http else None
    with (
        wiring.xis_of(loaded, metrics) as service,
        looked_at(service.look),
        serving(
            service, address, context, drain_seconds=serve.drain_seconds, patience=patience, client_header=serve.client_header
        ) as server,
        _watched(arguments.http, service, server, metrics),
    ):
        encryption = "plain HTTP" if context is None else "TLS"
        print(f"serving appointments on {server.host}:{server.port} ({encryption}) as {serve.base_url}", flush=True)
        stop.wait()
    print("stopped", flush=True)
    return DONE


def _metrics() -> "Metrics":
    from pipeline.metrics import Metrics

    return Metrics()


@contextmanager
def _watched(address: str | None, service: "Service", server: "Serving", metrics: "Metrics | None") -> Iterator[None]:
    """Answer whoever watches, where the command line says so."""
    if address is None or metrics is None:
        yield
        return
    from pipeline.listen.address import parse_address
    from pipeline.serve import watch

    metrics.look_at_serve(lambda: service.figures(server.connections()))
    with watch.serving(parse_address(address, where="--http"), watch.Watch({"serve": service.condition}, metrics)):
        yield


def _stop_on_signal(seconds: float) -> threading.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once, without waiting for anything, and so does time."""
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()
        late = threading.Timer(seconds, os._exit, (128 + number,))
        late.daemon = True
        late.start()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop
