"""The product passes its failpoints and never arms one."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline
from pipeline import failpoints
from pipeline.failpoints import Point, reach

SOURCES = sorted(path for path in Path(pipeline.__file__).parent.rglob("*.py") if path.name != "failpoints.py")


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def test_nothing_happens_at_a_point_that_is_not_armed() -> None:
    for point in Point:
        reach(point)


def test_an_armed_point_acts_at_each_passing_and_the_others_do_not() -> None:
    passed: list[Point] = []
    failpoints.arm(Point.AFTER_INTENT, lambda: passed.append(Point.AFTER_INTENT))
    for point in (*Point, *Point):
        reach(point)
    assert passed == [Point.AFTER_INTENT] * 2


def test_no_module_of_the_product_takes_more_of_the_failpoints_than_the_points_and_how_to_reach_them() -> None:
    taken = {
        name.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
        if "failpoints" in f"{getattr(node, 'module', '')}.{name.name}"
    }
    assert taken == {"Point", "reach"}


def test_each_point_is_passed_somewhere() -> None:
    sources = "".join(path.read_text() for path in SOURCES)
    assert {point for point in Point if f"reach(Point.{point.name})" in sources} == set(Point)
