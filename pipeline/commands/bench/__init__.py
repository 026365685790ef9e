"""Figures: of conversion on one core, of delivery with everything that belongs to it, and of serving appointments."""

from argparse import ArgumentParser, Namespace
from typing import Final

from pipeline.commands.bench import convert, deliver, serve

EXAMPLE: Final = """  emr-pipeline bench convert
  emr-pipeline bench convert --json --seconds 20
  emr-pipeline bench deliver
  emr-pipeline bench deliver --rows fixed_256 mixed_256 --kafka 127.0.0.1:9092 --json
  emr-pipeline bench serve"""


def configure(parser: ArgumentParser) -> None:
    whats = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, module, about in (
        ("convert", convert, "bytes to bundle on one core"),
        ("deliver", deliver, "delivery to a partner stand-in: share of Little's bound, CPU, memory, order"),
        ("serve", serve, "searches of patients in a store of a million appointments: a second on one core, p50 and p99"),
    ):
        module.configure(whats.add_parser(name, help=about, description=module.__doc__))


def run(arguments: Namespace) -> int:
    return {"convert": convert.run, "deliver": deliver.run, "serve": serve.run}[arguments.what](arguments)
