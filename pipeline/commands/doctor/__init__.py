"""Is everything in place? One line each: OK, WARN or FAIL, what was looked at, what was found, what to do. It makes and changes nothing.

Looked at: settings, secrets, certificates, mappings, disk, bus and topics, ledger and its key, partners over TLS, clocks,
access tokens (one is asked for), what a partner says that it offers, and who issues patients' tokens. No secret is printed.
A login's refresh token for which the authorization server gives a new one is replaced: the old one would not be good any more.
Exit: 0 where nothing fails, 2 where settings, secrets, certificates or mappings do, 3 where only something outside does,
4 where nothing is wrong but that a guard refuses to run (another key than the ledger's, a ledger of a newer version).
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Final

from pipeline.commands import DONE, NOT_ALL, REFUSED, WRONG, json_argument, settings_argument
from pipeline.commands.doctor.report import Level, Line
from pipeline.errors import PipelineError, SettingsError

EXAMPLE: Final = """  emr-pipeline doctor
  emr-pipeline doctor --settings hospital.yaml --json | jq 'select(.level != "OK")'"""


def configure(parser: ArgumentParser) -> None:
    json_argument(parser, "each line")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    lines: list[Line] = []
    for line in examine(arguments):
        print(line.json() if arguments.json else line, flush=True)
        lines.append(line)
    failed = [line for line in lines if line.level is Level.FAIL]
    if not arguments.json:
        warned = sum(line.level is Level.WARN for line in lines)
        print(f"\n{len(lines)} looked at, {len(failed)} failed, {warned} with a warning")
    return exit_code(failed)


def exit_code(failed: list[Line]) -> int:
    """What `run` would end with: what is ours to mend goes before a guard, and a guard before what is outside."""
    if any(line.ours and not line.refused for line in failed):
        return WRONG
    if any(line.refused for line in failed):
        return REFUSED
    return NOT_ALL if failed else DONE


def examine(arguments: Namespace) -> Iterator[Line]:
    """Every check, in the order in which a person would mend things."""
    from pipeline import settings
    from pipeline.commands.doctor import inside, outside, protected, served

    path = settings.find(arguments.settings)
    try:
        loaded = settings.load(path)
    except SettingsError as error:
        yield Line(
            Level.FAIL, "settings", str(error), "mend the settings; deploy/settings.example.yaml shows them all", ours=True
        )
        return
    fresh = path == settings.DEFAULTS and not inside.folder_of(loaded).exists()
    yield inside.settings_line(path, loaded, fresh=fresh)
    checks = (
        *(() if fresh else (inside.secrets, inside.certificates)),
        inside.mappings,
        inside.disk,
        *(
            ()
            if fresh
            else (outside.bus, outside.ledger, outside.partners, protected.tokens, protected.capabilities, served.served)
        ),
    )
    for check in checks:
        try:
            yield from check(loaded)
        except PipelineError as error:
            yield Line(Level.FAIL, check.__name__, str(error), ours=isinstance(error, SettingsError))
        except Exception as error:  # noqa: BLE001 - the other checks are wanted all the more; its message might hold a value
            yield Line(Level.FAIL, check.__name__, f"a defect of ours: {type(error).__name__}", "report it")
