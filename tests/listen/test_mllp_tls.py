"""MLLP over TLS and mutual TLS, with real certificates on real sockets."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import NotSent, SettingsError
from pipeline.hl7.ack import Acknowledgement
from pipeline.listen.client import MllpClient, NotAcknowledged
from pipeline.listen.server import MllpServer
from pipeline.listen.tls import client_context
from pipeline.settings import Listen, Site
from pipeline.settings_sections import TlsFiles
from tests.listen.certificates import Authority, Pair
from tests.listen.stand_ins import TOPIC, FailingBus, Sender, adt


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> Pair:
    return authority.issue("listener")


@contextmanager
def serving(
    bus: FailingBus, ours: Pair, authority: Authority, *, mutual: bool = False, **settings: object
) -> Iterator[MllpServer]:
    tls = TlsFiles(ca=authority.ca if mutual else None, certificate=ours.certificate, key=ours.key)
    listen = Listen.model_validate(
        {"address": "127.0.0.1:0", "topic": TOPIC, "tls": tls, "client_certificates": "required" if mutual else "none"} | settings
    )
    with MllpServer(bus, listen, Site(name="test")) as server:
        yield server


def client(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    return client_context(
        TlsFiles(ca=authority.ca, certificate=pair.certificate if pair else None, key=pair.key if pair else None), where="--tls"
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_messages_go_over_tls(authority: Authority, ours: Pair, version: ssl.TLSVersion) -> None:
    bus, context = FailingBus(), client(authority)
    context.maximum_version = version
    with serving(bus, ours, authority) as server, MllpClient(server.address, tls=context) as sender:
        assert server.encryption == "TLS"
        assert [sender.send(adt(f"C{number}")) for number in range(3)] == [
            Acknowledgement("AA", f"C{number}") for number in range(3)
        ]
    assert bus.values() == [adt(f"C{number}") for number in range(3)]


def test_pipelined_and_large_messages_go_over_tls(authority: Authority, ours: Pair) -> None:
    bus = FailingBus()
    messages = [adt(f"C{number}", extra="OBX|" + "x" * 100_000) for number in range(20)]
    with serving(bus, ours, authority) as server:
        wrapped = client(authority).wrap_socket(socket.create_connection(server.address, timeout=60), server_hostname="127.0.0.1")
        with Sender(wrapped) as sender:
            sender.send(*messages)
            answers = [sender.acknowledgement() for _ in messages]
    assert answers == [Acknowledgement("AA", f"C{number}") for number in range(20)]
    assert bus.values() == messages


def test_mutual_tls_takes_who_has_a_certificate_of_the_ca(authority: Authority, ours: Pair) -> None:
    with serving(FailingBus(), ours, authority, mutual=True) as server:
        assert server.encryption == "mutual TLS"
        with MllpClient(server.address, tls=client(authority, authority.issue("his"))) as sender:
            assert sender.send(adt("C1")) == Acknowledgement("AA", "C1")


@pytest.mark.parametrize("stranger", [False, True])
def test_mutual_tls_refuses_who_has_none_or_a_strangers(
    authority: Authority, ours: Pair, tmp_path: Path, capfd: pytest.CaptureFixture[str], *, stranger: bool
) -> None:
    bus = FailingBus()
    pair = Authority(tmp_path, "stranger").issue("his") if stranger else None
    with serving(bus, ours, authority, mutual=True) as server:
        for _ in range(3):
            # under TLS 1.3 the client learns of the refusal only when it reads
            with pytest.raises((NotAcknowledged, NotSent)), MllpClient(server.address, tls=client(authority, pair)) as sender:
                sender.send(adt("C1"))
    said = capfd.readouterr().err
    assert bus.values() == []
    assert said.count("connection_refused") == 1
    assert "TLS handshake: " in said


def test_who_does_not_speak_tls_is_refused_and_the_next_is_served(authority: Authority, ours: Pair) -> None:
    bus = FailingBus()
    with serving(bus, ours, authority) as server:
        with Sender.to(server.address) as plain:
            plain.send(adt("C1"))
            assert plain.receive() is None
        with MllpClient(server.address, tls=client(authority)) as sender:
            assert sender.send(adt("C2")) == Acknowledgement("AA", "C2")
    assert bus.values() == [adt("C2")]


def test_a_sender_checks_the_listeners_certificate(authority: Authority, ours: Pair, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    with (
        serving(FailingBus(), ours, authority) as server,
        pytest.raises(NotSent, match="TLS handshake with"),
        MllpClient(server.address, tls=client(other)),
    ):
        pass


def test_stopping_acknowledges_over_tls_too(authority: Authority, ours: Pair) -> None:
    bus = FailingBus()
    bus.gate.clear()
    with serving(bus, ours, authority) as server, MllpClient(server.address, tls=client(authority)) as sender:
        answers: list[object] = []
        sending = threading.Thread(target=lambda: answers.append(sender.send(adt("C1"))))
        sending.start()
        while not bus.waiting:
            sending.join(0.01)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        stopping.join(0.1)
        bus.gate.set()
        sending.join()
        stopping.join()
    assert answers == [Acknowledgement("AA", "C1")]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "listen.tls: a TLS server needs a certificate and its key"),
        ({"certificate": "listener.pem", "key": "listener.pem"}, "listen.tls: certificate .* cannot be used"),
        ({"certificate": "absent.pem", "key": "listener.key"}, r"listen.tls: .*absent\.pem cannot be read \(No such file"),
        ({"certificate": "listener.pem", "key": "absent.key"}, r"listen.tls: .*absent\.key cannot be read \(No such file"),
    ],
)
def test_wrong_files_are_one_clear_line(authority: Authority, ours: Pair, files: dict[str, str], said: str) -> None:
    folder = ours.certificate.parent
    tls = TlsFiles.model_validate({name: folder / file for name, file in files.items()})
    with pytest.raises(SettingsError, match=said):
        MllpServer(FailingBus(), Listen(topic=TOPIC, tls=tls), Site(name="test"))
    assert authority.ca.exists()


def test_required_certificates_need_tls_and_a_ca(ours: Pair) -> None:
    with pytest.raises(SettingsError, match="client certificates need TLS"):
        MllpServer(FailingBus(), Listen(topic=TOPIC, client_certificates="required"), Site(name="test"))
    tls = TlsFiles(certificate=ours.certificate, key=ours.key)
    with pytest.raises(SettingsError, match="so the CA that vouches for them is needed"):
        MllpServer(FailingBus(), Listen(topic=TOPIC, tls=tls, client_certificates="required"), Site(name="test"))
