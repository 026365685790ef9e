"""The stand-in of Roche's API on loopback: mutual TLS, the contract, the published response times, faults on order. Not for patients' data."""

import argparse
import resource
import signal
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from pipeline.commands import DONE

EXAMPLE: Final = """\
  emr-pipeline sandbox --latency none
  emr-pipeline sandbox --knob duplicate=with_id --knob condition=required
  emr-pipeline sandbox --fault 503:probability=0.3,retry_after=7 --fault commit_then_drop:next=1,operation=create
  emr-pipeline sandbox --list          all knobs and faults"""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--port", type=_port, default=8443, help="where it listens on 127.0.0.1 and ::1; 0 takes a free one (%(default)s)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("emr-pipeline-data/sandbox"),
        help="certificates, secret, patients and log of effects; made once, used again (%(default)s)",
    )
    parser.add_argument(
        "--latency", metavar="published|none|mixed|SECONDS", default="published", help="response times (%(default)s)"
    )
    parser.add_argument("--knob", action="append", default=[], metavar="NAME=VALUE", help="how it behaves; may be repeated")
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME[:DETAIL=VALUE,…]", help="what goes wrong; may be repeated"
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
    from pipeline.errors import SettingsError
    from pipeline.sandbox import faults
    from pipeline.sandbox.roche import RocheSandbox
    from pipeline.telemetry import LogEvent, log

    if arguments.list:
        _list()
        return DONE
    knobs = {"latency": arguments.latency}
    for one in arguments.knob:
        name, equals, value = one.partition("=")
        if not equals:
            raise SettingsError("write NAME=VALUE", where=f"--knob {name}")
        knobs[name] = value
    rules = [faults.parse(one) for one in arguments.fault]
    signals = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before the thread starts: both wait for sigwait below
    try:
        _many_descriptors()
        with RocheSandbox(arguments.folder, knobs, port=arguments.port, control=arguments.control) as roche:
            for rule in rules:
                roche.order(rule)
            log(LogEvent.SANDBOX_STARTED, port=roche.port, patients=roche.patients())
            print(_welcome(roche.base_url, arguments.folder, roche.knobs.org_id, roche.knobs.client_id, roche.control_url))
            sys.stdout.flush()
            signal.sigwait(signals)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # a child process would inherit it
    return DONE


def _many_descriptors() -> None:
    """As many connections as the system lets us have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _welcome(base_url: str, folder: Path, org_id: str, client_id: str, control_url: str | None) -> str:
    lines = [
        f"Roche sandbox: {base_url}",
        f"log of effects: {folder / 'effects.jsonl'}",
        *([f"control: {control_url}"] if control_url else []),
        "try it:",
        f"  curl --cacert {folder / 'ca.pem'} --cert {folder / 'client.pem'} --key {folder / 'client.key'} \\",
        f"    -H 'org_id: {org_id}' -H 'client_id: {client_id}' -H \"client_secret: $(cat {folder / 'client-secret'})\" \\",
        "    -H 'x-origin-request-id: 5109d51b-421e-4746-b673-16e3fe2b3442' -H 'Content-Type: application/json' \\",
        f"    {base_url}/Bundle -d '{_SAMPLE}'",
    ]
    return "\n".join(lines)


_SAMPLE: Final = (
    '{"resourceType":"Bundle","type":"message","entry":['
    '{"resource":{"resourceType":"MessageHeader","event":{"system":"http://roche.com/fhir/rdc/message-type","code":"new-bundle"},'
    '"timestamp":"2024-05-02T10:15:30.000Z","source":{"endpoint":"2.16.724.4.2"}}},'
    '{"resource":{"resourceType":"Patient","identifier":[{"system":"urn:oid:2.16.724.4.41","value":"TEST0000000001"}],'
    '"name":[{"family":"Example","given":["Ana"]}]}}]}'
)


def _list() -> None:
    from typing import get_args

    from pipeline.sandbox.faults import NAMES, Rule
    from pipeline.sandbox.knobs import Knobs

    for title, model in (("knobs", Knobs), ("details of a fault", Rule)):
        print(f"{title}:")
        for name, field in model.model_fields.items():
            choices = " | ".join(str(one) for one in get_args(field.annotation) if isinstance(one, (str, int)))
            default = "" if field.is_required() else f" (default {field.get_default()})"
            print(f"  {name}{default}{f': {choices}' if choices else ''}")
            if field.description:
                print(f"      {' '.join(field.description.split())}")
    print(f"faults:\n  {', '.join(NAMES)}")
