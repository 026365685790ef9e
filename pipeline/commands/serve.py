"""Appointments for patients: the XIS role of MedMij eAfspraak (FHIR STU3). Log lines go to stderr, one for each request.

GET [base]/Appointment?date=…, reads of what it references, [base]/metadata; /healthz and /readyz. A Bearer token stands for one patient.
SIGTERM or Ctrl-C accepts no more and finishes what is in flight; a second one ends at once.
"""

import os
import signal
import threading
from argparse import ArgumentParser, Namespace
from types import FrameType
from typing import Final

from pipeline.commands import DONE, settings_argument

EXAMPLE: Final = """  emr-pipeline serve                           as the settings say (sections `serve` and `appointments`)
  emr-pipeline serve --address 0.0.0.0:8443    on every interface"""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--address", metavar="HOST:PORT", help="where to answer (else serve.address); port 0 takes a free one")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings, wiring
    from pipeline.errors import SettingsError
    from pipeline.listen.address import parse_address
    from pipeline.listen.tls import server_context
    from pipeline.serve.xis.web import serving

    path = settings.find(arguments.settings)
    loaded = settings.load(path)
    serve = loaded.serve
    if serve is None:
        raise SettingsError("there is no section `serve` (base_url, tokens)", where=str(path))
    context = None
    if serve.tls is not None:
        context = server_context(serve.tls, client_certificates=serve.client_certificates, where="serve.tls")
    stop = _stop_on_signal()
    address = parse_address(arguments.address or serve.address, where="--address" if arguments.address else "serve.address")
    with wiring.xis_of(loaded) as service, serving(service, address, context, drain_seconds=serve.drain_seconds) as server:
        encryption = "plain HTTP" if context is None else "TLS"
        print(f"serving appointments on {server.host}:{server.port} ({encryption}) as {serve.base_url}", flush=True)
        stop.wait()
    print("stopped", flush=True)
    return DONE


def _stop_on_signal() -> threading.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process at once, without waiting for anything."""
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop
