"""Writes schemas/published/*.schema.json from the models beside it: `python -m schemas.publish`; `--check` only says what is stale (exit 3).

Consumers of our topics read them; a test fails when they are stale. Nothing of `pipeline` is imported.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from schemas import medmij, njsams, roche, roqua
from schemas.dead_letter import DeadLetter
from schemas.event import Event
from schemas.result import Result

FOLDER: Final = Path(__file__).with_name("published")
PUBLISHED: Final[dict[str, type[BaseModel] | TypeAdapter[Any]]] = {
    "dead-letter": DeadLetter,
    "event": Event,
    "medmij-bundle": medmij.BUNDLE,
    "njsams-bundle": njsams.BUNDLE,
    "result": Result,
    "roche-bundle": roche.BUNDLE,
    "roqua-bundle": roqua.BUNDLE,
}
"""File name and model. Of a partner's bundle the schema says the shape only: systems and codes are Terms, and the order is code."""


def rendered(name: str) -> str:
    """The schema of a model as the file holds it (JSON Schema 2020-12)."""
    published = PUBLISHED[name]
    adapter = published if isinstance(published, TypeAdapter) else TypeAdapter(published)
    schema = adapter.json_schema(mode="validation")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{name}.schema.json"}
    return json.dumps({**head, **schema}, indent=2, ensure_ascii=False) + "\n"


def stale() -> list[Path]:
    """The files that are not what the models say, missing ones and ones too many included."""
    wanted = {FOLDER / f"{name}.schema.json": rendered(name) for name in PUBLISHED}
    wrong = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    return sorted(wrong + [path for path in FOLDER.glob("*.schema.json") if path not in wanted])


def main(arguments: list[str]) -> int:
    """The command. 0: written, or nothing stale; 3: stale under `--check`."""
    if arguments == ["--check"]:
        for path in stale():
            sys.stderr.write(f"{path}: stale; run python -m schemas.publish\n")
        return 3 if stale() else 0
    if arguments:
        sys.stderr.write("usage: python -m schemas.publish [--check]\n")
        return 2
    FOLDER.mkdir(exist_ok=True)
    for name in PUBLISHED:
        (FOLDER / f"{name}.schema.json").write_text(rendered(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
