"""What several files of this folder ask for."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.delivery.one_patient import change
from tests.delivery.partner_script import House


@pytest.fixture
def a_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def make(**settings: Any) -> House:  # noqa: ANN401 - of `change`
        houses.append(House(tmp_path, change=partial(change, **settings)))
        return houses[-1]

    yield make
    for house in houses:
        house.close()


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.delivery.worker.COMMIT_EVERY", 0.05)
    monkeypatch.setattr("pipeline.delivery.attempts.BLOCKED_PAUSE", 0.1)
    monkeypatch.setattr("pipeline.delivery.courier.BLOCKED_PAUSE", 0.1)
