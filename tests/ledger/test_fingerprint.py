"""What is kept of what went out."""

import json

from pipeline.ledger.fingerprint import differing, fingerprint
from tests.ledger.samples import PSEUDONYMS

PATIENT = {"resourceType": "Patient", "id": "1", "gender": "female", "name": [{"family": "Example", "given": ["Ana"]}]}


def test_it_names_elements_and_holds_no_value() -> None:
    kept = fingerprint(
        [PATIENT, {"resourceType": "Condition", "code": 1}, {"resourceType": "Condition", "code": 2}], "a", PSEUDONYMS
    )
    assert sorted(json.loads(kept)) == ["Condition.code", "Condition[1].code", "Patient.gender", "Patient.name"]
    assert "female" not in kept
    assert "Example" not in kept


def test_the_same_value_in_two_records_or_two_elements_looks_different() -> None:
    first = json.loads(fingerprint([PATIENT], "his.adt/0/1", PSEUDONYMS))
    other = json.loads(fingerprint([PATIENT], "his.adt/0/2", PSEUDONYMS))
    assert first["Patient.gender"] != other["Patient.gender"]
    twice = json.loads(fingerprint([{"resourceType": "Patient", "a": "x", "b": "x"}], "s", PSEUDONYMS))
    assert twice["Patient.a"] != twice["Patient.b"]


def test_what_is_new_gone_or_other_differs_and_the_order_of_keys_and_an_id_do_not() -> None:
    def kept(**patient: object) -> str:
        return fingerprint([{"resourceType": "Patient", **patient}], "s", PSEUDONYMS)

    before = kept(id="1", gender="female", name=[{"family": "A", "given": ["B"]}], active=True)
    now = kept(id="2", gender="male", name=[{"given": ["B"], "family": "A"}], telecom=[1])
    assert differing(before, before) == ()
    assert differing(before, now) == ("Patient.active", "Patient.gender", "Patient.telecom")
    assert differing(None, now) is None
