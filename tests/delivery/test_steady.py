"""What is tried until it works: what the log is told of it, whatever comes in the end."""

import threading

import pytest

from pipeline.delivery.attempts import Backoff
from pipeline.delivery.steady import Outages, Steady, Stopped
from pipeline.errors import BusUnavailable, LedgerError, Refused
from pipeline.ledger.port import Held
from tests.delivery.partner_script import ROUTE


def steady(outages: Outages, abandoned: threading.Event | None = None) -> Steady:
    return Steady(outages, abandoned or threading.Event(), Backoff(0.001, 0.002))


def away(outages: Outages) -> tuple[bool, bool]:
    return outages.ledger, outages.bus


def test_what_works_in_the_end_says_that_it_is_back() -> None:
    outages, errors = Outages(ROUTE), [LedgerError("away"), BusUnavailable("away")]

    def action() -> str:
        if errors:
            raise errors.pop(0)
        assert away(outages) == (True, True)
        return "done"

    assert steady(outages)(action) == "done"
    assert away(outages) == (False, False)


@pytest.mark.parametrize("last", [Held("not now"), Refused("never"), ValueError("a defect")], ids=["held", "refused", "defect"])
def test_an_answer_that_is_an_error_says_that_it_is_back_too(last: Exception) -> None:
    outages, errors = Outages(ROUTE), [LedgerError("away"), last]

    def action() -> None:
        raise errors.pop(0)

    with pytest.raises(type(last)):
        steady(outages)(action)
    assert away(outages) == (False, False)


def test_who_is_stopped_does_not_say_that_it_is_back() -> None:
    outages, abandoned = Outages(ROUTE), threading.Event()
    abandoned.set()

    def action() -> None:
        raise LedgerError("away")

    with pytest.raises(Stopped):
        steady(outages, abandoned)(action)
    assert away(outages) == (True, False)
