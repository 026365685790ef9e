"""Messages for figures: many patients, each with a create and then updates, in an order by which no patient comes twice within a short time.

The given name says the version (V0, V1 …), so that the partner's own log shows whether each patient's order was kept. Nobody exists.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pipeline.bus.port import Record
from pipeline.sandbox.log import NOTHING, Effect

START: Final = datetime(2026, 3, 2, 7, 30)  # noqa: DTZ001 - the offset is written in the message
TEXT: Final = (
    "MSH|^~\\&|HIS|ZIEKENHUIS|EMR|PIPELINE|{at}||ADT^{event}|T{control}|P|2.5|||AL|NE||UNICODE UTF-8\r"
    "EVN|{event}|{at}\r"
    "PID|1||{patient}^^^CIP&2.16.724.4.41&ISO^PI~{number}^^^LOCAL^MR||de Vries&de&Vries^V{version}^M.^^^^L||19800203|F"
    "|||Dorpsstraat 12&Dorpsstraat&12^^Utrecht^^3511AB^NLD^H||06{number}^PRN^CP~^NET^Internet^p{number}@example.org"
    "|030{number}^WPN^PH|NL|M\r"
    "NK1|1|Vries^Piet|SPO^Spouse|Dorpsstraat 12^^Utrecht|0687654321\r"
    "PV1|1|I|INT^201^1^ZIEKENHUIS|R|||1234^Bakker^Jan^^^dr|||INT||||7|||1234^Bakker^Jan|IP|V{number}^^^HIS^VN\r"
    "PV2|||^Ontregelde diabetes\r"
    "DG1|1||E10.9^Diabetes mellitus type 1^I10|||A|||||||||1\r"
    "IN1|1|ZV^Zorgverzekering|0101|Verzekeraar BV\r"
)


@dataclass(slots=True)
class Stream:
    """Gives the next message of a patient; knows how many each has had."""

    topic: str
    sent: int = 0
    _versions: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    def of(self, patient: int) -> Record:
        """The patient's next message: a create first, then updates."""
        version = self._versions[patient]
        self._versions[patient] += 1
        self.sent += 1
        at = (START + timedelta(seconds=self.sent)).strftime("%Y%m%d%H%M%S+0100")
        name = identifier(patient)
        text = TEXT.format(
            at=at,
            event="A08" if version else "A04",
            control=f"{self.sent:09}",
            patient=name,
            number=f"{patient:08}",
            version=version,
        )
        return Record(self.topic, text.encode(), key=name.encode())

    def rounds(self, count: int, patients: int, seed: int = 1) -> Iterator[Record]:
        """`count` messages of `patients` in turn. Who came last in a round comes last again: two of one patient are a round apart."""
        order = list(range(patients))
        random.Random(seed).shuffle(order)  # noqa: S311 - the same every time
        for number in range(count):
            yield self.of(order[number % patients])


def identifier(patient: int) -> str:
    """What the partner knows a patient by."""
    return f"T{patient:08}Z"


@dataclass(frozen=True, slots=True)
class Order:
    """What the partner's log says of the order of each patient."""

    violations: int
    """An older version after a newer one."""
    repeated: int
    """The same version again."""
    created_twice: int


def order_of(effects: Iterable[Effect]) -> Order:
    """Look at each patient's effects in the order of taking effect."""
    last: dict[str, int] = {}
    created: set[str] = set()
    violations = repeated = twice = 0
    for effect in effects:
        if effect.effect == NOTHING or effect.patient is None or effect.identifier is None:
            continue
        version = int(effect.patient["name"][0]["given"][0].removeprefix("V"))
        before = last.get(effect.identifier, -1)
        violations += version < before
        repeated += version == before
        last[effect.identifier] = max(version, before)
        if effect.effect == "created":
            twice += effect.identifier in created
            created.add(effect.identifier)
    return Order(violations, repeated, twice)
