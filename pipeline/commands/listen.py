"""MLLP in: each message is acknowledged only when the bus has it durably. Log lines go to stderr.

SIGTERM or Ctrl-C accepts no more, finishes and acknowledges what is in flight, closes; a second one ends at once: what was not
acknowledged its senders send again.
"""

import os
import signal
import threading
from argparse import ArgumentParser, Namespace
from types import FrameType
from typing import Final

from pipeline.commands import DONE, settings_argument

EXAMPLE: Final = """  emr-pipeline listen                           as the settings say (section `listen`)
  emr-pipeline listen --address 0.0.0.0:2575    on every interface"""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--address", metavar="HOST:PORT", help="where to listen (else listen.address); port 0 takes a free one")
    parser.add_argument("--topic", help="topic that messages go onto (else listen.topic)")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings
    from pipeline.bus.open import open_bus
    from pipeline.errors import SettingsError
    from pipeline.listen.server import MllpServer

    path = settings.find(arguments.settings)
    loaded = settings.load(path)
    if loaded.listen is None:
        raise SettingsError("there is no section `listen` (topic, address)", where=str(path))
    given = {"address": arguments.address, "topic": arguments.topic}
    listen = loaded.listen.model_copy(update={name: value for name, value in given.items() if value is not None})
    stop = _stop_on_signal()
    bus = open_bus(loaded)
    try:
        with MllpServer(bus, listen, loaded.site) as server:
            print(f"listening for MLLP on {server.address} ({server.encryption}), onto topic {listen.topic}", flush=True)
            stop.wait()
        print(f"stopped; {server.stored} messages stored, {server.refused} refused", flush=True)
    finally:
        bus.close()
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
