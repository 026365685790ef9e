"""Several messages in one value: FHS/BHS batches, concatenated files, MLLP frames. Bytes in, bytes out; nothing is decoded for good.

No message is lost: what stands between messages and is neither envelope nor blank comes out as an item of its own, to be refused by
`er7.parse` with a reason. Source: HL7 v2.8.2 chapter 2.10.3 (batch protocol).
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from pipeline.hl7.charsets import signature

_PADDING: Final = b"\r\n\x0b\x1c\x1a\x00"
_MARK: Final = re.compile(rb"(?:^|(?<=[\r\n\x0b\x1c]))(?:\xef\xbb\xbf)?[ \t]*(MSH|FHS|BHS|BTS|FTS)(?=[!-/:-@\[-`{-~\r\n]|\Z)")
"""Where a message or an envelope segment begins: at the start of a line or frame, followed by a delimiter."""
_END_OF_FRAME: Final = re.compile(rb"\x1c\r?\n?")
_END_OF_LINE: Final = re.compile(rb"[\r\n\x1c]")


def split(data: bytes) -> Iterator[bytes]:
    """The messages in `data`, one after the other, as they stand there (line ends and frame bytes around them are cut off)."""
    if data[:1] == b"\x0b":
        for frame in _frames(data):
            yield from _split(frame)
    else:
        yield from _split(data)


def _frames(data: bytes) -> Iterator[bytes]:
    """What stands between the frame bytes. A frame's end is 1C 0D; in UTF-16 these two are hardly ever neighbours."""
    for frame in data.split(b"\x1c\r"):
        yield frame.lstrip(b"\x0b\r\n") if frame[:1] in b"\x0b\r\n" else frame


def _split(data: bytes) -> Iterator[bytes]:
    codec, mark = signature(data)
    if codec is None or codec == "utf-8":
        yield from _narrow(data)
        return
    body = data[mark:]
    spare = len(body) % (2 if codec.startswith("utf-16") else 4)
    whole = body[: len(body) - spare]
    try:
        narrow = whole.decode(codec, "surrogatepass").encode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # UTF-32 beyond Unicode: one item, and the reader says so
        yield data
        return
    for item in _narrow(narrow):
        yield data[:mark] + item.decode("utf-8", "surrogatepass").encode(codec, "surrogatepass")
    yield from _item(body[len(body) - spare :])


def _narrow(data: bytes) -> Iterator[bytes]:
    found = [(match.start(), match[1]) for match in _MARK.finditer(data)]
    if not found:
        yield from _item(data)
        return
    yield from _item(data[: found[0][0]])
    for (start, name), (end, _) in pairwise([*found, (len(data), b"")]):
        piece = data[start:end]
        if name != b"MSH":  # an envelope is one line; what follows it without an MSH is no message
            line = _END_OF_LINE.search(piece)
            yield from _item(piece[line.start() :] if line else b"")
            continue
        over = _END_OF_FRAME.search(piece)
        yield from _item(piece[: over.start()] if over else piece)
        if over:
            yield from _item(piece[over.end() :])


def _item(data: bytes) -> Iterator[bytes]:
    """One item, or none where there is nothing but blanks."""
    item = data.strip(_PADDING)
    if item.strip(b" \t\xef\xbb\xbf"):
        yield item
