"""Alerts and dashboard ask for what the operator really tells, and the alerts go off."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from auterity.engine.conditions import Reason
from auterity.engine.limits import Breaker
from auterity.engine.subject import Key
from auterity.runtime.metrics import Metrics, State
from auterity.runtime.store import Store
from tests.crds.conftest import JSON
from tools import cache, promtool
from tools.generate import ROOT

CHART = ROOT / "charts" / "auterity"
ALERTS: list[JSON] = yaml.safe_load((CHART / "alerts.yaml").read_text())["alerts"]
DASHBOARD: JSON = json.loads((CHART / "dashboard.json").read_text())


def told() -> dict[str, frozenset[str]]:
    """Every series that a busy operator tells, as a query names it, and its labels."""
    metrics = Metrics()
    metrics.visited("VectorIndex", "acme", "Ready", 1)
    metrics.called("acme", "GET", "200", 1)
    metrics.waited("acme", "Connection/a/b", 1)
    metrics.drifted("VectorIndex", "acme", ["tags"])
    metrics.wrote("PATCH", "vectorindexes")
    store = Store()
    for kind, spec, status in (
        ("Connection", {}, {"expiresAt": "2026-01-01T00:00:00Z"}),
        ("ModelDeployment", {}, {"id": "b", "vendor": "acme", "cost": {"least": 1, "most": 2}}),
        ("Budget", {"hourly": 3}, {}),
    ):
        meta = {"name": "b", "namespace": "a", "uid": kind, "resourceVersion": "1"}
        meta["creationTimestamp"] = "2026-01-01T00:00:00Z"
        store.put({"kind": kind, "metadata": meta, "spec": spec, "status": status})
    budget = SimpleNamespace(breaker=Breaker.CLOSED, held_for=0.0)
    state = SimpleNamespace(
        store=store,
        schedule=SimpleNamespace(depth=lambda: {"edit": 0}, oldest_age=lambda: 0.0, running=0),
        connections=SimpleNamespace(
            budgets={Key("Connection", "a", "b"): budget}, vendor=lambda _: "acme"
        ),
        members=SimpleNamespace(live=(), acting=False, mine=lambda _: True),
        providers={},
    )
    metrics.watch(cast("State", state))
    text = generate_latest(metrics.registry).decode()
    return {
        sample.name: frozenset(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def queries() -> Iterator[tuple[str, str]]:
    """What is asked, and where."""
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert asked is not None
            yield variable["name"], f"sum by ({asked[2]}) ({asked[1]})"


QUERIES = list(queries())
SERIES = re.compile(r"(auterity_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


@pytest.mark.parametrize(("where", "query"), QUERIES, ids=[where for where, _ in QUERIES])
def test_only_what_is_told_is_asked_for(where: str, query: str) -> None:
    series = told()
    asked = SERIES.findall(query)
    assert asked, f"{where} asks for nothing of ours"
    common = frozenset.intersection(*(series[name] for name, _ in asked))
    for name, matchers in asked:
        for label, value in MATCHER.findall(matchers):
            assert label in series[name], f"{name} has no label {label}"
            if label in ("reason", "outcome"):
                assert set(value.split("|")) <= set(Reason)
    for labels in GROUPED.findall(query):
        assert set(re.split(r",\s*", labels)) <= common


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_an_alert_names_only_what_it_groups_by(alert: JSON) -> None:
    grouped = GROUPED.search(alert["expr"])
    kept = set(re.split(r",\s*", grouped[1])) if grouped else set()
    for text in alert["annotations"].values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= kept
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert set(alert["annotations"]) == {"summary", "description"}


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for _, query in QUERIES for name, _ in SERIES.findall(query)}
    parts = ("_sum", "_count", "_bucket")
    untold = {name for name in told() if not name.endswith(parts) and name not in shown}
    untold |= {name for name in told() if name.endswith("_bucket") and name not in shown}
    assert untold == set()


@pytest.fixture(scope="module")
def checker() -> Path:
    try:
        return promtool.build()
    except cache.InstallError as reason:
        pytest.skip(f"no promtool on this machine: {reason}")


def check(checker: Path, *args: str) -> str:
    done = subprocess.run([checker, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


COST = 'auterity_cost_per_hour{{kind="K",vendor="v",namespace="{}",currency="USD",bound="{}"}}'
LIMIT = 'auterity_cost_limit_per_hour{{namespace="{}",budget="{}",currency="USD"}}'
EXPIRY = "auterity_credentials_expiry_timestamp_seconds"
FIRES: dict[str, tuple[dict[str, str], str, JSON]] = {
    # What is told, when it is looked at, and the labels of the alert.
    "AuterityAbsent": ({}, "11m", {}),
    "AuterityReplicasDisagree": ({"auterity_replicas": "0x60"}, "5m", {}),
    "AuterityQueueOld": ({"auterity_queue_oldest_seconds": "400x60"}, "15m", {}),
    "AuterityVisitsFail": (
        {
            'auterity_visits_total{kind="K",vendor="v",outcome="Ready"}': "0+3x60",
            'auterity_visits_total{kind="K",vendor="v",outcome="ProviderUnavailable"}': "0+1x60",
        },
        "40m",
        {"kind": "K", "vendor": "v"},
    ),
    "AuterityBug": (
        {'auterity_visits_total{kind="K",vendor="v",outcome="InternalError"}': "0 0 1x60"},
        "5m",
        {"kind": "K", "vendor": "v"},
    ),
    "AuterityBreakerOpen": (
        {'auterity_breaker_open{connection="Connection/a/b"}': "1x60"},
        "15m",
        {"connection": "Connection/a/b"},
    ),
    "AuterityNotReady": (
        {
            'auterity_objects{kind="K",vendor="v",ready="False",reason="Conflict"}': "1x60",
            'auterity_objects{kind="K",vendor="v",ready="False",reason="Progressing"}': "1x60",
        },
        "40m",
        {"kind": "K", "vendor": "v", "reason": "Conflict"},
    ),
    "AuterityCredentialsExpire": (
        {
            f'{EXPIRY}{{connection="Connection/a/b"}}': "86400x60",
            f'{EXPIRY}{{connection="Connection/a/c"}}': "9e5x60",
        },
        "5m",
        {"connection": "Connection/a/b"},
    ),
    "AuterityOverBudget": (
        {
            COST.format("a", "most"): "3x60",
            COST.format("a", "least"): "9x60",
            COST.format("b", "most"): "9x60",
            LIMIT.format("a", "narrow"): "2x60",
            LIMIT.format("a", "wide"): "20x60",
            LIMIT.format("b", "wide"): "20x60",
        },
        "20m",
        {"namespace": "a", "currency": "USD"},
    ),
    "AuterityBudgetRefuses": (
        {
            'auterity_objects{kind="K",vendor="v",ready="False",reason="OverBudget"}': "1x90",
            'auterity_objects{kind="Budget",vendor="",ready="False",reason="OverBudget"}': "1x90",
        },
        "70m",
        {"kind": "K", "vendor": "v"},
    ),
    "AuterityApprovalWaits": (
        {'auterity_objects{kind="K",vendor="v",ready="False",reason="AwaitingApproval"}': "1x90"},
        "70m",
        {"kind": "K", "vendor": "v"},
    ),
}
QUIET = {
    "auterity_replicas": "2x90",
    "auterity_queue_oldest_seconds": "10x90",
    'auterity_visits_total{kind="K",vendor="v",outcome="Ready"}': "0+9x90",
    'auterity_visits_total{kind="K",vendor="v",outcome="ProviderUnavailable"}': "0+1x90",
    'auterity_breaker_open{connection="Connection/a/b"}': "0.5x90",
    'auterity_objects{kind="K",vendor="v",ready="True",reason="Ready"}': "5x90",
    'auterity_objects{kind="K",vendor="v",ready="False",reason="Suspended"}': "5x90",
    f'{EXPIRY}{{connection="Connection/a/b"}}': "9e9x90",
    COST.format("a", "most"): "2x90",
    LIMIT.format("a", "all"): "2x90",
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "auterity", "rules": ALERTS}]}))
    return path


@pytest.mark.timeout(1200)  # the first call on a machine builds promtool
def test_promtool_finds_no_fault(checker: Path, rules: Path) -> None:
    assert f"{len(ALERTS)} rules found" in check(
        checker, "check", "rules", "--lint=all", str(rules)
    )


def selected(labels: JSON) -> str:
    return "ALERTS{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


@pytest.mark.timeout(1200)
def test_every_alert_goes_off_when_it_should_and_only_then(checker: Path, rules: Path) -> None:
    assert set(FIRES) == {alert["alert"] for alert in ALERTS}
    tests: list[JSON] = []
    for alert in ALERTS:
        series, at, labels = FIRES[alert["alert"]]
        firing = {"alertname": alert["alert"], "alertstate": "firing"}
        expected = {**firing, **alert["labels"], **labels}
        tests.append(
            {
                "name": alert["alert"],
                "interval": "1m",
                "input_series": [{"series": s, "values": v} for s, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": selected(firing),
                        "eval_time": at,
                        "exp_samples": [{"labels": selected(expected), "value": 1}],
                    }
                ],
            }
        )
    tests.append(
        {
            "name": "at rest",
            "interval": "1m",
            "input_series": [{"series": s, "values": v} for s, v in QUIET.items()],
            "promql_expr_test": [
                {"expr": "ALERTS", "eval_time": f"{minute}m", "exp_samples": []}
                for minute in (5, 40, 80)
            ],
        }
    )
    case = rules.with_name("test.yaml")
    case.write_text(
        yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": "1m", "tests": tests})
    )
    assert "SUCCESS" in check(checker, "test", "rules", str(case))
