"""A sandbox per test, on certificates that are made once per run: making RSA keys is the slow part."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline.sandbox.certificates import ensure
from pipeline.sandbox.njsams.stand_in import NjsamsSandbox
from pipeline.sandbox.roche.stand_in import RocheSandbox
from pipeline.sandbox.roqua.stand_in import RoquaSandbox


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    ensure(folder)
    return folder


@pytest.fixture
def folder(certificates: Path, tmp_path: Path) -> Path:
    return shutil.copytree(certificates, tmp_path / "sandbox")


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., RocheSandbox]]:
    """Start a sandbox with knobs."""
    with ExitStack() as stack:
        yield lambda control=None, **knobs: stack.enter_context(RocheSandbox(folder, knobs, control=control))


@pytest.fixture
def roche(start: Callable[..., RocheSandbox]) -> RocheSandbox:
    return start()


@pytest.fixture
def begin(folder: Path) -> Iterator[Callable[..., NjsamsSandbox]]:
    """Start NJSAMS's with knobs."""
    with ExitStack() as stack:
        yield lambda control=None, **knobs: stack.enter_context(NjsamsSandbox(folder, knobs, control=control))


@pytest.fixture
def njsams(begin: Callable[..., NjsamsSandbox]) -> NjsamsSandbox:
    return begin()


@pytest.fixture
def launch(folder: Path) -> Iterator[Callable[..., RoquaSandbox]]:
    """Start RoQua's with knobs."""
    with ExitStack() as stack:
        yield lambda control=None, **knobs: stack.enter_context(RoquaSandbox(folder, knobs, control=control))


@pytest.fixture
def roqua(launch: Callable[..., RoquaSandbox]) -> RoquaSandbox:
    return launch()
