"""Log events: one JSON line each on stderr, from a closed list of names; no field may hold a value of a message.

A name here has a heading in deploy/runbook.md, which says what to do.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TextIO


class LogEvent(StrEnum):
    """What can be logged."""

    WORKER_STARTED = "worker_started"
    WORKER_STOPPING = "worker_stopping"
    DRAIN_CUT = "drain_cut"
    """A stop did not wait any longer for requests in flight, or for the topics: they are found out after the next start."""
    WORKER_STOPPED = "worker_stopped"
    HTTP_STARTED = "http_started"
    """/healthz, /readyz and /metrics are answered at this address."""
    CERTIFICATE_WARNING = "certificate_warning"
    ROUTE_HALTED = "route_halted"
    """The partner refuses us as a whole, or what must be written cannot be: the route stops, nothing is lost."""
    ROUTE_RESUMED = "route_resumed"
    PARTNER_AWAY = "partner_away"
    PARTNER_BACK = "partner_back"
    PARTNER_THROTTLED = "partner_throttled"
    """The partner asked us to wait: no message goes until then, and then one to find out."""
    PARTNER_UNSTEADY = "partner_unsteady"
    """It comes and goes faster than lines could be read: they stop until it stays the same."""
    TOKEN_NOT_RENEWED = "token_not_renewed"  # noqa: S105 - no password
    """The authorization server gave no new access token: the old one serves until its end, then nothing is sent."""
    TOKEN_RENEWED = "token_renewed"  # noqa: S105 - as above
    FLOOD_STOPPED = "flood_stopped"
    """Too many messages of a route were parked for reasons that smell of a common cause: it stops instead of parking the rest."""
    FLOOD_OVER = "flood_over"
    BUS_AWAY = "bus_away"
    BUS_BACK = "bus_back"
    OFFSET_GONE = "offset_gone"
    """Where to read on is not there any more: the route stops, nothing is skipped."""
    PARTITION_ADDED = "partition_added"
    LEDGER_AWAY = "ledger_away"
    LEDGER_BACK = "ledger_back"
    MAPPING_RELOADED = "mapping_reloaded"
    MAPPING_NOT_RELOADED = "mapping_not_reloaded"
    """A mapping file was changed and does not compile: the last good mapping stays in use."""
    MESSAGE_PARKED = "message_parked"
    PAYLOAD_GONE = "payload_gone"
    """A parked message that comes back by itself has its bytes no more: neither its source topic nor the dead letters have them."""
    DEAD_LETTER_WITHOUT_BYTES = "dead_letter_without_bytes"
    """A message was parked, and the dead-letter topic does not take its size: its bytes stand in the source topic alone."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    IDENTITIES_FORGOTTEN = "identities_forgotten"
    """An operator said that a partner does not have these patients (`identities forget`); why stands in the ledger's audit."""
    WATCH_STARTED = "watch_started"
    WATCH_STOPPED = "watch_stopped"
    WATCH_NOT_READ = "watch_not_read"
    """The partner does not take a watch's question for a dossier, or does not know the dossier: the first of a cause, then every ten minutes at most."""
    WATCH_WORD_UNKNOWN = "watch_word_unknown"
    """A completion has a word of the partner's that is on no list of ours: said once for each."""
    LISTEN_STARTED = "listen_started"
    LISTEN_STOPPED = "listen_stopped"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_GARBLED = "connection_garbled"
    """Bytes outside of MLLP frames came in on a connection: said once, when it closes."""
    FRAME_REFUSED = "frame_refused"
    """A frame was not stored: no MSH, too large, or cut off. Once for each peer and problem, then every ten minutes at most."""
    LISTEN_FAILED = "listen_failed"
    """A defect of ours: a connection went without an answer, or a message was stored without a key."""
    SERVE_STARTED = "serve_started"
    SERVE_STOPPED = "serve_stopped"
    REQUEST_ANSWERED = "request_answered"
    """A patient's PHR was answered: with what, and its request ids."""
    SERVE_FAILED = "serve_failed"
    """A request was answered with 500: a defect of ours."""
    STORE_AWAY = "store_away"
    """The store of appointments cannot be read: patients are answered with 503."""
    STORE_BACK = "store_back"
    TOKENS_UNCHECKED = "tokens_unchecked"
    """No patient's token can be checked: its issuer does not answer, or does not take us."""
    TOKENS_CHECKED = "tokens_checked"
    KEYS_NOT_FETCHED = "keys_not_fetched"
    """The keys of the issuer of patients' tokens are not to be had: those that were had serve for a day."""
    KEYS_FETCHED = "keys_fetched"
    SANDBOX_STARTED = "sandbox_started"


_lock = threading.Lock()
_streams: list[TextIO] = []


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Write the log to a file instead of stderr, as the demo does."""
    with path.open("a", encoding="utf-8") as stream:
        _streams.append(stream)
        try:
            yield
        finally:
            _streams.remove(stream)


def log(event: LogEvent, *, do: str | None = None, **fields: str | float | bool | None) -> None:
    """Write one line: time, event, fields, and in `do` what an operator should do."""
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "event": event.value,
        **{name: value for name, value in fields.items() if value is not None},
        **({"do": do} if do else {}),
    }
    with _lock:
        stream = _streams[-1] if _streams else sys.stderr
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        stream.flush()
