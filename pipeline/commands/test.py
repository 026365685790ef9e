"""Run the golden pairs of the mappings: each message must become exactly what stands beside it.

--update rewrites what differs; look at the diff before it is committed. The built-in settings are used unless --settings names others,
so that a pair means the same on every machine.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.commands import DONE, NOT_ALL, json_argument

if TYPE_CHECKING:
    from pipeline.settings import Settings
    from pipeline.templates.golden import Convert

EXAMPLE: Final = """  emr-pipeline test
  emr-pipeline test roche --update && git diff mappings/roche/golden"""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("partner", nargs="?", metavar="PARTNER", help="a folder of the mappings (else all)")
    parser.add_argument("--update", action="store_true", help="rewrite the expected requests that differ")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings (else the built-in)")
    json_argument(parser, "the differences")


def run(arguments: Namespace) -> int:
    import json

    from pipeline import settings, wiring
    from pipeline.templates import golden

    loaded = settings.load_offline(arguments.settings or settings.DEFAULTS)
    pairs = list(golden.pairs(loaded.mappings or wiring.MAPPINGS, arguments.partner))
    found = [
        difference
        for pair in pairs
        if (difference := golden.compare(pair, converter(loaded, pair.partner), update=arguments.update)) is not None
    ]
    if arguments.json:
        print(
            json.dumps(
                [{"pair": str(each.pair.message), "diff": list(each.lines)} for each in found], indent=2, ensure_ascii=False
            )
        )
        return NOT_ALL if found and not arguments.update else DONE
    for difference in found:
        print(f"rewritten: {difference.pair.expected}" if arguments.update else "\n".join(difference.lines) + "\n")
    count = len({difference.pair for difference in found})
    print(f"{len(pairs)} pairs, {count} {'rewritten' if arguments.update else 'different'}")
    return NOT_ALL if found and not arguments.update else DONE


def converter(loaded: "Settings", partner: str) -> "Convert":
    """The conversion of golden pairs: with the settings given, changed by what a pair says, on the partner's route."""
    from pipeline import offline, wiring
    from pipeline.errors import SettingsError
    from pipeline.model import Outcome
    from pipeline.stages.plan import Plan
    from schemas.outcomes import State

    route = next((name for name, each in loaded.routes.items() if each.partner == partner), None)
    if route is None:
        raise SettingsError(f"no route has the partner {partner}", where="routes")
    plans: dict[str, Plan] = {}

    def convert(value: bytes, variant: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what JSON can hold
        changes = {name: change for name, change in variant.items() if name not in {"known", "parts"}}
        key = repr(sorted(changes.items()))
        if key not in plans:
            plans[key] = wiring.plan_offline(changed(loaded, partner, changes), route)
        plan = plans[key]
        converted = offline.convert(value, plan, known=variant.get("known"), parts=variant.get("parts", ()))
        if not isinstance(converted, Outcome):
            return [offline.request_json(request, plan) for request in converted.requests]
        what = {"reason": converted.reason, "where": converted.where}
        return {"filtered" if converted.state is State.FILTERED else "error": what}

    return convert


def changed(loaded: "Settings", partner: str, changes: Mapping[str, Any]) -> "Settings":
    """The settings with a pair's own of the partner or of the site. SettingsError where neither has one of that name."""
    from pydantic import ValidationError

    from pipeline.errors import SettingsError
    from pipeline.settings import Settings

    tree = loaded.model_dump(mode="python")
    for name, change in changes.items():
        owner = next((part for part in (tree["partners"][partner], tree["site"]) if name in part), None)
        if owner is None:
            raise SettingsError("neither the partner nor the site has such a setting", where=f"golden pair: {name}")
        owner[name] = change
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise SettingsError(first["msg"], where=f"golden pair: {first['loc'][-1]}") from None
