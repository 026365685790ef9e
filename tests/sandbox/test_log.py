"""The log of effects: the oracle. It holds through kill -9, and the sandbox goes on from it."""

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from pipeline.commands.demo.appointments import free_port
from pipeline.errors import Refused, SettingsError
from pipeline.sandbox.log import NAME, SandboxLog
from pipeline.sandbox.process import SandboxProcess
from pipeline.sandbox.roche.stand_in import RocheSandbox
from tests.sandbox.client import CIP, Client, bundle, of

Start = Callable[..., RocheSandbox]


def test_a_line_says_who_what_and_what_became_of_it(roche: RocheSandbox) -> None:
    with Client(roche) as client:
        sent = {**bundle(), "id": "5d2a4a4a-0000-4000-8000-00000000000b"}
        answer = client.create(sent, headers={"x-origin-request-id": "5109d51b-421e-4746-b673-16e3fe2b3442"})
    (line,) = roche.log
    assert (line.operation, line.effect, line.api, line.method, line.status) == ("create", "created", "v1", "POST", 200)
    assert (line.system, line.identifier, line.partner_id) == (CIP, "12345678Z", answer.json()["id"])
    assert line.request_id == "5109d51b-421e-4746-b673-16e3fe2b3442"
    assert (line.bundle_id, line.message_header_id) == (sent["id"], "5d2a4a4a-0000-4000-8000-000000000000")
    assert line.bundle_sha256 is not None
    assert line.received <= line.time
    assert stat.S_IMODE(roche.log.path.stat().st_mode) == 0o600


def test_the_log_is_narrowed_and_counted(roche: RocheSandbox) -> None:
    with Client(roche) as client:
        client.create(of("A1"))
        client.create(of("A2"))
        client.create(of("A1"))
        client.update("A1", of("A1"))
    assert [one.effect for one in roche.log.effects(identifier="A1")] == ["created", "nothing", "updated"]
    assert [one.effect for one in roche.log.history("A1")] == ["created", "updated"]
    assert roche.log.creates() == {"A1": 1, "A2": 1}
    assert [one.number for one in roche.log] == [1, 2, 3, 4]


def test_an_empty_folder_has_an_empty_log(tmp_path: Path) -> None:
    assert list(SandboxLog(tmp_path)) == []


def test_a_restart_knows_its_patients_and_counts_on(folder: Path) -> None:
    with RocheSandbox(folder) as before, Client(before) as client:
        wanted = client.create().json()["id"]
        client.update("12345678Z", of("12345678Z", gender="male"))
    with RocheSandbox(folder) as after, Client(after) as client:
        read = client.read(wanted).json()
        again = client.create()
        assert after.patients() == 1
    assert (read["id"], read["gender"], again.status_code) == (wanted, "male", 400)
    assert [one.number for one in SandboxLog(folder)] == [1, 2, 3, 4]


def test_a_torn_last_line_is_not_read_and_is_cut_off_at_the_next_start(folder: Path) -> None:
    with RocheSandbox(folder) as roche, Client(roche) as client:
        client.create()
    with (folder / NAME).open("ab") as file:
        file.write(b'{"number":2,"time":')
    assert len(list(SandboxLog(folder))) == 1
    with RocheSandbox(folder) as roche, Client(roche) as client:
        client.create(of("A2"))
    assert [json.loads(line)["identifier"] for line in (folder / NAME).read_bytes().splitlines()] == ["12345678Z", "A2"]


def test_two_sandboxes_cannot_share_a_folder(roche: RocheSandbox) -> None:
    with pytest.raises(Refused, match="another sandbox is running"):
        RocheSandbox(roche.folder)


def test_a_taken_port_is_one_clear_error_and_leaves_the_folder_free(roche: RocheSandbox, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="choose another --port"), RocheSandbox(tmp_path, port=roche.port):
        pass
    with RocheSandbox(tmp_path) as free:
        assert free.port != roche.port


def test_every_answered_create_is_in_the_log_after_kill_9_and_the_restarted_one_knows_it(folder: Path) -> None:
    process = SandboxProcess(folder, port=free_port()).start()
    answered: list[str] = []

    def create(worker: int) -> None:
        with Client(process) as client:
            for number in range(1000):
                try:
                    if client.create(of(f"{worker}-{number}")).status_code == 200:
                        answered.append(f"{worker}-{number}")
                except requests.ConnectionError:
                    return

    threads = [threading.Thread(target=create, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    while len(answered) < 60:
        threads[0].join(0.01)
    process.kill()
    for thread in threads:
        thread.join()
    assert set(answered) <= set(process.log.creates())
    port = process.port
    with process.start(), Client(process) as client:
        assert process.port == port
        assert client.update(answered[-1], of(answered[-1])).status_code == 200
    assert set(process.log.creates().values()) == {1}


def test_a_request_once_read_takes_effect_though_its_client_has_gone(start: Start) -> None:
    roche = start(latency="4.0")
    with Client(roche, timeout=2) as client, pytest.raises(requests.ReadTimeout):
        client.create()
    with Client(roche) as client:
        assert client.update("12345678Z").status_code == 200
    assert [one.effect for one in roche.log] == ["created", "updated"]


def test_simultaneous_creates_of_one_patient_make_one(start: Start) -> None:
    roche = start(latency=0.05)
    statuses: list[int] = []

    def create() -> None:
        with Client(roche) as client:
            statuses.append(client.create().status_code)

    threads = [threading.Thread(target=create) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [400] * 15
    assert roche.log.creates() == {"12345678Z": 1}


def test_a_process_takes_knobs_and_faults_at_start_and_at_run_time(folder: Path) -> None:
    with SandboxProcess(folder, {"v2_create_status": 200}, faults=["503:next=1"]) as process, Client(process) as client:
        statuses = [client.create(api="v2").status_code, client.create(api="v2").status_code]
        process.set(duplicate="with_id")
        process.inject("429", next=1, operation="update")
        statuses += [client.update("x").status_code, client.update("x").status_code]
        with_id = client.create().text
        with pytest.raises(SettingsError, match="no such knob"):
            process.set(nonsense=1)
        with pytest.raises(SettingsError, match="no such fault"):
            process.inject("nonsense")
        pid = process.pid
        assert process.stop() == 0
    assert statuses == [503, 200, 429, 404]
    assert "The patient exists: R" in with_id
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_that_cannot_start_says_why(folder: Path) -> None:
    with pytest.raises(SettingsError, match="knob duplicate"):
        SandboxProcess(folder, {"duplicate": "never"}).start()
