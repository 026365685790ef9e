"""Whose numbers are whose in the store of appointments: shown, joined, parted, forgotten; and whose one appointment is. Nothing here shows a number, a name or an appointment.

Without --yes what would be done is shown, and nothing is done. Done twice, each changes nothing the second time.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from pipeline.commands import DONE, json_argument, operator, settings_argument
from pipeline.errors import Refused, SettingsError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from pipeline.appointments.port import Deed, Done, Key, Person
    from pipeline.appointments.sql import SqlStore
    from pipeline.pseudonyms import Pseudonyms

    Actions = _SubParsersAction[ArgumentParser]

NOT_YET: Final = "nothing was done: --yes does it"
MOST: Final = 100
LARGEST: Final = 1_000_000
HELP: Final = {
    "persons": "show which numbers are one person's, and what was done to them",
    "join": "make one person of those who have these numbers",
    "part": "make these numbers a person of their own, with the appointments that came with them",
    "forget": "remove a person with all appointments, or one appointment",
    "release": "leave an appointment with whoever has it as it is, and its number to another patient; his again if it is booked for him since",
    "audit": "show what was done to persons, newest first",
}


def configure(actions: "Actions") -> None:
    """The arguments of each."""
    parsers = {name: actions.add_parser(name, help=text) for name, text in HELP.items()}
    for name in ("persons", "join", "part", "forget", "release"):
        text = "a number of the person, as urn:oid:1.2.3|4711; several times for several; - reads them from stdin, one on a line"
        parsers[name].add_argument("--key", action="append", default=[], metavar="SYSTEM|VALUE", help=text)
    for name in ("join", "part", "forget", "release"):
        parsers[name].add_argument("--why", required=True, metavar="TEXT", help="for the audit; no patient data")
        parsers[name].add_argument("--yes", action="store_true", help="do it; without it what would be done is shown")
    text = "where appointments go that came with numbers of both sides, or from before that was kept"
    parsers["part"].add_argument("--both", choices=("stay", "go"), help=text)
    text = "this one appointment, by the id that map shows in its path; with --key of that person alone, else of all who have it"
    for name in ("forget", "release"):
        parsers[name].add_argument("--appointment", metavar="ID", required=name == "release", help=text)
    parsers["audit"].add_argument("--most", type=int, default=MOST, metavar="N", help=f"lines (else {MOST})")
    for parser in parsers.values():
        json_argument(parser, "the answer")
        settings_argument(parser)


def run(arguments: Namespace) -> int:
    """One of HELP."""
    from pipeline import settings, wiring

    loaded = settings.load(settings.find(arguments.settings))
    pseudonyms = wiring.pseudonyms_of(loaded)
    if arguments.what == "audit":
        if not 1 <= arguments.most <= LARGEST:
            raise SettingsError(f"from 1 to {LARGEST}", where="--most")
        with _opened(loaded) as store:
            return _audit(arguments, store, pseudonyms)
    keys = _keys(arguments, pseudonyms)
    if getattr(arguments, "why", "said").strip() == "":
        raise SettingsError("say why, for the audit", where="--why")
    with _opened(loaded) as store:
        if arguments.what == "persons":
            return _say(arguments, _Seen(keys, store, pseudonyms), "")
        from pipeline.appointments.port import Deed

        deed = Deed(operator(), pseudonyms.seal(arguments.why))
        does = {"join": _join, "part": _part, "forget": _forget, "release": _release}[arguments.what]
        return does(arguments, _Seen(keys, store, pseudonyms), deed)


@contextmanager
def _opened(loaded: Any) -> "Iterator[SqlStore]":  # noqa: ANN401 - Settings, imported late
    from pipeline import wiring

    store = wiring.store_of(loaded)
    try:
        yield store
    finally:
        store.close()


def _keys(arguments: Namespace, pseudonyms: "Pseudonyms") -> "tuple[Key, ...]":
    from pipeline.appointments.changes import keys_of
    from pipeline.commands.appointments.making import whole

    given = [
        line for each in arguments.key for line in (sys.stdin.read().splitlines() if each == "-" else [each]) if line.strip()
    ]
    found: list[Key] = []
    for number, text in enumerate(given, 1):
        system, bar, value = text.partition("|")
        keys = keys_of([whole(system.strip(), value.strip())], pseudonyms) if bar else ()
        if not keys:
            raise SettingsError(
                f"number {number} is not SYSTEM|VALUE, or a BSN that is none (quote it: the shell takes | for a pipe)",
                where="--key",
            )
        found += keys
    named = getattr(arguments, "appointment", None)
    if named is not None and not named.strip():
        raise SettingsError("an id, as map shows it", where="--appointment")  # with --key the whole person would be meant
    if not found and not named:
        raise SettingsError(
            "give the person's numbers" + (", or --appointment" if arguments.what == "forget" else ""), where="--key"
        )
    return tuple(dict.fromkeys(found))


class _Seen:
    """The numbers that were asked for, and whose they are now."""

    def __init__(self, keys: "tuple[Key, ...]", store: "SqlStore", pseudonyms: "Pseudonyms") -> None:
        self.keys, self.store, self.pseudonyms = keys, store, pseudonyms
        self.hashes = frozenset(key.hash for key in keys)

    @property
    def persons(self) -> "tuple[Person, ...]":
        """As they are."""
        return self.store.persons(self.hashes)

    def whose(self, persons: "tuple[Person, ...]") -> list[int | None]:
        """Of each number the person, in the order in which they were given."""
        return [next((one.id for one in persons if key.hash in one.asked), None) for key in self.keys]


def _join(arguments: Namespace, seen: _Seen, deed: "Deed") -> int:
    persons = seen.persons
    if len(seen.keys) < 2:  # noqa: PLR2004 - two make one
        raise SettingsError("two numbers at least", where="--key")
    if len(persons) == 1 and None not in seen.whose(persons):
        return _say(arguments, seen, "they are one person already: nothing to do")
    soles = sum(one.sole for one in persons)
    if soles > 1:
        raise Refused("they have each a BSN of their own: part or forget the wrong one first")
    if not arguments.yes:
        return _say(
            arguments, seen, f"they would be one person with {_count(sum(one.appointments for one in persons))}; {NOT_YET}"
        )
    seen.store.join(seen.keys, deed)
    return _say(arguments, seen, "they are one person")


def _part(arguments: Namespace, seen: _Seen, deed: "Deed") -> int:
    from pipeline.appointments.port import Both

    persons = seen.persons
    if len(persons) == 1 and len(persons[0].asked) == persons[0].keys == len(seen.keys):
        return _say(arguments, seen, "these numbers are a person of their own already: nothing to do")
    both = None if arguments.both is None else Both(arguments.both)
    if len(persons) == 1 and None not in seen.whose(persons) and not arguments.yes:
        one = persons[0]
        of_both = f", and {_count(one.both)} that came with numbers of both sides" if one.both else ""
        go = f" ({'they ' + arguments.both if both else 'say --both stay or --both go'})" if one.both else ""
        return _say(arguments, seen, f"they would be a person of their own with {_count(one.came)}{of_both}{go}; {NOT_YET}")
    seen.store.part(seen.hashes, both, deed)
    return _say(arguments, seen, "these numbers are a person of their own")


def _forget(arguments: Namespace, seen: _Seen, deed: "Deed") -> int:
    if arguments.appointment:
        return _withdraw(arguments, seen, deed)
    persons = seen.persons
    if not persons:
        if arguments.yes:  # what a cancel said that showed nothing
            seen.store.forget(seen.hashes, deed)
        return _say(arguments, seen, "nobody is known by it: nothing to do")
    if not arguments.yes and len(persons) == 1:
        return _say(
            arguments, seen, f"the person, every number and {_count(persons[0].appointments)} would be removed; {NOT_YET}"
        )
    seen.store.forget(seen.hashes, deed)
    return _say(arguments, seen, "removed; what is in topics stays there, and a replay would bring it back")


NO_SUCH: Final = "there is no such appointment: nothing to do"


def _withdraw(arguments: Namespace, seen: _Seen, deed: "Deed") -> int:
    having = seen.store.having(arguments.appointment, seen.hashes)
    if not having:
        return _say(arguments, seen, NO_SUCH)
    if not arguments.yes:
        return _say(arguments, seen, f"the appointment would be removed from {_plural(having, 'person')}; {NOT_YET}")
    had = seen.store.withdraw(arguments.appointment, seen.hashes, deed)
    return _say(arguments, seen, f"the appointment is removed from {_plural(had, 'person')}")


def _release(arguments: Namespace, seen: _Seen, deed: "Deed") -> int:
    having = seen.store.having(arguments.appointment, seen.hashes)
    if not having:
        return _say(arguments, seen, NO_SUCH)
    stays = "stay as it is, and its number would be free for another patient"
    if not arguments.yes:
        return _say(arguments, seen, f"the appointment of {_plural(having, 'person')} would {stays}; {NOT_YET}")
    had = seen.store.release(arguments.appointment, seen.hashes, deed)
    return _say(
        arguments, seen, f"the appointment of {_plural(had, 'person')} stays as it is; its number is free for another patient"
    )


# shown


def _say(arguments: Namespace, seen: _Seen, done: str) -> int:
    import json

    persons = seen.persons if seen.keys else ()
    whose = seen.whose(persons)
    if arguments.json:
        told = [_told(one, seen.pseudonyms) for one in persons]
        print(json.dumps({"numbers": whose, "persons": told, "done": done or None}, indent=2))
        return DONE
    for number, person in enumerate(whose, 1):
        print(f"number {number}: {'nobody is known by it' if person is None else f'person {person}'}")
    if len(whose) > 1:
        print("one person" if len(set(whose)) == 1 and None not in whose else "not one person")
    for one in persons:
        sole = ", a BSN among them" if one.sole else ""
        print(f"person {one.id}: {_plural(one.keys, 'number')}{sole}; {_count(one.appointments)}")
        for line in one.done:
            print(f"  {_line(line, seen.pseudonyms)}")
    if done:
        print(done)
    return DONE


def _audit(arguments: Namespace, store: "SqlStore", pseudonyms: "Pseudonyms") -> int:
    import json

    lines = store.done(arguments.most)
    if arguments.json:
        print(json.dumps([_told_done(line, pseudonyms) for line in lines], indent=2))
    else:
        for line in lines:
            print(_line(line, pseudonyms))
    return DONE


def _told(one: "Person", pseudonyms: "Pseudonyms") -> dict[str, Any]:
    counts = {"numbers": one.keys, "bsn": one.sole, "appointments": one.appointments, "came": one.came, "both": one.both}
    return {"person": one.id, **counts, "done": [_told_done(line, pseudonyms) for line in one.done]}


def _told_done(line: "Done", pseudonyms: "Pseudonyms") -> dict[str, Any]:
    return line._asdict() | {"why": pseudonyms.unseal(line.why) if line.why else None}


def _line(line: "Done", pseudonyms: "Pseudonyms") -> str:
    at = datetime.fromtimestamp(line.at_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    other = "" if line.other in {None, line.person} else f" and {line.other}"
    why = f": {pseudonyms.unseal(line.why)}" if line.why else ""
    went = f"{_plural(line.keys, 'number')}, {_count(line.appointments)}"
    return f"{at} person {line.person}{other} {line.did} by {line.who} ({went}){why}"


def _count(number: int) -> str:
    return _plural(number, "appointment")


def _plural(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
