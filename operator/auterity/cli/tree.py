"""`auterity tree`: an object and all that it needs, publishes and is needed by."""

from auterity.cli.cluster import Cluster, ItsName, Scope, TheObject, named, perform
from auterity.cli.family import Node, as_json, of_namespace, of_object, rows
from auterity.cli.output import Output, Problem, Table, show


def tree(
    kind: TheObject | None = None,
    name: ItsName = None,
    /,
    *,
    scope: Scope | None = None,
    output: Output = "table",
) -> None:
    """Show an object with its connection, Secrets, references, outputs and dependants.

    Without an object: every connection of the namespace, and what uses it.

    Parameters
    ----------
    output
        How it is printed.
    """
    nodes = perform(_nodes(kind, name, scope or Scope()))
    table = Table(
        ("Object", "Relation", "Ready", "State"), rows(nodes), empty="There are no integrations."
    )
    show([as_json(node) for node in nodes], table, output=output)


async def _nodes(kind: str | None, name: str | None, scope: Scope) -> list[Node]:
    async with Cluster.reached(scope) as cluster:
        if kind is None:
            snapshot = await cluster.snapshot(everywhere=scope.all_namespaces)
            return of_namespace(snapshot, None if scope.all_namespaces else cluster.namespace)
        key = named(kind, name, cluster.namespace)
        everywhere = scope.all_namespaces or key.kind == "ClusterConnection"
        snapshot = await cluster.snapshot(everywhere=everywhere, about=key)
        if snapshot.find(key) is None and key.kind not in snapshot.unread:
            where = f" in namespace {key.namespace}" if key.namespace else ""
            raise Problem(f"{key.kind} {key.name!r} does not exist{where}")
        return [of_object(snapshot, key)]
