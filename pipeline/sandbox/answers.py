"""How an answer leaves: whole, or as a fault has it (dripping, endless, huge, cut off, not at all). Knows no contract."""

import asyncio
import socket
import struct
from dataclasses import replace
from typing import Any, Final

from pipeline.sandbox.faults import Rule
from pipeline.sandbox.partner import Partner
from pipeline.sandbox.wire import PIECE, Answer

LOGIN_PAGE: Final = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form method='post' action='/login'>"
    b"<input name='user'><input name='password' type='password'><button>Sign in</button></form></body></html>"
)


def instead(fault: Rule, real: Answer, partner: Partner[Any]) -> Answer:
    """The answer that a fault of kind `answer` gives instead of the real one."""
    headers = (("Retry-After", fault.retry_after),) if fault.retry_after is not None else ()
    if fault.body in {"outcome", "json"}:
        said = partner.instead(fault)
        return replace(said, headers=said.headers + headers)
    if fault.body == "html":
        return Answer(fault.status, LOGIN_PAGE, "text/html; charset=utf-8", headers)
    if fault.body == "echo":
        return Answer(fault.status, real.body, real.content_type, headers)
    return Answer(fault.status, headers=headers)


async def send(writer: asyncio.StreamWriter, answer: Answer, fault: Rule | None, *, close: bool) -> bool:
    """Write it; whether the connection may stay. ConnectionError where the client has gone."""
    kind = fault.kind if fault else "answer"
    if fault is None or kind in {"answer", "altered", "late", "close_idle"}:
        writer.write(answer.bytes(close=close))
        await writer.drain()
        if fault is not None and kind == "close_idle":
            await asyncio.sleep(fault.seconds)
            return False
        return not close
    if kind == "drop":
        drop(writer, reset=fault.reset)
    elif kind == "slow_loris":
        for byte in answer.bytes(close=True):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(fault.seconds)
    elif kind == "endless_chunks":
        await _endless(writer, answer, fault.seconds)
    elif kind == "huge_body":
        await _huge(writer, answer, fault.megabytes)
    elif kind == "truncated":
        writer.write(answer.head(close=True, length=len(answer.body) + 100) + answer.body)
        await writer.drain()
    return False


async def _endless(writer: asyncio.StreamWriter, answer: Answer, seconds: float) -> None:
    head = f"HTTP/1.1 {answer.status} OK\r\nContent-Type: application/fhir+json\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    while not writer.is_closing():
        writer.write(b"400\r\n" + b" " * 0x400 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(seconds)


async def _huge(writer: asyncio.StreamWriter, answer: Answer, megabytes: int) -> None:
    whole = megabytes * 1024 * 1024
    writer.write(Answer(answer.status, content_type="application/fhir+json").head(close=True, length=whole))
    for _ in range(0, whole, PIECE):
        if writer.is_closing():
            return
        writer.write(b" " * PIECE)
        await writer.drain()


def drop(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """End the connection without another byte, by FIN or by RST."""
    if reset:
        reset_on_close(writer.get_extra_info("socket"))
    writer.transport.abort()


def reset_on_close(sock: socket.socket) -> None:
    """Closing sends RST from now on (SO_LINGER with no time)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
