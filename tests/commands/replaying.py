"""A house (tests/delivery) on whose bus and ledger the commands work too, by a settings file."""

from pathlib import Path

from pipeline import wiring
from pipeline.model import Position
from pipeline.settings import load
from schemas.outcomes import State
from tests.commands import hospital
from tests.delivery.partner_script import ROUTE, House

SECRET = "a secret of the tests, long enough"
MONDAY, TUESDAY = "20240506090000+0200", "20240507090000+0200"


class Hospital(House):
    """`settings_file` is what a command is called with."""

    def __init__(self, folder: Path) -> None:
        self.settings_file = hospital.write(folder)
        (folder / "hash.key").write_text(SECRET)
        super().__init__(folder)
        self.settings = load(self.settings_file)
        self.topics = wiring.topics_of(self.settings, ROUTE)

    def at(self, offset: int) -> Position:
        return Position(self.topics.source, 0, offset)

    def state(self, offset: int) -> tuple[State, str | None]:
        seen = self.ledger.seen(ROUTE, self.at(offset))
        assert seen is not None
        return seen.state, seen.reason
