"""Reading answers: body forms, issue codes, Retry-After. Nothing that a partner says makes it fail."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.partners.answers import ISSUE_TYPES, MOST_WAIT, Form, read, retry_after
from tests.partners.samples import reply

ERROR = b'{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"required"}]}'


@pytest.mark.parametrize(
    ("body", "form", "codes"),
    [
        (b"", Form.EMPTY, ()),
        (b" \r\n\t", Form.EMPTY, ()),
        (b"\xef\xbb\xbf", Form.EMPTY, ()),
        (b"<html>login</html>", Form.OTHER, ()),
        (b'{"resourceType":"Patient","id":', Form.OTHER, ()),
        (b"\xff\xfe", Form.OTHER, ()),
        (b'{"error": "Invalid Client"}', Form.JSON, ()),
        (b'"text"', Form.JSON, ()),
        (b"null", Form.JSON, ()),
        (b"[]", Form.JSON, ()),
        (b'{"resourceType":["Patient"]}', Form.JSON, ()),
        (b'{"resourceType":"Basic"}', Form.JSON, ()),
        (b'{"resourceType":"Patient","id":"1"}', Form.PATIENT, ()),
        (b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient"}}]}', Form.PATIENT, ()),
        (b'{"resourceType":"Bundle"}', Form.BUNDLE, ()),
        (b'{"resourceType":"Bundle","entry":"x"}', Form.BUNDLE, ()),
        (b'{"resourceType":"Bundle","entry":[1,{"resource":2}]}', Form.BUNDLE, ()),
        (ERROR, Form.ERROR, ("required",)),
        (b"\xef\xbb\xbf" + ERROR, Form.ERROR, ("required",)),
        (
            b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient"}},{"resource":' + ERROR + b"}]}",
            Form.ERROR,
            ("required",),
        ),
        (
            b'{"resourceType":"OperationOutcome","issue":[{"severity":"information","code":"informational"}]}',
            Form.FINE,
            ("informational",),
        ),
        (b'{"resourceType":"OperationOutcome","issue":[{"code":"duplicate"}]}', Form.ERROR, ("duplicate",)),
        (b'{"resourceType":"OperationOutcome"}', Form.ERROR, ()),
        (b'{"resourceType":"OperationOutcome","issue":7}', Form.ERROR, ()),
        (b'{"resourceType":"OperationOutcome","issue":[{"severity":"fatal","code":"Jansen, born 1980"}]}', Form.ERROR, ()),
        (
            b'{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"duplicate"},{"severity":"error","code":"invalid"}]}',
            Form.ERROR,
            ("invalid",),
        ),
    ],
)
def test_a_body_has_one_form_and_codes_of_the_closed_list(body: bytes, form: Form, codes: tuple[str, ...]) -> None:
    came = read(body)
    assert (came.form, came.codes) == (form, codes)


def test_a_gateway_that_speaks_of_a_certificate_is_noticed_and_an_outcome_that_does_is_not() -> None:
    assert read(b'{"detail": "Validation policy error: Certificate validation failed."}').certificate
    assert read(b"<center>The SSL certificate error</center>").certificate
    assert not read(ERROR.replace(b"required", b"certificate")).certificate


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read(body: bytes) -> None:
    assert set(read(body).codes) <= ISSUE_TYPES


def test_a_body_that_is_nested_beyond_reason_is_read() -> None:
    assert read(100_000 * b'{"entry":[').form is Form.OTHER


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("999999999999999999999999999999999999999999", MOST_WAIT),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("", None),
        ("Thu, 99 Foo 2026 10:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MOST_WAIT),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_and_capped(said: str, seconds: float | None) -> None:
    assert retry_after(reply(429, retry_after=said)) == seconds


def test_a_date_counts_from_the_answers_own_clock() -> None:
    theirs = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
    later = theirs.replace(second=30)
    came = reply(429, retry_after=format_datetime(later, usegmt=True), date=format_datetime(theirs, usegmt=True))
    assert retry_after(came) == 30.0


def test_a_date_without_their_clock_counts_from_ours() -> None:
    ours = datetime.fromtimestamp(1_790_000_000, tz=UTC)
    said = format_datetime(datetime.fromtimestamp(ours.timestamp() + 20, tz=UTC), usegmt=True)
    waited = retry_after(reply(503, retry_after=said))
    assert waited == pytest.approx(20, abs=0.1)


@given(st.text(max_size=40))
def test_any_retry_after_is_a_wait_or_none(said: str) -> None:
    waited = retry_after(reply(429, retry_after=said))
    assert waited is None or 0 <= waited <= MOST_WAIT
