"""Certificates, made once for all tests of the room, and an authorization server."""

from collections.abc import Iterator

import pytest

from pipeline.sandbox.certificates import Files, ensure
from tests.oauth.authorization import AuthorizationServer


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return ensure(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server(files: Files) -> Iterator[AuthorizationServer]:
    with AuthorizationServer(files) as one:
        yield one
