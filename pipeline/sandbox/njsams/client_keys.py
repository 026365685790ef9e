"""The registered client's public keys: a JWKS that was handed in (client-jwks.json in the folder), or fetched from where the client has it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import requests

from pipeline.errors import SettingsError
from pipeline.sandbox.jose import BadSignature

NAME: Final = "client-jwks.json"
FETCH_SECONDS: Final = 5.0


def client_keys(folder: Path, url: str) -> list[Mapping[str, Any]]:
    """All of them; BadSignature where there are none. A fetch holds up the stand-in for as long as it takes."""
    try:
        text = _fetched(url, folder / "ca.pem") if url else (folder / NAME).read_text(encoding="utf-8")
        return _keys(json.loads(text))
    except (OSError, ValueError, requests.RequestException):
        raise BadSignature("the client's JWKS cannot be read") from None


def write_keys(folder: Path, jwks: object) -> None:
    """From now on these; SettingsError where they are no JWKS."""
    try:
        _keys(jwks)
    except ValueError as error:
        raise SettingsError(str(error), where="order keys") from None
    (folder / NAME).write_text(json.dumps(jwks), encoding="utf-8")


def _keys(jwks: object) -> list[Mapping[str, Any]]:
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list) or not all(isinstance(one, dict) for one in keys):
        raise ValueError('write {"keys": [...]}, public keys alone')
    if any("d" in one for one in keys):
        raise ValueError("a private key among them")
    return keys


def _fetched(url: str, ca: Path) -> str:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, timeout=FETCH_SECONDS, verify=str(ca))
        answer.raise_for_status()
        return answer.text
