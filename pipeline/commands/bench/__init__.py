"""Figures: of conversion on one core, and of delivery with everything that belongs to it."""

from argparse import ArgumentParser, Namespace
from typing import Final

from pipeline.commands.bench import convert, deliver

EXAMPLE: Final = """  emr-pipeline bench convert
  emr-pipeline bench convert --json --seconds 20
  emr-pipeline bench deliver
  emr-pipeline bench deliver --rows fixed_256 mixed_256 --kafka 127.0.0.1:9092 --json"""


def configure(parser: ArgumentParser) -> None:
    whats = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, module, about in (
        ("convert", convert, "bytes to bundle on one core"),
        ("deliver", deliver, "delivery to a partner stand-in: share of Little's bound, CPU, memory, order"),
    ):
        module.configure(whats.add_parser(name, help=about, description=module.__doc__))


def run(arguments: Namespace) -> int:
    return {"convert": convert.run, "deliver": deliver.run}[arguments.what](arguments)
