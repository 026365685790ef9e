"""The gateway before the stand-in passes on what it hears, whenever the client begins to speak."""

import socket
import ssl
import time
from pathlib import Path

import pytest

from pipeline.sandbox.roche.stand_in import RocheSandbox
from tests.faults.gateway import Gateway


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("quiet", [0.0, 0.3], ids=["at once", "after a while"])
def test_a_request_reaches_the_partner_whether_the_session_tickets_came_before_it_or_not(
    tls: str, quiet: float, tmp_path: Path
) -> None:
    """Under TLS 1.3 the partner's tickets come by themselves. They make a socket readable, and there is nothing in them to pass on."""
    with RocheSandbox(tmp_path / "sandbox", {"tls": tls}) as roche, Gateway(roche, tls) as gateway:
        context = ssl.create_default_context(cafile=str(roche.files.ca))
        context.load_cert_chain(roche.files.client, roche.files.client_key)
        port = int(gateway.base_url.rsplit(":", 1)[1].split("/")[0])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            time.sleep(quiet)
            sock.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 4")
        assert roche.requests == 1
