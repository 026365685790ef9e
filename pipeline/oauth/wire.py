"""Requests to an authorization server, through the house's own transport: deadlines, caps, TLS, no proxy, no redirect, nothing resent.

What comes back is an answer or NoToken(NOT_SENT_TOKEN): to a message it is all one whether the token endpoint refused a connection, was
slow, or sent half an answer. No URL, form or answer is in an error.
"""

import threading
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from pipeline.errors import NoAnswer, NotSent
from pipeline.model import Intent, Reply, Request, Timeouts
from pipeline.oauth.granted import NoToken
from pipeline.settings_sections import OperationTimes, TlsFiles
from pipeline.transport.bearer import Masked
from pipeline.transport.https import HttpsTransport
from schemas.outcomes import Reason

CAP: Final = 256 * 1024
"""Bytes of an answer at most: a key set is the largest, with a few kilobytes."""
FORM: Final = "application/x-www-form-urlencoded"


class Wire:
    """Asks any https address; one small pool for each origin. For any number of threads."""

    def __init__(self, tls: TlsFiles, times: OperationTimes) -> None:
        """`tls` is what we trust, and ours where the authorization server wants a client certificate too."""
        self._tls = tls
        self._times = Timeouts(times.connect, times.read, times.total)
        self._lock = threading.Lock()
        self._transports: dict[str, HttpsTransport] = {}

    def ask(
        self,
        method: str,
        url: str,
        what: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        accept: str = "application/json",
    ) -> Reply:
        """One request, once. `what` names the place for people, as `the token endpoint`; headers may hold a secret."""
        parts = urlsplit(url)
        request = Request(
            operation=what,
            method=method,
            path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            path_template=what,
            headers=(("Accept", accept), *((name, Masked(value)) for name, value in headers)),
            body=body,
            request_id="",
            timeouts=self._times,
            intent=Intent.UPDATE,
        )
        try:
            return self._transport(f"{parts.scheme}://{parts.netloc}").exchange(request)
        except (NotSent, NoAnswer) as error:
            raise NoToken(Reason.NOT_SENT_TOKEN, f"{what}: {error.message}") from None

    def close(self) -> None:
        """Let go of connections."""
        with self._lock:
            for transport in self._transports.values():
                transport.close()
            self._transports.clear()

    def _transport(self, origin: str) -> HttpsTransport:
        with self._lock:
            if origin not in self._transports:
                self._transports[origin] = HttpsTransport(origin, self._tls, {}, pool=2, body_cap=CAP)
            return self._transports[origin]


def json_object(reply: Reply) -> dict[str, Any] | None:
    """The body as a JSON object; None where it is none (a login page, a proxy's word)."""
    try:
        found = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
