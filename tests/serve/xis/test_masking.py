"""No served byte string has the BSN of its patient, wherever it stands."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.appointments.bsns import STARS
from pipeline.appointments.port import Change
from pipeline.serve.xis.context import BSN, Context, Identity
from pipeline.serve.xis.masking import without_bsn
from tests.serve.xis.stand_ins import ANNA, LOCAL, NOW, House

WHOSE = Context((Identity(BSN, ANNA), Identity(LOCAL, "123")), 0.0)
TEXTS = st.one_of(st.text(), st.just(ANNA), st.text().map(lambda text: f"{text}{ANNA}{text}"))
LEAVES = st.one_of(TEXTS, st.integers(0, 2**53), st.just(int(ANNA)), st.just(float(ANNA)), st.booleans(), st.none())
TREES = st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)))


@given(TREES)
def test_no_text_and_no_number_keeps_it(tree: object) -> None:
    """Fails where numbers are let through, or lists are not looked into."""
    body = orjson.dumps({"tree": tree})
    masked = without_bsn(body, WHOSE)
    assert ANNA.encode() not in masked
    assert isinstance(orjson.loads(masked), dict)


def test_what_has_no_bsn_goes_out_as_it_is() -> None:
    body = orjson.dumps({"comment": f"not {ANNA[1:]}", "n": int(ANNA) + 1})
    assert without_bsn(body, WHOSE) is body


def test_a_number_that_is_one_without_its_zero_is_left_out() -> None:
    assert without_bsn(b'{"a":12345672,"b":[12345672,7]}', Context((Identity(BSN, "012345672"),), 0.0)) == b'{"b":[7]}'


def test_a_local_number_is_no_bsn_and_stays() -> None:
    assert without_bsn(b'{"text":"123"}', WHOSE) == b'{"text":"123"}'


@pytest.mark.parametrize("form", ["json", "xml"])
def test_a_text_that_came_with_the_bsn_of_a_token_goes_out_with_stars(form: str) -> None:
    """Found by a local number, so that the store never knew the BSN that stands in a remark."""
    made = House()
    resource = {
        "resourceType": "Appointment",
        "id": "a0",
        "status": "booked",
        "comment": f"BSN {ANNA}",
        "minutesDuration": int(ANNA),
    }
    body = orjson.dumps(resource)
    made.store.put(Change("a0", (made.key(LOCAL, "0000123"),), 1, None, NOW, {("Appointment", "a0"): body}))
    token = made.issuer.token(ANNA, patient_number="0000123")
    for target in (
        f"/Appointment?_format={form}",
        f"/Appointment/a0?_format={form}",
        f"/Appointment?_format={form}&_count={ANNA}&_id=a0",
    ):
        told = made.asked(target, token)
        assert told.status == 200
        assert ANNA.encode() not in told.body
        assert f"BSN {STARS}".encode() in told.body


@pytest.mark.parametrize(
    ("bsn", "written"),
    [
        (ANNA, f"{ANNA[:4]}.{ANNA[4:6]}.{ANNA[6:]}"),
        (ANNA, f"{ANNA[:3]} {ANNA[3:6]}\u00a0{ANNA[6:]}"),
        ("012345672", "12345672"),
        (ANNA, f"{ANNA[:4]}-{ANNA[4:6]}\n{ANNA[6:]}"),
    ],
)
def test_one_that_is_written_as_people_do_goes_out_with_stars_too(bsn: str, written: str) -> None:
    """Fails where a text is only looked through for the nine digits in a row."""
    masked = without_bsn(orjson.dumps({"comment": f"BSN {written}, of hers"}), Context((Identity(BSN, bsn),), 0.0))
    assert orjson.loads(masked) == {"comment": f"BSN {STARS}, of hers"}
