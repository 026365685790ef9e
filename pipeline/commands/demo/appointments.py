"""What patients read at the end: each asks our own server with a token of the issuer, as `fetch patient-app Appointment` does, against what went out."""

import datetime as dt
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.commands.demo.routes import PHR

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.model import Request, Resource
    from pipeline.sandbox.medmij.stand_in import MedmijSandbox
    from pipeline.settings import Settings

CAP: Final = 4 * 1024 * 1024
"""Bytes of an answer at most."""
TOKEN: Final = "patient-token"  # noqa: S105 - a file's name
PORTS: Final = range(20_000, 32_000)
SHOWN: Final = "71004"
"""The patient whose appointments are shown: with everything that can become of one."""


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What they read."""

    appointments: Mapping[str, tuple["Resource", ...]]
    """By the hospital's number of the patient."""
    wrong: int
    """Patients who did not read what they should."""

    @property
    def told(self) -> dict[str, int]:
        """As numbers."""
        return {
            "patients": len(self.appointments),
            "appointments": sum(len(each) for each in self.appointments.values()),
            "wrong": self.wrong,
        }

    @property
    def shown(self) -> tuple["Resource", ...]:
        """Those of one patient."""
        return self.appointments[SHOWN]


def free_port() -> int:
    """One on which nobody listens just now: links begin with base_url, which has it before the server is there.

    Below those that systems give to outgoing connections by themselves: none of these can take it meanwhile.
    """
    while True:
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)):
                return port


def read_by_patients(settings: "Settings", folder: "Path", issuer: "MedmijSandbox", today: dt.date) -> ReadBack:
    """Serve, and let every patient of the sample traffic ask."""
    from pipeline.sandbox.agenda import PATIENTS, kept

    expected, read, wrong = kept(today), {}, 0
    with _serving(settings) as base_url:
        for patient in PATIENTS:
            _give(folder, issuer.token(aud=base_url, bsn=patient.bsn, local=patient.number))
            read[patient.number] = tuple(_asked(settings))
            wrong += _as_told(read[patient.number]) != expected[patient.number]
    return ReadBack(read, wrong)


@contextmanager
def _serving(settings: "Settings") -> Iterator[str]:
    from pipeline import wiring
    from pipeline.listen.address import parse_address
    from pipeline.listen.tls import server_context
    from pipeline.serve.xis.web import serving

    serve = settings.serve
    assert serve is not None  # noqa: S101 - the demo's own settings
    assert serve.tls is not None  # noqa: S101 - as above
    context = server_context(serve.tls, client_certificates=False, where="serve.tls")
    address = parse_address(serve.address, where="serve.address")
    with wiring.xis_of(settings) as service, serving(service, address, context, drain_seconds=serve.drain_seconds):
        yield serve.base_url


def _give(folder: "Path", token: str) -> None:
    path = folder / TOKEN
    path.touch(mode=0o600)
    path.write_text(token + "\n", encoding="utf-8")


def _asked(settings: "Settings") -> Iterator["Resource"]:
    from pipeline import wiring

    reader, transport = wiring.reader_of(settings, PHR), wiring.transport_of(settings, PHR, CAP)
    try:
        asked: Request | None = reader.by_search("Appointment", {"from": "1900"})
        while asked is not None:
            page = reader.page(asked, transport.exchange(asked))
            yield from (one for one in page.resources if one.get("resourceType") == "Appointment")
            asked = page.next
    finally:
        transport.close()


def _as_told(found: tuple["Resource", ...]) -> dict[str, tuple[dt.datetime, str]]:
    return {one["identifier"][0]["value"]: (dt.datetime.fromisoformat(one["start"]), one["status"]) for one in found}
