"""What the server asks of a partner's contract, and what goes between them. A contract knows no sockets and no faults; the server no rule of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from pipeline.sandbox.faults import Rule
from pipeline.sandbox.knobs import Common
from pipeline.sandbox.log import NOTHING, Effect, Written
from pipeline.sandbox.wire import Answer, Request

S = TypeVar("S")


@dataclass(frozen=True)  # no slots: a generic alias, called, tries to set one more attribute
class Reading(Generic[S]):
    """A request as the contract sees it. Where it is refused, `refusal` is the answer."""

    operation: str = "other"
    api: str | None = None
    """Of a partner with several versions."""
    id: str | None = None
    """The last part of the URL."""
    request_id: str | None = None
    sha256: str | None = None
    submission: S | None = field(default=None, repr=False)
    refusal: Answer | None = None
    issues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """What a request did, and the answer that says so."""

    answer: Answer
    effect: str = NOTHING
    partner_id: str | None = None
    patient: dict[str, Any] | None = field(default=None, repr=False)
    issues: tuple[str, ...] = ()
    written: tuple[Written, ...] = ()
    """Of a partner to whom one request brings several things."""
    clock: float | None = None
    """Of a partner whose clock can be moved."""
    token: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What the log says of a body."""

    identifier: str | None = None
    system: str | None = None
    bundle_id: str | None = None
    message_header_id: str | None = None


class Partner(Protocol[S]):
    """A contract. `read` checks and changes nothing; `apply` does what was asked, at once and for all requests in one order."""

    @property
    def knobs(self) -> Common:
        """Those in force."""

    @property
    def asks_certificate(self) -> bool:
        """Mutual TLS; else TLS as any web server."""

    def turn(self, knobs: Any) -> None:  # noqa: ANN401 - the partner's own
        """Other knobs from now on."""

    def listening(self, port: int) -> None:
        """Where the server listens: before the first request."""

    def restore(self, effects: Iterable[Effect]) -> None:
        """What the log says."""

    def count(self) -> int:
        """How many patients it has."""

    def order(self, name: str, details: Mapping[str, Any]) -> Mapping[str, Any]:
        """An order of the partner's own from whoever drives it; what is to stand in the log. SettingsError where there is no such."""

    def read(self, request: Request, *, certificate: bool) -> Reading[S]:
        """Check everything that can be checked without looking at what it has."""

    def apply(self, reading: Reading[S], number: int) -> Done:
        """Do what was asked; `number` is the request's in the log."""

    def altered(self, reading: Reading[S], number: int, fault: Rule) -> Done:
        """As `apply`, but wrong in the way that the fault says."""

    def instead(self, fault: Rule) -> Answer:
        """Its words for an answer that a fault orders: body `outcome` or `json`."""

    def named(self, reading: Reading[S]) -> frozenset[str]:
        """The business ids that a request is about."""

    def sent(self, reading: Reading[S]) -> Sent:
        """For the log."""
