"""One worker per route on a SQLite ledger, by a lock file that the kernel lets go of when the process ends, however it ends."""

import fcntl
import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Final

from pipeline.errors import LedgerError, Refused

LOOKED: Final = 0.05
"""Seconds, longer than `taken` ever holds the lock that it looks at."""


def _lock(file: Path, route: str) -> Path:
    return file.with_name(f"{file.name}.{sha256(route.encode()).hexdigest()[:16]}.lock")


def _locked(descriptor: int, *, after: float = 0) -> bool:
    time.sleep(after)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class RouteClaims:
    """The routes that this process works on. On PostgreSQL (`file` None) workers share a route, and nothing is locked."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._held: dict[str, int] = {}

    def taken(self, route: str) -> bool | None:
        """Whether a worker has it, this process or another; None where that cannot be told (PostgreSQL, a lock file that cannot be read)."""
        if self._file is None:
            return None
        if route in self._held:
            return True
        try:
            descriptor = os.open(_lock(self._file, route), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            return False if isinstance(error, FileNotFoundError) else None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def take(self, route: str) -> None:
        """Take a route; Refused where another worker has it."""
        if self._file is None or route in self._held:
            return
        lock = _lock(self._file, route)
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(
                f"the lock file cannot be made ({error.strerror}): look at the folder's rights and space", where=str(lock)
            ) from None
        if not (_locked(descriptor) or _locked(descriptor, after=LOOKED)):
            os.close(descriptor)
            raise Refused(
                "another worker has this route, and a SQLite ledger serves one: stop it, or move the ledger to PostgreSQL",
                where=f"routes.{route}",
            )
        self._held[route] = descriptor

    def close(self) -> None:
        """Let go of all."""
        while self._held:
            os.close(self._held.popitem()[1])
