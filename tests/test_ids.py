"""Ids that follow from what they name."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ids import uuid5


@given(st.uuids(), st.text())
def test_our_uuid5_is_the_standard_librarys(namespace: uuid.UUID, name: str) -> None:
    assert uuid5(namespace.bytes, name.encode()) == str(uuid.uuid5(namespace, name))
