"""What the demo did: one object, with what is unexpected in it, and a table of it."""

import datetime as dt
import os
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.commands.demo.routes import MARK, MEDMIJ, NJSAMS, ROCHE, ROQUA

if TYPE_CHECKING:
    from pipeline.sandbox.log import Effect
    from pipeline.sandbox.traffic import Sample
    from schemas.result import Result

PUBLISHED: Final = {"patient-create": (1507.17, 10_000), "patient-update": (1950.07, 4_000)}
"""Milliseconds, average and worst (contracts/roche.md section 8)."""
PARTNERS: Final = {ROCHE: "Roche", NJSAMS: "NJSAMS", ROQUA: "RoQua", MEDMIJ: "patients, by MedMij"}


def told(
    arguments: Namespace,
    acks: Counter[str],
    results: list["Result"],
    effects: Mapping[str, "list[Effect]"],
    back: Mapping[str, Any],
    *,
    today: dt.date,
    seconds: float,
) -> dict[str, Any]:
    """What happened, as one object; `unexpected` where it is not what the traffic was made for. `effects` by route, `back`: what was read of RoQua, and by patients."""
    settled = {name: [result for result in results if result.settled and result.route == name] for name in PARTNERS}
    refused = acks["AR"] + acks["CR"]
    wanted = _wanted(arguments, today)
    at = {name: _at_roche(each) if name == ROCHE else _at_partner(each) for name, each in effects.items()}
    routes = {name: _route(found, refused, wanted[name]) | {"partner": at[name]} for name, found in settled.items()}
    unexpected = [f"{name}: {line}" for name, route in routes.items() for line in route.pop("unexpected")]
    unexpected += [f"{ROQUA}: {back['lost']} answers did not come back"] if back["lost"] else []
    wrong = back["appointments"]["wrong"]
    unexpected += [f"{MEDMIJ}: {wrong} patients did not read what became of their appointments"] if wrong else []
    return {
        "sent": sum(acks.values()),
        "acknowledged": dict(sorted(acks.items())),
        "read": len(settled[ROCHE]),
        "routes": routes,
        "read_back": back,
        "attempts_that_did_not_settle": sum(not result.settled for result in results),
        "response_ms": _times(settled[ROCHE], arguments.scale),
        "seconds": round(seconds, 1),
        "settings": str(arguments.folder / MARK),
        "as_expected": not unexpected and not any(number for each in at.values() for number in each["created_twice"].values()),
        "unexpected": unexpected,
    }


Ends = Counter[tuple[str, str | None]]
NOT_ROUTED: Final = ("filtered", "facility_not_routed")


def _wanted(arguments: Namespace, today: dt.date) -> dict[str, Ends]:
    """How many are to end in each state and reason, on each route."""
    from pipeline.sandbox import agenda, clinic, rom
    from pipeline.sandbox.traffic import REFUSED, expected, samples

    roche = Counter(expected(arguments.messages, arguments.seed))
    njsams: Ends = Counter(_elsewhere(sample, REFUSED) for sample in samples(arguments.messages, arguments.seed))
    roqua: Ends = Counter(njsams)
    medmij: Ends = Counter(njsams)
    for sample in clinic.messages():
        roche[sample.roche] += 1
        njsams[sample.njsams] += 1
        roqua[NOT_ROUTED] += 1
        medmij[NOT_ROUTED] += 1
    for questionnaire in rom.messages():
        roche["filtered", "event_not_for_partner"] += 1
        njsams[NOT_ROUTED] += 1
        roqua[questionnaire.end] += 1
        medmij[NOT_ROUTED] += 1
    for appointment in agenda.messages(today):
        roche["filtered", "event_not_for_partner"] += 1
        njsams[NOT_ROUTED] += 1
        roqua[NOT_ROUTED] += 1
        medmij[appointment.end] += 1
    return {ROCHE: roche, NJSAMS: njsams, ROQUA: roqua, MEDMIJ: medmij}


def _elsewhere(sample: "Sample", refused: str) -> tuple[str, str | None]:
    """What becomes of a European hospital's message on the way to NJSAMS, to RoQua and to patients."""
    if sample.state == refused:
        return refused, sample.reason
    return ("filtered", "not_production") if sample.reason == "not_production" else NOT_ROUTED


def _route(settled: list["Result"], refused: int, wanted: Ends) -> dict[str, Any]:
    states = Counter(str(result.state) for result in settled)
    ends: Ends = Counter((str(result.state), result.reason and str(result.reason)) for result in settled)
    ends["refused", "not_hl7"] += refused
    return {
        "states": dict(states.most_common()),
        "reasons": dict(Counter(f"{result.state}: {result.reason}" for result in settled if result.reason).most_common()),
        "unexpected": sorted(
            f"{state}: {reason}: {ends[state, reason]} instead of {wanted[state, reason]}"
            for state, reason in ends.keys() | wanted.keys()
            if ends[state, reason] != wanted[state, reason]
        ),
    }


def _at_roche(effects: "list[Effect]") -> dict[str, dict[str, int]]:
    created = [effect for effect in effects if effect.effect == "created"]
    twice = len(created) - len({(effect.system, effect.identifier) for effect in created})
    updated = sum(effect.effect == "updated" for effect in effects)
    return {"created": {"Patient": len(created)}, "created_twice": {"Patient": twice}, "updated": {"Patient": updated}}


def _at_partner(effects: "list[Effect]") -> dict[str, dict[str, int]]:
    written = [one for effect in effects for one in effect.written]
    created = [one for one in written if one.effect == "created"]
    twice = {kind: [key for one in created if one.type == kind for key in one.keys] for kind in {one.type for one in created}}
    return {
        "created": dict(sorted(Counter(one.type for one in created).items())),
        "created_twice": {kind: len(keys) - len(set(keys)) for kind, keys in sorted(twice.items())},
        "updated": dict(sorted(Counter(one.type for one in written if one.effect == "updated").items())),
    }


def _times(settled: list["Result"], scale: float) -> dict[str, dict[str, float]]:
    rows = {}
    for operation, (average, worst) in PUBLISHED.items():
        taken = sorted(
            result.response_ms for result in settled if result.operation == operation and result.response_ms is not None
        )
        if taken:
            rows[operation] = {
                "count": len(taken),
                "average": round(sum(taken) / len(taken), 1),
                "p50": round(taken[len(taken) // 2], 1),
                "worst": round(taken[-1], 1),
                "published_average_scaled": round(average * scale, 1),
                "published_worst_scaled": round(worst * scale, 1),
            }
    return rows


def table(told: dict[str, Any]) -> None:
    """For a person."""
    acks = ", ".join(f"{count} {code}" for code, count in told["acknowledged"].items())
    print(
        f"\n{told['sent']} messages sent over MLLP, acknowledged {acks}; {told['read']} read and settled in {told['seconds']} s"
    )
    after = _read_back(told["read_back"])
    for name, partner in PARTNERS.items():
        _route_table(partner, told["routes"][name])
        print(after.get(name, ""), end="")
    print(
        f"\n  {'response times, ms':20} {'count':>6} {'average':>9} {'p50':>8} {'worst':>8}   published, scaled: average, worst"
    )
    for operation, row in told["response_ms"].items():
        published = f"{row['published_average_scaled']:.0f}, {row['published_worst_scaled']:.0f}"
        print(f"  {operation:20} {row['count']:6} {row['average']:9.1f} {row['p50']:8.1f} {row['worst']:8.1f}   {published}")
    print("".join(f"\nNOT AS EXPECTED  {line}" for line in told["unexpected"]), end="\n" if told["unexpected"] else "")
    settings, program = told["settings"], os.path.relpath(sys.argv[0])
    print("\nWhere to look next:")
    for command, why in (
        (f"{program} results --settings {settings}", "every message, with its answer"),
        (f"{program} find --settings {settings} --state parked", "what could not go, and why"),
        (f"{program} map {os.path.relpath(Path(__file__).parents[2] / 'sample.hl7')}", "the request that a message becomes"),
        (f"less {os.path.relpath(Path(settings).with_name('log.jsonl'))}", "the log, as an operator sees it"),
    ):
        print(f"  {why}:\n      {command}")


def _read_back(back: Mapping[str, Any]) -> dict[str, str]:
    """What was read again, by the route that it went by."""
    read, went = back["appointments"], back["answers"] - back["lost"]
    return {
        ROQUA: f"    back:  {back['observations']} Observations of {back['dossiers']} dossiers, with {went} of the {back['answers']} answers that went out\n",
        MEDMIJ: f"    read:  {read['appointments']} appointments by {read['patients']} patients\n",
    }


def _route_table(partner: str, route: dict[str, Any]) -> None:
    print(f"\n  to {partner}")
    for state, count in route["states"].items():
        print(f"    {state:12} {count:5}")
        for key, number in route["reasons"].items():
            if key.startswith(f"{state}: "):
                print(f"        {key.partition(': ')[2]:28} {number:5}")
    done = route["partner"]
    for kind, count in done["created"].items():
        print(
            f"    there: {kind:12} {count:3} created, {done['created_twice'][kind]} of them twice, {done['updated'].get(kind, 0)} updated"
        )
