"""What the operator may do in a cluster: the rules of the chart's roles, which `doctor` checks."""

from collections.abc import Iterable
from typing import Any

from auterity.api import GROUP

Manifest = dict[str, Any]


def rules(plurals: Iterable[str]) -> dict[str, list[Manifest]]:
    """The operator's rights.

    `cluster` for what has no namespace, `namespaced` for where integrations are, `own` for the
    namespace that the operator itself runs in.
    """
    return {
        "cluster": [
            *_kept(["clusterconnections"]),
            # The uid of kube-system tells this cluster from others in marks at vendors.
            _rule("", ["namespaces"], ["get"], resourceNames=["kube-system"]),
            # Kinds that are installed after the operator has started are kept too.
            _rule("apiextensions.k8s.io", ["customresourcedefinitions"], ["list", "watch"]),
        ],
        "namespaced": [
            *_kept(sorted(["connections", *plurals])),
            # Credentials are read where a spec refers to them; outputs are written beside it.
            _rule("", ["secrets"], ["create", "get", "list", "patch", "watch"]),
            _rule("", ["events"], ["create"]),
        ],
        "own": [
            # Replicas share the objects by Leases.
            _rule("coordination.k8s.io", ["leases"], ["create", "delete", "get", "list", "patch"]),
        ],
    }


def _kept(plurals: list[str]) -> list[Manifest]:
    """Users create and delete; the operator looks, annotates, finalizes and writes status."""
    return [
        _rule(GROUP, plurals, ["get", "list", "patch", "watch"]),
        _rule(GROUP, [f"{plural}/status" for plural in plurals], ["patch"]),
        # Outputs name their owner and keep it until they are gone.
        _rule(GROUP, [f"{plural}/finalizers" for plural in plurals], ["update"]),
    ]


def _rule(group: str, resources: list[str], verbs: list[str], **more: Any) -> Manifest:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs, **more}
