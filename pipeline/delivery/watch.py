"""Who waits for answers: one thread for all requests in the air. It judges none of them; it says which are there, or are due, each once.

What is watched is let go of before it is told, so that nobody closes a descriptor, and another one gets its number, while it is watched.
"""

import os
import selectors
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from pipeline.transport.port import InAir

T = TypeVar("T")

LINGER: Final = 5.0
"""Seconds that the thread stays without anything to watch."""


class Watch(Generic[T]):
    """See the module. For any number of threads; its own thread comes with the first request and goes when there is none for a while."""

    def __init__(self, landed: Callable[[list[T]], None], failed: Callable[[BaseException], None], name: str) -> None:
        """`landed` is told, on the watching thread, what came together; `failed`, that nobody watches any more."""
        self._landed, self._failed, self._name = landed, failed, name
        self._lock = threading.Lock()
        self._flying: dict[int, tuple[InAir, T]] = {}
        self._nearest = float("inf")
        """No deadline is before it."""
        self._sleeps_until = 0.0
        self._watching: tuple[threading.Thread, selectors.BaseSelector, int] | None = None
        """And the end of the pipe that wakes it."""
        self._idle = False
        """It has slept for nothing."""
        self._closing = False

    def __len__(self) -> int:
        return len(self._flying)

    def add(self, air: InAir, what: T) -> None:
        """`what` will be told once, when something came or the deadline is over."""
        fileno, deadline = air.fileno, air.deadline
        assert fileno is not None  # noqa: S101 - what cannot be watched is not brought here
        with self._lock:
            _, selector, waker = self._watching or self._begin()
            selector.register(fileno, selectors.EVENT_READ)
            self._flying[fileno] = (air, what)
            self._nearest = min(self._nearest, deadline)
            if deadline < self._sleeps_until:
                self._sleeps_until = deadline
                os.write(waker, b"!")

    def close(self) -> None:
        """The thread goes, once nothing is in the air."""
        with self._lock:
            self._closing = True
            if self._watching is None:
                return
            thread, _, waker = self._watching
            os.write(waker, b"!")
        thread.join()

    def _begin(self) -> tuple[threading.Thread, selectors.BaseSelector, int]:
        wakes, waker = os.pipe()
        selector = selectors.DefaultSelector()
        selector.register(wakes, selectors.EVENT_READ)
        thread = threading.Thread(target=self._run, args=(selector, wakes, waker), name=f"{self._name}-watch", daemon=True)
        thread.start()
        self._watching, self._idle = (thread, selector, waker), False
        return self._watching

    def _run(self, selector: selectors.BaseSelector, wakes: int, waker: int) -> None:
        try:
            self._rounds(selector, wakes)
        except BaseException as error:  # noqa: BLE001 - the route's loop raises it; no thread ends in silence
            self._failed(error)
        finally:
            with self._lock:
                if self._watching is not None and self._watching[1] is selector:
                    self._watching = None  # nobody wakes it any more: its descriptors are another's soon
            selector.close()
            os.close(wakes)
            os.close(waker)

    def _rounds(self, selector: selectors.BaseSelector, wakes: int) -> None:
        while (wait := self._wait()) is not None:
            readable = [key.fd for key, _ in selector.select(wait)]
            if wakes in readable:
                os.read(wakes, 4096)
            came = [fileno for fileno in readable if fileno in self._flying and self._flying[fileno][0].wait(0)]
            landed = self._let_go(selector, came)
            if landed:
                self._landed(landed)

    def _wait(self) -> float | None:
        """Seconds; None: there is nothing to wait for."""
        with self._lock:
            if not self._flying and (self._closing or self._idle):
                self._watching = None
                return None
            now = time.monotonic()
            self._sleeps_until = self._nearest if self._flying else now + LINGER
            return max(self._sleeps_until - now, 0)

    def _let_go(self, selector: selectors.BaseSelector, came: list[int]) -> list[T]:
        with self._lock:
            now = time.monotonic()
            self._idle = not self._flying and now >= self._sleeps_until
            for fileno in came:
                self._flying[fileno][0].came(now)
            if now >= self._nearest:
                due = {fileno for fileno, (air, _) in self._flying.items() if air.deadline <= now}
                came += due.difference(came)
                left = (air.deadline for fileno, (air, _) in self._flying.items() if fileno not in due)
                self._nearest = min(left, default=float("inf"))
            for fileno in came:
                selector.unregister(fileno)
            return [self._flying.pop(fileno)[1] for fileno in came]
