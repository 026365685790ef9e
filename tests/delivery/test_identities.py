"""One patient under several numbers, numbers that end, garbled fields: what is created, updated, learned and remembered, end to end."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.errors import NoAnswer
from pipeline.ledger.port import Query
from pipeline.model import Identity, Learned, Subject
from schemas.outcomes import FindingCode, Reason, State
from tests import postgres_server
from tests.delivery.partner_script import House, Killed, adt, created, issue, run_beside, updated

CIP, METEDA, OTHER = "12345678Z^^^CIP^PI", "M77^^^METEDA^PI", "99999999X^^^CIP^PI"
CIP_SYSTEM = "urn:oid:2.16.724.4.41"
DELIVERED = (State.DELIVERED, None)


def at_once(tree: dict[str, Any]) -> None:
    tree["partners"]["roche"]["probe_margin"] = -10


def v2(tree: dict[str, Any]) -> None:
    at_once(tree)
    tree["partners"]["roche"]["api"] = "v2"


def no_probe(tree: dict[str, Any]) -> None:
    at_once(tree)
    tree["partners"]["roche"]["probe"] = "off"


Made = Callable[..., House]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    houses: list[House] = []

    def make(change: Callable[[dict[str, Any]], None] = at_once, ledger: str | None = None) -> House:
        houses.append(House(tmp_path, change=change, ledger=ledger))
        return houses[-1]

    yield make
    for house in houses:
        house.close()


def message(event: str, control_id: str, day: int, *patients: str, prior: str | None = None, family: str = "Example") -> bytes:
    time = f"202405{day:02}101500+0200"
    segments = [
        f"MSH|^~\\&|HIS|CLINIC|EMR|PIPELINE|{time}||ADT^{event}|{control_id}|P|2.5",
        f"EVN|{event}|{time}",
        f"PID|1||{'~'.join(patients)}||{family}^Ana||19800203|F|||||600000001^PRN^PH",
        *([f"MRG|{prior}"] if prior else []),
        "DG1|1||E10.9^^I10",
    ]
    return "\r".join(segments).encode()


def numbers(house: House, request: int) -> list[str]:
    """The identifiers that a request carried."""
    entries = orjson.loads(house.script.requests[request].body)["entry"]
    (patient,) = (entry["resource"] for entry in entries if entry["resource"]["resourceType"] == "Patient")
    return [one["value"] for one in patient["identifier"]]


# several identifiers


@pytest.mark.parametrize(
    ("change", "puts"),
    [
        (at_once, ["PUT /Bundle/12345678Z", "PUT /Bundle/M77"]),
        (v2, ["PUT /v2/Bundle/roche-1", "PUT /v2/Bundle/roche-1"]),
    ],
)
def test_a_number_that_an_update_brought_updates_and_never_creates(
    made: Made, change: Callable[[dict[str, Any]], None], puts: list[str]
) -> None:
    house = made(change)
    house.send(message("A04", "1", 1, CIP), message("A08", "2", 2, CIP, METEDA), message("A08", "3", 3, METEDA))
    house.work()
    assert house.settled() == [DELIVERED] * 3
    assert house.paths()[1:] == puts


@pytest.mark.parametrize(("change", "put"), [(at_once, "PUT /Bundle/12345678Z"), (v2, "PUT /v2/Bundle/roche-1")])
@pytest.mark.parametrize("patients", [(METEDA, CIP), (CIP, METEDA)])
def test_an_update_goes_to_what_was_created_in_whatever_order_the_numbers_stand(
    made: Made, change: Callable[[dict[str, Any]], None], put: str, patients: tuple[str, ...]
) -> None:
    house = made(change)
    house.send(message("A04", "1", 1, CIP, METEDA), message("A08", "2", 2, *patients))
    house.work()
    assert house.settled() == [DELIVERED] * 2
    assert house.paths()[1:] == [put]


def test_an_older_snapshot_is_stale_though_its_numbers_stand_in_another_order(made: Made) -> None:
    house = made()
    house.send(
        message("A04", "1", 3, CIP, METEDA, family="New"),
        message("A08", "2", 1, METEDA, CIP, family="Old"),
        message("A08", "3", 2, METEDA, family="Old"),
        message("A08", "4", 2, CIP, family="Old"),
    )
    house.work()
    assert house.settled() == [DELIVERED, *[(State.SUPERSEDED, Reason.STALE)] * 3]


def test_a_snapshot_of_a_clock_that_is_years_ahead_makes_no_later_one_stale(made: Made) -> None:
    """Seen to fail with the guard of stages/route.py switched off."""
    house = made()
    ahead = adt("A08", "2", time="20990101000000")
    house.send(adt("A04", "1"), ahead, adt("A08", "3", time="20240502111500+0200"), adt("A08", "4", time="20240502101400+0200"))
    house.work()
    assert house.settled() == [*[DELIVERED] * 3, (State.SUPERSEDED, Reason.STALE)]
    findings = [[one.code for one in result.findings if one.code is FindingCode.EVENT_TIME_AHEAD] for result in house.results()]
    assert findings == [[], [FindingCode.EVENT_TIME_AHEAD], [], []]


def test_numbers_of_two_patients_in_one_message_park_it_and_are_taken_from_neither(made: Made) -> None:
    house = made(v2)
    house.send(message("A04", "1", 1, CIP), message("A04", "2", 1, METEDA), message("A08", "3", 2, CIP, METEDA))
    house.work([created("roche-1"), created("roche-2")])
    assert house.settled() == [DELIVERED, DELIVERED, (State.PARKED, Reason.IDENTITY_CONFLICT)]
    house.send(message("A08", "4", 3, CIP), message("A08", "5", 3, METEDA))
    house.work()
    assert house.paths()[2:] == ["PUT /v2/Bundle/roche-1", "PUT /v2/Bundle/roche-2"]


# merges


def test_a_survivor_that_still_lists_the_old_number_is_sent_without_it(made: Made) -> None:
    house = made()
    house.send(
        message("A04", "1", 1, OTHER),
        message("A40", "2", 2, OTHER, prior=CIP),
        message("A08", "3", 3, OTHER, CIP),
        message("A08", "4", 4, CIP, OTHER),
    )
    house.work()
    assert house.settled()[2:] == [DELIVERED] * 2
    assert house.paths()[1:] == ["PUT /Bundle/99999999X"] * 2
    assert [numbers(house, 1), numbers(house, 2)] == [["99999999X"]] * 2


def test_a_survivor_that_lists_the_old_number_is_created_without_it(made: Made) -> None:
    house = made()
    house.send(message("A40", "1", 1, OTHER, prior=CIP), message("A08", "2", 2, CIP, OTHER), message("A08", "3", 3, CIP))
    house.work()
    assert house.settled()[1:] == [DELIVERED, (State.PARKED, Reason.MERGED_PRIOR)]
    assert [numbers(house, 0), house.paths()] == [["99999999X"], ["POST /Bundle"]]


def test_a_number_in_pid_and_mrg_alike_does_not_end(made: Made) -> None:
    house = made()
    house.send(
        message("A40", "1", 1, CIP, METEDA, prior=f"{OTHER}~{METEDA}"),
        message("A04", "2", 2, METEDA),
        message("A40", "3", 3, CIP, prior=CIP),
    )
    house.work()
    assert house.settled() == [
        (State.FILTERED, Reason.PARTNER_HAS_NO_MERGE),
        DELIVERED,
        (State.PARKED, Reason.PATIENT_MISSING),
    ]


def test_a_merge_waits_for_a_create_of_the_prior_that_nobody_knows_about(made: Made) -> None:
    house = made(no_probe)
    house.send(message("A04", "1", 1, CIP), message("A40", "2", 2, OTHER, prior=CIP))
    house.work([NoAnswer(Reason.TIMEOUT)])
    assert house.settled() == [(State.PARKED, Reason.PROBE_CANNOT_TELL), (State.PARKED, Reason.BLOCKED_BEHIND)]


NEEDLESS = (State.SUPERSEDED, Reason.OLDER_SNAPSHOT)
"""Parked as the merged prior's, until the survivor's newer message, which lists that number, was delivered."""


def ends(house: House) -> list[tuple[State, Reason | None]]:
    """What became of each record at last, in source order."""
    last = {result.source_offset: (result.state, result.reason) for result in house.results() if result.settled}
    return [last[offset] for offset in sorted(last)]


def waiting_merge(house: House) -> None:
    house.send(
        message("A04", "1", 1, CIP),
        message("A40", "2", 2, OTHER, METEDA, prior=CIP),
        message("A08", "3", 3, OTHER),
        message("A08", "4", 3, CIP),
        message("A08", "5", 4, METEDA),
    )
    house.work()
    assert house.settled()[1:] == [
        (State.PARKED, Reason.MERGE_NEEDS_REKEY),
        *[(State.PARKED, Reason.BLOCKED_BEHIND)] * 3,
    ]


def test_a_merge_that_needs_a_rekey_lets_neither_patient_pass_until_the_survivor_is_imported(made: Made) -> None:
    house = made(v2)
    waiting_merge(house)
    house.ledger.import_identities("roche", [Learned(Identity(Subject.PATIENT, CIP_SYSTEM, "99999999X"), "roche-1")])
    house.send(message("A08", "6", 6, CIP), message("A08", "7", 7, OTHER, CIP), message("A08", "8", 8, METEDA))
    house.work()
    assert ends(house)[2:] == [DELIVERED, NEEDLESS, DELIVERED, NEEDLESS, DELIVERED, DELIVERED]
    assert house.paths() == ["POST /v2/Bundle", *["PUT /v2/Bundle/roche-1"] * 4]


def test_a_merge_that_needs_a_rekey_ends_with_a_new_record_where_the_survivor_is_forgotten(made: Made) -> None:
    house = made(v2)
    waiting_merge(house)
    house.ledger.forget("roche", [Identity(Subject.PATIENT, CIP_SYSTEM, "99999999X")], by_operator=True)
    house.send(message("A08", "6", 6, CIP), message("A08", "7", 7, OTHER, CIP))
    house.work([created("roche-2"), created("roche-3")])
    assert ends(house)[2:] == [DELIVERED, NEEDLESS, DELIVERED, NEEDLESS, DELIVERED]
    assert (house.paths()[:2], numbers(house, 1)) == (["POST /v2/Bundle"] * 2, ["99999999X"])


# what an operator ends


def test_a_patient_whom_the_partner_deleted_is_created_again_after_it_was_forgotten(made: Made) -> None:
    house = made()
    house.send(message("A04", "1", 1, CIP), message("A08", "2", 2, CIP))
    house.work([created(), issue(404, "not-found")])
    assert house.settled()[1] == (State.PARKED, Reason.REJECTED_NOT_FOUND)
    house.ledger.forget("roche", [Identity(Subject.PATIENT, CIP_SYSTEM, "12345678Z")], by_operator=True)
    house.send(message("A08", "3", 3, CIP))
    house.work([created("roche-2")])
    assert house.paths() == ["POST /Bundle", "PUT /Bundle/12345678Z", "POST /Bundle"]


@pytest.mark.parametrize("there", [True, False])
def test_an_unknown_create_ends_by_what_an_operator_found_out(made: Made, *, there: bool) -> None:
    house = made(no_probe)
    house.send(message("A04", "1", 1, CIP, METEDA), message("A08", "2", 2, METEDA))
    house.work([NoAnswer(Reason.TIMEOUT)])
    assert house.settled() == [(State.PARKED, Reason.PROBE_CANNOT_TELL), (State.PARKED, Reason.BLOCKED_BEHIND)]
    identity = Identity(Subject.PATIENT, CIP_SYSTEM, "12345678Z")
    if there:
        house.ledger.import_identities("roche", [Learned(identity, None)])
    else:
        house.ledger.forget("roche", [identity], by_operator=True)
    house.send(message("A08", "3", 3, METEDA))
    house.work()
    assert ends(house)[1:] == [DELIVERED, DELIVERED]
    assert house.paths()[1:] == ["PUT /Bundle/M77" if there else "POST /Bundle", "PUT /Bundle/M77"]


def test_a_create_in_flight_is_not_parked_behind(made: Made) -> None:
    house = made()
    house.send(message("A04", "1", 1, CIP))
    with pytest.raises(Killed):
        house.work([Killed()])
    (record,) = house.ledger.find(Query())
    assert (record.state, record.open) == (State.PENDING, True)
    house.work([updated()])
    assert house.settled() == [DELIVERED]


# garbled fields


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else postgres_server.a_schema()


def garbled() -> list[bytes]:
    whole = message("A04", "CTL1", 1, CIP)
    shuffled = random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000)
    return [
        whole.replace(b"|CTL1|", b"|A\x00B1|"),
        whole.replace(b"|CTL1|", f"|{''.join(shuffled)}|".encode()),
        whole.replace(b"|HIS|", b"|HI\x00S|"),
        whole.replace(b"|HIS|", f"|{''.join(shuffled)}|".encode()),
        whole.replace(b"ADT^A04", b"AD\x00T^A04"),
        whole.replace(b"|CTL1|", b"|Example|"),
        whole.replace(b"|CTL1|", b"|19800203|"),
        whole.replace(b"|ADT^A04|CTL1|", b"|Example^Ana|19800203|"),
        whole.replace(b"|HIS|CLINIC|", b"|Example^Ana|19800203|"),
    ]


@pytest.mark.parametrize("number", range(len(garbled())))
def test_a_garbled_header_holds_nobody_up_and_puts_no_patient_into_the_ledger(
    made: Made, ledger: str | None, number: int
) -> None:
    house = made(ledger=ledger)
    house.send(garbled()[number], message("A04", "9", 2, OTHER))
    worker = house.worker()
    worker.drain()
    thread = run_beside(worker)
    thread.join(20)
    worker.stop.set()
    thread.join(60)
    assert (house.settled()[-1], house.committed()) == (DELIVERED, 2)
    told = "".join(record.value.decode() for record in house.bus.read(house.topics.results) if record.value)
    rows = list(house.ledger.find(Query()))
    with house.ledger._read() as connection:
        kept = str(connection.exec_driver_sql("SELECT sender FROM deliveries").all())
    for canary in ("Example", "Ana", "19800203", "\x00"):
        assert canary not in told + kept + "".join(map(repr, rows))


def test_a_control_id_that_may_not_be_shown_is_found_by_what_the_sender_wrote(made: Made, ledger: str | None) -> None:
    house = made(ledger=ledger)
    long = "7" * 300
    house.send(message("A04", "Example", 1, CIP), message("A08", long, 2, CIP), message("A08", "MSG-3", 3, CIP))
    house.work()

    def found(control_id: str) -> list[int]:
        return [row.position.offset for row in house.ledger.find(Query(control_id=control_id))]

    assert [found("Example"), found(long), found("MSG-3"), found("MSG\x003")] == [[0], [1], [2], []]
