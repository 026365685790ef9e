"""One source topic to two partners at once: Roche by mutual TLS, NJSAMS by TLS and OAuth. Both stand-ins answer over real connections."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.bus.port import Record
from pipeline.sandbox.log import Effect, Written
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from pipeline.sandbox.roche.stand_in import RocheSandbox
from pipeline.settings import Settings, load
from schemas.outcomes import Reason, State
from schemas.result import Result
from tests.commands import hospital

ROCHE, NJSAMS = "roche-patients", "njsams-clients"
MONDAY, TUESDAY, WEDNESDAY = "20260112090000-0500", "20260113090000-0500", "20260114090000-0500"


def adt(
    event: str, control_id: str, *, visit: str = "V1", time: str = MONDAY, program: str = "SUD-IOP", phone: str = "0100"
) -> bytes:
    """A client of a clinic that both partners know by a number of their own."""
    segments = [
        f"MSH|^~\\&|HIS|CLINIC|PIPELINE|ANY|{time}||ADT^{event}|{control_id}|P|2.5.1",
        f"EVN|{event}|{time}",
        f"PID|1||C-1001^^^NJSAMS^PI~12345678Z^^^CIP^PI||Example^Pat||19800203|F|||1 Test Street^^Newark^NJ^07102||555{phone}||||||900-01-0001",
        f"PV1|1|O|CLINIC|||||||{program}|||||||||{visit}^^^HIS^VN|||||||||||||||||||||||||{MONDAY}",
        "DG1|1||E10.9^^I10",
        "IN1|1|MCD|MEDICAID|NJ Medicaid||||||||20260101||||Example^Pat|SEL|||||||||||||||||||P-77001",
    ]
    return "\r".join(segments).encode()


MESSAGES = [
    adt("A04", "1"),
    adt("A08", "2", time=TUESDAY, phone="0200"),
    adt("A01", "3", visit="V2", time=WEDNESDAY, phone="0300"),
    adt("A11", "4", visit="V9", time=WEDNESDAY),
    adt("A08", "5", time=TUESDAY, program="ORTHOPEDICS"),
]


class Clinic:
    """Both stand-ins, and the settings that name them."""

    def __init__(self, folder: Path, roche: RocheSandbox, njsams: NjsamsSandbox) -> None:
        self.roche, self.njsams = roche, njsams
        path = hospital.write(folder, roche)
        tree = load(path).model_dump(mode="json")
        tree["partners"]["njsams"] = {
            "kind": "njsams",
            "base_url": njsams.base_url,
            "tls": {"ca": str(njsams.files.ca)},
            "oauth": {
                "client_id": njsams.knobs.client_id,
                "client_secret": {"file": str(njsams.folder / "client-secret")},
                "scope": "system/*.write",
            },
            "facilities": {"CLINIC": "123456"},
            "payors": {"MEDICAID": "Organization/12"},
        }
        tree["site"]["overlay"] = "demo"
        tree["delivery"] |= {"backoff_first": 0.01, "backoff_most": 0.1}
        tree["routes"][NJSAMS] = {
            "partner": "njsams",
            "source": "his.adt",
            "start": "earliest",
            "part2": [{"facility": "CLINIC", "programs": ["SUD-IOP"]}],
        }
        self.settings = Settings.model_validate(tree)

    def work(self, *messages: bytes) -> None:
        """Append them, and both routes until all is settled."""
        with wiring.workers(self.settings, [ROCHE, NJSAMS]) as workers:
            bus = workers[0].bus
            bus.create_topics(wiring.topic_settings(self.settings))
            with bus.producer() as producer:
                producer.append(Record("his.adt", message, key=b"C-1001") for message in messages)
            for worker in workers:
                worker.drain()
            threads = [threading.Thread(target=worker.run) for worker in workers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            assert not any(thread.is_alive() for thread in threads)
            read = bus.read(self.settings.topics.results)
            self.results = [Result.model_validate_json(record.value) for record in read if record.value]

    def ends(self, route: str) -> list[tuple[State, Reason | None]]:
        """In source order."""
        settled = [one for one in self.results if one.settled and one.route == route]
        return [(one.state, one.reason) for one in sorted(settled, key=lambda one: one.source_offset)]

    def writes(self) -> list[Effect]:
        """What NJSAMS was sent to write."""
        return [effect for effect in self.njsams.log.effects() if effect.method in {"POST", "PUT"} and effect.written]


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    with RocheSandbox(tmp_path / "roche") as roche, NjsamsSandbox(tmp_path / "njsams", {"scopes": "checked"}) as njsams:
        roche.set(latency="none")
        yield Clinic(tmp_path, roche, njsams)


def created(written: list[Written]) -> Counter[str]:
    return Counter(one.type for one in written if one.effect == "created")


def test_one_message_goes_to_both_in_the_form_of_each(clinic: Clinic) -> None:
    clinic.work(*MESSAGES)
    delivered = (State.DELIVERED, None)
    assert clinic.ends(ROCHE) == [
        *[delivered] * 3,
        (State.FILTERED, Reason.PARTNER_HAS_NO_VISIT),
        (State.SUPERSEDED, Reason.STALE),
    ]
    assert clinic.ends(NJSAMS) == [
        *[delivered] * 3,
        (State.FILTERED, Reason.VISIT_NOT_KNOWN),
        (State.FILTERED, Reason.PART2_NOT_ALLOWED),
    ]
    assert [effect.effect for effect in clinic.roche.log.effects() if effect.method] == ["created", "updated", "updated"]
    writes = clinic.writes()
    assert [(effect.method, [one.type for one in effect.written]) for effect in writes] == [
        ("POST", ["Patient", "Encounter", "Coverage"]),
        ("PUT", ["Patient", "Encounter", "Coverage"]),
        ("PUT", ["Patient", "Coverage"]),
        ("POST", ["Encounter"]),
    ]
    assert created([one for effect in writes for one in effect.written]) == {"Patient": 1, "Encounter": 2, "Coverage": 1}


def test_a_second_run_knows_what_the_first_created(clinic: Clinic) -> None:
    clinic.work(MESSAGES[0])
    clinic.work(adt("A08", "9", time=TUESDAY))
    assert [(effect.method, len(effect.written)) for effect in clinic.writes()] == [("POST", 3), ("PUT", 3)]


def test_a_token_that_ends_between_two_messages_costs_nothing(clinic: Clinic) -> None:
    clinic.work(MESSAGES[0])
    clinic.njsams.revoke()
    clinic.work(MESSAGES[1])
    assert clinic.ends(NJSAMS) == [(State.DELIVERED, None)] * 2
    assert [one.attempt for one in clinic.results if one.route == NJSAMS] == [1, 1]


def test_a_visit_that_one_partner_refuses_is_parked_there_alone_and_only_that_step_is_open(clinic: Clinic) -> None:
    clinic.work(MESSAGES[0])
    clinic.njsams.inject("422", next=1, operation="create")
    clinic.work(MESSAGES[2])
    assert clinic.ends(ROCHE)[1] == (State.DELIVERED, None)
    assert clinic.ends(NJSAMS)[1][0] is State.PARKED
    last = [one for one in clinic.results if one.route == NJSAMS][-2:]
    assert [(one.step, one.settled) for one in last] == [(0, False), (1, True)]
