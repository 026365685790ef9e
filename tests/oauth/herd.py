"""Many threads that ask at one moment."""

import threading
from typing import Final

from pipeline.errors import NotSent
from pipeline.model import Request
from pipeline.transport.bearer import BearerTransport
from schemas.outcomes import Reason

LONG: Final = 60.0
"""Seconds that nothing takes."""


def at_once(transport: BearerTransport, request: Request, threads: int) -> list[int | Reason]:
    """The request from each of so many threads: the statuses, or why not."""
    together = threading.Barrier(threads)
    found: list[int | Reason] = []

    def one() -> None:
        together.wait(LONG)
        try:
            found.append(transport.exchange(request).status)
        except NotSent as error:
            found.append(error.reason)

    herd = [threading.Thread(target=one, daemon=True) for _ in range(threads)]
    for thread in herd:
        thread.start()
    for thread in herd:
        thread.join(LONG)
    return found
