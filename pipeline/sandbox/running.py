"""What the stand-ins have in common in use: a context manager in this process, its port, log, knobs and faults. The partners: roche/stand_in.py, njsams/stand_in.py.

The server runs in a thread of its own; every method here may be called from any thread.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, Self, TypeVar

from pipeline.sandbox import faults as faults_of
from pipeline.sandbox import knobs as knobs_of
from pipeline.sandbox.certificates import Files
from pipeline.sandbox.control import Control
from pipeline.sandbox.faults import Rule
from pipeline.sandbox.log import SandboxLog
from pipeline.sandbox.partner import Partner
from pipeline.sandbox.server import Server

START_SECONDS: Final = 30.0

T = TypeVar("T")


class Sandbox(ABC):
    """A partner on loopback.

    `folder` holds certificates, secret and log, and is used again. `control` opens the control port (0: a free one).
    SettingsError: a wrong knob, a port that is taken. Refused: another sandbox runs on the folder.
    """

    NAME: ClassVar[str]
    """As it is printed."""

    def __init__(self, folder: Path, of: Callable[[Files], Partner[Any]], *, port: int = 0, control: int | None = None) -> None:
        self.folder = folder
        self._server = Server(folder, of)
        self._wanted = port
        self._control_wanted = control
        self._control: Control | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)

    def start(self) -> Self:
        """Listen; returns when connections are accepted."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(START_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    async def _start(self) -> None:
        await self._server.start(self._wanted)
        if self._control_wanted is not None:
            self._control = Control(self._server)
            await self._control.start(self._control_wanted)

    def stop(self) -> None:
        """Close everything; the folder is free for another."""
        if self._loop.is_closed():
            return
        if not self._thread.is_alive():  # it was never started
            self._server.effects.close()
            self._loop.close()
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(START_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    async def _stop(self) -> None:
        if self._control:
            await self._control.stop()
        await self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # where

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    @property
    @abstractmethod
    def base_url(self) -> str:
        """What a client's settings name."""

    @abstractmethod
    def welcome(self) -> list[str]:
        """Lines that say how to try it."""

    @property
    def control_url(self) -> str | None:
        """The control port, where it was asked for."""
        return self._control.url if self._control else None

    @property
    def files(self) -> Files:
        """Certificates and keys."""
        return self._server.files

    @property
    def log(self) -> SandboxLog:
        """The oracle."""
        return SandboxLog(self.folder)

    # at run time

    @property
    def requests(self) -> int:
        """How many were read since the start."""
        return self._server.requests

    def set(self, **knobs: Any) -> None:  # noqa: ANN401 - as knobs.parse
        """Turn some knobs."""
        self._in_loop(lambda: self._server.turn(knobs_of.turned(self._server.knobs, knobs)))

    def inject(self, name: str, **details: Any) -> None:  # noqa: ANN401 - as faults.rule
        """Order a fault: `inject("503", next=3, retry_after="7")`. Names and details: faults.py."""
        self.order(faults_of.rule(name, **details))

    def order(self, rule: Rule) -> None:
        """Order a fault that is a rule already."""
        self._in_loop(lambda: self._server.faults.add(rule))

    def tell(self, name: str, **details: Any) -> None:  # noqa: ANN401 - the partner's own
        """An order of the partner's own, as NJSAMS's `revoke`."""
        self._in_loop(lambda: self._server.tell(name, details))

    def clear_faults(self) -> None:
        """No faults any more."""
        self._in_loop(self._server.faults.clear)

    def patients(self) -> int:
        """How many it has."""
        return self._in_loop(self._server.partner.count)

    def _in_loop(self, do: Callable[[], T]) -> T:
        async def work() -> T:
            return do()

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(START_SECONDS)
