"""What a patient sees of an admission of which something was read before it was announced, and that the runbook's replay ends as the right order does."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from pipeline.appointments.port import Page
from pipeline.cli import main
from tests.appointments.house import BSN as SYSTEM
from tests.appointments.house import ROUTE, House, house
from tests.appointments.visits import EXPECTED, adt
from tests.partners.medmij_samples import BSN

DELIVERED, NOT_KNOWN = ("delivered", None), ("filtered", "appointment_not_known")
Shown = dict[str, tuple[str, str | None, str | None]]
STORIES = [
    ["A01"],
    ["A03"],
    ["A04"],
    ["A11"],
    ["A13"],
    ["A08"],
    ["A01", "A11"],
    ["A01", "A03"],
    ["A04", "A03", "A13"],
]
BECAME = ["arrived", "fulfilled", "arrived", "booked", "arrived", "arrived", "booked", "fulfilled", "arrived"]


@pytest.fixture
def zuid(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as one:
        yield one


def events(triggers: list[str], number: str) -> list[bytes]:
    """One a day, behind the announcement's."""
    admitted = {"admitted": "20260701081200+0200"}
    return [adt(each, day, EXPECTED, visit=f"{number}^^^HIS", **admitted) for day, each in enumerate(triggers, 2)]


def announced(number: str) -> bytes:
    return adt("A05", 1, EXPECTED, visit=f"{number}^^^HIS")


def shown(zuid: House) -> Shown:
    person = zuid.store.person(zuid.pseudonyms.person(SYSTEM, BSN))
    assert person is not None
    found = zuid.store.search(person, count=99)
    assert isinstance(found, Page)
    bodies = [orjson.loads(one.body) for one in found.found]
    return {body["identifier"][0]["value"]: (body["status"], body.get("start"), body.get("end")) for body in bodies}


def replay_what_was_filtered(zuid: House, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("--settings", str(zuid.path))
    capsys.readouterr()
    plan = ("replay", "plan", "--route", ROUTE, "--reason", "appointment_not_known", "--state", "filtered")
    assert main([*plan, *settings]) == 0
    name = capsys.readouterr().out.split("--plan ")[1].split()[0]
    assert main(["replay", "run", "--plan", name, *settings]) == 0
    zuid.work()


def test_read_before_its_announcement_an_event_shows_nothing_and_once_it_is_replayed_all_is_as_in_the_right_order(
    zuid: House, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen to fail without `only: known` in mappings/events.yaml, and without the words of several rows (told.joined). Of whom nobody ever announced, nothing shows after the replay either."""
    in_order = [message for n, story in enumerate(STORIES) for message in (announced(f"H{n}"), *events(story, f"H{n}"))]
    early = [message for n, story in enumerate(STORIES) for message in events(story, f"C{n}")]
    never = events(["A01", "A03"], "NEVER")
    zuid.work(*in_order, *never, *early)
    zuid.work(*(announced(f"C{n}") for n in range(len(STORIES))))
    ends = zuid.ends()
    assert ends[: len(in_order)] == [DELIVERED] * len(in_order)
    assert ends[len(in_order) : -len(STORIES)] == [NOT_KNOWN] * (len(never) + len(early))
    before = shown(zuid)
    assert [before[f"H{n}"][0] for n in range(len(STORIES))] == BECAME
    assert {before[f"C{n}"][0] for n in range(len(STORIES))} == {"booked"}
    replay_what_was_filtered(zuid, capsys)
    after = shown(zuid)
    assert [after[f"C{n}"] for n in range(len(STORIES))] == [before[f"H{n}"] for n in range(len(STORIES))]
    assert "NEVER" not in after
    last = zuid.ends()
    assert last[len(in_order) : len(in_order) + len(never)] == [NOT_KNOWN] * len(never)
    assert [end for end in last if end != DELIVERED] == [NOT_KNOWN] * len(never)
