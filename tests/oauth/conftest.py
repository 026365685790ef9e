"""Certificates, made once for all tests of the room."""

import pytest

from pipeline.sandbox.certificates import Files, ensure


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return ensure(tmp_path_factory.mktemp("certificates"))
