"""Roche's contract as we read it against the stand-in, over real TLS: creates, updates, duplicates, absences, and each fault.

The stand-in shares no code with what it judges. What took effect is read from its own log.
"""

import uuid
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import pytest

from pipeline.model import Answer, Decision, Identified, Intent
from pipeline.partners.roche.partner import Roche
from pipeline.sandbox.log import SandboxLog
from pipeline.sandbox.roche.stand_in import RocheSandbox
from pipeline.settings_sections import TlsFiles
from pipeline.stages.send import probe, send
from pipeline.transport.https import HttpsTransport
from pipeline.transport.port import landed
from schemas.outcomes import Reason
from schemas.roche import METEDA
from tests.partners.samples import identified, mapped, roche

D: TypeAlias = Decision
R: TypeAlias = Reason
FAST: dict[str, Any] = {name: {"connect": 20, "read": 0.5, "total": 0.8} for name in ("create", "update")}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RocheSandbox]:
    with RocheSandbox(tmp_path_factory.mktemp("roche")) as sandbox:
        yield sandbox


class Line:
    """A partner, its transport, and a patient of its own for each test."""

    def __init__(self, sandbox: RocheSandbox, partner: Roche, client: str | None = None) -> None:
        self.sandbox, self.partner = sandbox, partner
        files = sandbox.files
        certificate, key = files.wrong(client) if client else (files.client, files.client_key)
        self.transport = HttpsTransport(
            sandbox.base_url, TlsFiles(ca=files.ca, certificate=certificate, key=key), {"client_secret": files.secret()}
        )
        self.value = f"T{uuid.uuid4().hex[:12]}"
        self.messages = 0

    def what(self, intent: Intent = Intent.CREATE, partner_id: str | None = None) -> Identified:
        self.messages += 1
        return identified(self.value, intent, partner_id, uuid.uuid5(uuid.NAMESPACE_OID, f"{self.value}-{self.messages}"))

    def send(self, what: Identified | None = None, *, after_unknown: bool = False, **patient: Any) -> Answer:  # noqa: ANN401
        self.packed = self.partner.pack(mapped(self.partner, what or self.what(), **patient))
        request = self.packed.requests[0]
        return landed(send(self.packed, request, self.transport, self.partner, attempt=1, after_unknown=after_unknown))

    def probe(self) -> Answer:
        question = self.partner.probe(self.packed)
        assert question is not None
        return landed(probe(self.packed, question, self.transport, self.partner, attempt=2))

    def effects(self) -> list[str]:
        return [one.effect for one in SandboxLog(self.sandbox.folder) if one.identifier == self.value and one.effect != "nothing"]


class Opener(Protocol):
    """Opens a line with settings of its own."""

    def __call__(self, client: str | None = None, **settings: Any) -> Line: ...  # noqa: ANN401 - any setting


@pytest.fixture
def lines(house: RocheSandbox) -> Iterator[Opener]:
    opened: list[Line] = []

    def open_line(client: str | None = None, **settings: Any) -> Line:  # noqa: ANN401
        opened.append(Line(house, roche(**{**FAST, **settings}), client))
        return opened[-1]

    yield open_line
    house.clear_faults()
    house.set(tls="any", wrong_certificate="alert", v1_create_id="logical", update_id="business", update_unknown="not-found")
    house.set(duplicate="duplicate", v2_create_status=201, v2_update_body="empty")
    for line in opened:
        line.transport.close()


def met(answer: Answer) -> tuple[Decision, Reason | None]:
    return answer.verdict.decision, answer.verdict.reason


@pytest.mark.parametrize("shape", ["logical", "business"])
@pytest.mark.parametrize("full_url", [False, True])
def test_v1_creates_and_updates_by_business_id(lines: Opener, house: RocheSandbox, shape: str, *, full_url: bool) -> None:
    house.set(v1_create_id=shape)
    line = lines(full_url=full_url)
    created = line.send()
    assert met(created) == (D.DELIVERED, None)
    (learned,) = created.verdict.learned
    assert learned.partner_id is not None
    assert (learned.partner_id == line.value) is (shape == "business")
    assert line.partner.public_partner_id(learned.identity, learned.partner_id) is None
    assert met(line.send(line.what(Intent.UPDATE, learned.partner_id))) == (D.DELIVERED, None)
    assert line.effects() == ["created", "updated"]


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("body", ["empty", "bundle"])
def test_v2_creates_and_updates_by_the_returned_id(lines: Opener, house: RocheSandbox, status: int, body: str) -> None:
    house.set(v2_create_status=status, v2_update_body=body)
    line = lines(api="v2")
    (learned,) = line.send().verdict.learned
    assert learned.partner_id not in {None, line.value}
    updated = line.send(line.what(Intent.UPDATE, learned.partner_id))
    assert met(updated) == (D.DELIVERED, None)
    assert updated.verdict.learned == (learned,)
    assert line.effects() == ["created", "updated"]


def test_v1_updates_by_the_returned_id_where_that_is_the_setting(lines: Opener, house: RocheSandbox) -> None:
    house.set(update_id="returned")
    line = lines(update_id="returned")
    (learned,) = line.send().verdict.learned
    assert met(line.send(line.what(Intent.UPDATE, learned.partner_id))) == (D.DELIVERED, None)


def test_a_second_create_exists_and_goes_on_as_an_update(lines: Opener) -> None:
    line = lines()
    line.send()
    again = line.send()
    assert met(again) == (D.EXISTS, R.REJECTED_DUPLICATE)
    assert again.verdict.issue_codes == ("duplicate",)
    updated = line.send(line.what(Intent.UPDATE))
    assert met(updated) == (D.DELIVERED, None)
    assert [one.identity.value for one in updated.verdict.learned] == [line.value]
    assert line.effects() == ["created", "updated"]


def test_a_second_create_of_v2_is_parked_since_nobody_knows_the_id(lines: Opener) -> None:
    line = lines(api="v2")
    line.send()
    assert met(line.send()) == (D.PARKED, R.REJECTED_DUPLICATE)


@pytest.mark.parametrize("settings", [{}, {"api": "v2"}])
def test_an_update_of_what_is_not_there_is_absent(lines: Opener, settings: dict[str, Any]) -> None:
    line = lines(**settings)
    assert met(line.send(line.what(Intent.UPDATE, "Nobody.1"))) == (D.ABSENT, R.REJECTED_NOT_FOUND)
    assert line.effects() == []


def test_a_meteda_identifier_is_taken(lines: Opener) -> None:
    line = lines()
    assert met(line.send(identified(line.value, system=METEDA, message=uuid.uuid4()))) == (D.DELIVERED, None)


def test_a_refused_content_is_parked_with_the_partners_code(lines: Opener) -> None:
    line = lines()
    assert met(line.send(gender="vrouw")) == (D.PARKED, R.REJECTED_INVALID)


def test_a_wrong_organisation_halts(lines: Opener) -> None:
    assert met(lines(org_id="1.2.3").send()) == (D.HALTED, R.REFUSED_CLIENT)


def test_a_wrong_client_halts(lines: Opener) -> None:
    assert met(lines(client_id="another").send()) == (D.HALTED, R.REFUSED_CLIENT)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_refused_certificate_makes_no_unknown_under_both_versions_of_tls(
    lines: Opener, house: RocheSandbox, version: str
) -> None:
    house.set(tls=version)
    line = lines(client="foreign")
    answers = [line.send() for _ in range(3)]
    # whether it ends with an alert or just ends is the stand-in's; the alert itself is tested with the transport
    assert {met(answer) for answer in answers} <= {(D.HALTED, R.REFUSED_CERTIFICATE), (D.FAILED, R.NOT_SENT_TLS)}
    assert [answer.reply for answer in answers] == 3 * [None]
    assert line.effects() == []


def test_a_certificate_that_the_gateway_refuses_halts(lines: Opener, house: RocheSandbox) -> None:
    house.set(wrong_certificate="403")
    assert met(lines(client="foreign").send()) == (D.HALTED, R.REFUSED_CERTIFICATE)


def test_our_own_expired_certificate_halts_before_anything_is_sent(lines: Opener) -> None:
    assert met(lines(client="expired").send()) == (D.HALTED, R.NOT_SENT_CERTIFICATE)


# each fault: (name, details, what a create means, what an update means, whether the create took effect)
FAULTS: list[tuple[str, dict[str, Any], tuple[D, R | None], tuple[D, R | None], bool]] = [
    ("refuse_tls", {}, (D.FAILED, R.NOT_SENT_TLS), (D.FAILED, R.NOT_SENT_TLS), False),
    ("commit_then_drop", {}, (D.UNKNOWN, R.CONNECTION_LOST), (D.FAILED, R.CONNECTION_LOST), True),
    ("commit_then_drop", {"reset": True}, (D.UNKNOWN, R.CONNECTION_LOST), (D.FAILED, R.CONNECTION_LOST), True),
    ("drop", {}, (D.UNKNOWN, R.CONNECTION_LOST), (D.FAILED, R.CONNECTION_LOST), False),
    ("late", {"answer_after": 3}, (D.UNKNOWN, R.TIMEOUT), (D.FAILED, R.TIMEOUT), True),
    ("slow_loris", {"seconds": 0.1}, (D.UNKNOWN, R.TIMEOUT), (D.FAILED, R.TIMEOUT), True),
    ("endless_chunks", {}, (D.UNKNOWN, R.TIMEOUT), (D.FAILED, R.TIMEOUT), True),
    ("huge_body", {}, (D.UNKNOWN, R.ANSWER_TOO_LARGE), (D.FAILED, R.ANSWER_TOO_LARGE), True),
    ("truncated", {}, (D.UNKNOWN, R.CONNECTION_LOST), (D.FAILED, R.CONNECTION_LOST), True),
    ("400", {}, (D.PARKED, R.REJECTED_INVALID), (D.PARKED, R.REJECTED_INVALID), False),
    ("422", {}, (D.PARKED, R.REJECTED_INVALID), (D.PARKED, R.REJECTED_INVALID), False),
    ("401", {}, (D.HALTED, R.REFUSED_CLIENT), (D.HALTED, R.REFUSED_CLIENT), False),
    ("403", {}, (D.HALTED, R.REFUSED_CLIENT), (D.HALTED, R.REFUSED_CLIENT), False),
    ("403_certificate", {}, (D.HALTED, R.REFUSED_CERTIFICATE), (D.HALTED, R.REFUSED_CERTIFICATE), False),
    ("429", {"retry_after": "7"}, (D.THROTTLED, R.THROTTLED), (D.THROTTLED, R.THROTTLED), False),
    ("500", {}, (D.UNKNOWN, R.PARTNER_EXCEPTION), (D.FAILED, R.PARTNER_EXCEPTION), False),
    ("502", {}, (D.UNKNOWN, R.PARTNER_EXCEPTION), (D.FAILED, R.PARTNER_EXCEPTION), False),
    ("503", {}, (D.FAILED, R.UNAVAILABLE), (D.FAILED, R.UNAVAILABLE), False),
    ("503", {"retry_after": "7"}, (D.THROTTLED, R.THROTTLED), (D.THROTTLED, R.THROTTLED), False),
    ("504", {}, (D.UNKNOWN, R.PARTNER_TIMEOUT), (D.FAILED, R.PARTNER_TIMEOUT), False),
    ("timeout_outcome", {}, (D.UNKNOWN, R.PARTNER_TIMEOUT), (D.FAILED, R.PARTNER_TIMEOUT), False),
    ("error_in_200", {}, (D.UNKNOWN, R.PARTNER_EXCEPTION), (D.FAILED, R.PARTNER_EXCEPTION), False),
    ("login_page", {}, (D.UNKNOWN, R.ANSWER_UNREADABLE), (D.FAILED, R.ANSWER_UNREADABLE), False),
    ("202", {}, (D.UNKNOWN, R.AWAITING_PROBE), (D.UNKNOWN, R.AWAITING_PROBE), False),
    ("empty_200", {}, (D.UNKNOWN, R.ANSWER_UNREADABLE), (D.DELIVERED, None), True),
]


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: f"{case[0]} {case[1]}")
def test_each_fault_has_its_verdict_and_the_probe_tells_the_truth(
    lines: Opener,
    house: RocheSandbox,
    case: tuple[str, dict[str, Any], tuple[Decision, Reason | None], tuple[Decision, Reason | None], bool],
) -> None:
    name, details, of_create, of_update, done = case
    line = lines()
    house.inject(name, next=1, **details)
    created = line.send()
    assert met(created) == of_create
    assert line.effects() == (["created"] if done else [])
    if created.verdict.decision is D.UNKNOWN:
        probed = line.probe()
        assert probed.probe
        assert met(probed) == ((D.DELIVERED, None) if done else (D.ABSENT, None))
        assert line.effects() == (["created", "updated"] if done else [])
    other = lines()
    other.send()
    if name == "refuse_tls":
        other.transport.close()  # strikes new connections alone
    house.inject(name, next=1, **details)
    assert met(other.send(other.what(Intent.UPDATE))) == of_update


def test_a_wait_is_told_in_seconds(lines: Opener, house: RocheSandbox) -> None:
    house.inject("429", next=1, retry_after="7")
    assert lines().send().verdict.retry_after == 7.0


def test_v2_posts_again_and_a_duplicate_means_that_it_is_there(lines: Opener, house: RocheSandbox) -> None:
    line = lines(api="v2", v2_unknown="again")
    house.inject("commit_then_drop", next=1)
    assert line.send().verdict.decision is D.UNKNOWN
    probed = line.probe()
    assert met(probed) == (D.DELIVERED, None)
    assert [one.partner_id for one in probed.verdict.learned] == [None]
    assert line.effects() == ["created"]


def test_v2_posts_again_and_creates_what_was_not_there(lines: Opener, house: RocheSandbox) -> None:
    line = lines(api="v2", v2_unknown="again")
    house.inject("drop", next=1)
    assert line.send().verdict.decision is D.UNKNOWN
    (learned,) = line.probe().verdict.learned
    assert learned.partner_id is not None
    assert line.effects() == ["created"]


def test_a_probe_has_a_request_id_of_its_own_and_an_attempt_may(lines: Opener, house: RocheSandbox) -> None:
    line = lines(request_id="per_attempt")
    house.inject("drop", next=1)
    line.send()
    line.probe()
    seen = [one.request_id for one in SandboxLog(house.folder) if one.identifier == line.value]
    assert len(seen) == len(set(seen)) == 2
    assert line.packed.requests[0].request_id not in seen
