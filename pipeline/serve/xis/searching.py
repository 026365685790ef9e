"""A search and a read in the context of one patient. Every way to the store goes through a person that the token names: there is no other.

A next link holds, sealed, how far its search sees, so that no appointment is missed or comes twice while others are written.
"""

import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from pipeline.appointments.port import GONE, Cursor, Found, Page, Store
from pipeline.errors import SettingsError
from pipeline.pseudonyms import Pseudonyms
from pipeline.serve.xis.context import BSN, Context, Identity
from pipeline.serve.xis.dates import EVER
from pipeline.serve.xis.faults import Fault, Kind
from pipeline.serve.xis.queries import CURSOR, Limits, Pair, Patient, Query, one, query
from pipeline.serve.xis.searchset import Links, bundle, url

COUNTED: Final = 1000
"""Appointments of a person that are counted at once."""
NOBODY: Final = "a parameter names a patient who is not the token's: nothing matches"
_PLACE: Final = 5
"""Values in a sealed place."""


class Place(NamedTuple):
    """Where a page begins."""

    person: int
    at: int
    after: Cursor
    now_ms: int
    """When the search began: `ap` means the same on every page."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A Bundle, and how many entries match."""

    body: bytes
    matches: int


@dataclass(frozen=True, slots=True)
class Searching:
    """Searches and reads."""

    store: Store
    pseudonyms: Pseudonyms
    base: str
    zone: ZoneInfo
    limits: Limits
    now_ms: Callable[[], int]

    def person(self, context: Context) -> int | None:
        """Whom the token's identities name here; None where nobody is known by them. Fault 403 where they name two."""
        known = {each: self.store.person(self.pseudonyms.person(*each)) for each in context.identities}
        found = set(known.values()) - {None}
        person = next(iter(found), None)
        if len(found) > 1 or any(self._has_another_bsn(person, each) for each, whose in known.items() if whose is None):
            raise Fault(Kind.FORBIDDEN, "the token names two patients")
        return person

    def _has_another_bsn(self, person: int | None, unknown: Identity) -> bool:
        """A BSN that nobody is known by is no detail: with a number that was given out twice, it tells the one from the other."""
        if person is None or unknown.system != BSN:
            return False
        return self.store.sole_key(person) not in (None, self.pseudonyms.person(*unknown))

    def search(self, context: Context, given: Sequence[Pair], *, strict: bool) -> Answered:
        """The appointments of the token's patient that these parameters ask for."""
        person = self.person(context)
        place = self._place(one(given, CURSOR), person)
        asked = query(given, self.zone, self.now_ms() if place is None else place.now_ms, self.limits, strict=strict)
        mine = all(any(self._is(person, who) for who in each) for each in asked.patients)
        used = (*asked.used, *(self._shown(given, person) if mine else ()))
        told = asked.ignored if mine else (*asked.ignored, NOBODY)
        spans = EVER if asked.spans is None else asked.spans
        if person is None or not mine or not spans:
            return Answered(bundle(self.base, Links(url(self.base, used)), (), 0, told), 0)
        if asked.only_total:
            total = self._total(person, asked)
            return Answered(bundle(self.base, Links(url(self.base, used)), (), total, told), total)
        return self._page(person, asked, used, told, place)

    def _page(self, person: int, asked: Query, used: Sequence[Pair], told: Sequence[str], place: Place | None) -> Answered:
        page = self._wanted(person, asked, asked.count, place and place.after, place and place.at)
        here, onwards = url(self.base, used), None
        if page.after is not None:
            next_place = Place(person, page.at, page.after, self.now_ms() if place is None else place.now_ms)
            onwards = url(self.base, (*used, Pair(CURSOR, self._sealed(next_place))))
        if place is None:
            links = Links(here, here if onwards else None, onwards)
        else:
            links = Links(url(self.base, (*used, Pair(CURSOR, self._sealed(place)))), here, onwards)
        whole = place is None and onwards is None
        # MedMij's tests compare total with the matches of this one Bundle, FHIR counts all pages: it is there where both agree
        return Answered(
            bundle(self.base, links, page.found, len(page.found) if whole else None, told),
            len(page.found),
        )

    def _wanted(self, person: int, asked: Query, count: int, after: Cursor | None, at: int | None) -> Page:
        """A page of what matches; the store looks for dates, and what else was asked for is looked at here."""
        if asked.ids is None and asked.statuses is None:
            return self._found(person, asked, count, after, at)
        found: list[Found] = []
        page = self._found(person, asked, COUNTED, after, at)
        found += (one for one in page.found if _matches(one, asked))
        while page.after is not None and len(found) <= count:
            page = self._found(person, asked, COUNTED, page.after, page.at)
            found += (one for one in page.found if _matches(one, asked))
        shown = tuple(found[:count])
        return Page(shown, Cursor(shown[-1].start_ms, shown[-1].id) if len(found) > count else None, page.at)

    def read(self, context: Context, kind: str, name: str) -> bytes:
        """A resource that an appointment of the token's patient references. Fault 404 where it is another's, or nobody's."""
        person = self.person(context)
        found = None if person is None else self.store.read(person, kind, name)
        if found is GONE:
            raise Fault(Kind.GONE, "it was there, and is not any more")
        if found is None:
            raise Fault(Kind.NOT_FOUND, "there is no such resource for this patient")
        return found

    def _found(self, person: int, asked: Query, count: int, after: Cursor | None, at: int | None) -> Page:
        ranges = () if asked.spans is None else (asked.spans,)
        page = self.store.search(person, ranges, after=after, count=count, at=at, backwards=asked.backwards)
        if page is GONE:
            raise Fault(Kind.PAGE_GONE, "this page is too old: search again from the first one")
        return page

    def _total(self, person: int, asked: Query) -> int:
        page = self._wanted(person, asked, COUNTED, None, None)
        total = len(page.found)
        while page.after is not None:
            page = self._wanted(person, asked, COUNTED, page.after, page.at)
            total += len(page.found)
        return total

    def _is(self, person: int | None, who: Patient) -> bool:
        """Whether the patient whom a parameter names is the token's."""
        if person is None:
            return False
        if who.identifier is not None:
            return self.store.person(self.pseudonyms.person(*who.identifier)) == person
        return who.id is not None and isinstance(self.store.read(person, "Patient", who.id), bytes)

    def _shown(self, given: Sequence[Pair], person: int | None) -> list[Pair]:
        """Parameters that name the token's patient by an id of ours; identifiers stay out of links."""
        ids = [Pair(each.name, each.value) for each in given if each.name in {"patient", "subject", "actor"}]
        return [
            each
            for each in ids
            if all(self._is(person, Patient(id=one.rpartition("Patient/")[2])) for one in each.value.split(","))
        ]

    def _sealed(self, place: Place) -> str:
        values = (place.person, place.at, place.after.start_ms, place.after.id, place.now_ms)
        return self.pseudonyms.seal(orjson.dumps(values).decode())

    def _place(self, sealed: str | None, person: int | None) -> Place | None:
        """Where the page begins that a link of ours names. One of another patient's links leads nowhere, as an old one does."""
        if sealed is None:
            return None
        try:
            values = orjson.loads(self.pseudonyms.unseal(sealed))
        except (SettingsError, ValueError, binascii.Error):  # another key, cut off, made up
            raise Fault(Kind.SYNTAX, f"{CURSOR} is none of our links: search again from the first page") from None
        if not isinstance(values, list) or len(values) != _PLACE:
            raise Fault(Kind.SYNTAX, f"{CURSOR} is none of our links: search again from the first page")
        place = Place(values[0], values[1], Cursor(values[2], values[3]), values[4])
        if place.person != person:
            raise Fault(Kind.PAGE_GONE, "this page is too old: search again from the first one")
        return place


def _matches(found: Found, asked: Query) -> bool:
    return (asked.ids is None or found.id in asked.ids) and (
        asked.statuses is None or orjson.loads(found.body).get("status") in asked.statuses
    )
