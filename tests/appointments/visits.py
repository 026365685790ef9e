"""Messages of a visit, as small as they can be. No test in here."""

from typing import Final

from tests.partners.medmij_samples import PID


def pv2(expected: str) -> str:
    return f"PV2||||||||{expected}|"


EXPECTED: Final = pv2("20260701080000+0200")
MOVED: Final = pv2("20260708080000+0200")


def adt(
    trigger: str,
    day: int,
    *group: str,
    visit: str = "V-1^^^HIS",
    pid: str = PID,
    patient_class: str = "I",
    admitted: str = "",
    discharged: str = "",
) -> bytes:
    """A visit's message of that day in March."""
    sent = f"202603{day:02}120000+0100"
    msh = f"MSH|^~\\&|HIS|ZIEKENHUIS|PIPE|MEDMIJ|{sent}||ADT^{trigger}^ADT_A01|M-{trigger}-{day}|P|2.5|||||NLD|UNICODE UTF-8"
    pv1 = f"PV1|1|{patient_class}|C4^12|||||||0320{'|' * 9}{visit}{'|' * 25}{admitted}|{discharged}"
    return "\r".join((msh, f"EVN|{trigger}|{sent}", pid, pv1.rstrip("|"), *group, "")).encode()
