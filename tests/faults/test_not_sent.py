"""F3: nothing leaves this machine. Refused, no such host, no handshake; our certificate expired or refused, under TLS 1.2 and 1.3.

What all have in common: no effect, nothing parked, nothing unknown that stays, one line in the log and one when it is over; and when the
fault is mended, in the running process, all goes out once.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.commands.demo.appointments import free_port
from pipeline.sandbox.log import NOTHING
from pipeline.trial.invariants import violations
from pipeline.trial.traffic import Traffic, seeded
from schemas.outcomes import Reason, State
from tests.faults.conftest import THOROUGH
from tests.faults.gateway import Gateway
from tests.faults.hospital import PARTNER, Hospital, Worker
from tests.faults.proxy import Order, Proxy

pytestmark = pytest.mark.once
Seen = Callable[[str], None]
NOT_SENT = (
    "not sent: nothing parked, nothing unknown, one line; a certificate burns no attempts and makes no unknowns beyond the first"
)
NEWS = ("partner_away", "route_halted", "gate_opened", "partner_back", "route_resumed", "gate_closed")


def some(seed: int) -> Traffic:
    return seeded(seed, patients=4, updates=1, merges=0, garbage=0)


def while_away(hospital: Hospital, worker: Worker, seconds: float = 1.5) -> None:
    """It has noticed, and some time more goes by; then nothing is done, nothing is lost, nothing parked, and little was said."""
    hospital.until(lambda: worker.events(*NEWS))
    time.sleep(seconds)
    evidence = hospital.evidence(over=False)
    assert violations(evidence) == []
    assert [one for one in evidence.effects if one.effect != NOTHING] == []
    assert evidence.states.keys() <= {State.PENDING}
    assert len(worker.events(*NEWS)) <= 2, worker.said


def mended(hospital: Hospital, worker: Worker) -> None:
    """The same process goes on, and all goes out once."""
    assert worker.wait() == 0, hospital.logs()
    evidence = hospital.evidence()
    assert violations(evidence) == []
    assert evidence.states == evidence.traffic.states
    assert {one.fault for one in evidence.effects if one.effect != NOTHING} == {None}


@pytest.mark.fault("F3", NOT_SENT)
def test_the_connection_is_refused(hospital: Hospital, seed: int, seen: Seen) -> None:
    """Nothing listens at the partner's port, until it does. Guard: NotSent is FAILED, not unknown."""
    partner = hospital.partners[PARTNER]
    port = free_port()
    hospital.set(base_url=partner.base_url.replace(f":{partner.port}/", f":{port}/"))
    hospital.fill(some(seed))
    worker = hospital.start("--drain")
    while_away(hospital, worker)
    with Proxy(("127.0.0.1", partner.port), port=port):
        mended(hospital, worker)
    assert reasons(hospital) == {Reason.NOT_SENT_CONNECT}
    seen("refused, DNS, handshake; certificate expired, not yet valid, foreign, under TLS 1.2 and 1.3, as an alert and as a 403")


def reasons(hospital: Hospital) -> set[Reason | None]:
    return {one.reason for one in hospital.evidence().results if not one.settled}


@pytest.mark.fault("F3", NOT_SENT)
@THOROUGH
def test_the_connection_is_reset_before_a_byte(hospital: Hospital, seed: int) -> None:
    partner = hospital.partners[PARTNER]
    with Proxy(("127.0.0.1", partner.port)) as proxy:
        hospital.set(base_url=partner.base_url.replace(f":{partner.port}/", f":{proxy.port}/"))
        proxy.order(Order(refuse=True))
        hospital.fill(some(seed))
        worker = hospital.start("--drain")
        while_away(hospital, worker)
        proxy.clear()
        mended(hospital, worker)
    assert reasons(hospital) <= {Reason.NOT_SENT_TLS, Reason.NOT_SENT_CONNECT}


@pytest.mark.fault("F3", NOT_SENT)
@THOROUGH
def test_the_host_name_does_not_resolve(hospital: Hospital, seed: int) -> None:
    """A name that is reserved for this (RFC 6761). Mended by the settings, so by another process."""
    good = hospital.tree["partners"][PARTNER]["base_url"]
    hospital.set(base_url=good.replace("localhost", "partner.invalid"))
    hospital.fill(some(seed))
    worker = hospital.start("--drain")
    while_away(hospital, worker)
    assert worker.end() == 0, hospital.logs()
    assert {one.reason for one in hospital.evidence(over=False).results} == {Reason.NOT_SENT_DNS}
    hospital.set(base_url=good)
    mended(hospital, hospital.start("--drain"))


@pytest.mark.fault("F3", NOT_SENT)
@pytest.mark.parametrize("tls", [pytest.param("1.2", marks=THOROUGH), "1.3"])
def test_the_handshake_fails(hospital: Hospital, seed: int, tls: str) -> None:
    partner = hospital.partners[PARTNER]
    partner.set(tls=tls)
    partner.inject("refuse_tls")
    hospital.fill(some(seed))
    worker = hospital.start("--drain")
    while_away(hospital, worker)
    partner.clear_faults()
    mended(hospital, worker)
    assert reasons(hospital) == {Reason.NOT_SENT_TLS}


@pytest.mark.fault("F3", NOT_SENT)
@pytest.mark.parametrize("wrong", ["expired", pytest.param("not-yet-valid", marks=THOROUGH)])
@pytest.mark.parametrize("tls", [pytest.param("1.2", marks=THOROUGH), "1.3"])
def test_our_certificate_is_not_valid_now(hospital: Hospital, seed: int, tls: str, wrong: str) -> None:
    """Its dates are looked at here, and nothing is sent. The renewed files mend it.

    Guard: Credentials.check before each exchange; Decision.HALTED gives the attempt back.
    """
    partner = hospital.partners[PARTNER]
    partner.set(tls=tls)
    ours = certificate_of(hospital, *partner.files.wrong(wrong))
    hospital.fill(some(seed))
    worker = hospital.start("--drain")
    while_away(hospital, worker)
    assert list(partner.log) == [], "what cannot work is not tried"
    renew(ours, partner.files.client, partner.files.client_key)
    mended(hospital, worker)
    assert touched(hospital) == []


@pytest.mark.fault("F3", NOT_SENT)
@pytest.mark.parametrize("tls", [pytest.param("1.2", marks=THOROUGH), "1.3"])
def test_the_partner_refuses_our_certificate_by_an_alert(hospital: Hospital, seed: int, tls: str) -> None:
    """Under TLS 1.3 the alert comes after our handshake. Guard: connection._refused, _hear_first."""
    partner = hospital.partners[PARTNER]
    with Gateway(partner, tls) as gateway:
        hospital.set(base_url=gateway.base_url)
        ours = certificate_of(hospital, *partner.files.wrong("foreign"))
        hospital.fill(some(seed))
        worker = hospital.start("--drain")
        while_away(hospital, worker)
        assert gateway.refused >= 1
        assert reasons(hospital) == {Reason.REFUSED_CERTIFICATE}
        renew(ours, partner.files.client, partner.files.client_key)
        mended(hospital, worker)
    assert touched(hospital) == []


@pytest.mark.fault("F3", NOT_SENT)
@pytest.mark.parametrize("tls", [pytest.param("1.2", marks=THOROUGH), "1.3"])
def test_the_partner_refuses_our_certificate_and_says_nothing(hospital: Hospital, seed: int, tls: str) -> None:
    """The handshake, or the first read after it, just ends."""
    partner = hospital.partners[PARTNER]
    partner.set(tls=tls)
    ours = certificate_of(hospital, *partner.files.wrong("foreign"))
    hospital.fill(some(seed))
    worker = hospital.start("--drain")
    while_away(hospital, worker)
    renew(ours, partner.files.client, partner.files.client_key)
    mended(hospital, worker)


def touched(hospital: Hospital) -> list[object]:
    """Attempts that were burnt, and who is suspected to have been sent twice.

    One may be in doubt: a reset that overtakes the alert cannot be told from an answer that was lost. The gate makes no second one of it.
    """
    evidence = hospital.evidence()
    tried = {
        row.position: {one.reason for one in evidence.results if one.source_offset == row.position.offset}
        for row in evidence.rows
    }
    burnt = [(row.position, row.attempt, tried[row.position]) for row in evidence.rows if row.attempt != 1]
    doubt = [one for one in burnt if Reason.CONNECTION_LOST in one[2]][:1]
    return [*(one for one in burnt if one not in doubt), *(one for one in evidence.results if one.possible_duplicate)]


def certificate_of(hospital: Hospital, certificate: Path, key: Path) -> tuple[Path, Path]:
    """Our certificate files, in a place of their own, with this content."""
    ours = hospital.folder / "sandbox-ours.pem", hospital.folder / "sandbox-ours.key"
    renew(ours, certificate, key)
    hospital.tree["partners"][PARTNER]["tls"] |= {"certificate": str(ours[0]), "key": str(ours[1])}
    return ours


def renew(ours: tuple[Path, Path], certificate: Path, key: Path) -> None:
    shutil.copyfile(key, ours[1])
    shutil.copyfile(certificate, ours[0])


@pytest.mark.fault("F3", NOT_SENT)
@THOROUGH
@pytest.mark.parametrize("wrong", ["expired", "foreign"])
def test_the_gateway_answers_a_refused_certificate_with_403(hospital: Hospital, seed: int, wrong: str) -> None:
    """The partner's own gateway lets the handshake pass and says so in HTTP (contracts, Roche 7.2). Dates are ours to see, so nothing is sent."""
    partner = hospital.partners[PARTNER]
    partner.set(wrong_certificate="403")
    ours = certificate_of(hospital, *partner.files.wrong(wrong))
    hospital.fill(some(seed))
    worker = hospital.start("--drain")
    while_away(hospital, worker)
    renew(ours, partner.files.client, partner.files.client_key)
    mended(hospital, worker)
    assert touched(hospital) == []


@pytest.mark.fault("F3", NOT_SENT)
@pytest.mark.parametrize("tls", [pytest.param("1.2", marks=THOROUGH), "1.3"])
def test_a_connection_that_ends_before_any_answer_makes_no_unknowns_beyond_those_that_were_out(
    hospital: Hospital, seed: int, tls: str
) -> None:
    """What a refused certificate looks like where the server says nothing: an end of stream on every fresh connection (RELIABILITY section 1)."""
    partner = hospital.partners[PARTNER]
    partner.set(tls=tls)
    with Proxy(("127.0.0.1", partner.port)) as proxy:
        hospital.set(base_url=partner.base_url.replace(f":{partner.port}/", f":{proxy.port}/"), in_flight=2)
        proxy.order(Order(hang_up_on=3))
        hospital.fill(seeded(seed, patients=12, updates=0, merges=0, garbage=0, again=0))
        worker = hospital.start("--drain")
        hospital.until(lambda: worker.events("outcome_unknown"))
        time.sleep(3)
        evidence = hospital.evidence(over=False)
        assert violations(evidence) == []
        assert sum(row.state is State.UNKNOWN or row.open for row in evidence.rows) in {1, 2}, (
            "those that were out when the first ended"
        )
        assert evidence.states[State.PARKED] == 0
        proxy.clear()
        mended(hospital, worker)


@pytest.mark.fault("F3", NOT_SENT)
def test_while_the_partner_is_away_hardly_an_attempt_counts(hospital: Hospital, seed: int) -> None:
    """Those of the first wave, and one for each pause of the breaker. Guard: Gate.ask; without it each message tries five times a second."""
    hospital.tree["breaker"] |= {"failures": 5, "open_first": 1.5, "open_most": 3}
    partner = hospital.partners[PARTNER]
    partner.inject("refuse_tls")
    hospital.fill(some(seed))
    worker = hospital.start("--drain")
    while_away(hospital, worker, seconds=3)
    partner.clear_faults()
    mended(hospital, worker)
    assert sum(not one.settled for one in hospital.evidence().results) <= 5 + 4 + 3
