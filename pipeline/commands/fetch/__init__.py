"""The read side of a partner: one resource by its id, or those that a search finds, page by page. What it prints is patient data.

JSON, one resource a line, where it is piped or asked for; a table on a terminal; or onto a topic of the bus with --topic. Which resources and
searches there are is the partner's table; one that does not go with the resource is refused before anything is asked. What is no FHIR (responses of
RoQua) comes as the partner gives it, or with --observations as FHIR Observations.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, NOT_ALL, settings_argument
from pipeline.errors import NoAnswer, NotSent, Refused, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.model import Request, Resource
    from pipeline.partners.reads import Reader
    from pipeline.settings import Settings
    from pipeline.transport.port import Transport

EXAMPLE: Final = """  emr-pipeline fetch njsams Patient 8d5802a8-14ea-4198-ba0d-bd1884e63053
  emr-pipeline fetch njsams Patient --family smith
  emr-pipeline fetch njsams Encounter --subject 8d5802a8-14ea-4198-ba0d-bd1884e63053 --include subject --json | jq .period
  emr-pipeline fetch njsams Coverage --beneficiary 12 --payor 7 --topic njsams.coverages
  emr-pipeline fetch roqua Observation --subject 2075
  emr-pipeline fetch roqua responses --dossier 2075 --questionnaire-keys oq45,honos_plus --completed-after 2026-01-01
  emr-pipeline fetch roqua responses --dossier 2075 --status completed --observations --json
  emr-pipeline fetch other-hospital Appointment --from 2026-01-01 --to 2026-06-30"""


def configure(parser: ArgumentParser) -> None:
    from pipeline.partners.readers import options

    parser.add_argument("partner", metavar="PARTNER", help="name of a partner below `partners`")
    parser.add_argument("resource", metavar="RESOURCE", help="a FHIR resource type, as Patient; or responses")
    parser.add_argument("identifier_", nargs="?", metavar="ID", help="the partner's own id of one resource")
    found = parser.add_argument_group("searches (each goes with some resources)")
    for option, (name, resources) in sorted(options().items()):
        found.add_argument(f"--{option}", dest=name, metavar="V", help=f"of {', '.join(resources)}{BESIDE.get(option, '')}")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="one resource a line (default where it is piped)")
    how.add_argument("--table", action="store_true", help="a table (default on a terminal)")
    how.add_argument("--topic", metavar="T", help="append each resource to this topic, which must be there")
    parser.add_argument(
        "--pages", type=int, default=100, metavar="N", help="follow the partner's pages so far at most (%(default)s)"
    )
    parser.add_argument("--observations", action="store_true", help="responses as FHIR STU3 Observations")
    settings_argument(parser)


BESIDE: Final = {
    "questionnaire-keys": "; several with commas between them",
    "completed-after": "; a time as 2026-01-31T00:00:00+01:00, or a day",
    "completed-before": "; as above",
    "from": "; a day, a month, a year, or a time as 2026-01-31T09:00:00+01:00",
    "to": "; as above, with all of that day, month or year",
    "respondent-type": "; deprecated there, use --respondent-id",
}
"""What the help of an option says beside its resources."""


def run(arguments: Namespace) -> int:
    from pipeline import settings, wiring
    from pipeline.partners.reads import NotRead

    loaded = settings.load(settings.find(arguments.settings))
    reader = wiring.reader_of(loaded, arguments.partner)
    if arguments.pages < 1:
        raise SettingsError("a number from 1 on", where="--pages")
    if arguments.observations and arguments.resource in reader.resources and arguments.resource not in reader.plain:
        raise SettingsError(f"{arguments.resource} is FHIR already", where="--observations")
    request = _request(reader, arguments)
    if arguments.topic is not None:
        _guard(loaded, arguments.topic)
    transport = wiring.transport_of(loaded, arguments.partner, wiring.READ_CAP)
    try:
        pages = _pages(reader, transport, request, arguments)
        whole = _shown(pages, reader, request, loaded, arguments)
    except (NotRead, NotSent, NoAnswer) as error:
        print(f"emr-pipeline fetch: {arguments.partner} {arguments.resource}: {error}", file=sys.stderr)
        return NOT_ALL
    finally:
        transport.close()
    return DONE if whole else NOT_ALL


def _request(reader: "Reader", arguments: Namespace) -> "Request":
    from pipeline.partners.readers import options

    typed = {option: value for option, (name, _) in options().items() if (value := getattr(arguments, name)) is not None}
    if arguments.identifier_ is None:
        return reader.by_search(arguments.resource, typed)
    if typed:
        raise SettingsError(f"an id, or a search: --{next(iter(typed))} does not go with an id", where="ID")
    return reader.by_id(arguments.resource, arguments.identifier_)


class _Pages:
    """The resources of all pages, as they come."""

    def __init__(self, found: "Iterator[Resource]") -> None:
        self.found = found
        self.whole = True
        """Nothing was left at the partner."""


def _pages(reader: "Reader", transport: "Transport", request: "Request", arguments: Namespace) -> _Pages:
    most: int = arguments.pages

    def found() -> "Iterator[Resource]":
        asked, told = request, set[str]()
        for _ in range(most):
            page = reader.page(asked, transport.exchange(asked))
            for line in [one for one in page.told if one not in told]:
                print(f"emr-pipeline fetch: {line}", file=sys.stderr)
            told.update(page.told)
            yield from _observations(reader, asked, page.resources) if arguments.observations else page.resources
            if page.issues:
                print(f"emr-pipeline fetch: beside what it found the partner says: {', '.join(page.issues)}", file=sys.stderr)
            if page.next is None:
                return
            asked = page.next
        pages.whole = False
        print(f"emr-pipeline fetch: there is more behind {most} pages: ask for more with --pages", file=sys.stderr)

    pages = _Pages(found())
    return pages


def _observations(reader: "Reader", asked: "Request", found: "Iterable[Resource]") -> "Iterator[Resource]":
    said: set[str] = set()
    for resource in found:
        turned, told = reader.observations(asked, resource)
        yield from turned
        said.update(told)
    for one in sorted(said):
        print(f"emr-pipeline fetch: on no list of ours: {one}", file=sys.stderr)


def _shown(pages: _Pages, reader: "Reader", request: "Request", loaded: "Settings", arguments: Namespace) -> bool:
    """Print or append all of it; whether that was all."""
    if arguments.topic is not None:
        number = _append((reader.record(request, one) for one in pages.found), loaded, arguments.topic)
        print(f"{number} resource{'s' * (number != 1)} onto {arguments.topic}")
    elif arguments.table or (not arguments.json and sys.stdout.isatty()):
        from pipeline.commands.fetch.table import show

        number = show(pages.found, arguments.resource)
    else:
        number = _lines(pages.found)
    if not number:
        print("emr-pipeline fetch: nothing was found", file=sys.stderr)
    return pages.whole


def _lines(found: "Iterator[Resource]") -> int:
    import orjson

    number = 0
    for resource in found:
        print(orjson.dumps(resource).decode())
        number += 1
    return number


def _guard(loaded: "Settings", topic: str) -> None:
    """No topic that the worker reads or writes: what is fetched is no HL7 message and no result."""
    if topic in loaded.own_topics():
        raise Refused("this topic has messages, results or dead letters of the pipeline: name one of its own", where="--topic")


def _append(found: "Iterator[tuple[str, Resource]]", loaded: "Settings", topic: str) -> int:
    """Each resource a record, all durable when it returns."""
    import orjson

    from pipeline.bus.open import open_bus
    from pipeline.bus.port import Record

    bus = open_bus(loaded)
    try:
        if topic not in bus.topics():
            raise SettingsError(
                "no such topic on the bus: make it first, with a retention that suits patient data", where="--topic"
            )
        with bus.producer() as producer:
            records = (Record(topic, orjson.dumps(value), key.encode()) for key, value in found)
            return len(producer.append(records))
    finally:
        bus.close()
