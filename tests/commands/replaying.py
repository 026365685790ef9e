"""A house (tests/delivery) on whose bus and ledger the commands work too, by a settings file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.cli import main
from pipeline.model import Position
from pipeline.settings import load
from schemas.outcomes import State
from tests.commands import hospital
from tests.delivery.partner_script import ROUTE, House

SECRET = "a secret of the tests, long enough"
Call = Callable[..., tuple[int, str, str]]
MONDAY, TUESDAY = "20240506090000+0200", "20240507090000+0200"


class Hospital(House):
    """`settings_file` is what a command is called with."""

    def __init__(self, folder: Path, *, partitions: int = 1) -> None:
        self.settings_file = hospital.write(folder)
        (folder / "hash.key").write_text(SECRET)
        super().__init__(folder, partitions=partitions)
        self.settings = load(self.settings_file)
        self.topics = wiring.topics_of(self.settings, ROUTE)

    def at(self, offset: int) -> Position:
        return Position(self.topics.source, 0, offset)

    def state(self, offset: int) -> tuple[State, str | None]:
        seen = self.ledger.seen(ROUTE, self.at(offset))
        assert seen is not None
        return seen.state, seen.reason


def caller(house: Hospital, capsys: pytest.CaptureFixture[str], *command: str) -> Call:
    """Calls a command with the house's settings: its exit, what it printed, what it said on stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()  # what the worker logged before
        code = main([*command, *words, "--settings", str(house.settings_file)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call
