"""Beside a running worker and server: a merge shows its survivor what both had, a part takes it back, and no page that was begun shows another's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.appointments.house import LOCAL, a40, siu
from tests.serve.hospital import Hospital, hospital

BSN = "999911120"


@pytest.fixture(scope="module")
def zuid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder: Path = tmp_path_factory.mktemp("zuid")
    with hospital(folder) as one:
        yield one


def numbers(zuid: Hospital, path: str, token: str) -> tuple[int, list[str], str]:
    """The status, the numbers of the appointments, and the link of the next page."""
    answer = zuid.get(path, token)
    tree = answer.json()
    found = [entry["resource"] for entry in tree.get("entry", ()) if entry["resource"]["resourceType"] == "Appointment"]
    onwards = [link["url"] for link in tree.get("link", ()) if link["relation"] == "next"]
    return answer.status_code, sorted(one["identifier"][0]["value"] for one in found), onwards[0] if onwards else ""


def test_what_is_one_and_what_is_two_persons_is_so_for_every_token_at_once(
    zuid: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, bsn = zuid.token(local="old"), zuid.token(local="new"), zuid.token(bsn=BSN)
    every, page = "/Appointment?date=ge2020", "/Appointment?date=ge2020&_count=1"
    zuid.send(*(siu("old", number) for number in "12"), *(siu("new", number, bsn=BSN) for number in "34"))
    zuid.settled(4)
    begun = {token: numbers(zuid, page, token) for token in (old, new)}
    zuid.send(a40("old", "new"))
    zuid.settled(5)
    assert zuid.get(begun[old][2], old).status_code == 410
    assert sorted(begun[new][1] + numbers(zuid, begun[new][2], new)[1]) == ["3", "4"]
    assert [numbers(zuid, every, token)[1] for token in (old, new, bsn)] == [["1", "2", "3", "4"]] * 3
    zuid.send(siu("old", "5", at=40))
    zuid.settled(6)
    assert numbers(zuid, every, bsn)[1] == ["1", "2", "3", "4", "5"]
    begun[bsn] = numbers(zuid, page, bsn)
    part = ["appointments", "part", "--key", f"{LOCAL}|old", "--why", "ticket 12", "--yes", "--settings", str(zuid.path)]
    assert main(part) == 0
    assert "Vries" not in capsys.readouterr().out
    assert zuid.get(begun[bsn][2], bsn).status_code == 410
    assert [numbers(zuid, every, token)[1] for token in (old, new, bsn)] == [["1", "2", "5"], ["3", "4"], ["3", "4"]]
