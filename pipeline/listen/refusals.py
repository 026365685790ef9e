"""Frames that were not stored, counted, and said in the log: once for each peer and problem, then at most every ten minutes with the number.

Nothing of a frame is logged. Called by many threads, one per connection.
"""

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

from pipeline.telemetry import LogEvent, log

AGAIN_SECONDS: Final = 600.0
"""A sender that goes on gets a line so often: one for each frame would hide everything else."""
_REMEMBERED: Final = 1024
"""Peers and problems; beyond that the one that was said longest ago is forgotten, and said anew."""


class Refusal(Enum):
    """Why a frame was not stored, and what to do."""

    NOT_HL7 = (
        "no readable MSH segment, answered AR",
        "look at the sender: it frames something else than HL7 v2, or breaks its first segment",
    )
    TOO_LARGE = (
        "larger than site.most_bytes, answered AR",
        "raise site.most_bytes, or ask the sender why a message is that large",
    )
    CUT_OFF = (
        "the connection ended within a frame, not answered",
        "a sender that was cut off sends it again; where it goes on, look at the sender and what stands between",
    )


class Refusals:
    """The count, and what was said of whom."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._said: dict[tuple[str, Refusal], float] = {}
        self._since: dict[tuple[str, Refusal], int] = {}
        self.count = 0
        """Frames, and messages of batches, since the start."""

    def note(self, peer: str, refusal: Refusal) -> None:
        """One more of this peer."""
        key, now = (peer, refusal), self._clock()
        with self._guard:
            self.count += 1
            self._since[key] = frames = self._since.get(key, 0) + 1
            said = self._said.get(key)
            if said is not None and now - said < AGAIN_SECONDS:
                return
            self._said.pop(key, None)  # to the end: the first one was said longest ago
            self._said[key] = now
            del self._since[key]
            if len(self._said) > _REMEMBERED:
                oldest = next(iter(self._said))
                del self._said[oldest]
                self._since.pop(oldest, None)
        problem, do = refusal.value
        log(LogEvent.FRAME_REFUSED, peer=peer, problem=problem, frames=frames, do=do)
