"""One file per command, imported only when it is called: heavy imports stand inside `run`, so that `--help` stays quick.

Each has EXAMPLE (shown by --help), `configure(parser)` (its arguments) and `run(arguments) -> int` (the exit code: 0 done, 2 wrong
input or settings, 3 some of it did not go, 4 refused by a guard, 5 done but not printed, 130 ended by Ctrl-C). Errors of our tree are printed by cli.py as one line.
"""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Final

DONE: Final = 0
WRONG: Final = 2
NOT_ALL: Final = 3
REFUSED: Final = 4
UNSAID: Final = 5
"""Done, and what it says of it could not be printed."""
INTERRUPTED: Final = 130
"""By Ctrl-C, as a shell has it."""


def settings_argument(parser: ArgumentParser) -> None:
    """The argument that most commands share."""
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="settings (else $EMR_PIPELINE_SETTINGS, ./emr-pipeline.yaml, the built-in)"
    )


def json_argument(parser: ArgumentParser, what: str) -> None:
    """`--json`, where a script would want it."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def operator() -> str:
    """Who runs this command, for the audit: the user of the system, behind sudo too."""
    import os
    import pwd

    behind = os.environ.get("SUDO_USER")
    if behind and os.getuid() == 0:
        return behind
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"  # a container's user that no file names


def seconds(text: str) -> float:
    """A number of seconds of the command line."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ArgumentTypeError("a number of seconds above 0")
    return value
