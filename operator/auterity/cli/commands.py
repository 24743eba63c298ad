"""Commands as a person types them, to be copied from what is printed."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auterity.api import API_VERSION
from auterity.engine.subject import Key


@dataclass(frozen=True, slots=True)
class Commands:
    """Writes commands for the cluster that was asked about."""

    program: str = "auterity"
    context: str | None = None
    """Where it was given; else it is the current one."""

    @classmethod
    def here(cls, context: str | None) -> "Commands":
        """As this process was called: by itself, or through kubectl."""
        plugin = Path(sys.argv[0]).name.startswith("kubectl-")
        return cls("kubectl auterity" if plugin else "auterity", context)

    def own(self, verb: str, key: Key, *more: str) -> str:
        """One of ours about an object."""
        return self._line(self.program.split(), verb, f"{key.kind}/{key.name}", *more, of=key)

    def kubectl(self, *args: str, of: Key | None = None) -> str:
        """One of kubectl, in the namespace of an object."""
        return self._line(["kubectl"], *args, of=of)

    def patch(self, key: Key, **spec: Any) -> str:
        """One that changes an object's spec."""
        return self.kubectl(
            *("patch", key.kind.lower(), key.name, "--type=merge"),
            f"--patch={json.dumps({'spec': spec}, separators=(',', ':'))}",
            of=key,
        )

    def _line(self, program: list[str], *args: str, of: Key | None) -> str:
        words = [*program, *args]
        if of is not None and of.namespace:
            words.append(f"--namespace={of.namespace}")
        if self.context:
            words.append(f"--context={self.context}")
        return shlex.join(words)


def named(key: Key) -> str:
    """An object as it is spoken of: `VectorIndex search/docs`."""
    return f"{key.kind} {key.namespace}/{key.name}" if key.namespace else f"{key.kind} {key.name}"


def reference(key: Key) -> dict[str, str]:
    """An object in an answer for programs."""
    found = {"apiVersion": API_VERSION, "kind": key.kind, "name": key.name}
    if key.kind == "Secret":
        found["apiVersion"] = "v1"
    return {**found, "namespace": key.namespace} if key.namespace else found
