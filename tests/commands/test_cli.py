"""The command line as a whole: what goes wrong is one line, whatever it is."""

import os
import shlex
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.bus.embedded import EmbeddedBus
from pipeline.cli import COMMANDS, READS, main
from tests.commands import hospital

ROOT = Path(__file__).parents[2]
FULL = Path("/dev/full")


def test_an_unknown_command_is_one_line_with_what_looks_like_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["result"]) == 2
    assert (
        capsys.readouterr().err == "emr-pipeline: no such command: result; there is results; emr-pipeline --help has them all\n"
    )


def test_an_unknown_command_is_no_wall_of_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["xyzzy"]) == 2
    assert capsys.readouterr().err == "emr-pipeline: no such command: xyzzy; emr-pipeline --help has them all\n"


def test_every_module_of_a_command_is_in_the_table() -> None:
    files = {
        file.stem
        for file in (ROOT / "pipeline" / "commands").iterdir()
        if file.suffix == ".py" or (file / "__init__.py").is_file()
    }
    assert files - {"__init__"} == {name.replace("-", "_") for name in COMMANDS}
    assert set(COMMANDS) >= READS


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["map", str(ROOT / "pipeline/sample.hl7")], ["find"]], ids=["much", "a line"])
def test_a_full_disk_behind_stdout_is_one_line_and_exit_2(words: list[str], tmp_path: Path) -> None:
    with FULL.open("w") as full:
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        called = [sys.executable, "-m", "pipeline.cli", *words]
        done = subprocess.run(called, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path, env=buffered)
    assert (done.returncode, done.stderr) == (
        2,
        f"emr-pipeline {words[0]}: what it writes cannot be written (No space left on device): make room, or let it go elsewhere\n",
    )


def called(words: list[str], stdout: str, folder: Path) -> tuple[int, str]:
    """A command as a shell runs it, its stdout closed or on a full disk; its exit and what it said on stderr."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    line = shlex.join([sys.executable, "-m", "pipeline.cli", *words])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{line} {stdout}"], stderr=subprocess.PIPE, text=True, check=False, cwd=folder, env=buffered
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(("stdout", "why"), [(">&-", "stdout is closed"), ("> /dev/full", "No space left on device")])
def test_what_was_done_and_could_not_be_printed_is_told_so(stdout: str, why: str, tmp_path: Path) -> None:
    hospital.write(tmp_path)
    told = f"emr-pipeline topics: it is done, and what it says of it could not be printed ({why})\n"
    assert called(["topics", "create"], stdout, tmp_path) == (5, told)
    with closing(EmbeddedBus(tmp_path / "bus")) as bus:
        assert "his.adt" in bus.topics()


def test_a_command_that_only_tells_does_nothing_where_stdout_is_closed(tmp_path: Path) -> None:
    told = "emr-pipeline find: all that it does is to tell, and stdout is closed\n"
    assert called(["find"], ">&-", tmp_path) == (2, told)


def test_what_was_refused_keeps_its_exit_where_stdout_is_closed(tmp_path: Path) -> None:
    hospital.write(tmp_path)
    code, told = called(["discard", "his.adt/0/17", "--why", "a test"], ">&-", tmp_path)
    assert (code, told.count("\n"), "nothing has run yet" in told) == (2, 1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demo", "--folder", "file"], "emr-pipeline demo: file: cannot work there (Not a directory): name another --folder\n"),
        (
            ["demo", "--folder", "file/below"],
            "emr-pipeline demo: file/below: cannot work there (Not a directory): name another --folder\n",
        ),
        (
            ["sandbox", "--folder", "file", "--port", "0"],
            "emr-pipeline sandbox: file: the sandbox's folder cannot be made or written (File exists)\n",
        ),
    ],
)
def test_a_folder_that_is_a_file_is_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(words) == 2
    assert capsys.readouterr().err == said


def test_bench_takes_no_time_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "convert", "--seconds", "0"])
    assert ended.value.code == 2
    assert "argument --seconds: a number of seconds above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["find", "--nothing"], ["replay", "plan", "--rate", "none"], ["replay"], ["discard"], ["run", "--within"]]
)
def test_what_a_command_does_not_understand_is_one_line_and_says_where_to_read(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n"), said.endswith("--help)\n")) == (2, 1, True)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["find", "--event", ""], "the argument of --event"),
        (["find", "--event="], "the argument of --event"),
        (["find", "--state", "parked", "--replay", " "], "the argument of --replay"),
        (["replay", "plan", "--event", ""], "the argument of --event"),
        (["replay", "plan", "--control-id", ""], "the argument of --control-id"),
        (["trace", ""], "an argument"),
        (["trace", "--request-id", ""], "the argument of --request-id"),
        (["resolve", "his.adt/0/17", "--why", "asked", "--delivered", ""], "the argument of --delivered"),
        (["fetch", "njsams", "Patient", "--family="], "the argument of --family"),
        (["map", "--known", "", "message.hl7"], "the argument of --known"),
    ],
)
def test_an_argument_that_a_shell_left_empty_selects_nothing(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    told = f"emr-pipeline {words[0]}: {named} is empty, and says nothing: is a variable of the shell not set?\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("words", [["--known-part", ""], ["--known-part="]])
def test_a_part_that_the_partner_does_not_know_may_be_empty(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", *words, "no such file"]) == 2
    assert "no such file" in capsys.readouterr().err
