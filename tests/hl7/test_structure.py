"""The strict structure check: what it finds, where, and that no value leaves it."""

import subprocess
import sys

import pytest

from pipeline.hl7.structure import check
from pipeline.model import Finding
from schemas.outcomes import FindingCode, Severity
from tests.hl7.samples import message, needs_samples
from tests.hl7.test_samples import messages

EVN = "EVN|A01|20260301120000"
PID = "PID|1||123^^^AMC^MR||Berg^Jo||19610312|F"
PV1 = "PV1|1|I"


def found(
    *segments: str, header: str = "MSH|^~\\&|HIS|AMC|PIPE|ROCHE|20260301120000||ADT^A01^ADT_A01|MSG1|P|2.5"
) -> list[tuple[str, str | None]]:
    return [(finding.severity.value, finding.hl7) for finding in check(message(*segments, header=header))]


def test_a_message_that_conforms_has_no_findings() -> None:
    assert found(EVN, PID, PV1) == []


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([EVN, PV1], ("error", "PID")),
        ([EVN, PID], ("error", "PV1")),
        ([EVN, "PID|1||||Berg^Jo", PV1], ("error", "PID-3")),
        ([EVN, PID, PID, PV1], ("error", "PID")),
        ([EVN, PID, PV1, "OBR|1"], ("error", "OBR")),
        ([EVN, "PID|1||123^^^AMC^QQQQ||Berg^Jo", PV1], ("warning", "PID-3.5")),
        ([EVN, "PID|1||123^^^AMC^MR||Berg^Jo|||SECRET in element X", PV1], ("warning", "PID-8")),
    ],
)
def test_what_breaks_the_grammar_is_told_with_its_place(segments: list[str], expected: tuple[str, str]) -> None:
    assert expected in found(*segments)


def test_errors_come_before_warnings() -> None:
    severities = [severity for severity, _ in found(EVN, "PID|1||||Berg|||SECRET", PV1)]
    assert severities == sorted(severities)
    assert set(severities) == {"error", "warning"}


def test_a_version_or_delimiters_that_hl7apy_cannot_read_are_one_error() -> None:
    unknown = check(message(EVN, PID, header="MSH|^~\\&|A||||2026||ADT^A01|1|P|9.9"))
    assert unknown == (Finding(FindingCode.STRUCTURE, Severity.ERROR, hl7="MSH-12", about="hl7apy: UnsupportedVersion"),)
    assert [finding.hl7 for finding in check(message(EVN, header="MSH|^|A||||2026||ADT|1|P|2.5"))] == ["MSH-2"]


def test_no_value_of_the_message_is_in_a_finding() -> None:
    findings = check(
        message("EVN|SECRET", "PID|SECRET||SECRET||SECRET|||SECRET||SECRET|SECRET", "PV1|SECRET|SECRET", "SEC|SECRET")
    )
    assert findings
    assert "SECRET" not in repr(findings)


@needs_samples
def test_the_samples_are_checked_without_a_crash_and_all_findings_say_where() -> None:
    chosen = [sample for _, sample in messages()][::8]
    findings = [finding for sample in chosen for finding in check(sample)]
    assert len(findings) > 50
    assert [finding for finding in findings if finding.hl7 is None and finding.about is None] == []


def test_hl7apy_is_not_imported_before_a_check() -> None:
    code = "import sys, pipeline.hl7.structure, pipeline.hl7.event; sys.exit('hl7apy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
