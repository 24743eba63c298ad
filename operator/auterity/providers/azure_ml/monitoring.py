"""What Azure Monitor tells of a deployment.

https://learn.microsoft.com/azure/azure-monitor/reference/supported-metrics/microsoft-machinelearningservices-workspaces-onlineendpoints-metrics
"""

from typing import Final

from auterity.api.rollout import STATUS_CLASSES, Metric
from auterity.engine.contract import Measured, Span
from auterity.engine.errors import NotFound
from auterity.engine.measure import mean
from auterity.transport.azure import JSON, AzureSession

VERSION: Final = "2024-02-01"
"""Of the API: the one that azure-mgmt-monitor 7.0 speaks."""
REQUESTS: Final = "RequestsPerMinute"
LATENCIES: Final = {
    Metric.LATENCY_P50: "RequestLatency_P50",
    Metric.LATENCY_P90: "RequestLatency_P90",
    Metric.LATENCY_P95: "RequestLatency_P95",
    Metric.LATENCY_P99: "RequestLatency_P99",
}
"""In milliseconds."""
Minutes = dict[str, float]
"""What was measured, by the minute."""


class DeploymentMonitoring:
    """Reads the figures of an endpoint's deployments."""

    def __init__(self, session: AzureSession) -> None:
        self.session = session

    async def measure(
        self, endpoint: str, deployment: str, metrics: frozenset[Metric], span: Span
    ) -> Measured:
        """What was measured, minute by minute; one call, and one for all latencies."""
        of_it = f"deployment eq '{deployment}'"
        classes = await self._read(endpoint, REQUESTS, f"{of_it} and statusCodeClass eq '*'", span)
        requests: Minutes = {}
        for _, figures in classes:
            for minute, count in figures.items():
                requests[minute] = requests.get(minute, 0) + count
        total = sum(requests.values())
        if not total:
            return Measured()
        values: dict[Metric, float] = {}
        for metric in metrics & STATUS_CLASSES.keys():
            failed = [f for name, f in classes if name.startswith(STATUS_CLASSES[metric])]
            values[metric] = 100 * sum(sum(figures.values()) for figures in failed) / total
        names = {LATENCIES[metric]: metric for metric in sorted(metrics & LATENCIES.keys())}
        for name, figures in await self._read(endpoint, ",".join(names), of_it, span):
            latency = mean(figures, requests)
            if name in names and latency is not None:
                values[names[name]] = latency
        return Measured(total, values)

    async def _read(
        self, endpoint: str, names: str, only: str, span: Span
    ) -> list[tuple[str, Minutes]]:
        """Time series: of requests by their class of status codes, of latencies by their name."""
        if not names:
            return []
        try:
            body = await self.session.arm(
                "GET",
                f"{endpoint}/providers/Microsoft.Insights/metrics",
                VERSION,
                label="GetMetrics",
                query={
                    "metricnames": names,
                    "timespan": f"{span.start:%Y-%m-%dT%H:%M:%SZ}/{span.end:%Y-%m-%dT%H:%M:%SZ}",
                    "interval": "PT1M",
                    "aggregation": "Average",
                    "$filter": only,
                },
            )
        except NotFound:
            return []
        return [
            (_class_of(series) or metric["name"]["value"], _minutes(series))
            for metric in body.get("value", ())
            for series in metric.get("timeseries", ())
        ]


def _class_of(series: JSON) -> str:
    # Names of dimensions come back in small letters.
    told = {
        str(one["name"]["value"]).lower(): str(one["value"])
        for one in series.get("metadatavalues", ())
    }
    return told.get("statuscodeclass", "")


def _minutes(series: JSON) -> Minutes:
    return {
        one["timeStamp"]: float(one["average"])
        for one in series.get("data", ())
        if one.get("average") is not None
    }
