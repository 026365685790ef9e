"""Every public sample: read or refused with a reason, and field by field the same as python-hl7 and hl7apy, or different for a listed reason."""

from collections import Counter
from collections.abc import Callable, Iterator

import hl7
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message

from pipeline.errors import Parked
from pipeline.hl7.batch import split
from pipeline.hl7.er7 import Message, parse
from pipeline.hl7.event import source_key, typed
from schemas.outcomes import Reason
from tests.hl7.samples import ZONE, files, needs_samples

pytestmark = needs_samples


def messages() -> Iterator[tuple[str, Message]]:
    """Each message of each sample that can be read."""
    for file in files():
        for item in split(file.read_bytes()):
            try:
                yield file.name, parse(item, charset="utf-8")
            except Parked:
                continue


def test_every_sample_is_read_or_refused_with_a_reason() -> None:
    outcomes: Counter[str] = Counter()
    for file in files():
        for item in split(file.read_bytes()):
            try:
                message = parse(item, charset="utf-8")
            except Parked as parked:
                outcomes[str(parked.reason)] += 1
                assert not item.startswith(b"MSH|")
                continue
            event, _ = typed(message, zone=ZONE)
            assert (event.patient is None) == (message.count("PID") == 0)
            assert (source_key(message) is not None) == any(
                isinstance(message(f"PID-{field}[{at}]"), str)
                for field in (2, 3)
                for at in range(1, message.count(f"PID-{field}") + 1)
            )
            outcomes["read"] += 1
    assert outcomes["read"] > 450
    assert set(outcomes) == {"read", Reason.NOT_HL7}  # pieces without MSH of files that are broken on purpose


def test_every_sample_is_written_as_it_was_read() -> None:
    for _, message in messages():
        again = parse(message.encode(), charset="utf-8")
        assert (again.encode(), again.lines()) == (message.encode(), message.lines())


def _leaves(message: Message) -> Iterator[tuple[str, int, tuple[int, int, int, int], str]]:
    """Every smallest part with its place."""
    seen: Counter[str] = Counter()
    marks = message.delimiters
    for name in filter(None, message.segments()):
        seen[name] += 1
        for number, field in enumerate(message.fields(name, seen[name])):
            if number == 0 or (name == "MSH" and number < 3):
                continue
            for at, repetition in enumerate(field.split(marks.repetition or "\r"), 1):
                for component, part in enumerate(repetition.split(marks.component or "\r"), 1):
                    for sub, text in enumerate(part.split(marks.subcomponent or "\r"), 1):
                        yield name, seen[name], (number, at, component, sub), text


def _python_hl7(parsed: hl7.Message, name: str, nth: int, *numbers: int) -> str:
    """python-hl7's text at a place; it has a plain string where nothing is divided."""
    part = parsed.segments(name)[nth - 1]
    for number in numbers:
        if isinstance(part, str):
            assert number == 1
        else:
            part = part(number)
    return str(part)


PYTHON_HL7: dict[str, Callable[[Message, str, str], bool]] = {
    "it strips blanks from the end of a segment": lambda _, ours, theirs: ours.rstrip() == theirs,
    "a doubled backslash in MSH-2 makes the backslash its sub-component separator": lambda message, *_: "\\\\" in (message("MSH-2") or ""),
}  # fmt: skip


def test_python_hl7_reads_the_same() -> None:
    used = set()
    compared = refused = 0
    for name, message in messages():
        try:
            parsed = hl7.parse(message.encode().decode(message.codec))
        except AssertionError:  # it asserts that MSH-2 is there, we take the standard's
            assert not message("MSH-2")
            refused += 1
            continue
        for segment, nth, numbers, ours in _leaves(message):
            theirs = _python_hl7(parsed, segment, nth, *numbers)
            compared += 1
            if ours != theirs:
                reason = next((why for why, applies in PYTHON_HL7.items() if applies(message, ours, theirs)), None)
                assert reason, (name, segment, nth, numbers)
                used.add(reason)
    assert (used, compared > 50_000, refused < 10) == (set(PYTHON_HL7), True, True)


def _pieces(text: str, message: Message) -> list[str]:
    """The texts of a field wherever they stand in it, numbers without leading zeros."""
    marks = message.delimiters
    for mark in (marks.component, marks.subcomponent):
        text = text.replace(mark, "\r") if mark else text
    return sorted(piece.lstrip("0") for piece in text.split("\r") if piece)


def _numbers(texts: list[str]) -> list[float] | None:
    try:
        return [float(text) for text in texts]
    except ValueError:
        return None


def _bare(texts: list[str]) -> list[str]:
    return [text.replace("\\E\\", "\\") for text in texts]


HL7APY: dict[str, Callable[[Message, list[str], list[str], bool], bool]] = {
    "it strips blanks from the end of a segment": lambda _, ours, theirs, __: [text.rstrip() for text in ours] == theirs,
    "it writes numbers (SI, NM) in its own way, without leading and trailing zeros": lambda _, ours, theirs, __: (
        _numbers(ours) == _numbers(theirs) != None  # noqa: E711 - both are numbers, and the same
    ),
    "its version's segment has no such field: it keeps it without a number": lambda _, __, theirs, nameless: nameless and theirs == [""],
    "its version's data type has no such component: it keeps it out of its position": lambda message, ours, theirs, _: (
        [_pieces(text, message) for text in ours] == [_pieces(text, message) for text in theirs]
    ),
    "it escapes the escape characters of escapes that it does not know, as \\.br\\ and \\X0D\\": lambda message, ours, theirs, _: (
        message.delimiters.escape in "".join(ours) and _bare(ours) == _bare(theirs)
    ),
}  # fmt: skip
REFUSED_BY_HL7APY = {"InvalidEncodingChars", "UnsupportedVersion", "InvalidName"}
"""An MSH-2 that is not four characters; versions 2.7.1, 2.x and none; segments that its version does not have."""


def test_hl7apy_reads_the_same() -> None:
    used: set[str] = set()
    refused: set[str] = set()
    compared = 0
    for name, message in messages():
        try:
            parsed = parse_message(
                message.encode().decode(message.codec), validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=False
            )
        except HL7apyException as error:
            refused.add(type(error).__name__)
            continue
        assert [segment.name for segment in parsed.children] == [each for each in message.segments() if each]
        seen: Counter[str] = Counter()
        for segment in parsed.children:
            seen[segment.name] += 1
            fields: dict[int, list[str]] = {}
            for field in segment.children:
                fields.setdefault(int(field.name.split("_")[1]) if field.name else 0, []).append(field.to_er7())
            marks = message.delimiters
            for number, raw in enumerate(message.fields(segment.name, seen[segment.name])):
                if number == 0 or (segment.name == "MSH" and number < 3):
                    continue
                empty = marks.component + marks.subcomponent
                ours = [text.rstrip(empty) for text in raw.split(marks.repetition)]
                theirs = [text.rstrip(empty) for text in fields.get(number, [""])]
                compared += 1
                if ours != theirs:
                    reason = next((why for why, applies in HL7APY.items() if applies(message, ours, theirs, 0 in fields)), None)
                    assert reason, (name, segment.name, number)
                    used.add(reason)
    assert (used, refused, compared > 20_000) == (set(HL7APY), REFUSED_BY_HL7APY, True)


def test_the_samples_have_the_unescaped_text_that_python_hl7_has() -> None:
    compared = 0
    for _, message in messages():
        if message.plain or message.delimiters.odd:
            continue
        parsed = hl7.parse(message.encode().decode(message.codec))
        for segment, nth, numbers, raw in _leaves(message):
            known = all(letter in "FSTRE" for letter in raw.split("\\")[1::2])
            if "\\" in raw and raw.count("\\") % 2 == 0 and known:
                number, at, component, sub = numbers
                ours = message(f"{segment}[{nth}]-{number}[{at}].{component}.{sub}")
                assert ours == parsed.unescape(raw)
                compared += 1
    assert compared
