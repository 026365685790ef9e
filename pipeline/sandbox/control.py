"""The control port: plain HTTP with JSON on 127.0.0.1, for whoever drives a sandbox in another process. Off unless asked for.

GET /health            {"requests": n, "patients": n}
GET /knobs             all of them          PUT /knobs   {"name": value, …}: turn some; answers all
GET /faults            those that stand     POST /faults {"name": "503", "next": 3, …}: one more     DELETE /faults: none any more
POST /orders           {"name": "revoke", "refresh": true}, {"name": "keys", "jwks": {…}}, {"name": "complete", "dossier": "2075", …}: of the partner's own
GET /log/NUMBER        lines of the log of effects after that number, as a JSON array
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import orjson

from pipeline.errors import SettingsError
from pipeline.sandbox import faults, knobs
from pipeline.sandbox.log import SandboxLog
from pipeline.sandbox.server import GONE, Server
from pipeline.sandbox.wire import LONGEST_HEAD, Answer, Malformed, Request, as_json, read_request

MOST_BYTES: Final = 1_000_000


class Control:
    """Serves one sandbox's knobs, in its event loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listening: asyncio.Server | None = None
        self.url = ""

    async def start(self, port: int) -> None:
        """Listen on loopback."""
        try:
            self._listening = await asyncio.start_server(self._connection, "127.0.0.1", port, limit=LONGEST_HEAD)
        except OSError as error:
            raise SettingsError(
                f"cannot listen ({error.strerror}); choose another --control", where=f"127.0.0.1:{port}"
            ) from None
        self.url = f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Close."""
        if self._listening:
            self._listening.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await read_request(reader, writer, lambda: MOST_BYTES)) is not None:
                writer.write(self.answer(request).bytes(close=not request.keep_alive))
                await writer.drain()
                if not request.keep_alive:
                    break
        except Malformed as error:
            writer.write(Answer(error.status).bytes(close=True))
        except GONE:
            writer.transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(*GONE):  # it is closed either way
                await writer.wait_closed()

    def answer(self, request: Request) -> Answer:
        """One request; a wrong one is answered with what is wrong."""
        routes: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("GET", "/health"): lambda _: {"requests": self._server.requests, "patients": self._server.partner.count()},
            ("GET", "/knobs"): lambda _: self._server.knobs.model_dump(),
            ("PUT", "/knobs"): self._turn,
            ("GET", "/faults"): lambda _: self._rules(),
            ("POST", "/faults"): self._order,
            ("DELETE", "/faults"): self._clear,
            ("POST", "/orders"): self._tell,
        }
        if request.method == "GET" and request.path.startswith("/log"):
            return self._log(request.path)
        work = routes.get((request.method, request.path))
        if work is None:
            return as_json(404, {"error": f"there are {', '.join(f'{m} {p}' for m, p in routes)}, GET /log/NUMBER"})
        try:
            return as_json(200, work(orjson.loads(request.body) if request.body else {}))
        except orjson.JSONDecodeError:
            return as_json(400, {"error": "the body is not JSON"})
        except (SettingsError, TypeError) as error:
            return as_json(400, {"error": str(error)})

    def _turn(self, values: Any) -> Any:  # noqa: ANN401 - JSON
        self._server.turn(knobs.turned(self._server.knobs, _object(values)))
        return self._server.knobs.model_dump()

    def _order(self, details: Any) -> Any:  # noqa: ANN401 - JSON
        self._server.faults.add(faults.rule(**{"name": "", **_object(details)}))
        return self._rules()

    def _tell(self, details: Any) -> Any:  # noqa: ANN401 - JSON
        given = _object(details)
        self._server.tell(str(given.pop("name", "")), given)
        return {}

    def _clear(self, _: Any) -> Any:  # noqa: ANN401 - JSON
        self._server.faults.clear()
        return self._rules()

    def _rules(self) -> list[dict[str, Any]]:
        return [one.model_dump(exclude_none=True) for one in self._server.faults.rules()]

    def _log(self, path: str) -> Answer:
        after = path.removeprefix("/log").strip("/") or "0"
        if not after.isdecimal():
            return as_json(400, {"error": "GET /log/NUMBER: lines after that number"})
        lines = [one for one in SandboxLog(self._server.files.folder) if one.number > int(after)]
        return as_json(200, lines)


def _object(tree: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    if not isinstance(tree, dict):
        raise SettingsError("the body is not a JSON object")
    return tree
