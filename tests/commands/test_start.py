"""What a command imports before it begins: heavy libraries only where they are needed."""

import subprocess
import sys

import pytest

HEAVY = ("sqlalchemy", "requests", "kafka", "hl7apy", "fhir", "alembic", "psycopg", "cryptography", "uvicorn")


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["--help"], ("pydantic", "jinja2", "orjson")),
        (["run", "--help"], ("pydantic", "jinja2")),
        (["map", "pipeline/sample.hl7", "--json"], ()),
    ],
)
def test_a_command_starts_without_libraries_that_it_does_not_need(words: list[str], more: tuple[str, ...]) -> None:
    script = f"import sys, atexit; from pipeline.cli import main; atexit.register(lambda: print(sorted(set(sys.modules) & set({(*HEAVY, *more)!r})), file=sys.stderr)); main({words!r})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"
