"""The typed event: every part of it, names the Dutch way, old versions, merges, what cannot be read; the key of a source record."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pipeline.errors import Parked
from pipeline.hl7.er7 import parse
from pipeline.hl7.event import source_key, typed
from pipeline.hl7.paths import locate
from pipeline.model import Finding
from schemas.event import (
    NULL,
    Address,
    Appointment,
    Coded,
    Coverage,
    Diagnosis,
    EntityIdentifier,
    Event,
    Identifier,
    Interpreter,
    Location,
    Merge,
    Name,
    Note,
    Null,
    Observation,
    Patient,
    Personnel,
    Place,
    Practitioner,
    Precision,
    Report,
    Resource,
    Service,
    Telecom,
    Timestamp,
    Visit,
    Zone,
)  # fmt: skip
from schemas.outcomes import FindingCode, Severity
from tests.hl7.samples import HEADER, ZONE, message


def event(*segments: str, header: str = HEADER) -> Event:
    return typed(message(*segments, header=header), zone=ZONE)[0]


def findings(*segments: str, header: str = HEADER) -> list[Finding]:
    found = typed(message(*segments, header=header), zone=ZONE)[1]
    return [finding for finding in found if finding.code is not FindingCode.ZONE_ASSUMED]


def patient(pid: str) -> Patient:
    found = event(pid).patient
    assert found is not None
    return found


def pid(**fields: str) -> str:
    """A PID from its fields: pid(_3="1") has PID-3."""
    parts = ["PID"] + [""] * 40
    for name, value in fields.items():
        parts[int(name[1:])] = value
    return "|".join(parts)


def when(value: Timestamp | Null | None) -> str | None:
    return value.datetime if isinstance(value, Timestamp) else None


def test_the_header() -> None:
    found = event(
        "EVN|A02|20260301115900||01||20260301|X",
        header="MSH|^~\\&|HIS^1.2|AMC&x|PIPE|ROCHE|20260301120000||ADT^A01^ADT_A01|M1|P^T|2.5^NLD",
    )
    assert (found.type, found.trigger, found.structure, found.version, found.control_id) == ("ADT", "A01", "ADT_A01", "2.5", "M1")
    assert (found.sending_application, found.sending_facility) == ("HIS", "AMC")
    assert (found.receiving_application, found.receiving_facility, found.processing_id) == ("PIPE", "ROCHE", "P")
    assert [when(each) for each in (found.message_time, found.recorded, found.occurred)] == [
        "2026-03-01T12:00:00+01:00", "2026-03-01T11:59:00+01:00", "2026-03-01",
    ]  # fmt: skip
    assert found.time == found.recorded


@pytest.mark.parametrize(
    ("msh9", "evn", "expected"),
    [
        ("ADT^A01", "EVN|A08", ("ADT", "A01")),
        ("ADT", "EVN|A08", ("ADT", "A08")),
        ("ADT", "EVN||2026", ("ADT", "")),
        ("ADT", "ZZZ", ("ADT", "")),
        ("", "EVN|A08", ("", "A08")),
        ('""', "ZZZ", ("", "")),
        ("ACK", "ZZZ", ("ACK", "")),
    ],
)
def test_the_trigger_is_msh9_else_evn1(msh9: str, evn: str, expected: tuple[str, str]) -> None:
    found = event(evn, header=f"MSH|^~\\&|A|B|C|D|2026||{msh9}|1|P|2.5")
    assert (found.type, found.trigger) == expected


def test_identifiers_with_authority_type_facility_and_dates() -> None:
    assert patient(pid(_3="12^4^M11^AMC&1.2.3&ISO^PI^LOC&x^20200101^2030~~9^^^NLMINBIZA^NNNLD")).identifiers == (
        Identifier(
            value="12", check_digit="4", authority="AMC", authority_oid="1.2.3", authority_oid_type="ISO", type="PI", facility="LOC",
            start=Timestamp(date="2020-01-01", datetime="2020-01-01", epoch_ms=1577833200000, precision=Precision.DAY, zone=Zone.NONE),
            end=Timestamp(date="2030", datetime="2030", precision=Precision.YEAR, zone=Zone.NONE),
        ),
        Identifier(value="9", authority="NLMINBIZA", type="NNNLD"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("segment", "values"),
    [
        ("PID||9^^^X|1^^^Y", ["1"]),
        ("PID||9^^^X||3", ["9"]),
        ("PID||9^^^X|^^^|3", ["9"]),
        ("PID|||1", ["1"]),
        ("PID|||1 ", ["1"]),
        ("PID|1", []),
    ],
)
def test_pid2_stands_in_where_pid3_is_empty(segment: str, values: list[str]) -> None:
    assert [identifier.value for identifier in patient(segment).identifiers] == values


def test_pid4_pid18_and_pid19_keep_their_own_places() -> None:
    found = patient(pid(_3="1", _4="2^^^ALT", _18="3^^^ACC", _19="123-45-6789^x"))
    assert (found.alternate_identifiers, found.account, found.ssn) == (
        (Identifier(value="2", authority="ALT"),),
        Identifier(value="3", authority="ACC"),
        "123-45-6789",
    )


@pytest.mark.parametrize(
    ("surname", "expected"),
    [
        ("Jansen", {"family": "Jansen"}),
        ("van den Berg-de Vries&van den&Berg&de&Vries", {"family": "van den Berg-de Vries", "own_prefix": "van den", "own_family": "Berg", "partner_prefix": "de", "partner_family": "Vries"}),
        ("&van den&Berg", {"family": "van den Berg", "own_prefix": "van den", "own_family": "Berg"}),
        ("&&Berg", {"family": "Berg", "own_family": "Berg"}),
        ("&van den&Berg&de&Vries", {"family": "van den Berg", "own_prefix": "van den", "own_family": "Berg", "partner_prefix": "de", "partner_family": "Vries"}),
        ("&&&de&Vries", {"family": "de Vries", "partner_prefix": "de", "partner_family": "Vries"}),
        ("Berg&van den&Berg", {"family": "van den Berg", "own_prefix": "van den", "own_family": "Berg"}),
        ("Berg&van den", {"family": "van den Berg", "own_prefix": "van den", "own_family": "Berg"}),
        ("van den Berg&van den", {"family": "van den Berg", "own_prefix": "van den", "own_family": "Berg"}),
        ("Van den Berg&van den&Berg", {"family": "Van den Berg", "own_prefix": "van den", "own_family": "Berg"}),
        ("Vries&van den&Berg&de&Vries", {"family": "de Vries", "own_prefix": "van den", "own_family": "Berg", "partner_prefix": "de", "partner_family": "Vries"}),
        ('""&van den&Berg', {"family": NULL, "own_prefix": "van den", "own_family": "Berg"}),
        ("&van den", {"own_prefix": "van den"}),
    ],
)  # fmt: skip
def test_a_surname_is_whole_whichever_parts_the_sender_left_out(surname: str, expected: dict[str, Any]) -> None:
    assert patient(pid(_5=f"{surname}^Jo")).names == (Name(given="Jo", **expected),)


def test_all_of_a_name_and_its_repetitions() -> None:
    found = patient(pid(_5="Berg^Jo^M A^Jr^Dr^MD^L~^Jootje^^^^^N~", _6="Smit^x", _9="Alias^A"))
    assert found.names == (
        Name(family="Berg", given="Jo", middle="M A", suffix="Jr", prefix="Dr", degree="MD", type="L"),
        Name(given="Jootje", type="N"),
    )
    assert (found.mother_maiden_name, found.aliases) == ("Smit", (Name(family="Alias", given="A"),))


@pytest.mark.parametrize(
    ("xad", "expected"),
    [
        ("Dam 1&Dam&1^bis^A'dam^NH^1012^NL^H", Address(line="Dam 1", street="Dam", house_number="1", other="bis", city="A'dam", state="NH", postal_code="1012", country="NL", type="H")),
        ("&Dam&1^^A'dam", Address(line="Dam 1", street="Dam", house_number="1", city="A'dam")),
        ("&Dam", Address(line="Dam", street="Dam")),
        ("Dam 1^^A'dam", Address(line="Dam 1", city="A'dam")),
        ('""', Address(**dict.fromkeys(Address.model_fields, NULL))),
    ],
)  # fmt: skip
def test_an_address(xad: str, expected: Address) -> None:
    assert patient(pid(_11=xad)).addresses == (expected,)


@pytest.mark.parametrize(
    ("xtn", "expected"),
    [
        ("020-5551234", Telecom(number="020-5551234")),
        ("020-5551234^PRN^PH", Telecom(number="020-5551234", use="PRN", equipment="PH")),
        ("^NET^Internet^a@b.nl", Telecom(email="a@b.nl", use="NET", equipment="Internet")),
        ("a@b.nl^NET^Internet", Telecom(email="a@b.nl", use="NET", equipment="Internet")),
        ("a@b.nl", Telecom(email="a@b.nl")),
        ("020^PRN^PH^a@b.nl", Telecom(number="020", use="PRN", equipment="PH", email="a@b.nl")),
        ("^PRN^PH^^31^20^5551234^12", Telecom(number="+31 20 5551234 x12", use="PRN", equipment="PH")),
        ("^PRN^PH^^^020^5551234", Telecom(number="020 5551234", use="PRN", equipment="PH")),
        ("(020)5551234^PRN^PH^^31^20^5551234", Telecom(number="(020)5551234", use="PRN", equipment="PH")),
        ("x^PRN^PH^^31^20^5551234^^^^^+31205551234", Telecom(number="+31205551234", use="PRN", equipment="PH")),
        ("^PRN^PH^^31^20", Telecom(use="PRN", equipment="PH")),
    ],
)
def test_a_telecom_in_its_old_and_new_forms(xtn: str, expected: Telecom) -> None:
    assert patient(pid(_13=xtn)).home_telecoms == (expected,)


def test_a_work_number_without_a_use_is_for_work() -> None:
    assert patient(pid(_14="1~2^ASN")).work_telecoms == (Telecom(number="1", use="WPN"), Telecom(number="2", use="ASN"))


def test_the_rest_of_the_patient() -> None:
    found = patient(
        pid(
            _3="1",
            _7="19610312",
            _8="F^Female",
            _10="w^White^L~b",
            _15="nl^Dutch^ISO",
            _16="M",
            _22="e",
            _24="Y",
            _25="2",
            _28="NL",
            _29="2026",
            _30="Y",
            _33="20260101",
        )
    )
    assert (when(found.birth), found.gender, found.race, found.language, found.marital_status) == (
        "1961-03-12", "F", (Coded(code="w", text="White", system="L"), Coded(code="b")), Coded(code="nl", text="Dutch", system="ISO"), Coded(code="M"),
    )  # fmt: skip
    assert (found.ethnic_group, found.multiple_birth, found.birth_order, found.nationality) == (
        (Coded(code="e"),),
        "Y",
        "2",
        Coded(code="NL"),
    )
    assert (when(found.death), found.death_indicator, when(found.last_update)) == ("2026", "Y", "2026-01-01")


def test_the_visit() -> None:
    pv1 = [""] * 51
    for at, text in {0: "PV1", 2: "I^x", 3: "A3^12^1^AMC&x^^^B^2", 4: "R", 6: "A1", 7: "87^Doc&de^D^^^Dr^^^AGB&1.2&ISO^^^^AGB~2", 8: "3", 9: "4", 10: "INT",
                     14: "1", 18: "P", 19: "V1^^^AMC^VN", 20: "F^20260101", 36: "01", 44: "20260301", 45: "20260302", 50: "ALT"}.items():  # fmt: skip
        pv1[at] = text
    assert event("|".join(pv1), "PV1|2|E", "PV2|||E11^Diabetes^I10").visit == Visit(
        patient_class="I", location=Location(point_of_care="A3", room="12", bed="1", facility="AMC", building="B", floor="2"), admission_type="R",
        prior_location=Location(point_of_care="A1"), hospital_service="INT", admit_source="1", patient_type="P",
        attending=(Practitioner(identifier="87", family="de Doc", own_prefix="de", own_family="Doc", given="D", prefix="Dr", authority="AGB", authority_oid="1.2", type="AGB"), Practitioner(identifier="2")),
        referring=(Practitioner(identifier="3"),), consulting=(Practitioner(identifier="4"),), number=Identifier(value="V1", authority="AMC", type="VN"),
        financial_class="F", discharge_disposition="01", alternate_id=Identifier(value="ALT"), admit_reason=Coded(code="E11", text="Diabetes", system="I10"),
        admitted=Timestamp(date="2026-03-01", datetime="2026-03-01", epoch_ms=1772319600000, precision=Precision.DAY, zone=Zone.NONE),
        discharged=Timestamp(date="2026-03-02", datetime="2026-03-02", epoch_ms=1772406000000, precision=Precision.DAY, zone=Zone.NONE),
    )  # fmt: skip


def test_a_visit_of_pv2_alone_and_none() -> None:
    assert (event("PV2|||E11").visit, event("PID|1").visit) == (Visit(admit_reason=Coded(code="E11")), None)


def test_diagnoses_in_order_empty_ones_too() -> None:
    found = event("DG1|1|I10|E11.9^Type 2^I10^a^b^c|text|2026|F" + "|" * 14 + "D1^x|A", "DG1|2", "DG1|3|ICD9|250.00").diagnoses
    assert found == (
        Diagnosis(
            set_id="1", coding_method="I10", description="text", type="F", identifier="D1", action="A",
            code=Coded(code="E11.9", text="Type 2", system="I10", alternate_code="a", alternate_text="b", alternate_system="c"),
            time=Timestamp(date="2026", datetime="2026", precision=Precision.YEAR, zone=Zone.NONE),
        ),
        Diagnosis(set_id="2"),
        Diagnosis(set_id="3", coding_method="ICD9", code=Coded(code="250.00")),
    )  # fmt: skip


def test_a_report_with_its_observations() -> None:
    obr = [""] * 33
    for at, text in {0: "OBR", 1: "1", 2: "P^HIS", 3: "F1^ROM^1.2^ISO", 4: "34533-0^HoNOS^LN", 7: "2026", 8: "2027", 15: "honos_plus&HoNOS+&L^x", 16: "1~2", 22: "2028", 25: "F", 32: "prof_1&Berg&Jo&&&dr^2026"}.items():  # fmt: skip
        obr[at] = text
    obx = "OBX|1|CWE|H1^item 1^L|sub|a0^none^L~a1^some^L|pt^points^UCUM|0-4|H~A|||F|||2026||1^Berg"
    year = {
        text: Timestamp(date=text, datetime=text, precision=Precision.YEAR, zone=Zone.NONE) for text in ("2026", "2027", "2028")
    }
    assert event("|".join(obr), obx).reports == (
        Report(
            nth=1, set_id="1", placer=EntityIdentifier(value="P", authority="HIS"), code=Coded(code="34533-0", text="HoNOS", system="LN"),
            filler=EntityIdentifier(value="F1", authority="ROM", authority_oid="1.2", authority_oid_type="ISO"),
            observed=year["2026"], observed_end=year["2027"], reported=year["2028"], status="F",
            source=Coded(code="honos_plus", text="HoNOS+", system="L"),
            ordering=(Practitioner(identifier="1"), Practitioner(identifier="2")),
            interpreter=Interpreter(identifier="prof_1", family="Berg", given="Jo", prefix="dr"),
            observations=(
                Observation(
                    nth=1, set_id="1", value_type="CWE", code=Coded(code="H1", text="item 1", system="L"), sub_id="sub", value="a0",
                    coded=Coded(code="a0", text="none", system="L"), units=Coded(code="pt", text="points", system="UCUM"),
                    reference_range="0-4", flags=("H", "A"), status="F", time=year["2026"], observers=(Practitioner(identifier="1", family="Berg"),),
                ),
            ),
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value_type", "sent", "value"),
    [
        ("NM", "3", "3"),
        ("ST", "a^b & c", "a^b & c"),
        ("ST", "one~two", "one"),
        ("FT", "over\\S\\there", "over^there"),
        ("CWE", "a&b^c", "a"),
        ("CE", "^text alone", None),
        ("", "a0^none", "a0^none"),
        ("NM", '""', NULL),
        ("CNE", '""', NULL),
        ("NM", "", None),
    ],
)
def test_the_value_of_an_observation_is_what_its_type_says(value_type: str, sent: str, value: object) -> None:
    ((report,),) = (event("OBR|1", f"OBX|1|{value_type}|q||{sent}").reports,)
    assert report.observations[0].value == value


@given(st.lists(st.sampled_from(["OBR", "OBX", "NTE"]), max_size=12))
def test_every_obx_is_in_one_report_and_in_that_of_the_obr_before_it(names: list[str]) -> None:
    head, expected = 0, []
    for name in names:
        head += name == "OBR"
        expected += [head] if name == "OBX" else []
    reports = event("PID|||1", *names, "PID|||2", "OBR|1", "OBX|1").reports
    seen = [(report.nth, each.nth) for report in reports for each in report.observations]
    assert seen == [(at, nth) for nth, at in enumerate(expected, 1)]
    assert [report.nth for report in reports if report.nth] == list(range(1, head + 1))
    assert all(report.observations for report in reports if not report.nth)


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (("F", ["F", "F"]), "F"),
        (("", ["F", ""]), "F"),
        (("F", ["C", "F"]), "C"),
        (("C", ["C"]), "C"),
        (("", ["F", "P"]), "?"),
        (("D", ["F"]), "?"),
        (("X", ["C", "F"]), "?"),
        (("", [""]), ""),
        (('""', ["F"]), "F"),
        (("", []), ""),
    ],
)
def test_the_status_of_a_message_is_the_one_that_all_its_results_agree_on(said: tuple[str, list[str]], status: str) -> None:
    report, observations = said
    segments = [f"OBX|{number}|NM|q||1||||||{each}" for number, each in enumerate(observations, 1)]
    assert event("OBR|1" + "|" * 24 + report, *segments).result_status == status


def test_a_message_without_results_has_no_status() -> None:
    assert (event("PID|||1").reports, event("PID|||1").result_status) == ((), "")


def test_a_coverage() -> None:
    in1 = [""] * 50
    for at, text in {0: "IN1", 1: "1", 2: "B^Basis", 3: "3311^^^UZOVI", 4: "Kruis^L", 8: "G", 12: "2026", 13: "2027", 15: "T", 16: "Berg^Jo", 17: "SEL^Self", 36: "POL", 49: "I1"}.items():  # fmt: skip
        in1[at] = text
    year = [Timestamp(date=text, datetime=text, precision=Precision.YEAR, zone=Zone.NONE) for text in ("2026", "2027")]
    assert event("|".join(in1)).coverages == (
        Coverage(
            set_id="1", plan=Coded(code="B", text="Basis"), company_id=Identifier(value="3311", authority="UZOVI"), company_name="Kruis",
            group_number="G", plan_start=year[0], plan_end=year[1], plan_type="T", insured_name=Name(family="Berg", given="Jo"),
            relationship="SEL", policy_number="POL", insured_id=Identifier(value="I1"),
        ),
    )  # fmt: skip


def test_a_merge_with_its_prior_identifiers() -> None:
    assert event("PID|||1^^^X", "MRG|2^^^X~3^^^Y||A||V||Berg^Jo", "MRG||||4").prior == (
        Merge(
            identifiers=(Identifier(value="2", authority="X"), Identifier(value="3", authority="Y")),
            account=Identifier(value="A"), visit=Identifier(value="V"), names=(Name(family="Berg", given="Jo"),),
        ),
        Merge(identifiers=(Identifier(value="4"),)),
    )  # fmt: skip


def test_a_second_pair_of_a_merge_is_never_the_first_patients() -> None:
    segments = ("PID|||1", "MRG|2", "PID|||3", "PV1||I", "MRG|4", "MRG|5", "DG1|1", "PID|||6", "MRG|7")
    found = event(*segments)
    assert found.patient is not None
    assert ([each.value for each in found.patient.identifiers], [merge.identifiers[0].value for merge in found.prior]) == (
        ["1"],
        ["2"],
    )
    assert [(other.patient.identifiers[0].value, [merge.identifiers[0].value for merge in other.prior]) for other in found.others] == [
        ("3", ["4", "5"]), ("6", ["7"]),
    ]  # fmt: skip
    assert (found.visit, found.diagnoses) == (None, ())
    assert findings(*segments) == [Finding(FindingCode.PATIENTS_SEVERAL, hl7="PID[2]", about="3 PID segments")]


def test_an_explicit_null_is_not_absent() -> None:
    found = patient(pid(_3="1", _5='""', _7='""', _8='""', _13='""', _15='""', _18='""', _19="x"))
    assert (found.birth, found.gender, found.death, found.ssn) == (NULL, NULL, None, "x")
    assert (found.names[0].family, found.names[0].given, found.home_telecoms[0].number) == (NULL, NULL, NULL)
    assert (found.language, found.account) == (
        Coded(**dict.fromkeys(Coded.model_fields, NULL)),
        Identifier(**dict.fromkeys(Identifier.model_fields, NULL)),
    )
    assert patient(pid(_5='Berg^""')).names == (Name(family="Berg", given=NULL),)


@pytest.mark.parametrize(
    ("segments", "place"),
    [
        (["PID|||1||||19610231"], "PID-7"),
        (["PID|||1~2^^^^^^yesterday"], "PID-3[2].7"),
        (["DG1|1", "DG1|2||||2026-01-01"], "DG1[2]-5"),
        (["PID|||1", "MRG|7^^^^^^^x"], "MRG-1.8"),
        (["EVN|A01|noon"], "EVN-2"),
        (["PID|||1", "PID|||2||||x"], "PID[2]-7"),
    ],
)
def test_a_time_that_cannot_be_read_is_absent_and_its_place_is_told(segments: list[str], place: str) -> None:
    assert Finding(FindingCode.TIMESTAMP, Severity.WARNING, hl7=place) in findings(*segments)
    assert locate(place)


def test_unreadable_is_none_and_not_null() -> None:
    assert patient(pid(_7="19610231")).birth is None


def test_the_assumed_zone_is_told_once() -> None:
    found = typed(message("EVN|A01|20260301"), zone=ZONE)[1]
    assert found == (Finding(FindingCode.ZONE_ASSUMED, Severity.INFORMATION, hl7="MSH-7"),)
    assert typed(message(header="MSH|^~\\&|A||||20260301120000+0100||ADT^A01"), zone=ZONE)[1] == ()


def test_an_hour_of_the_change_is_found() -> None:
    assert findings("EVN|A01|20261025023000") == [Finding(FindingCode.TIME_AMBIGUOUS, hl7="EVN-2")]


def test_old_precision_in_a_second_component() -> None:
    assert when(patient(pid(_7="19610312000000^D")).birth) == "1961-03-12"


def test_text_is_unescaped_with_the_messages_own_delimiters() -> None:
    found = event("PID#1##7!!!A*B##De!Jo%F%x%S%", header="MSH#!@%*#H#####2026##ADT!A01")
    assert found.patient is not None
    assert found.patient.names == (Name(family="De", given="Jo#x!"),)
    assert found.patient.identifiers == (Identifier(value="7", authority="A", authority_oid="B"),)


@pytest.mark.parametrize(
    ("segment", "key"),
    [
        ("PID|||1^^^AMC&1.2^XX~2^^^AMC^MR~3^^^AMC^PI", b"AMC|3"),
        ("PID|||1^^^AMC&1.2^XX~2^^^AMC^MR", b"AMC|2"),
        ("PID|||1^^^AMC&1.2^XX~2^^^B", b"AMC|1"),
        ("PID|||1^^^&1.2&ISO", b"1.2|1"),
        ("PID|||1", b"|1"),
        ("PID|||~1 ^^^AMC", b"AMC|1"),
        ("PID||9^^^OLD|", b"OLD|9"),
        ("PID|||é^^^AMC", "AMC|é".encode()),
        ('PID|||""', None),
        ("PID|||^^^AMC", None),
        ("PV1||I", None),
    ],
)
def test_the_key_of_a_source_record(segment: str, key: bytes | None) -> None:
    assert source_key(message(segment)) == key


def _filled(model: BaseModel) -> set[str]:
    """The model fields of an event that hold something, as Class.field."""
    found = set()
    for name in type(model).model_fields:
        value = getattr(model, name)
        if value is not None and value != ():
            found.add(f"{type(model).__name__}.{name}")
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, BaseModel):
                found |= _filled(part)
    return found


FULL = [
    "EVN|A01|20260301120000||||20260301120000",
    pid(**{f"_{number}": "1&p&f&q&g^2^3^4&b&c^5^6^7^8^9&a" for number in range(1, 40) if number not in {7, 29, 33}}, _7="2026", _29="2026", _33="2026"),
    "MRG|1^2^3^4&b&c^5^6^2026^2027||1||1||1",
    "|".join(["PV1", *["2026" if number in {44, 45} else "1&2^2^3^4^5^6^7^8^9&b^10^11^12^13" for number in range(1, 51)]]),
    "PV2|||1^2^3^4^5^6|||||2026|2026",
    "|".join(["DG1", *["2026" if number == 5 else "1^2^3^4^5^6" for number in range(1, 22)]]),
    "|".join(["IN1", *["2026" if number in {12, 13} else "1^2^3^4^5^6" for number in range(1, 50)]]),
    "|".join(["OBR", *["2026" if number in {7, 8, 22} else "1&2&3&4&5&6&7&8&9&10^2^3^4^5^6^7^8^9&b^10^11^12^13" for number in range(1, 33)]]),
    "|".join(["OBX", *[{2: "CWE", 14: "2026"}.get(number, "1^2^3^4^5^6") for number in range(1, 17)]]),
    "|".join(["SCH", *["1&p&f&q&g^2&b&c&d&e^3^2026^2027^6^7^8^9&b^10^11^12^13" for _ in range(1, 26)]]),
    "NTE|1||a|PI^2^3^4^5^6",
    "|".join(["AIS", *["2026" if number == 4 else "1^2^3^4^5^6" for number in range(1, 11)]]),
    "NTE|1||b",
    "|".join(["AIG", *["2026" if number == 8 else "1^2^3^4^5^6" for number in range(1, 15)]]),
    "NTE|1||c",
    "|".join(["AIP", *["2026" if number == 6 else "1^2&b&c&d&e^3^4^5^6^7^8^9&b^10^11^12^13" for number in range(1, 13)]]),
    "NTE|1||d",
    "|".join(["AIL", *["2026" if number == 6 else "1^2^3^4^5^6^7^8^9" for number in range(1, 13)]]),
    "NTE|1||e",
    "PID|||2",
]  # fmt: skip


def test_every_field_of_the_schema_is_filled_by_some_message() -> None:
    full = event(*FULL, header="MSH|^~\\&|A|B|C|D|20260301120000||ADT^A01^ADT_A01|1|P|2.5")
    extra = event(pid(_3="1^^^^^^2026^2027", _11="a&b&c", _13="1^2^3^a@b"), header="MSH|^~\\&|")
    every = set()
    for model in (
        Event,
        Patient,
        Identifier,
        Name,
        Address,
        Telecom,
        Coded,
        Practitioner,
        Location,
        Visit,
        Diagnosis,
        Coverage,
        Merge,
        Report,
        Observation,
        EntityIdentifier,
        Interpreter,
        Appointment,
        Service,
        Resource,
        Personnel,
        Place,
        Note,
        Timestamp,
    ):
        every |= {f"{model.__name__}.{name}" for name in model.model_fields}
    assert every - _filled(full) - _filled(extra) == set()


def _placed(model: type[BaseModel]) -> dict[str, str]:
    """The HL7 places that the schema names."""
    return {
        name: str(field.json_schema_extra["hl7"])
        for name, field in model.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and "hl7" in field.json_schema_extra
    }


OWNERS = (
    Event,
    Patient,
    Visit,
    Diagnosis,
    Coverage,
    Merge,
    Report,
    Observation,
    Appointment,
    Service,
    Resource,
    Personnel,
    Place,
    Note,
)


@pytest.mark.parametrize("model", OWNERS)
def test_the_schema_and_the_reader_mean_the_same_place(model: type[BaseModel]) -> None:
    for name, raw in _placed(model).items():
        path = re.sub(r"\[[rn]\]", "", raw)
        if "-" not in path:
            continue
        where = locate(path)
        text = "20260301" if "Timestamp" in repr(model.model_fields[name].annotation) else "Q7Q"
        field = "^" * (max(where.component, 1) - 1) + text
        segment = [where.segment] + [""] * 60
        segment[where.field - (where.segment == "MSH")] = field
        if name == "coded":
            segment[2] = "CWE"
        header = "MSH|^~\\&|" if where.segment != "MSH" else "|".join(["MSH", "^~\\&", *segment[2:]])
        body = [] if where.segment == "MSH" else ["|".join(segment)]
        if where.segment in {"AIS", "AIG", "AIP", "AIL", "NTE"}:
            body.insert(0, "SCH|1")
        found: Any = event(*(["PID|1"] if where.segment == "MRG" else []), *body, header=header)
        parts: dict[str, Any] = {"Event": [found], "Patient": [found.patient], "Visit": [found.visit], "Merge": found.prior}
        parts |= {"Diagnosis": found.diagnoses, "Coverage": found.coverages, "Report": found.reports}
        parts |= {"Observation": [each for report in found.reports for each in report.observations]}
        if booked := found.appointment:
            parts |= {"Appointment": [booked], "Service": booked.services, "Resource": booked.resources, "Note": booked.notes}
            parts |= {"Personnel": booked.personnel, "Place": booked.places}
        holder = parts[model.__name__][0]
        dumped = repr(getattr(holder, name))
        assert "Q7Q" in dumped or "2026-03-01" in dumped, (model.__name__, name)


@given(st.text(alphabet='PIDMRGVNEDNATS13|^~\\&"\r123F.X @20260301', max_size=200) | st.text(max_size=60))
def test_no_content_breaks_the_event(body: str) -> None:
    try:
        found = parse(f"MSH|^~\\&|A|||||||{body}\rPID|1|{body}\rPV1|{body}\rMRG|{body}".encode(errors="replace"), charset="utf-8")
    except Parked:
        return
    made, noticed = typed(found, zone=ZONE)
    assert isinstance(made, Event)
    assert all(finding.hl7 is None or locate(finding.hl7) for finding in noticed)
    source_key(found)
