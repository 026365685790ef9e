"""The loop of one watch: learn dossiers, ask for one whose turn it is, hand what is new to the appender, remember how far. One thread.

Nothing is decided here that core.py can decide, and no line of the log says which dossier or what came of it.
"""

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from typing import Final

from pipeline.bus.port import Bus, Record, TopicPartition, Where
from pipeline.delivery.attempts import Backoff
from pipeline.delivery.gate import Gate
from pipeline.delivery.rate import Rate
from pipeline.delivery.steady import Outages, Steady, Stopped
from pipeline.delivery.trouble import Trouble
from pipeline.errors import BusGap, NoAnswer, NotSent, Refused, SettingsError
from pipeline.health import NotReady
from pipeline.ledger.port import Ledger
from pipeline.ledger.watching import Dossier
from pipeline.model import Clock, Decision, Reply, Request
from pipeline.partners.reads import Reader
from pipeline.settings import WatchSettings
from pipeline.tally import NobodyLooks, WatchTally
from pipeline.telemetry import LogEvent, log
from pipeline.transport.port import Transport
from pipeline.watch.appending import Appender
from pipeline.watch.core import DONE, News, Turns, asked_after, completions, iso, news, read_up_to
from pipeline.watch.judging import Judged, judged
from pipeline.watch.records import CORRECTED, NEW, record_of
from pipeline.watch.source import Source
from schemas.outcomes import Reason

POLL: Final = 0.25
"""Seconds: how soon a stop is noticed, and how long the source topic is listened to at once."""
LEASE: Final = 60.0
"""Seconds for which a process has the watch, renewed at a third of it."""
STANDBY: Final = 5.0
ABSENT_TIMES: Final = 12
"""A dossier that the partner does not know is asked for so much more seldom."""
AGAIN: Final = 600.0
"""Seconds between two log lines of one cause."""
DO: Final = {
    Decision.ABSENT: "nothing where these patients have no dossier there: they are asked for more seldom; else compare the ids with the partner",
    Decision.PARKED: "the partner does not take what is asked: compare filter_times and the dossiers with its documents; it is asked again",
}


class Watcher:
    """One watch. `run` returns when `stop` is set; it raises where only a person can help."""

    def __init__(
        self,
        name: str,
        settings: WatchSettings,
        *,
        reader: Reader,
        transport: Transport,
        gate: Gate,
        bus: Bus,
        ledger: Ledger,
        hashed: Callable[..., str],
        named: Callable[[bytes | None], tuple[str, ...]],
        clock: Clock,
        backoff: Backoff,
        counts: WatchTally | None = None,
    ) -> None:
        """What is handed in stays the caller's to close. `named`: the dossiers that a message of the source topic names."""
        self.name, self.settings = name, settings
        self.stop = threading.Event()
        self.outages = Outages(name)
        self.gate = gate
        self._reader, self._transport, self._bus, self._ledger = reader, transport, bus, ledger
        self._watches = ledger.watches
        self._hashed, self._named, self._clock, self._backoff = hashed, named, clock, backoff
        self._counts = counts or NobodyLooks()
        self._steady = Steady(self.outages, self.stop, backoff)
        self._holder = uuid.uuid4().hex
        self._rate = Rate(settings.rate, time.monotonic)
        self._turns = Turns()
        self._dossiers: dict[str, Dossier] = {}
        self._ids: set[str] = set()
        """Those of these, so that a message of a known patient costs nothing."""
        self._failed = 0
        """Questions in a row that got no answer."""
        self._leased = 0.0
        self._told: dict[tuple[str, str | None], float] = {}
        self._until: dict[TopicPartition, int] | None = None
        self._left: set[str] | None = None
        """Of a drain: who has had no turn yet."""
        self._ready = False
        self._first: tuple[float, str] | None = None
        """Whose turn is next, for whoever looks from outside."""
        self._appender = Appender(
            name, self._holder, settings.into, bus=bus, watches=ledger.watches, steady=self._steady, clock=clock
        )

    def drain(self) -> None:
        """Stop when each dossier, those of the source topic as it stands now included, was asked for once."""
        ends = self._bus.bounds(self.settings.source) if self.settings.source else {}
        self._until, self._left = {partition: end for partition, (_, end) in ends.items()}, set()

    def left(self) -> str:
        """Of a drain: what is not at its end, and why, in a line."""
        why = self.gate.standing.not_ready
        return f"{len(self._left or ())} dossiers were not asked for{f' ({why})' if why else ''}"

    def run(self) -> None:
        """Work until told to stop. Refused where another process has the watch, and no turn of ours will come."""
        self._ledger.claim(self.name, self.group, self.settings.partner)
        with ExitStack() as stack:
            stack.callback(self._appender.close)
            try:
                if not self._taken():
                    return
                self._begin()
                source = self._source(stack)
                while not self.stop.is_set():
                    self._round(source)
            except Stopped:
                pass
            except BusGap as error:
                log(LogEvent.OFFSET_GONE, route=self.name, error=str(error), do="find out who took the source topic's records")
                raise
            finally:
                self.stop.set()
        log(LogEvent.WATCH_STOPPED, watch=self.name)

    @property
    def group(self) -> str:
        """Its consumer group on the source topic."""
        return self.settings.group or f"emr-pipeline.{self.name}"

    # what is seen of it from outside

    def reasons(self) -> list[NotReady]:
        """See pipeline/health.py."""
        standing = self.gate.standing.not_ready
        found = {
            NotReady.STARTING: not self._ready,
            NotReady.LEDGER_AWAY: self.outages.ledger,
            NotReady.BUS_AWAY: self.outages.bus,
            NotReady.WORKER_STOPPED: self.stop.is_set(),
        }
        return [*([standing] if standing else []), *(why for why, there in found.items() if there)]

    def figures(self) -> tuple[int, float]:
        """See metrics.look_at_watch."""
        first = self._first
        return len(self._turns), max(time.monotonic() - first[0], 0.0) if first else 0.0

    # beginning

    def _taken(self) -> bool:
        """Have the watch; on a ledger that several processes share, wait for whoever has it."""
        while not self._lease():
            if self._left is not None:
                raise Refused("another process has it, and sees to it", where=f"watches.{self.name}")
            if self.stop.wait(STANDBY):
                return False
        return True

    def _lease(self) -> bool:
        now = self._clock()
        self._leased = time.monotonic()
        take = self._watches.take
        return self._steady(lambda: take(self.name, self._holder, now + int(LEASE * 1000), now, alone=self._ledger.alone))

    def _begin(self) -> None:
        self._steady(self._appender.look_back)
        log(LogEvent.WATCH_STARTED, watch=self.name, partner=self.settings.partner, into=self.settings.into)
        if self.settings.dossiers is not None:
            self._learn(self.settings.dossiers)
        elif self.settings.source is not None:
            source = self.settings.source
            self._steady(lambda: self._bus.start(self.group, [source], Where.EARLIEST))
        self._take_up(self._steady(lambda: self._watches.dossiers(self.name)))
        self._ready = True

    # dossiers

    def _learn(self, dossiers: tuple[str, ...]) -> None:
        from_ms = self._from_ms()
        new = [one for one in dossiers if one not in self._ids]
        learned = self._steady(lambda: self._watches.learn(self.name, new, from_ms)) if new else 0
        if learned and self._ready:
            self._take_up(self._steady(lambda: self._watches.dossiers(self.name)))

    def _from_ms(self) -> int | None:
        begin = self.settings.begin
        if begin in {"all", "now"}:
            return None if begin == "all" else self._clock()
        return int(datetime.fromisoformat(begin).timestamp() * 1000)

    def _take_up(self, known: list[Dossier]) -> None:
        """Give each that is new its turn: when it is due, in a drain at once."""
        wanted = None if self.settings.dossiers is None else set(self.settings.dossiers)
        now, wall = time.monotonic(), self._clock()
        for dossier in known:
            if dossier.key in self._dossiers or (wanted is not None and dossier.id not in wanted):
                continue
            if not self._can_be_asked_for(dossier):
                self._tell(Judged(Decision.ABSENT, Reason.TARGET_UNKNOWN))
                self._ids.add(dossier.id)
                continue
            self._dossiers[dossier.key] = dossier
            self._ids.add(dossier.id)
            since = None if dossier.polled_ms is None else (wall - dossier.polled_ms) / 1000
            late = self.settings.every if since is None or since < 0 else since
            if self._left is None:
                self._turns.at(dossier.key, now + max(self.settings.every - late, 0.0))
            else:
                self._left.add(dossier.key)
                self._turns.at(dossier.key, now)

    # turns

    def _source(self, stack: ExitStack) -> Source | None:
        topic = self.settings.source
        if topic is None:
            return None
        consumer = stack.enter_context(self._bus.consumer(self.group, [topic]))
        return Source(consumer, self._named, self._learn, self.outages, self.stop)

    def _round(self, source: Source | None) -> None:
        if time.monotonic() - self._leased > LEASE / 3 and not self._lease():
            raise Refused("another process has it by now", where=f"watches.{self.name}")
        wait = min(self._turn(), POLL)
        if source is not None:
            source.read(wait)
        elif wait:
            self.stop.wait(wait)
        if self._drained(source):
            self.stop.set()

    def _drained(self, source: Source | None) -> bool:
        if self._until is None or self._left is None:
            return False
        if self._left and self.gate.standing.trouble is Trouble.HALTED:
            raise Refused("the partner refuses us as a whole: mend it, then drain again", where=f"watches.{self.name}")
        return (source is None or source.is_past(self._until)) and not self._left

    def _turn(self) -> float:
        """Ask for whoever is due; 0.0, or the seconds until it is worth trying again."""
        first = self._first = self._turns.next()
        if first is None:
            return POLL
        due, key = first
        wait = due - time.monotonic()
        if wait > 0 or (wait := self._rate_or_gate()) > 0:
            return wait
        self._ask(self._dossiers[key])
        return 0.0

    def _rate_or_gate(self) -> float:
        wait = self.gate.ask(("watch", self.name))
        if wait > 0:
            return wait
        wait = self._rate.ask()
        if wait > 0:
            self.gate.back(("watch", self.name))
        return wait

    def _ask(self, dossier: Dossier) -> None:
        asked = self._question(dossier)
        answer = judged(self._reader, asked, self._exchanged(asked))
        self.gate.told(answer.decision, answer.reason, retry_after=answer.retry_after, by=("watch", self.name))
        self._counts.polled(self.name, answer.decision)
        if answer.decision in {Decision.FAILED, Decision.THROTTLED, Decision.HALTED}:
            self._failed += 1
            self._turns.at(dossier.key, time.monotonic() + min(self._backoff.after(self._failed), self.settings.every))
            return
        self._failed = 0
        every = self.settings.every
        if answer.decision is Decision.DELIVERED:
            self._take(dossier, asked, answer)
        else:
            self._tell(answer)
            self._remember(dossier, dossier.after_ms)
            every *= ABSENT_TIMES if answer.decision is Decision.ABSENT else 1
        self._turns.at(dossier.key, time.monotonic() + every)
        if self._left is not None:
            self._left.discard(dossier.key)

    def _can_be_asked_for(self, dossier: Dossier) -> bool:
        """What a message calls a patient's number may be none that a URL can say, as "..": it gets no turn, and keeps nobody else from theirs."""
        try:
            self._question(dossier)
        except SettingsError:
            return False
        return True

    def _question(self, dossier: Dossier) -> Request:
        after = asked_after(dossier, int(self.settings.overlap * 1000))
        typed = {"dossier": dossier.id, "status": DONE} | ({"completed-after": iso(after)} if after is not None else {})
        return self._reader.by_search("responses", typed)

    def _exchanged(self, asked: Request) -> Reply | NotSent | NoAnswer:
        try:
            return self._transport.exchange(asked)
        except (NotSent, NoAnswer) as error:
            return error

    def _tell(self, answer: Judged) -> None:
        """Once for a cause, and again after a while: never which dossier it was."""
        self._say(LogEvent.WATCH_NOT_READ, answer.reason, DO[answer.decision])

    def _say(self, event: LogEvent, what: Reason | str | None, do: str) -> None:
        now = time.monotonic()
        if self._told.get((event, what), 0.0) <= now:
            self._told[event, what] = now + AGAIN
            log(event, watch=self.name, reason=what, do=do)

    # what came

    def _take(self, dossier: Dossier, asked: Request, answer: Judged) -> None:
        there = completions(answer.found, dossier, self.name, self._hashed)
        seen = self._steady(lambda: self._watches.seen(self.name, [one.item.response for one in there]))
        new = news(there, seen)
        if new:
            records = [self._record(one, asked) for one in new]
            self._appender.append([one.completion.item for one in new], records)
            corrected = sum(one.changed for one in new)
            for change, number in ((NEW, len(new) - corrected), (CORRECTED, corrected)):
                if number:
                    self._counts.appended(self.name, change, number)
        self._remember(dossier, read_up_to(dossier, there, self._clock()))

    def _record(self, one: News, asked: Request) -> Record:
        record, told = record_of(one, asked, self._reader, self.settings.into, self.settings.form)
        for word in told:
            self._say(LogEvent.WATCH_WORD_UNKNOWN, word, "report it: it may be a code that a newer version knows")
        return record

    def _remember(self, dossier: Dossier, after_ms: int | None) -> None:
        now = self._clock()
        self._steady(lambda: self._watches.polled(self.name, dossier.key, after_ms, now))
        self._dossiers[dossier.key] = Dossier(dossier.key, dossier.id, dossier.from_ms, after_ms, now)
