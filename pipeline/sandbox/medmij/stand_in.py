"""The stand-in for MedMij: a token issuer, and another hospital's appointment server. In this process as a context manager; as a command, see commands/sandbox.py."""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pipeline.sandbox import knobs as knobs_of
from pipeline.sandbox.certificates import Files
from pipeline.sandbox.medmij.contract import Medmij
from pipeline.sandbox.medmij.issuer import CLIENT, Issuer, claims_of_person
from pipeline.sandbox.medmij.knobs import MedmijKnobs
from pipeline.sandbox.running import Sandbox


class MedmijSandbox(Sandbox):
    """A partner on loopback. `with MedmijSandbox(folder, {"page_size": 1}) as medmij: medmij.base_url, medmij.token("p-1")`."""

    NAME: ClassVar[str] = "MedMij"

    def __init__(
        self, folder: Path, knobs: Mapping[str, Any] | None = None, *, port: int = 0, control: int | None = None
    ) -> None:
        chosen = knobs_of.turned(MedmijKnobs(), knobs or {})
        super().__init__(folder, lambda files: self._partner(files, chosen), port=port, control=control)

    def _partner(self, files: Files, knobs: MedmijKnobs) -> Medmij:
        self._medmij = Medmij(Issuer(files.folder, files.secret()), knobs)
        return self._medmij

    @property
    def base_url(self) -> str:
        """Of the appointment server."""
        return self._medmij.base

    @property
    def knobs(self) -> MedmijKnobs:
        """Those in force."""
        return self._medmij.knobs

    @property
    def issuer(self) -> str:
        """`iss` of its tokens."""
        return self._medmij.issuer.url

    @property
    def jwks_url(self) -> str:
        """Its public keys."""
        return f"{self.issuer}/jwks"

    @property
    def introspection_url(self) -> str:
        """RFC 7662; by HTTP Basic as `client_id` with the secret of the file client-secret."""
        return f"{self.issuer}/introspect"

    @property
    def client_id(self) -> str:
        """The one client."""
        return CLIENT

    def token(self, patient: str | None = None, **claims: Any) -> str:  # noqa: ANN401 - JSON
        """A token of one of its own patients (p-1, p-2, p-3), or with these claims: `token(bsn="999900201", aud="https://xis.example/fhir")`."""
        own = claims_of_person(patient, self.knobs) if patient else {}
        return self._in_loop(lambda: self._medmij.issuer.given(self.knobs, {**own, **claims}))

    def revoke(self) -> None:
        """No token is good any more, where it is asked about or used here."""
        self.tell("revoke")

    def rotate(self) -> None:
        """Another key signs from now on; the former is still published."""
        self.tell("rotate")

    def welcome(self) -> list[str]:
        """A token and a search by curl."""
        ca, secret = self.folder / "ca.pem", self.folder / "client-secret"
        ids = f"-H MedMij-Request-ID:{uuid.uuid4()} -H X-Correlation-ID:{uuid.uuid4()}"
        return [
            f'  TOKEN=$(curl -s --cacert {ca} -u "{CLIENT}:$(cat {secret})" -d grant_type=client_credentials -d patient=p-1 \\',
            f'    {self.issuer}/token | sed \'s/.*"access_token":"\\([^"]*\\)".*/\\1/\')',
            f'  curl --cacert {ca} -H "Authorization: Bearer $TOKEN" {ids} \\',
            f"    '{self.base_url}/Appointment?date=ge2020-01-01'",
        ]
