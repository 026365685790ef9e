"""The stand-in as a process of its own, for tests that kill it and for measurements that must not share an interpreter. Starts what it stops."""

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import requests

from pipeline.errors import SettingsError
from pipeline.sandbox.certificates import Files
from pipeline.sandbox.log import SandboxLog

START_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 10.0


class SandboxProcess:
    """`emr-pipeline sandbox` with its control port. After `kill` or `stop`, `start` begins again on the same port and folder.

    `partner` as the command has it, `knobs` as in its knobs, `faults` in the command line's form (faults.parse).
    """

    def __init__(
        self,
        folder: Path,
        knobs: Mapping[str, Any] | None = None,
        *,
        faults: Sequence[str] = (),
        port: int = 0,
        partner: str = "roche",
    ) -> None:
        self.folder = folder
        self.files = Files(folder)
        self.port = port
        self.base_url = ""
        self.control_url = ""
        self._stderr = folder / "stderr.txt"
        self._knobs = {"latency": "none", **(knobs or {})}
        self._faults = tuple(faults)
        self._partner = partner
        self._process: subprocess.Popen[str] | None = None
        self._http = requests.Session()
        self._http.trust_env = False

    @property
    def said(self) -> str:
        """What the latest process said on stderr."""
        return self._stderr.read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        """Of the running process."""
        if self._process is None:
            raise SettingsError("the sandbox process is not running", where=str(self.folder))
        return self._process.pid

    @property
    def log(self) -> SandboxLog:
        """The oracle."""
        return SandboxLog(self.folder)

    def start(self) -> Self:
        """Start it where it does not run; returns when it listens. SettingsError with its own words where it does not come to that."""
        if self._process is not None:
            return self
        knobs = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in self._knobs.items()}
        options = [f"--knob={name}={value}" for name, value in knobs.items()] + [f"--fault={one}" for one in self._faults]
        command = [
            sys.executable,
            "-m",
            "pipeline.cli",
            "sandbox",
            f"--partner={self._partner}",
            f"--port={self.port}",
            f"--folder={self.folder}",
            "--control=0",
        ]
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._stderr.open("w", encoding="utf-8") as stderr:  # a pipe that nobody reads would fill and stop it
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [*command, *options], stdout=subprocess.PIPE, stderr=stderr, text=True, encoding="utf-8"
            )
        overdue = threading.Timer(START_SECONDS, self._process.kill)
        overdue.start()
        try:
            self._read_start(self._process)
        finally:
            overdue.cancel()
        return self

    def _read_start(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            name, _, value = line.strip().partition(": ")
            if name.endswith(" sandbox"):
                self.base_url = value
                self.port = int(value.split(":")[2].split("/")[0])
            elif name == "control":
                self.control_url = value
            elif name.startswith("try it"):
                return
        self._end()
        raise SettingsError(f"the sandbox did not start: {self.said.strip()}", where=str(self.folder))

    def set(self, **knobs: Any) -> None:  # noqa: ANN401 - as knobs.parse
        """Turn some knobs."""
        self._control("PUT", "/knobs", knobs)

    def inject(self, name: str, **details: Any) -> None:  # noqa: ANN401 - as faults.rule
        """Order a fault."""
        self._control("POST", "/faults", {"name": name, **details})

    def tell(self, name: str, **details: Any) -> None:  # noqa: ANN401 - the partner's own
        """An order of the partner's own, as NJSAMS's `revoke`."""
        self._control("POST", "/orders", {"name": name, **details})

    def clear_faults(self) -> None:
        """No faults any more."""
        self._control("DELETE", "/faults", None)

    def _control(self, method: str, path: str, body: Any) -> None:  # noqa: ANN401 - JSON
        answer = self._http.request(method, f"{self.control_url}{path}", json=body, timeout=ANSWER_SECONDS)
        if not answer.ok:
            raise SettingsError(str(answer.json().get("error")), where=f"{method} {path}")

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        if self._process:
            self._process.kill()
        self._end()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        return self._end()

    def _end(self) -> int:
        if self._process is None:
            return 0
        self._process.communicate(timeout=START_SECONDS)
        code = self._process.returncode
        self._process = None
        self._http.close()
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
