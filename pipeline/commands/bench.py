"""Figures of conversion on one core: bytes in, checked and serialised bundle out, with the share of each hop.

python-hl7 and hl7apy parse the same message in the same run, for scale. Timings of a shared machine are noisy: compare within one run.
"""

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pipeline
from pipeline.commands import DONE, NOT_ALL, json_argument, settings_argument

if TYPE_CHECKING:
    from pipeline.stages.plan import Plan

SAMPLE: Final = Path(pipeline.__file__).with_name("sample.hl7")
"""Ten segments, as a Dutch HIS sends them at admission: names of one's own and of a partner, two telecoms, a visit, a diagnosis."""
EXAMPLE: Final = """  emr-pipeline bench convert
  emr-pipeline bench convert --json --seconds 20"""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("what", choices=["convert"], help="what to measure")
    parser.add_argument("--seconds", type=float, default=5, metavar="N", help="how long to convert (default 5)")
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="a message of your own (else the sample that comes with the program)"
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
    print(
        f"{figures['messages_per_second']:,.0f} messages/s on one core, p50 {figures['p50_ms']:.3f} ms, p99 {figures['p99_ms']:.3f} ms"
    )
    for hop, share in figures["hops"].items():
        print(f"  {hop:10} {share['us']:7.1f} µs  {share['share']:6.1%}")
    for name in ("python_hl7_parse_per_second", "hl7apy_parse_per_second"):
        if figures[name]:
            print(
                f"{name.removesuffix('_parse_per_second')} only parses it {figures[name]:,.0f}/s: {figures['messages_per_second'] / figures[name]:.1f} times"
            )
    print(f"on {figures['machine']['cpu']}, Python {figures['machine']['python']}")
    return DONE


def convert(value: bytes, plan: "Plan", seconds: float) -> dict[str, Any] | None:
    """The figures, or None where the message is not converted at all."""
    from pipeline import offline
    from pipeline.model import Outcome

    if isinstance(offline.convert(value, plan), Outcome):
        return None
    for _ in range(200):
        offline.convert(value, plan)
    taken: list[int] = []
    until = time.perf_counter() + seconds
    before = time.perf_counter_ns()
    while time.perf_counter() < until:
        offline.convert(value, plan)
        now = time.perf_counter_ns()
        taken.append(now - before)
        before = now
    taken.sort()
    return {
        "messages_per_second": round(len(taken) * 1e9 / sum(taken), 1),
        "p50_ms": taken[len(taken) // 2] / 1e6,
        "p99_ms": taken[len(taken) * 99 // 100] / 1e6,
        "messages": len(taken),
        "bytes_in": len(value),
        "hops": hops(value, plan),
        "python_hl7_parse_per_second": python_hl7(value),
        "hl7apy_parse_per_second": hl7apy(value),
        "machine": machine(),
    }


def hops(value: bytes, plan: "Plan") -> dict[str, dict[str, float]]:
    """Median µs of each hop, each fed with the hop before it."""
    from pipeline.model import Knowledge, Received
    from pipeline.offline import NOWHERE
    from pipeline.stages.decode import decode
    from pipeline.stages.identify import identify
    from pipeline.stages.mapping import mapping
    from pipeline.stages.pack import pack
    from pipeline.stages.route import route

    received = Received(NOWHERE, value, key=b"offline")
    decoded = decode(received, plan)
    routed = route(decoded, plan)
    identified = identify(routed, Knowledge())
    mapped = mapping(identified, plan)
    steps: dict[str, Callable[[], object]] = {
        "decode": lambda: decode(received, plan),
        "route": lambda: route(decoded, plan),
        "identify": lambda: identify(routed, Knowledge()),
        "mapping": lambda: mapping(identified, plan),
        "pack": lambda: pack(mapped, plan),
    }
    medians = {name: _median_us(step) for name, step in steps.items()}
    total = sum(medians.values())
    return {name: {"us": round(us, 2), "share": round(us / total, 4)} for name, us in medians.items()}


def _median_us(step: Callable[[], object], runs: int = 3000) -> float:
    taken = []
    for _ in range(runs):
        before = time.perf_counter_ns()
        step()
        taken.append(time.perf_counter_ns() - before)
    return sorted(taken)[runs // 2] / 1000


def _per_second(step: Callable[[], object], seconds: float) -> float:
    step()
    count, begun = 0, time.perf_counter()
    while (passed := time.perf_counter() - begun) < seconds:
        step()
        count += 1
    return round(count / passed, 1)


def python_hl7(value: bytes, seconds: float = 1.5) -> float | None:
    """Parses per second of python-hl7; None where it is not installed (it comes with the development extra)."""
    try:
        import hl7
    except ImportError:
        return None
    text = value.decode().replace("\n", "\r")
    return _per_second(lambda: hl7.parse(text), seconds)


def hl7apy(value: bytes, seconds: float = 3.0) -> float:
    """Parses per second of hl7apy."""
    from hl7apy.parser import parse_message

    text = value.decode().replace("\n", "\r")
    return _per_second(lambda: parse_message(text, find_groups=False), seconds)


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
