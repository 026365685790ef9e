"""The hot path against python-hl7 in the same run: a ratio, since machines differ. The figures stand in `bench convert`."""

from collections.abc import Callable
from time import process_time

import hl7

from pipeline.hl7.er7 import parse
from pipeline.hl7.event import typed
from tests.hl7.samples import ZONE

ADMISSION = (
    "MSH|^~\\&|HIS|AMC|PIPE|ROCHE|20260301120000||ADT^A01^ADT_A01|MSG0001|P|2.5||||||8859/1\r"
    "EVN|A01|20260301115900|||JANSEN^Jansen\r"
    "PID|1||1234567^^^AMC&2.16.840.1.113883.2.4.3.1&ISO^PI~999911120^^^NLMINBIZA^NNNLD||van den Berg-de Vries&van den&Berg&de&Vries^José^M"
    "^^Mw.^^L||19610312|F|||Keizersgracht 12&Keizersgracht&12^^Amsterdam^^1015 CS^NL^H||+31201234567^PRN^PH~jose@example.nl^NET^Internet"
    "|+31207654321^WPN^PH|nl^Nederlands^ISO639|M\r"
    "PD1||||12345^Huisarts^A\r"
    "NK1|1|Berg^Piet|SPO^Partner\r"
    "PV1|1|I|A3^12^1^AMC||||87654^Doctor^D^^^^^^AGB&2.16.528.1.1007.3.1&ISO|11111^Ref^R||INT|||||||||V0001^^^AMC^VN\r"
    "PV2|||E11^Diabetes^I10\r"
    "DG1|1|I10|E11.9^Diabetes mellitus type 2^I10|Diabetes mellitus type 2|20260301100000|A\r"
    "IN1|1|BASIS^Basisverzekering|3311^^^UZOVI|Zilveren Kruis||||||||20260101|20261231\r"
    "ZPI|1|extra^stuff\r"
)


def _seconds(work: Callable[[], object]) -> float:
    """The best of five rounds: what the machine does when nobody disturbs it."""
    rounds = []
    for _ in range(5):
        start = process_time()
        for _ in range(40):
            work()
        rounds.append(process_time() - start)
    return min(rounds)


def test_parsing_and_the_typed_event_take_less_than_half_of_python_hl7s_parsing_alone() -> None:
    raw = ADMISSION.encode("iso8859-1")
    ours = _seconds(lambda: typed(parse(raw, charset="utf-8"), zone=ZONE))
    theirs = _seconds(lambda: hl7.parse(ADMISSION))
    assert theirs / ours > 2
