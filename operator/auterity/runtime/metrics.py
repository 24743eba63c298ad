"""What the operator tells Prometheus."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Protocol

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from auterity.api.common import Policy
from auterity.api.kinds import BUDGET, CONNECTIONS, LOCAL
from auterity.engine.connections import Connections
from auterity.engine.declared import Providers, vendor_of
from auterity.engine.limits import Breaker
from auterity.engine.prices import CURRENCY
from auterity.engine.schedule import Schedule
from auterity.runtime.shards import Members
from auterity.runtime.store import Store

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class State(Protocol):
    """What the gauges are read off: the operator."""

    store: Store
    schedule: Schedule
    connections: Connections
    providers: Providers
    members: Members


class Metrics:
    """Implements `engine.cluster.Observer`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._visits = PrometheusCounter(
            "auterity_visits_total",
            "Visits by kind, vendor and outcome (the reason of Ready).",
            ["kind", "vendor", "outcome"],
            registry=self.registry,
        )
        self._visit_seconds = Histogram(
            "auterity_visit_seconds",
            "How long visits take.",
            ["kind", "vendor"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._calls = PrometheusCounter(
            "auterity_vendor_calls_total",
            "Calls to vendors by method and status.",
            ["vendor", "method", "status"],
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "auterity_vendor_call_seconds",
            "How long calls to vendors take.",
            ["vendor", "method"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._waits = PrometheusCounter(
            "auterity_budget_wait_seconds_total",
            "Seconds that calls waited for a connection's budget.",
            ["vendor", "connection"],
            registry=self.registry,
        )
        self._drift = PrometheusCounter(
            "auterity_drift_fields_total",
            "Declared fields that were found changed at the vendor.",
            ["kind", "vendor"],
            registry=self.registry,
        )
        self._probes = PrometheusCounter(
            "auterity_probes_total",
            "Probes sent by spec.probe, by outcome.",
            ["kind", "vendor", "outcome"],
            registry=self.registry,
        )
        self._probe_seconds = Histogram(
            "auterity_probe_seconds",
            "How long answers to probes take.",
            ["kind", "vendor"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._checks = PrometheusCounter(
            "auterity_rollout_checks_total",
            "Times that the checks of a rollout were asked, by verdict.",
            ["kind", "vendor", "verdict"],
            registry=self.registry,
        )
        self._writes = PrometheusCounter(
            "auterity_api_writes_total",
            "Writes to the Kubernetes API.",
            ["verb", "resource"],
            registry=self.registry,
        )

        # To find a series by its labels costs more than to count. None of these is ever removed.
        self._visits_of = cache(self._visits.labels)
        self._visit_seconds_of = cache(self._visit_seconds.labels)
        self._calls_of = cache(self._calls.labels)
        self._call_seconds_of = cache(self._call_seconds.labels)
        self._writes_of = cache(self._writes.labels)

    def visited(self, kind: str, vendor: str, outcome: str, seconds: float) -> None:
        self._visits_of(kind, vendor, outcome).inc()
        self._visit_seconds_of(kind, vendor).observe(seconds)

    def called(self, vendor: str, method: str, status: str, seconds: float) -> None:
        self._calls_of(vendor, method, status).inc()
        self._call_seconds_of(vendor, method).observe(seconds)

    def waited(self, vendor: str, connection: str, seconds: float) -> None:
        self._waits.labels(vendor, connection).inc(seconds)

    def forget(self, connection: str) -> None:
        """The connection is no more: nor are its series."""
        self._waits.remove_by_labels({"connection": connection})

    def drifted(self, kind: str, vendor: str, fields: Iterable[str]) -> None:
        self._drift.labels(kind, vendor).inc(sum(1 for _ in fields))

    def probed(self, kind: str, vendor: str, seconds: float, *, passed: bool) -> None:
        self._probes.labels(kind, vendor, "passed" if passed else "failed").inc()
        self._probe_seconds.labels(kind, vendor).observe(seconds)

    def checked(self, kind: str, vendor: str, verdict: str) -> None:
        self._checks.labels(kind, vendor, verdict).inc()

    def wrote(self, verb: str, resource: str) -> None:
        """A write to the Kubernetes API."""
        self._writes_of(verb, resource).inc()

    def watch(self, state: State) -> None:
        """Also tell the state of these, read when Prometheus asks."""
        self.registry.register(_Gauges(state))


class _Gauges(Collector):
    """Gauges that are read off, not kept: they can never be wrong."""

    def __init__(self, state: State) -> None:
        self._state = state

    def describe(self) -> Iterator[Metric]:
        """Nothing is described ahead of time: there may be no event loop yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        members = self._state.members
        yield self._objects()
        yield self._expiries()
        yield from self._costs()
        depth = GaugeMetricFamily(
            "auterity_queue_depth", "Objects that wait for their turn.", labels=["class"]
        )
        for name, count in self._state.schedule.depth().items():
            depth.add_metric([name], count)
        yield depth
        yield _gauge(
            "auterity_queue_oldest_seconds",
            "How long the longest-waiting object has waited for its turn.",
            self._state.schedule.oldest_age,
        )
        yield _gauge(
            "auterity_visits_running",
            "Visits in hand.",
            lambda: float(self._state.schedule.running),
        )
        yield _gauge(
            "auterity_replicas",
            "Replicas that share the objects, as this one sees it; 0 while they do not agree.",
            lambda: float(len(members.live) if members.acting else 0),
        )
        breaker = GaugeMetricFamily(
            "auterity_breaker_open",
            "Whether a connection's circuit breaker holds calls back (0.5: probing).",
            labels=["connection"],
        )
        paused = GaugeMetricFamily(
            "auterity_connection_held_seconds",
            "Seconds until a connection may be called again.",
            labels=["connection"],
        )
        states = {Breaker.CLOSED: 0.0, Breaker.HALF_OPEN: 0.5, Breaker.OPEN: 1.0}
        for key, budget in self._state.connections.budgets.items():
            breaker.add_metric([str(key)], states[budget.breaker])
            paused.add_metric([str(key)], budget.held_for)
        yield breaker
        yield paused

    def _objects(self) -> Metric:
        counts: Counter[tuple[str, str, str, str]] = Counter()
        for subject in self._state.store:
            if not self._state.members.mine(subject.uid):
                continue
            kind = subject.key.kind
            vendor = (
                self._state.connections.vendor(subject)
                if kind in CONNECTIONS
                else vendor_of(kind, subject.spec, self._state.providers)
            )
            ready = subject.condition("Ready") or {}
            state = str(ready.get("status", "Unknown")), str(ready.get("reason", "none"))
            # To Prometheus, an empty label is none.
            counts[kind, "" if kind in LOCAL else vendor or "none", *state] += 1
        objects = GaugeMetricFamily(
            "auterity_objects",
            "Objects by readiness and the reason of it.",
            labels=["kind", "vendor", "ready", "reason"],
        )
        for labels, count in counts.items():
            objects.add_metric(list(labels), count)
        return objects

    def _expiries(self) -> Metric:
        found = GaugeMetricFamily(
            "auterity_credentials_expiry_timestamp_seconds",
            "When a connection's credentials expire, where the vendor tells it.",
            labels=["connection"],
        )
        for subject in self._state.store:
            if subject.key.kind not in CONNECTIONS or not self._state.members.mine(subject.uid):
                continue
            try:
                at = datetime.fromisoformat(str(subject.status.get("expiresAt")))
            except ValueError:
                continue
            # A time without a zone would be taken for the pod's own.
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            found.add_metric([str(subject.key)], at.timestamp())
        return found

    def _costs(self) -> Iterator[Metric]:
        """What integrations cost, and what their namespaces allow.

        What is only observed is someone else's; what is refused has not been made.
        """
        cost = GaugeMetricFamily(
            "auterity_cost_per_hour",
            "What integrations cost by the hour, by list prices: at least and at most.",
            labels=["kind", "vendor", "namespace", "currency", "bound"],
        )
        limit = GaugeMetricFamily(
            "auterity_cost_limit_per_hour",
            "What the integrations of a namespace may cost by the hour, by its Budgets.",
            labels=["namespace", "budget", "currency"],
        )
        sums: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for subject in self._state.store:
            key, status = subject.key, subject.status
            budget = key.kind == BUDGET
            if not (budget or "cost" in status) or not self._state.members.mine(subject.uid):
                continue
            if budget:
                labels = [key.namespace, key.name, CURRENCY]
                limit.add_metric(labels, float(subject.spec.get("hourly") or 0))
            elif "id" in status and subject.spec.get("policy") != Policy.OBSERVE:
                at = key.kind, status.get("vendor") or "none", key.namespace, CURRENCY
                for bound in ("least", "most"):
                    sums[*at, bound] += status["cost"].get(bound) or 0.0
        for names, amount in sums.items():
            cost.add_metric(list(names), amount)
        yield cost
        yield limit


def _gauge(name: str, text: str, read: Callable[[], float]) -> Metric:
    metric = GaugeMetricFamily(name, text)
    metric.add_metric([], read())
    return metric
