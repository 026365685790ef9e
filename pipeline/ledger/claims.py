"""One worker per route on a SQLite ledger, by a lock file that the kernel lets go of when the process ends, however it ends."""

import fcntl
import os
from hashlib import sha256
from pathlib import Path

from pipeline.errors import LedgerError, Refused


class RouteClaims:
    """The routes that this process works on. On PostgreSQL (`file` None) workers share a route, and nothing is locked."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._held: dict[str, int] = {}

    def take(self, route: str) -> None:
        """Take a route; Refused where another worker has it."""
        if self._file is None or route in self._held:
            return
        lock = self._file.with_name(f"{self._file.name}.{sha256(route.encode()).hexdigest()[:16]}.lock")
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(
                f"the lock file cannot be made ({error.strerror}): look at the folder's rights and space", where=str(lock)
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Refused(
                "another worker has this route, and a SQLite ledger serves one: stop it, or move the ledger to PostgreSQL",
                where=f"routes.{route}",
            ) from None
        self._held[route] = descriptor

    def close(self) -> None:
        """Let go of all."""
        while self._held:
            os.close(self._held.popitem()[1])
