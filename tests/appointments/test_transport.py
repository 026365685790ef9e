"""A request of partner medmij becomes a version in the store, and each refusal has its status."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.appointments.bsns import BSN
from pipeline.appointments.port import Deed, Page
from pipeline.appointments.sql import SqlStore
from pipeline.appointments.transport import StoreTransport
from pipeline.errors import NotSent
from pipeline.model import Intent, Reply, Request, Timeouts
from pipeline.pseudonyms import Pseudonyms
from schemas.outcomes import Reason

PSEUDONYMS = Pseudonyms("a secret of this test")
LOCAL = "urn:oid:2.16.840.1.113883.2.4.3.11.999.7.6"
HEADERS = (("x-patient", f"{LOCAL}|12345"), ("x-patient", f"{BSN}|999911120"), ("x-event-ms", "1000"), ("x-position", "siu/0/1"))


def bundle(name: str = "a1", start: str | None = "2026-06-20T09:30:00+02:00", *more: dict[str, Any]) -> bytes:
    appointment = {"resourceType": "Appointment", "id": name} | ({"start": start} if start else {})
    room = {"resourceType": "Location", "id": "room"}
    entries = [{"resource": each} for each in (appointment, room, *more)]
    return orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})


def request(**changes: Any) -> Request:  # noqa: ANN401 - the fields of Request
    values: dict[str, Any] = {
        "operation": "appointment-put",
        "method": "PUT",
        "path": "/Appointment/a1",
        "path_template": "/Appointment/{id}",
        "headers": HEADERS,
        "body": bundle(),
        "request_id": "r",
        "timeouts": Timeouts(1, 1, 1),
        "intent": Intent.UPDATE,
    }
    return Request(**(values | changes))


def headers(**changes: str | None) -> tuple[tuple[str, str], ...]:
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    kept = [(name, value) for name, value in HEADERS if name not in named]
    return (*kept, *((name, value) for name, value in named.items() if value is not None))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{tmp_path / 'a.sqlite'}", PSEUDONYMS.check)
    store.check()
    yield store
    store.close()


@pytest.fixture
def transport(store: SqlStore) -> StoreTransport:
    return StoreTransport(store, PSEUDONYMS, lambda: 42)


def test_what_goes_in_is_found_by_the_patients_identifiers(transport: StoreTransport, store: SqlStore) -> None:
    reply = transport.exchange(request())
    assert (reply.status, reply.sent_ms, reply.answered_ms) == (201, 42, 42)
    for system, value in ((LOCAL, "12345"), (BSN, "999911120")):
        person = store.person(PSEUDONYMS.person(system, value))
        assert person is not None
        found = store.search(person, count=9)
        assert isinstance(found, Page)
        assert [(each.id, each.start_ms) for each in found.found] == [("a1", 1_781_940_600_000)]
        assert orjson.loads(found.found[0].body) == {
            "resourceType": "Appointment",
            "id": "a1",
            "start": "2026-06-20T09:30:00+02:00",
        }
        assert store.read(person, "Location", "room") == b'{"resourceType":"Location","id":"room"}'


def test_the_patients_bsn_is_in_no_text_that_goes_in(transport: StoreTransport, store: SqlStore) -> None:
    """Fails where what a message writes in a remark is stored as it came."""
    doctor = {"resourceType": "Practitioner", "id": "d1", "name": [{"text": "BSN 9999.11.120"}]}
    body = bundle("a1", None, doctor).replace(b'"id":"a1"', b'"id":"a1","comment":"bsn 999911120"')
    assert transport.exchange(request(body=body)).status == 201
    person = store.person(PSEUDONYMS.person(LOCAL, "12345"))
    assert person is not None
    page = store.search(person, count=1)
    assert isinstance(page, Page)
    assert orjson.loads(page.found[0].body)["comment"] == "bsn *********"


def test_again_is_an_update_and_an_older_one_is_refused(transport: StoreTransport) -> None:
    assert [
        transport.exchange(request(headers=each)).status
        for each in (HEADERS, HEADERS, headers(x_event_ms="999"), headers(x_position="siu/0/0"), headers(x_position=None))
    ] == [201, 200, 412, 412, 412]


def test_another_persons_appointment_is_a_conflict(transport: StoreTransport) -> None:
    transport.exchange(request())
    assert transport.exchange(request(headers=headers(x_patient=f"{LOCAL}|999"))).status == 403
    assert transport.exchange(request(headers=(*HEADERS, ("x-patient", f"{BSN}|999911132")))).status == 409


def merge(prior: str, survivor: str, **changes: Any) -> Request:  # noqa: ANN401 - the fields of Request
    named = (("x-prior", prior), ("x-patient", survivor), ("x-event-ms", "1000"), ("x-position", "his.adt/0/7"))
    return request(**({"method": "POST", "path": "/Person/$merge", "headers": named, "body": b""} | changes))


def test_of_a_merge_both_numbers_are_one_person_and_told_again_they_still_are(transport: StoreTransport, store: SqlStore) -> None:
    transport.exchange(request())
    asked = [merge(f"{LOCAL}|999", f"{LOCAL}|12345")] * 2 + [merge(f"{LOCAL}|1", f"{LOCAL}|2")]
    assert [transport.exchange(each).status for each in asked] == [200, 200, 201]
    assert store.person(PSEUDONYMS.person(LOCAL, "999")) == store.person(PSEUDONYMS.person(BSN, "999911120"))


def test_a_merge_of_two_bsns_is_a_conflict_and_one_from_before_they_were_parted_is_stale(
    transport: StoreTransport, store: SqlStore
) -> None:
    transport.exchange(request())
    assert transport.exchange(merge(f"{BSN}|999911132", f"{LOCAL}|12345")).status == 409
    transport.exchange(merge(f"{LOCAL}|999", f"{LOCAL}|12345"))
    store.part(frozenset({PSEUDONYMS.person(LOCAL, "999")}), None, Deed("an operator", "sealed"))
    assert transport.exchange(merge(f"{LOCAL}|999", f"{LOCAL}|12345")).status == 412


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (merge(f"{LOCAL}|999", f"{LOCAL}|12345", method="PUT"), 405),
        (merge("", f"{LOCAL}|12345"), 400),
        (merge(f"{LOCAL}|999", ""), 400),
        (merge(f"{LOCAL}|999", f"{LOCAL}|12345", headers=HEADERS), 400),
        (merge(f"{LOCAL}|999", f"{LOCAL}|12345", path="/Person/$merge/x"), 404),
    ],
)
def test_what_is_no_merge_is_refused_and_joins_nobody(
    transport: StoreTransport, store: SqlStore, asked: Request, status: int
) -> None:
    assert transport.exchange(asked).status == status
    assert store.person(PSEUDONYMS.person(LOCAL, "12345")) is None


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"path": "/Patient/a1"}, 404),
        ({"path": "/Appointment/a1/x"}, 404),
        ({"method": "DELETE"}, 405),
        ({"body": b"{"}, 400),
        ({"body": b'{"entry":[{}]}'}, 400),
        ({"body": b'{"entry":[{"resource":1}]}'}, 400),
        ({"body": bundle("a2")}, 400),
        ({"body": bundle("a1", "2026-06-20")}, 400),
        ({"body": bundle("a1", "tomorrow")}, 400),
        ({"body": bundle("a1", None, {"resourceType": "Location", "id": "room", "name": "another"})}, 400),
        ({"body": bundle("a1", None, {"resourceType": "Location"})}, 400),
        ({"headers": headers(x_patient=None)}, 400),
        ({"headers": headers(x_patient="no-system")}, 400),
        ({"headers": headers(x_patient=f"{LOCAL}|")}, 400),
        ({"headers": headers(x_event_ms="soon")}, 400),
        ({"headers": headers(x_position="siu")}, 400),
    ],
)
def test_what_is_no_version_of_an_appointment_is_refused_and_not_kept(
    transport: StoreTransport, store: SqlStore, changes: dict[str, Any], status: int
) -> None:
    assert transport.exchange(request(**changes)).status == status
    assert store.person(PSEUDONYMS.person(LOCAL, "12345")) is None


def test_an_appointment_without_a_start_goes_in(transport: StoreTransport) -> None:
    assert transport.exchange(request(body=bundle("a1", None))).status == 201


def test_a_store_that_is_away_is_not_sent_and_no_value_is_told(tmp_path: Path) -> None:
    transport = StoreTransport(SqlStore(f"sqlite:///{tmp_path / 'none.sqlite'}", "ours"), PSEUDONYMS, lambda: 42)
    for call in (lambda: transport.exchange(request()), transport.knock):
        with pytest.raises(NotSent) as caught:
            _called(call)
        assert caught.value.reason is Reason.NOT_SENT_CONNECT
        assert "12345" not in repr(caught.value)
        assert caught.value.__suppress_context__
    transport.close()


def _called(call: Any) -> Reply | None:  # noqa: ANN401 - a method of the transport
    answer: Reply | None = call()
    return answer


def test_a_knock_at_a_store_that_is_there_says_nothing(transport: StoreTransport) -> None:
    transport.knock()
