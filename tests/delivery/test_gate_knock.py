"""The gate with a real knock, over real sockets: a partner that ends connections without a word costs one message, not all of them."""

import ssl

import pytest

from pipeline.delivery.gate import Gate, GateState
from pipeline.errors import NoAnswer
from pipeline.health import NotReady
from pipeline.model import Decision, Intent, Request, Timeouts
from pipeline.sandbox.certificates import Files, ensure
from pipeline.settings import BreakerSettings
from pipeline.transport.https import HttpsTransport
from schemas.outcomes import Reason
from tests.transport.tls_server import OK, Peer, TlsServer, tls


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return ensure(tmp_path_factory.mktemp("certificates"))


A_MESSAGE = Request(
    operation="patient-create",
    method="POST",
    path="/Bundle",
    path_template="/Bundle",
    headers=(),
    body=b"{}",
    request_id="5109d51b-421e-4746-b673-16e3fe2b3442",
    timeouts=Timeouts(2, 2, 4),
    intent=Intent.CREATE,
)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["tls12", "tls13"])
def test_a_partner_that_ends_connections_without_a_word_gets_one_message_and_then_only_knocks(
    files: Files, version: ssl.TLSVersion
) -> None:
    well = False

    def play(peer: Peer) -> None:
        while peer.read_request():
            if not well:
                return
            peer.say(OK)

    with TlsServer(files, play, version=version) as server:
        transport = HttpsTransport(server.url, tls(files), {})
        now = 0.0
        gate = Gate("roche", BreakerSettings(), knock=transport.knock, clock=lambda: now, jitter=lambda: 1.0)
        for _ in range(5):
            if gate.ask() == 0.0:
                with pytest.raises(NoAnswer) as lost:
                    transport.exchange(A_MESSAGE)
                gate.told(Decision.UNKNOWN, lost.value.reason, suspect=lost.value.fresh)
            now += 100
        assert gate.standing.not_ready is NotReady.PARTNER_AWAY
        assert [request.split()[0] for request in server.requests] == [b"POST", b"GET", b"GET", b"GET", b"GET"]
        well = True
        assert gate.ask() == 0.0
        assert transport.exchange(A_MESSAGE).status == 200
        gate.told(Decision.DELIVERED, None)
        assert gate.state is GateState.CLOSED
        transport.close()


def test_a_refused_certificate_found_by_a_knock_halts_and_sends_no_message(files: Files) -> None:
    certificate, key = files.wrong("foreign")
    with TlsServer(files, lambda peer: peer.say(OK)) as server:
        transport = HttpsTransport(server.url, tls(files, certificate=certificate, key=key), {})
        now = 0.0
        gate = Gate("roche", BreakerSettings(), knock=transport.knock, clock=lambda: now)
        gate.told(Decision.UNKNOWN, Reason.CONNECTION_LOST, suspect=True)
        now = 10.0
        assert gate.ask() > 0
        assert gate.standing.reason is Reason.REFUSED_CERTIFICATE
        assert server.requests == []
        transport.close()
