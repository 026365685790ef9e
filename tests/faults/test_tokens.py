"""F9: a partner behind access tokens, whose authorization server is slow, fails, refuses us, or ends tokens in mid-stream.

A real worker with many messages in flight; the verdict is read from the stand-in's own log of effects: what it was asked for tokens, what it
did, and how often it said 401.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline import wiring
from pipeline.bus.open import open_bus
from pipeline.bus.port import Record
from pipeline.sandbox.log import CREATED
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from schemas.outcomes import Reason, State
from tests.faults.conftest import Make
from tests.faults.hospital import Hospital

pytestmark = pytest.mark.once
NAME, ROUTE = "njsams", "njsams-clients"
MESSAGES, IN_FLIGHT = 40, 16
PROMISE = "one refresh for all, one resend each, no herd; nothing sent without a token, nothing parked, nothing unknown"
LINES = (
    r"MSH|^~\&|HIS|DEMO|PIPELINE|NJSAMS|20260115101530-0500||ADT^A04|NJ{0:04}|P|2.5.1",
    "EVN|A04|20260115101500-0500",
    "PID|1||C-{0}^^^NJSAMS^PI||Example{0}^Pat^^^^^L||19800203|F|||1 Test Street^^Newark^NJ^07102^USA^H||||||||900-01-{0:04}",
    "PV1|1|O|CLINIC^^^DEMO|||||||SUD-IOP|||||||||V-{0}^^^HIS^VN|||||||||||||||||||||||||20260115100000-0500",
)


@pytest.fixture
def njsams(make_hospital: Make) -> Iterator[tuple[Hospital, NjsamsSandbox]]:
    """A hospital whose only partner is behind tokens."""
    hospital = make_hospital()
    hospital.tree["site"]["overlay"] = "demo"
    with NjsamsSandbox(hospital.folder / "sandbox-njsams", {"latency": 0.02, "provider_ids": ["123456"]}) as sandbox:
        times = {"connect": 3, "read": 10, "total": 15}
        hospital.tree["partners"][NAME] = {
            "kind": "njsams",
            "base_url": sandbox.base_url,
            "tls": {"ca": str(sandbox.files.ca)},
            "facilities": {"DEMO": "123456"},
            "in_flight": IN_FLIGHT,
            "create": times,
            "update": times,
            "oauth": {
                "client_id": sandbox.knobs.client_id,
                "client_secret": {"file": str(sandbox.files.client_secret)},
                "scope": "system/*.write",
                "times": {"connect": 3, "read": 3, "total": 4},
            },
        }
        hospital.tree["routes"][ROUTE] = {
            "partner": NAME,
            "source": "adt",
            "start": "earliest",
            "part2": [{"facility": "DEMO", "programs": ["SUD-IOP"]}],
        }
        yield hospital, sandbox
        for worker in hospital.workers:
            worker.kill()


def fill(hospital: Hospital, first: int = 0, number: int = MESSAGES) -> None:
    """So many new patients."""
    settings = hospital.settings
    with closing(open_bus(settings)) as bus:
        bus.create_topics(wiring.topic_settings(settings))
        with bus.producer() as producer:
            producer.append(
                [
                    Record("adt", "\r".join(LINES).format(one).encode(), key=str(one).encode())
                    for one in range(first + 1, first + number + 1)
                ]
            )


def creates(sandbox: NjsamsSandbox) -> int:
    return len(sandbox.log.effects(operation="create", effect=CREATED))


def tokens(sandbox: NjsamsSandbox) -> int:
    """Requests for a token, answered or not."""
    return len(sandbox.log.effects(operation="token"))


def refused(sandbox: NjsamsSandbox) -> int:
    """Writes that were answered with 401."""
    return Counter(effect.status for effect in sandbox.log.effects(operation="create"))[401]


def all_delivered(hospital: Hospital, sandbox: NjsamsSandbox, number: int = MESSAGES) -> None:
    """Each patient once, nothing parked, nothing open."""
    assert hospital.states(NAME) == {State.DELIVERED: number}, hospital.logs()
    assert creates(sandbox) == number
    secret = sandbox.files.secret()
    seen = [path for path in hospital.folder.rglob("*.log") if path.is_file() and "sandbox" not in str(path)]
    assert seen
    assert not any(secret in path.read_text() or "Bearer" in path.read_text() for path in seen)


@pytest.mark.fault("F9", PROMISE)
def test_a_slow_token_endpoint_is_asked_once(njsams: tuple[Hospital, NjsamsSandbox], seen: Callable[[str], None]) -> None:
    """Guard: one refresh at a time (TokenCache._begin)."""
    hospital, sandbox = njsams
    sandbox.inject("late", operation="token", next=1, effect_after=0, answer_after=1.5)
    fill(hospital)
    assert hospital.drain() == 0, hospital.logs()
    all_delivered(hospital, sandbox)
    assert (tokens(sandbox), refused(sandbox)) == (1, 0)
    seen(
        f"slow, 500, refused client, tokens ended in mid-stream: {MESSAGES} messages, {IN_FLIGHT} in flight, one request for a token"
    )


@pytest.mark.fault("F9", PROMISE)
def test_tokens_that_end_in_mid_stream_cost_one_refresh_and_one_resend_each(njsams: tuple[Hospital, NjsamsSandbox]) -> None:
    """Guard: BearerTransport sends once more after a 401."""
    hospital, sandbox = njsams
    sandbox.set(latency=0.5)
    fill(hospital, number=4 * MESSAGES)
    worker = hospital.start("--drain")
    hospital.until(lambda: creates(sandbox) >= 1)
    sandbox.revoke()
    assert worker.wait() == 0, hospital.logs()
    all_delivered(hospital, sandbox, 4 * MESSAGES)
    assert tokens(sandbox) == 2
    assert 1 <= refused(sandbox) <= IN_FLIGHT
    assert worker.events("route_halted", "partner_away", "token_not_renewed") == []


@pytest.mark.fault("F9", PROMISE)
@pytest.mark.parametrize(
    ("fault", "reason", "line"),
    [("500", Reason.NOT_SENT_TOKEN, "partner_away"), ("login_page", Reason.NOT_SENT_TOKEN, "partner_away")],
)
def test_a_token_endpoint_that_fails_opens_the_breaker_and_nothing_is_sent_until_it_is_back(
    njsams: tuple[Hospital, NjsamsSandbox], fault: str, reason: Reason, line: str
) -> None:
    """The breaker and the pause after a failure (TokenCache) both keep the requests few; tests/oauth looks at the pause alone."""
    hospital, sandbox = njsams
    sandbox.inject(fault, operation="token")
    fill(hospital)
    worker = hospital.start("--drain")
    hospital.until(lambda: worker.events(line))
    assert worker.events(line)[0]["reason"] == reason
    # the pauses between requests are a second and more, however many messages ask
    asked = tokens(sandbox)
    assert asked <= IN_FLIGHT // 2
    assert creates(sandbox) == 0
    sandbox.clear_faults()
    assert worker.wait() == 0, hospital.logs()
    all_delivered(hospital, sandbox)


@pytest.mark.fault("F9", PROMISE)
def test_a_client_that_is_refused_halts_the_route_with_one_line_until_it_is_mended(
    njsams: tuple[Hospital, NjsamsSandbox], tmp_path: Path
) -> None:
    """The secret is mended in the running process."""
    hospital, sandbox = njsams
    wrong = tmp_path / "secret"
    wrong.write_text("not the secret")
    block: dict[str, Any] = hospital.tree["partners"][NAME]["oauth"]
    block["client_secret"] = {"file": str(wrong)}
    fill(hospital)
    worker = hospital.start("--drain")
    hospital.until(lambda: worker.events("route_halted"))
    (line,) = worker.events("route_halted")
    assert line["reason"] == Reason.REFUSED_TOKEN
    assert "authorization server does not take our client" in line["do"]
    assert creates(sandbox) == 0
    wrong.write_text(sandbox.files.secret())
    assert worker.wait() == 0, hospital.logs()
    all_delivered(hospital, sandbox)
    assert len(worker.events("route_halted")) == 1
