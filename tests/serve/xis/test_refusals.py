"""Too many refused tokens, what is counted of each answer, and how `serve` says that it cannot serve."""

import threading

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StoreError
from pipeline.health import NotReady
from pipeline.serve.xis import condition, limits
from pipeline.serve.xis.condition import Condition, looked_at
from pipeline.serve.xis.limits import Rates, Refusals
from tests.serve.xis.stand_ins import House, fault
from tests.serve.xis.test_searches import house
from tests.test_metrics import Sample, at, samples


def limited(each: float, overall: float) -> tuple[House, list[float]]:
    now = [0.0]
    return House(refused_rates=(each, overall), clock=lambda: now[0]), now


def test_who_brings_bad_tokens_too_often_waits_and_others_do_not() -> None:
    """Fails where a refused token is not counted, or not by its client."""
    made, now = limited(1, 1000)
    statuses = [made.asked("/Appointment", "made-up", client="1.1.1.1").status for _ in range(4)]
    assert statuses == [401, 401, 429, 429]
    told = made.asked("/Appointment", client="1.1.1.1")
    assert (fault(told), told.headers["Retry-After"]) == ((429, "throttled"), "1")
    assert made.asked("/Appointment", client="2.2.2.2").status == 200
    now[0] += 1
    assert made.asked("/Appointment", client="1.1.1.1").status == 200


def test_while_a_client_waits_its_tokens_are_not_looked_at() -> None:
    made, now = limited(1, 1000)
    for _ in range(2):
        made.asked("/Appointment", "made-up", client="1.1.1.1")
    made.issuer.away, before = True, made.issuer.asked
    now[0] += 0.5
    assert made.asked("/Appointment", made.issuer.token(header={"kid": "other"}), client="1.1.1.1").status == 429
    assert made.issuer.asked == before


def test_bad_tokens_from_many_addresses_make_strangers_wait_and_not_who_had_a_good_one() -> None:
    made, _ = limited(1000, 1)
    assert made.asked("/Appointment", client="known").status == 200
    for number in range(5):
        made.asked("/Appointment", "made-up", client=f"10.0.0.{number}")
    assert made.asked("/Appointment", client="stranger").status == 429
    assert made.asked("/Appointment", client="known").status == 200


def test_requests_without_a_token_and_an_issuer_that_is_away_count_for_nothing() -> None:
    made, now = limited(1, 1)
    made.issuer.away = True
    statuses = [made.asked("/Appointment", token, client="1.1.1.1").status for token in ("", None) * 5]
    assert statuses == [401, 503] * 5
    made.issuer.away = False
    now[0] += 100
    assert made.asked("/Appointment", client="1.1.1.1").status == 200


def test_clients_in_memory_are_no_more_than_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST", 10)
    refusals = Refusals(1, 1e9, lambda: 0.0)
    for number in range(100):
        refusals.refused(str(number))
        refusals.good(str(number))
    assert len(refusals._each._buckets) == 10
    assert len(refusals._good) == 10
    assert refusals.wait("a stranger") == 0.0
    assert len(refusals._each._buckets) == 10


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3)), max_size=60))
def test_nobody_gets_more_than_his_rate_and_a_burst(asked: list[tuple[str, float]]) -> None:
    now = [0.0]
    rates = Rates(2, lambda: now[0])
    went = {"a": 0, "b": 0}
    for who, later in asked:
        now[0] += later
        looked, wait = rates.look(who), rates.ask(who)
        assert looked == wait
        went[who] += wait == 0.0
    assert all(many <= 4 + 2 * now[0] + 1e-6 for many in went.values())


def counted(made: House) -> dict[Sample, float]:
    return {key: value for key, value in samples(made.metrics).items() if key[0].endswith(("_total", "_count"))}


def test_each_answer_is_counted_by_what_it_was_and_each_refusal_by_why() -> None:
    made = house()
    for target in ("/Appointment", "/Appointment/a0", "/metadata", "/Appointment?date=x"):
        made.asked(target)
    made.asked("/Appointment", "")
    made.asked("/Appointment", "made-up")
    made.issuer.away = True
    made.asked("/Appointment", made.issuer.token(header={"kid": "other"}))
    assert counted(made) == {
        at("emr_served_total", interaction="search", status="200"): 1,
        at("emr_served_total", interaction="read", status="200"): 1,
        at("emr_served_total", interaction="capabilities", status="200"): 1,
        at("emr_served_total", interaction="none", status="400"): 1,
        at("emr_served_total", interaction="none", status="401"): 3,
        at("emr_served_refused_total", reason="syntax"): 1,
        at("emr_served_refused_total", reason="no_token"): 1,
        at("emr_served_refused_total", reason="bad_token"): 2,
        at("emr_served_seconds_count", interaction="search"): 1,
        at("emr_served_seconds_count", interaction="read"): 1,
        at("emr_served_seconds_count", interaction="capabilities"): 1,
        at("emr_served_seconds_count", interaction="none"): 4,
    }


def test_keys_that_cannot_be_fetched_are_counted_and_their_age_is_told() -> None:
    now = [100.0]
    made = House(clock=lambda: now[0])
    assert made.service.figures(0).keys_age_seconds is None
    made.asked("/Appointment")
    now[0] += 400
    made.issuer.away = True
    made.asked("/Appointment")
    assert made.service.figures(7).keys_age_seconds == 400
    assert made.service.figures(7).connections == 7
    assert samples(made.metrics)[at("emr_issuer_failed_total", way="keys")] == 1


def events(capfd: pytest.CaptureFixture[str]) -> list[str]:
    said = [orjson.loads(line)["event"] for line in capfd.readouterr().err.splitlines()]
    return [event for event in said if event.startswith(("store", "tokens"))]


def test_a_store_that_goes_away_and_comes_back_is_a_line_each_and_not_ready_meanwhile(capfd: pytest.CaptureFixture[str]) -> None:
    """Fails where each request that fails writes a line, or where only a request could say that it is back."""
    made = house()
    made.store.broken = StoreError("away")
    for _ in range(3):
        assert made.asked("/Appointment").status == 503
    made.service.look()
    assert made.service.condition.reasons() == (NotReady.STORE_AWAY,)
    assert made.service.figures(0).store_away
    made.store.broken = None
    made.service.look()
    assert made.service.condition.reasons() == ()
    assert events(capfd) == ["store_away", "store_back"]


def test_an_issuer_that_is_away_from_the_start_is_told_and_over_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    made = House(clock=lambda: now[0])
    made.issuer.away = True
    made.service.look()
    made.service.look()
    assert made.service.condition.reasons() == (NotReady.TOKENS_UNCHECKED,)
    made.issuer.away = False
    now[0] += 100
    made.service.look()
    assert made.service.condition.reasons() == ()
    assert events(capfd) == ["tokens_unchecked", "tokens_checked"]


def test_it_is_looked_at_once_at_the_start_and_again_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "EVERY", 0.01)
    seen: list[int] = []
    three = threading.Event()

    def look() -> None:
        seen.append(len(seen))
        if len(seen) == 3:
            three.set()

    with looked_at(look):
        assert seen
        assert three.wait(60)


def test_two_reasons_stand_beside_one_another() -> None:
    made = Condition()
    made.store(StoreError("away"))
    made.tokens("away")
    assert set(made.reasons()) == {NotReady.STORE_AWAY, NotReady.TOKENS_UNCHECKED}
    made.store(None)
    assert made.reasons() == (NotReady.TOKENS_UNCHECKED,)
