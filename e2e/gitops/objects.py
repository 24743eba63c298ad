"""Objects of any kind in the cluster, by kubectl."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from tools.controlplane import Kubectl, KubectlError

JSON = dict[str, Any]


@dataclass(frozen=True)
class Objects:
    """With an administrator's rights."""

    kubectl: Kubectl

    def apply(self, *documents: JSON) -> None:
        text = yaml.safe_dump_all(documents)
        self.kubectl("apply", "--server-side", "-f", "-", input=text)

    def find(self, kind: str, namespace: str, name: str) -> JSON | None:
        args = ("get", kind, name, f"--namespace={namespace}", "--output=json")
        try:
            told = self.kubectl(*args, "--ignore-not-found")
        except KubectlError as error:
            # Its CRD is not there (yet).
            if "the server doesn't have a resource type" in str(error):
                return None
            raise
        return json.loads(told) if told else None

    def every(self, kind: str) -> list[JSON]:
        found = json.loads(self.kubectl("get", kind, "--all-namespaces", "--output=json"))
        return list(found["items"])

    def until(
        self,
        kind: str,
        namespace: str,
        name: str,
        true: Callable[[Any], object],
        seconds: float = 120,
    ) -> Any:
        """Wait until something is true of an object (None: it is not there)."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.find(kind, namespace, name)
            if true(found):
                return found
            if time.monotonic() > deadline:
                told = json.dumps(found and found.get("status"), indent=1)
                raise AssertionError(f"{kind} {name} after {seconds} s: {told}")
            time.sleep(0.3)

    def status(self, kind: str, namespace: str, name: str, status: JSON) -> None:
        """Write its status, as a controller does."""
        patch = json.dumps({"status": status})
        args = ("--subresource=status", "--type=merge", f"--namespace={namespace}")
        self.kubectl("patch", kind, name, *args, f"--patch={patch}")

    def annotate(self, kind: str, namespace: str, name: str, note: str) -> None:
        self.kubectl("annotate", kind, name, note, f"--namespace={namespace}", "--overwrite")


def condition(found: JSON | None, type_: str = "Ready") -> JSON:
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == type_), {})


def settled(found: JSON | None, status: str) -> bool:
    """Whether Ready has that status for the newest generation."""
    if (
        found is None
        or found["status"].get("observedGeneration") != found["metadata"]["generation"]
    ):
        return False
    return bool(condition(found).get("status") == status)
