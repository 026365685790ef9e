"""Say yes, as a person, to a partner's authorization server (SMART on FHIR), so that the worker and `fetch` may go on in your name.

It prints an address to open in a browser and waits for the browser to come back to oauth.redirect_uri. What it is given is kept in
oauth.refresh_file, encrypted with keys.patient_hash and readable by its owner alone. Run it as the user and on the machine of the worker.
"""

import sys
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, NOT_ALL, seconds, settings_argument
from pipeline.errors import NotSent, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.oauth.granted import Granted
    from pipeline.oauth.login import Begun
    from pipeline.oauth.source import Source

EXAMPLE: Final = """  emr-pipeline login njsams
  emr-pipeline login njsams --paste        the browser is on another machine: paste the address at which it ends"""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("partner", metavar="PARTNER", help="name of a partner below `partners`")
    parser.add_argument("--paste", action="store_true", help="listen on nothing: read the address at which the browser ended")
    parser.add_argument("--wait", type=seconds, default=300.0, metavar="SECONDS", help="for the browser (%(default)g)")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings, wiring
    from pipeline.oauth.login import finish
    from pipeline.oauth.open import source_of
    from pipeline.oauth.store import Login

    loaded = settings.load(settings.find(arguments.settings))
    source = source_of(arguments.partner, wiring.protected_of(loaded, arguments.partner), wiring.pseudonyms_of(loaded))
    if source.logins is None:
        raise SettingsError("needs no login: its grant is client_credentials", where=f"partners.{arguments.partner}.oauth")
    try:
        begun, code = _consent(source, arguments)
        granted = finish(source, begun, code)
    except NotSent as error:
        print(f"emr-pipeline login: {error}", file=sys.stderr)
        return NOT_ALL
    finally:
        source.close()
    until = None if granted.lifetime is None else time.time() + granted.lifetime
    offline = granted.refresh_token is not None
    with source.logins.held():
        source.logins.write(Login(granted.refresh_token, *(() if offline else (granted.access_token, until))))
    print(_said(granted, source.logins.path, until))
    return DONE


def _consent(source: "Source", arguments: Namespace) -> "tuple[Begun, str]":
    """What was begun, and the code that came back."""
    from pipeline.oauth.login import Loopback, begin, redirected

    begun = begin(source)
    if arguments.paste:
        _show(begun)
        return begun, redirected(begun, _pasted())
    with Loopback(begun) as loopback:  # listens before the address is shown
        _show(begun)
        print(f"waiting on {begun.redirect_uri} for {arguments.wait:g} s", file=sys.stderr, flush=True)
        return begun, loopback.wait(arguments.wait)


def _show(begun: "Begun") -> None:
    print("open this address in a browser and say yes there:\n", file=sys.stderr)
    print(begun.url, flush=True)


def _pasted() -> str:
    """The address holds the code, so a terminal does not show it."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    from getpass import getpass

    return getpass("the address at which the browser ended (it is not shown): ")


def _said(granted: "Granted", path: "Path", until: float | None) -> str:
    kept = f"kept in {path}, encrypted, readable by its owner alone"
    if granted.refresh_token is not None:
        return f"done: a refresh token came and is {kept}; access tokens are renewed by themselves from now on"
    how_long = "for as long as the partner takes it: it did not say how long"
    if until is not None and granted.lifetime is not None:
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(until))
        how_long = f"{granted.lifetime / 60:.0f} minutes, until {at}"
    return (
        f"done, and no refresh token came (ask the partner for offline_access): the access token lasts {how_long}; "
        f"then log in again. It is {kept}"
    )
