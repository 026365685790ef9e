"""The stand-in for Roche, to be used: in this process as a context manager (`RocheSandbox`); as a command, see commands/sandbox.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from pipeline.sandbox import knobs as knobs_of
from pipeline.sandbox.certificates import Files
from pipeline.sandbox.knobs import Knobs
from pipeline.sandbox.roche.contract import BASE, Roche
from pipeline.sandbox.running import Sandbox


class RocheSandbox(Sandbox):
    """A partner on loopback. `with RocheSandbox(folder, {"latency": "published"}) as roche: roche.base_url`."""

    NAME: ClassVar[str] = "Roche"

    def __init__(
        self, folder: Path, knobs: Mapping[str, Any] | None = None, *, port: int = 0, control: int | None = None
    ) -> None:
        chosen = knobs_of.parse(knobs or {})
        super().__init__(folder, lambda files: self._partner(files, chosen), port=port, control=control)

    def _partner(self, files: Files, knobs: Knobs) -> Roche:
        self._roche = Roche(files.secret(), knobs)
        return self._roche

    @property
    def base_url(self) -> str:
        """Up to and including /partners/fhir/stu3/api."""
        return f"https://localhost:{self.port}{BASE}"

    @property
    def knobs(self) -> Knobs:
        """Those in force."""
        return self._roche.knobs

    def welcome(self) -> list[str]:
        """A create by curl."""
        folder, knobs = self.folder, self.knobs
        return [
            f"  curl --cacert {folder / 'ca.pem'} --cert {folder / 'client.pem'} --key {folder / 'client.key'} \\",
            f"    -H 'org_id: {knobs.org_id}' -H 'client_id: {knobs.client_id}' -H \"client_secret: $(cat {folder / 'client-secret'})\" \\",
            "    -H 'x-origin-request-id: 5109d51b-421e-4746-b673-16e3fe2b3442' -H 'Content-Type: application/json' \\",
            f"    {self.base_url}/Bundle -d '{SAMPLE}'",
        ]


SAMPLE: Final = (
    '{"resourceType":"Bundle","type":"message","entry":['
    '{"resource":{"resourceType":"MessageHeader","event":{"system":"http://roche.com/fhir/rdc/message-type","code":"new-bundle"},'
    '"timestamp":"2024-05-02T10:15:30.000Z","source":{"endpoint":"2.16.724.4.2"}}},'
    '{"resource":{"resourceType":"Patient","identifier":[{"system":"urn:oid:2.16.724.4.41","value":"TEST0000000001"}],'
    '"name":[{"family":"Example","given":["Ana"]}]}}]}'
)
