"""What an authorization server gave, or why it gave nothing. Neither shows a token, nor a word of the server's that is not on our list."""

from dataclasses import dataclass, field

from pipeline.errors import NotSent
from schemas.outcomes import Reason


@dataclass(frozen=True, slots=True)
class Granted:
    """A token answer, read."""

    access_token: str = field(repr=False)
    lifetime: float | None
    """Seconds from the moment of the request on; None where the answer does not say, or says what cannot be."""
    refresh_token: str | None = field(default=None, repr=False)
    id_token: str | None = field(default=None, repr=False)
    scope: str | None = None
    """What was granted, where that is not what was asked for."""


class NoToken(NotSent):
    """There is none: NOT_SENT_TOKEN (try again), REFUSED_TOKEN (our client), LOGIN_NEEDED (a person)."""

    def __init__(self, reason: Reason, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(reason, f"{reason.sentence}: {message}" if message else None)
        self.retry_after = retry_after
        """Seconds that the authorization server asks us to wait."""
