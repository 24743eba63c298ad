"""A team: a namespace, what it declares there, and what it gets to see."""

import base64
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import yaml

from auterity.api import API_VERSION, GROUP
from e2e.api import JSON, Api, Witness
from e2e.kstatus import Kstatus, kstatus
from e2e.vendors import Account

PATIENCE = 60.0
"""Seconds until what should come by itself is given up: so many that a slow machine has them, too.

What is to be quick is asserted by the test that asks for it.
"""
SPEC: dict[str, JSON] = {
    "example": {"replicas": 1, "tags": {"team": "a"}},
    "numbered": {"note": {"value": "first"}},
}


@dataclass
class Team:
    """Everything is a VectorIndex unless said otherwise."""

    api: Api
    witness: Witness
    namespace: str
    made: list[tuple[str, str, str]] = field(default_factory=list)

    def secret(self, name: str = "vendor", **data: str) -> None:
        """Create a Secret, or replace what is in it."""
        coded = {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}
        if self.api.find("secrets", self.namespace, name) is None:
            self.api.create("secrets", self.namespace, {"metadata": {"name": name}, "data": coded})
        else:
            self.api.patch("secrets", self.namespace, name, {"data": coded})

    def connect(self, account: Account, *, direct: bool = False, **spec: object) -> None:
        """A Connection called `vendor` and its Secret; ready when this returns."""
        self.connect_by(account.block(direct=direct), account.token, **spec)

    def connect_by(self, block: JSON, token: str, **spec: object) -> None:
        """The same for any vendor block whose secret is the key `token` of Secret `vendor`."""
        self.secret(token=token)
        self.create("vendor", {**block, **spec}, kind="Connection")
        self.until_ready("vendor", kind="Connection")

    def create(self, name: str, spec: JSON, kind: str = "VectorIndex", **meta: object) -> JSON:
        namespace = "" if kind == "ClusterConnection" else self.namespace
        made = self.api.create(kind, namespace, {"metadata": {"name": name, **meta}, "spec": spec})
        self.made.append((kind, namespace, name))
        return made

    def index(self, name: str, vendor: str = "example", **spec: object) -> JSON:
        """Declare a VectorIndex that is deleted with its object."""
        return self.create(name, self.spec(vendor, **spec))

    @staticmethod
    def spec(vendor: str = "example", **spec: object) -> JSON:
        return {
            "connectionRef": {"name": "vendor"},
            "deletionPolicy": "Delete",
            "dimension": 8,
            vendor: SPEC.get(vendor, {}),
            **spec,
        }

    def edit(self, name: str, kind: str = "VectorIndex", /, **spec: object) -> JSON:
        namespace = "" if kind == "ClusterConnection" else self.namespace
        return self.api.patch(kind, namespace, name, {"spec": spec})

    def annotate(self, name: str, **notes: str) -> None:
        notes = {f"{GROUP}/{key}": value for key, value in notes.items()}
        self.api.patch("VectorIndex", self.namespace, name, {"metadata": {"annotations": notes}})

    def delete(self, name: str, kind: str = "VectorIndex") -> None:
        namespace = "" if kind == "ClusterConnection" else self.namespace
        self.api.delete(kind, namespace, name)

    def find(self, name: str, kind: str = "VectorIndex") -> JSON | None:
        return self.api.find(kind, "" if kind == "ClusterConnection" else self.namespace, name)

    def status(self, name: str, kind: str = "VectorIndex") -> JSON:
        found = self.find(name, kind)
        assert found is not None, f"{kind} {name} is gone"
        status: JSON = found["status"]
        return status

    def ready(self, name: str, kind: str = "VectorIndex") -> JSON:
        """Its Ready condition."""
        return _condition(self.find(name, kind))

    def until(
        self,
        name: str,
        true: Callable[[Any], object],
        kind: str = "VectorIndex",
        seconds: float = PATIENCE,
    ) -> JSON | None:
        """Wait until something is true of an object (None: it is gone)."""
        deadline = time.monotonic() + seconds
        found: JSON | None = None
        while time.monotonic() < deadline:
            try:
                found = self.find(name, kind)
            except httpx.HTTPError:
                time.sleep(0.2)
                continue
            if true(found):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{kind} {name} after {seconds} s: {found and found.get('status')}")

    def until_ready(self, name: str, kind: str = "VectorIndex", seconds: float = PATIENCE) -> JSON:
        """Wait until the object is Current, as GitOps tools see it."""
        found = self.until(name, lambda o: kstatus(o) is Kstatus.CURRENT, kind, seconds)
        assert found is not None
        return found

    def until_gone(self, name: str, kind: str = "VectorIndex", seconds: float = PATIENCE) -> None:
        self.until(name, lambda o: o is None, kind, seconds)

    def until_reason(
        self, name: str, reason: str, kind: str = "VectorIndex", words: str = ""
    ) -> str:
        """Wait for a reason of the Ready condition (and words of its message); the message."""

        def told(found: JSON | None) -> bool:
            seen = (
                found is not None
                and found["status"].get("observedGeneration") == (found["metadata"]["generation"])
            )
            condition = _condition(found)
            return bool(
                seen and condition.get("reason") == reason and words in condition["message"]
            )

        return str(_condition(self.until(name, told, kind))["message"])

    def events(self, name: str) -> list[tuple[str, str]]:
        """Reason and message of each Event about a VectorIndex, oldest first."""
        found = self.api.list("events", self.namespace)
        found.sort(key=lambda e: int(e["metadata"]["resourceVersion"]))
        return [(e["reason"], e["message"]) for e in found if e["involvedObject"]["name"] == name]

    def disband(self) -> None:
        """Drop everything at once, finalizers included, and the namespace."""
        for kind, namespace, name in reversed(self.made):
            with suppress(httpx.HTTPStatusError):
                self.api.delete(kind, namespace, name)
                self.api.patch(kind, namespace, name, {"metadata": {"finalizers": None}})
        self.api.delete("namespaces", "", self.namespace)

    def until_event(self, name: str, reason: str, message: str) -> None:
        """Wait for an Event: it may come a moment after the status."""
        self.until(name, lambda _: (reason, message) in self.events(name))

    def apply(self, name: str, spec: JSON, kind: str = "VectorIndex") -> str:
        """`kubectl apply`; what it prints. Raises KubectlError with what a user reads."""
        document = self.document(name, spec, kind)
        return self.api.kubectl("apply", "-f", "-", input=yaml.safe_dump(document))

    def document(self, name: str, spec: JSON, kind: str = "VectorIndex") -> JSON:
        """A manifest."""
        return {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }


def _condition(found: JSON | None, type_: str = "Ready") -> JSON:
    conditions = ((found or {}).get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == type_), {})
