"""The first start of a route: where its group begins, once, and that it is the first."""

from datetime import datetime
from typing import Final

from pipeline.bus.port import Bus, Where
from pipeline.errors import Refused
from pipeline.ledger.port import STARTING, Ledger
from pipeline.model import Position
from pipeline.stages.plan import Plan

COMMITTED: Final = "committed"
"""`start` of a route whose group has its offsets already: from another program, or put there by hand."""


def first_start(bus: Bus, ledger: Ledger, plan: Plan, group: str, source: str) -> None:
    """Recorded; afterwards a missing offset is an error, never a silent jump (DESIGN decision 1). Refused where it cannot be the first."""
    route, partner, start = plan.name, plan.route.partner, plan.route.start
    before = ledger.started(route)
    if before is not None and not before.startswith(STARTING):
        return
    if start == COMMITTED and not bus.committed(group, source):
        raise Refused(
            f"start: committed, and group {group} has no offset of {source}: is it the right group?", where=f"routes.{route}"
        )
    if not is_known(before, group, source):
        why = read_before(bus, route, group, source) if start != COMMITTED else None
        if why and not is_known(ledger.started(route), group, source):
            raise why  # and no other worker has started it just now
        ledger.start(route, group, partner, starting(group, source))
    bus.start(group, [source], start_of(start))
    ledger.start(route, group, partner, start)


def starting(group: str, source: str) -> str:
    """What the ledger has of a first start while it goes on. What it finds of another group or source, a slip, says nothing of this one."""
    return f"{STARTING} {group} {source}"


def is_known(started: str | None, group: str, source: str) -> bool:
    """Whether what the ledger has of a route's first start is of this group and source, or has come to its end."""
    return started is not None and (not started.startswith(STARTING) or started == starting(group, source))


def read_before(bus: Bus, route: str, group: str, source: str) -> Refused | None:
    """Of a route that the ledger does not know: why it is not to start, where its group has read the topic. Another ledger knows whom the partner has."""
    committed = bus.committed(group, source)
    for partition in sorted(committed, key=lambda each: each.partition):
        offset = committed[partition]
        if offset > 0:  # whatever retention has left of it
            return Refused(
                f"group {group} has read up to {Position(source, partition.partition, offset)}, and this ledger knows nothing of the route: it is an empty "
                "one, or another. Put the right one in its place, or patients are created again; where there never was one, `start: committed` goes on there",
                where=f"routes.{route}",
            )
    return None


def start_of(how: str) -> Where | int:
    """A route's `start` setting as the bus takes it: a place, or milliseconds since 1970. What has a committed offset keeps it in any case."""
    if how == COMMITTED:
        return Where.EARLIEST
    if how in {"earliest", "latest"}:
        return Where(how)
    return int(datetime.fromisoformat(how).timestamp() * 1000)
