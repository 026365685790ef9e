"""The route of appointments with everything real, from the topic to the store, on this machine; and what a patient reads there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pipeline import wiring
from pipeline.appointments.port import Page
from pipeline.appointments.sql import SqlStore
from pipeline.appointments.transport import StoreTransport
from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import Record
from pipeline.delivery.gate import Gate
from pipeline.delivery.worker import Worker
from pipeline.ledger.sql import SqlLedger
from pipeline.pseudonyms import Pseudonyms
from pipeline.settings import DEFAULTS, load_offline
from schemas.outcomes import Reason, State
from schemas.result import Result
from tests.delivery.partner_script import settings_with

ROUTE: Final = "medmij-appointments"
BSN: Final = "http://fhir.nl/fhir/NamingSystem/bsn"
LOCAL: Final = "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.6"


class Agenda:
    """A hospital's."""

    def __init__(self, folder: Path, **settings: Any) -> None:  # noqa: ANN401 - of partner medmij
        def change(tree: dict[str, Any]) -> None:
            whole = load_offline(DEFAULTS).model_dump()
            tree |= {name: whole[name] for name in ("partners", "routes")}
            tree["partners"]["medmij"] |= settings

        self.settings = settings_with(change)
        self.bus = EmbeddedBus(folder / "bus")
        self.bus.create_topics(wiring.topic_settings(self.settings))
        self.pseudonyms = Pseudonyms("a secret of the tests, long enough")
        self.ledger = SqlLedger(f"sqlite:///{folder / 'ledger.sqlite'}", self.pseudonyms)
        self.ledger.check()
        self.store = SqlStore(f"sqlite:///{folder / 'appointments.sqlite'}", self.pseudonyms.check)
        self.store.check()
        self.topics = wiring.topics_of(self.settings, ROUTE)

    def take(self, *messages: bytes, at_ms: int | None = None) -> list[tuple[State, Reason | None]]:
        """Settle them; how each of all so far ended. `at_ms`: when their records were made."""
        with self.bus.producer() as producer:
            producer.append(Record(self.topics.source, one, key=b"one patient", timestamp_ms=at_ms) for one in messages)
        worker = self._worker()
        worker.drain()
        worker.run()
        found = (Result.model_validate_json(one.value) for one in self.bus.read(self.topics.results) if one.value)
        ends = {one.source_offset: (one.state, one.reason) for one in found if one.settled}
        return [ends[offset] for offset in sorted(ends)]

    def _worker(self) -> Worker:
        settings, clock = self.settings, wiring.clock
        return Worker(
            wiring.plan_of(settings, ROUTE, wiring.catalogue_of(settings), self.pseudonyms),
            self.topics,
            settings.group_of(ROUTE),
            self.bus,
            self.ledger,
            transport=StoreTransport(self.store, self.pseudonyms, clock),
            gate=Gate("medmij", settings.breaker),
            clock=clock,
            settings=settings.delivery,
            flood=settings.flood,
            in_flight=1,
        )

    def sees(self, value: str, system: str = BSN) -> list[dict[str, Any]]:
        """The appointments of whom it names."""
        person = self.store.person(self.pseudonyms.person(system, value))
        if person is None:
            return []
        page = self.store.search(person, count=99)
        assert isinstance(page, Page)
        return [json.loads(one.body) for one in page.found]

    def statuses(self, value: str, system: str = BSN) -> list[str]:
        return [one["status"] for one in self.sees(value, system)]

    def close(self) -> None:
        self.store.close()
        self.ledger.close()
        self.bus.close()


Made = Callable[..., Agenda]
