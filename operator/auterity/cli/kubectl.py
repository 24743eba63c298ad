"""`kubectl_complete-auterity`: how kubectl completes `kubectl auterity ...`.

https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/#add-shell-completion
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

ABOUT_OBJECTS: Final = frozenset(
    ("why", "tree", "approve", "reconcile", "suspend", "resume", "forget")
)
NO_SPACE, NO_FILES = 2, 4
"""Cobra's directives: what the shell does with the words."""


def complete() -> None:
    """Print the words that may stand at the end of the command line, and what kind they are."""
    words, directive = candidates(sys.argv[1:])
    sys.stdout.write("\n".join([*words, f":{directive}"]) + "\n")


def candidates(args: Sequence[str]) -> tuple[list[str], int]:
    """What the last argument may become: a command, a kind, an object, an option."""
    *before, word = args or [""]
    if not before:
        from auterity.cli.main import app

        names = [name for name in app if not name.startswith("-")]
        return [name for name in sorted(names) if name.startswith(word)], NO_FILES
    if before[0] not in ABOUT_OBJECTS or word.startswith("-"):
        return [], NO_FILES
    if "/" in word:
        return [name for name in _objects(before, word) if name.startswith(word)], NO_FILES
    from auterity.api.kinds import PLURALS

    return [f"{k.lower()}/" for k in PLURALS if k.lower().startswith(word)], NO_FILES | NO_SPACE


def _objects(before: Sequence[str], word: str) -> list[str]:
    """Every object of the kind, in the namespace that is given; none where nothing answers."""
    from auterity.cli.cluster import Cluster, Where, kind_of, perform
    from auterity.cli.output import Problem
    from auterity.runtime.cluster import collection

    kind = word.partition("/")[0]

    async def names() -> list[str]:
        where = Where(_option(before, "--namespace", "-n"), _option(before, "--context"))
        async with Cluster.reached(where) as cluster:
            found = kind_of(kind)
            namespace = "" if found == "ClusterConnection" else cluster.namespace
            return [
                f"{kind}/{raw['metadata']['name']}"
                async for raw in cluster.kube.list(collection(found, namespace))
            ]

    with suppress(Problem):
        return perform(names())
    return []


def _option(args: Sequence[str], *names: str) -> str | None:
    for place, arg in enumerate(args):
        for name in names:
            if arg == name and place + 1 < len(args):
                return args[place + 1]
            if arg.startswith(f"{name}="):
                return arg.removeprefix(f"{name}=")
    return None
