"""What several files of this folder ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.replaying import Hospital


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    house = Hospital(tmp_path)
    yield house
    house.close()
