"""What sections of the settings are made of: closed and unchangeable models, places of secrets, and the checks that several share."""

import os
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from pipeline.errors import SettingsError


class Section(BaseModel):
    """What all sections share: closed, unchangeable, silent about values."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Secret(Section):
    """Where a secret is: in an environment variable, or in a file (its first line)."""

    env: str | None = None
    file: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _place(cls, given: object) -> object:
        if not isinstance(given, dict | Secret):
            raise ValueError("write {env: NAME} or {file: PATH}, never the secret itself")  # noqa: TRY004 - pydantic's contract
        return given

    @model_validator(mode="after")
    def _one(self) -> "Secret":
        if (self.env is None) == (self.file is None):
            raise ValueError("give either env or file")
        return self

    def read(self, where: str) -> str:
        """The secret; SettingsError naming the setting and the place where it is not there."""
        if self.env is not None:
            value = os.environ.get(self.env, "")
            if not value:
                raise SettingsError(f"the environment variable {self.env} is not set", where=where)
            return value
        assert self.file is not None  # noqa: S101 - the validator saw to it
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SettingsError(f"the file {self.file} cannot be read ({error.strerror})", where=where) from None
        if not lines or not lines[0].strip():
            raise SettingsError(f"the file {self.file} is empty", where=where)
        return lines[0].strip()


class TlsFiles(Section):
    """PEM files. `ca` is what we trust; certificate and key are ours, for mutual TLS."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> "TlsFiles":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self


class OperationTimes(Section):
    """Seconds."""

    connect: float = 5
    read: float
    total: float


def https_url(base_url: str, example: str) -> str:
    """A partner's base URL, checked."""
    from urllib.parse import urlsplit  # noqa: PLC0415 - `--help` does not need it

    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"is no URL: {example}") from None
    if parts.scheme != "https" or not host or not base_url.isprintable() or " " in base_url:
        raise ValueError(f"must be https:// and a host name, as {example}")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("may have no query, fragment, user name or password")
    return base_url.rstrip("/")


def hl7_path(path: str) -> str:
    """A place in messages, checked: segment and field."""
    if not re.fullmatch(r"[A-Z][A-Z0-9]{2}(\[[1-9]\d*\])?-[1-9]\d*(\[[1-9]\d*\])?(\.[1-9]\d*){0,2}", path):
        raise ValueError("is no HL7 path, as PV1-10 or ZPI-3.1")
    return path
