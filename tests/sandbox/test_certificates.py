"""Who may come in: the certificates of the folder, under TLS 1.2 and 1.3, by alert and by the gateway's 403."""

import shutil
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from pipeline.sandbox.certificates import Files, ensure
from pipeline.sandbox.roche.stand_in import RocheSandbox
from tests.sandbox.client import Client, wait_until

Start = Callable[..., RocheSandbox]
WRONG = ["expired", "not-yet-valid", "foreign"]


def connect(roche: RocheSandbox, certificate: tuple[Path, Path] | None, ca: Path | None = None) -> Client:
    """A client with another certificate."""
    client = Client(roche)
    client.session.cert = tuple(str(path) for path in certificate) if certificate else None  # type: ignore[assignment]
    client.session.verify = str(ca or roche.files.ca)
    return client


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("kind", [*WRONG, "none"])
def test_a_wrong_certificate_ends_in_a_tls_alert_and_a_line_in_the_log(start: Start, version: str, kind: str) -> None:
    roche = start(tls=version)
    certificate = None if kind == "none" else roche.files.wrong(kind)
    with connect(roche, certificate) as client, pytest.raises(requests.ConnectionError):
        client.create()
    wait_until(lambda: [(one.operation, one.effect) for one in roche.log] == [("handshake", "nothing")])


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("kind", [*WRONG, "none"])
def test_a_wrong_certificate_is_answered_with_the_gateways_403(start: Start, version: str, kind: str) -> None:
    roche = start(tls=version, wrong_certificate="403")
    certificate = None if kind == "none" else roche.files.wrong(kind)
    with connect(roche, certificate) as client:
        answer = client.create()
    assert answer.status_code == 403
    assert answer.json() == {"status": "error", "detail": "Validation policy error: Certificate validation failed."}
    assert [one.effect for one in roche.log] == ["nothing"]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("wrong_certificate", ["alert", "403"])
def test_the_good_certificate_comes_in(start: Start, version: str, wrong_certificate: str) -> None:
    roche = start(tls=version, wrong_certificate=wrong_certificate)
    with Client(roche) as client:
        assert client.create().status_code == 200


@pytest.mark.parametrize(("served", "spoken"), [("1.2", ssl.TLSVersion.TLSv1_2), ("1.3", ssl.TLSVersion.TLSv1_3)])
def test_only_the_chosen_version_is_spoken(start: Start, served: str, spoken: ssl.TLSVersion) -> None:
    roche = start(tls=served)
    assert handshake(roche, spoken) == f"TLSv{served}"
    other = ssl.TLSVersion.TLSv1_3 if spoken == ssl.TLSVersion.TLSv1_2 else ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(roche, other)


def handshake(roche: RocheSandbox, version: ssl.TLSVersion) -> str | None:
    context = ssl.create_default_context(cafile=str(roche.files.ca))
    context.load_cert_chain(roche.files.client, roche.files.client_key)
    context.minimum_version = context.maximum_version = version
    with (
        urllib3.util.connection.create_connection(("127.0.0.1", roche.port), timeout=60) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        return tls.version()


def test_a_client_that_trusts_another_ca_does_not_connect(roche: RocheSandbox) -> None:
    good = (roche.files.client, roche.files.client_key)
    with connect(roche, good, ca=roche.files.foreign_ca) as client, pytest.raises(requests.exceptions.SSLError):
        client.create()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_servers_certificate_is_good_for_loopback_also_by_strict_rules(roche: RocheSandbox, host: str) -> None:
    context = ssl.create_default_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(roche.files.ca)
    context.load_cert_chain(roche.files.client, roche.files.client_key)
    with urllib3.HTTPSConnectionPool(host, roche.port, ssl_context=context) as pool:
        assert pool.request("GET", "/", retries=False).status == 403


def test_the_files_are_their_owners_alone_and_shaped_as_the_partner_asks(certificates: Path) -> None:
    assert {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in certificates.iterdir() if path.suffix in {".pem", ".key"}
    } == {path.name: 0o600 for path in certificates.iterdir() if path.suffix in {".pem", ".key"}}
    assert stat.S_IMODE(ensure(certificates / "new").folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((certificates / "client-secret").stat().st_mode) == 0o600
    client = x509.load_pem_x509_certificate(Files(certificates).client.read_bytes())
    key = client.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert (key.key_size, client.signature_hash_algorithm and client.signature_hash_algorithm.name) == (2048, "sha256")
    assert "demo" in client.subject.rfc4514_string()


def test_certificates_are_made_once_and_made_anew_when_one_is_missing(certificates: Path, tmp_path: Path) -> None:
    files = Files(shutil.copytree(certificates, tmp_path / "folder"))
    before = files.client.read_bytes()
    secret = files.secret()
    ensure(files.folder)
    assert files.client.read_bytes() == before
    files.server.write_text("no certificate", encoding="ascii")
    ensure(files.folder)
    assert files.client.read_bytes() != before
    before = files.client.read_bytes()
    files.server_key.unlink()
    ensure(files.folder)
    assert files.client.read_bytes() != before
    assert files.secret() == secret
