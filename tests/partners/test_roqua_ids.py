"""RoQua's upsert keys: the same questionnaire has the same, two never have one, and none shows what it is made of."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import Identity, Subject
from pipeline.partners.roqua.ids import reference_id, result_id

NAMES = st.text(max_size=8)


def of(dossier: str, system: str, value: str) -> str:
    return result_id(dossier, Identity(Subject.RESULT, system, value, "OBR-3.1"))


def test_a_questionnaire_has_one_id_for_ever() -> None:
    # what RoQua holds by it would be lost to any other
    assert of("2075", "urn:emr-pipeline:result:EPD", "F-1") == "54f416bf-2cbc-5999-b0e6-18d72420f0ee"
    assert reference_id("Patient", "2075") == "c6507ff6-4990-56c9-b034-ab9c745cb39a"


@given(st.tuples(NAMES, NAMES, NAMES), st.tuples(NAMES, NAMES, NAMES))
def test_two_questionnaires_have_two_ids(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (of(*one) == of(*other)) is (one == other)
    assert UUID(of(*one)).version == 5


def test_where_a_name_ends_counts() -> None:
    assert len({of("2", "075", "1"), of("20", "75", "1"), of("2|075", "", "1"), of("2", "075|1", "")}) == 4
