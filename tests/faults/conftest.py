"""What fault tests share: a hospital, seeds, and the table at the end of `make faults`.

A test says by its marker which fault it injects and what is promised, and through `seen` what came of it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests import postgres_server
from tests.faults.hospital import Hospital

SEEDS: Final = int(os.environ.get("FAULT_SEEDS", "1"))
FIRST: Final = int(os.environ.get("EMR_SEED", "1"))
THOROUGH: Final = pytest.mark.slow_faults
"""Of `make faults` alone: `make test` injects one of each sort."""
SESSION_MS: Final = 1_500
"""How soon the group notices that a member was killed."""

Make = Callable[..., Hospital]


@pytest.fixture
def make_hospital(request: pytest.FixtureRequest, tmp_path: Path, prefix: str) -> Iterator[Make]:
    """`make_hospital(bus="kafka", ledger="postgres", rebalance="eager")`; without words all is embedded."""
    made: list[Hospital] = []

    def make(*, bus: str = "embedded", ledger: str = "sqlite", servers: Sequence[str] = (), **settings: Any) -> Hospital:  # noqa: ANN401 - the bus's
        folder = tmp_path / f"hospital-{len(made)}"
        folder.mkdir()
        chosen: dict[str, Any] = {"kind": "embedded", "path": str(folder / "bus")}
        if bus == "kafka":
            chosen = {
                "kind": "kafka",
                "bootstrap_servers": list(servers or request.getfixturevalue("kafka").bootstrap_servers),
                "replication": 1,
                "session_timeout_ms": SESSION_MS,
                **settings,
            }
        url = postgres_server.a_schema() if ledger == "postgres" else None
        made.append(Hospital(folder, chosen, url, prefix=prefix))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def hospital(make_hospital: Make) -> Hospital:
    """All embedded, with one partner."""
    one = make_hospital()
    one.partner()
    return one


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was seen, for the table."""
    return lambda text: request.node.user_properties.append(("seen", text))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a seed runs once for each of FAULT_SEEDS, from EMR_SEED on; where chance decides nothing (`once`) with the first alone."""
    if "seed" in metafunc.fixturenames:
        seeds = 1 if metafunc.definition.get_closest_marker("once") else SEEDS
        metafunc.parametrize("seed", range(FIRST, FIRST + seeds))


@dataclass
class Line:
    """One row of the table."""

    promise: str
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    seen: list[str] = field(default_factory=list)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Carry the marker over to the report."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    marker = item.get_closest_marker("fault")
    if marker is not None:
        report.user_properties.append(("fault", marker.args))
    return report  # type: ignore[return-value]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Fault, promise, seen, seconds."""
    lines = _lines(terminalreporter)
    if not lines:
        return
    terminalreporter.section("faults")
    for name, line in sorted(lines.items(), key=lambda item: (item[0][0], int("0" + "".join(filter(str.isdigit, item[0]))))):
        verdict = f"{line.passed} held" + (f", {line.failed} FAILED" if line.failed else "")
        terminalreporter.write_line(f"{name:4} {line.promise}")
        terminalreporter.write_line(
            f"     {verdict}, {line.seconds:.1f} s; {'; '.join(dict.fromkeys(line.seen)) or 'nothing said'}"
        )


def _lines(reporter: pytest.TerminalReporter) -> dict[str, Line]:
    lines: dict[str, Line] = {}
    for outcome in ("passed", "failed"):
        for report in reporter.stats.get(outcome, ()):
            properties = dict(report.user_properties)
            if getattr(report, "when", None) != "call" or "fault" not in properties:
                continue
            name, promise = properties["fault"]
            line = lines.setdefault(name, Line(promise))
            line.passed += outcome == "passed"
            line.failed += outcome == "failed"
            line.seconds += report.duration
            line.seen += [properties["seen"]] if "seen" in properties else []
    return lines
