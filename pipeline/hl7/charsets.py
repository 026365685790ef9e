"""Bytes to text: the character set of a message, from its byte order mark, its zero bytes, MSH-18 or the site's default.

Nothing is lost: bytes that the character set does not have become lone surrogates (PEP 383), which the reader shows as U+FFFD and
writes back as the bytes that they were. Source: HL7 v2.8.2 chapter 2C, table 0211.
"""

import codecs
import re
from functools import lru_cache
from typing import Final, NamedTuple

from schemas.outcomes import FindingCode

TABLE_0211: Final = {
    "ASCII": "ascii",
    "ISO IR6": "ascii",
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)},
    "UNICODE": "utf-16",
    "UNICODE UTF-8": "utf-8",
    "UNICODE UTF-16": "utf-16",
    "UNICODE UTF-32": "utf-32",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
}
"""Python's codec of each character set of table 0211 that is supported. 8859/12 does not exist; ISO IR14, IR87, IR159 and CNS 11643
switch by escape sequences and are not supported (CHARSET_UNKNOWN)."""

_LOOSE: Final = (
    (re.compile(r"(?:ISO[ _-]?)?8859[ /_-]?(\d{1,2})"), "iso8859-{}"),
    (re.compile(r"(?:UNICODE ?)?UTF[ _-]?(8|16|32)(?:LE|BE)?"), "utf-{}"),
    (re.compile(r"(?:WINDOWS|CP)[ _-]?(125\d)"), "cp{}"),
    (re.compile(r"US[ _-]?(ASCII)"), "{}"),
)
"""Names that senders use for the same: ISO-8859-1, UTF-8, WINDOWS-1252."""

_BOMS: Final = (  # the four-byte ones first: UTF-32 LE begins like UTF-16 LE
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ZEROS: Final = {  # which of the first four bytes are zero, where they are ASCII letters
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
}
_WIDE: Final = ("utf-16", "utf-32")
_C1: Final = re.compile(rb"[\x80-\x9f]")
_UTF8_PAIR: Final = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")
DAMAGE: Final = re.compile("[\udc80-\udcff]")
"""What undecodable bytes have become."""


class Decoding(NamedTuple):
    """A message's text, the codec that reads and writes it, and what was noticed (about MSH-18, but UNDECODABLE has its own places)."""

    text: str
    codec: str
    codes: tuple[FindingCode, ...] = ()


def signature(data: bytes) -> tuple[str | None, int]:
    """The codec that a byte order mark or the zero bytes of wide characters tell, and the length of the mark."""
    for mark, codec in _BOMS:
        if data.startswith(mark):
            return codec, len(mark)
    head = data[:4]
    return (_ZEROS.get(tuple(byte == 0 for byte in head)) if 0 in head else None), 0  # type: ignore[arg-type]


@lru_cache(maxsize=256)
def codec_of(declared: str) -> str | None:
    """Python's codec of a name in MSH-18; None for an unknown one."""
    name = " ".join(declared.upper().split())
    codec = TABLE_0211.get(name)
    if codec is not None:
        return codec
    for pattern, form in _LOOSE:
        found = pattern.fullmatch(name)
        if found is None:
            continue
        try:
            return codecs.lookup(form.format(found[1].lower())).name
        except LookupError:
            return None
    return None


@lru_cache(maxsize=16)
def _codec(name: str) -> str:
    """Python's own name of a codec, so that names can be compared."""
    return codecs.lookup(name).name


def decode(data: bytes, declared: str, site: str) -> Decoding:
    """Read bytes of one-byte units. `declared` is the first MSH-18, empty where there is none; `site` the site's default codec."""
    site = _codec(site)
    known = codec_of(declared) if declared else site
    codec = known or site
    codes: tuple[FindingCode, ...] = () if known else (FindingCode.CHARSET_UNKNOWN,)
    if codec.startswith(_WIDE):  # MSH was readable byte by byte, so it is not wide; UNICODE alone is often said of UTF-8
        if codec_of(declared) and declared.strip().upper() != "UNICODE":
            codes = (FindingCode.CHARSET_WRONG,)
        codec = "utf-8"
    try:
        text = data.decode(codec)
    except UnicodeDecodeError:
        return _decode_damaged(data, codec, site, codes)
    if codec == "iso8859-1" and not data.isascii() and _C1.search(data):
        return _decode_windows(data, codes) or Decoding(text, codec, codes)
    return Decoding(text, codec, codes)


def decode_wide(data: bytes, codec: str) -> Decoding:
    """Read UTF-16 or UTF-32 of a known byte order."""
    unit = 2 if codec.startswith("utf-16") else 4
    spare = len(data) % unit
    if spare and not data[-spare:].strip(b"\r\n\x1c\x00"):  # a frame's end or a line feed, added byte by byte
        data = data[:-spare]
    try:
        return Decoding(data.decode(codec), codec)
    except UnicodeDecodeError:
        return Decoding(data.decode(codec, "replace"), codec, (FindingCode.UNDECODABLE,))


def encode(text: str, codec: str) -> bytes:
    """Write what `decode` or `decode_wide` read."""
    return text.encode(codec, "surrogatepass" if codec.startswith(_WIDE) else "surrogateescape")


def _decode_damaged(data: bytes, codec: str, site: str, codes: tuple[FindingCode, ...]) -> Decoding:
    """The character set cannot hold the bytes: the site's default where it can, else replace what cannot be read.

    Real UTF-8 with one broken character (a sender that cuts fields by bytes) stays UTF-8: another codec would garble every name.
    """
    other = "utf-8" if site.startswith(_WIDE) else site
    if other != codec and not (codec == "utf-8" and _UTF8_PAIR.search(data)):
        try:
            return Decoding(data.decode(other), other, (*codes, FindingCode.CHARSET_WRONG))
        except UnicodeDecodeError:
            codec = other if codec == "ascii" else codec
    return Decoding(data.decode(codec, "surrogateescape"), codec, (*codes, FindingCode.UNDECODABLE))


def _decode_windows(data: bytes, codes: tuple[FindingCode, ...]) -> Decoding | None:
    """8859/1 has control characters where Windows has quotes and the euro sign; no message means the former."""
    try:
        return Decoding(data.decode("cp1252"), "cp1252", (*codes, FindingCode.CHARSET_WRONG))
    except UnicodeDecodeError:
        return None
