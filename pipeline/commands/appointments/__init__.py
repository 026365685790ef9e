"""The store that `serve` answers from: appointments that are FHIR already brought in, and whose numbers are one person's.

load reads STU3 Appointments and what they reference: single resources, bundles or ndjson, JSON or XML, told apart by their content. Ids are kept. Each resource
is checked against FHIR, each appointment with what it references against MedMij; a file with a mistake is left out whole, and each mistake is a line. References are looked up in the same file, then in
the other files. Whose an appointment is, its Patient's identifiers say, those of the systems that the
table identifier-systems-medmij has; a BSN in them is used for that, and masked in what is stored. The BSN of any Patient of the files is starred in
texts too (narrative, comment, description, display…); in an id or a reference it is a mistake. Where identifiers are masked already, the local ones do; or --patients names a CSV with the columns patient (the Patient's id in the files), system, value.
meta.lastUpdated says how old a version is (else now): an older one never goes over a newer one.

persons, join, part and forget are about whose numbers are whose; forget and release about whose one appointment is. They show no number, no name and no
appointment, and --yes does what is shown. audit lists what was done. A message that parked goes with a replay afterwards.
"""

import csv
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.commands import DONE, NOT_ALL, WRONG, json_argument, settings_argument
from pipeline.commands.appointments import persons
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.appointments.port import Store
    from pipeline.commands.appointments.making import File, Identifier, Maker

EXAMPLE: Final = """  emr-pipeline appointments load export/*.ndjson
  emr-pipeline appointments load appointments.xml --patients patients.csv
  emr-pipeline appointments persons --key 'urn:oid:1.2.3|4711' --key 'urn:oid:1.2.3|4712'
  emr-pipeline appointments join --key 'urn:oid:1.2.3|4711' --key 'urn:oid:1.2.3|4712' --why 'ticket 12' --yes
  emr-pipeline appointments part --key 'urn:oid:1.2.3|4712' --why 'ticket 13' --yes
  emr-pipeline appointments forget --key 'urn:oid:1.2.3|4712' --why 'ticket 14' --yes
  emr-pipeline appointments release --appointment 3d1f… --why 'number given out again, ticket 15' --yes
  emr-pipeline appointments audit"""
COLUMNS: Final = ("patient", "system", "value")
SHOWN: Final = 20
"""Mistakes of a file that are named one by one."""
CONFLICT: Final = "its patient's identifiers are two persons', or one person would have two BSNs: emr-pipeline appointments persons shows them, join makes one of two"
ANOTHERS: Final = "it is there as another person's: emr-pipeline appointments join makes them one, forget --appointment takes it from there, release frees its number"

UNTIMED: Final = "its status needs a time, and neither it nor what is there of it has one: give it a start, or the status proposed or cancelled"


def configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="what", metavar="ACTION", required=True)
    load = actions.add_parser("load", help="bring in appointments that are FHIR already")
    load.add_argument("files", nargs="+", metavar="FILE", help="JSON, XML or ndjson; - for stdin")
    load.add_argument("--patients", type=Path, metavar="CSV", help="identifiers of Patients: columns patient, system, value")
    json_argument(load, "what became of each file")
    settings_argument(load)
    persons.configure(actions)


def run(arguments: Namespace) -> int:
    return _load_all(arguments) if arguments.what == "load" else persons.run(arguments)


def _load_all(arguments: Namespace) -> int:
    import json

    from pipeline import settings, wiring
    from pipeline.commands.appointments.making import Maker, checked
    from pipeline.commands.appointments.reading import read
    from pipeline.fhir.validator import Release, Validator

    loaded = settings.load(settings.find(arguments.settings))
    validator = Validator(Release.STU3)
    files = [checked(name, read(_bytes(name)), validator) for name in arguments.files]
    systems = frozenset(str(each) for each in wiring.catalogue_of(loaded).identifier_systems("medmij").targets)
    maker = Maker(files, systems, _identifiers(arguments.patients), wiring.pseudonyms_of(loaded), wiring.clock())
    store = wiring.store_of(loaded)
    try:
        told = [_load(store, maker, file) for file in files]
    finally:
        store.close()
    if arguments.json:
        print(json.dumps(told, indent=2))
    else:
        for each in told:
            _show(each)
    wrong = sum(bool(each["mistakes"]) for each in told)
    if not wrong and not any(each["appointments"] for each in told):
        raise SettingsError("there is no Appointment in it", where=", ".join(arguments.files))
    return DONE if not wrong else WRONG if wrong == len(told) else NOT_ALL


def _load(store: "Store", maker: "Maker", file: "File") -> dict[str, Any]:
    """All of a file, or nothing."""
    from pipeline.appointments.port import Put
    from pipeline.commands.appointments.reading import Mistake

    mistakes = list(file.mistakes)
    changes = []
    for each in () if mistakes else maker.changes(file):
        if isinstance(each, Mistake):
            mistakes.append(each)
        else:
            changes.append(each)
    done = () if mistakes else store.put_all([change for _, change in changes])
    refusals = {Put.CONFLICT: CONFLICT, Put.ANOTHERS: ANOTHERS, Put.UNTIMED: UNTIMED}
    mistakes += [Mistake(where, refusals[put]) for (where, _), put in zip(changes, done, strict=False) if put in refusals]
    counts = {str(put): 0 if mistakes else done.count(put) for put in (Put.CREATED, Put.UPDATED, Put.STALE)}
    told = {"file": file.name, "appointments": len(changes), **counts}
    return told | {"ignored": maker.ignored(file), "mistakes": [str(each) for each in mistakes]}


def _show(told: dict[str, Any]) -> None:
    name, mistakes, ignored = told["file"], told["mistakes"], told["ignored"]
    if ignored:
        more = f" and {len(ignored) - SHOWN} more" if len(ignored) > SHOWN else ""
        print(
            f"{name}: patients are not found by identifiers of {', '.join(ignored[:SHOWN])}{more}: the table identifier-systems-medmij has the others",
            file=sys.stderr,
        )
    for each in mistakes[:SHOWN]:
        print(f"{name}: {each}", file=sys.stderr)
    if mistakes:
        more = f" ({len(mistakes) - SHOWN} more not shown)" if len(mistakes) > SHOWN else ""
        print(f"{name}: nothing of it was loaded{more}", file=sys.stderr)
        return
    what = "1 appointment" if told["appointments"] == 1 else f"{told['appointments']} appointments"
    print(f"{name}: {what}: {told['created']} new, {told['updated']} updated, {told['stale']} older than what is there")


def _bytes(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot be read ({error.strerror})", where=name) from None


def _identifiers(path: Path | None) -> "dict[str, tuple[Identifier, ...]]":
    """The CSV's rows by the Patient's id. No error repeats a value."""
    if path is None:
        return {}
    try:
        rows = list(csv.DictReader(_bytes(str(path)).decode("utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        raise SettingsError("is not UTF-8: save it as CSV UTF-8", where=str(path)) from None
    found: dict[str, tuple[Identifier, ...]] = {}
    for number, row in enumerate(rows, 2):
        patient, system, value = ((row.get(column) or "").strip() for column in COLUMNS)
        if not (patient and system and value):
            raise SettingsError(f"the columns {', '.join(COLUMNS)} have to be there and filled", where=f"{path}:{number}")
        found[patient] = (*found.get(patient, ()), (system, value))
    return found
