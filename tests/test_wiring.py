"""What wiring puts between the parts: identifier systems, looked up once for each kind of identifier."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import Decision
from pipeline.templates import catalogue as module
from pipeline.templates.catalogue import Catalogue
from pipeline.templates.tables import identifier_system
from pipeline.wiring import MAPPINGS, IdentifierSystems, gate_of
from schemas.event import NULL, Identifier
from schemas.outcomes import Reason
from tests.delivery.partner_script import settings_with

PARTS = st.sampled_from([None, NULL, "", "CIP", "ZGDEMO", "LOCAL", "2.16.724.4.41", "1.3.6.1.4.1.56221.2.2", "MR"])
IDENTIFIERS = st.builds(Identifier, value=st.just("1"), authority=PARTS, authority_oid=PARTS, type=PARTS)
TABLE = Path("sites", "demo", "codes", "identifier-systems.yaml")


def mappings(folder: Path, *rows: str) -> Path:
    """The demo site's mappings with rows of a hospital that names no authority."""
    copied = shutil.copytree(MAPPINGS, folder / "mappings")
    with (copied / TABLE).open("a", encoding="utf-8") as table:
        table.writelines(f"  - {row}\n" for row in rows)
    return copied


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    rows = ('{system: type, code: MR, to: "urn:x:mr"}', '{system: type, code: none, to: "urn:x:none"}')
    return Catalogue(mappings(tmp_path_factory.mktemp("demo"), *rows), "demo")


@given(st.lists(IDENTIFIERS, min_size=1))
def test_a_kept_system_is_the_tables_own_answer(demo: Catalogue, identifiers: list[Identifier]) -> None:
    systems, table = IdentifierSystems(demo, "roche"), demo.table("identifier-systems")
    assert [systems(one) for one in identifiers] == [identifier_system(table, one) for one in identifiers]


def test_a_table_that_changes_is_looked_up_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.0)
    folder = mappings(tmp_path)
    systems = IdentifierSystems(Catalogue(folder, "demo"), "roche")
    mine = Identifier(value="1", authority="MINE")
    assert systems(mine) is None

    with (folder / TABLE).open("a", encoding="utf-8") as table:
        table.write('  - {system: authority, code: MINE, to: "urn:oid:1.2.3"}\n')

    assert systems(mine) == "urn:oid:1.2.3"


def test_two_ways_into_one_partner_share_its_table_of_identifiers(demo: Catalogue) -> None:
    number = Identifier(value="2075", authority="ZGDEMO")
    assert IdentifierSystems(demo, "roqua-responses")(number) == identifier_system(demo.table("identifier-systems-roqua"), number)
    assert IdentifierSystems(demo, "roqua-responses")(number) is not None


@pytest.mark.parametrize("certified", [True, False])
def test_the_gate_of_a_partner_speaks_of_our_client_certificate_where_its_settings_have_one(
    capsys: pytest.CaptureFixture[str], *, certified: bool
) -> None:
    def change(tree: dict[str, Any]) -> None:
        if not certified:
            tree["partners"]["roche"]["tls"] |= {"certificate": None, "key": None}

    settings = settings_with(change)
    gate = gate_of(settings, "roche", lambda: None)
    for _ in range(settings.breaker.failures):
        assert gate.ask() == 0.0
        gate.told(Decision.FAILED, Reason.NOT_SENT_TLS)
    told = capsys.readouterr().err
    assert ("tls.ca" in told, "our client certificate" in told) == (True, certified)
