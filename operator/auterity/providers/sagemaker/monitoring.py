"""What CloudWatch tells of a variant.

https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
"""

from datetime import datetime
from typing import Final

from auterity.api.rollout import Metric
from auterity.engine.contract import Measured, Span
from auterity.engine.errors import Unavailable
from auterity.engine.measure import mean
from auterity.transport.aws import JSON, AwsSession

NAMESPACE: Final = "AWS/SageMaker"
MINUTE: Final = 60
REQUESTS: Final = "requests"
COUNTED: Final = {
    Metric.ERROR_RATE: "Invocation5XXErrors",
    Metric.CLIENT_ERROR_RATE: "Invocation4XXErrors",
}
PERCENTILES: Final = {
    Metric.LATENCY_P50: "p50",
    Metric.LATENCY_P90: "p90",
    Metric.LATENCY_P95: "p95",
    Metric.LATENCY_P99: "p99",
}
"""Of ModelLatency, which is in microseconds."""


class VariantMonitoring:
    """Reads the figures of an endpoint's variants."""

    def __init__(self, session: AwsSession) -> None:
        self.session = session

    async def measure(
        self, endpoint: str, variant: str, metrics: frozenset[Metric], span: Span
    ) -> Measured:
        """What was measured, minute by minute: so no period can reach beyond the span."""
        stats = {REQUESTS: ("Invocations", "Sum")}
        stats |= {_id(m): (COUNTED[m], "Sum") for m in metrics if m in COUNTED}
        stats |= {_id(m): ("ModelLatency", PERCENTILES[m]) for m in metrics if m in PERCENTILES}
        results = await self.session.pages(
            "cloudwatch",
            "GetMetricData",
            "MetricDataResults",
            MetricDataQueries=[
                _query(id, name, stat, endpoint, variant) for id, (name, stat) in stats.items()
            ],
            StartTime=span.start,
            EndTime=span.end,
        )
        told: dict[str, dict[datetime, float]] = {id: {} for id in stats}
        for one in results:
            if one.get("StatusCode") == "InternalError":
                raise Unavailable("CloudWatch could not read all of the figures")
            told[one["Id"]] |= dict(zip(one["Timestamps"], one["Values"], strict=True))
        requests = told[REQUESTS]
        total = sum(requests.values())
        values: dict[Metric, float] = {}
        for metric in metrics:
            figures = told[_id(metric)]
            if metric in PERCENTILES:
                if (latency := mean(figures, requests)) is not None:
                    values[metric] = latency / 1000
            elif total:
                values[metric] = 100 * sum(figures.values()) / total
        return Measured(total, values)


def _id(metric: Metric) -> str:
    # Ids begin with a small letter.
    return metric.value.lower()


def _query(id: str, name: str, stat: str, endpoint: str, variant: str) -> JSON:
    return {
        "Id": id,
        "MetricStat": {
            "Metric": {
                "Namespace": NAMESPACE,
                "MetricName": name,
                "Dimensions": [
                    {"Name": "EndpointName", "Value": endpoint},
                    {"Name": "VariantName", "Value": variant},
                ],
            },
            "Period": MINUTE,
            "Stat": stat,
        },
    }
