"""`auterity why`: the one reason why an object is not ready, and what to do about it."""

import sys

from auterity.cli.cluster import Cluster, ItsName, TheObject, Where, named, perform
from auterity.cli.output import FAILED, Output, Table, show
from auterity.cli.reasons import Answer, as_json, explain, lines


def why(
    kind: TheObject,
    name: ItsName = None,
    /,
    *,
    where: Where | None = None,
    output: Output = "table",
) -> None:
    """Tell why an object is not ready: follow what it waits for to the cause.

    Exits with 1 if there is no such object.

    Parameters
    ----------
    output
        How it is printed.
    """
    answer = perform(_answer(kind, name, where or Where()))
    show(as_json(answer), *_text(answer), output=output)
    if len(answer.chain) == 1 and answer.chain[0].state == "Missing":
        sys.exit(FAILED)


async def _answer(kind: str, name: str | None, where: Where) -> Answer:
    async with Cluster.reached(where) as cluster:
        key = named(kind, name, cluster.namespace)
        # A connection of the cluster may wait for integrations of any namespace.
        everywhere = key.kind == "ClusterConnection"
        snapshot = await cluster.snapshot(everywhere=everywhere, about=key)
        return explain(snapshot, key, cluster.commands)


def _text(answer: Answer) -> list[Table | str]:
    parts: list[Table | str] = [Table(("Object", "State", "Why"), lines(answer))]
    if answer.steps:
        parts.append(
            "\n".join(
                f"{'Next step' if number == 0 else 'Or'}: {step.does}"
                + (f"\n  {step.command}" if step.command else "")
                for number, step in enumerate(answer.steps)
            )
        )
    elif answer.ready:
        parts.append("It is ready: nothing to do.")
    return parts
