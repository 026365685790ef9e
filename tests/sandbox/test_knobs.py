"""Knobs and latency: wrong ones are refused with their place; the published times come out as published."""

import socket
import ssl
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import requests

from pipeline.errors import SettingsError
from pipeline.sandbox.knobs import Knobs, parse
from pipeline.sandbox.latency import Latency
from pipeline.sandbox.roche.stand_in import RocheSandbox
from tests.sandbox.client import Client, of

Start = Callable[..., RocheSandbox]


def drawn(operation: str, seed: int = 1, **knobs: Any) -> list[float]:  # noqa: ANN401 - as knobs.parse
    latency = Latency(seed)
    chosen = parse({"latency": "published", **knobs})
    return [latency.seconds(operation, chosen) for _ in range(20_000)]


@pytest.mark.parametrize(("operation", "average", "worst"), [("create", 1.50717, 10.0), ("update", 1.95007, 4.0)])
def test_the_published_times_have_the_published_average_and_never_exceed_the_worst(
    operation: str, average: float, worst: float
) -> None:
    seconds = drawn(operation)
    assert statistics.fmean(seconds) == pytest.approx(average, rel=0.02)
    assert worst * 0.6 < max(seconds) <= worst
    assert average / 5 <= min(seconds) < average / 4


def test_mixed_is_one_and_a_half_seconds_on_average_with_every_fiftieth_at_ten() -> None:
    seconds = drawn("update", latency="mixed")
    assert statistics.fmean(seconds) == pytest.approx(1.5, rel=0.02)
    assert set(seconds) == {10.0, min(seconds)}
    assert seconds.count(10.0) / len(seconds) == pytest.approx(0.02, rel=0.15)


def test_the_scale_scales_and_the_seed_repeats() -> None:
    assert drawn("create", latency_scale=0.01)[:10] == pytest.approx([one / 100 for one in drawn("create")[:10]])
    assert drawn("create", 1) == drawn("create", 1) != drawn("create", 2)


def test_a_fixed_time_none_and_what_is_no_operation() -> None:
    latency = Latency(1)
    assert latency.seconds("create", parse({"latency": "0.25"})) == 0.25
    assert latency.seconds("create", parse({"latency": "none"})) == 0.0
    assert latency.seconds("other", parse({"latency": "published"})) == 0.0


@pytest.mark.parametrize("value", ["x", "-1", "nan", ""])
def test_a_latency_that_is_none_says_that_seconds_do(value: str) -> None:
    with pytest.raises(SettingsError) as mistake:
        parse({"latency": value})
    assert str(mistake.value) == "knob latency: none, published, mixed, or a number of seconds, as 0.25"


def test_a_knob_that_is_not_there_is_one_line_with_what_looks_like_it() -> None:
    with pytest.raises(SettingsError) as mistake:
        parse({"latenzy": "none"})
    assert (
        str(mistake.value)
        == "knob latenzy: no such knob; there is latency and latency_scale; emr-pipeline sandbox --list has them all"
    )


def test_the_answer_takes_the_time_of_the_knob(start: Start) -> None:
    roche = start(latency=1.5)
    with Client(roche) as client:
        assert client.create().elapsed.total_seconds() >= 1.5
        roche.set(latency="none")
        assert client.create(of("A2")).elapsed.total_seconds() < 1.5


def test_the_gateway_refuses_at_once_and_the_partner_in_its_own_time(start: Start) -> None:
    with Client(start(latency=1.5)) as client:
        assert client.create(headers={"client_secret": "wrong"}).elapsed.total_seconds() < 1.5
        assert client.create(b"{}").elapsed.total_seconds() >= 1.5


def test_an_idle_connection_is_closed_after_the_time_of_the_knob(start: Start) -> None:
    roche = start(idle_seconds=0.2)
    context = ssl.create_default_context(cafile=str(roche.files.ca))
    context.load_cert_chain(roche.files.client, roche.files.client_key)
    with (
        socket.create_connection(("127.0.0.1", roche.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=True) as connection,
    ):
        connection.sendall(b"GET /x HTTP/1.1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 403")
        assert connection.recv(65536) == b""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latency", "-1"),
        ("latency", "slow"),
        ("latency", "nan"),
        ("latency_scale", "-1"),
        ("tls", "1.1"),
        ("duplicate", "never"),
        ("v2_create_status", "204"),
        ("most_bytes", "0"),
        ("seed", "x"),
    ],
)
def test_a_wrong_value_is_refused_with_the_knobs_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse({name: value})
    assert caught.value.where == f"knob {name}"


def test_a_wrong_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SettingsError, match="latency_scale"):
        parse({"latncy": "none"})


def test_text_and_json_say_the_same() -> None:
    assert parse({"tls": 1.2, "latency": 2, "v2_create_status": 200, "diabetes_codes": ("1", "2"), "seed": 7}) == parse(
        {"tls": "1.2", "latency": "2", "v2_create_status": "200", "diabetes_codes": "1, 2", "seed": "7"}
    )


def test_every_knob_says_what_it_is() -> None:
    assert [name for name, field in Knobs.model_fields.items() if not field.description] == []


def test_the_control_port(start: Start) -> None:
    roche = start(control=0)
    url = roche.control_url
    with requests.Session() as http:
        http.trust_env = False
        assert http.get(f"{url}/health", timeout=60).json() == {"requests": 0, "patients": 0}
        assert http.put(f"{url}/knobs", json={"v1_create_id": "business"}, timeout=60).json()["v1_create_id"] == "business"
        assert http.post(f"{url}/faults", json={"name": "503", "next": 1}, timeout=60).json()[0]["status"] == 503
        with Client(roche) as client:
            assert [client.create().status_code, client.create().status_code] == [503, 200]
        assert [one["effect"] for one in http.get(f"{url}/log/1", timeout=60).json()] == ["created"]
        assert http.delete(f"{url}/faults", timeout=60).json() == []
        for method, path, body, status in (
            ("PUT", "/knobs", b"{", 400),
            ("PUT", "/knobs", b"[]", 400),
            ("PUT", "/knobs", b'{"x":1}', 400),
            ("POST", "/faults", b'{"next":1}', 400),
            ("GET", "/log/x", b"", 400),
            ("GET", "/nothing", b"", 404),
        ):
            answer = http.request(method, f"{url}{path}", data=body, timeout=60)
            assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


def test_there_is_no_control_port_unless_asked_for(roche: RocheSandbox) -> None:
    assert roche.control_url is None
