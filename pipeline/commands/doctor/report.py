"""A line of the doctor's report."""

import json
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How well it is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Line:
    """What was looked at, what was found, what to do."""

    level: Level
    what: str
    found: str
    do: str | None = None
    ours: bool = False
    """A failure lies in settings, secrets, certificates or mappings: exit 2 instead of 3."""
    refused: bool = False
    """A guard refuses to run: exit 4, as `run` ends."""

    def __str__(self) -> str:
        do = f" → {self.do}" if self.do else ""
        return f"{self.level:4}  {self.what}: {self.found}{do}"

    def json(self) -> str:
        """The same as an object."""
        return json.dumps({"level": self.level, "what": self.what, "found": self.found, "do": self.do}, ensure_ascii=False)
