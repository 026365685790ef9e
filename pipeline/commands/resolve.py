"""What became of a create whose outcome is unknown, where no probe can tell: ask the partner, then say it here.

--delivered PARTNER_ID: it arrived; the patient is known under that id from now on, and the record is delivered. Where the partner has no id of
its own (it goes by the patient's identifier), --delivered stands alone. Where it has (NJSAMS; Roche v2, or with update_id: returned), a create without it is
refused: no later message of the patient could go, and nothing would take it back. Nothing is lost while you ask for it. Of a visit or coverage that came with it import the id (identities import). Of a message of
several requests it is the one that was sent last: what follows it goes by itself. --absent: it did not; a create may leave again, and this record is sent
again at once. Either way what waited behind it goes on by itself. Who and why stands in the ledger's audit: no patient data in --why, please.
"""

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, json_argument, operator, settings_argument
from pipeline.commands.find import position_of
from pipeline.errors import BusError, BusUnavailable, SettingsError
from schemas.outcomes import Reason

if TYPE_CHECKING:
    from pipeline.bus.port import Record
    from pipeline.delivery.planning import Decision
    from pipeline.ledger.plans import Deed, What
    from pipeline.ledger.port import Delivery
    from pipeline.model import Position, Received
    from pipeline.stages.plan import Plan
    from pipeline.wiring import Opened

EXAMPLE: Final = """  emr-pipeline find --reason probe_cannot_tell
  emr-pipeline resolve his.adt/0/17 --delivered 4711 --why 'their service desk, ticket 12'
  emr-pipeline resolve his.adt/0/17 --absent --why 'their service desk, ticket 12'"""
SETTLE_SECONDS: Final = 10.0
"""How long the result may take to be durable."""


def configure(parser: ArgumentParser) -> None:
    record_arguments(parser)
    said = parser.add_mutually_exclusive_group(required=True)
    said.add_argument(
        "--delivered",
        nargs="?",
        const="",
        metavar="PARTNER_ID",
        help="it arrived; the partner's own id of the patient, where it gives ids",
    )
    said.add_argument("--absent", action="store_true", help="it did not arrive")


def record_arguments(parser: ArgumentParser) -> None:
    """What `resolve` and `discard` take alike."""
    parser.add_argument("position", metavar="TOPIC/PARTITION/OFFSET", help="the source record, as find shows it")
    parser.add_argument("--route", metavar="R", help="a route of the settings (not needed where the record waits on one alone)")
    parser.add_argument("--why", "--reason", required=True, metavar="TEXT", help="for the audit; no patient data")
    json_argument(parser, "the answer")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    from pipeline.ledger.plans import What

    if arguments.delivered is not None and not arguments.delivered.isprintable():
        raise SettingsError("a control character in the partner's id", where="--delivered")
    return decide(arguments, What.RESOLVE_ABSENT if arguments.absent else What.RESOLVE_DELIVERED)


def decide(arguments: Namespace, what: "What") -> int:
    """Write what an operator says, then its result onto its topic. A second call emits a result that the first one could not."""
    from pipeline import settings, wiring
    from pipeline.ledger.open import not_there_yet

    if not arguments.why.strip():
        raise SettingsError("say why, for the audit", where="--why")
    position = position_of(arguments.position, "TOPIC/PARTITION/OFFSET")
    loaded = settings.load(settings.find(arguments.settings))
    if arguments.route is not None:
        wiring.the_route(loaded, arguments.route)
    if place := not_there_yet(loaded):
        raise SettingsError(f"nothing has run yet: there is no {place}", where=str(position))
    with wiring.opened(loaded) as things:
        arguments.route = arguments.route or _route_of(position, things)
        return _decide(arguments, what, position, things)


def _route_of(position: "Position", things: "Opened") -> str:
    """The only route on which the record waits for a person; else the only one on which the ledger has it. What is closed on another cannot be meant."""
    from pipeline.ledger.port import Query
    from schemas.outcomes import CLOSED

    if len(things.settings.routes) == 1:
        return next(iter(things.settings.routes))
    rows = [row for row in things.ledger.find(Query(position=position)) if row.route in things.settings.routes]
    if not rows:
        raise SettingsError("the ledger has no such record: emr-pipeline find shows them", where=str(position))
    fitting = [row for row in rows if row.open or row.state not in CLOSED] or rows
    if len(fitting) == 1:
        return fitting[0].route
    raise SettingsError(f"several routes have it, name one of {', '.join(sorted(row.route for row in fitting))}", where="--route")


def _decide(arguments: Namespace, what: "What", position: "Position", things: "Opened") -> int:
    from pipeline import wiring
    from pipeline.delivery.payloads import Payloads
    from pipeline.delivery.planning import lacks_id, rest_of, settlement_of
    from pipeline.delivery.replay import meant
    from pipeline.ledger.plans import Deed, What

    wiring.as_started(things, arguments.route)
    row = _row(arguments.route, position, things)
    topics = things.settings.topics.results, things.settings.dead_letters_of(arguments.route)
    payloads = Payloads(things.bus, topics[1])
    if _emitted_now(row, things):
        return _say(arguments, row, "the decision was made before; its result is on its topic now")
    plan = wiring.plan_of(things.settings, arguments.route, things.catalogue, things.pseudonyms)
    received = payloads.find(position, meant(row.dedupe, plan))
    deed = Deed(wiring.clock(), operator(), what, arguments.why, arguments.route, position)
    if what is What.RESOLVE_ABSENT:
        return _absent(arguments, row, things, plan=plan, received=received, deed=deed)
    at = _at_home(received, position)
    partner_id = (getattr(arguments, "delivered", None) or None) if what is What.RESOLVE_DELIVERED else None
    if what is What.RESOLVE_DELIVERED:
        if partner_id is None and lacks_id(row, received, plan, things.ledger):
            raise SettingsError(
                "the partner knows a patient by an id of its own: ask for that too, --delivered PARTNER_ID. Without it no later message of the patient could go",
                where=str(position),
            )
        rest = rest_of(deed, row, received, plan, things.ledger, partner_id=partner_id)
        if rest is not None:
            return _decided(arguments, row, things, rest, "that request arrived, and what follows it is sent by plan {}")
    decision = settlement_of(deed, at, plan, things.ledger, topics=topics, partner_id=partner_id)
    things.ledger.decide(decision.decided)
    if decision.written is not None:
        _emit(things, row, decision.written.result, decision.written.settlement.result_id)
    done = "delivered; the patient is known" if what is What.RESOLVE_DELIVERED else "discarded"
    return _say(arguments, row, f"{position} is {done}{_on(row, things)}")


def _absent(
    arguments: Namespace, row: "Delivery", things: "Opened", *, plan: "Plan", received: "Received | None", deed: "Deed"
) -> int:
    from pipeline.delivery.planning import absent_of

    said = "it is not there: a create may leave again"
    more = ". Its bytes are gone, so it is not sent itself" if received is None else ", and plan {} sends it"
    return _decided(arguments, row, things, absent_of(deed, row, received, plan), said + more)


def _on(row: "Delivery", things: "Opened") -> str:
    """Of which route, where it could have been another."""
    return f" on {row.route}" if len(things.settings.routes) > 1 else ""


def _decided(arguments: Namespace, row: "Delivery", things: "Opened", decision: "Decision", said: str) -> int:
    """The ledger has it; `said` has a place for the plan that was released."""
    things.ledger.decide(decision.decided)
    then = decision.decided.then
    name = then[0].id if then is not None else None
    return _say(arguments, row, f"{row.position}{_on(row, things)}: {said.format(name)}", name)


def _row(route: str, position: "Position", things: "Opened") -> "Delivery":
    from pipeline.ledger.port import Query

    found = list(things.ledger.find(Query(route=route, position=position)))
    if not found:
        raise SettingsError(f"the ledger has no such record on {route}: emr-pipeline find shows them", where=str(position))
    return found[0]


def _at_home(received: "Received | None", position: "Position") -> "Received | None":
    from pipeline.delivery.replay import received_of

    return received_of(position, received) if received is not None else None


def _emitted_now(row: "Delivery", things: "Opened") -> bool:
    """A result of an operator's decision that a call before this one left; the worker emits it at its next start, too."""
    from pipeline.stages.settle import result_record
    from schemas.outcomes import State
    from schemas.result import Result

    seen = things.ledger.seen(row.route, row.position)
    ended = seen is not None and seen.state in {State.DELIVERED, State.DISCARDED} and seen.reason is Reason.OPERATOR
    if seen is None or seen.result is None or not ended:
        return False
    result = Result.model_validate_json(seen.result)
    _emit(things, row, result_record(seen.result, result.request_id, things.settings.topics.results), result.result_id)
    return True


def _emit(things: "Opened", row: "Delivery", record: "Record", result_id: str) -> None:
    """Ledger first, then the topic: where it cannot be written, the decision stands and its result comes later."""
    try:
        with things.bus.producer() as producer:
            producer.append([record], SETTLE_SECONDS)
    except BusError as error:
        raise BusUnavailable(
            f"it is decided, and its result cannot be written yet ({error.message}): say it again later, or start the worker",
            where=str(row.position),
        ) from None
    things.ledger.emitted(row.route, [(row.position, result_id)])


def _say(arguments: Namespace, row: "Delivery", text: str, plan: str | None = None) -> int:
    if arguments.json:
        print(json.dumps({"position": str(row.position), "route": row.route, "done": text, "plan": plan}))
    else:
        print(text)
    return DONE
