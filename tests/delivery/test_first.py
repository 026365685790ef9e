"""The first start of a route is the first: a ledger that is empty where the group has read already is not the right one."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline import wiring
from pipeline.bus.port import Bus, TopicPartition, Where
from pipeline.delivery.first import first_start, read_before, start_of, starting
from pipeline.errors import BusRefused, Refused
from pipeline.ledger.port import STARTING, Ledger
from pipeline.ledger.sql import SqlLedger
from tests.delivery.partner_script import ROUTE, House, adt, settings_with


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """One message was delivered."""
    house = House(tmp_path, partitions=2)
    house.send(adt())
    house.work()
    house.script.requests.clear()
    yield house
    house.close()


@pytest.fixture
def new(tmp_path: Path) -> Iterator[House]:
    """Nothing has run on it."""
    house = House(tmp_path, partitions=2)
    yield house
    house.close()


def committed(tree: dict[str, Any]) -> None:
    tree["routes"][ROUTE]["start"] = "committed"


def an_empty_ledger(house: House) -> None:
    """As where the disk of the right one is not there."""
    house.ledger.close()
    house.ledger = SqlLedger(f"sqlite:///{house.folder / 'another.sqlite'}", house.pseudonyms)
    house.ledger.check()


def test_an_empty_ledger_is_no_first_start_where_the_group_has_read(house: House) -> None:
    an_empty_ledger(house)
    house.send(adt("A08", "2"))
    refused(house)
    assert house.ledger.started(ROUTE) is None


def test_where_the_settings_say_so_it_goes_on_where_the_group_stands(house: House) -> None:
    an_empty_ledger(house)
    house.settings = settings_with(committed)
    house.send(adt("A04", "2", patient="99999999R"))
    house.work()
    assert len(house.script.requests) == 1
    assert house.ledger.started(ROUTE) == "committed"


def test_a_first_start_that_was_killed_before_it_was_recorded_is_ended_by_the_next_one(house: House) -> None:
    """Both ways: before the group's offsets were there, and after it."""
    group = house.settings.group_of(ROUTE)
    plan = wiring.plan_of(house.settings, ROUTE, wiring.catalogue_of(house.settings), house.pseudonyms)
    an_empty_ledger(house)
    house.ledger.start(ROUTE, group, "roche", starting(group, house.topics.source))
    for _ in range(2):
        first_start(house.bus, house.ledger, plan, group, house.topics.source)
        assert house.ledger.started(ROUTE) == "earliest"
    assert list(house.bus.committed(group, house.topics.source).values()) == [1, 0]


def test_a_first_start_that_was_refused_may_be_tried_with_another_group_and_partner(new: House) -> None:
    house = new
    house.ledger.start(ROUTE, "a slip", "another slip", starting("a slip", house.topics.source))
    house.send(adt("A04", "1"))
    house.work()
    assert len(house.script.requests) == 1
    house.ledger.fits(ROUTE, house.settings.group_of(ROUTE), "roche")
    with pytest.raises(Refused):
        house.ledger.fits(ROUTE, "a slip", "roche")


def test_a_first_start_from_a_topic_that_is_not_there_may_be_tried_with_the_right_one(new: House) -> None:
    new.send(adt())
    right, new.topics = new.topics, replace(new.topics, source="his.atd")
    for _ in range(2):
        with pytest.raises(BusRefused, match="no such topic"):
            new.worker().run()
    new.topics = right
    new.work()
    assert len(new.script.requests) == 1


def test_a_slip_in_the_source_does_not_make_an_empty_ledger_the_right_one(house: House) -> None:
    """What is left of the start that slipped is of another topic: seen to let the next one create known patients again."""
    an_empty_ledger(house)
    house.send(adt("A08", "2"))
    right, house.topics = house.topics, replace(house.topics, source="his.atd")
    with pytest.raises(BusRefused, match="no such topic"):
        house.worker().run()
    house.topics = right
    refused(house)


@pytest.mark.parametrize("left", [starting("a slip", "his.adt"), STARTING])
def test_a_start_of_another_group_that_was_killed_does_not_make_an_empty_ledger_the_right_one(house: House, left: str) -> None:
    """Nor one of a ledger from before, which does not say of which group it is."""
    an_empty_ledger(house)
    house.ledger.start(ROUTE, "a slip", "roche", left)
    house.send(adt("A08", "2"))
    refused(house)


def refused(house: House) -> None:
    with pytest.raises(Refused, match=r"has read up to his\.adt/0/1, and this ledger knows nothing"):
        house.work()
    assert house.script.requests == []


@pytest.mark.parametrize("before", ["a slip", "emr-pipeline.roche-patients"])
def test_after_a_start_that_slipped_too_it_cannot_go_on_where_the_group_has_no_offsets(new: House, before: str) -> None:
    new.settings = settings_with(committed)
    new.ledger.start(ROUTE, before, "roche", starting(before, new.topics.source))
    new.send(adt())
    with pytest.raises(Refused, match=r"has no offset of his\.adt"):
        new.work()
    assert new.script.requests == []


def test_where_the_group_has_no_offsets_it_cannot_go_on_there(house: House) -> None:
    an_empty_ledger(house)
    plan = wiring.plan_of(settings_with(committed), ROUTE, wiring.catalogue_of(house.settings), house.pseudonyms)
    with pytest.raises(Refused, match=r"has no offset of his\.adt"):
        first_start(house.bus, house.ledger, plan, "a slip", house.topics.source)


@dataclass
class Told:
    """A ledger in which another worker starts the route while this one looks."""

    answers: list[str | None]
    written: list[str] = field(default_factory=list)

    def started(self, route: str) -> str | None:
        assert route == ROUTE
        return self.answers.pop(0)

    def start(self, route: str, group: str, partner: str, how: str) -> None:
        assert (route, group, partner) == (ROUTE, GROUP, "roche")
        self.written.append(how)


GROUP = "emr-pipeline.roche-patients"


@pytest.mark.parametrize("before", [None, starting("a slip", "his.adt")])
@pytest.mark.parametrize("others", ["earliest", starting(GROUP, "his.adt")])
def test_of_two_workers_that_start_a_route_at_once_none_is_refused(house: House, before: str | None, others: str) -> None:
    plan = wiring.plan_of(house.settings, ROUTE, wiring.catalogue_of(house.settings), house.pseudonyms)
    told = Told([before, others])
    first_start(house.bus, cast("Ledger", told), plan, GROUP, house.topics.source)
    assert told.written == [starting(GROUP, "his.adt"), "earliest"]


class Emptied:
    """A bus whose retention has taken all that the group has read: where its partitions begin says nothing."""

    def committed(self, group: str, topic: str) -> dict[TopicPartition, int]:
        assert group == "the group"
        return {TopicPartition(topic, 0): 0, TopicPartition(topic, 1): 7}


def test_what_retention_has_taken_was_read_all_the_same() -> None:
    why = read_before(cast("Bus", Emptied()), ROUTE, "the group", "his.adt")
    assert why is not None
    assert "has read up to his.adt/1/7" in why.message


def test_a_start_is_a_place_or_a_time() -> None:
    assert [start_of(how) for how in ("earliest", "latest", "committed", "1970-01-01T01:00:01+01:00")] == [
        Where.EARLIEST,
        Where.LATEST,
        Where.EARLIEST,
        1000,
    ]
