"""Where a partner's tokens come from: one question to its authorization server, by the grant that the settings name.

A refresh token that was replaced is on the disk before its access token is used: a kill in between costs a login nothing.
"""

import time
from collections.abc import Callable
from typing import Final

from pipeline.errors import SettingsError
from pipeline.oauth import grants
from pipeline.oauth.endpoints import token_endpoint
from pipeline.oauth.granted import Granted, NoToken
from pipeline.oauth.store import Login, LoginFile
from pipeline.oauth.wire import Wire
from pipeline.settings_partners import OAuthSettings
from schemas.outcomes import Reason

WHAT: Final = "the token endpoint"


class Source:
    """Asks once for a token each time it is called. NoToken where there is none."""

    def __init__(
        self,
        oauth: OAuthSettings,
        base_url: str,
        where: str,
        wire: Wire,
        logins: LoginFile | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`where` is the settings' name of the block, as partners.njsams.oauth; `logins` goes with the authorization_code grant."""
        self.oauth, self.base_url, self.where, self.wire = oauth, base_url, where, wire
        self.logins = logins
        self._clock = clock
        self._endpoint: str | None = None
        """As it was discovered; forgotten when it fails, since it may have moved."""

    def __call__(self) -> Granted:
        """A token."""
        try:
            if self.logins is None:
                return self.asked("client_credentials", scope=self.oauth.scope)
            with self.logins.held():
                return self._of_login(self.logins)
        except SettingsError as error:  # a secret, key or file that is not there any more: ours to mend
            raise NoToken(Reason.REFUSED_TOKEN, str(error)) from None

    def close(self) -> None:
        """Let go of connections."""
        self.wire.close()

    def asked(self, grant: str, **fields: str) -> Granted:
        """One token request. SettingsError where secret or key cannot be read."""
        endpoint = self._endpoint or token_endpoint(self.oauth, self.base_url, self.wire)
        self._endpoint = None
        headers, body = grants.request(self.oauth, endpoint, self.where, grant, **fields)
        granted = grants.read(self.wire.ask("POST", endpoint, WHAT, headers=headers, body=body), of_login=self.logins is not None)
        self._endpoint = endpoint
        return granted

    def _of_login(self, logins: LoginFile) -> Granted:
        login = logins.read()
        if login is None:
            raise NoToken(Reason.LOGIN_NEEDED)
        if login.refresh_token is None:
            return self._kept(login)
        granted = self.asked("refresh_token", refresh_token=login.refresh_token)
        if granted.refresh_token is not None and granted.refresh_token != login.refresh_token:
            logins.write(Login(granted.refresh_token))
        return granted

    def _kept(self, login: Login) -> Granted:
        """The access token of a login that gave no refresh token, until it ends."""
        left = None if login.until is None else login.until - self._clock()
        if login.access_token is None or (left is not None and left <= 0):
            raise NoToken(Reason.LOGIN_NEEDED)
        return Granted(login.access_token, left)
