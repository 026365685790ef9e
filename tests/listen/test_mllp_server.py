"""The MLLP listener over real sockets; the bus is a stand-in where it has to fail, else the embedded one."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hl7.client import MLLPClient

from pipeline.bus.embedded import EmbeddedBus
from pipeline.bus.port import Bus, TopicSettings
from pipeline.errors import BusRefused, SettingsError
from pipeline.hl7.ack import Acknowledgement, read_acknowledgement
from pipeline.hl7.mllp import FS, VT, frame
from pipeline.listen.server import MllpServer
from pipeline.settings import Listen, Site
from tests.listen.stand_ins import TOPIC, FailingBus, Sender, adt


@pytest.fixture
def bus() -> FailingBus:
    return FailingBus()


@contextmanager
def serving(bus: Bus, *, most_bytes: int = 100_000, **settings: object) -> Iterator[MllpServer]:
    listen = Listen.model_validate({"address": "127.0.0.1:0", "topic": TOPIC, "store_seconds": 5} | settings)
    with MllpServer(bus, listen, Site(name="test", most_bytes=most_bytes)) as server:
        yield server


def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return true


# what is stored, and how it is answered


def test_a_message_is_stored_as_it_was_framed_and_answered_aa(bus: FailingBus) -> None:
    message = adt("C1") + b"ZPI|\xff\xfe raw\r\n"
    with serving(bus) as server, Sender.to(server.address) as sender:
        assert sender.ask(message) == Acknowledgement("AA", "C1")
    assert bus.values() == [message]


def test_the_record_has_key_and_origin_and_nothing_of_the_message(bus: FailingBus) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.ask(adt("C1"))
        listener = str(server.address)
    record = bus.records[0]
    headers = dict(record.headers)
    assert record.key == b"ZH|100"
    assert (headers.pop("received_by"), headers.pop("listener"), headers.pop("peer")) == (
        b"listen",
        listener.encode(),
        b"127.0.0.1",
    )
    assert abs(int(headers.pop("received_ms")) / 1000 - time.time()) < 10
    assert headers == {}


def test_what_will_be_parked_is_stored_and_answered_aa_all_the_same(bus: FailingBus) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        assert sender.ask(b"MSH|^~\\&|\r") == Acknowledgement("AA", "")
        assert sender.ask(b"MSH|^~\\&|||||||XXX|C2|P|9.9\rnot a segment") == Acknowledgement("AA", "C2")
    assert [record.key for record in bus.records] == [None, None]


def test_the_embedded_bus_has_what_was_answered_aa(tmp_path: Path) -> None:
    bus = EmbeddedBus(tmp_path)
    bus.create_topics([TopicSettings(TOPIC, partitions=4)])
    messages = [adt(f"C{number}", patient=str(number)) for number in range(20)]
    with serving(bus) as server, Sender.to(server.address) as sender:
        assert [sender.ask(message) for message in messages] == [Acknowledgement("AA", f"C{number}") for number in range(20)]
        assert server.stored == 20
    assert sorted(received.value or b"" for received in bus.read(TOPIC)) == sorted(messages)
    bus.close()


@pytest.mark.parametrize("content", [b"", b"PID|1", b"\x00\x01\x02", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_has_no_readable_msh_is_answered_ar_and_the_connection_goes_on(bus: FailingBus, content: bytes) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        assert sender.ask(content) == Acknowledgement("AR", "", "100")
        assert sender.ask(adt("C1")) == Acknowledgement("AA", "C1")
    assert bus.values() == [adt("C1")]


def test_what_is_too_large_is_answered_ar_with_its_own_control_id(bus: FailingBus) -> None:
    with serving(bus, most_bytes=1000) as server, Sender.to(server.address) as sender:
        assert sender.ask(adt("C1", extra="OBX|" + "x" * 5000)) == Acknowledgement("AR", "C1", "207")
        assert sender.ask(adt("C2", accept="AL", extra="OBX|" + "x" * 5000)) == Acknowledgement("CR", "C2", "207")
        assert sender.ask(adt("C3")) == Acknowledgement("AA", "C3")
    assert bus.values() == [adt("C3")]


def test_what_does_not_end_at_all_is_answered_ar_and_cut_off(bus: FailingBus) -> None:
    with serving(bus, most_bytes=1000) as server, Sender.to(server.address) as sender:
        sender.socket.sendall(VT + adt("C1") + b"x" * 20_000)
        assert sender.acknowledgement() == Acknowledgement("AR", "C1", "207")
        assert sender.receive() is None
    assert bus.values() == []


def test_enhanced_mode_is_answered_ca(bus: FailingBus) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        assert sender.ask(adt("C1", accept="AL")) == Acknowledgement("CA", "C1")


def test_who_wants_no_acknowledgement_gets_none_and_is_stored(bus: FailingBus) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.send(adt("C1", accept="NE"), adt("C2", accept="ER"), adt("C3"))
        assert sender.acknowledgement() == Acknowledgement("AA", "C3")
    assert bus.values() == [adt("C1", accept="NE"), adt("C2", accept="ER"), adt("C3")]


def test_an_acknowledgement_that_comes_in_is_stored_and_not_acknowledged(bus: FailingBus) -> None:
    stray = b"MSH|^~\\&|HIS|ZH|EMR|ZIS|2026||ACK|C1|P|2.5\rMSA|AA|X1\r"
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.send(stray, adt("C2"))
        assert sender.acknowledgement() == Acknowledgement("AA", "C2")
    assert bus.values() == [stray, adt("C2")]


# framing on the wire


def test_a_sender_that_forgets_the_last_cr_gets_its_answer(bus: FailingBus) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.socket.sendall(VT + adt("C1") + FS)
        assert sender.acknowledgement() == Acknowledgement("AA", "C1")


def test_a_message_may_come_byte_by_byte(bus: FailingBus) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        for byte in frame(adt("C1")):
            sender.socket.sendall(bytes([byte]))
        assert sender.acknowledgement() == Acknowledgement("AA", "C1")


def test_a_sender_without_frames_is_said_once_without_its_bytes(bus: FailingBus, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(bus) as server:
        with Sender.to(server.address) as sender:
            sender.socket.sendall(adt("C1") + adt("C2"))
        assert until(lambda: server.accepted == 1 and not server._connections)
    said = capfd.readouterr().err
    assert said.count("connection_garbled") == 1
    assert "Jansen" not in said
    assert bus.values() == []


def test_a_connection_that_says_nothing_is_not_logged(bus: FailingBus, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(bus) as server, Sender.to(server.address):
        pass
    assert [line.split('"event": "')[1].split('"')[0] for line in capfd.readouterr().err.splitlines()] == [
        "listen_started",
        "listen_stopped",
    ]


# order


def test_pipelined_messages_are_stored_and_answered_in_order(bus: FailingBus) -> None:
    messages = [adt(f"C{number}") for number in range(200)]
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.send(*messages)
        assert [sender.acknowledgement() for _ in messages] == [Acknowledgement("AA", f"C{number}") for number in range(200)]
    assert bus.values() == messages


def test_one_message_of_a_connection_is_with_the_bus_at_a_time(bus: FailingBus) -> None:
    bus.gate.clear()
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.send(*(adt(f"C{number}") for number in range(10)))
        assert until(lambda: bus.waiting == 1)
        time.sleep(0.05)
        assert bus.most_waiting == 1
        bus.gate.set()
        assert [sender.acknowledgement() for _ in range(10)] == [Acknowledgement("AA", f"C{number}") for number in range(10)]
        assert bus.most_waiting == 1


# the bus away


def test_when_the_bus_is_away_there_is_no_answer_and_nothing_behind_it_is_stored(bus: FailingBus) -> None:
    bus.failing.add(b"|C2|")
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.send(adt("C1"), adt("C2"), adt("C3"))
        assert sender.acknowledgement() == Acknowledgement("AA", "C1")
        assert sender.receive() is None
    assert bus.values() == [adt("C1")]


def test_when_the_bus_refuses_it_is_the_same(bus: FailingBus) -> None:
    bus.failing.add(b"|C1|")
    bus.error = BusRefused("no such topic", where=TOPIC)
    with serving(bus) as server, Sender.to(server.address) as sender:
        assert sender.ask(adt("C1")) is None


def test_when_the_bus_does_not_say_in_time_there_is_no_answer(bus: FailingBus) -> None:
    bus.gate.clear()
    with serving(bus, store_seconds=0.1) as server, Sender.to(server.address) as sender:
        assert sender.ask(adt("C1")) is None


def test_by_a_setting_the_sender_is_told_ae_or_ce_and_the_connection_ends(bus: FailingBus) -> None:
    bus.failing |= {b"|C1|", b"|C3|"}
    with serving(bus, bus_away="error") as server:
        with Sender.to(server.address) as sender:
            sender.send(adt("C1"), adt("C2"))
            assert sender.acknowledgement() == Acknowledgement("AE", "C1", "207")
            assert sender.receive() is None
        with Sender.to(server.address) as sender:
            assert sender.ask(adt("C3", accept="AL")) == Acknowledgement("CE", "C3", "207")
    assert bus.values() == []


def test_the_bus_away_and_back_is_said_once_each_without_values(bus: FailingBus, capfd: pytest.CaptureFixture[str]) -> None:
    bus.failing.add(b"Jansen")
    with serving(bus) as server:
        for _ in range(3):
            with Sender.to(server.address) as sender:
                assert sender.ask(adt("C1")) is None
        bus.failing.clear()
        with Sender.to(server.address) as sender:
            assert [sender.ask(adt(name)) for name in ("C1", "C2")] == [Acknowledgement("AA", "C1"), Acknowledgement("AA", "C2")]
    said = capfd.readouterr().err
    assert (said.count("bus_away"), said.count("bus_back")) == (1, 1)
    assert "Jansen" not in said


def test_a_defect_costs_the_answer_and_not_the_server(bus: FailingBus, capfd: pytest.CaptureFixture[str]) -> None:
    bus.failing.add(b"|C1|")
    bus.error = ValueError("Jansen")
    with serving(bus) as server, Sender.to(server.address) as sender, Sender.to(server.address) as other:
        assert sender.ask(adt("C1")) is None
        assert other.ask(adt("C2")) == Acknowledgement("AA", "C2")
    said = capfd.readouterr().err
    assert said.count("listen_failed") == 1
    assert "ValueError" in said
    assert "Jansen" not in said


# batches


BATCH = b"FHS|^~\\&|HIS|ZH|EMR|ZIS|2026||||F1\rBHS|^~\\&|HIS|ZH|EMR|ZIS|2026||||B1\r"


def test_each_message_of_a_batch_is_a_record_and_one_batch_answers(bus: FailingBus) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.send(BATCH + adt("C1") + adt("C2") + b"BTS|2\rFTS|1\r")
        content = sender.receive() or b""
        sender.send(adt("C3"))
        assert sender.acknowledgement() == Acknowledgement("AA", "C3")
    lines = content.split(b"\r")
    assert [line[:3] for line in lines] == [b"FHS", b"BHS", b"MSH", b"MSA", b"MSH", b"MSA", b"BTS", b"FTS", b""]
    assert (lines[0].split(b"|")[11], lines[1].split(b"|")[11]) == (b"F1", b"B1")
    assert [lines[3], lines[5], lines[6]] == [b"MSA|AA|C1", b"MSA|AA|C2", b"BTS|2"]
    assert bus.values() == [adt("C1").rstrip(b"\r"), adt("C2").rstrip(b"\r"), adt("C3")]


def test_a_batch_of_which_a_message_fails_is_not_answered_and_not_continued(bus: FailingBus) -> None:
    bus.failing.add(b"|C2|")
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.send(BATCH + adt("C1") + adt("C2") + adt("C3") + b"BTS|3\r")
        assert sender.receive() is None
    assert bus.values() == [adt("C1").rstrip(b"\r")]


def test_by_a_setting_a_batch_says_ae_for_what_failed_and_all_behind_it(bus: FailingBus) -> None:
    bus.failing.add(b"|C2|")
    with serving(bus, bus_away="error") as server, Sender.to(server.address) as sender:
        sender.send(BATCH + adt("C1") + adt("C2") + adt("C3") + b"BTS|3\r")
        codes = [line[4:9] for line in (sender.receive() or b"").split(b"\r") if line.startswith(b"MSA")]
        assert sender.receive() is None
    assert codes == [b"AA|C1", b"AE|C2", b"AE|C3"]
    assert bus.values() == [adt("C1").rstrip(b"\r")]


def test_an_empty_batch_is_answered_by_an_empty_batch(bus: FailingBus) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.send(BATCH + b"BTS|0\r")
        assert (sender.receive() or b"").split(b"\r")[2:] == [b"BTS|0", b"FTS|1", b""]


def test_several_messages_in_one_frame_are_answered_one_by_one(bus: FailingBus) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.send(adt("C1") + adt("C2"))
        assert [sender.acknowledgement(), sender.acknowledgement()] == [Acknowledgement("AA", "C1"), Acknowledgement("AA", "C2")]
    assert len(bus.records) == 2


# limits, back-pressure, peers that go


def test_many_connections_at_once_each_get_their_own_answers(bus: FailingBus) -> None:
    wrong: list[object] = []

    def converse(server: MllpServer, name: int) -> None:
        with Sender.to(server.address) as sender:
            for number in range(20):
                control_id = f"{name}-{number}"
                if (came := sender.ask(adt(control_id))) != Acknowledgement("AA", control_id):
                    wrong.append(came)

    with serving(bus) as server:
        threads = [threading.Thread(target=converse, args=(server, name)) for name in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(bus.records) == 64 * 20


def test_not_more_than_the_limit_wait_for_the_bus(bus: FailingBus) -> None:
    bus.gate.clear()
    with serving(bus, in_flight=3) as server:
        senders = [Sender.to(server.address) for _ in range(8)]
        for number, sender in enumerate(senders):
            sender.send(adt(f"C{number}"))
        assert until(lambda: bus.waiting == 3)
        time.sleep(0.1)
        assert bus.most_waiting == 3
        bus.gate.set()
        assert [sender.acknowledgement() for sender in senders] == [Acknowledgement("AA", f"C{number}") for number in range(8)]
        for sender in senders:
            sender.socket.close()


def test_while_the_bus_is_slow_nothing_more_is_read_from_its_sender(bus: FailingBus) -> None:
    bus.gate.clear()
    with serving(bus, store_seconds=30) as server, Sender.to(server.address) as sender:
        sender.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sender.socket.sendall(frame(adt("C1", extra="OBX|" + "x" * 50_000)) * 1000)
        bus.gate.set()


def test_over_the_connection_limit_a_connection_is_closed_and_that_is_said_once(
    bus: FailingBus, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(bus, connections=2) as server:
        first, second = Sender.to(server.address), Sender.to(server.address)
        assert first.ask(adt("C1")) == second.ask(adt("C1"))
        for _ in range(3):
            with Sender.to(server.address) as third:
                assert third.receive() is None
        first.socket.close()
        assert until(lambda: len(server._connections) == 1)
        with Sender.to(server.address) as third:
            assert third.ask(adt("C2")) == Acknowledgement("AA", "C2")
        second.socket.close()
    assert capfd.readouterr().err.count("connection_refused") == 1


def test_an_idle_connection_is_closed(bus: FailingBus) -> None:
    with serving(bus, idle_seconds=0.3) as server, Sender.to(server.address) as sender:
        assert sender.ask(adt("C1")) == Acknowledgement("AA", "C1")
        started = time.monotonic()
        assert sender.receive() is None
        assert 0.2 < time.monotonic() - started < 20


def test_dripping_bytes_is_idle_too(bus: FailingBus) -> None:
    with serving(bus, idle_seconds=0.3) as server, Sender.to(server.address) as sender:
        started = time.monotonic()
        sender.socket.sendall(VT)
        sender.socket.settimeout(0.02)
        closed = False
        while not closed and time.monotonic() - started < 5:
            try:
                sender.socket.sendall(b"x")
                closed = sender.socket.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True
        assert closed
        assert until(lambda: not server._connections)


def test_a_sender_that_reads_no_acknowledgement_is_let_go(bus: FailingBus) -> None:
    with serving(bus, idle_seconds=0.5) as server, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(server.address)
        deaf.settimeout(0.5)
        with pytest.raises((TimeoutError, ConnectionError)):
            deaf.sendall(
                frame(adt("C" * 5000)) * 10_000
            )  # the control id comes back: large acknowledgements soon fill what lies between
        assert until(lambda: not server._connections)


def test_a_sender_that_goes_after_sending_has_its_message_stored(bus: FailingBus) -> None:
    bus.gate.clear()
    with serving(bus) as server:
        with Sender.to(server.address) as sender:
            sender.send(adt("C1"))
            assert until(lambda: bus.waiting == 1)
        bus.gate.set()
        assert until(lambda: not server._connections)
    assert bus.values() == [adt("C1")]


def test_half_a_message_is_not_stored(bus: FailingBus) -> None:
    with serving(bus) as server:
        with Sender.to(server.address) as sender:
            sender.socket.sendall(VT + adt("C1"))
        assert until(lambda: not server._connections)
    assert bus.values() == []


def test_what_is_refused_is_said_once_for_each_problem_and_counted_at_the_end(
    bus: FailingBus, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(bus, most_bytes=1000) as server:
        for _ in range(3):
            with Sender.to(server.address) as sender:
                sender.ask(b"CANARY")
                sender.ask(adt("C1", extra="OBX|CANARY" + "x" * 5000))
                assert sender.ask(adt("C2")) == Acknowledgement("AA", "C2")
                sender.socket.sendall(VT + adt("CANARY"))
        with Sender.to(server.address) as sender:  # this one is answered, and ends by it
            sender.socket.sendall(VT + adt("C1") + b"x" * 20_000)
            sender.acknowledgement()
        assert until(lambda: not server._connections)
    err = capfd.readouterr().err
    lines = [json.loads(line) for line in err.splitlines()]
    assert [line["problem"].partition(",")[0] for line in lines if line["event"] == "frame_refused"] == [
        "no readable MSH segment",
        "larger than site.most_bytes",
        "the connection ended within a frame",
    ]
    assert (lines[-1]["event"], lines[-1]["stored"], lines[-1]["refused"]) == ("listen_stopped", 3, 10)
    assert "CANARY" not in err


def test_a_message_of_a_batch_that_is_none_is_counted(bus: FailingBus) -> None:
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.ask(b"BHS|^~\\&|\rXYZ|garbage\r" + adt("C1") + b"BTS|1\r")
        assert (server.stored, server.refused) == (1, 1)


# stopping and starting


def test_stopping_finishes_and_answers_what_had_been_sent(bus: FailingBus) -> None:
    bus.gate.clear()
    with serving(bus) as server, Sender.to(server.address) as sender, Sender.to(server.address) as idle:
        address = server.address
        sender.send(adt("C1"))
        assert until(lambda: bus.waiting == 1)
        sender.send(adt("C2"))
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert idle.receive() is None
        bus.gate.set()
        assert [sender.acknowledgement(), sender.acknowledgement()] == [Acknowledgement("AA", "C1"), Acknowledgement("AA", "C2")]
        assert sender.receive() is None
        stopping.join()
        with pytest.raises(ConnectionRefusedError):
            Sender.to(address)
    assert bus.values() == [adt("C1"), adt("C2")]
    assert bus.closed_producers == 1


def test_stopping_does_not_wait_for_ever(bus: FailingBus) -> None:
    bus.gate.clear()
    with serving(bus) as server, Sender.to(server.address) as sender:
        sender.send(adt("C1"))
        assert until(lambda: bus.waiting == 1)
        started = time.monotonic()
        server.stop(0.2)
        assert time.monotonic() - started < 20
        assert sender.receive() is None
        bus.gate.set()


def test_a_taken_port_is_one_clear_line(bus: FailingBus) -> None:
    with serving(bus) as server:
        taken = str(server.address)
        with pytest.raises(SettingsError) as caught, serving(bus, address=taken):
            pass
    assert str(caught.value) == (
        f"listen.address: cannot listen on {taken} (Address already in use): another program (or another `listen`) has the port"
    )


@pytest.mark.parametrize("address", ["2575", "127.0.0.1", "127.0.0.1:x", "::1:2575", "127.0.0.1:70000", ""])
def test_an_address_that_is_none_is_refused(bus: FailingBus, address: str) -> None:
    with pytest.raises(SettingsError, match=r"^listen\.address: "), serving(bus, address=address):
        pass


def test_a_topic_that_is_not_there_is_refused_before_anything_is_bound(bus: FailingBus) -> None:
    with (
        pytest.raises(SettingsError, match=r"^listen\.topic: the bus has no topic nowhere; make it"),
        serving(bus, topic="nowhere"),
    ):
        pass


def test_it_listens_on_ipv6_too(bus: FailingBus) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with serving(bus, address="[::1]:0") as server, Sender.to(server.address) as sender:
        assert sender.ask(adt("C1")) == Acknowledgement("AA", "C1")
        assert str(server.address) == f"[::1]:{server.address.port}"


# other people's senders


def test_python_hl7s_own_client_talks_to_it(bus: FailingBus) -> None:
    with serving(bus) as server, MLLPClient(*server.address) as client:
        for name in ("C1", "C2"):
            answer = client.send_message(adt(name).decode())
            assert answer[:1] + answer[-2:] == b"\x0b\x1c\r"
            assert read_acknowledgement(answer[1:-2]) == Acknowledgement("AA", name)
    assert bus.values() == [adt("C1"), adt("C2")]
