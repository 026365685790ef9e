"""A hospital whose worker puts appointments into the store, on this machine: messages in, and what a person has by each number. No test in here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

from pipeline import wiring
from pipeline.appointments.port import Page
from pipeline.bus.port import Record
from pipeline.settings import Settings, load
from schemas.result import Result

ROUTE: Final = "medmij-appointments"
LOCAL: Final = "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.6"
BSN: Final = "http://fhir.nl/fhir/NamingSystem/bsn"


def siu(patient: str, number: str, *, at: int = 1, trigger: str = "S12", bsn: str = "") -> bytes:
    """An appointment, of whom PID-3 says; `at` minutes after nine."""
    ids = f"{patient}^^^ZGDEMO^PI" + (f"~{bsn}^^^NLMINBIZA^NNNLD" if bsn else "")
    head = f"MSH|^~\\&|AGENDA|ZIEKENHUIS|PIPE|MEDMIJ|202603010900{at:02}+0100||SIU^{trigger}^SIU_S12|S{number}{at}|P|2.5|||AL|NE|NLD|UNICODE UTF-8"
    when = "^^15^20260620093000+0200^20260620094500+0200"
    sch = f"SCH||{number}^AGENDA|||||K^Controle|AMB^Polikliniek^L|15|min|{when}"
    return "\r".join((head, sch, f"PID|1||{ids}||Vries^{patient}", "PV1|1|O", "RGS|1|A", "AIL|1|A|POLI^12", "")).encode()


def a40(prior: str, survivor: str, *, at: int = 30, event: str = "A40", bsn: str = "", prior_bsn: str = "") -> bytes:
    """A merge of two numbers."""
    ids = f"{survivor}^^^ZGDEMO^PI" + (f"~{bsn}^^^NLMINBIZA^NNNLD" if bsn else "")
    old = f"{prior}^^^ZGDEMO^PI" + (f"~{prior_bsn}^^^NLMINBIZA^NNNLD" if prior_bsn else "")
    head = f"MSH|^~\\&|HIS|ZIEKENHUIS|PIPE|MEDMIJ|202603010900{at:02}+0100||ADT^{event}|M{at}|P|2.5|||AL|NE|NLD|UNICODE UTF-8"
    return "\r".join((head, f"PID|1||{ids}||Vries^Anna", f"MRG|{old}", "")).encode()


class House:
    """Its folder, its worker when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "settings.yaml"
        (folder / "key").write_text("a secret of the tests, long enough")
        tree = {
            "site": {"name": "demo", "overlay": "demo", "zone": "Europe/Amsterdam"},
            "bus": {"kind": "embedded", "path": str(folder / "bus")},
            "ledger": {"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
            "appointments": {"url": f"sqlite:///{folder / 'appointments.sqlite'}"},
            "keys": {"patient_hash": {"file": str(folder / "key")}},
            "partners": {"medmij": {"kind": "medmij", "organization": {"name": "Ziekenhuis Zuid", "ura": "00001234"}}},
            "routes": {ROUTE: {"partner": "medmij", "source": "his.siu", "start": "earliest"}},
        }
        self.path.write_text(yaml.safe_dump(tree))
        self.settings: Settings = load(self.path)
        self.store = wiring.store_of(self.settings)
        self.pseudonyms = wiring.pseudonyms_of(self.settings)

    def work(self, *messages: bytes, route: str = ROUTE) -> None:
        """Until all is settled that is there."""
        source = self.settings.routes[route].source
        with wiring.workers(self.settings, [route]) as (worker,):
            worker.bus.create_topics(wiring.topic_settings(self.settings))
            with worker.bus.producer() as producer:
                producer.append([Record(source, message, partition=0) for message in messages])
            worker.drain()
            worker.run()

    def ends(self) -> list[tuple[str, str | None]]:
        """State and reason of each record, in order."""
        last = {one.source_offset: one for one in self.results() if one.settled}
        return [(str(one.state), one.reason and str(one.reason)) for _, one in sorted(last.items())]

    def results(self) -> list[Result]:
        """In order."""
        with wiring.opened(self.settings) as things:
            read = things.bus.read(self.settings.topics.results)
            return [Result.model_validate_json(one.value) for one in read if one.value]

    def seen_by(self, value: str, system: str = LOCAL) -> list[str]:
        """The numbers of the appointments of whoever has this number, in order."""
        person = self.store.person(self.pseudonyms.person(system, value))
        if person is None:
            return []
        found = self.store.search(person, count=100)
        assert isinstance(found, Page)
        return sorted(one.body.decode().partition('"value":"')[2].partition('"')[0] for one in found.found)


@contextmanager
def house(folder: Path) -> Iterator[House]:
    """It stands."""
    one = House(folder)
    yield one
    one.store.close()
