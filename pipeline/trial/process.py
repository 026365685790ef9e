"""A worker as a process of its own, and what can be seen of a process from outside: its log, its metrics, /proc. Linux only.

Whoever starts one ends it: `Worker` is a context manager that leaves nothing running.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pipeline.errors import SettingsError

START_SECONDS: Final = 60.0
"""How long a loaded machine may take for what takes two seconds."""
END_SECONDS: Final = 60.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
SAMPLE: Final = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far, as /proc has it."""

    cpu_seconds: float
    rss_mb: float
    peak_rss_mb: float
    handles: int
    threads: int


def usage(pid: int) -> Usage:
    """Of a process of ours."""
    proc = Path("/proc") / str(pid)
    times = (proc / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in (proc / "status").read_text(encoding="utf-8").splitlines() if ":" in line)
    return Usage(
        (int(times[11]) + int(times[12])) / TICKS,
        int(status["VmRSS"].split()[0]) / 1024,
        int(status["VmHWM"].split()[0]) / 1024,
        len(list((proc / "fd").iterdir())),
        int(status["Threads"]),
    )


@dataclass(frozen=True, slots=True)
class Look:
    """What /metrics said."""

    values: dict[tuple[str, str], float]

    def __call__(self, name: str, label: str = "") -> float:
        """The sum of a metric over the series whose labels hold `label`."""
        return sum(value for (series, labels), value in self.values.items() if series == name and label in labels)


class Worker:
    """`emr-pipeline run` with its metrics on a free port. Its log goes to a file."""

    def __init__(self, settings: Path, log: Path, *options: str, module: str = "pipeline.cli") -> None:
        """`module`: what is run in place of the command line, with the same arguments."""
        self.log = log
        command = [sys.executable, "-m", module, "run", "--http", "127.0.0.1:0", "--settings", str(settings), *options]
        with log.open("wb") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=stream)  # noqa: S603 - our own command
        self._address = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def said(self, *events: str) -> list[dict[str, Any]]:
        """Its log lines of these events."""
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] in events]

    def wait_until_it_works(self) -> Self:
        """Return when it has started its route; SettingsError with its own words where it does not come to that."""
        end = time.monotonic() + START_SECONDS
        while not (self.said("worker_started") and self.said("http_started")):
            if not self.running or time.monotonic() > end:
                raise SettingsError(f"the worker did not start: {self.log.read_text(encoding='utf-8')[-500:].strip()}")
            time.sleep(0.02)
        line = self.said("http_started")[0]
        self._address = f"http://{line['host']}:{line['port']}/metrics"
        return self

    def look(self) -> Look:
        """Ask for its metrics. OSError where it does not answer."""
        with urllib.request.urlopen(self._address, timeout=5) as answer:  # noqa: S310 - our own, on loopback
            text = answer.read().decode()
        return Look({(name, labels): float(value) for name, labels, value in SAMPLE.findall(text)})

    def usage(self) -> Usage:
        """What it has used so far."""
        return usage(self.pid)

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Its exit code; negative: the signal that ended it."""
        return self._process.wait(seconds)

    def end(self, seconds: float = END_SECONDS) -> int:
        """SIGTERM, and its exit code."""
        self.tell(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """Whatever state it is in."""
        if self.running:
            self.tell(signal.SIGCONT)
            self.tell(signal.SIGKILL)
        self._process.wait(END_SECONDS)


@contextmanager
def working(settings: Path, log: Path, *options: str) -> Iterator[Worker]:
    """A worker that has started, ended whatever happens."""
    with Worker(settings, log, *options) as worker:
        yield worker.wait_until_it_works()
