"""What is kept of watches, on SQLAlchemy Core. One transaction per call; what a method promises stands in watching.py. Nothing is asked or appended here."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from sqlalchemy import Connection, func, or_, select, update

from pipeline.errors import Refused
from pipeline.ledger.identities import insert
from pipeline.ledger.tables import WATCH_DOSSIERS, WATCH_RESPONSES, WATCHES
from pipeline.ledger.watching import Appending, Dossier, Item, Standing
from pipeline.pseudonyms import Pseudonyms

AT_ONCE: Final = 500
"""Parameters of an IN."""


class SqlWatches:
    """Implements watching.Watches."""

    def __init__(
        self,
        read: Callable[[], AbstractContextManager[Connection]],
        write: Callable[[], AbstractContextManager[Connection]],
        pseudonyms: Pseudonyms,
    ) -> None:
        """The ledger's own ways to the database."""
        self._read, self._write, self._pseudonyms = read, write, pseudonyms

    def take(self, watch: str, holder: str, until_ms: int, now_ms: int, *, alone: bool) -> bool:
        """See the port."""
        row = WATCHES.c
        with self._write() as connection:
            made = insert(connection.dialect.name, WATCHES).values(watch=watch, holder=holder, until_ms=until_ms)
            connection.execute(made.on_conflict_do_nothing())
            taken = update(WATCHES).where(row.watch == watch).values(holder=holder, until_ms=until_ms)
            if not alone:
                taken = taken.where(or_(row.holder == holder, row.until_ms <= now_ms))
            return bool(connection.execute(taken).rowcount)

    def learn(self, watch: str, dossiers: Iterable[str], from_ms: int | None) -> int:
        """See the port."""
        new = 0
        with self._write() as connection:
            for one in dict.fromkeys(dossiers):
                key = self.key(one)
                values = {"watch": watch, "dossier": key, "sealed": self._pseudonyms.seal(one), "from_ms": from_ms}
                made = insert(connection.dialect.name, WATCH_DOSSIERS).values(values).on_conflict_do_nothing()
                new += len(connection.execute(made.returning(WATCH_DOSSIERS.c.dossier)).all())
        return new

    def key(self, dossier: str) -> str:
        """The keyed hash of a dossier's id."""
        return self._pseudonyms.hash("dossier", dossier)

    def dossiers(self, watch: str) -> list[Dossier]:
        """See the port."""
        row = WATCH_DOSSIERS.c
        with self._read() as connection:
            rows = connection.execute(select(WATCH_DOSSIERS).where(row.watch == watch).order_by(row.dossier)).all()
        unseal = self._pseudonyms.unseal
        return [Dossier(one.dossier, unseal(one.sealed), one.from_ms, one.after_ms, one.polled_ms) for one in rows]

    def seen(self, watch: str, responses: Sequence[str]) -> dict[str, str]:
        """See the port."""
        row = WATCH_RESPONSES.c
        found: dict[str, str] = {}
        for start in range(0, len(responses), AT_ONCE):
            some = responses[start : start + AT_ONCE]
            with self._read() as connection:
                rows = connection.execute(
                    select(row.response, row.content).where(row.watch == watch, row.response.in_(some))
                ).all()
            found |= {one.response: one.content for one in rows}
        return found

    def begin(self, watch: str, holder: str, appending: Appending) -> None:
        """See the port."""
        row = WATCHES.c
        intent = {
            "ends": {str(partition): end for partition, end in appending.ends.items()},
            "items": [[item.response, item.content, item.record] for item in appending.items],
        }
        text = json.dumps(intent)
        ours = (row.watch == watch, row.holder == holder, or_(row.intent.is_(None), row.intent == text))
        with self._write() as connection:
            if not connection.execute(update(WATCHES).where(*ours).values(intent=text)).rowcount:
                raise Refused("another process has it by now, or what this one began is not ended", where=f"watches.{watch}")

    def appending(self, watch: str) -> Appending | None:
        """See the port."""
        with self._read() as connection:
            intent = connection.execute(select(WATCHES.c.intent).where(WATCHES.c.watch == watch)).scalar()
        if intent is None:
            return None
        tree = json.loads(intent)
        ends = {int(partition): end for partition, end in tree["ends"].items()}
        return Appending(ends, tuple(Item(*item) for item in tree["items"]))

    def done(self, watch: str, items: Iterable[Item], at_ms: int) -> None:
        """See the port."""
        with self._write() as connection:
            for item in items:
                values = {"content": item.content, "at_ms": at_ms}
                made = insert(connection.dialect.name, WATCH_RESPONSES).values(watch=watch, response=item.response, **values)
                connection.execute(made.on_conflict_do_update(index_elements=["watch", "response"], set_=values))
            connection.execute(update(WATCHES).where(WATCHES.c.watch == watch).values(intent=None))

    def polled(self, watch: str, dossier: str, after_ms: int | None, at_ms: int) -> None:
        """See the port."""
        row = WATCH_DOSSIERS.c
        values = {"polled_ms": at_ms} | ({"after_ms": after_ms} if after_ms is not None else {})
        with self._write() as connection:
            connection.execute(update(WATCH_DOSSIERS).where(row.watch == watch, row.dossier == dossier).values(values))

    def standing(self, watch: str) -> Standing:
        """See the port."""
        row = WATCH_DOSSIERS.c
        with self._read() as connection:
            if not connection.dialect.has_table(connection, WATCHES.name):
                return Standing(0, 0, None, 0, appending=False)  # of a ledger that no newer program has run on
            dossiers, polled, oldest = connection.execute(
                select(func.count(), func.count(row.polled_ms), func.min(row.polled_ms)).where(row.watch == watch)
            ).one()
            responses = connection.execute(
                select(func.count()).select_from(WATCH_RESPONSES).where(WATCH_RESPONSES.c.watch == watch)
            ).scalar_one()
        return Standing(dossiers, dossiers - polled, oldest, responses, self.appending(watch) is not None)
