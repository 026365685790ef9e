"""The command line: a table of commands, and the one place where an error becomes a line and an exit code."""

import argparse
import difflib
import errno
import importlib
import itertools
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any, Final, NoReturn, TextIO

from pipeline import __version__
from pipeline.commands import DONE, INTERRUPTED, REFUSED, UNSAID, WRONG
from pipeline.errors import PipelineError, Refused, SettingsError, place_of

TRACEBACK: Final = "EMR_PIPELINE_TRACEBACK"
DEFECT: Final = 1
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says of a disk on which there is no room."""
MAY_BE_EMPTY: Final = frozenset({"--known-part"})
"""Of `map`: a part that the partner does not know, between two that it does."""
COMMANDS: Final = {
    "demo": "everything on this machine: bus, partner stand-ins, sample traffic; a table of what happened",
    "run": "the worker: read, convert, deliver, prove",
    "listen": "MLLP in: acknowledged only when the bus has it",
    "serve": "appointments for patients: a FHIR endpoint (MedMij eAfspraak), each sees his own",
    "send": "messages onto the source topic: files, batches, stdin, or to an MLLP address",
    "map": "offline: the requests that a message becomes",
    "lint": "mappings and settings: every mistake with file and line",
    "test": "golden pairs of the mappings",
    "find": "deliveries in the ledger",
    "trace": "the way of one message, from its source record to its result",
    "replay": "send again: plan, run, list, show, pause, resume, cancel",
    "resolve": "say what became of a create whose outcome is unknown",
    "discard": "end a parked message that is not to go",
    "dead-letters": "parked messages, and the original bytes of one",
    "results": "what stands on the results topic",
    "identities": "import, export or forget the patients that a partner knows",
    "appointments": "bring appointments that are FHIR already into the store that patients read from",
    "fetch": "the read side of a partner: one resource by its id, or those that a search finds",
    "login": "say yes, as a person, to a partner's authorization server, and keep what it gives",
    "jwks": "our public keys, for a partner that knows us by them",
    "topics": "create the topics of the settings; set where a route reads on",
    "sandbox": "the partner stand-ins",
    "doctor": "settings, certificates, Kafka, PostgreSQL, topics, partners, tokens, clocks",
    "bench": "figures of conversion and of delivery, as JSON",
    "soak": "random traffic and faults on this machine, and the invariants",
}
"""Name and summary; the code is `pipeline.commands.<name>`, with `_` for `-`."""
READS: Final = frozenset({"map", "lint", "test", "find", "trace", "dead-letters", "results", "fetch", "doctor", "bench"})
"""Commands that do nothing but tell: what cannot be printed ends them. What the others did stands, whether it can be printed or not."""


class _Parser(argparse.ArgumentParser):
    """What it does not understand is one line, as every error of ours: the usage, of 15 lines at times, stands in --help."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG, f"{self.prog}: {message} ({self.prog} --help)\n")


def parser_of(command: str | None) -> argparse.ArgumentParser:
    """The parser; only the called command's module is imported."""
    parser = _Parser(
        prog="emr-pipeline",
        description="HL7 v2 events in, exactly the FHIR that a partner accepts out, with proof of what happened.",
        epilog="Exit: 0 done, 2 wrong input or settings, 3 some of it did not go, 4 refused by a guard, 5 done but not printed, 130 ended by Ctrl-C. Start with: emr-pipeline demo",
    )
    parser.add_argument("--version", action="version", version=f"emr-pipeline {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        if name != command:
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f"pipeline.commands.{name.replace('-', '_')}")
        subparser = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            epilog=f"example:\n{module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in words if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=2, cutoff=0.7)
        hint = f"; there is {' and '.join(near)}" if near else ""
        print(f"emr-pipeline: no such command: {command}{hint}; emr-pipeline --help has them all", file=sys.stderr)
        return WRONG
    if empty := _empty(words):
        print(f"emr-pipeline {command}: {empty} is empty, and says nothing: is a variable of the shell not set?", file=sys.stderr)
        return WRONG
    return _run(parser_of(command).parse_args(words))


def _empty(words: Sequence[str]) -> str | None:
    """The argument that is empty, by the option that it stands after: a filter would be none, and select all that there is."""
    for before, word in itertools.pairwise(words):
        option, equals, value = word.partition("=")
        named = option if option.startswith("--") and equals and not value.strip() else before if not word.strip() else None
        if named is not None and named not in MAY_BE_EMPTY:
            return f"the argument of {named}" if named.startswith("-") else "an argument"
    return None


class _Printed:
    """stdout of a command that does something: where it cannot be written the command goes on, and it is remembered. A reader that went away is told."""

    def __init__(self, stream: TextIO | None) -> None:
        """None: it was closed by whoever called us (`>&-`)."""
        self._stream = stream
        self.lost: str | None = None

    def write(self, text: str) -> int:
        """As much as can be."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """The same."""
        self._try("flush")

    def isatty(self) -> bool:
        """A closed one is none."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return getattr(self._stream, name)

    def _try(self, what: str, *given: str) -> None:
        if self._stream is None:
            self.lost = "stdout is closed" if given else self.lost
            return
        try:
            getattr(self._stream, what)(*given)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.lost = error.strerror or type(error).__name__


def _called(arguments: argparse.Namespace) -> int:
    """The command; its exit code, which says too where what was done could not be printed."""
    if arguments.command in READS:
        if sys.stdout is None:
            raise SettingsError("all that it does is to tell, and stdout is closed")
        code = int(arguments.run(arguments))
        sys.stdout.flush()  # here, where a full disk can still be told
        return code
    with redirect_stdout(_Printed(sys.stdout)) as printed:
        code = int(arguments.run(arguments))
        printed.flush()
    if printed.lost is None:
        return code
    done = "it is done, and what it says of it" if code == DONE else "what it says"
    print(f"emr-pipeline {arguments.command}: {done} could not be printed ({printed.lost})", file=sys.stderr)
    if sys.stdout is not None:
        _forget_stdout()
    return UNSAID if code == DONE else code


def _run(arguments: argparse.Namespace) -> int:
    try:
        return _called(arguments)
    except PipelineError as error:
        print(f"emr-pipeline {arguments.command}: {error}", file=sys.stderr)
        return REFUSED if isinstance(error, Refused) else WRONG
    except BrokenPipeError:
        _forget_stdout()  # the reader went away (`| head`): nothing to say, and nobody to say it to
        return 0
    except OSError as error:
        if os.environ.get(TRACEBACK):
            raise
        print(f"emr-pipeline {arguments.command}: {_system(error)}", file=sys.stderr)
        if sys.stdout is not None:
            _forget_stdout()
        return WRONG
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        print(f"emr-pipeline {arguments.command}: {_defect(error)}", file=sys.stderr)
        return DEFECT


def _forget_stdout() -> None:
    """What is left in its buffer goes nowhere, so that the end of the process does not stumble over it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _system(error: OSError) -> str:
    """What the system refused, of which file; where it names none, at which of our lines."""
    what = error.strerror or type(error).__name__
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {what}"
    if error.errno in FULL:
        return f"what it writes cannot be written ({what}): make room, or let it go elsewhere"
    return f"{what} (at {place_of(error)})"


def _defect(error: Exception) -> str:
    what = f"a defect of ours: {type(error).__name__} at {place_of(error)}"
    return f"{what}. Report it; {TRACEBACK}=1 shows where (and may show values of a message)"


if __name__ == "__main__":
    sys.exit(main())
