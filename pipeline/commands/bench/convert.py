"""Figures of conversion on one core: bytes in, checked and serialised bundle out, with the share of each hop.

The message is varied (other names, ids and times each time), since one message over and over flatters every cache; that figure stands
beside it. Nothing is sent, read or kept in a ledger. python-hl7 and hl7apy parse the same variants in the same rounds, for scale.
Machines are shared and noisy: all of it is measured in rounds, side by side, and each figure is the median of the rounds.
"""

import random
import re
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pipeline
from pipeline.commands import DONE, NOT_ALL, json_argument, seconds, settings_argument

if TYPE_CHECKING:
    from pipeline.stages.plan import Plan

SAMPLE: Final = Path(pipeline.__file__).with_name("sample.hl7")
"""Ten segments, as a Dutch HIS sends them at admission: names of one's own and of a partner, two telecoms, a visit, a diagnosis."""
VARIANTS: Final = 400
ROUNDS: Final = 9
HOPS: Final = ("decode", "route", "identify", "mapping", "pack")


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("--seconds", type=seconds, default=9, metavar="N", help="how long to measure in all (default 9)")
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="a message of your own (else the sample that comes with the program); it is measured as it is and varied",
    )
    json_argument(parser, "the figures")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline import settings, wiring
    from pipeline.commands.map import read

    loaded = settings.load(settings.find(arguments.settings))
    plan = wiring.plan_offline(loaded, wiring.the_route(loaded, None))
    value = read(str(arguments.file or SAMPLE))
    figures = convert(value, plan, arguments.seconds)
    if figures is None:
        print("emr-pipeline bench: the message does not go on this route: emr-pipeline map says why", file=sys.stderr)
        return NOT_ALL
    if arguments.json:
        import orjson

        print(orjson.dumps(figures, option=orjson.OPT_INDENT_2).decode())
        return DONE
    show(figures)
    return DONE


def show(figures: dict[str, Any]) -> None:
    """The figures for a person."""
    rate = figures["messages_per_second"]
    print(
        f"{rate:,.0f} messages/s on one core, p50 {figures['p50_ms']:.3f} ms, p99 {figures['p99_ms']:.3f} ms ({figures['measured']})"
    )
    repeated, best = figures["repeated"], figures["best_round"]
    print(f"best round {best['messages_per_second']:,.0f}/s, p99 {best['p99_ms']:.3f} ms")
    print(f"the same message over and over: {repeated['messages_per_second']:,.0f}/s, p50 {repeated['p50_ms']:.3f} ms")
    for hop, share in figures["hops"].items():
        print(f"  {hop:10} {share['us']:7.1f} µs  {share['share']:6.1%}")
    for name in ("python_hl7", "hl7apy"):
        if figures[f"times_{name}"]:
            print(f"{name} only parses it {figures[f'{name}_parse_per_second']:,.0f}/s: {figures[f'times_{name}']:.2f} times")
    print(f"on {figures['machine']['cpu']}, Python {figures['machine']['python']}")


@dataclass
class Rounds:
    """What each round measured: nanoseconds of each conversion, and of each hop in it; parses per second of the others."""

    varied: list[list[int]] = field(default_factory=list)
    repeated: list[list[int]] = field(default_factory=list)
    hops: dict[str, list[int]] = field(default_factory=lambda: {hop: [] for hop in HOPS})
    python_hl7: list[float] = field(default_factory=list)
    hl7apy: list[float] = field(default_factory=list)


def convert(value: bytes, plan: "Plan", seconds: float) -> dict[str, Any] | None:
    """The figures, or None where the message is not converted at all."""
    from pipeline import offline
    from pipeline.model import Outcome

    if isinstance(offline.convert(value, plan), Outcome):
        return None
    messages = [one for one in variants(value, VARIANTS) if not isinstance(offline.convert(one, plan), Outcome)] or [value]
    rounds = Rounds()
    each = seconds / ROUNDS
    for _ in range(ROUNDS):
        rounds.varied.append(_conversions(messages, plan, each * 0.4))
        rounds.repeated.append(_conversions([value] * 50, plan, each * 0.1))
        _hops(messages, plan, each * 0.2, rounds.hops)
        rounds.python_hl7.append(_parses(python_hl7(), messages, each * 0.15))
        rounds.hl7apy.append(_parses(hl7apy(), messages, each * 0.15))
    return {
        **_figures(rounds.varied),
        "hops": _shares(rounds.hops),
        "python_hl7_parse_per_second": round(statistics.median(rounds.python_hl7), 1) or None,
        "hl7apy_parse_per_second": round(statistics.median(rounds.hl7apy), 1),
        "times_python_hl7": _times(rounds.varied, rounds.python_hl7),
        "times_hl7apy": _times(rounds.varied, rounds.hl7apy),
        "measured": f"{len(messages)} variants of the message in turn, median of {ROUNDS} rounds",
        "best_round": _figures([max(rounds.varied, key=_rate)]),
        "repeated": _figures(rounds.repeated),
        "messages": sum(len(taken) for taken in rounds.varied),
        "bytes_in": len(value),
        "machine": machine(),
    }


def _conversions(messages: Sequence[bytes], plan: "Plan", seconds: float) -> list[int]:
    """Nanoseconds of each conversion."""
    from pipeline import offline

    taken: list[int] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for message in messages:
            before = time.perf_counter_ns()
            offline.convert(message, plan)
            taken.append(time.perf_counter_ns() - before)
    return taken


def _hops(messages: Sequence[bytes], plan: "Plan", seconds: float, hops: dict[str, list[int]]) -> None:
    """Nanoseconds of each hop, one after the other as a message takes them: alone, each is a third quicker than in the chain."""
    from pipeline.model import Knowledge, Received
    from pipeline.offline import NOWHERE
    from pipeline.stages.decode import decode
    from pipeline.stages.identify import identify
    from pipeline.stages.mapping import mapping
    from pipeline.stages.pack import pack
    from pipeline.stages.route import route

    clock = time.perf_counter_ns
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for message in messages:
            times = [clock()]
            decoded = decode(Received(NOWHERE, message, key=b"offline"), plan)
            times.append(clock())
            routed = route(decoded, plan)
            times.append(clock())
            identified = identify(routed, Knowledge())
            times.append(clock())
            mapped = mapping(identified, plan)
            times.append(clock())
            pack(mapped, plan)
            times.append(clock())
            for hop, begun, ended in zip(HOPS, times, times[1:], strict=False):
                hops[hop].append(ended - begun)


def _rate(taken: Sequence[int]) -> float:
    return len(taken) * 1e9 / sum(taken)


def _figures(rounds: Sequence[list[int]]) -> dict[str, float]:
    """Median of the rounds."""
    ordered = [sorted(taken) for taken in rounds]
    return {
        "messages_per_second": round(statistics.median(map(_rate, rounds)), 1),
        "p50_ms": statistics.median(taken[len(taken) // 2] for taken in ordered) / 1e6,
        "p99_ms": statistics.median(taken[len(taken) * 99 // 100] for taken in ordered) / 1e6,
    }


def _times(rounds: Sequence[list[int]], parses: Sequence[float]) -> float | None:
    """How many conversions fit into the time of one parse: the median of each round's own ratio, since a machine's speed drifts."""
    if not all(parses):
        return None
    return round(statistics.median(_rate(taken) / parsed for taken, parsed in zip(rounds, parses, strict=True)), 2)


def _shares(hops: dict[str, list[int]]) -> dict[str, dict[str, float]]:
    medians = {hop: statistics.median(taken) / 1000 for hop, taken in hops.items()}
    total = sum(medians.values())
    return {hop: {"us": round(us, 2), "share": round(us / total, 4)} for hop, us in medians.items()}


def _parses(parse: Callable[[str], object] | None, messages: Sequence[bytes], seconds: float) -> float:
    """Parses per second; 0 where there is no parser."""
    if parse is None:
        return 0.0
    texts = [message.decode("utf-8", "replace").replace("\n", "\r") for message in messages]
    count, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        parse(texts[count % len(texts)])
        count += 1
    return count / passed


def python_hl7() -> Callable[[str], object] | None:
    """python-hl7's parsing; None where it is not installed (it comes with the development extra)."""
    try:
        import hl7
    except ImportError:
        return None
    return hl7.parse  # type: ignore[no-any-return]  # it has no types


def hl7apy() -> Callable[[str], object]:
    """hl7apy's parsing."""
    from hl7apy.parser import parse_message

    return lambda text: parse_message(text, find_groups=False)


VARIED: Final = {"MSH": (10,), "PID": (3, 5, 13, 14)}
"""Fields whose first components get other letters and digits: control id, patient ids, names, numbers."""
TIMES: Final = {"MSH": (7,), "EVN": (2,), "PID": (7,), "PV1": (44,)}
"""Times: another day of the month, and another minute and second where there are any, as in a day's traffic."""


def variants(value: bytes, count: int, seed: int = 1) -> list[bytes]:
    """The message `count` times with other names, ids and times, the same ones for each seed. All else stays."""
    from pipeline.hl7.er7 import parse

    message = parse(value, charset="utf-8")
    chance = random.Random(seed)  # noqa: S311 - the same again for each seed, and no secret
    marks = message.delimiters
    made = []
    for _ in range(count):
        lines = []
        for line in message.lines():
            fields = line.split(marks.field)
            header = fields[0] == "MSH"
            for numbers, change in ((VARIED.get(fields[0], ()), _other), (TIMES.get(fields[0], ()), _another_time)):
                for number in numbers:
                    at = number - 1 if header else number
                    if at < len(fields):
                        fields[at] = change(fields[at], marks.component or "\r", marks.repetition or "\r", chance)
            lines.append(marks.field.join(fields))
        made.append("\r".join((*lines, "")).encode(message.codec))
    return made


def _other(field: str, component: str, repetition: str, chance: random.Random) -> str:
    """Other letters and digits in the first component of each repetition."""

    def changed(found: re.Match[str]) -> str:
        char = found[0]
        return chance.choice(
            "0123456789" if char.isdigit() else "abcdefghijklmnopqrstuvwxyz" if char.islower() else "ABCDEFGHJKLMNPR"
        )

    parts = (each.partition(component) for each in field.split(repetition))
    return repetition.join(f"{re.sub('[0-9a-z]', changed, first)}{mark}{rest}" for first, mark, rest in parts)


def _another_time(field: str, _component: str, _repetition: str, chance: random.Random) -> str:
    if not re.match(r"\d{8}", field):
        return field
    day = f"{field[:6]}{chance.randrange(1, 29):02}"
    if not re.match(r"\d{14}", field):
        return day + field[8:]
    return f"{day}{field[8:10]}{chance.randrange(60):02}{chance.randrange(60):02}{field[14:]}"


def machine() -> dict[str, Any]:
    """What it was measured on."""
    import os
    import platform

    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
