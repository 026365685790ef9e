"""End a parked message that is not to go: it counts as discarded from now on, and no replay sends it unless it is forced.

Refused where it may have arrived (a create whose outcome is unknown): that is resolved, not discarded, or its patient could be created twice. Its
original bytes stay on the dead-letter topic. Who and why stands in the ledger's audit: no patient data in --why, please.
"""

from argparse import ArgumentParser, Namespace
from typing import Final

from pipeline.commands.resolve import decide, record_arguments

EXAMPLE: Final = """  emr-pipeline discard his.adt/0/17 --why 'a test patient of the HIS'"""


def configure(parser: ArgumentParser) -> None:
    record_arguments(parser)


def run(arguments: Namespace) -> int:
    from pipeline.ledger.plans import What

    return decide(arguments, What.DISCARD)
