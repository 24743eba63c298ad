"""What plans take from files and from the cluster, where both have it."""

from types import SimpleNamespace
from typing import Any

import pytest

from auterity.cli import sources
from auterity.cli.files import parse
from auterity.cli.sources import Reach
from auterity.engine.subject import Key
from tests.conformance.cluster import MemoryCluster
from tests.conformance.vendor import JSON

CHAT = Key("ModelRoute", "team", "chat")
ROUTE = """\
apiVersion: integrations.auterity.io/v1alpha1
kind: ModelRoute
metadata: {name: chat, namespace: team}
spec:
  candidates: [{name: first}]
"""
FILLED_IN: JSON = {
    "candidates": [{"name": "first"}],
    "failover": {"after": "30s", "failback": "Automatic", "failbackAfter": "5m"},
    "suspend": False,
}
STATUS: JSON = {
    "observedGeneration": 1,
    "outputs": {"url": "https://first.example"},
    "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}],
}


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> MemoryCluster:
    """What the cluster has: a route that leads somewhere."""
    found = MemoryCluster()
    found.put("ModelRoute", "chat", FILLED_IN)
    found.subjects[CHAT].status = dict(STATUS)

    async def close() -> None:
        pass

    async def read(*_: Any) -> dict[Key, Any]:
        return dict(found.subjects)

    there = SimpleNamespace(namespace="team", kube=SimpleNamespace(close=close))
    monkeypatch.setattr(sources, "_cluster", lambda _: there)
    monkeypatch.setattr(sources, "live", read)
    return found


async def ready(text: str) -> bool:
    manifests, _ = parse("a.yaml", text)
    async with sources.gathered(manifests, Reach(cluster_name="here")) as found:
        assert found.declared == [], "nothing at a vendor comes of a route"
        return found.subjects[CHAT].ready


async def test_a_route_is_as_the_operator_has_found_it_unless_the_file_says_otherwise(
    live: MemoryCluster,
):
    assert await ready("") is True
    assert await ready(ROUTE) is True
    assert await ready(ROUTE.replace("first", "second")) is False
    live.subjects[CHAT].spec = {"candidates": []}
    assert await ready(ROUTE) is False


async def test_whether_a_connection_works_is_found_out_anew(live: MemoryCluster):
    live.put("Connection", "vendor", {})
    live.subjects[Key("Connection", "team", "vendor")].status = dict(STATUS)
    async with sources.gathered([], Reach(cluster_name="here")) as found:
        assert found.subjects[Key("Connection", "team", "vendor")].status == {}
