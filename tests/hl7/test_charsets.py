"""Character sets: each of table 0211 that is supported, MSH-18 that lies, wide characters, bytes that cannot be read."""

import codecs

import pytest

from pipeline.hl7.charsets import TABLE_0211, codec_of
from pipeline.hl7.er7 import parse
from pipeline.model import Finding
from schemas.outcomes import FindingCode

LETTERS = {
    "ascii": "Jansen", "iso8859-1": "José Müller ÿ", "iso8859-2": "Łukasz Šťastný", "iso8859-3": "Ĥaŭgo Ċ", "iso8859-4": "Ķēniņš",
    "iso8859-5": "Иванов", "iso8859-6": "محمد", "iso8859-7": "Γιώργος", "iso8859-8": "משה", "iso8859-9": "Şahin Ğ",
    "iso8859-10": "Ŋáđa", "iso8859-11": "สมชาย", "iso8859-13": "Žemaitė", "iso8859-14": "Ẁŷn", "iso8859-15": "Œuvre 5 €",
    "iso8859-16": "Ștefan", "utf-8": "José 李 😀", "utf-16": "José 李 😀", "utf-32": "José 李 😀", "gb18030": "李小龙", "euc_kr": "김철수",
    "big5": "李小龍",
}  # fmt: skip


def raw(text: str, declared: str, codec: str) -> bytes:
    return f"MSH|^~\\&|A|B|C|D|2026||ADT^A01|1|P|2.5||||||{declared}\rPID|1||7||{text}^X\r".encode(codec)


@pytest.mark.parametrize("declared", sorted(TABLE_0211))
def test_each_character_set_of_table_0211_is_read_and_written(declared: str) -> None:
    codec = TABLE_0211[declared]
    value = raw(LETTERS[codec], declared, codec)
    found = parse(value, charset="ascii")
    assert (found("PID-5"), found.encode(), found.findings) == (LETTERS[codec], value, ())


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("8859/1", "iso8859-1"), ("ISO-8859-1", "iso8859-1"), ("iso8859_15", "iso8859-15"), ("UTF-8", "utf-8"), ("utf8", "utf-8"),
        ("unicode  utf-8", "utf-8"), ("WINDOWS-1252", "cp1252"), ("CP1251", "cp1251"), ("US-ASCII", "ascii"), ("8859/12", None),
        ("ISO IR87", None), ("EBCDIC", None),
    ],
)  # fmt: skip
def test_names_that_senders_use_are_known(name: str, codec: str | None) -> None:
    assert codec_of(name) == codec


def test_without_msh18_the_site_decides() -> None:
    assert parse(raw("José", "", "iso8859-1"), charset="iso8859-1")("PID-5") == "José"


@pytest.mark.parametrize("site", ["latin-1", "ISO-8859-1", "iso8859-1"])
def test_the_sites_codec_may_have_any_of_pythons_names(site: str) -> None:
    assert parse(raw("5 \u20ac", "", "cp1252"), charset=site)("PID-5") == "5 \u20ac"


def test_only_the_first_of_a_repeated_msh18_counts() -> None:
    assert parse(raw("Иван", "8859/5~8859/1", "iso8859-5"), charset="utf-8")("PID-5") == "Иван"


def test_an_unknown_name_is_found_and_the_site_decides() -> None:
    found = parse(raw("José", "EBCDIC", "utf-8"), charset="utf-8")
    assert (found("PID-5"), found.findings) == ("José", (Finding(FindingCode.CHARSET_UNKNOWN, hl7="MSH-18"),))


@pytest.mark.parametrize(
    ("declared", "written", "site", "text"),
    [
        ("ASCII", "utf-8", "utf-8", "José"),
        ("ASCII", "iso8859-1", "iso8859-1", "José"),
        ("UNICODE UTF-8", "iso8859-1", "iso8859-1", "José"),
        ("UNICODE UTF-16", "utf-8", "utf-8", "José"),
        ("8859/1", "cp1252", "utf-8", "D\u2019Arc 5 €"),
        ("8859/1", "utf-16-le", "utf-8", "José"),
        ("ASCII", "utf-16-be", "utf-8", "José"),
        ("8859/1", "utf-8-sig", "utf-8", "José"),
    ],
)
def test_a_character_set_that_does_not_fit_is_found_and_the_text_still_right(
    declared: str, written: str, site: str, text: str
) -> None:
    value = raw(text, declared, written)
    found = parse(value, charset=site)
    assert (found("PID-5"), found.findings) == (text, (Finding(FindingCode.CHARSET_WRONG, hl7="MSH-18"),))
    assert (found.encode(), parse(found.encode(), charset=site)("PID-5")) == (value, text)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("around", [(b"", b""), (b"\x0b", b"\x1c\r"), (b"", b"\n")])
def test_wide_characters_are_found_though_msh_itself_is_wide(codec: str, marked: bool, around: tuple[bytes, bytes]) -> None:
    marks = {
        "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE,
        "utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE,
    }  # fmt: skip
    declared = "UNICODE UTF-16" if "16" in codec else "UNICODE UTF-32"
    value = (marks[codec] if marked else b"") + raw("Ћошић 李", declared, codec)
    found = parse(around[0] + value + around[1], charset="utf-8")
    assert (found("PID-5"), found.findings, found.encode()) == ("Ћошић 李", (), value)


def test_bytes_that_cannot_be_read_are_replaced_found_at_their_place_and_written_back() -> None:
    value = raw("José~J\x00an&x", "UNICODE UTF-8", "utf-8").replace(b"\x00", b"\xe9")
    found = parse(value, charset="utf-8")
    assert (found("PID-5"), found("PID-5[2]"), found.raw("PID-5[2].1")) == ("José", "J\ufffdan", "J\ufffdan&x")
    assert found.findings == (Finding(FindingCode.UNDECODABLE, hl7="PID-5[2].1.1"),)
    assert found.encode() == value


def test_one_broken_character_does_not_garble_the_others() -> None:
    found = parse(raw("José\x00", "UNICODE UTF-8", "utf-8").replace(b"\x00", b"\xc3"), charset="iso8859-1")
    assert found("PID-5") == "José\ufffd"


def test_broken_utf16_is_replaced_and_found() -> None:
    value = raw("Jo", "UNICODE UTF-16", "utf-16-le").replace("o".encode("utf-16-le"), b"\x00\xd8")
    found = parse(value, charset="utf-8")
    assert (found("PID-5"), found.findings) == ("J\ufffd", (Finding(FindingCode.UNDECODABLE, hl7="PID-5.1"),))


def test_findings_of_a_broken_message_are_capped() -> None:
    value = raw("~".join(["\x00"] * 500), "", "utf-8").replace(b"\x00", b"\xff")
    assert len(parse(value, charset="utf-8").findings) == 100
