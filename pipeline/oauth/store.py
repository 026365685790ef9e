"""What a login gave, kept in a file: readable by us alone, encrypted with the settings' key, replaced whole or not at all.

Two processes do not use one refresh token at the same time: an authorization server that gives a new one with each use would take the
second use for theft and end the login. `held` is the lock.
"""

import binascii
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import orjson

from pipeline.errors import SettingsError
from pipeline.pseudonyms import Pseudonyms

WHERE: Final = "oauth.refresh_file"
KIND: Final = "emr-pipeline login 1"
"""First in what is sealed, so that nothing else that the key has sealed is taken for a login."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a login gave."""

    refresh_token: str | None = field(repr=False)
    access_token: str | None = field(default=None, repr=False)
    """Kept only where there is no refresh token."""
    until: float | None = None
    """Wall clock, seconds since 1970: the end of the access token; None where nobody told."""


class LoginFile:
    """See the module."""

    def __init__(self, path: Path, pseudonyms: Pseudonyms) -> None:
        """With the settings' secret."""
        self.path, self._pseudonyms = path, pseudonyms

    @contextmanager
    def held(self) -> Iterator[None]:
        """The file is ours: no other process reads and writes it meanwhile."""
        try:
            handle = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SettingsError(f"{self.path}.lock cannot be written ({error.strerror})", where=WHERE) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def read(self) -> Login | None:
        """None where nobody has logged in yet. SettingsError where the file is not ours."""
        try:
            sealed = self.path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{self.path} cannot be read ({type(error).__name__})", where=WHERE) from None
        try:
            kind, _, text = self._pseudonyms.unseal(sealed).partition("\n")
        except (SettingsError, binascii.Error, ValueError):
            message = f"{self.path} was not written with this keys.patient_hash: log in again"
            raise SettingsError(message, where=WHERE) from None
        if kind != KIND:
            raise SettingsError(f"{self.path} holds no login", where=WHERE)
        return Login(**orjson.loads(text))

    def write(self, login: Login) -> None:
        """Durable when it returns. SettingsError where the disk says no."""
        sealed = self._pseudonyms.seal(f"{KIND}\n{orjson.dumps(asdict(login)).decode()}")
        beside = self.path.with_name(f"{self.path.name}.new")
        try:
            beside.unlink(missing_ok=True)
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
                stream.write(f"{sealed}\n")
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise SettingsError(f"{self.path} cannot be written ({error.strerror})", where=WHERE) from None
