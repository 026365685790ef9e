"""Tokens that a patient's PHR brings: JWTs checked with the issuer's keys, or any token by asking the issuer (RFC 7662). No token is in an error or log.

Only asymmetric algorithms count: with a shared secret, whoever can check a token could make one. `none` is no algorithm.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from authlib.oauth2.auth import ClientAuth
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwt import JWTClaimsRegistry

from pipeline.errors import SettingsError
from pipeline.oauth.granted import NoToken
from pipeline.oauth.wire import FORM, Wire, json_object
from pipeline.serve.xis.context import Context, Names, bad_token, context_of
from pipeline.serve.xis.faults import Fault, Kind
from pipeline.serve.xis.jwks import PAUSE, Keys
from pipeline.settings_serve import IntrospectionSettings

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LONGEST: Final = 16_384
"""Characters of a token."""
MOST_KEPT: Final = 10_000
"""Answers of introspection in memory."""
OK: Final = 200
SECRET: Final = "serve.tokens.introspection.client_secret"  # noqa: S105 - the name of a setting


class Jwts:
    """Signed tokens (RFC 7519)."""

    def __init__(
        self,
        keys: Keys,
        issuer: str,
        audience: str,
        names: Names,
        *,
        leeway: int,
        clock: Callable[[], float] = time.time,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """`leeway`: seconds by which clocks may differ. `close`: lets go of what the keys come by."""
        self._keys, self._names = keys, names
        self.close = close
        self._claims = JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=leeway,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    def context(self, token: str) -> Context:
        """See Tokens."""
        try:
            if len(token) > LONGEST:
                raise bad_token("the token is too long")
            header = jws.extract_compact(token.encode()).headers()
            if header.get("alg") not in ALGORITHMS:
                raise bad_token("the token is signed with an algorithm that does not count here")
            kid = header.get("kid")
            keys = self._keys.of(kid if isinstance(kid, str) else None)
            claims = jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError, RecursionError):
            raise bad_token("the token is not good: signature, issuer, audience or time") from None
        return context_of(claims, self._names)

    def ready(self) -> str | None:
        """See Tokens."""
        return self._keys.why_not()

    def keys_age(self) -> float | None:
        """See Tokens."""
        return self._keys.age()


class Introspection:
    """Tokens that the issuer is asked about. A good answer is kept for `kept` seconds: so long one that was taken back may still count."""

    def __init__(
        self,
        wire: Wire,
        asked: IntrospectionSettings,
        names: Names,
        issuer: str,
        audience: str,
        *,
        leeway: int,
        clock: Callable[[], float] = time.time,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """`leeway`: as above. `failed` counts questions that did."""
        self._wire, self._asked, self._names = wire, asked, names
        self._expected = {"iss": issuer, "aud": audience}
        self._kept, self._leeway, self._clock, self._failed = asked.kept_seconds, leeway, clock, failed
        self._looked: tuple[float, str | None] = (-PAUSE, None)
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[float, Context]] = OrderedDict()

    def context(self, token: str) -> Context:
        """See Tokens."""
        if len(token) > LONGEST or not token.isascii() or not token.isprintable():
            raise bad_token("the token is none")
        key, now = hashlib.sha256(token.encode()).digest(), self._clock()
        with self._lock:
            known = self._known.get(key)
        if known is not None and now < known[0]:
            return known[1]
        found = context_of(self._claims(token, now), self._names)
        with self._lock:
            self._known[key] = (min(now + self._kept, found.expires + self._leeway), found)
            while len(self._known) > MOST_KEPT:
                self._known.popitem(last=False)
        return found

    def ready(self) -> str | None:
        """See Tokens: the issuer is asked about a token that nobody has, and not more often than every `PAUSE` seconds."""
        with self._lock:
            now = self._clock()
            if now < self._looked[0] + PAUSE:
                return self._looked[1]
            self._looked = (now, self._looked[1])
        why = self._why_not()
        self._looked = (now, why)
        return why

    def _why_not(self) -> str | None:
        try:
            self._ask("none")
        except _NotAsked as not_asked:
            return not_asked.why
        return None

    def keys_age(self) -> float | None:
        """See Tokens: the issuer is asked."""
        return None

    def close(self) -> None:
        """Let go of connections."""
        self._wire.close()

    def _claims(self, token: str, now: float) -> dict[str, Any]:
        try:
            said = self._ask(token)
        except _NotAsked:
            self._failed()
            raise Fault(
                Kind.AWAY, "tokens cannot be checked now: their issuer does not answer, or does not take us", Retry_After="30"
            ) from None
        if said.get("active") is not True:
            raise bad_token("the issuer says that the token is not good")
        for name, expected in self._expected.items():
            value = said.get(name, expected)  # RFC 7662 section 2.2: both may be left out
            if value != expected and not (isinstance(value, list) and expected in value):
                raise bad_token("the token is of another issuer, or for somebody else")
        ends, begins = said.get("exp", now + self._kept), said.get("nbf", now)
        if not _is_time(ends) or not _is_time(begins) or ends <= now - self._leeway or begins > now + self._leeway:
            raise bad_token("the token is not good at this time")
        return said | {"exp": ends}

    def _ask(self, token: str) -> dict[str, Any]:
        from urllib.parse import quote, urlencode  # noqa: PLC0415 - only here

        try:
            secret = self._asked.client_secret.read(SECRET)
        except SettingsError as error:  # the file was there when we started; read anew, so that it may change
            raise _NotAsked(str(error)) from None
        client, secret = quote(self._asked.client_id, safe=""), quote(secret, safe="")
        body = urlencode({"token": token, "token_type_hint": "access_token"})
        _, headers, body = ClientAuth(client, secret, "client_secret_basic").prepare(
            "POST", self._asked.url, {"Content-Type": FORM}, body
        )
        try:
            reply = self._wire.ask("POST", self._asked.url, "introspection", headers=tuple(headers.items()), body=body.encode())
        except NoToken as error:
            raise _NotAsked(str(error)) from None
        document = json_object(reply) if reply.status == OK else None
        if document is None:
            raise _NotAsked(
                f"the issuer answers introspection with HTTP {reply.status}" + (", and no JSON" * (reply.status == OK))
            )
        return document


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12  # noqa: PLR2004 - the year 33658


class _NotAsked(Exception):
    """The issuer gave no word about a token: why, for those who look after us. No secret is in it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
