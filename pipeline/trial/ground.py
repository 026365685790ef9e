"""A hospital in a folder for a trial run: settings, topics, a partner stand-in in a process of its own. Nothing of a person is in it.

fsync, mutual TLS, the ledger, results and profile checks are on as everywhere: there is no switch for less.
"""

import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from pipeline import wiring
from pipeline.bus.open import open_bus
from pipeline.bus.port import Bus, Record
from pipeline.ledger.open import open_ledger
from pipeline.sandbox.process import SandboxProcess
from pipeline.settings import Settings, load

ROUTE: Final = "roche-patients"
PARTNER: Final = "roche"
PARTITIONS: Final = 8
BATCH: Final = 2000


@dataclass(frozen=True, slots=True)
class Where:
    """Which bus and ledger; without words both are embedded."""

    kafka: tuple[str, ...] = ()
    """Bootstrap servers."""
    ledger: str | None = field(default=None, repr=False)
    """postgresql://…, of an empty schema."""
    core: int | None = None
    """Where the first worker stays, the next ones on those behind it; None: where it likes."""

    @property
    def bus(self) -> str:
        """Its name in figures."""
        return "kafka" if self.kafka else "embedded"


class Ground:
    """Made in a fresh folder. Topics and group have names of their own, so that trials may share a Kafka."""

    def __init__(self, folder: Path, where: Where, **partner: Any) -> None:  # noqa: ANN401 - settings of the partner
        self.folder = folder
        self.prefix = f"emr-trial-{secrets.token_hex(4)}." if where.kafka else ""
        (folder / "patient-hash.key").write_text(secrets.token_hex(32), encoding="ascii")
        bus: dict[str, Any] = {"kind": "embedded", "path": "bus"}
        if where.kafka:
            bus = {"kind": "kafka", "bootstrap_servers": list(where.kafka), "replication": 1}
        self.tree: dict[str, Any] = {
            "site": {"name": "trial"},
            "bus": bus,
            "ledger": {"url": where.ledger or "sqlite:///ledger.sqlite"},
            "keys": {"patient_hash": {"file": "patient-hash.key"}},
            "topics": {"results": f"{self.prefix}results", "partitions": PARTITIONS},
            "partners": {PARTNER: partner},
            "routes": {
                ROUTE: {
                    "partner": PARTNER,
                    "source": f"{self.prefix}adt",
                    "start": "earliest",
                    "dead_letters": f"{self.prefix}dead",
                    "group": f"{self.prefix}{ROUTE}",
                }
            },
        }

    @contextmanager
    def partner(self, **knobs: Any) -> Iterator[SandboxProcess]:  # noqa: ANN401 - as knobs.parse
        """The stand-in, running; the settings know its address."""
        with SandboxProcess(self.folder / "sandbox", knobs) as sandbox:
            files = sandbox.files
            self.tree["partners"][PARTNER] |= {
                "kind": "roche",
                "base_url": sandbox.base_url,
                "org_id": "2.16.724.4.2",
                "client_id": "1234567890",
                "client_secret": {"file": "sandbox/client-secret"},
                "tls": {"ca": str(files.ca), "certificate": str(files.client), "key": str(files.client_key)},
            }
            yield sandbox

    @property
    def path(self) -> Path:
        """The settings as they are now, in their file."""
        path = self.folder / "settings.yaml"
        path.write_text(yaml.safe_dump(self.tree), encoding="utf-8")
        return path

    @property
    def settings(self) -> Settings:
        """As the program reads them."""
        return load(self.path)

    @property
    def source(self) -> str:
        """The topic that is read."""
        return f"{self.prefix}adt"

    def ledger(self) -> None:
        """Make the ledger, as it is there on every start of a worker but the first, which migrates."""
        with closing(open_ledger(self.settings)) as ledger:
            ledger.check()

    @contextmanager
    def bus(self) -> Iterator[Bus]:
        """The bus, with its topics made."""
        settings = self.settings
        with closing(open_bus(settings)) as bus:
            bus.create_topics(wiring.topic_settings(settings))
            yield bus

    def fill(self, records: Iterable[Record]) -> None:
        """Append all, durable."""
        waiting = list(records)
        with self.bus() as bus, bus.producer() as producer:
            for start in range(0, len(waiting), BATCH):
                producer.append(waiting[start : start + BATCH])


@contextmanager
def own_ledger(where: Where) -> Iterator[Where]:
    """On PostgreSQL a schema of its own, dropped at the end."""
    if where.ledger is None:
        yield where
        return
    schema = f"emr_trial_{time.time_ns()}"
    url = make_url(where.ledger).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        mine = url.update_query_dict({"options": f"-csearch_path={schema}"})
        yield replace(where, ledger=mine.render_as_string(hide_password=False))
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))
        engine.dispose()
