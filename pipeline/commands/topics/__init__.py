"""Make the topics of the settings, and set where a route's group reads on in its source; on the embedded bus or on Kafka.

create makes source, results and dead-letter topics; what is there stays as it is. start is for a route that has run before and whose group has no offset
in its source any more, or not yet (runbook: offset_gone): the source has a new name, or somebody deleted the offsets. It sets what is missing. With --again it moves what is
there, too: forward skips records, which nobody delivers then; back reads them again, and what the ledger has settled is not sent again. Refused
(exit 4) while a worker of the group runs. Who and why stands in the ledger's audit: no patient data in --why, please.
"""

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, json_argument, settings_argument
from pipeline.commands.topics.starting import arguments_of, start

if TYPE_CHECKING:
    from pipeline.bus.port import TopicSettings

EXAMPLE: Final = """  emr-pipeline topics create
  emr-pipeline topics create --settings hospital.yaml --json
  emr-pipeline topics start --route roche-patients --at earliest
  emr-pipeline topics start --route roche-patients --at 2026-01-31T03:00 --again --why 'the ledger was restored'"""


def configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser(
        "create", help="make those that are not there, and say where one that is there differs from the settings"
    )
    settings_argument(create)
    json_argument(create, "what was made and what was there")
    arguments_of(actions.add_parser("start", help="set where a route's group reads on in its source, where it has no offset"))


def run(arguments: Namespace) -> int:
    return start(arguments) if arguments.action == "start" else create(arguments)


def create(arguments: Namespace) -> int:
    """Make what is not there."""
    from pipeline import settings
    from pipeline.bus.open import open_bus
    from pipeline.wiring import topic_settings

    loaded = settings.load(settings.find(arguments.settings))
    wanted = topic_settings(loaded)
    bus = open_bus(loaded)
    try:
        made = bus.create_topics(wanted)
        there = {topic.name: bus.described(topic.name) for topic in wanted if topic.name not in made}
    finally:
        bus.close()
    rows = [
        {
            "topic": topic.name,
            "made": topic.name in made,
            "partitions": topic.partitions,
            "differs": differences(topic, there.get(topic.name)),
        }
        for topic in wanted
    ]
    if arguments.json:
        print(json.dumps({"bus": loaded.bus.kind, "topics": rows}))
    else:
        for topic in wanted:
            print(line(topic, made=topic.name in made, differs=differences(topic, there.get(topic.name))))
    return DONE


def line(topic: "TopicSettings", *, made: bool, differs: dict[str, dict[str, int | None]]) -> str:
    """One topic for a person: `made`, `there`, or `differs` with what is there against what the settings say."""
    if made:
        return f"made     {topic.name} ({_shape(topic)})"
    if not differs:
        return f"there    {topic.name} ({_shape(topic)})"
    what = ", ".join(
        f"{name} {_amount(each['is'])}, the settings say {_amount(each['settings'])}" for name, each in differs.items()
    )
    return f"differs  {topic.name}: {what}; it was left as it is"


def differences(wanted: "TopicSettings", there: "TopicSettings | None") -> dict[str, dict[str, int | None]]:
    """Where a topic that is there is not what the settings say. A share of bytes that does not divide evenly is no difference."""
    if there is None:
        return {}
    found: dict[str, dict[str, int | None]] = {}
    for name in ("partitions", "retention_ms", "retention_bytes", "replication"):
        is_, says = getattr(there, name), getattr(wanted, name)
        close = name == "retention_bytes" and None not in {is_, says} and abs(is_ - says) < wanted.partitions
        if is_ != says and not close:
            found[name] = {"is": is_, "settings": says}
    return found


def _amount(value: int | None) -> str:
    return "without limit" if value is None else str(value)


def _shape(topic: "TopicSettings") -> str:
    keeps = []
    if topic.retention_ms is not None:
        keeps.append(f"{topic.retention_ms / 86_400_000:g} days")
    if topic.retention_bytes is not None:
        keeps.append(f"{topic.retention_bytes / 1_048_576:g} MB")
    number = "1 partition" if topic.partitions == 1 else f"{topic.partitions} partitions"
    return f"{number}, keeps {' or '.join(keeps) or 'for ever'}"
