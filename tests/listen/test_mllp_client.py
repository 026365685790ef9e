"""Our sending side, against hl7apy's own MLLP server and against receivers that misbehave."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

from pipeline.errors import NotSent
from pipeline.hl7.ack import Acknowledgement
from pipeline.hl7.mllp import frame
from pipeline.listen.address import Address
from pipeline.listen.client import MllpClient, NotAcknowledged
from tests.listen.stand_ins import adt

ACK = "MSH|^~\\&|EMR|ZIS|HIS|ZH|2026||ACK^A08^ACK|1|P|2.5\rMSA|{code}|{control_id}\r"


def ack(code: str, control_id: str) -> bytes:
    return ACK.format(code=code, control_id=control_id).encode()


class Answering(AbstractHandler):  # type: ignore[misc]  # hl7apy ships no types
    """hl7apy parses what it got and answers by its control id."""

    def reply(self) -> str:
        control_id = parse_message(self.incoming_message, find_groups=False).msh.msh_10.value
        return f"\x0b{ACK.format(code='AA', control_id=control_id)}\x1c\r"


def test_hl7apys_own_server_understands_it() -> None:
    server = MLLPServer("127.0.0.1", 0, {"ADT^A08^ADT_A01": (Answering,)})
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with MllpClient(Address(*server.server_address[:2])) as client:
            assert client.send(adt("C1")) == Acknowledgement("AA", "C1")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def receiver(behave: Callable[[socket.socket], object]) -> Iterator[Address]:
    """Accepts one connection, reads once, behaves, closes."""

    def serve() -> None:
        accepted, _ = listening.accept()
        with accepted:
            accepted.recv(65536)
            behave(accepted)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield Address(*listening.getsockname())
        thread.join()


def test_a_refusal_is_an_answer() -> None:
    with receiver(lambda peer: peer.sendall(frame(ack("AE", "C1")))) as address, MllpClient(address) as client:
        assert client.send(adt("C1")) == Acknowledgement("AE", "C1")


@pytest.mark.parametrize(
    ("behave", "said"),
    [
        (lambda _: None, "closed the connection without an acknowledgement"),
        (lambda peer: peer.sendall(frame(ack("AA", "other"))), "of another message"),
        (lambda peer: peer.sendall(frame(b"hello")), "is no acknowledgement"),
        (lambda peer: peer.sendall(ack("AA", "C1")), "closed the connection"),
        (lambda peer: peer.recv(1), "no acknowledgement within 0.3 s"),
    ],
)
def test_what_does_not_acknowledge_says_so(behave: Callable[[socket.socket], object], said: str) -> None:
    with (
        receiver(behave) as address,
        MllpClient(address, timeout=0.3) as client,
        pytest.raises(NotAcknowledged, match=said) as caught,
    ):
        client.send(adt("C1"))
    assert "Jansen" not in str(caught.value)


def test_who_asks_for_no_acknowledgement_does_not_wait_for_one() -> None:
    with receiver(lambda _: None) as address, MllpClient(address, timeout=60) as client:
        assert client.send(adt("C1", accept="NE")) is None


def test_silence_accepts_what_wants_an_answer_only_on_error() -> None:
    with receiver(lambda peer: peer.recv(1)) as address, MllpClient(address, timeout=60) as client:
        assert client.send(adt("C1", accept="ER")) is None


def test_an_address_where_nobody_listens_is_not_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = Address(*unused.getsockname())
        with pytest.raises(NotSent, match="Connection refused"):
            MllpClient(address)
