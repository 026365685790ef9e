"""MLLP frames: `<VT> content <FS><CR>` around each message on a byte stream (HL7 v2 implementation guide, appendix C; MLLP release 1).

No I/O here, and nothing looks into a message further than its first bytes. However the stream is cut into reads, the same frames come out.
"""

from dataclasses import dataclass, field
from typing import Final

VT: Final = b"\x0b"
FS: Final = b"\x1c"
CR: Final = b"\r"

HEAD: Final = 64 * 1024
"""Bytes of a frame that is too large which are kept, so that its MSH can be answered."""
ABANDON: Final = 16
"""A frame that is longer than the limit times this is not waited for any more."""

_BETWEEN: Final = b"\r\n\x1c"
"""What senders leave between frames: the CR of a frame's end, a line feed after it, a second FS. Other bytes are stray."""
_STARTS: Final = (b"\x0bMSH", b"\x0bFHS", b"\x0bBHS")
_WIDE: Final = (b"\xff\xfe", b"\xfe\xff", b"M\x00", b"\x00M", b"F\x00", b"\x00F", b"B\x00", b"\x00B")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: what stood between VT and FS, byte for byte."""

    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TooLarge:
    """A frame over the limit: its first bytes. `abandoned`: its end did not come either, so the stream is of no more use."""

    head: bytes = field(repr=False)
    abandoned: bool = False


def frame(content: bytes) -> bytes:
    """The content as a frame."""
    return VT + content + FS + CR


class Framer:
    """Cuts a byte stream into frames. One per connection and direction.

    Lenient where senders are careless: FS ends a frame without its CR (whoever forgets it would wait for an answer while we wait for the CR);
    CR, LF and FS between frames are nothing; other bytes between frames are skipped and counted (`stray`); a VT and a header segment
    within an open frame begin it anew, since the one before was given up (`unterminated`). UTF-16 content may hold the byte 1C, so there only
    FS and CR together end the frame.
    """

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes`: the largest content that is kept."""
        self._most = most_bytes
        self._buffer = bytearray()
        self._open = False
        self._over = False
        """A frame was abandoned: nothing more comes out."""
        self._mark: bytes | None = None
        self._looked = 0
        self._head = b""
        self._skipped = 0
        """Bytes of the open frame that were let go; 0 while it is within the limit."""
        self.stray = 0
        self.unterminated = 0

    @property
    def is_open(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._open

    def feed(self, data: bytes) -> list[Frame | TooLarge]:
        """The frames that end within `data`, in order."""
        done: list[Frame | TooLarge] = []
        self._buffer += data
        while not self._over and self._begin():
            end = self._find_end()
            if end is not None:
                done.append(self._take(end))
            else:
                if self._shed():
                    done.append(self._abandon())
                break
        return done

    def _begin(self) -> bool:
        """Whether a frame is open, having skipped to its VT."""
        if self._open:
            return True
        start = self._buffer.find(VT)
        between = self._buffer if start < 0 else self._buffer[:start]
        self.stray += len(between.translate(None, _BETWEEN))
        if start < 0:
            self._buffer.clear()
            return False
        del self._buffer[: start + 1]
        self._open, self._mark, self._looked, self._head, self._skipped = True, None, 0, b"", 0
        return True

    def _find_end(self) -> int | None:
        """Where the open frame's FS stands in the buffer."""
        if self._mark is None:
            if len(self._buffer) < 2 and not self._buffer.startswith(FS):  # noqa: PLR2004 - two bytes tell UTF-16
                return None
            self._mark = FS + CR if self._buffer.startswith(_WIDE) else FS
        end = self._buffer.find(self._mark, self._looked)
        if end >= 0:
            return end
        self._looked = max(0, len(self._buffer) - len(self._mark) + 1)
        return None

    def _take(self, end: int) -> Frame | TooLarge:
        """Cut the ended frame out of the buffer."""
        length = self._skipped + end
        if length > self._most * ABANDON:
            return self._abandon()
        content = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._open = False
        if length > self._most:
            return TooLarge(self._head or self._head_of(content))
        anew = max(content.rfind(start) for start in _STARTS) if VT in content else -1
        if anew < 0:
            return Frame(content)
        self.unterminated += 1
        return Frame(content[anew + 1 :])

    def _shed(self) -> bool:
        """Let go of what an open frame has over the limit; whether it is so much that its end is not waited for."""
        if self._mark is None or (len(self._buffer) <= self._most + 1 and not self._skipped):
            return False
        self._head = self._head or self._head_of(self._buffer)
        self._skipped += self._looked
        del self._buffer[: self._looked]
        self._looked = 0
        return self._skipped > self._most * ABANDON

    def _head_of(self, content: bytes | bytearray) -> bytes:
        return bytes(content[: min(HEAD, self._most)])

    def _abandon(self) -> TooLarge:
        head = self._head or self._head_of(self._buffer)
        self._over = True
        self._buffer.clear()
        return TooLarge(head, abandoned=True)
