"""Soak: workers and a partner stand-in on this machine under random traffic and random faults; at the end every invariant is checked.

Workers are killed, stopped and told to end; partner, topics, ledger and disk fail as badly as they can; an operator replays, resolves and discards.
The same seed on the same bus gives the same traffic and the same order of faults. Prints a line a minute, then each worker's memory, handles and
threads with their slopes, then what is not as it must be, slopes among it; exit 3 where anything is. With --ledger two workers share the route and
others join and leave. Needs Linux (/proc).
"""

import secrets
import tempfile
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, NOT_ALL

if TYPE_CHECKING:
    from pipeline.trial.soak import Ended

EXAMPLE: Final = """  emr-pipeline soak --minutes 30
  emr-pipeline soak --minutes 2 --seed 7 --kafka 127.0.0.1:9092
  emr-pipeline soak --minutes 30 --kafka 127.0.0.1:9092 --ledger postgresql://emr@127.0.0.1/emr"""
LONGEST: Final = 24 * 60
FASTEST: Final = 200
SHOWN: Final = 50


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--minutes", type=_within(LONGEST), default=5.0, metavar="N", help="how long (%(default)g)")
    parser.add_argument("--seed", type=int, metavar="S", help="of traffic and faults (else a new one, which is printed)")
    parser.add_argument("--rate", type=_within(FASTEST), default=20.0, metavar="N", help="messages a second (%(default)g)")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="an empty folder to work in and to keep (else one that goes away)"
    )
    parser.add_argument(
        "--kafka", metavar="HOST:PORT", help="on this Kafka, which keeps the topics emr-trial-… (else the embedded bus)"
    )
    parser.add_argument(
        "--ledger", metavar="URL", help="with --kafka: postgresql://…, where a schema is made and dropped again (else SQLite)"
    )


def _within(most: float) -> Callable[[str], float]:
    """A converter of the command line."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= most:
            raise ArgumentTypeError(f"a number above 0, and {most:g} at most")
        return value

    return number


def run(arguments: Namespace) -> int:
    from pipeline.errors import SettingsError
    from pipeline.trial.ground import Where, own_ledger
    from pipeline.trial.soak import Soak

    if arguments.ledger and not arguments.kafka:
        raise SettingsError("a ledger that several share needs --kafka", where="--ledger")
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    where = Where(tuple(arguments.kafka.split(",")) if arguments.kafka else (), arguments.ledger)
    print(
        f"seed {seed}, {arguments.minutes:g} minutes, {arguments.rate:g} messages a second, bus {where.bus}, "
        f"ledger {'postgresql' if where.ledger else 'sqlite'}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="emr-soak-") as name, own_ledger(where) as here:
        folder = _empty(arguments.folder) if arguments.folder else Path(name)
        ended = Soak(folder, here, seed=seed, minutes=arguments.minutes, rate=arguments.rate, say=_say).run()
    _told(ended)
    print(f"once more: {_again(arguments, seed)}")
    return NOT_ALL if ended.violations else DONE


def _again(arguments: Namespace, seed: int) -> str:
    """The command that does the same again; with a folder that keeps what it leaves behind."""
    servers = f" --kafka {arguments.kafka}" if arguments.kafka else ""
    ledger = " --ledger postgresql://…" if arguments.ledger else ""
    return (
        f"emr-pipeline soak --seed {seed} --minutes {arguments.minutes:g} --rate {arguments.rate:g}{servers}{ledger} --folder DIR"
    )


def _empty(folder: Path) -> Path:
    from pipeline.errors import SettingsError

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()):
        raise SettingsError("is not empty: name another --folder", where=str(folder))
    return folder.resolve()


def _say(line: str) -> None:
    print(line, flush=True)


def _told(ended: "Ended") -> None:
    from pipeline.trial.life import told

    states = ", ".join(f"{number} {state}" for state, number in sorted(ended.evidence.states.items()))
    print(f"settled: {states}; {ended.crashes} kills")
    print("deeds: " + ", ".join(f"{number} {deed}" for deed, number in sorted(ended.deeds.items())))
    print("log lines: " + ", ".join(f"{number} {event}" for event, number in ended.said.most_common()))
    old = [life for life in ended.lives if life.judged]
    for life in old or sorted(ended.lives, key=lambda one: one.seconds)[-1:]:
        print(told(life, ended.bounded))
    print(f"{len(old)} of {len(ended.lives)} workers were old enough for their slopes to be judged")
    for line in ended.violations[:SHOWN]:
        print(f"VIOLATION  {line}")
    more = len(ended.violations) - SHOWN
    print(f"… and {more} more" if more > 0 else "" if ended.violations else "all invariants hold")
