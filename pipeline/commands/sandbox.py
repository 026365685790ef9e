"""Stand-ins of the partners on loopback: TLS as theirs, the contract, response times, faults on order. Not for patients' data."""

import argparse
import resource
import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE

if TYPE_CHECKING:
    from pipeline.sandbox.faults import Rule
    from pipeline.sandbox.running import Sandbox

PARTNERS: Final = ("roche", "njsams", "roqua", "medmij")

EXAMPLE: Final = """\
  emr-pipeline sandbox --latency none
  emr-pipeline sandbox --knob duplicate=with_id --knob condition=required
  emr-pipeline sandbox --fault 503:probability=0.3,retry_after=7 --fault commit_then_drop:next=1,operation=create
  emr-pipeline sandbox --partner njsams --knob visible_after_hours=0
  emr-pipeline sandbox --partner roqua --knob update_stored=forbidden --knob rate_limit=100
  emr-pipeline sandbox --partner medmij --knob page_size=1
  emr-pipeline sandbox --partner roche --partner njsams --knob njsams.duplicate=conflict
  emr-pipeline sandbox --list          all knobs and faults"""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--partner",
        action="append",
        choices=PARTNERS,
        help="whose stand-in; may be repeated, each gets the next port and, after the first, a folder of its own (roche)",
    )
    parser.add_argument(
        "--port", type=_port, default=8443, help="where it listens on 127.0.0.1 and ::1; 0 takes a free one (%(default)s)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="certificates, secret, patients and log of effects; made once, used again (emr-pipeline-data/sandbox; further partners: "
        "its subfolder of their name)",
    )
    parser.add_argument(
        "--latency", metavar="published|none|mixed|SECONDS", help="response times (published for Roche, none for the others)"
    )
    parser.add_argument(
        "--knob", action="append", default=[], metavar="[PARTNER.]NAME=VALUE", help="how it behaves; may be repeated"
    )
    parser.add_argument(
        "--fault", action="append", default=[], metavar="[PARTNER.]NAME[:DETAIL=VALUE,…]", help="what goes wrong; may be repeated"
    )
    parser.add_argument(
        "--control",
        type=_port,
        metavar="PORT",
        help="open the control port (PUT /knobs, POST /faults, GET /log); 0 takes a free one",
    )
    parser.add_argument("--list", action="store_true", help="print all knobs and faults, and end")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:  # noqa: PLR2004 - the highest port
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def run(arguments: Namespace) -> int:
    from pipeline.telemetry import LogEvent, log

    if arguments.list:
        _list()
        return DONE
    sandboxes = _sandboxes(arguments)
    signals = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before the threads start: all wait for sigwait below
    try:
        _many_descriptors()
        with ExitStack() as stack:
            for sandbox, rules in sandboxes:
                stack.enter_context(sandbox)
                for rule in rules:
                    sandbox.order(rule)
                log(LogEvent.SANDBOX_STARTED, port=sandbox.port, patients=sandbox.patients())
            for sandbox, _ in sandboxes:
                print("\n".join(_welcome(sandbox)))
            sys.stdout.flush()
            signal.sigwait(signals)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # a child process would inherit it
    return DONE


def _sandboxes(arguments: Namespace) -> "list[tuple[Sandbox, list[Rule]]]":
    """Those that were asked for, not yet started."""
    from pipeline.errors import SettingsError
    from pipeline.sandbox import faults
    from pipeline.sandbox.medmij.stand_in import MedmijSandbox
    from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
    from pipeline.sandbox.roche.stand_in import RocheSandbox
    from pipeline.sandbox.roqua.stand_in import RoquaSandbox

    names = list(dict.fromkeys(arguments.partner or PARTNERS[:1]))
    kinds: dict[str, Callable[..., Sandbox]] = {
        "roche": RocheSandbox,
        "njsams": NjsamsSandbox,
        "roqua": RoquaSandbox,
        "medmij": MedmijSandbox,
    }
    latency = {"roche": "published"}
    knobs = {name: {"latency": arguments.latency or latency.get(name, "none")} for name in names}
    rules: dict[str, list[Rule]] = {name: [] for name in names}
    for one in arguments.knob:
        name, equals, value = one.partition("=")
        if not equals:
            raise SettingsError("write NAME=VALUE", where=f"--knob {name}")
        partner, name = _of(name, names)
        knobs[partner][name] = value
    for one in arguments.fault:
        partner, fault = _of(one, names)
        rules[partner].append(faults.parse(fault))
    made: list[tuple[Sandbox, list[Rule]]] = []
    for index, name in enumerate(names):
        folder = _folder(arguments.folder, name, first=index == 0)
        port, control = (each + index if each else each for each in (arguments.port, arguments.control))
        made.append((kinds[name](folder, knobs[name], port=port, control=control), rules[name]))
    return made


def _folder(given: Path | None, name: str, *, first: bool) -> Path:
    """The folder that was named is the first one's; where none was, only Roche has the default itself: the folders may not meet."""
    default = Path("emr-pipeline-data/sandbox")
    return given or default if first and (given or name == PARTNERS[0]) else (given or default) / name


def _of(text: str, names: list[str]) -> tuple[str, str]:
    """Whose it is: the first one's where no partner is named."""
    partner, dot, rest = text.partition(".")
    return (partner, rest) if dot and partner in names else (names[0], text)


def _many_descriptors() -> None:
    """As many connections as the system lets us have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _welcome(sandbox: "Sandbox") -> list[str]:
    return [
        f"{sandbox.NAME} sandbox: {sandbox.base_url}",
        f"log of effects: {sandbox.log.path}",
        *([f"control: {sandbox.control_url}"] if sandbox.control_url else []),
        "try it:",
        *sandbox.welcome(),
    ]


def _list() -> None:
    from typing import get_args

    from pydantic import BaseModel

    from pipeline.sandbox.faults import NAMES, Rule
    from pipeline.sandbox.knobs import Knobs
    from pipeline.sandbox.medmij.knobs import MedmijKnobs
    from pipeline.sandbox.njsams.knobs import NjsamsKnobs
    from pipeline.sandbox.roqua.knobs import RoquaKnobs

    models: dict[str, type[BaseModel]] = {
        "knobs of Roche": Knobs,
        "knobs of NJSAMS": NjsamsKnobs,
        "knobs of RoQua": RoquaKnobs,
        "knobs of MedMij": MedmijKnobs,
        "details of a fault": Rule,
    }
    for title, model in models.items():
        print(f"{title}:")
        for name, field in model.model_fields.items():
            choices = " | ".join(str(one) for one in get_args(field.annotation) if isinstance(one, (str, int)))
            default = "" if field.is_required() else f" (default {field.get_default()})"
            print(f"  {name}{default}{f': {choices}' if choices else ''}")
            if field.description:
                print(f"      {' '.join(field.description.split())}")
    print(f"faults:\n  {', '.join(NAMES)}")
