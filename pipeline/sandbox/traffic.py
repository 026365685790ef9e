"""Sample traffic: what two demonstration hospitals send in a morning, with what is to become of each message. Same count and seed, same bytes.

EXPECTED says it for the usual 200; `samples` says it for each message, so that a demo and a test can compare. What is expected is
read off the reliability rules and Roche's contract with default settings, the demo site's overlay and a partner without faults,
for a sender that observes `Sample.waits`.
States and reasons are plain text here: the sandbox does not import our vocabularies.
"""

import datetime as dt
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count as counter
from typing import Final

from pipeline.sandbox.his import Adt, Person

REFUSED: Final = "refused"
"""`listen` answers AR (no readable MSH), so it is not on the topic; put there by other ways it is parked as not_hl7."""

START: Final = dt.datetime(2026, 3, 2, 7, 30)  # noqa: DTZ001 - HL7's local time without offset, as these systems write it
STEP: Final = dt.timedelta(seconds=37)


@dataclass(frozen=True, slots=True)
class Expected:
    """So many messages of a kind, and what is to become of them."""

    kind: str
    count: int
    state: str
    reason: str | None
    what: str


EXPECTED: Final = (
    Expected(
        "create",
        70,
        "delivered",
        None,
        "A04, A28, A01, A05 of a new patient: half Spanish, half Dutch and German; two of three diabetic",
    ),
    Expected("create_odd", 3, "delivered", None, "a birth date that does not exist: costs the field, not the message"),
    Expected("update", 64, "delivered", None, "A08 or A31 of a patient created before"),
    Expected("null", 4, "delivered", None, 'A08 with an explicit null ("") for the telephone: deletes it'),
    Expected("duplicate", 12, "duplicate", None, "the same bytes once more"),
    Expected("stale", 6, "superseded", "stale", "A08 of yesterday, after today's was delivered"),
    Expected("visit", 16, "filtered", "partner_has_no_visit", "A02, A03, A11: a visit changes"),
    Expected("delete", 2, "filtered", "partner_has_no_delete", "A29"),
    Expected("training", 2, "filtered", "not_production", "MSH-11 is T"),
    Expected("other", 2, "filtered", "event_not_for_partner", "A60: allergies"),
    Expected("merge", 3, "filtered", "merge_leaves_two", "A40, the partner has both patients"),
    Expected("merge_unknown", 2, "filtered", "partner_has_no_merge", "A40, the prior patient was never sent"),
    Expected("merge_rekey", 2, "parked", "merge_needs_rekey", "A40, the partner has the prior patient only"),
    Expected("system", 4, "parked", "identifier_system", "PID-3 of an assigning authority that Roche does not take"),
    Expected("nameless", 3, "parked", "profile_required", "PID-5 without a family name"),
    Expected("no_id", 2, "parked", "patient_missing", "PID-3 is empty"),
    Expected("unlisted", 1, "parked", "event_unlisted", "ADT^Z99"),
    Expected("garbage", 2, REFUSED, "not_hl7", "bytes that are no HL7"),
)
"""Of the usual 200 messages."""

USUAL: Final = sum(one.count for one in EXPECTED)


@dataclass(frozen=True, slots=True)
class Sample:
    """A message and what is to become of it."""

    bytes: bytes = field(repr=False)
    kind: str
    state: str
    reason: str | None
    patient: str | None
    """The value of its identifier that the partner takes."""
    waits: bool = False
    """It is to be sent when all before it are settled: a merge's patients may lie on two partitions, and then nothing else keeps their order."""


def messages(count: int = USUAL, seed: int = 1) -> list[bytes]:
    """`count` messages, without frames, in the order of sending."""
    return [one.bytes for one in samples(count, seed)]


def samples(count: int = USUAL, seed: int = 1) -> list[Sample]:
    """The same, each with its expectation; beyond the usual 200, further rounds with other patients; fewer, the first ones."""
    found: list[Sample] = []
    for number in counter():
        if len(found) >= count:
            break
        found += _Round(number, seed).samples()
    return found[:count]


def expected(count: int = USUAL, seed: int = 1) -> dict[tuple[str, str | None], int]:
    """How many end in each (state, reason)."""
    totals: dict[tuple[str, str | None], int] = {}
    for one in samples(count, seed):
        totals[one.state, one.reason] = totals.get((one.state, one.reason), 0) + 1
    return totals


Write = Callable[[str, dt.datetime], Adt]
"""A message, once its control id and its time are known."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message in the story of a patient, before it has its place among the others."""

    kind: str
    write: Write | None
    """None: the story's previous message again, or garbage."""


class _Round:
    """Some 80 patients with their stories, mixed as a morning mixes them; the order within a story stays."""

    def __init__(self, number: int, seed: int) -> None:
        self._number = number
        self._random = random.Random(f"{seed}/{number}")  # noqa: S311 - the same every time, on purpose
        self._people = (Person(number * 1000 + one) for one in counter(1))
        self._left = {one.kind: one.count for one in EXPECTED}

    def _garbage(self) -> bytes:
        """Bytes that are no HL7, and none of MLLP's own: those would make several frames of one."""
        return self._random.randbytes(200).translate(None, b"\x0b\x1c")

    def samples(self) -> Iterator[Sample]:
        """In the order of sending."""
        expectations = {one.kind: one for one in EXPECTED}
        previous: dict[int, bytes] = {}
        merging = False
        for place, (story, turn) in enumerate(self._mixed(self._stories())):
            when = START + dt.timedelta(days=self._number) + STEP * place
            adt = turn.write(f"D{self._number:02}{place:06}", when) if turn.write else None
            raw = adt.bytes() if adt else previous.get(story, self._garbage())
            previous[story] = raw
            patient = adt.person.identifier if adt else None
            wanted = expectations[turn.kind]
            first_merge = turn.kind.startswith("merge") and not merging
            merging = merging or first_merge
            yield Sample(raw, turn.kind, wanted.state, wanted.reason, patient, waits=first_merge)

    def _mixed(self, stories: list[list[_Turn]]) -> list[tuple[int, _Turn]]:
        """Merges come last and what they merge comes first: two patients may lie on two partitions, and then nothing else keeps their order."""
        first: list[int] = []
        middle: list[int] = []
        last: list[int] = []
        for number, story in enumerate(stories):
            merging = any(turn.kind.startswith("merge") for turn in story)
            for turn in story:
                (middle if not merging else last if turn.kind.startswith("merge") else first).append(number)
        self._random.shuffle(middle)
        following = [iter(story) for story in stories]
        return [(number, next(following[number])) for number in first + middle + last]

    def _take(self, kind: str) -> bool:
        """Whether there is still one of this kind to be written."""
        self._left[kind] -= 1
        return self._left[kind] >= 0

    def _stories(self) -> list[list[_Turn]]:
        stories = [self._merge() for _ in range(3)]
        stories += [self._rekey() for _ in range(2)] + [self._merge_unknown() for _ in range(2)]
        while self._take("create"):
            stories.append(self._life(next(self._people)))
        while self._take("create_odd"):
            person = next(self._people)
            stories.append([_Turn("create_odd", _adt(person, "A28", birth="19840231"))])
        for kind, write in _ALONE.items():
            while self._take(kind):
                stories.append([_Turn(kind, write(next(self._people)) if write else None)])
        self._spread(stories, "update")
        return stories

    def _life(self, person: Person) -> list[_Turn]:
        """A patient is created, and then some of what happens to patients."""
        turns = [_Turn("create", _adt(person, ("A04", "A28", "A01", "A05")[person.number % 4]))]
        if person.number % 5 == 0 and self._take("duplicate"):
            turns.append(_Turn("duplicate", None))
        for kind, trigger, every in (("visit", ("A03", "A11", "A02")[person.number % 3], 3), ("null", "A08", 7)):
            if person.number % every == 0 and self._take(kind):
                turns.append(_Turn(kind, _adt(person, trigger, telecom='""' if kind == "null" else None)))
        if person.number % 4 == 1 and self._left["stale"] > 0 and self._take("update") and self._take("stale"):
            turns += [_Turn("update", _adt(person, "A08", version=1)), _Turn("stale", _adt(person, "A08", days=-1))]
        return turns

    def _spread(self, stories: list[list[_Turn]], kind: str) -> None:
        """What is left of updates goes to those who have been created; what is left of duplicates, behind them."""
        lives = [
            story for story in stories if story[0].kind == "create" and not any(one.kind.startswith("merge") for one in story)
        ]
        for number in counter():
            story = lives[number % len(lives)]
            assert story[0].write is not None  # noqa: S101 - a create is always written
            person = story[0].write("", START).person
            if not self._take(kind):
                break
            story.append(_Turn(kind, _adt(person, "A31" if person.number % 2 else "A08", version=2 + number)))
            if number % 6 == 0 and self._take("duplicate"):
                story.append(_Turn("duplicate", None))
        self._left["duplicate"] = max(self._left["duplicate"], 0)
        for rest in ("duplicate", "visit", "null"):
            while self._take(rest):
                story = self._random.choice([one for one in lives if one[-1].kind in {"create", "update"}])
                person = (story[0].write or _adt(next(self._people), "A04"))("", START).person
                write = {"visit": _adt(person, "A03"), "null": _adt(person, "A08", telecom='""')}.get(rest)
                story.append(_Turn(rest, write))

    def _merge(self) -> list[_Turn]:
        """What comes of the prior patient afterwards is not in here: it may be read before the merge, and then its end is another."""
        prior, survivor = next(self._people), next(self._people)
        turns = [_Turn("create", _adt(prior, "A04")), _Turn("create", _adt(survivor, "A04"))]
        turns.append(_Turn("merge", _adt(survivor, "A40", prior=prior)))
        for turn in turns:
            self._take(turn.kind)
        return turns

    def _rekey(self) -> list[_Turn]:
        prior, survivor = next(self._people), next(self._people)
        turns = [_Turn("create", _adt(prior, "A04")), _Turn("merge_rekey", _adt(survivor, "A40", prior=prior))]
        for turn in turns:
            self._take(turn.kind)
        return turns

    def _merge_unknown(self) -> list[_Turn]:
        prior, survivor = next(self._people), next(self._people)
        turns = [_Turn("create", _adt(survivor, "A04")), _Turn("merge_unknown", _adt(survivor, "A40", prior=prior))]
        for turn in turns:
            self._take(turn.kind)
        return turns


def _adt(
    person: Person,
    trigger: str,
    *,
    version: int = 0,
    days: int = 0,
    processing: str = "P",
    pid3: str | None = None,
    name: str | None = None,
    birth: str | None = None,
    telecom: str | None = None,
    prior: Person | None = None,
) -> Write:
    """A message that waits for its control id and time."""

    def write(control_id: str, when: dt.datetime) -> Adt:
        return Adt(
            person,
            trigger,
            control_id,
            when + dt.timedelta(days=days),
            version=version,
            processing=processing,
            pid3=pid3,
            name=name,
            birth=birth,
            telecom=telecom,
            prior=prior,
        )

    return write


_ALONE: Final[dict[str, Callable[[Person], Write] | None]] = {
    "delete": lambda person: _adt(person, "A29"),
    "training": lambda person: _adt(person, "A04", processing="T"),
    "other": lambda person: _adt(person, "A60"),
    "system": lambda person: _adt(person, "A04", pid3=f"{person.identifier}^^^OTHERHOSP^PI"),
    "nameless": lambda person: _adt(person, "A04", name="^Ana^^^^^L"),
    "no_id": lambda person: _adt(person, "A04", pid3=""),
    "unlisted": lambda person: _adt(person, "Z99"),
    "garbage": None,
}
"""Messages of patients of whom nothing else comes."""
