"""The bearer transport alone: one token, one resend, and all of it within the request's own deadline."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pipeline.errors import NoAnswer, NotSent
from pipeline.model import Intent, Reply, Request, Timeouts
from pipeline.transport.bearer import BearerTransport, Masked
from schemas.outcomes import Reason

REQUEST = Request("create", "POST", "/Bundle", "/Bundle", (("Accept", "x"),), b"", "r", Timeouts(5, 15, 20), Intent.CREATE)


@dataclass
class Script:
    """Time, a transport and tokens, which pass time and answer as told."""

    answers: list[int | Exception]
    takes: float = 0.0
    """Seconds for each exchange."""
    token_takes: float = 0.0
    now: float = 100.0
    other: str | None = "new"
    sent: list[Request] = field(default_factory=list)
    patience: list[float] = field(default_factory=list)

    def exchange(self, request: Request) -> Reply:
        self.sent.append(request)
        self.now += self.takes
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer, {}, b"", 1.0, 0, 1)

    def knock(self) -> None:
        self.sent.append(REQUEST)

    def close(self) -> None:
        self.answers.clear()

    def current(self, patience: float) -> str:
        self.patience.append(patience)
        self.now += self.token_takes
        return "old"

    def at_hand(self) -> bool:
        return True

    def instead_of(self, refused: str, patience: float) -> str | None:
        assert refused == "old"
        self.patience.append(patience)
        self.now += self.token_takes
        return self.other

    def tokens_sent(self) -> list[str]:
        return [str(value) for request in self.sent for name, value in request.headers if name == "Authorization"]


def transport(script: Script) -> BearerTransport:
    return BearerTransport(script, script, clock=lambda: script.now)


@pytest.mark.parametrize("status", [200, 400, 403, 500, 503])
def test_any_answer_but_401_is_the_answer(status: int) -> None:
    script = Script([status])
    assert transport(script).exchange(REQUEST).status == status
    assert script.tokens_sent() == ["Bearer old"]


@pytest.mark.parametrize("second", [200, 401, 500])
def test_after_a_401_it_sends_once_more_and_what_comes_then_is_the_answer(second: int) -> None:
    script = Script([401, second])
    assert transport(script).exchange(REQUEST).status == second
    assert script.tokens_sent() == ["Bearer old", "Bearer new"]


def test_without_another_token_the_401_is_the_answer() -> None:
    script = Script([401], other=None)
    assert transport(script).exchange(REQUEST).status == 401


@pytest.mark.parametrize("error", [NoAnswer(Reason.TIMEOUT), NotSent(Reason.NOT_SENT_CONNECT)])
def test_what_was_not_answered_is_not_sent_again(error: Exception) -> None:
    script = Script([error])
    with pytest.raises(type(error)):
        transport(script).exchange(REQUEST)
    assert len(script.sent) == 1


def test_a_resend_without_an_answer_is_without_an_answer() -> None:
    script = Script([401, NoAnswer(Reason.TIMEOUT)])
    with pytest.raises(NoAnswer):
        transport(script).exchange(REQUEST)


def test_token_request_and_resend_end_within_the_deadline_of_the_intent() -> None:
    script = Script([401, 200], takes=1.0, token_takes=1.0)
    transport(script).exchange(REQUEST)
    assert [request.timeouts.total for request in script.sent] == [19.0, 17.0]
    assert script.patience == [5.0, 3.0]


def test_a_token_that_comes_too_late_for_the_partner_to_answer_in_sends_nothing() -> None:
    script = Script([200], token_takes=5.5)
    with pytest.raises(NotSent) as late:
        transport(script).exchange(REQUEST)
    assert late.value.reason is Reason.NOT_SENT_TOKEN
    assert script.sent == []


def test_a_401_that_took_long_asks_for_a_token_and_leaves_the_resend_to_the_next_attempt() -> None:
    script = Script([401, 200], takes=14.0)
    with pytest.raises(NotSent):
        transport(script).exchange(REQUEST)
    assert script.patience == [5.0, 0.0]
    assert len(script.sent) == 1


def test_a_request_shows_no_token() -> None:
    script = Script([200])
    transport(script).exchange(REQUEST)
    assert "old" not in repr(script.sent[0])
    assert "********" in repr(script.sent[0])


def test_a_masked_secret_is_the_text_where_it_is_sent() -> None:
    shown: Callable[[object], str] = repr
    assert (Masked("x").encode(), shown(Masked("x")), shown([Masked("x")])) == (b"x", "'********'", "['********']")


def test_a_knock_and_the_end_are_the_inner_transports() -> None:
    script = Script([200])
    one = transport(script)
    one.knock()
    one.close()
    assert (script.tokens_sent(), script.answers) == ([], [])
