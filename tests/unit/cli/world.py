"""What the engine makes of broken objects, as the commands read it of a cluster."""

from datetime import datetime, timedelta
from typing import Any

from auterity.cli.commands import Commands
from auterity.cli.reasons import Answer, explain
from auterity.cli.snapshot import Replica, SecretSeen, Snapshot
from auterity.engine.subject import Key
from tests.conformance.cluster import NAMESPACE
from tests.conformance.harness import Harness

COMMANDS = Commands("kubectl auterity")


def replica(name: str = "one", *, alive: bool = True, **more: Any) -> Replica:
    return Replica(name, "auterity-system", alive, datetime.fromisoformat("2026-01-01"), **more)


def snapshot(harness: Harness, *replicas: Replica, **more: Any) -> Snapshot:
    """Everything in the cluster, by someone who may see it."""
    cluster = harness.cluster
    secrets = {
        place: SecretSeen(frozenset(data), cluster.owners.get(place))
        for place, data in cluster.secrets.items()
    }
    for subject in cluster.subjects.values():
        for name in ("shelf", "inside", "elsewhere"):
            secrets.setdefault((subject.key.namespace, name), SecretSeen(None))
    return Snapshot(
        **{
            "objects": dict(cluster.subjects),
            "secrets": secrets,
            "replicas": replicas or (replica(),),
            "now": datetime.fromisoformat("2026-01-01") + timedelta(minutes=5),
            **more,
        }
    )


def why(harness: Harness, key: Key | None = None, *replicas: Replica, **more: Any) -> Answer:
    return explain(snapshot(harness, *replicas, **more), key or harness.key, COMMANDS)


async def look(harness: Harness) -> None:
    """One visit of everything, connections first."""
    from auterity.engine.reconcile import visit

    for _ in range(3):
        for key in sorted(harness.cluster.subjects, key=lambda k: (k.kind != "Connection", k)):
            if (subject := harness.cluster.find(key)) is None:
                continue
            if key.kind in ("Connection", "ClusterConnection"):
                await harness.connections.visit(subject)
            else:
                await visit(harness.engine, subject)


def team(kind: str, name: str) -> Key:
    return Key(kind, NAMESPACE, name)


async def route(harness: Harness, **reasons: str | None) -> Key:
    """A route over deployments that serve, or for this reason do not (None: there is none).

    All of them have served before; the Secret of each is its name.
    """
    from auterity.engine.route import Routing

    cluster, names = harness.cluster, list(reasons)
    spec = {"candidates": [{"name": name} for name in names], "outputs": {"secretName": "chat"}}
    key = team("ModelRoute", "chat")
    if cluster.find(key) is None:
        cluster.put(key.kind, key.name, spec)
    for name, reason in reasons.items():
        if reason is None:
            continue
        cluster.put("ModelDeployment", name, {"outputs": {"secretName": name}})
        subject = cluster.subjects[team("ModelDeployment", name)]
        told = {"type": "Ready", "status": str(reason == "Ready"), "reason": reason}
        subject.status = {
            "observedGeneration": subject.generation,
            "outputs": {"url": f"https://{name}.example"},
            "vendor": "fleet",
            "conditions": [{**told, "message": f"{name} is {reason}"}],
        }
    await Routing(cluster, cluster.subjects[key]).visit()
    return key
