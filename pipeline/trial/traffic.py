"""Seeded traffic: creates, updates, second creates, merges, several identifiers, hot patients, garbage. Each message knows what is to become of it.

All that could name a person in it is a canary: a text that exists nowhere else, so that it can be looked for in every log, result and row.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from schemas.outcomes import State

DAY: Final = "202405"
"""The month in which all happens: a minute per message from its first day on."""


@dataclass(frozen=True, slots=True)
class Patient:
    """A person who does not exist."""

    number: int
    seed: int
    several: bool = False
    """Has a second identifier that the partner takes."""

    @property
    def name(self) -> str:
        """The identifier that the partner knows it by."""
        return f"{self.seed % 1000:03}7{self.number:05}QZ"

    @property
    def second(self) -> str:
        """An identifier of another authority, of those who have several."""
        return f"MT{self.seed % 1000:03}8{self.number:05}"

    @property
    def identifiers(self) -> tuple[str, ...]:
        """What the partner takes."""
        return (self.name, self.second) if self.several else (self.name,)

    @property
    def canaries(self) -> dict[str, str]:
        """What may be found nowhere but in payload topics and at the partner."""
        tail = f"{self.seed % 1000:03}{self.number:04}"
        return {
            "patient id": self.name,
            "second id": self.second,
            "MRN": f"MRN99{tail}",
            "BSN": f"99{tail}",
            "SSN": f"9{self.seed % 100:02}-65-{self.number:04}",
            "visit": f"VIS8{tail}",
            "policy": f"POL7{tail}",
            "family name": f"Kanarievogel{tail}",
            "given name": f"Zwaantje{tail}",
            "street": f"Lijsterlaan{tail}",
            "phone": f"06{tail}55",
            "e-mail": f"merel{tail}@example.org",
        }

    @property
    def birth(self) -> str:
        """No canary: too short to be found nowhere by chance."""
        return f"19{self.number % 80 + 10}0203"


@dataclass(frozen=True, slots=True)
class Message:
    """One record of the source topic."""

    value: bytes | None = field(repr=False)
    key: bytes | None = field(default=None, repr=False)
    patient: str | None = None
    """The name of the patient whom it is about; None where nobody can read that."""
    minute: int = 0
    """Its event time, in minutes of the traffic."""
    event: str = ""
    becomes: State = State.DELIVERED


@dataclass(frozen=True)
class Traffic:
    """What is sent, in order."""

    messages: tuple[Message, ...]
    patients: tuple[Patient, ...] = ()

    @property
    def states(self) -> Counter[State]:
        """What is to become of it, where nothing goes wrong that lasts."""
        return Counter(message.becomes for message in self.messages)

    @property
    def created(self) -> frozenset[str]:
        """The patients whom the partner is to have."""
        return frozenset(message.patient for message in self.messages if message.patient and message.becomes is State.DELIVERED)

    @property
    def canaries(self) -> dict[str, str]:
        """All of them: the text, and what it is."""
        return {text: f"{what} of patient {one.number}" for one in self.patients for what, text in one.canaries.items()}

    def patient_of(self, identifier: str) -> str | None:
        """The name of the patient who has this identifier."""
        return self._names.get(identifier)

    @cached_property
    def _names(self) -> Mapping[str, str]:
        return {identifier: one.name for one in reversed(self.patients) for identifier in one.identifiers}

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.messages + other.messages, tuple(dict.fromkeys(self.patients + other.patients)))


def when(minute: int) -> str:
    """HL7's form of a minute of the traffic."""
    return f"{DAY}{1 + minute // 1440:02}{minute % 1440 // 60:02}{minute % 60:02}00+0200"


def adt(
    patient: Patient,
    event: str,
    minute: int,
    *,
    prior: Patient | None = None,
    control_id: str | None = None,
    time: str | None = None,
    family: str | None = None,
) -> bytes:
    """A message with all that a hospital sends of a person; its control id is told by its minute unless another is given."""
    has = patient.canaries
    at = when(minute) if time is None else time
    identifiers = [f"{patient.name}^^^CIP^PI", f"{has['MRN']}^^^LOCAL^MR", f"{has['BSN']}^^^NLMINBIZA^NNNLD"]
    identifiers += [f"{patient.second}^^^METEDA^PI"] if patient.several else []
    name = f"{family or has['family name']}^{has['given name']}^^^^^L"
    address = f"{has['street']} 1&{has['street']}&1^^Utrecht^^3511AB^NLD^H"
    telecoms = f"{has['phone']}^PRN^CP~^NET^Internet^{has['e-mail']}"
    pid = ["PID", "1", "", "~".join(identifiers), "", name, "", patient.birth, "F", "", "", address, "", telecoms]
    pid += ["", "", "", "", "", has["SSN"]]
    segments = [
        f"MSH|^~\\&|HIS|CLINIC|EMR|PIPELINE|{at}||ADT^{event}|{control_id or f'C{patient.number:04}{minute:05}'}|P|2.5",
        f"EVN|{event}|{at}",
        "|".join(pid),
        *([f"MRG|{prior.name}^^^CIP^PI"] if prior else []),
        "DG1|1||E10.9^Diabetes mellitus type 1^I10|||A",
    ]
    return "\r".join(segments).encode()


def seeded(
    seed: int,
    *,
    patients: int = 12,
    updates: int = 2,
    several: float = 0.25,
    again: float = 0.25,
    hot: int = 1,
    merges: int = 1,
    garbage: int = 1,
) -> Traffic:
    """The same traffic for the same seed.

    Of `patients`, a share has several identifiers, a share a second A04, and `hot` have five times as many updates. Besides them there are
    `merges` pairs (prior, survivor) with a late message of the prior, and `garbage` records that nobody can read.
    """
    random_ = random.Random(seed)  # noqa: S311 - the same every time, and no secret
    people = [Patient(number, seed, several=random_.random() < several) for number in range(patients)]
    people += [Patient(patients + number, seed) for number in range(2 * merges)]
    lines = [_line(one, random_, updates * (5 if number < hot else 1), again) for number, one in enumerate(people[:patients])]
    pairs = people[patients:]
    lines += [_merge(prior, survivor) for prior, survivor in zip(pairs[::2], pairs[1::2], strict=True)]
    lines += [[("", None, None, State.PARKED)] for _ in range(garbage)]
    return Traffic(tuple(_interleaved(lines, random_)), tuple(people))


Step = tuple[str, Patient | None, Patient | None, State]
"""Event, whom it is about, who ends by it, what becomes of it."""


def _line(patient: Patient, random_: random.Random, updates: int, again: float) -> list[Step]:
    steps: list[Step] = [("A04", patient, None, State.DELIVERED), *[("A08", patient, None, State.DELIVERED)] * updates]
    if random_.random() < again:
        steps.insert(random_.randint(1, len(steps)), ("A04", patient, None, State.DELIVERED))
    return steps


def _merge(prior: Patient, survivor: Patient) -> list[Step]:
    """Both are there, then they are one; what comes of the prior after that waits for a person."""
    return [
        ("A04", prior, None, State.DELIVERED),
        ("A04", survivor, None, State.DELIVERED),
        ("A40", survivor, prior, State.FILTERED),
        ("A08", survivor, None, State.DELIVERED),
        ("A08", prior, None, State.PARKED),
    ]


def _interleaved(lines: Sequence[list[Step]], random_: random.Random) -> list[Message]:
    """All lines as one, each in its own order. Those of a merge share a key, so that they share a partition."""
    left = [(line, (line[0][1].name if line[0][1] else f"nobody-{number}").encode()) for number, line in enumerate(lines)]
    messages: list[Message] = []
    while left:
        line, key = random_.choice(left)
        event, patient, prior, becomes = line.pop(0)
        minute = len(messages)
        if patient is None:
            value = b"garbage %d \xff\xfe" % minute
            messages.append(Message(value, key, becomes=becomes, minute=minute))
        else:
            value = adt(patient, event, minute, prior=prior)
            messages.append(Message(value, key, patient.name, minute, event, becomes))
        left = [each for each in left if each[0]]
    return messages


def of_one(seed: int, *steps: tuple[str, int], number: int = 0) -> Traffic:
    """(event, minute) of one patient, in this order."""
    patient = Patient(number, seed)
    return Traffic(
        tuple(
            Message(adt(patient, event, minute), patient.name.encode(), patient.name, minute, event) for event, minute in steps
        ),
        (patient,),
    )
