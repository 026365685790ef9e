"""The quotes of a template's text: what may not stand inside them, and the blanks outside of them that go. Text alone; nothing is rendered."""

from collections.abc import Iterator
from typing import Final

from jinja2 import Environment, TemplateSyntaxError

from pipeline.templates.text import MARKS


def minified(data: str) -> str:
    """JSON text without the blanks outside of its strings; a chunk never begins inside a string (check_quotes)."""
    parts = data.split('"')
    if "\\" in data:
        return _minified_slowly(data)
    return '"'.join("".join(part.split()) if place % 2 == 0 else part for place, part in enumerate(parts))


def _minified_slowly(data: str) -> str:
    kept: list[str] = []
    quoted = escaped = False
    for letter in data:
        if quoted:
            quoted = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
            kept.append(letter)
        elif not letter.isspace():
            quoted = letter == '"'
            kept.append(letter)
    return "".join(kept)


def check_quotes(environment: Environment, source: str, name: str | None, filename: str | None) -> None:
    """Refuse `{{ }}` and `{% %}` inside quotes, bare `]` and `}` in a constant, and our marks. TemplateSyntaxError with the line."""
    for line, message in misquoted(environment, source):
        raise TemplateSyntaxError(message, line, name, filename)


def misquoted(environment: Environment, source: str) -> Iterator[tuple[int, str]]:
    """Line and message of each mistake with quotes."""
    quoted = escaped = False
    for line, kind, value in environment.lex(source):
        if kind in INSIDE and quoted:
            yield line, INSIDE[kind]
            quoted = escaped = False
        if kind != "data":
            continue
        for number, text in enumerate(value.split("\n")):
            for letter in text:
                if quoted and not escaped and letter in "]}":
                    yield line + number, f"a bare {letter} inside quotes: write \\u{ord(letter):04x}"
                if letter == '"' and not escaped:
                    quoted = not quoted
                escaped = quoted and letter == "\\" and not escaped
            if quoted and number < value.count("\n"):
                yield line + number, "the quotes are not closed on this line"
                quoted = False
    mark = MARKS.search(source)
    if mark is not None:
        yield 1 + source[: mark.start()].count("\n"), "a character that the engine needs for itself (U+007F, U+E002)"


INSIDE: Final = {
    "variable_begin": "{{ }} inside quotes: leave the quotes out, a value comes with its own",
    "block_begin": "{% %} inside quotes: put it around the whole text",
}
