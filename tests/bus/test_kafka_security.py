"""Every security setting connected for real, and every way to be refused told apart in one line (why_unreachable)."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.bus.kafka import KafkaBus
from pipeline.bus.kafka_diagnosis import why_unreachable
from pipeline.bus.port import Record, TopicSettings, Where
from pipeline.errors import BusUnavailable, SettingsError
from pipeline.settings import Kafka, Sasl
from pipeline.settings_sections import Secret, TlsFiles
from tests.bus.certificates import Authority
from tests.bus.places import drain, values
from tests.kafka_server import SASL_PASSWORD, SASL_USER, Server, from_jars, kafka_settings

pytestmark = pytest.mark.kafka


@dataclass
class Secured:
    """A broker with certificates, and what it takes to be let in."""

    server: Server
    ours: TlsFiles
    stranger: TlsFiles
    trust: TlsFiles
    password: Path
    wrong_password: Path

    def ssl(self, tls: TlsFiles | None) -> Kafka:
        return kafka_settings(self.server, bootstrap_servers=self.server.ssl, tls=tls)

    def sasl(self, mechanism: str, *, password: Path | None = None, user: str = SASL_USER) -> Kafka:
        sasl = Sasl.model_validate({"mechanism": mechanism, "username": user, "password": Secret(file=password or self.password)})
        return kafka_settings(self.server, bootstrap_servers=self.server.sasl_ssl, tls=self.trust, sasl=sasl)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = Authority(folder / "ours"), Authority(folder / "stranger")
    authority.sign("broker")
    certificate, key = authority.sign("pipeline")
    strange_certificate, strange_key = stranger.sign("pipeline")
    (folder / "password").write_text(SASL_PASSWORD + "\n")
    (folder / "wrong").write_text("guessed\n")
    with from_jars(
        "--certificates",
        str(authority.folder),
        environment={"KAFKA_SASL_USER": SASL_USER, "KAFKA_SASL_PASSWORD": SASL_PASSWORD},
    ) as server:
        yield Secured(
            server,
            TlsFiles(ca=authority.certificate, certificate=certificate, key=key),
            TlsFiles(ca=authority.certificate, certificate=strange_certificate, key=strange_key),
            TlsFiles(ca=authority.certificate),
            folder / "password",
            folder / "wrong",
        )


def there_and_back(settings: Kafka, prefix: str) -> list[bytes | None]:
    """Make a topic, append, and read as a group."""
    bus = KafkaBus(settings)
    try:
        bus.create_topics([TopicSettings(prefix + "t")])
        with bus.producer() as producer:
            producer.append([Record(prefix + "t", b"secret", b"k")])
        bus.start(prefix + "g", [prefix + "t"], Where.EARLIEST)
        with bus.consumer(prefix + "g", [prefix + "t"]) as consumer:
            return values(drain(consumer, 1))
    finally:
        bus.close()


def test_mutual_tls(secured: Secured, prefix: str) -> None:
    assert why_unreachable(secured.ssl(secured.ours)) == ""
    assert there_and_back(secured.ssl(secured.ours), prefix) == [b"secret"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_sasl_over_tls(secured: Secured, prefix: str, mechanism: str) -> None:
    assert why_unreachable(secured.sasl(mechanism)) == ""
    assert there_and_back(secured.sasl(mechanism), prefix) == [b"secret"]


def test_a_missing_or_strange_client_certificate_is_named(secured: Secured) -> None:
    for tls in (secured.trust, secured.stranger):
        assert "the broker refused our client certificate (bus.tls.certificate)" in why_unreachable(secured.ssl(tls))


def test_a_broker_whose_certificate_we_do_not_trust_is_named(secured: Secured) -> None:
    tls = TlsFiles(ca=secured.stranger.certificate, certificate=secured.ours.certificate, key=secured.ours.key)
    assert "we do not accept the broker's certificate" in why_unreachable(secured.ssl(tls))


def test_a_broker_under_another_name_is_named(secured: Secured) -> None:
    other = secured.ssl(secured.ours).model_copy(
        update={"bootstrap_servers": tuple(each.replace("127.0.0.1", "127.0.0.2") for each in secured.server.ssl)}
    )
    assert "refused: nothing listens there" in why_unreachable(other) or "certificate" in why_unreachable(other)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password_or_user_is_named_without_it(secured: Secured, mechanism: str) -> None:
    for settings in (secured.sasl(mechanism, password=secured.wrong_password), secured.sasl(mechanism, user="nobody")):
        said = why_unreachable(settings)
        assert "the broker refused our user or password (bus.sasl)" in said
        assert "guessed" not in said
        with pytest.raises(BusUnavailable, match="refused our user or password"):
            KafkaBus(settings).topics()


def test_listeners_taken_for_each_other_are_named(secured: Secured) -> None:
    plain = secured.server.plain
    sasl = secured.sasl("PLAIN")
    assert "is this the TLS listener?" in why_unreachable(sasl.model_copy(update={"bootstrap_servers": plain}))
    assert "TLS" in why_unreachable(kafka_settings(secured.server, bootstrap_servers=secured.server.ssl))
    no_sasl = sasl.model_copy(update={"sasl": None})
    assert "the broker closed the connection (Metadata): this listener wants SASL (bus.sasl)" in why_unreachable(no_sasl)


def test_a_plain_password_never_goes_without_tls(secured: Secured) -> None:
    settings = secured.sasl("PLAIN").model_copy(update={"tls": None})
    with pytest.raises(SettingsError, match="PLAIN would send the password in the clear"):
        KafkaBus(settings).topics()


def test_a_file_that_is_not_there_is_named_by_its_setting(secured: Secured, tmp_path: Path) -> None:
    tls = TlsFiles(ca=tmp_path / "no-ca.pem")
    with pytest.raises(SettingsError, match=r"bus\.tls\.ca: the file .*no-ca\.pem cannot be read"):
        KafkaBus(secured.ssl(tls)).topics()
    assert "bus.tls.ca" in why_unreachable(secured.ssl(tls))


# without any broker


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where something takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def chatty_port() -> Iterator[int]:
    """A port where something that is no Kafka answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def settings_of(*servers: str) -> Kafka:
    return Kafka(kind="kafka", bootstrap_servers=servers)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("no-such-host.invalid:9092", "the host name does not resolve (DNS)"),
        ("127.0.0.1:1", "the TCP connection was refused: nothing listens there"),
        ("kafka.example.org", "is not HOST:PORT"),
    ],
)
def test_a_server_that_is_not_there_is_named(server: str, said: str) -> None:
    assert why_unreachable(settings_of(server)).startswith(f"{server}: {said}")


def test_something_else_on_the_port_is_named(chatty_port: int) -> None:
    assert "what answers is no Kafka broker" in why_unreachable(settings_of(f"127.0.0.1:{chatty_port}"))


def test_a_silent_port_is_named(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.bus.kafka_diagnosis.STEP_SECONDS", 0.3)
    assert "connected, but no answer" in why_unreachable(settings_of(f"127.0.0.1:{silent_port}"))
