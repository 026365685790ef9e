"""Every mistake in mappings and settings that can be found without a message, with file and line.

Without PATH the settings are checked and the mappings that they name; with PATH that mappings folder alone.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from pipeline.commands import DONE, WRONG, json_argument, settings_argument
from pipeline.errors import SettingsError

EXAMPLE: Final = """  emr-pipeline lint
  emr-pipeline lint mappings/
  emr-pipeline lint --json | jq -r '.[] | "\\(.file):\\(.line)"'"""


def configure(parser: ArgumentParser) -> None:
    parser.add_argument("path", nargs="?", type=Path, metavar="PATH", help="a mappings folder (else the one of the settings)")
    json_argument(parser, "the mistakes")
    settings_argument(parser)


def run(arguments: Namespace) -> int:
    import json

    from pipeline import settings
    from pipeline.templates.catalogue import Catalogue
    from pipeline.templates.lint import lint

    overlay = None
    folder = arguments.path
    if folder is None:
        from pipeline import wiring

        loaded = settings.load(settings.find(arguments.settings))
        folder, overlay = loaded.mappings or wiring.MAPPINGS, loaded.site.overlay
    if not (folder / "events.yaml").is_file():
        raise SettingsError("is no mappings folder: it has no events.yaml", where=str(folder))
    problems = lint(folder)
    if arguments.json:
        rows = [{"file": str(row.file), "line": row.line, "rule": row.rule, "message": row.message} for row in problems]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        for problem in problems:
            print(problem)
    if not problems:
        Catalogue(folder, overlay)  # a site.overlay that is not there is told as any wrong setting
    if not problems and not arguments.json:
        print(f"{folder}: no mistakes")
    return WRONG if problems else DONE
