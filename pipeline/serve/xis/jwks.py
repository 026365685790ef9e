"""The keys that a token issuer signs with: fetched, kept, fetched anew when they are old or when a token names one that is not there.

A fetch that fails leaves the keys that were there good for `KEEP` seconds; one thread fetches, and no more often than every `PAUSE` seconds.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from pipeline.oauth.granted import NoToken
from pipeline.oauth.wire import Wire, json_object
from pipeline.serve.xis.faults import Fault, Kind
from pipeline.telemetry import LogEvent, log

OLD: Final = 300.0
"""Seconds after which a key set is fetched again: so long a key that its issuer took back may still count."""
PAUSE: Final = 10.0
"""Between two fetches: tokens with made-up key ids must not make us ask the issuer without end."""
KEEP: Final = 86_400.0
KEY_TYPES: Final = frozenset({"RSA", "EC", "OKP"})
OK: Final = 200
Fetch = Callable[[], KeySet]
"""Raises NotFetched."""


class NotFetched(Exception):
    """No key set was to be had; the text names no key and no URL."""


class Keys:
    """For any number of threads."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float], failed: Callable[[], None] = lambda: None) -> None:
        """`clock`: seconds, monotonic. `failed` counts fetches that did."""
        self._fetch, self._clock, self._failed = fetch, clock, failed
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._fetched = self._tried = -float("inf")
        self._away = False

    def of(self, kid: str | None) -> KeySet:
        """The key set that a token with this key id is checked with. Fault 503 where there is none that may still be used."""
        now = self._clock()
        if self._wanted(kid, now):
            with self._lock:
                if self._wanted(kid, now := self._clock()):
                    self._renew(now)
        if self._keys is None or now - self._fetched > KEEP:
            raise Fault(Kind.AWAY, "tokens cannot be checked now: the issuer's keys are not to be had", Retry_After="30")
        return self._keys

    def why_not(self) -> str | None:
        """Why no token could be checked; fetches where nothing was fetched yet."""
        try:
            self.of(None)
        except Fault as fault:
            return fault.text
        return None

    def age(self) -> float | None:
        """Seconds since the last good fetch; None before it."""
        return None if self._keys is None else self._clock() - self._fetched

    def _wanted(self, kid: str | None, now: float) -> bool:
        old = self._keys is None or now - self._fetched > OLD
        unknown = kid is not None and self._keys is not None and all(key.kid != kid for key in self._keys)
        return (old or unknown) and now - self._tried >= PAUSE

    def _renew(self, now: float) -> None:
        self._tried = now
        try:
            self._keys, self._fetched = self._fetch(), now
        except NotFetched as error:
            self._failed()
            if not self._away:
                log(LogEvent.KEYS_NOT_FETCHED, problem=str(error), do="emr-pipeline doctor looks at the issuer")
            self._away = True
            return
        if self._away:
            log(LogEvent.KEYS_FETCHED)
        self._away = False


def from_url(wire: Wire, url: str) -> Fetch:
    """Keys that the issuer publishes (RFC 7517), over https."""

    def fetch() -> KeySet:
        try:
            reply = wire.ask("GET", url, "the issuer's key set")
        except NoToken as error:
            raise NotFetched(str(error)) from None
        if reply.status != OK:
            raise NotFetched(f"the issuer's key set: HTTP {reply.status}")
        return read(json_object(reply))

    return fetch


def from_file(path: Path) -> Fetch:
    """Keys in a file, read anew as those of a URL are."""

    def fetch() -> KeySet:
        import orjson  # noqa: PLC0415 - `doctor` imports this module

        try:
            return read(orjson.loads(path.read_bytes()))
        except OSError as error:
            raise NotFetched(f"{path} cannot be read ({error.strerror})") from None
        except orjson.JSONDecodeError:
            raise NotFetched(f"{path} is not JSON") from None

    return fetch


def read(document: Any) -> KeySet:  # noqa: ANN401 - anything that JSON holds
    """The public keys of a key set that may sign; a shared secret is none."""
    listed = document.get("keys") if isinstance(document, dict) else None
    usable = [one for one in listed if _usable(one)] if isinstance(listed, list) else []
    try:
        return KeySet.import_key_set({"keys": usable})
    except (JoseError, ValueError, TypeError, KeyError):
        raise NotFetched("the issuer's key set holds no public key that can be used") from None


def _usable(key: Any) -> bool:  # noqa: ANN401 - as above
    return isinstance(key, dict) and key.get("kty") in KEY_TYPES and key.get("use", "sig") == "sig"
