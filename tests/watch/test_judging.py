"""What an answer to a watch's question means, and which dossiers a message names."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import NoAnswer, NotSent
from pipeline.model import Decision, Reply
from pipeline.settings import Site
from pipeline.watch.judging import judged
from pipeline.watch.named import dossiers_of
from schemas.event import Identifier
from schemas.outcomes import Reason
from tests.delivery.partner_script import adt
from tests.partners.roqua_recorded import answered, completed, reader

READER = reader()
ASKED = READER.by_search("responses", {"dossier": "2075"})


def means(came: Reply | NotSent | NoAnswer) -> tuple[Decision, Reason | None]:
    found = judged(READER, ASKED, came)
    return found.decision, found.reason


@pytest.mark.parametrize(
    ("status", "body", "decision", "reason"),
    [
        (200, b"<html>login</html>", Decision.FAILED, Reason.ANSWER_UNREADABLE),
        (200, b"", Decision.FAILED, Reason.ANSWER_UNREADABLE),
        (204, b"", Decision.FAILED, Reason.ANSWER_UNREADABLE),
        (302, b"", Decision.FAILED, Reason.ANSWER_UNREADABLE),
        (401, b"", Decision.HALTED, Reason.REFUSED_CLIENT),
        (403, b"", Decision.HALTED, Reason.REFUSED_CLIENT),
        (404, b"", Decision.ABSENT, Reason.TARGET_UNKNOWN),
        (422, b"", Decision.PARKED, Reason.REJECTED_OTHER),
        (429, b"", Decision.THROTTLED, Reason.THROTTLED),
        (500, b"", Decision.FAILED, Reason.PARTNER_EXCEPTION),
        (503, b"", Decision.FAILED, Reason.UNAVAILABLE),
        (504, b"", Decision.FAILED, Reason.PARTNER_TIMEOUT),
    ],
)
def test_each_status_has_its_meaning(status: int, body: bytes, decision: Decision, reason: Reason) -> None:
    assert means(answered(body, status)) == (decision, reason)


def test_a_list_is_what_was_found() -> None:
    found = judged(READER, ASKED, answered(orjson.dumps([completed()])))
    assert (found.decision, [one["id"] for one in found.found]) == (Decision.DELIVERED, [4])


@pytest.mark.parametrize("status", [429, 503])
def test_a_partner_that_asks_us_to_wait_is_waited_for(status: int) -> None:
    found = judged(READER, ASKED, Reply(status, {"retry-after": "7"}, b"", 1.0, 0, 1))
    assert (found.decision, found.retry_after) == (Decision.THROTTLED, 7.0)


def test_without_an_answer_it_is_asked_again_but_a_refused_certificate_halts() -> None:
    assert means(NotSent(Reason.NOT_SENT_CONNECT)) == (Decision.FAILED, Reason.NOT_SENT_CONNECT)
    assert means(NoAnswer(Reason.TIMEOUT)) == (Decision.FAILED, Reason.TIMEOUT)
    assert means(NotSent(Reason.NOT_SENT_CERTIFICATE)) == (Decision.HALTED, Reason.NOT_SENT_CERTIFICATE)


@given(st.integers(100, 999), st.binary(max_size=20))
def test_every_answer_means_something(status: int, body: bytes) -> None:
    assert judged(READER, ASKED, answered(body, status)).decision in Decision


# messages

SITE = Site(name="test")


def system_of(identifier: Identifier) -> str | None:
    return "urn:x" if identifier.authority == "CIP" else None


def test_a_message_names_the_identifiers_that_the_partner_takes() -> None:
    assert dossiers_of(adt(), SITE, system_of) == ("12345678Z",)
    assert dossiers_of(adt(), SITE, lambda _: None) == ()


@pytest.mark.parametrize("value", [None, b"", b"no message", b"MSH|^~\\&|"])
def test_what_cannot_be_read_names_none(value: bytes | None) -> None:
    assert dossiers_of(value, SITE, system_of) == ()


def test_a_test_message_and_one_that_is_too_large_name_none() -> None:
    assert dossiers_of(adt().replace(b"|P|2.5", b"|T|2.5"), SITE, system_of) == ()
    assert dossiers_of(adt(), Site(name="test", most_bytes=10), system_of) == ()


@given(st.binary(max_size=200))
def test_any_bytes_name_dossiers_or_none(value: bytes) -> None:
    assert dossiers_of(b"MSH|^~\\&|" + value, SITE, system_of) is not None
