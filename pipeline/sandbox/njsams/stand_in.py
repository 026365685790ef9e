"""The stand-in for NJSAMS and its authorization server, to be used: in this process as a context manager; as a command, see commands/sandbox.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pipeline.sandbox import knobs as knobs_of
from pipeline.sandbox.certificates import Files
from pipeline.sandbox.njsams.authorization import Authorization
from pipeline.sandbox.njsams.contract import Njsams
from pipeline.sandbox.njsams.knobs import NjsamsKnobs
from pipeline.sandbox.running import Sandbox


class NjsamsSandbox(Sandbox):
    """A partner on loopback. `with NjsamsSandbox(folder, {"visible_after_hours": 0}) as njsams: njsams.base_url`."""

    NAME: ClassVar[str] = "NJSAMS"

    def __init__(
        self, folder: Path, knobs: Mapping[str, Any] | None = None, *, port: int = 0, control: int | None = None
    ) -> None:
        chosen = knobs_of.turned(NjsamsKnobs(), knobs or {})
        super().__init__(folder, lambda files: self._partner(files, chosen), port=port, control=control)

    def _partner(self, files: Files, knobs: NjsamsKnobs) -> Njsams:
        self._njsams = Njsams(Authorization(files.folder, files.secret()), knobs)
        return self._njsams

    @property
    def base_url(self) -> str:
        """The server base, which is `aud` too."""
        return self._njsams.base

    @property
    def issuer(self) -> str:
        """The authorization server."""
        return self._njsams.authorization.issuer

    @property
    def token_url(self) -> str:
        """Its token endpoint."""
        return self._njsams.authorization.urls()["token"]

    @property
    def knobs(self) -> NjsamsKnobs:
        """Those in force."""
        return self._njsams.knobs

    def revoke(self, *, refresh: bool = False) -> None:
        """No access token is good any more; nor, where asked for, a refresh token."""
        self.tell("revoke", refresh=refresh)

    def register_keys(self, jwks: Mapping[str, Any]) -> None:
        """The client's public keys, for private_key_jwt."""
        self.tell("keys", jwks=jwks)

    def token(self) -> str:
        """An access token, as if a client had asked for one: for tests that are not about tokens."""
        return self._in_loop(self._njsams.authorization.given)

    def welcome(self) -> list[str]:
        """A token and a search by curl."""
        ca, secret = self.folder / "ca.pem", self.folder / "client-secret"
        return [
            f'  TOKEN=$(curl -s --cacert {ca} -u "{self.knobs.client_id}:$(cat {secret})" -d grant_type=client_credentials \\',
            f'    -d \'scope=system/*.read\' {self.token_url} | sed \'s/.*"access_token":"\\([^"]*\\)".*/\\1/\')',
            f"  curl --cacert {ca} -H \"Authorization: Bearer $TOKEN\" -H 'Accept: application/json+fhir' \\",
            f"    '{self.base_url}/Patient?family=example'",
        ]
