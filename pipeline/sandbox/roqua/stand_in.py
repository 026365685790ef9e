"""The stand-in for RoQua, to be used: in this process as a context manager; as a command, see commands/sandbox.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pipeline.sandbox import knobs as knobs_of
from pipeline.sandbox.certificates import Files
from pipeline.sandbox.roqua.access import Access
from pipeline.sandbox.roqua.contract import FHIR, REST, Roqua
from pipeline.sandbox.roqua.knobs import TOKEN_KEY, RoquaKnobs
from pipeline.sandbox.roqua.oru import Push, pushes
from pipeline.sandbox.roqua.questionnaires import HONOS_PLUS
from pipeline.sandbox.roqua.records import Record
from pipeline.sandbox.running import Sandbox


class RoquaSandbox(Sandbox):
    """A partner on loopback. `with RoquaSandbox(folder, {"update_stored": "forbidden"}) as roqua: roqua.base_url`."""

    NAME: ClassVar[str] = "RoQua"

    def __init__(
        self, folder: Path, knobs: Mapping[str, Any] | None = None, *, port: int = 0, control: int | None = None
    ) -> None:
        chosen = knobs_of.turned(RoquaKnobs(), knobs or {})
        super().__init__(folder, lambda files: self._partner(files, chosen), port=port, control=control)

    def _partner(self, files: Files, knobs: RoquaKnobs) -> Roqua:
        self._roqua = Roqua(Access(files.folder, files.secret()), knobs)
        return self._roqua

    @property
    def base_url(self) -> str:
        """Host and port: /medmij_fhir and /api/v1 are below it."""
        return self._roqua.base

    @property
    def token_key(self) -> str:
        """The consumer_key of the token that may do all."""
        return TOKEN_KEY

    @property
    def token_secret(self) -> str:
        """Its consumer_secret: the file client-secret."""
        return self.files.secret()

    @property
    def knobs(self) -> RoquaKnobs:
        """Those in force."""
        return self._roqua.knobs

    @property
    def dossiers(self) -> dict[str, list[Record]]:
        """Every response that it has, by dossier, as the log has it."""
        responses = self._roqua.responses
        return self._in_loop(lambda: {one: responses.of(one) for one in responses.dossiers()})

    def complete(
        self,
        dossier: str,
        key: str = HONOS_PLUS,
        values: Mapping[str, Any] | None = None,
        at: float | None = None,
        **more: Any,  # noqa: ANN401 - as roqua_orders.Order
    ) -> None:
        """A patient has filled out a questionnaire: the one that waits for it, or one more. `values` as {"v_1": 4}; `at` as Unix time."""
        self.tell("complete", dossier=dossier, key=key, values=values or {}, at=at, **more)

    def invite(self, dossier: str, key: str = HONOS_PLUS, **more: Any) -> None:  # noqa: ANN401 - as roqua_orders.Order
        """A questionnaire waits for a patient; another status than open can be told."""
        self.tell("invite", dossier=dossier, key=key, **more)

    def pushes(self) -> list[Push]:
        """The ORU messages that RoQua has sent to the hospital of all that happened to its responses."""
        return list(pushes(self.log))

    def register_key(self, pem: str) -> None:
        """The client's public key for JWT; before, it is that of the folder's client certificate, whose key is `files.client_key`."""
        self.tell("key", pem=pem)

    def welcome(self) -> list[str]:
        """A response and a read by curl."""
        ca, token = self.folder / "ca.pem", f'"{TOKEN_KEY}:$(cat {self.folder / "client-secret"})"'
        body = '{"questionnaire_key":"honos_plus","external_id":"x-1","respondent_type":"profess","answer_data":{"v_1":"a2"}}'
        return [
            f"  curl --cacert {ca} -u {token} -H 'Content-Type: application/json' \\",
            f"    {self.base_url}{REST}/dossiers/2075/responses/ -d '{body}'",
            f"  curl --cacert {ca} -u {token} '{self.base_url}{FHIR}/Observation?subject=2075'",
        ]
