"""Results, ORU^R01: what is written of reports and observations is read back, and in the public samples it is what python-hl7 reads."""

from collections.abc import Iterator

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.hl7.er7 import Message
from pipeline.hl7.event import typed
from pipeline.hl7.structure import check
from pipeline.model import Finding
from schemas.event import Coded, Event, Observation, Report, Text
from schemas.outcomes import Severity
from tests.hl7.samples import ZONE, message, needs_samples
from tests.hl7.test_samples import messages

HEADER = "MSH|^~\\&|Roqua|RGOc|PIPE|EPD|20260301120000||ORU^R01^ORU_R01|MSG1|P|2.4|||NE|NE|NLD|UNICODE UTF-8"
PID = "PID|1||2075^^^^PI||Berg^Jo||19610312|F"
EMPTY = message(header=HEADER)

TEXT = st.text(alphabet="aZ09 |^~\\\\&é_-.", min_size=1, max_size=8).map(str.strip).filter(bool)
CODED = st.builds(Coded, code=TEXT, text=st.none() | TEXT, system=st.none() | TEXT)
TYPED = st.one_of(
    st.tuples(st.sampled_from(["NM", "ST", "TX", "FT", "SN", ""]), st.none(), st.none() | TEXT),
    st.tuples(st.sampled_from(["CE", "CWE", "CNE"]), CODED, st.none()),
)
STATUS = st.sampled_from([None, "F", "C", "D", "X", "S", "P"])


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    kind, coded, value = draw(TYPED)
    return Observation(
        value_type=kind or None,
        coded=coded,
        value=coded.code if coded else value,
        code=draw(CODED),
        flags=tuple(draw(st.lists(st.sampled_from(["LL", "L", "H", "HH"]), max_size=2))),
        status=draw(STATUS),
    )


REPORTS = st.lists(st.tuples(TEXT, STATUS, st.lists(observations(), max_size=5)), max_size=4)


def written(text: Text) -> str:
    return EMPTY.escape(text)


def coded(value: Coded | None) -> str:
    return "^".join(written(part) for part in (value.code, value.text, value.system)) if value else ""


def segments(reports: list[tuple[str, str | None, list[Observation]]]) -> Iterator[str]:
    for number, source, status, below in ((at, *report) for at, report in enumerate(reports, 1)):
        yield f"OBR|{number}||{written(source)}|{'|' * 11}{written(source)}{'|' * 10}{status or ''}"
        for each in below:
            value = coded(each.coded) if each.coded else written(each.value)
            yield f"OBX||{each.value_type or ''}|{coded(each.code)}||{value}|||{'~'.join(map(str, each.flags))}|||{each.status or ''}"


def numbered(reports: list[tuple[str, str | None, list[Observation]]]) -> tuple[Report, ...]:
    """What was written, as it should be read."""
    nth = iter(range(1, 1000))
    return tuple(
        Report(
            nth=number,
            set_id=str(number),
            filler={"value": source},  # type: ignore[arg-type]  # pydantic makes it of the members
            source=Coded(code=source),
            status=status,
            observations=tuple(each.model_copy(update={"nth": next(nth)}) for each in below),
        )
        for number, (source, status, below) in enumerate(reports, 1)
    )


def read(*body: str) -> Event:
    return typed(message(PID, *body, header=HEADER), zone=ZONE)[0]


@given(REPORTS)
def test_what_is_written_of_a_result_is_read_back(reports: list[tuple[str, str | None, list[Observation]]]) -> None:
    assert read(*segments(reports)).reports == numbered(reports)


ROQUA = [
    "OBR|1||4711|^^L|||202603011330||||||||honos_plus||||||||||F",
    "OBX|1|ST|honos_plus_protocol^^L||HoNOS||||||F|||202603011330",
    "OBX|2|NM|honos_plus_tot^^L||31|||HH|||F|||202603011330",
    "OBX|3|ST|honos_plus_v_1^^L||a0||||||F|||202603011330",
]
"""As RoQua's documents have it (contracts/roqua.md 8.2)."""


def test_an_oru_of_roqua_is_read_part_by_part() -> None:
    (report,) = read(*ROQUA).reports
    assert (report.filler and report.filler.value, report.source and report.source.code, report.status) == (
        "4711",
        "honos_plus",
        "F",
    )
    assert report.observed is not None
    assert [(each.code and each.code.code, each.value, each.flags) for each in report.observations] == [
        ("honos_plus_protocol", "HoNOS", ()),
        ("honos_plus_tot", "31", ("HH",)),
        ("honos_plus_v_1", "a0", ()),
    ]


@needs_samples
def test_the_samples_results_are_those_that_python_hl7_has_in_its_order() -> None:
    compared = 0
    for _, sample in messages():
        reports = typed(sample, zone=ZONE)[0].reports
        if not reports or not sample("MSH-2") or len(sample.positions("PID")) > 1:
            continue
        parsed = hl7.parse(sample.encode().decode(sample.codec))
        seen = [("OBR", str(report.nth), _code(report.code)) for report in reports if report.nth]
        assert seen == [("OBR", str(nth), theirs) for nth, theirs in enumerate(_theirs(parsed, "OBR", 4, sample), 1)]
        codes = [_code(each.code) for report in reports for each in report.observations]
        assert codes == _theirs(parsed, "OBX", 3, sample)
        owners = [report.nth for report in reports for _ in report.observations]
        names = [str(segment[0]) for segment in parsed]
        assert owners == [names[:at].count("OBR") for at, name in enumerate(names) if name == "OBX"]
        compared += len(codes)
    assert compared > 40


def _code(found: Coded | None) -> str:
    return str(found.code or "") if found else ""


def _theirs(parsed: hl7.Message, name: str, field: int, sample: Message) -> list[str]:
    """The first component of a field of each segment."""
    if not any(str(segment[0]) == name for segment in parsed):
        return []
    raws = [str(segment[field]) if len(segment) > field else "" for segment in parsed.segments(name)]
    first = [raw.split(sample.delimiters.component)[0].split(sample.delimiters.subcomponent)[0] for raw in raws]
    return [parsed.unescape(raw).strip() for raw in first]


def found(*body: str, header: str = HEADER) -> tuple[Finding, ...]:
    return tuple(each for each in check(message(*body, header=header)) if each.severity is Severity.ERROR)


@pytest.mark.parametrize("version", ["2.3.1", "2.4", "2.5", "2.5.1"])
def test_the_strict_check_takes_an_oru_as_its_version_has_it(version: str) -> None:
    obr = "OBR|1||4711|honos_plus^HoNOS+^L|||202603011330||||||||honos_plus||||||||||F"
    header = HEADER.replace("|2.4|", f"|{version}|")
    assert found(PID, obr, "OBX|1|NM|honos_plus_tot^HoNOS+^L|1|31||||||F", header=header) == ()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ([PID], "ORU_R01_PATIENT_RESULT.ORU_R01_ORDER_OBSERVATION"),
        ([PID, "OBR|1||4711"], "OBR-4"),
        ([PID, "OBR|1||4711|a^b^L", "OBX|1|NM||a"], "OBX-3"),
        ([PID, "OBR|1||4711|a^b^L", "OBX|1|NM|q^q^L||1"], "OBX-11"),
        ([PID, "OBR|1||4711|a^b^L", "EVN|R01"], "EVN"),
    ],
)
def test_the_strict_check_says_what_an_oru_lacks(body: list[str], place: str) -> None:
    assert place in [each.hl7 or each.about for each in found(*body)]
