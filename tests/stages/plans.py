"""A plan on the built-in settings, changed where a test says so; and messages through the first hops."""

from collections.abc import Callable
from typing import Any

from pipeline import flow, wiring
from pipeline.model import Knowledge, Known, Outcome, Position, Received, Routed
from pipeline.stages.plan import Plan
from tests.delivery.partner_script import settings_with

ROUTE = "roche-patients"


def plan_with(change: Callable[[dict[str, Any]], None] | None = None) -> Plan:
    return wiring.plan_offline(settings_with(change), ROUTE)


def received(value: bytes | None, offset: int = 0) -> Received:
    return Received(Position("his.adt", 0, offset), value, key=b"CIP|1")


def read(value: bytes | None, plan: Plan, offset: int = 0) -> Routed:
    came = flow.read(received(value, offset), plan)
    assert isinstance(came, Routed), came
    return came


def ended(value: bytes | None, plan: Plan) -> Outcome:
    came = flow.read(received(value), plan)
    assert isinstance(came, Outcome)
    return came


def known(routed: Routed, partner_id: str | None = None) -> Knowledge:
    return Knowledge(known={routed.identities[0]: Known(partner_id)})
