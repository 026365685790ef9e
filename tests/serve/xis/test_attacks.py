"""An attacker at a running server: random methods, paths, queries, headers, tokens and forms. Never a 500, never another's data, always FHIR."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.fhir.xml import from_xml
from pipeline.serve.xis.connections import Patience
from pipeline.serve.xis.context import BSN
from pipeline.serve.xis.web import Serving, serving
from tests.serve.xis.stand_ins import ANNA, BRAM, CLARA, LOCAL, NOW, House
from tests.serve.xis.test_searches import DAY

BRAMS = "MARK-OF-BRAM"
"""Stands in all that is his."""
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "get", "SEARCH"]
NAMES = [
    "date",
    "_id",
    "status",
    "_sort",
    "_count",
    "_format",
    "_summary",
    "_page",
    "_include",
    "_elements",
    "patient",
    "subject",
    "actor",
    "patient.identifier",
    "patient:Patient",
    "date:missing",
    "_has:x:y:z",
    "identifier",
    "%00",
    "_query",
    "%",
]
VALUES = (
    "ge2026-01-01 2026 gt:2025 9999-12-31 0001 2026-13 2026-01-01T00:00:00+14:00 booked -date date 0 1 99999999999999999999 json xml count p-anna "
    f"p-bram Patient/p-{BRAMS} {BRAMS} {BRAM} {CLARA} * {BSN}%7C{BRAM} {LOCAL}%7C1 %00 %FF %ED%A0%80 ../../etc/passwd '+OR+1=1-- $where | , AAAA"
).split()
PATHS = (
    f"/fhir/Appointment /fhir/Appointment/ /fhir/Appointment/_search /fhir/metadata /fhir / * // /readyz /metrics /fhir/Patient/p-{BRAMS} "
    f"/fhir/Appointment/{BRAMS} /fhir/Practitioner/d-{BRAMS} /fhir/Appointment/a0 /fhir/../fhir/Appointment /fhir/Appointment/%2e%2e /fhir/%00 "
    "/fhir/Appointment%2Fa0 http://x/fhir/Appointment /fhir/Appointment/$everything /fhir/_history /fhir/Appointment/a0/_history/1 /FHIR/appointment"
).split()
WHOSE = ("anna", "bram's, signed by a stranger", "bram's, unsigned", "anna's, cut", "two", "", "none")
HEADERS = (
    *(
        "Accept: application/fhir+xml",
        "Accept: text/turtle",
        "Accept: */*;q=x",
        "Accept:",
        "Prefer: handling=strict",
        "Prefer: x;;,=",
    ),
    *("MedMij-Request-ID: 1d0d6d7c-8f5b-4d60-9d5b-6a8c6cf7f1aa", f"X-Correlation-ID: {BRAM}", "X-Forwarded-For: 1.2.3.4"),
    *("X-HTTP-Method-Override: DELETE", "Content-Encoding: gzip", "If-None-Match: *", "Range: bytes=0-1", "Expect: 100-continue"),
    *("Upgrade: websocket", "Origin: https://evil.example", "Transfer-Encoding: gzip", "Cookie: a=b", "X: \xe9\xff"),
)
FORM = "application/x-www-form-urlencoded"
PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?#")
QUERY = st.lists(
    st.tuples(st.sampled_from(NAMES), st.one_of(st.sampled_from(VALUES), st.text(PRINTABLE, max_size=30))).map("=".join),
    max_size=6,
).map("&".join)
GOOD = (
    "",
    "date=ge2025",
    "_count=1",
    f"_id=a0,{BRAMS}",
    "patient=p-bram",
    f"patient.identifier={BSN}%7C{BRAM}",
    "_format=xml",
    f"_page={BRAMS}",
)


@dataclass(frozen=True)
class Attack:
    """A request."""

    method: str
    path: str
    query: str
    whose: str
    headers: list[str]
    kind: str
    form: str

    def bytes(self, token: str) -> bytes:
        lines = [f"{self.method} {self.path}{f'?{self.query}' if self.query else ''} HTTP/1.1", "Host: x", "Connection: close"]
        lines += [*self.headers, *([f"Authorization: Bearer {token}"] if token else [])]
        form = self.form if self.method in {"POST", "PUT"} else ""
        lines += [f"Content-Type: {self.kind}", f"Content-Length: {len(form)}"] if self.method in {"POST", "PUT"} else []
        return "\r\n".join([*lines, "", form]).encode("latin-1")


ATTACKS = st.builds(
    Attack,
    method=st.one_of(st.sampled_from(["GET", "POST"]), st.sampled_from(METHODS)),
    path=st.one_of(
        st.sampled_from(PATHS[:3]), st.sampled_from(PATHS), st.text(PRINTABLE, max_size=20).map(lambda text: f"/fhir/{text}")
    ),
    query=st.one_of(st.sampled_from(GOOD), QUERY),
    whose=st.one_of(st.just("anna"), st.sampled_from(WHOSE)),
    headers=st.one_of(st.just([]), st.lists(st.sampled_from(HEADERS), max_size=4)),
    kind=st.sampled_from([FORM, FORM, "application/json", "", f"{FORM};charset=x"]),
    form=st.one_of(st.sampled_from(GOOD), QUERY),
)


def hospital() -> House:
    made = House()
    for day in range(3):
        made.change(f"a{day}", NOW + day * DAY, (BSN, ANNA))
    made.change(BRAMS, NOW, (BSN, BRAM), (LOCAL, "1"))
    return made


@pytest.fixture(scope="module")
def house() -> House:
    return hospital()


@pytest.fixture(scope="module")
def server(house: House) -> Iterator[Serving]:
    with serving(
        house.service, ("127.0.0.1", 0), None, drain_seconds=10, patience=Patience(60, 60, 100), client_header="X-Forwarded-For"
    ) as found:
        yield found


def token(house: House, whose: str) -> str:
    if whose == "bram's, signed by a stranger":
        return hospital().issuer.token(BRAM)
    head, claims, signature = house.issuer.token(BRAM if whose.startswith("bram") else ANNA).split(".")
    named = house.issuer.token(ANNA, patient_number="1")
    return {
        "bram's, unsigned": f"eyJhbGciOiJub25lIn0.{claims}.",
        "anna's, cut": f"{head}.{claims}.{signature[:-4]}",
        "two": named,
        "none": "x" * 300,
        "": "",
    }.get(whose, f"{head}.{claims}.{signature}")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attack=ATTACKS)
def test_whatever_is_sent_nothing_of_another_comes_back_and_all_of_it_is_fhir(
    server: Serving, house: House, attack: Attack
) -> None:
    """Fails where a token is not checked, where a page of another is shown, where one way out of the server is not FHIR."""
    status, said, body = exchanged(server, attack.bytes(token(house, attack.whose)))
    assert status != 500
    assert ANNA.encode() not in body
    assert said["cache-control"] == "no-store"
    assert said["content-type"] in {"application/fhir+json;charset=utf-8", "application/fhir+xml;charset=utf-8"}
    assert "access-control-allow-origin" not in said
    if attack.method != "HEAD":
        resource = from_xml(body) if "xml" in said["content-type"] else orjson.loads(body)
        seen = {name: value for name, value in resource.items() if name != "link"}  # the self link has what was asked for
        assert BRAMS.encode() not in orjson.dumps(seen)
        expected = {200: {"Bundle", "Appointment", "CapabilityStatement"}}.get(status, {"OperationOutcome"})
        assert resource["resourceType"] in expected
        assert resource["resourceType"] in {"OperationOutcome", "CapabilityStatement"} or attack.whose == "anna"


def exchanged(server: Serving, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """The last answer of a connection; one that says to go on is none."""
    read = b""
    with socket.create_connection((server.host, server.port), timeout=60) as made:
        made.sendall(sent)
        while some := made.recv(65536):
            read += some
    head, _, body = read.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body
