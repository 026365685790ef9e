"""Two partners behind one source topic in one `run`: what is wrong with one is nothing to the other (RELIABILITY section 6, invariant 6).

A real worker process; what was done is read from each stand-in's own log. It is not held against a clock: the one has everything while the
other, whatever is wrong with it, has nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from pipeline import wiring
from pipeline.bus.open import open_bus
from pipeline.bus.port import Record
from pipeline.commands.demo.appointments import free_port
from pipeline.sandbox.log import CREATED, SandboxLog
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from pipeline.sandbox.roche.stand_in import RocheSandbox
from pipeline.sandbox.running import Sandbox
from schemas.outcomes import State
from tests.faults.conftest import THOROUGH, Make
from tests.faults.hospital import Hospital

Seen = Callable[[str], None]
NUMBER = 20
ISOLATED = (
    "a partner that is away, slow, or refuses us moves the other one's messages by nothing, and has all of its own afterwards"
)
LINES = (
    r"MSH|^~\&|HIS|DEMO|PIPELINE|ANY|20260115101530-0500||ADT^A04|B{0:04}|P|2.5.1",
    "EVN|A04|20260115101500-0500",
    "PID|1||C-{0}^^^NJSAMS^PI~8{0:06}Q^^^CIP^PI||Example{0}^Pat||19800203|F|||1 Test Street^^Newark^NJ^07102||||||||900-01-{0:04}",
    "PV1|1|O|CLINIC^^^DEMO|||||||SUD-IOP|||||||||V-{0}^^^HIS^VN|||||||||||||||||||||||||20260115100000-0500",
)


class Pair:
    """A hospital with both partners on one topic; each stand-in may go away and come back at the same address."""

    def __init__(self, hospital: Hospital) -> None:
        self.hospital = hospital
        self.partners: dict[str, Sandbox] = {}
        hospital.tree["site"]["overlay"] = "demo"
        hospital.partner()
        hospital.partners.pop("roche").stop()
        for name in ("roche", "njsams"):
            self.start(name)
        times = {"connect": 3, "read": 60, "total": 90}
        njsams = self.partners["njsams"]
        hospital.tree["partners"]["roche"] |= {
            "base_url": self.partners["roche"].base_url,
            "create": dict(times),
            "update": dict(times),
        }
        hospital.tree["partners"]["njsams"] = {
            "kind": "njsams",
            "base_url": njsams.base_url,
            "tls": {"ca": str(njsams.files.ca)},
            "oauth": {
                "client_id": "emr-pipeline",
                "client_secret": {"file": str(njsams.files.client_secret)},
                "scope": "system/*.write",
                "times": {"connect": 2, "read": 2, "total": 3},
            },
            "facilities": {"DEMO": "123456"},
            "create": dict(times),
            "update": dict(times),
        }
        hospital.tree["routes"]["njsams-clients"] = {
            "partner": "njsams",
            "source": hospital.source,
            "start": "earliest",
            "part2": [{"facility": "DEMO", "programs": ["SUD-IOP"]}],
        }

    def start(self, name: str) -> None:
        """Where it was before, where it was."""
        folder = self.hospital.folder / f"sandbox-{name}"
        port = self.partners[name].port if name in self.partners else free_port()  # while it is away nobody else may be given it
        kind = RocheSandbox if name == "roche" else NjsamsSandbox
        self.partners[name] = kind(folder, {"latency": 0.005}, port=port).start()

    def fill(self, first: int) -> None:
        """`NUMBER` messages from this one on."""
        settings = self.hospital.settings
        with closing(open_bus(settings)) as bus:
            bus.create_topics(wiring.topic_settings(settings))
            with bus.producer() as producer:
                values = [(one, "\r".join(LINES).format(one).encode()) for one in range(first, first + NUMBER)]
                producer.append(Record(self.hospital.source, value, key=str(one).encode()) for one, value in values)

    def created(self, name: str) -> int:
        return len(SandboxLog(self.hospital.folder / f"sandbox-{name}").effects(effect=CREATED))

    def close(self) -> None:
        for worker in self.hospital.workers:
            worker.kill()
        for partner in self.partners.values():
            partner.stop()


@pytest.fixture
def pair(make_hospital: Make) -> Iterator[Pair]:
    pair = Pair(make_hospital())
    yield pair
    pair.close()


def away(pair: Pair, name: str) -> Callable[[], object]:
    """Nobody listens at its address."""
    pair.partners[name].stop()
    return lambda: pair.start(name)


def slow(pair: Pair, name: str) -> Callable[[], object]:
    """Its first answer takes ten times as long as all of the other's messages."""
    pair.hospital.set(name, in_flight=1)
    pair.partners[name].inject("late", operation="create", effect_after=40.0, answer_after=0.0)
    return pair.partners[name].clear_faults


def refusing(pair: Pair, name: str) -> Callable[[], object]:
    """Us, as a whole: each token, our certificate."""
    pair.partners[name].inject("401" if name == "njsams" else "403_certificate", operation="create")
    return pair.partners[name].clear_faults


@pytest.mark.once
@pytest.mark.fault("I6", ISOLATED)
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("njsams", away),
        ("roche", away),
        *(
            pytest.param(name, wrong, marks=THOROUGH)
            for name, wrong in (("njsams", slow), ("njsams", refusing), ("roche", slow), ("roche", refusing))
        ),
    ],
)
def test_what_is_wrong_with_one_partner_is_nothing_to_the_other(
    pair: Pair, name: str, wrong: Callable[[Pair, str], Callable[[], object]], seed: int, seen: Seen
) -> None:
    """Guards: a gate and places in flight for each partner (wiring.workers)."""
    del seed
    other = "roche" if name == "njsams" else "njsams"
    mend = wrong(pair, name)
    pair.fill(1)
    worker = pair.hospital.start()

    def troubled() -> set[str]:
        return {event["partner"] for event in worker.events("partner_away", "partner_throttled", "route_halted")}

    pair.hospital.until(
        lambda: pair.hospital.states(other) == {State.DELIVERED: NUMBER} and (wrong is slow or name in troubled())
    )
    pair.fill(1 + NUMBER)  # now that all know what is wrong
    pair.hospital.until(lambda: pair.hospital.states(other) == {State.DELIVERED: 2 * NUMBER})
    assert (pair.created(name), troubled() <= {name}) == (0, True)
    mend()
    pair.hospital.until(lambda: pair.hospital.states(name) == {State.DELIVERED: 2 * NUMBER})
    assert (worker.running, pair.created(name), pair.created(other)) == (True, 2 * NUMBER, 2 * NUMBER)
    seen(f"away, slow, refusing: {NUMBER} messages to each")
