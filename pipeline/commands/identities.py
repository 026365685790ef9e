"""The patients (and visits, coverages) that a partner knows: brought into the ledger, shown as it has them, or taken out where it has them not.

import reads CSV with the columns kind, system, value, partner_id (comma or semicolon; partner_id may be empty): kind is patient, visit, coverage or result,
system and value are the identifier as the partner's mapping has it, partner_id is the partner's own id. Of NJSAMS, which keeps each provider's
records apart, a fifth column, under, has the provider id (setting facilities); with one facility it may be left out. All rows are checked first; one that is wrong, and nothing
is imported. A row that replaces the partner id of a patient who is known already is named.
export shows hashes instead of values: the ledger has nothing else. forget reads the same CSV (partner_id does not matter, and may be left
out) and refuses all where the ledger does not know one of them. Who and why stands in the ledger's audit (no patient data in --why, please): trace shows it
of a create or merge that it ended. A line of the log says who and how many, without values.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipeline.commands import DONE, REFUSED, WRONG, json_argument, operator, settings_argument
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from pipeline.ledger.sql import SqlLedger
    from pipeline.model import Learned
    from pipeline.partners.port import Partner
    from pipeline.settings import Settings

EXAMPLE: Final = """  emr-pipeline identities import --partner roche patients.csv
  emr-pipeline identities export --partner roche --json
  emr-pipeline identities forget --partner roche gone-there.csv --why 'their service desk, ticket 12'"""
COLUMNS: Final = ("kind", "system", "value", "partner_id")
UNDER: Final = "under"
"""A fifth one, where the partner keeps each sender's records apart: of NJSAMS the provider id."""
SHOWN: Final = 20
"""Mistakes of a file that are named one by one."""


def configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="what", metavar="ACTION", required=True)
    import_ = actions.add_parser("import", help="bring in the patients that the partner knows already")
    import_.add_argument("file", metavar="FILE", help="CSV in UTF-8, - for stdin")
    export = actions.add_parser("export", help="show what the ledger has")
    forget = actions.add_parser(
        "forget", help="say that the partner does not have these patients: their next message creates them"
    )
    forget.add_argument("file", metavar="FILE", help="CSV in UTF-8 as for import, - for stdin; partner_id may be left out")
    forget.add_argument("--why", "--reason", required=True, metavar="TEXT", help="for the audit; no patient data")
    for action, what in ((import_, "what was imported"), (export, "each identity on a line"), (forget, "what was forgotten")):
        action.add_argument("--partner", metavar="P", help="a partner of the settings (not needed where there is one)")
        json_argument(action, what)
        settings_argument(action)


def run(arguments: Namespace) -> int:
    from pipeline import settings

    loaded = settings.load(settings.find(arguments.settings))
    arguments.partner = _name(loaded, arguments.partner)
    if loaded.partners[arguments.partner].kind == "medmij" and arguments.what != "export":
        raise SettingsError(
            "whose numbers are whose stands in the store of appointments: emr-pipeline appointments persons, join, part, forget",
            where="--partner",
        )
    return {"import": _import, "export": _export, "forget": _forget}[arguments.what](
        arguments, loaded, _partner(arguments, loaded)
    )


def _name(loaded: "Settings", name: str | None) -> str:
    """In the settings: by that the ledger knows whose patients they are. The contract's own name is that of its kind."""
    there = ", ".join(sorted(loaded.partners))
    if name is None and len(loaded.partners) != 1:
        raise SettingsError(f"several partners, name one of {there}", where="--partner")
    name = name or next(iter(loaded.partners))
    if name not in loaded.partners:
        raise SettingsError(f"no such partner in the settings; there is {there}", where="--partner")
    return name


def _partner(arguments: Namespace, loaded: "Settings") -> "Partner":
    from pipeline import wiring

    return wiring.partner_of(loaded, arguments.partner, wiring.catalogue_of(loaded))


@contextmanager
def _ledger(loaded: "Settings") -> "Iterator[SqlLedger]":
    from pipeline.ledger.open import open_ledger

    ledger = open_ledger(loaded)
    try:
        yield ledger
    finally:
        ledger.close()


def _import(arguments: Namespace, loaded: "Settings", there: "Partner") -> int:
    import json

    partner = arguments.partner
    rows, wrong = placed(*read(_lines(arguments.file)), there.unders)
    if wrong:
        return _refuse(arguments, wrong, "wrong, nothing was imported", WRONG)
    with _ledger(loaded) as ledger:
        ledger.check()
        replaced = _replaced(ledger, loaded, partner, rows)
        changed = ledger.import_identities(partner, [row for _, row in rows])
    if arguments.json:
        print(json.dumps({"partner": partner, "rows": len(rows), "changed": changed, "replaced": replaced}))
        return DONE
    print(f"{len(rows)} {'identity' if len(rows) == 1 else 'identities'} of {partner} read, {changed} new or changed")
    if replaced:
        lines = ", ".join(map(str, replaced[:SHOWN])) + (", …" if len(replaced) > SHOWN else "")
        print(f"{len(replaced)} of them replaced another partner id of a known patient: line {lines} of {arguments.file}")
    return DONE


def _replaced(ledger: "SqlLedger", loaded: "Settings", partner: str, rows: "list[tuple[int, Learned]]") -> list[int]:
    """Lines whose patient the ledger knows under another partner id: right after a change at the partner, else a wrong file."""
    from pipeline.pseudonyms import Pseudonyms

    there = {value_hash: partner_id for _, _, value_hash, partner_id in ledger.export_identities(partner)}
    if not there:
        return []
    pseudonyms = Pseudonyms(loaded.keys.patient_hash.read("keys.patient_hash"))
    replaced: list[int] = []
    for line, row in rows:
        known = there.get(pseudonyms.identity(row.identity.kind, row.identity.system, row.identity.value, row.identity.under))
        if None not in {known, row.partner_id} and known != row.partner_id:
            replaced.append(line)
    return replaced


def _forget(arguments: Namespace, loaded: "Settings", there: "Partner") -> int:
    import json
    import os

    from pipeline import wiring
    from pipeline.ledger.plans import Deed, What
    from pipeline.telemetry import LogEvent, log

    if not arguments.why.strip():
        raise SettingsError("say why, for the audit", where="--why")
    partner = arguments.partner
    rows, wrong = placed(*read(_lines(arguments.file), without_id=True), there.unders)
    if wrong:
        return _refuse(arguments, wrong, "wrong, nothing was forgotten", WRONG)
    with _ledger(loaded) as ledger:
        if not ledger.exists():
            raise SettingsError(f"nothing has run yet: there is no {ledger.place}", where="identities forget")
        ledger.check()
        unknown = set(ledger.unknown(partner, [row.identity for _, row in rows]))
        if unknown:
            not_there = [(line, f"{partner} is not known to have it") for line, row in rows if row.identity in unknown]
            return _refuse(arguments, not_there, "not known, nothing was forgotten", REFUSED)
        deed = Deed(wiring.clock(), operator(), What.FORGET, arguments.why)
        ledger.forget(partner, [row.identity for _, row in rows], by_operator=True, deed=deed)
    log(
        LogEvent.IDENTITIES_FORGOTTEN,
        partner=partner,
        identities=len(rows),
        by=os.environ.get("SUDO_USER") or os.environ.get("USER") or f"uid {os.getuid()}",
    )
    if arguments.json:
        print(json.dumps({"partner": partner, "forgotten": len(rows)}))
    else:
        what = "identity" if len(rows) == 1 else "identities"
        print(f"{len(rows)} {what} of {partner} forgotten: the patient's next message creates")
    return DONE


def _refuse(arguments: Namespace, wrong: "list[tuple[int, str]]", what: str, code: int) -> int:
    for line, mistake in wrong[:SHOWN]:
        print(f"{arguments.file}:{line}: {mistake}", file=sys.stderr)
    more = f" ({len(wrong) - SHOWN} more not shown)" if len(wrong) > SHOWN else ""
    count = "1 row is" if len(wrong) == 1 else f"{len(wrong)} rows are"
    print(f"emr-pipeline identities: {count} {what}{more}", file=sys.stderr)
    return code


def _export(arguments: Namespace, loaded: "Settings", _there: "Partner") -> int:
    import csv
    import json

    with _ledger(loaded) as ledger:
        if not ledger.exists():
            print(f"nothing has run yet: there is no {ledger.place}", file=sys.stderr)
            return DONE
        ledger.check_key()
        names = ("kind", "system", "value_hash", "partner_id")
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if not arguments.json:
            writer.writerow(names)
        for row in ledger.export_identities(arguments.partner):
            if arguments.json:
                print(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False))
            else:
                writer.writerow("" if cell is None else cell for cell in row)
    return DONE


def _lines(name: str) -> list[str]:
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise SettingsError(f"cannot be read ({error.strerror})", where=name) from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise SettingsError("is not UTF-8: save it as CSV UTF-8", where=f"{name}:{line}") from None


def read(lines: Iterable[str], *, without_id: bool = False) -> "tuple[list[tuple[int, Learned]], list[tuple[int, str]]]":
    """The rows with their line numbers, and line number and mistake of each that is wrong. No mistake repeats a value.

    `without_id`: the column partner_id may be missing.
    """
    import csv

    lines = list(lines)
    head = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=";" if head.count(";") > head.count(",") else ",", strict=True)
    rows: list[tuple[int, Learned]] = []
    wrong: list[tuple[int, str]] = []
    there: dict[object, int] = {}
    try:
        header = tuple(cell.strip() for cell in next(reader, []))
        if header not in {COLUMNS, (*COLUMNS, UNDER)} and not (without_id and header in {COLUMNS[:-1], (*COLUMNS[:-1], UNDER)}):
            return [], [(1, f"the first line has to be {','.join(COLUMNS)}")]
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            row = _row(cells, header)
            if isinstance(row, str):
                wrong.append((reader.line_num, row))
            elif row.identity in there:
                wrong.append((reader.line_num, f"the same identity as in line {there[row.identity]}"))
            else:
                there[row.identity] = reader.line_num
                rows.append((reader.line_num, row))
    except csv.Error:
        wrong.append((reader.line_num, "not CSV: a quote that does not end, or text after one"))
    return rows, wrong


def placed(
    rows: "list[tuple[int, Learned]]", wrong: "list[tuple[int, str]]", unders: "frozenset[str]"
) -> "tuple[list[tuple[int, Learned]], list[tuple[int, str]]]":
    """Each row with whose record it is at the partner: said, or the only one there is. One that nobody's message would find is wrong."""
    only = next(iter(unders)) if len(unders) == 1 else ""
    kept: list[tuple[int, Learned]] = []
    for line, row in rows:
        identity = replace(row.identity, under=row.identity.under or only)
        if (identity.under in unders) if unders else not identity.under:
            kept.append((line, replace(row, identity=identity)))
        else:
            wrong = [
                *wrong,
                (
                    line,
                    "under is no provider id of the partner's settings (facilities)"
                    if unders
                    else "under is not for this partner",
                ),
            ]
    return kept, sorted(wrong)


def _row(cells: list[str], header: tuple[str, ...]) -> "Learned | str":
    from pipeline.model import Identity, Learned, Subject

    if len(cells) != len(header):
        return f"{len(cells)} columns instead of {len(header)}"
    said = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    kind, system, value, partner_id, under = (said.get(name, "") for name in (*COLUMNS, UNDER))
    if kind not in {subject.value for subject in Subject}:
        return f"kind is none of {', '.join(Subject)}"
    if not system or not value:
        return "system is empty" if not system else "value is empty"
    if not all(cell.isprintable() for cell in (system, value, partner_id, under)):
        return "a control character in system, value, partner_id or under"
    return Learned(Identity(Subject(kind), system, value, under=under), partner_id or None)
