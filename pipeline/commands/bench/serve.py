"""Figures of `serve`: searches a second on one core, and how long each takes, over a store as large as a hospital's.

A store is filled (by whole tables, not by messages): a SQLite file that is thrown away, or an empty PostgreSQL database that `--url` names and that is left filled.
For each row `emr-pipeline serve` runs as a process of its own, bound to one core where the machine has several, and clients on connections that stay
open ask for random patients, each with a token of its own. Needs Linux (/proc).
"""

import os
import random
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.commands import DONE, NOT_ALL, json_argument, seconds

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

    from pipeline.database.engine import Database
    from pipeline.pseudonyms import Pseudonyms

SECRET: Final = "the figures' own: no patient's"  # noqa: S105 - of a store that is thrown away
BASE: Final = "https://xis.example/fhir"
ISSUER: Final = "https://issuer.example"
FIRST_MS: Final = 1_735_686_000_000
"""2025-01-01T00:00:00+01:00: appointments lie in the two years from then on."""
SPREAD_MS: Final = 2 * 365 * 86_400_000
BATCH: Final = 10_000
ASKED: Final = 2000
"""Patients who ask: each has a token, made before the clock runs."""
QUERIES: Final = ("date=ge2026-01-01", "date=ge2025-06-01&date=lt2025-12-01", "date=ge2025-01-01&_count=5", "")
WARM_SECONDS: Final = 2.0
LEAST_CORES: Final = 2
ROWS: Final = ("plain", "tls")
SQLITE: Final = "sqlite:///appointments.sqlite"


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=seconds, default=15, metavar="N", help="how long to measure (default 15)")
    parser.add_argument("--appointments", type=int, default=1_000_000, metavar="N", help="in the store (%(default)s)")
    parser.add_argument("--patients", type=int, default=100_000, metavar="N", help="whose they are (%(default)s)")
    parser.add_argument("--clients", type=int, default=4, metavar="N", help="connections that ask at the same time (%(default)s)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["plain"], help="plain HTTP, or TLS (default plain)")
    parser.add_argument(
        "--url", default=SQLITE, metavar="URL", help="an empty database, as postgresql+psycopg://user@host/name (else SQLite)"
    )
    json_argument(parser, "the figures")


def run(arguments: Namespace) -> int:
    from pipeline.commands.bench.convert import machine
    from pipeline.errors import SettingsError

    if not 0 < arguments.patients <= arguments.appointments or arguments.clients < 1:
        raise SettingsError("above 0, and no more patients than appointments", where="--patients, --appointments, --clients")
    with tempfile.TemporaryDirectory(prefix="emr-bench-") as folder:
        figures = measured(Path(folder), arguments)
    figures["machine"] = machine()
    if arguments.json:
        import orjson

        print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(figures)
    return DONE if not any(row["failed"] for row in figures["rows"]) else NOT_ALL


def _show(figures: dict[str, Any]) -> None:
    for row in figures["rows"]:
        print(
            f"{row['row']:5} {row['searches_per_second']:,.0f} searches/s on one core, p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms, "
            f"{row['cpu_ms_per_search']} ms of CPU each, load {row['load']}"
        )
    print(
        f"{figures['appointments']:,} appointments of {figures['patients']:,} patients in {figures['database']}, {figures['clients']} clients"
    )
    print(f"on {figures['machine']['cpu']}, Python {figures['machine']['python']}")


def measured(folder: Path, arguments: Namespace) -> dict[str, Any]:
    """Fill, serve, ask."""
    from joserfc.jwk import ECKey

    key = ECKey.generate_key("P-256", {"kid": "bench"})
    began = time.perf_counter()
    write_settings(folder, key, arguments.url)
    fill(folder, arguments.patients, arguments.appointments)
    filled = time.perf_counter() - began
    tokens = _tokens(key, arguments.patients)
    rows = [_row(folder, row, tokens, arguments) for row in dict.fromkeys(arguments.rows)]
    return {
        "rows": rows,
        "database": arguments.url.partition(":")[0].partition("+")[0],
        "appointments": arguments.appointments,
        "patients": arguments.patients,
        "clients": arguments.clients,
        "seconds_to_fill": round(filled, 1),
    }


def _row(folder: Path, row: str, tokens: list[str], arguments: Namespace) -> dict[str, Any]:
    """A server of its own for each."""
    with _served(folder, f"settings-{row}.yaml") as (pid, port):
        way = _Way(port, ssl.create_default_context(cafile=folder / "ca.pem") if row == "tls" else None)
        _asking(way, tokens, arguments.clients, WARM_SECONDS)
        before = _cpu_seconds(pid)
        took, failed, wall = _asking(way, tokens, arguments.clients, arguments.seconds)
        cpu = _cpu_seconds(pid) - before
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else [0.0] * 99
    return {
        "row": row,
        "searches_per_second": round(len(took) / wall, 1),
        "p50_ms": round(cuts[49], 2),
        "p99_ms": round(cuts[98], 2),
        "cpu_ms_per_search": round(cpu / max(1, len(took)) * 1000, 2),
        "searches": len(took),
        "failed": failed,
        "load": round(os.getloadavg()[0], 1),
    }


def write_settings(folder: Path, key: "ECKey", url: str) -> None:
    """The built-in ones, with a store, an issuer's key, and no limit of requests: a file for each row."""
    import orjson
    import yaml

    from pipeline.sandbox.certificates import ensure
    from pipeline.settings import DEFAULTS

    tree = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))
    (folder / "patient-hash").write_text(SECRET, encoding="utf-8")
    (folder / "keys.json").write_bytes(orjson.dumps({"keys": [key.as_dict(private=False)]}))
    tree["keys"]["patient_hash"] = {"file": "patient-hash"}
    tree["appointments"] = {"url": url}
    tokens = {"issuer": ISSUER, "audience": BASE, "jwks_file": "keys.json", "claims": {"local": _local()}}
    tree["serve"] = {"address": "127.0.0.1:0", "base_url": BASE, "tokens": tokens, "rate": 1_000_000}
    made = ensure(folder)
    for row in ROWS:
        tls = {"certificate": str(made.server), "key": str(made.server_key)} if row == "tls" else None
        tree["serve"]["tls"] = tls
        (folder / f"settings-{row}.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")


def _local() -> dict[str, str]:
    return {"claim": "patient", "system": "urn:bench"}


def fill(folder: Path, patients: int, appointments: int) -> None:
    """Rows as the store itself writes them, without a transaction for each."""
    from pipeline import settings, wiring
    from pipeline.appointments.named import STORE
    from pipeline.database.engine import Database

    loaded = settings.load(folder / "settings-plain.yaml")
    wiring.store_of(loaded).close()
    assert loaded.appointments is not None  # noqa: S101 - for the type checker
    database = Database(STORE, loaded.appointments.url)
    try:
        _filled(database, wiring.pseudonyms_of(loaded), patients, appointments)
    finally:
        database.engine.dispose()


def _filled(database: "Database", pseudonyms: "Pseudonyms", patients: int, appointments: int) -> None:
    from sqlalchemy import insert, select, text

    from pipeline.appointments import tables
    from pipeline.errors import SettingsError

    with database.read() as connection:
        if connection.execute(select(tables.PERSONS.c.id).limit(1)).first() is not None:
            raise SettingsError("there is somebody in that store already: give an empty database", where="--url")
    for some in _batches(patients):
        keys = [{"hash": pseudonyms.person("urn:bench", str(one)), "person": one + 1, "sole": False} for one in some]
        with database.write() as connection:
            connection.execute(insert(tables.PERSONS), [{"id": one + 1, "version": 1, "purged": 0} for one in some])
            connection.execute(insert(tables.PERSON_KEYS), keys)
    for some in _batches(appointments):
        with database.write() as connection:
            connection.execute(insert(tables.APPOINTMENTS), [appointment(one, patients) for one in some])
    with database.write() as connection:
        connection.execute(text("ANALYZE"))  # as the server's own autovacuum does, a minute later


def _batches(many: int) -> Iterator[range]:
    return (range(begin, min(begin + BATCH, many)) for begin in range(0, many, BATCH))


def appointment(number: int, patients: int) -> dict[str, Any]:
    """A row: each patient has as many as the next, spread over the time."""
    import orjson

    spread = random.Random(number)  # noqa: S311 - a seed, no secret
    start = FIRST_MS + spread.randrange(SPREAD_MS)
    name = f"a{number:035}"
    columns = {"id": name, "person": number % patients + 1, "start_ms": start, "since": 1, "event_ms": start}
    return columns | {"topic": "", "partition": -1, "offset": -1, "refs": "", "body": orjson.dumps(_resource(name, start))}


def _resource(name: str, start_ms: int) -> dict[str, Any]:
    """About as large as one that a message becomes."""
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start_ms / 1000))
    actor = {"reference": f"Practitioner/{name}", "display": "F. Kiek"}
    return {
        "resourceType": "Appointment",
        "id": name,
        "meta": {"profile": ["http://nictiz.nl/fhir/StructureDefinition/eAfspraak-Appointment"]},
        "identifier": [{"system": "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.7", "value": name}],
        "status": "booked",
        "specialty": [{"coding": [{"system": "urn:oid:2.16.840.1.113883.2.4.6.7", "code": "0360", "display": "Radiologie"}]}],
        "appointmentType": {"coding": [{"system": "http://hl7.org/fhir/v3/ActCode", "code": "AMB", "display": "Ambulatory"}]},
        "description": "CT-scan",
        "start": start,
        "end": start,
        "minutesDuration": 15,
        "participant": [{"actor": actor, "status": "accepted"}, {"actor": actor, "status": "accepted"}],
    }


def _tokens(key: "ECKey", patients: int) -> list[str]:
    from joserfc import jwt

    asked = random.Random(0).sample(range(patients), min(ASKED, patients))  # noqa: S311 - a seed, no secret
    header, base = {"alg": "ES256", "kid": "bench"}, {"iss": ISSUER, "aud": BASE, "exp": int(time.time()) + 86_400}
    return [jwt.encode(header, base | {"patient": str(one)}, key, algorithms=["ES256"]) for one in asked]


@contextmanager
def _served(folder: Path, settings: str) -> Iterator[tuple[int, int]]:
    """`emr-pipeline serve` on one core, its log in a file; its process id and port."""
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--settings", str(folder / settings)]
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603 - our own command
        _on_one_core(process.pid)
        try:
            assert process.stdout is not None  # noqa: S101 - for the type checker
            said = process.stdout.readline()
            yield process.pid, int(said.split(":")[1].split()[0])
        finally:
            process.terminate()
            process.communicate(timeout=60)


def _cpu_seconds(pid: int) -> float:
    """What the process has used of its core (proc(5): user and system time)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _on_one_core(pid: int) -> None:
    """Threads that it starts later stay there too."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= LEAST_CORES:
        os.sched_setaffinity(pid, {cores[-1]})


@dataclass(frozen=True)
class _Way:
    """To the server."""

    port: int
    context: ssl.SSLContext | None

    def connection(self) -> HTTPConnection:
        if self.context is None:
            return HTTPConnection("127.0.0.1", self.port, timeout=60)
        return HTTPSConnection("localhost", self.port, timeout=60, context=self.context)


@dataclass
class _Client:
    """One connection: what each answer took in milliseconds, and how many failed."""

    took: list[float]
    failed: int = 0

    def ask(self, way: _Way, tokens: Sequence[str], until: float, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - a seed, no secret
        connection = way.connection()
        while time.perf_counter() < until:
            headers = {"Authorization": f"Bearer {chance.choice(tokens)}"}
            began = time.perf_counter()
            connection.request("GET", f"/fhir/Appointment?{chance.choice(QUERIES)}", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            self.took.append((time.perf_counter() - began) * 1000)
            self.failed += answer.status != 200 or b'"searchset"' not in body  # noqa: PLR2004 - HTTP's own number
        connection.close()


def _asking(way: _Way, tokens: Sequence[str], clients: int, for_seconds: float) -> tuple[list[float], int, float]:
    """What each answer took, how many failed, and the time that passed."""
    began = time.perf_counter()
    asking = [_Client([]) for _ in range(clients)]
    threads = [
        threading.Thread(target=one.ask, args=(way, tokens, began + for_seconds, number)) for number, one in enumerate(asking)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [ms for one in asking for ms in one.took], sum(one.failed for one in asking), time.perf_counter() - began
