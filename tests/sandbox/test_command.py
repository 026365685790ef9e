"""`emr-pipeline sandbox` as a user meets it: what it prints works, it stops when told, and says what is wrong in one line."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "sandbox", *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_printed_curl_works_and_a_signal_ends_it(folder: Path, stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "sandbox", "--port=0", f"--folder={folder}", "--latency=none"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(7)]
            assert re.fullmatch(r"Roche sandbox: https://localhost:\d+/partners/fhir/stu3/api\n", lines[0])
            curl = "".join(lines[3:])
            assert curl.startswith("  curl --cacert ")
            if shutil.which("curl"):
                answer = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, timeout=30, check=True)
                assert '"resourceType":"Bundle"' in answer.stdout
        finally:
            begun = time.monotonic()
            os.kill(process.pid, stop)
        assert process.wait(60) == 0
        assert time.monotonic() - begun < 30


def test_both_partners_run_in_one_process_and_the_printed_commands_work(folder: Path) -> None:
    options = ["--partner=roche", "--partner=njsams", "--knob=njsams.visible_after_hours=0", "--fault=njsams.503:operation=read"]
    command = [sys.executable, "-m", "pipeline.cli", "sandbox", "--port=0", "--control=0", f"--folder={folder}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(16)]
            assert lines[0].startswith("Roche sandbox: https://localhost:")
            assert re.fullmatch(r"NJSAMS sandbox: https://localhost:\d+/NJSAMS-FHIR-API\n", lines[8])
            assert lines[9] == f"log of effects: {folder}/njsams/effects.jsonl\n"
            if shutil.which("curl"):
                answer = subprocess.run(["sh", "-c", "".join(lines[12:])], capture_output=True, text=True, timeout=30, check=True)
                assert '"type":"search-result"' in answer.stdout
        finally:
            process.terminate()
        assert process.wait(30) == 0


def test_the_printed_commands_of_roqua_work(folder: Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "sandbox", "--partner=roqua", "--port=0", f"--folder={folder}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(6)]
            assert re.fullmatch(r"RoQua sandbox: https://localhost:\d+\n", lines[0])
            if shutil.which("curl"):
                answer = subprocess.run(["sh", "-c", "".join(lines[3:])], capture_output=True, text=True, timeout=60, check=True)
                assert '"questionnaire_key":"honos_plus"' in answer.stdout
                assert '"resourceType":"Bundle","type":"searchset","total":2' in answer.stdout
        finally:
            process.terminate()
        assert process.wait(60) == 0


def test_the_printed_commands_of_medmij_work(folder: Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "sandbox", "--partner=medmij", "--port=0", f"--folder={folder}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(7)]
            assert re.fullmatch(r"MedMij sandbox: https://localhost:\d+/fhir\n", lines[0])
            if shutil.which("curl"):
                answer = subprocess.run(["sh", "-c", "".join(lines[3:])], capture_output=True, text=True, timeout=60, check=True)
                assert answer.stdout.count('"resourceType":"Appointment"') == 3
        finally:
            process.terminate()
        assert process.wait(60) == 0


def test_the_list_names_every_knob_and_fault() -> None:
    listed = run("--list")
    assert listed.returncode == 0
    for word in (
        "v1_create_id",
        "logical | business",
        "retry_after",
        "commit_then_drop",
        "latency_scale",
        "visible_after_hours",
        "failed_entry",
        "update_stored",
        "accepted | forbidden",
        "enveloped",
        "colon",
    ):
        assert word in listed.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--knob", "duplicat=twice"], "knob duplicat: no such knob"),
        (["--partner", "njsams", "--knob", "roche.duplicate=twice"], "knob roche.duplicate: no such knob"),
        (["--knob", "duplicate"], "--knob duplicate: write NAME=VALUE"),
        (["--latency", "soon"], "knob latency: "),
        (["--fault", "oops"], "fault oops: no such fault"),
        (["--fault", "503:nxt=1"], "fault 503:nxt: "),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(tmp_path: Path, words: list[str], line: str) -> None:
    ended = run(f"--folder={tmp_path / 'sandbox'}", "--port=0", *words)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"emr-pipeline sandbox: {line}")
    assert ended.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    ended = run(f"--folder={tmp_path / 'file' / 'sandbox'}", "--port=0")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
