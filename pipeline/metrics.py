"""The metrics: a closed list, each declared where it is described; deploy/metrics.md is this list, and a test holds the two together.

A label holds names of the settings and of closed vocabularies, never anything of a message. What counts is told as it happens; what
stands (in flight, waiting, a gate) is looked at when somebody asks, so that no gauge is ever stale.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from pipeline.model import Decision
from pipeline.tally import Figures, ServeFigures
from schemas.outcomes import Reason, State

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS: Final = (0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30)
"""Upper bounds of response times: partners answer in 30 ms to 10 s, and the longest time-out is 20 s."""


SERVED_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Of answers to patients: 20 ms is the aim, and an issuer that is asked may take seconds."""


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Declared:
    """What a metric is."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    sentence: str


class Metric(Enum):
    """All of them. Counters begin at 0 with the process."""

    RECORDS_READ = Declared("emr_records_read_total", Kind.COUNTER, ("route",), "Source records read.")
    SETTLED = Declared(
        "emr_settled_total",
        Kind.COUNTER,
        ("route", "state", "reason"),
        "Records settled, by what became of them; the reason is empty where there is none.",
    )
    ATTEMPTS = Declared(
        "emr_attempts_total",
        Kind.COUNTER,
        ("route", "operation", "verdict"),
        "Requests to the partner, probes among them, by what their answer, or the lack of one, means.",
    )
    RESPONSE_SECONDS = Declared(
        "emr_response_seconds",
        Kind.HISTOGRAM,
        ("route", "operation"),
        "How long the partner took to answer, of requests that it answered.",
    )
    IN_FLIGHT = Declared(
        "emr_in_flight", Kind.GAUGE, ("route",), "Messages that were begun: with a thread, or waiting for their answer."
    )
    LANES_WAITING = Declared(
        "emr_lanes_waiting",
        Kind.GAUGE,
        ("route", "where"),
        "Messages that wait behind an earlier one of their patient: in memory, or parked durably.",
    )
    UNSETTLED = Declared("emr_unsettled", Kind.GAUGE, ("route",), "Records read and not yet settled or durably parked.")
    COMMIT_GAP = Declared(
        "emr_commit_gap",
        Kind.GAUGE,
        ("route",),
        "Offsets between the oldest record that is not done and the newest that is, in the partition where it is largest.",
    )
    RESULTS_WAITING = Declared(
        "emr_results_waiting",
        Kind.GAUGE,
        ("route",),
        "Results and dead letters that are settled in the ledger and not yet on their topic.",
    )
    GATE_STATE = Declared(
        "emr_gate_state", Kind.GAUGE, ("partner", "state"), "1 for the state that the partner's gate is in, 0 for the others."
    )
    FLOOD_STOPPED = Declared(
        "emr_flood_stopped", Kind.GAUGE, ("route",), "1 while the route stands still because too many were parked."
    )
    LEDGER_AWAY = Declared("emr_ledger_away", Kind.GAUGE, ("route",), "1 while the ledger cannot be read or written.")
    BUS_AWAY = Declared("emr_bus_away", Kind.GAUGE, ("route",), "1 while a topic cannot be read or written.")
    WATCH_POLLS = Declared(
        "emr_watch_polls_total",
        Kind.COUNTER,
        ("watch", "verdict"),
        "Questions of a watch, by what the answer, or the lack of one, means.",
    )
    WATCH_APPENDED = Declared(
        "emr_watch_appended_total",
        Kind.COUNTER,
        ("watch", "change"),
        "Completions that a watch put onto its topic: new ones, corrected ones.",
    )
    WATCH_DOSSIERS = Declared("emr_watch_dossiers", Kind.GAUGE, ("watch",), "Dossiers that a watch asks for.")
    WATCH_LATE_SECONDS = Declared(
        "emr_watch_late_seconds", Kind.GAUGE, ("watch",), "How long the dossier that has waited longest for its turn is overdue."
    )
    SERVED = Declared(
        "emr_served_total",
        Kind.COUNTER,
        ("interaction", "status"),
        "Requests of patients that `serve` answered; the interaction is none where a request was refused.",
    )
    SERVED_REFUSED = Declared(
        "emr_served_refused_total", Kind.COUNTER, ("reason",), "Requests of patients that were refused, by why."
    )
    SERVED_SECONDS = Declared(
        "emr_served_seconds", Kind.HISTOGRAM, ("interaction",), "How long `serve` took to answer, without the network."
    )
    SERVED_CONNECTIONS = Declared("emr_served_connections", Kind.GAUGE, (), "Connections of clients to `serve`.")
    STORE_AWAY = Declared("emr_store_away", Kind.GAUGE, (), "1 while `serve` cannot read the store of appointments.")
    ISSUER_FAILED = Declared(
        "emr_issuer_failed_total",
        Kind.COUNTER,
        ("way",),
        "Questions to the issuer of patients' tokens that failed: for its keys, or about a token (introspection).",
    )
    KEYS_AGE_SECONDS = Declared(
        "emr_keys_age_seconds", Kind.GAUGE, (), "How long ago the issuer's keys were fetched; absent where they never were."
    )


class Metrics:
    """The metrics of one process. For any number of threads; `exposed` is what /metrics answers."""

    def __init__(self) -> None:
        """Nothing counted, nothing looked at."""
        self.registry = CollectorRegistry(auto_describe=False)
        self._read, self._settled, self._attempts = (
            self._counter(one) for one in (Metric.RECORDS_READ, Metric.SETTLED, Metric.ATTEMPTS)
        )
        self._polls, self._appended = (self._counter(one) for one in (Metric.WATCH_POLLS, Metric.WATCH_APPENDED))
        self._served, self._refused, self._issuer_failed = (
            self._counter(one) for one in (Metric.SERVED, Metric.SERVED_REFUSED, Metric.ISSUER_FAILED)
        )
        self._took = self._histogram(Metric.RESPONSE_SECONDS, SECONDS)
        self._served_in = self._histogram(Metric.SERVED_SECONDS, SERVED_SECONDS)
        self._standing = _Standing()
        self.registry.register(self._standing)
        ProcessCollector(registry=self.registry)

    def read(self, route: str, records: int = 1) -> None:
        """Records came from the source topic."""
        self._read.labels(route).inc(records)

    def settled(self, route: str, state: State, reason: Reason | None) -> None:
        """A record came to its end."""
        self._settled.labels(route, state.value, reason.value if reason else "").inc()

    def attempted(self, route: str, operation: str, decision: Decision, elapsed_ms: float | None) -> None:
        """A request went out, or did not get out. `elapsed_ms` is Reply.elapsed_ms; None where no answer came."""
        self._attempts.labels(route, operation, decision.value).inc()
        if elapsed_ms is not None:
            self._took.labels(route, operation).observe(elapsed_ms / 1000)

    def polled(self, watch: str, decision: Decision) -> None:
        """A watch asked."""
        self._polls.labels(watch, decision.value).inc()

    def appended(self, watch: str, change: str, completions: int) -> None:
        """A watch put completions onto its topic; `change`: new or corrected."""
        self._appended.labels(watch, change).inc(completions)

    def served(self, interaction: str, status: int, reason: str | None, seconds: float) -> None:
        """See ServeTally."""
        self._served.labels(interaction, str(status)).inc()
        self._served_in.labels(interaction).observe(seconds)
        if reason is not None:
            self._refused.labels(reason).inc()

    def issuer_failed(self, way: str) -> None:
        """See ServeTally."""
        self._issuer_failed.labels(way).inc()

    def look_at_serve(self, figures: Callable[[], ServeFigures]) -> None:
        """Ask this of `serve` at each look."""
        self._standing.serve = figures

    def look_at_watch(self, watch: str, figures: Callable[[], tuple[int, float]]) -> None:
        """Ask this of the watch at each look: its dossiers, and for how many seconds the first of them is overdue."""
        self._standing.watches[watch] = figures

    def look_at_route(self, route: str, figures: Callable[[], Figures]) -> None:
        """Ask this of the route at each look. It may not wait for anything."""
        self._standing.routes[route] = figures

    def look_at_gate(self, partner: str, state: Callable[[], StrEnum]) -> None:
        """Ask this of the partner's gate at each look; the other members of the state's enum are shown as 0."""
        self._standing.gates[partner] = state

    def exposed(self) -> bytes:
        """All of it, as CONTENT_TYPE."""
        return generate_latest(self.registry)

    def _counter(self, metric: Metric) -> Counter:
        declared = metric.value
        return Counter(declared.name, declared.sentence, declared.labels, registry=self.registry)

    def _histogram(self, metric: Metric, bounds: tuple[float, ...]) -> Histogram:
        declared = metric.value
        return Histogram(declared.name, declared.sentence, declared.labels, buckets=bounds, registry=self.registry)


class _Standing(Collector):
    """What stands, looked at when it is asked for."""

    def __init__(self) -> None:
        self.routes: dict[str, Callable[[], Figures]] = {}
        self.gates: dict[str, Callable[[], StrEnum]] = {}
        self.watches: dict[str, Callable[[], tuple[int, float]]] = {}
        self.serve: Callable[[], ServeFigures] | None = None

    def collect(self) -> Iterator[Family]:
        watches = {watch: look() for watch, look in sorted(self.watches.items())}
        routes = {route: look() for route, look in sorted(self.routes.items())}
        gates = {partner: look() for partner, look in sorted(self.gates.items())}
        for metric, values in (
            (Metric.IN_FLIGHT, [((route,), one.in_flight) for route, one in routes.items()]),
            (
                Metric.LANES_WAITING,
                [
                    ((route, where), number)
                    for route, one in routes.items()
                    for where, number in (("memory", one.waiting), ("parked", one.waiting_parked))
                ],
            ),
            (Metric.UNSETTLED, [((route,), one.unsettled) for route, one in routes.items()]),
            (Metric.COMMIT_GAP, [((route,), one.commit_gap) for route, one in routes.items()]),
            (Metric.RESULTS_WAITING, [((route,), one.results_waiting) for route, one in routes.items()]),
            (Metric.GATE_STATE, [((partner, one.value), one is now) for partner, now in gates.items() for one in type(now)]),
            (Metric.FLOOD_STOPPED, [((route,), one.flood_stopped) for route, one in routes.items()]),
            (Metric.LEDGER_AWAY, [((route,), one.ledger_away) for route, one in routes.items()]),
            (Metric.BUS_AWAY, [((route,), one.bus_away) for route, one in routes.items()]),
            (Metric.WATCH_DOSSIERS, [((watch,), dossiers) for watch, (dossiers, _) in watches.items()]),
            (Metric.WATCH_LATE_SECONDS, [((watch,), late) for watch, (_, late) in watches.items()]),
        ):
            yield _family(metric.value, values)
        yield from self._of_serve()

    def _of_serve(self) -> Iterator[Family]:
        if self.serve is None:
            return
        now = self.serve()
        yield _family(Metric.SERVED_CONNECTIONS.value, [((), now.connections)])
        yield _family(Metric.STORE_AWAY.value, [((), now.store_away)])
        if now.keys_age_seconds is not None:
            yield _family(Metric.KEYS_AGE_SECONDS.value, [((), now.keys_age_seconds)])


def _family(declared: Declared, values: Iterable[tuple[tuple[str, ...], float]]) -> Family:
    family = GaugeMetricFamily(declared.name, declared.sentence, labels=declared.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family
