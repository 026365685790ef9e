"""Figures of delivery: a worker, a partner stand-in and a bus, each a process of its own, on loopback; fsync, mutual TLS, results and checks on.

The embedded bus by default; a real Kafka with --kafka or $KAFKA_BOOTSTRAP_SERVERS, which keeps the topics (emr-trial-…). Needs Linux (/proc).
"""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any, Final

from pipeline.commands import DONE, NOT_ALL, json_argument

if TYPE_CHECKING:
    from pipeline.trial.ground import Where

ADDRESS: Final = "KAFKA_BOOTSTRAP_SERVERS"
SECONDS: Final = 22
"""Of each row: eight rows on the embedded bus take less than five minutes."""
LONGEST: Final = 600


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="only these, and what they are compared with")
    parser.add_argument(
        "--seconds", type=seconds, default=SECONDS, metavar="N", help="of each row, the first 10 are left out (%(default)s)"
    )
    parser.add_argument("--kafka", metavar="HOST:PORT", help=f"on this Kafka (else ${ADDRESS}, else the embedded bus)")
    parser.add_argument("--ledger", metavar="URL", help="postgresql://…, where a schema is made for each row and dropped again")
    parser.add_argument(
        "--core", type=int, metavar="N", help="the worker stays on this core (`run --core`), further ones on those behind it"
    )
    json_argument(parser, "the figures")


def seconds(text: str) -> float:
    """A time that ends, of the command line."""
    value = float(text) if text.replace(".", "", 1).isdecimal() else 0.0
    if not 1 <= value <= LONGEST:
        raise ArgumentTypeError(f"a number of seconds from 1 to {LONGEST}")
    return value


def run(arguments: Namespace) -> int:
    from pipeline.commands.bench.convert import machine
    from pipeline.errors import SettingsError
    from pipeline.trial import deliver

    where = _where(arguments)
    unknown = set(arguments.rows) - {row.name for row in deliver.ROWS}
    if unknown:
        raise SettingsError(
            f"no such row; there are {', '.join(row.name for row in deliver.ROWS)}", where=f"--rows {min(unknown)}"
        )
    rows = deliver.chosen(arguments.rows, where)
    if not (where.kafka and where.ledger) and (shared := deliver.SHARED_ONLY & {row.name for row in rows}):
        raise SettingsError("needs --kafka and --ledger postgresql://…", where=f"--rows {min(shared)}")
    found: list[dict[str, Any]] = []
    for row in rows:
        if not arguments.json:
            print(f"{row.name} …", file=sys.stderr)
        found.append(deliver.run(row, where, arguments.seconds))
    deliver.compared(found)
    if arguments.json:
        import orjson

        print(orjson.dumps({"machine": machine(), "rows": found}, option=orjson.OPT_INDENT_2).decode())
    else:
        show(found, machine())
    return DONE if not any(row["order_violations"] or row["created_twice"] for row in found) else NOT_ALL


def _where(arguments: Namespace) -> "Where":
    from pipeline.trial.ground import Where

    servers = arguments.kafka or os.environ.get(ADDRESS, "")
    return Where(tuple(one for one in servers.split(",") if one), arguments.ledger, arguments.core)


def show(found: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    """The figures for a person."""
    print(
        f"{'row':15} {'bus':9} {'in flight':>9} {'ms':>6} {'steady/s':>9} {'of bound':>9} {'whole/s':>8} {'of bound':>9} ", end=""
    )
    print(f"{'CPU ms':>7} {'MB':>5} {'gap':>6} {'order':>6}")
    for row in found:
        print(
            f"{row['name']:15} {row['bus']:9} {row['in_flight']:9} {row['latency_ms']:6} {_number(row['steady_per_second'])} "
            f"{_share(row['share_of_bound'])} {_number(row['delivered_per_second'], 8)} {_share(row['share_of_bound_with_start_up'])} "
            f"{_number(row['cpu_ms_per_message'], 7, 2)} {row['rss_mb']:5} {row['largest_commit_gap']:6} {row['order_violations']:6}"
        )
        more = {key: value for key, value in row.items() if key in MORE or key.startswith("times_")}
        if more:
            print("    " + ", ".join(f"{key} {value}" for key, value in more.items()))
    print(f"on {machine['cpu']}, {machine['cores']} cores for worker, partner, bus and measuring, Python {machine['python']}")


MORE: Final = ("p50_ms", "p99_ms", "worst_ms", "others_not_settled", "seconds_to_stop", "left_open")
"""What only some rows have."""


def _number(value: float | None, width: int = 9, digits: int = 1) -> str:
    return f"{'-' if value is None else format(value, f',.{digits}f'):>{width}}"


def _share(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.1%'):>9}"
