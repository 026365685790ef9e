"""A ledger's promises of what a test does instead, done when the result is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked(Generic[T]):
    """Implements Promised of the ledger's port."""

    result: Callable[[], T]


def soon(action: Callable[P, T]) -> Callable[P, Asked[T]]:
    """`begin` as `begin_soon`."""
    return lambda *args, **kwargs: Asked(partial(action, *args, **kwargs))
