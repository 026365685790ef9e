"""Code tables: what wins, what a site changes, what is told with a line."""

from pathlib import Path

import pytest

from pipeline.templates.catalogue import Catalogue
from pipeline.templates.lined import YamlMistake
from pipeline.templates.tables import CodeTable, identifier_system, joined, read
from schemas.event import Coded, Identifier
from tests.templates.samples import MAPPINGS


@pytest.fixture(scope="module")
def mappings() -> Catalogue:
    return Catalogue(MAPPINGS, "demo")


TYPES = {"46635009": "1", "44054006": "2", "11687002": "pregnancy"}


@pytest.mark.parametrize(
    ("code", "system", "expected"),
    [
        ("E10.9", "I10", "1"),
        ("e109", "ICD10", "1"),
        ("E11", "I10C", "2"),
        ("E11.65", "ICD-10-CM", "2"),
        ("E13.9", "I10", None),
        ("E14", "I10", None),
        ("O24.4", "I10", "pregnancy"),
        ("O24.011", "I10C", "1"),
        ("O24.9", "I10", None),
        ("250.00", "I9C", "2"),
        ("25001", "I9", "1"),
        ("250.92", "I9C", "2"),
        ("250.13", "ICD9CM", "1"),
        ("250.0", "I9C", None),
        ("648.83", "I9C", "pregnancy"),
        ("648.03", "I9C", None),
        ("46635009", "SCT", "1"),
        ("44054006", "SNM3", "2"),
        ("73211009", "SCT", None),
        ("DM1", "L", "1"),
        ("E10.9", "L", None),
        ("E10.9", None, None),
        ("E10.9", "XYZ", None),
        ("250.01", "I10", None),
    ],
)
def test_a_diagnosis_has_its_type_of_diabetes(mappings: Catalogue, code: str, system: str | None, expected: str | None) -> None:
    found = mappings.table("diabetes-type").find(code, system)
    assert (TYPES[found.code] if not isinstance(found, str | None) else found) == expected


def test_the_alternate_code_of_a_ce_counts_where_the_first_has_no_target(mappings: Catalogue) -> None:
    coded = Coded(code="X1", system="L", alternate_code="E10.9", alternate_system="I10")
    found = mappings.table("diabetes-type").find_coded(coded)
    assert found is not None
    assert not isinstance(found, str)
    assert found.code == "46635009"


def test_the_method_of_old_senders_names_the_system(mappings: Catalogue) -> None:
    assert mappings.table("diabetes-type").find_coded(Coded(code="250.01"), "I9") is not None


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (Identifier(value="1", authority="CIP"), "urn:oid:2.16.724.4.41"),
        (Identifier(value="1", authority="cip"), "urn:oid:2.16.724.4.41"),
        (Identifier(value="1", authority="ZGDEMO"), "urn:oid:1.3.6.1.4.1.56221.2.2"),
        (Identifier(value="1", authority="CIP", authority_oid="1.3.6.1.4.1.56221.2.2"), "urn:oid:1.3.6.1.4.1.56221.2.2"),
        (Identifier(value="1", authority="2.16.724.4.41"), "urn:oid:2.16.724.4.41"),
        (Identifier(value="1", authority="NLMINBIZA"), None),
        (Identifier(value="1"), None),
    ],
)
def test_an_identifier_has_its_system(mappings: Catalogue, identifier: Identifier, expected: str | None) -> None:
    assert identifier_system(mappings.table("identifier-systems"), identifier) == expected


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        (Identifier(value="1", type="MR"), "urn:x:mr"),
        (Identifier(value="1"), "urn:x:none"),
        (Identifier(value="1", type="MR", authority="ANOTHER"), None),
        (Identifier(value="1", type="MR", authority="ANOTHER", authority_oid="1.2.3"), None),
    ],
)
def test_the_identifier_type_counts_only_where_no_authority_is_named(
    tmp_path: Path, identifier: Identifier, expected: str | None
) -> None:
    base = "table: t\nmeans: x\nsource: x\nsystems: {oid: [], authority: [], type: []}\nrows:\n"
    rows = "  - {system: type, code: MR, to: 'urn:x:mr'}\n  - {system: type, code: none, to: 'urn:x:none'}\n"
    assert identifier_system(table(tmp_path, base + rows), identifier) == expected


def table(folder: Path, base: str, site: str | None = None) -> CodeTable:
    (folder / "t.yaml").write_text(base)
    (folder / "site").mkdir()
    (folder / "site" / "t.yaml").write_text(site or "")
    return joined(read(folder / "t.yaml"), read(folder / "site" / "t.yaml") if site else None)


def test_an_exact_code_wins_over_a_pattern_and_a_longer_one_over_a_shorter(tmp_path: Path) -> None:
    rows = "table: t\nrows: [{prefix: A, to: short}, {prefix: AB, to: long}, {pattern: 'AB?', to: pattern}, {code: ABC, to: exact}]\n"
    codes = table(tmp_path, rows)
    assert [codes.find(code) for code in ("A1", "ABXY", "ABX", "ABC", "B")] == ["short", "long", "long", "exact", None]


def test_a_site_adds_and_replaces_rows(tmp_path: Path) -> None:
    codes = table(
        tmp_path,
        "table: t\nrows: [{code: A, to: x}, {code: B, to: y}]\n",
        "table: t\nrows: [{code: B, to: z}, {code: C, to: nothing}]\n",
    )
    assert [codes.find(code) for code in "ABCD"] == ["x", "z", None, None]
    assert [codes.knows(code) for code in "ABCD"] == [True, True, True, False]


def test_a_code_that_looks_like_a_number_or_a_boolean_stays_a_text(tmp_path: Path) -> None:
    codes = table(tmp_path, "table: t\nrows: [{code: 250.0, to: a}, {code: NO, to: b}, {code: 007, to: c}]\n")
    assert [codes.find(code) for code in ("250.0", "NO", "007")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("table: u\n", 1),
        ("table: t\nrows:\n  - {code: A, prefix: A, to: x}\n", 3),
        ("table: t\nrows:\n  - {code: A, to: x}\n  - {code: A, to: y}\n", 4),
        ("table: t\nrows:\n  - {code: A, system: s, to: x}\n", 3),
        ("table: t\nignore: [spaces]\n", 2),
        ("- a\n", 1),
        ("table: t\nrows: [\n", 3),
    ],
)
def test_a_wrong_table_is_told_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(YamlMistake) as caught:
        table(tmp_path, text)
    assert caught.value.line == line
