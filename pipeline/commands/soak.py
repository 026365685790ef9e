"""Soak: a worker and a partner stand-in on this machine under random traffic and random faults; at the end every invariant is checked.

The worker is killed, stopped and told to end, the partner goes away and answers as badly as it can. The same seed gives the same traffic and
the same order of faults. Prints a line a minute, then what is not as it must be; exit 3 where anything is. Needs Linux (/proc).
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
  emr-pipeline soak --minutes 2 --seed 7 --kafka 127.0.0.1:9092"""
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
    from pipeline.trial.ground import Where
    from pipeline.trial.soak import Soak

    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    where = Where(tuple(arguments.kafka.split(",")) if arguments.kafka else ())
    print(f"seed {seed}, {arguments.minutes:g} minutes, {arguments.rate:g} messages a second, bus {where.bus}", flush=True)
    with tempfile.TemporaryDirectory(prefix="emr-soak-") as name:
        folder = _empty(arguments.folder) if arguments.folder else Path(name)
        ended = Soak(folder, where, seed=seed, minutes=arguments.minutes, rate=arguments.rate, say=_say).run()
    _told(ended)
    if ended.violations and not arguments.folder:
        print(f"once more, and kept: emr-pipeline soak --seed {seed} --minutes {arguments.minutes:g} --folder DIR")
    return NOT_ALL if ended.violations else DONE


def _empty(folder: Path) -> Path:
    from pipeline.errors import SettingsError

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()):
        raise SettingsError("is not empty: name another --folder", where=str(folder))
    return folder.resolve()


def _say(line: str) -> None:
    print(line, flush=True)


def _told(ended: "Ended") -> None:
    states = ", ".join(f"{number} {state}" for state, number in sorted(ended.evidence.states.items()))
    print(f"settled: {states}; {ended.crashes} kills")
    print("faults: " + ", ".join(f"{number} {deed}" for deed, number in sorted(ended.deeds.items()) if deed != "quiet"))
    oldest = max(ended.processes, key=lambda seen: len(seen.rows))
    if oldest.rows:
        slope = oldest.slope()
        memory = "too young for a slope" if slope is None else f"{slope:+.2f} MB a minute after the first"
        handles = [used.handles for _, used in oldest.rows]
        rss = max(used.rss_mb for _, used in oldest.rows)
        lived = oldest.rows[-1][0] - oldest.rows[0][0]
        print(f"longest-lived worker: {lived:.0f} s, {rss:.0f} MB at most, {memory}; handles {min(handles)} to {max(handles)}")
    for line in ended.violations[:SHOWN]:
        print(f"VIOLATION  {line}")
    more = len(ended.violations) - SHOWN
    print(f"… and {more} more" if more > 0 else "" if ended.violations else "all invariants hold")
