"""The token cache: who asks gets a token that is good, and one refresh is under way at a time."""

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.errors import NotSent
from pipeline.oauth.cache import ASSUMED, LONGEST, PAUSE_MOST, TRANSIT, TokenCache, timed
from pipeline.oauth.granted import Granted, NoToken
from schemas.outcomes import Reason

AWAY = NoToken(Reason.NOT_SENT_TOKEN, "away")
LONG = 30.0
"""Seconds that a thread waits at most for what comes at once."""


@dataclass
class Server:
    """An authorization server in memory: what it gives next, and what it was asked."""

    lifetime: float | None = 3600.0
    failing: NotSent | None = None
    asked: int = 0
    same: bool = False
    """It gives the same token for ever."""

    def close(self) -> None:
        self.asked = 0

    def __call__(self) -> Granted:
        self.asked += 1
        if self.failing is not None:
            raise self.failing
        return Granted(f"t{1 if self.same else self.asked}", self.lifetime)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Beside:
    """Refreshes that were begun and have not ended: a test ends them."""

    works: list[Callable[[], None]] = field(default_factory=list)

    def __call__(self, work: Callable[[], None]) -> None:
        self.works.append(work)

    def end(self) -> None:
        self.works.pop(0)()


@dataclass
class Fetching:
    """A function as what fetches."""

    function: Callable[[], Granted]

    def __call__(self) -> Granted:
        return self.function()

    def close(self) -> None:
        self.function = Server()


def at_once(work: Callable[[], None]) -> None:
    work()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Server:
    return Server()


def cache_of(server: Server, clock: Clock, start: Callable[[Callable[[], None]], None] = at_once) -> TokenCache:
    return TokenCache("partner", server, 60, clock=clock, jitter=lambda: 1.0, start=start)


def test_a_token_is_fetched_once_and_kept(server: Server, clock: Clock) -> None:
    cache = cache_of(server, clock)
    assert [cache.current(1) for _ in range(5)] == ["t1"] * 5
    assert server.asked == 1


def test_a_token_that_is_due_is_handed_out_while_its_successor_is_fetched_beside(server: Server, clock: Clock) -> None:
    beside = Beside()
    cache = cache_of(server, clock, beside)
    with pytest.raises(NotSent):
        cache.current(0)
    beside.end()
    clock.now += 3600 - 60
    assert [cache.current(0), cache.current(0), cache.current(0)] == ["t1"] * 3
    assert len(beside.works) == 1
    beside.end()
    assert cache.current(0) == "t2"


def test_an_old_token_serves_until_its_end_where_the_refresh_fails_and_not_after(
    server: Server, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = cache_of(server, clock)
    cache.current(1)
    server.failing = AWAY
    clock.now += 3600 - 30
    assert [cache.current(0) for _ in range(10)] == ["t1"] * 10
    assert server.asked == 2
    clock.now += 30 - TRANSIT
    with pytest.raises(NotSent) as none:
        cache.current(0)
    assert none.value.reason is Reason.NOT_SENT_TOKEN
    server.failing = None
    clock.now += PAUSE_MOST
    assert cache.current(0) == f"t{server.asked}"
    log = capsys.readouterr().err
    assert log.count("token_not_renewed") == log.count("token_renewed") == 1


def test_a_failure_is_shared_for_a_pause_that_grows(server: Server, clock: Clock) -> None:
    server.failing = AWAY
    cache = cache_of(server, clock)
    asked = []
    for _ in range(60):
        with pytest.raises(NotSent, match="away"):
            cache.current(1)
        asked.append(server.asked)
        clock.now += 1
    assert asked[0] == 1
    assert asked[-1] == 6  # after 0, 1, 3, 7, 15 and 31 seconds


def test_an_authorization_server_that_asks_for_patience_gets_it(server: Server, clock: Clock) -> None:
    server.failing = NoToken(Reason.NOT_SENT_TOKEN, "throttled", retry_after=120)
    cache = cache_of(server, clock)
    for _ in range(119):
        with pytest.raises(NotSent):
            cache.current(1)
        clock.now += 1
    assert server.asked == 1


@pytest.mark.parametrize("reason", [Reason.REFUSED_TOKEN, Reason.LOGIN_NEEDED])
def test_a_refusal_keeps_its_reason(reason: Reason, server: Server, clock: Clock) -> None:
    server.failing = NoToken(reason, "invalid_client")
    with pytest.raises(NotSent) as none:
        cache_of(server, clock).current(1)
    assert none.value.reason is reason
    assert none.value.message == f"{reason.sentence}: invalid_client"


def test_a_defect_in_fetching_is_told_without_its_text_and_nobody_waits_for_ever(clock: Clock) -> None:
    def broken() -> Granted:
        raise RuntimeError("canary-token")

    with pytest.raises(NotSent) as none:
        TokenCache("partner", Fetching(broken), 60, clock=clock, start=at_once).current(1)
    assert "RuntimeError" in none.value.message
    assert "canary" not in none.value.message


def test_a_thread_that_cannot_be_started_is_a_failure_like_another(server: Server, clock: Clock) -> None:
    def full(_: Callable[[], None]) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.raises(NotSent, match="another thread"):
        cache_of(server, clock, full).current(1)


def test_a_refused_token_is_replaced_once_for_all_who_had_it(server: Server, clock: Clock) -> None:
    cache = cache_of(server, clock)
    had = [cache.current(1) for _ in range(8)]
    assert [cache.instead_of(token, 1) for token in had] == ["t2"] * 8
    assert server.asked == 2


def test_a_refused_token_is_handed_out_to_nobody_any_more(server: Server, clock: Clock) -> None:
    beside = Beside()
    cache = cache_of(server, clock, beside)
    with pytest.raises(NotSent):
        cache.current(0)
    beside.end()
    with pytest.raises(NotSent):
        cache.instead_of("t1", 0)
    with pytest.raises(NotSent):
        cache.current(0)
    beside.end()
    assert cache.current(0) == "t2"
    assert server.asked == 2


def test_an_authorization_server_that_gives_the_refused_token_again_has_no_other(server: Server, clock: Clock) -> None:
    server.same = True
    cache = cache_of(server, clock)
    assert cache.instead_of(cache.current(1), 1) is None


@pytest.mark.parametrize(
    ("lifetime", "due", "until"),
    [
        (3600.0, 3540.0, 3600 - TRANSIT),
        (40.0, 30.0, 38.0),
        (1.0, 0.75, 0.9),
        (1e12, LONGEST, 1e12 - TRANSIT),
        (None, ASSUMED, math.inf),
    ],
)
def test_a_token_is_renewed_before_its_end_whatever_its_life(lifetime: float | None, due: float, until: float) -> None:
    token = timed(Granted("t", lifetime), 0.0, 60)
    assert token.due == due
    assert token.until == pytest.approx(until)


def test_a_token_ages_from_before_its_request(server: Server, clock: Clock) -> None:
    def slow() -> Granted:
        clock.now += 3000
        return server()

    cache = TokenCache("partner", Fetching(slow), 60, clock=clock, start=at_once)
    cache.current(1)
    clock.now += 598
    assert cache.current(1) == "t2"


def test_no_repr_shows_a_token() -> None:
    assert "canary" not in repr(timed(Granted("canary", None, "canary", "canary"), 0, 60)) + repr(
        Granted("canary", 1.0, "canary")
    )


class Asking(RuleBasedStateMachine):
    """Any order of asking, refusing, waiting, and refreshes that end well or badly. Nobody here waits, so each interleaving is one of rules."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.beside = Clock(), Beside()
        self.server = Server()
        self.cache = cache_of(self.server, self.clock, self.beside)
        self.ends: dict[str, float] = {}
        self.newest: str | None = None
        self.refused: set[str] = set()
        self.last = "t0"

    def fetch_ends(self, failing: NotSent | None, lifetime: float | None) -> None:
        self.server.failing, self.server.lifetime = failing, lifetime
        self.beside.end()
        if failing is None:
            self.newest = f"t{self.server.asked}"
            self.ends[self.newest] = math.inf if lifetime is None else self.clock.now + lifetime

    def good(self) -> str | None:
        """The token that must be handed out: the newest, where it lives and nobody refused it. Transit time aside."""
        if self.newest is None or self.newest in self.refused or self.ends[self.newest] - TRANSIT <= self.clock.now:
            return None
        return self.newest

    def handed(self, ask: Callable[[], str | None]) -> None:
        good = self.good()
        try:
            token = ask()
        except NotSent:
            assert good is None
            return
        assert token is not None
        assert token == self.newest
        assert token not in self.refused
        assert self.clock.now < self.ends[token]
        self.last = token

    @rule()
    def ask(self) -> None:
        self.handed(lambda: self.cache.current(0))

    @rule()
    def refuse(self) -> None:
        if self.last in self.ends:
            self.refused.add(self.last)
        last = self.last
        self.handed(lambda: self.cache.instead_of(last, 0))

    @rule(seconds=st.sampled_from([0.1, 1.0, 29.0, 31.0, 61.0, 3600.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.beside.works)
    @rule(lifetime=st.sampled_from([None, 1.0, 30.0, 300.0, 3600.0, 1e9]))
    def a_token_comes(self, lifetime: float | None) -> None:
        self.fetch_ends(None, lifetime)

    @precondition(lambda self: self.beside.works)
    @rule(reason=st.sampled_from([Reason.NOT_SENT_TOKEN, Reason.REFUSED_TOKEN]))
    def none_comes(self, reason: Reason) -> None:
        self.fetch_ends(NoToken(reason), 1.0)

    @invariant()
    def one_refresh_at_most(self) -> None:
        assert len(self.beside.works) <= 1


TestAsking = Asking.TestCase
TestAsking.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@dataclass
class Busy:
    """A server that many threads may reach at once: it says how many did, and fails and dawdles as told."""

    plan: Iterator[tuple[bool, float]]
    lock: threading.Lock = field(default_factory=threading.Lock)
    now: int = 0
    most: int = 0
    given: int = 0

    def close(self) -> None:
        self.given = 0

    def __call__(self) -> Granted:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            fails, seconds = next(self.plan)
            self.given += 1
            token = f"t{self.given}"
        threading.Event().wait(seconds)
        with self.lock:
            self.now -= 1
        if fails:
            raise AWAY
        return Granted(token, 3600)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.001, 0.005])), min_size=1, max_size=8),
    st.integers(2, 16),
)
def test_however_many_threads_ask_and_whatever_the_timing_one_refresh_is_under_way(
    plan: list[tuple[bool, float]], threads: int
) -> None:
    busy = Busy(iter([*plan, *((False, 0.0) for _ in range(2 * threads + 2))]))
    cache = TokenCache("partner", busy, 60, jitter=lambda: 0.0)
    handed: list[str] = []
    begin = threading.Barrier(threads)

    def one() -> None:
        begin.wait(LONG)
        try:
            token = cache.current(LONG)
            other = cache.instead_of(token, LONG)
        except NotSent:
            return
        handed.append(f"{token} {other}")

    started = [threading.Thread(target=one, daemon=True) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(LONG)
    assert busy.most == 1
    assert all(first != second for first, second in (pair.split() for pair in handed))


def test_many_threads_that_wait_for_one_token_share_one_refresh() -> None:
    gate = threading.Event()
    asked: list[int] = []

    def fetch() -> Granted:
        asked.append(1)
        gate.wait(LONG)
        return Granted("t1", 3600)

    cache = TokenCache("partner", Fetching(fetch), 60)
    handed: list[str] = []
    started = [threading.Thread(target=lambda: handed.append(cache.current(LONG)), daemon=True) for _ in range(32)]
    for thread in started:
        thread.start()
    gate.set()
    for thread in started:
        thread.join(LONG)
    assert handed == ["t1"] * 32
    assert len(asked) == 1


def test_nobody_waits_longer_than_he_can() -> None:
    gate = threading.Event()

    def stuck() -> Granted:
        gate.wait(LONG)
        return Granted("t1", 3600)

    cache = TokenCache("partner", Fetching(stuck), 60)
    with pytest.raises(NotSent, match="has not answered yet"):
        cache.current(0.05)
    gate.set()
    assert cache.current(LONG) == "t1"
