"""What Cloud Monitoring tells of a deployed model.

https://cloud.google.com/monitoring/api/metrics_gcp_a_b#gcp-aiplatform
"""

from collections.abc import Mapping
from typing import Final

from auterity.api.rollout import STATUS_CLASSES, Metric
from auterity.engine.contract import Measured, Span
from auterity.transport.google import JSON, MONITORING, GoogleSession

RESOURCE: Final = "aiplatform.googleapis.com/Endpoint"
ONLINE: Final = "aiplatform.googleapis.com/prediction/online"
REDUCERS: Final = {
    Metric.LATENCY_P50: "REDUCE_PERCENTILE_50",
    Metric.LATENCY_P95: "REDUCE_PERCENTILE_95",
    Metric.LATENCY_P99: "REDUCE_PERCENTILE_99",
}
"""There are no others: https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies
"""


class EndpointMonitoring:
    """Reads the figures of the models that are deployed to an endpoint."""

    def __init__(self, session: GoogleSession) -> None:
        self.session = session

    async def measure(
        self, endpoint: str, deployed: str, metrics: frozenset[Metric], span: Span
    ) -> Measured:
        """What was measured in all of the span; one call, and one for each latency."""
        labels = {"deployed_model_id": deployed}
        codes = await self._series(
            endpoint,
            "response_count",
            labels,
            span,
            perSeriesAligner="ALIGN_SUM",
            crossSeriesReducer="REDUCE_SUM",
            groupByFields="metric.labels.response_code",
        )
        counts: dict[str, float] = {}
        for one in codes:
            code = str(one.get("metric", {}).get("labels", {}).get("response_code", ""))
            counts[code] = counts.get(code, 0) + sum(_values(one))
        total = sum(counts.values())
        values: dict[Metric, float] = {}
        for metric in sorted(metrics) if total else ():
            if metric in STATUS_CLASSES:
                failed = sum(
                    n for code, n in counts.items() if code.startswith(STATUS_CLASSES[metric])
                )
                values[metric] = 100 * failed / total
            elif (latency := await self._latency(endpoint, labels, metric, span)) is not None:
                values[metric] = latency
        return Measured(total, values)

    async def _latency(
        self, endpoint: str, labels: Mapping[str, str], metric: Metric, span: Span
    ) -> float | None:
        """In milliseconds. The type `total` is told of every kind of model."""
        series = await self._series(
            endpoint,
            "prediction_latencies",
            {**labels, "latency_type": "total"},
            span,
            perSeriesAligner="ALIGN_DELTA",
            crossSeriesReducer=REDUCERS[metric],
        )
        return next((value for one in series for value in _values(one)), None)

    async def _series(
        self, endpoint: str, name: str, labels: Mapping[str, str], span: Span, **aggregation: str
    ) -> list[JSON]:
        """Time series with one point each, for the whole span."""
        told = {
            "metric.type": f"{ONLINE}/{name}",
            "resource.type": RESOURCE,
            "resource.labels.endpoint_id": endpoint,
            "resource.labels.location": self.session.location,
            **{f"metric.labels.{key}": value for key, value in labels.items()},
        }
        query: JSON = {
            "filter": " AND ".join(f'{key} = "{value}"' for key, value in told.items()),
            "interval.startTime": f"{span.start:%Y-%m-%dT%H:%M:%SZ}",
            "interval.endTime": f"{span.end:%Y-%m-%dT%H:%M:%SZ}",
            "aggregation.alignmentPeriod": f"{(span.end - span.start).total_seconds():.0f}s",
            **{f"aggregation.{key}": value for key, value in aggregation.items()},
        }
        found: list[JSON] = []
        while True:
            where = f"projects/{self.session.project}/timeSeries"
            answer = await self.session.get(MONITORING, "ListTimeSeries", where, **query)
            found += answer.get("timeSeries", ())
            if not (token := answer.get("nextPageToken")):
                return found
            query["pageToken"] = token


def _values(series: JSON) -> list[float]:
    values = [point.get("value", {}) for point in series.get("points", ())]
    return [
        float(value[kind])
        for value in values
        for kind in ("int64Value", "doubleValue")
        if kind in value
    ]
