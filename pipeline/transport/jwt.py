"""A transport that says who we are, and whom a request is about, by a JWT of our own (RFC 7519): `Authorization: Bearer …`, signed here, asked of nobody.

contracts/roqua.md section 2.2: header typ, alg, kid (the consumer key); claims iss, aud, iat, exp (an hour at most) and sub, the dossier. So there is
one token for each dossier, and the few last ones are kept. No token, dossier or key is in an error, a log line or a repr.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc import jwt

from pipeline.model import Reply, Request
from pipeline.transport.bearer import BearerTransport
from pipeline.transport.port import InAir, Transport
from pipeline.transport.whole import at_hand

AUDIENCE: Final = "api"
KEPT: Final = 256
"""Dossiers whose token is kept: a worker's messages of one patient come close together."""
SPARE: Final = 0.25
"""Of its life, which a token that goes out once more has left at least."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who we are to the partner."""

    issuer: str
    key_id: str
    algorithm: str
    key: Any = field(repr=False)
    """joserfc's RSAKey."""
    seconds: int
    """How long a token is good for."""

    def token(self, subject: str | None, now: int) -> str:
        """A token of that moment; without `sub` where the request is about nobody."""
        header = {"typ": "JWT", "alg": self.algorithm, "kid": self.key_id}
        claims = {"iss": self.issuer, "aud": AUDIENCE, "iat": now, "exp": now + self.seconds}
        if subject is not None:
            claims["sub"] = subject
        made: str = jwt.encode(header, claims, self.key, algorithms=[self.algorithm])
        return made


class JwtTransport:
    """See the module. Implements transport/port.py around another transport; as safe for threads as that is."""

    def __init__(self, inner: Transport, signer: Signer, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` is the wall clock, in seconds: it is what the partner compares with its own."""
        self._inner, self._signer, self._clock = inner, signer, clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str | None, tuple[str, float]] = OrderedDict()

    def exchange(self, request: Request) -> Reply:
        """Send it once, and once more with a token made anew where one that was kept is refused."""
        return self._of(request).exchange(request)

    def at_hand(self) -> bool:
        """See Splits."""
        return at_hand(self._inner)

    def start(self, request: Request) -> InAir:
        """See Splits."""
        return self._of(request).start(request)

    def _of(self, request: Request) -> BearerTransport:
        return BearerTransport(self._inner, _OfOne(self, request.subject))

    def knock(self) -> None:
        """See Knock: without a token."""
        self._inner.knock()

    def close(self) -> None:
        """Let go of connections and tokens."""
        self._inner.close()
        with self._lock:
            self._kept.clear()

    def token(self, subject: str | None) -> tuple[str, bool]:
        """One that is good for a while yet, and whether it was made just now."""
        now = self._clock()
        with self._lock:
            token, until = self._kept.get(subject, ("", 0.0))
            # kept by a clock that was set back meanwhile, its beginning would lie ahead of us
            if now < until - SPARE * self._signer.seconds <= now + self._signer.seconds:
                self._kept.move_to_end(subject)
                return token, False
        return self.new(subject), True

    def new(self, subject: str | None) -> str:
        """One made now, and kept instead of the other."""
        now = int(self._clock())
        token = self._signer.token(subject, now)
        with self._lock:
            self._kept[subject] = (token, float(now + self._signer.seconds))
            self._kept.move_to_end(subject)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return token


class _OfOne:
    """The tokens of one request (transport/port.py, Tokens)."""

    def __init__(self, transport: JwtTransport, subject: str | None) -> None:
        self._transport, self._subject, self._new = transport, subject, False

    def current(self, patience: float) -> str:  # noqa: ARG002 - nobody is asked
        token, self._new = self._transport.token(self._subject)
        return token

    def at_hand(self) -> bool:
        """See Tokens."""
        return True

    def instead_of(self, refused: str, patience: float) -> str | None:  # noqa: ARG002 - as above
        """None where it was made for this request: the next one would say the same."""
        return None if self._new else self._transport.new(self._subject)

    def close(self) -> None:
        """The transport's business."""
