"""Offline: the request(s) that a message becomes. No bus, no ledger, nothing is sent.

Without a ledger it shows the create; --known ID shows the update of a patient whom the partner knows under ID, --known-part ID that of the
visit or coverage that the message brings (once for each, in their order; empty for one that is not known).
With --jsonl it takes many files, folders and batches and prints one line for each message.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from pipeline.commands import DONE, NOT_ALL, WRONG, json_argument, settings_argument
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.model import Outcome
    from pipeline.stages.plan import Plan

EXAMPLE: Final = """  emr-pipeline map admit.hl7 --route roche-patients
  emr-pipeline map admit.hl7 --route roche-patients --json | jq '.[0].body'
  emr-pipeline map --jsonl --route roche-patients yesterday/ | jq -r .reason | sort | uniq -c"""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a file with one message, or `-` for stdin; with --jsonl files, folders, batches"
    )
    parser.add_argument("--route", metavar="R", help="a route of the settings; may be left out where there is one only")
    parser.add_argument("--known", metavar="ID", help="show the update of a patient whom the partner knows under ID")
    parser.add_argument(
        "--known-part", action="append", default=[], metavar="ID", help="the same of its visit, then of each coverage"
    )
    parser.add_argument("--message", type=int, metavar="N", help="of a file with several messages the N-th, from 1")
    parser.add_argument("--explain", action="store_true", help="say for every FHIR element which HL7 place it comes from")
    json_argument(parser, "the requests, or one error object on stderr,")
    parser.add_argument("--jsonl", action="store_true", help="one line of JSON for each message")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings, wiring

    path = settings.find(arguments.settings)
    loaded = settings.load(path) if arguments.route is None else settings.load_offline(path)
    plan = wiring.plan_offline(loaded, wiring.the_route(loaded, arguments.route))
    return _lines(arguments, plan) if arguments.jsonl else _one(arguments, plan)


def _one(arguments: Namespace, plan: "Plan") -> int:
    from pipeline import offline, wiring
    from pipeline.model import Outcome

    if len(arguments.files) > 1:
        raise SettingsError("one file at a time; many with --jsonl", where=" ".join(arguments.files))
    converted = offline.convert(
        _message(arguments.files[0], arguments.message),
        plan,
        known=arguments.known,
        parts=_parts(arguments),
        received_ms=wiring.clock(),
    )
    if isinstance(converted, Outcome):
        return _ended(converted, as_json=arguments.json)
    places = offline.explain(converted, plan) if arguments.explain else {}
    requests = [offline.request_json(request, plan) for request in converted.requests]
    if arguments.json:
        _print([{**row, "explain": places} for row in requests] if arguments.explain else requests)
        return DONE
    for row in requests:
        print(f"{row['method']} {row['path']}")
        print("".join(f"{name}: {value}\n" for name, value in row["headers"].items()))
        _print(row["body"])
    print("".join(f"\n{fhir:60} {hl7}" for fhir, hl7 in places.items()), end="\n" if places else "")
    for finding in offline.findings_json(converted):
        where = " ".join(finding[name] for name in ("fhir", "hl7", "about") if name in finding)
        print(f"{finding['severity']}: {finding['code']} {where}".rstrip(), file=sys.stderr)
    return DONE


def _message(file: str, number: int | None) -> bytes:
    """The file's only message, or the one that was asked for."""
    from pipeline.hl7.batch import split

    messages = list(split(read(file)))
    if len(messages) > 1 and number is None:
        raise SettingsError(f"has {len(messages)} messages: choose one with --message N, or take all with --jsonl", where=file)
    if number is not None and not 1 <= number <= len(messages):
        raise SettingsError(f"has {len(messages)} messages, there is no number {number}", where=file)
    return messages[(number or 1) - 1] if messages else b""


def _ended(outcome: "Outcome", *, as_json: bool) -> int:
    from schemas.outcomes import PROFILE, State

    if outcome.state is State.FILTERED:
        if as_json:
            print("[]")
        print(f"filtered: {outcome.reason} at {outcome.where}: {outcome.message}", file=sys.stderr)
        return DONE
    if as_json:
        error = {"reason": outcome.reason, "where": outcome.where, "message": outcome.message}
        sys.stderr.write(orjson.dumps(error).decode() + "\n")
    else:
        print(
            f"parked: {outcome.reason}" + (f" at {outcome.where}" if outcome.where else "") + f": {outcome.message}",
            file=sys.stderr,
        )
    return NOT_ALL if outcome.reason in PROFILE else WRONG


def _lines(arguments: Namespace, plan: "Plan") -> int:
    from pipeline import offline, wiring
    from pipeline.hl7.batch import split

    for name in files(arguments.files):
        # a file without a message has a line too: what was looked at is to be seen
        for index, message in enumerate(list(split(read(name))) or [b""], 1):
            converted = offline.convert(message, plan, known=arguments.known, parts=_parts(arguments), received_ms=wiring.clock())
            row = offline.line_json(name, index, converted, plan)
            sys.stdout.buffer.write(orjson.dumps(row) + b"\n")
    sys.stdout.flush()
    return DONE


def _parts(arguments: Namespace) -> list[str | None]:
    return [given or None for given in arguments.known_part]


def files(names: list[str]) -> list[str]:
    """Files as they are named, of folders all that is below, in order; SettingsError where a folder holds none."""
    found: list[str] = []
    for name in names:
        path = Path(name)
        if name == "-" or not path.is_dir():
            found.append(name)
            continue
        below = [str(file) for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")]
        if not below:
            raise SettingsError("the folder holds no file (hidden ones are left out)", where=name)
        found += below
    return found


def read(name: str) -> bytes:
    """A file's bytes, or stdin's for `-`; SettingsError where it cannot be read."""
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot be read ({error.strerror})", where=name) from None


def _print(value: Any) -> None:  # noqa: ANN401 - JSON's own types
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
