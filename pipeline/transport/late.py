"""The answer that comes after our time-out: the connection is kept a while longer, and read. Nothing is sent here, and nothing decided.

Bounded in number and in time: one thread for each that is waited for, so many at most; beyond that the connection is closed, as without all this.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from pipeline.errors import NoAnswer, NotSent
from pipeline.model import OpenEnd, Reply

MOST: Final = 16
"""Connections that are kept at once: each may be a request more at the partner than `in_flight` allows."""


class LateAnswers:
    """See the module. For any number of threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._reading: dict[OpenEnd, threading.Thread] = {}
        self._closed = False

    def wait(self, end: OpenEnd, seconds: float, told: Callable[[Reply], None]) -> bool:
        """Read it for so long, and tell what came; whether it is waited for: there may be too many, and then it is closed."""
        until = time.monotonic() + seconds
        thread = threading.Thread(target=self._read, args=(end, until, told), name="late-answer", daemon=True)
        with self._lock:
            waits = not self._closed and len(self._reading) < self._most
            if waits:
                self._reading[end] = thread
                thread.start()
        if not waits:
            end.close()
        return waits

    def close(self) -> None:
        """Nothing is told after this."""
        with self._lock:
            self._closed = True
            left = dict(self._reading)
        for end in left:
            end.close()
        for thread in left.values():
            thread.join()

    def _read(self, end: OpenEnd, until: float, told: Callable[[Reply], None]) -> None:
        try:
            reply = end.read(until - time.monotonic())
        except (NoAnswer, NotSent):  # none came: that is known already
            reply = None
        if reply is not None and not self._closed:
            told(reply)
        with self._lock:
            del self._reading[end]
