"""The table of metrics, from the metrics themselves."""

from types import SimpleNamespace
from typing import Final, cast

from prometheus_client.core import Metric

from auterity.runtime.metrics import Metrics, State
from tools.reference import NOTE, plain, table

_ABOUT: Final = """\
`/metrics` tells these, in Prometheus' format. Labels name kinds, vendors and connections, never
single integrations, so the number of series stays small.
"""


def metrics_page() -> str:
    """Every metric: its name as a query writes it, type, labels and meaning."""
    rows = [
        (f"`{_queried(metric)}`", metric.type, ", ".join(labels), plain(metric.documentation))
        for metric, labels in _metrics()
    ]
    titles = ("Metric", "Type", "Labels", "Meaning")
    return "\n".join([NOTE, "# Metrics\n", _ABOUT, table(titles, sorted(rows))])


def _metrics() -> list[tuple[Metric, tuple[str, ...]]]:
    """Every metric of an operator that has nothing to do, with its labels."""
    told = Metrics()
    told.watch(cast("State", _idle()))
    found = []
    for collector in list(told.registry._collector_to_names):  # noqa: SLF001 - the registry's own list; it offers no other
        for metric in collector.collect():
            # Counters and histograms keep their labels' names themselves, gauges in what they tell.
            source = collector if hasattr(collector, "_labelnames") else metric
            found.append((metric, tuple(map(str, getattr(source, "_labelnames", ())))))
    return found


def _idle() -> SimpleNamespace:
    """What the gauges are read off, at rest."""
    return SimpleNamespace(
        store=(),
        schedule=SimpleNamespace(depth=dict, oldest_age=lambda: 0.0, running=0),
        connections=SimpleNamespace(budgets={}),
        members=SimpleNamespace(live=(), acting=False),
        providers={},
    )


def _queried(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name
