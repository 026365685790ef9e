"""Our public keys as a JSON Web Key Set, to publish at an https address or to give to a partner: it knows us by them (private_key_jwt, or a JWT of our own).

Those of all partners with oauth.private_key or jwt, or of one. No private key is printed. To change a key: make the next one with --also and --new,
publish the set with both, put the next one into the settings when the partner has it, then publish without the old one.
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, settings_argument
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.oauth.keys import Signing
    from pipeline.settings import Settings

EXAMPLE: Final = """  emr-pipeline jwks njsams --new > jwks.json       make the key that the settings name, and print the set
  emr-pipeline jwks roqua-responses --new --pem    the same of the key that signs our tokens for RoQua, as PEM
  emr-pipeline jwks
  emr-pipeline jwks --also secrets/next.pem --key-id 2026-07 --new"""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("partner", nargs="?", metavar="PARTNER", help="only of this partner")
    parser.add_argument("--new", action="store_true", help="make the private key first, in a file that is not there yet")
    parser.add_argument("--pem", action="store_true", help="print PEM instead of a key set")
    more = parser.add_argument_group("another key, beside those of the settings")
    more.add_argument("--also", type=Path, metavar="FILE", help="its private key, PEM")
    more.add_argument("--key-id", metavar="KID", help="under which the partner finds it")
    more.add_argument("--algorithm", choices=("ES384", "RS384"), default="ES384", help="%(default)s")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings
    from pipeline.oauth import keys

    loaded = settings.load(settings.find(arguments.settings))
    ours = _of_settings(loaded, arguments.partner)
    also = _also(arguments)
    if arguments.new:
        new = also or ours
        if len(new) != 1:
            raise SettingsError(f"which one? there are {len(new)} keys: name a partner, or a file with --also", where="--new")
        for where, key in new.items():
            keys.make(key, where)
    every = ours | also
    if not every:
        raise SettingsError(
            "no partner has oauth.private_key or jwt; for a key outside of the settings use --also", where="partners"
        )
    if arguments.pem:
        print("".join(keys.public_pem(key, where) for where, key in every.items()), end="")
        return DONE
    print(json.dumps({"keys": [keys.public(key, where) for where, key in every.items()]}, indent=2))
    return DONE


def _of_settings(loaded: "Settings", partner: str | None) -> "dict[str, Signing]":
    """The settings' keys by the name of the setting."""
    from pipeline.wiring import signing_keys_of

    names = [partner] if partner is not None else list(loaded.partners)
    return {where: key for name in names for where, key in signing_keys_of(loaded, name).items()}


def _also(arguments: Namespace) -> "dict[str, Signing]":
    from pipeline.settings_partners import SigningKey

    if (arguments.also is None) != (arguments.key_id is None):
        raise SettingsError("--also and --key-id go together", where="--also")
    if arguments.also is None:
        return {}
    return {"--also": SigningKey(file=arguments.also, key_id=arguments.key_id, algorithm=arguments.algorithm)}
