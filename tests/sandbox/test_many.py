"""Many at once: hundreds of connections wait for the partner's time side by side, in one process."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.sandbox.roche.stand_in import RocheSandbox
from tests.sandbox.client import of

CONNECTIONS = 150
LATENCY = 0.5

Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def ask(roche: RocheSandbox) -> tuple[list[bytes], float]:
    """Status lines of one create on each connection, and how long all of them took."""
    context = ssl.create_default_context(cafile=str(roche.files.ca))
    context.load_cert_chain(roche.files.client, roche.files.client_key)
    opened: list[Opened] = [
        await asyncio.open_connection("127.0.0.1", roche.port, ssl=context, server_hostname="localhost")
        for _ in range(CONNECTIONS)
    ]

    async def create(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        body = json.dumps(of(f"M{number}")).encode()
        head = (
            "POST /partners/fhir/stu3/api/Bundle HTTP/1.1\r\norg_id: 2.16.724.4.2\r\nclient_id: 1234567890\r\n"
            f"client_secret: {roche.files.secret()}\r\nx-origin-request-id: 5109d51b-421e-4746-b673-16e3fe2b3442\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        return (await reader.readuntil(b"\r\n")).strip()

    begun = time.monotonic()
    lines = await asyncio.gather(*(create(number, *one) for number, one in enumerate(opened)))
    took = time.monotonic() - begun
    for _, writer in opened:
        writer.transport.abort()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return lines, took


def test_many_connections_wait_side_by_side(start: Callable[..., RocheSandbox]) -> None:
    roche = start(latency=LATENCY)
    lines, took = asyncio.run(ask(roche))
    assert lines == [b"HTTP/1.1 200 OK"] * CONNECTIONS
    assert LATENCY <= took < LATENCY * CONNECTIONS / 10
    assert set(roche.log.creates().values()) == {1}
    assert len(roche.log.creates()) == CONNECTIONS


def test_one_that_was_never_started_stops_and_leaves_its_folder_free(folder: Path) -> None:
    RocheSandbox(folder).stop()
    with RocheSandbox(folder) as roche:
        assert roche.patients() == 0
