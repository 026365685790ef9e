"""A watch on a real embedded bus and a real ledger, with a partner that answers from a dict; and a way to die at any call that it makes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from pipeline.bus.open import open_bus
from pipeline.bus.port import Bus, Record, TopicSettings
from pipeline.delivery.attempts import Backoff
from pipeline.delivery.gate import Gate
from pipeline.ledger.sql import SqlLedger
from pipeline.model import Received, Reply, Request
from pipeline.settings import BreakerSettings, Settings, Site, WatchSettings
from pipeline.watch.named import dossiers_of
from pipeline.watch.watcher import Watcher
from tests.delivery.partner_script import Killed
from tests.ledger.samples import PSEUDONYMS
from tests.partners.roqua_recorded import answered, reader

INTO: Final = "roqua.completions"
SOURCE: Final = "his.adt"
NOW: Final = 1_767_225_600_000
"""Of the ledger and the watch: 2026-01-01."""


@dataclass
class Partner:
    """RoQua as far as a watch sees it: every filter but the dossier is left to whoever asks."""

    responses: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    answers: list[Reply | Exception] = field(default_factory=list)
    """Given first, one by one."""
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)

    def exchange(self, request: Request) -> Reply:
        url = urlsplit(request.path)
        dossier = unquote(url.path.split("/")[4])
        self.asked.append((dossier, parse_qs(url.query)))
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if dossier not in self.responses:
            return answered(b"", 404)
        return answered(orjson.dumps(self.responses[dossier]))

    def knock(self) -> None:
        """Somebody is there."""

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Death:
    """At the call with this number: before it, after it, or (of an append) in the middle of it."""

    at: int = -1
    how: Literal["before", "after", "half"] = "before"
    calls: list[str] = field(default_factory=list)

    def of(self, name: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any call
        number = len(self.calls)
        self.calls.append(name)
        if number != self.at:
            return call(*arguments, **named)
        if self.how == "half" and name == "append":
            records = list(arguments[0])
            call(records[: (len(records) + 1) // 2])
        elif self.how == "after":
            call(*arguments, **named)
        raise Killed


class Mortal:
    """Something whose calls of these names may be the last."""

    def __init__(self, inner: Any, death: Death, names: frozenset[str]) -> None:  # noqa: ANN401 - a part of the house
        self._inner, self._death, self._names = inner, death, names

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the inner one's
        found = getattr(self._inner, name)
        if name == "producer":
            return lambda: Mortal(found(), self._death, frozenset({"append"}))
        if name == "watches":
            return Mortal(found, self._death, WRITES)
        return (lambda *given, **named: self._death.of(name, found, *given, **named)) if name in self._names else found


WRITES: Final = frozenset({"take", "learn", "begin", "done", "polled"})


class House:
    """Made once a test; each `run` is a process of its own as far as the ledger and the bus can tell."""

    def __init__(self, folder: Path, **watch: Any) -> None:  # noqa: ANN401 - settings of the watch
        self.folder = folder
        self.partner = Partner()
        named = {"dossiers": ["2075", "2076"]} if "source" not in watch else {}
        self.settings = WatchSettings.model_validate(
            {"partner": "roqua", "into": INTO, "from": "all", "rate": 1000, "every": 3600, **named, **watch}
        )
        with self.bus() as bus:
            bus.create_topics([TopicSettings(INTO, 2), TopicSettings(SOURCE, 1)])

    def bus(self) -> "Opened":
        return Opened(self.folder)

    def run(self, death: Death | None = None, *, drain: bool = True, prepare: Callable[[Watcher], object] | None = None) -> bool:
        """Whether it lived to its end."""
        ledger = self.ledger()
        with self.bus() as bus:
            try:
                mortal = death or Death()
                watcher = self.watcher(Mortal(bus, mortal, frozenset()), Mortal(ledger, mortal, frozenset()))
                if drain:
                    watcher.drain()
                if prepare is not None:
                    prepare(watcher)
                watcher.run()
            except Killed:
                return False
            finally:
                ledger.close()
        return True

    def ledger(self) -> SqlLedger:
        ledger = SqlLedger(f"sqlite:///{self.folder / 'ledger.sqlite'}", PSEUDONYMS, clock=lambda: NOW)
        ledger.check()
        return ledger

    def watcher(self, bus: Any, ledger: Any) -> Watcher:  # noqa: ANN401 - mortal or not
        return Watcher(
            "roqua-watch",
            self.settings,
            reader=reader(),
            transport=self.partner,
            gate=Gate("roqua", BreakerSettings(open_first=0.01, open_most=0.05)),
            bus=bus,
            ledger=ledger,
            hashed=PSEUDONYMS.hash,
            named=lambda value: dossiers_of(value, Site(name="test"), lambda one: "urn:x" if one.authority == "CIP" else None),
            clock=lambda: NOW,
            backoff=Backoff(0.001, 0.01),
        )

    def send(self, *messages: bytes) -> None:
        with self.bus() as bus, bus.producer() as producer:
            producer.append([Record(SOURCE, one) for one in messages])

    @property
    def records(self) -> list[Received]:
        """What stands on the topic, by dossier and in order."""
        with self.bus() as bus:
            return list(bus.read(INTO))

    @property
    def there(self) -> list[tuple[str, int, str]]:
        """Dossier, response and change of each record, sorted."""
        return sorted(
            ((one.key or b"").decode(), json.loads(one.value or b"")["id"], dict(one.headers)["emr-change"].decode())
            for one in self.records
        )

    def copy(self, folder: Path) -> None:
        """Everything as it is now."""
        shutil.copytree(self.folder, folder)


class Opened:
    """A bus, opened anew and closed."""

    def __init__(self, folder: Path) -> None:
        tree = {
            "site": {"name": "test"},
            "bus": {"kind": "embedded", "path": folder / "bus"},
            "ledger": {"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
            "keys": {"patient_hash": {"env": "X"}},
            "partners": {},
            "routes": {},
        }
        self._bus = open_bus(Settings.model_validate(tree))

    def __enter__(self) -> Bus:
        return self._bus

    def __exit__(self, *_: object) -> None:
        self._bus.close()
