"""The one result of a message, and what parks one that cannot be known again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Parked
from pipeline.hl7.event import typed
from pipeline.model import Identity, Subject
from pipeline.partners.results import READS, result_of
from pipeline.stages.decode import READ_HERE
from schemas.event import Event
from schemas.outcomes import Reason
from tests.hl7.samples import ZONE, message

HEADER = "MSH|^~\\&|ROM 1|CLINIC|||20260301120000||ORU^R01|1|P|2.5"


def event(*segments: str) -> Event:
    return typed(message("PID|||1", *segments, header=HEADER), zone=ZONE, only=READS | READ_HERE)[0]


@pytest.mark.parametrize(
    ("obr", "system", "value", "place"),
    [
        ("OBR|1|P1|F1^LAB^2.16.528^ISO", "urn:oid:2.16.528", "F1", "OBR-3.1"),
        ("OBR|1|P1|F1^LAB X^nonsense^ISO", "urn:emr-pipeline:filler-number:LAB%20X", "F1", "OBR-3.1"),
        ("OBR|1|P1|F1", "urn:emr-pipeline:filler-number:ROM%201", "F1", "OBR-3.1"),
        ("OBR|1|P1|^LAB", "urn:emr-pipeline:placer-number:ROM%201", "P1", "OBR-2.1"),
        ('OBR|1|P1^HIS|""', "urn:emr-pipeline:placer-number:HIS", "P1", "OBR-2.1"),
    ],
)
def test_a_result_is_known_by_its_fillers_number_or_else_its_placers(obr: str, system: str, value: str, place: str) -> None:
    (found,) = result_of(event(obr, "OBX|1|NM|q||1"))
    assert (found, found.place) == (Identity(Subject.RESULT, system, value), place)


@pytest.mark.parametrize(
    ("segments", "reason", "where"),
    [
        (["OBR|1||F1", "OBX|1", "OBR|2||F2"], Reason.SEVERAL_RESULTS, "OBR[2]"),
        (["OBX|1", "OBR|1||F1"], Reason.SEVERAL_RESULTS, "OBX"),
        (["OBR|1", "OBX|1"], Reason.NUMBER_MISSING, "OBR-3"),
        (["OBX|1"], Reason.NUMBER_MISSING, "OBR-3"),
    ],
)
def test_what_could_not_be_known_again_parks(segments: list[str], reason: Reason, where: str) -> None:
    with pytest.raises(Parked) as ended:
        result_of(event(*segments))
    assert (ended.value.reason, ended.value.where) == (reason, where)


def test_a_number_that_the_character_set_spoils_parks() -> None:
    with pytest.raises(Parked) as ended:
        result_of(event("OBR|1||F\N{REPLACEMENT CHARACTER}1"))
    assert (ended.value.reason, ended.value.where) == (Reason.CHARSET, "OBR-3.1")


def test_a_message_without_results_and_a_merge_have_none() -> None:
    merge = typed(
        message("PID|||1", "MRG|2", "OBX|1", header=HEADER.replace("ORU^R01", "ADT^A40")), zone=ZONE, only=READS | READ_HERE
    )[0]
    assert (result_of(event("PV1||I")), result_of(merge)) == ((), ())


NAMES = st.text(alphabet="aA1 :/%-é", max_size=4)


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_the_numbers_of_two_authorities_are_never_one(one: tuple[str, str], other: tuple[str, str]) -> None:
    found = [result_of(event(f"OBR|1||{number.strip() or 'F'}^{authority.strip() or 'A'}")) for number, authority in (one, other)]
    said = [(number.strip() or "F", authority.strip() or "A") for number, authority in (one, other)]
    assert (found[0] == found[1]) == (said[0] == said[1])
