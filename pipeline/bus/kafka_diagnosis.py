"""Why a Kafka broker cannot be reached: name, port, TLS, certificate or password, told apart. kafka-python only says that it could not.

It speaks just enough of Kafka's protocol (https://kafka.apache.org/protocol: ApiVersions v0, SaslHandshake v1, SaslAuthenticate v0, Metadata v4)
to be refused at the right step. Nothing is read from topics or written to them; no answer of the broker is passed on as it is.
"""

import socket
import ssl
import struct
from typing import Final

from kafka.net.sasl.scram import ScramClient

from pipeline.bus.tls import context_of
from pipeline.errors import PipelineError, SettingsError
from pipeline.settings import Kafka, Sasl

STEP_SECONDS: Final = 4.0
METADATA, API_VERSIONS, SASL_HANDSHAKE, SASL_AUTHENTICATE = 3, 18, 17, 36
NO_TOPICS: Final = struct.pack(">ib", 0, 0)
"""Metadata v4 of nothing: what a listener that wants SASL refuses to whoever has not authenticated."""
UNSUPPORTED_MECHANISM, AUTHENTICATION_FAILED = 33, 58


class _Stopped(Exception):
    """It ends here, and why."""


def why_unreachable(settings: Kafka) -> str:
    """One line for all bootstrap servers; empty where one of them takes us."""
    try:
        context = context_of(settings.tls) if settings.tls is not None else None
        password = settings.sasl.password.read("bus.sasl.password") if settings.sasl is not None else ""
    except SettingsError as error:
        return str(error)
    reasons: list[str] = []
    for server in settings.bootstrap_servers:
        try:
            _try(server, context, settings.sasl, password)
        except _Stopped as stopped:
            reasons.append(f"{server}: {stopped}")
        except PipelineError as error:
            reasons.append(f"{server}: {error}")
        else:
            return ""
    return "; ".join(reasons) or "no bootstrap server is set (bus.bootstrap_servers)"


def _try(server: str, context: ssl.SSLContext | None, sasl: Sasl | None, password: str) -> None:
    host, port = _host_and_port(server)
    with _connected(host, port) as plain:
        stream = _secured(plain, context, host) if context is not None else plain
        try:
            _ask(stream, API_VERSIONS, b"", "ApiVersions", over_tls=context is not None)
            if sasl is not None:
                _authenticate(stream, sasl, password)
            _ask(stream, METADATA, NO_TOPICS, "Metadata", over_tls=context is not None, version=4)
        finally:
            stream.close()


def _host_and_port(server: str) -> tuple[str, int]:
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit():
        raise _Stopped("is not HOST:PORT (bus.bootstrap_servers)")
    return host.strip("[]"), int(port)


def _connected(host: str, port: int) -> socket.socket:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise _Stopped("the host name does not resolve (DNS)") from None
    why = ""
    for _, _, _, _, address in addresses:
        try:
            return socket.create_connection((str(address[0]), int(address[1])), timeout=STEP_SECONDS)
        except TimeoutError:
            why = f"no answer to the TCP connection within {STEP_SECONDS:.0f} s (firewall?)"
        except ConnectionRefusedError:
            why = "the TCP connection was refused: nothing listens there"
        except OSError as error:
            why = f"no TCP connection ({error.strerror})"
    raise _Stopped(why)


def _secured(plain: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        raise _Stopped(f"we do not accept the broker's certificate: {error.verify_message} (bus.tls.ca, host name)") from None
    except ssl.SSLError as error:
        if _is_about_us(error):
            raise _Stopped("the broker refused our client certificate (bus.tls.certificate)") from None
        raise _Stopped(f"the TLS handshake failed ({error.reason or 'no TLS there'}): is this the TLS listener?") from None
    except (TimeoutError, OSError):
        raise _Stopped("the TLS handshake was not answered: is this the TLS listener?") from None


def _is_about_us(error: ssl.SSLError) -> bool:
    """TLS alerts that a server sends about a client certificate: missing, bad, unknown, expired, revoked, unknown CA."""
    return "ALERT" in (error.reason or "") and any(
        word in (error.reason or "") for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
    )


def _ask(stream: socket.socket, api: int, body: bytes, what: str, *, over_tls: bool, version: int = 0) -> bytes:
    """Send a request, return the answer behind its correlation id."""
    client = b"emr-pipeline"
    request = struct.pack(">hhih", api, version, 1, len(client)) + client + body
    try:
        stream.sendall(struct.pack(">i", len(request)) + request)
        size = struct.unpack(">i", _exactly(stream, 4))[0]
        if not 4 <= size <= 1_000_000:  # noqa: PLR2004 - the correlation id, and more than any such answer
            raise _Stopped("what answers is no Kafka broker, or this is its TLS listener (bus.tls)")
        return _exactly(stream, size)[4:]
    except ssl.SSLError as error:  # under TLS 1.3 a refused client certificate shows on the first read
        if _is_about_us(error):
            raise _Stopped("the broker refused our client certificate (bus.tls.certificate)") from None
        raise _Stopped(f"TLS broke off ({error.reason})") from None
    except TimeoutError:
        raise _Stopped(
            f"connected, but no answer within {STEP_SECONDS:.0f} s ({what}): is this a listener of Kafka's, with this security?"
        ) from None
    except (EOFError, OSError):
        wants = "SASL (bus.sasl)" if over_tls else "TLS (bus.tls) or SASL (bus.sasl)"
        raise _Stopped(f"the broker closed the connection ({what}): this listener wants {wants}") from None


def _exactly(stream: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = stream.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _authenticate(stream: socket.socket, sasl: Sasl, password: str) -> None:
    over_tls = isinstance(stream, ssl.SSLSocket)
    name = sasl.mechanism.encode()
    answer = _ask(stream, SASL_HANDSHAKE, struct.pack(">h", len(name)) + name, "SaslHandshake", over_tls=over_tls, version=1)
    code = struct.unpack_from(">h", answer)[0]
    if code == UNSUPPORTED_MECHANISM:
        raise _Stopped(f"the broker does not offer the SASL mechanism {sasl.mechanism} here (bus.sasl.mechanism)")
    if code != 0:
        raise _Stopped("the broker refused the SASL handshake: is this a SASL listener?")
    if sasl.mechanism == "PLAIN":
        _token(stream, b"\0" + sasl.username.encode() + b"\0" + password.encode(), over_tls=over_tls)
        return
    scram = ScramClient(sasl.username, password, sasl.mechanism)
    try:
        scram.process_server_first_message(_token(stream, scram.first_message(), over_tls=over_tls))
        scram.process_server_final_message(_token(stream, scram.final_message(), over_tls=over_tls))
    except (ValueError, KeyError):
        raise _Stopped("the broker's side of SCRAM is wrong: it does not know our password") from None


def _token(stream: socket.socket, token: bytes, *, over_tls: bool) -> bytes:
    answer = _ask(stream, SASL_AUTHENTICATE, struct.pack(">i", len(token)) + token, "SaslAuthenticate", over_tls=over_tls)
    code, message = struct.unpack_from(">hh", answer)
    if code == AUTHENTICATION_FAILED:
        raise _Stopped("the broker refused our user or password (bus.sasl)")
    if code != 0:
        raise _Stopped(f"the broker refused to authenticate us (Kafka error {code})")
    at = 4 + max(0, message)
    size = struct.unpack_from(">i", answer, at)[0]
    return answer[at + 4 : at + 4 + max(0, size)]
