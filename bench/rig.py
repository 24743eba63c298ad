"""What a bench runs on: a real control plane, a vendor in Go, and a client that counts itself."""

import asyncio
import json
import os
import re
import shutil
import tempfile
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from auterity.api import GROUP, crd
from auterity.api.kinds import KINDS
from auterity.engine.cluster import ClusterUnavailable
from auterity.runtime.kube import MERGE_PATCH, Kube, KubeError
from tests.example.provider import ExampleConnection, ExampleIndexParams
from tools import golang, manifests
from tools.controlplane import Controlplane
from tools.loopback import free_port
from tools.process import Process

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "bench"
YARDSTICK_GROUP = "yardstick.auterity.io"
PLURAL = KINDS["VectorIndex"].plural
TICK = os.sysconf("SC_CLK_TCK")
READS = ("GET", "LIST", "WATCH")
VENDOR_CALLS = ("get", "list", "post", "patch", "delete")
SERVED = re.compile(r"^apiserver_request_total\{(.+)\} (\S+)$", re.MULTILINE)
LEASES = ("write", "leases")
"""What replicas tell each other; the API server's own Lease is among them."""
Calls = Counter[tuple[str, str]]
"""(verb, what) -> count, such as (PATCH, vectorindexes/status)."""


class Rig:
    """A fresh control plane and vendor, and the objects of one API group on it."""

    def __init__(self, group: str, calls_in_flight: int) -> None:
        self.group = group
        self.folder = Path(tempfile.mkdtemp(prefix="auterity-bench-"))
        self.vendor_url = ""
        self._calls_in_flight = calls_in_flight
        self._kube = Kube()
        self._controlplane = Controlplane()
        self._own: Calls = Counter()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        """Start control plane and vendor; stop everything at the end. Logs stay after a failure."""
        port = free_port()
        listen = ["-listen", f"127.0.0.1:{port}", "-latency", "1ms"]
        program = str(golang.program(ROOT / "bench" / "vendor"))
        self._vendor = Process([program, *listen], log=self.folder / "vendor.log")
        self.vendor_url = f"http://127.0.0.1:{port}"
        outside = os.environ.get("KUBECONFIG")
        try:
            self._vendor.start()
            self._controlplane.start()
            os.environ["KUBECONFIG"] = str(self._controlplane.kubeconfig)
            await self._install()
            yield self
            shutil.rmtree(self.folder)
        finally:
            await self._kube.close()
            self._controlplane.stop()
            self._vendor.stop()
            os.environ.pop("KUBECONFIG")
            if outside is not None:
                os.environ["KUBECONFIG"] = outside

    @property
    def kubeconfig(self) -> Path:
        return self._controlplane.kubeconfig

    @property
    def path(self) -> str:
        """The collection of the objects."""
        return f"/apis/{self.group}/v1alpha1/namespaces/{NAMESPACE}/{PLURAL}"

    async def create(self, names: Iterable[str], interval: str = "10m") -> None:
        """Create objects, as fast as the API server takes them."""
        await self._send("POST", [(self.path, self._index(name, interval)) for name in names])

    async def edit_all(self, names: Iterable[str], spec: dict[str, Any]) -> None:
        """Change some of the spec of many objects."""
        await self._send("PATCH", [(f"{self.path}/{name}", {"spec": spec}) for name in names])

    async def edit(self, name: str, spec: dict[str, Any]) -> None:
        """Change some of an object's spec."""
        await self._call("PATCH", f"{self.path}/{name}", {"spec": spec}, content_type=MERGE_PATCH)

    async def delete(self, names: Iterable[str]) -> None:
        """Delete objects."""
        await self._send("DELETE", [(f"{self.path}/{name}", {}) for name in names])

    async def objects(self) -> list[dict[str, Any]]:
        """All there are."""
        found = []
        token = ""
        while True:
            page = {"limit": "1000", **({"continue": token} if token else {})}
            body = await self._call("GET", self.path, params=page)
            found += body["items"]
            token = body["metadata"].get("continue") or ""
            if not token:
                return found

    async def count(self) -> int:
        """How many there are."""
        body = await self._call("GET", self.path, params={"limit": "1"})
        return len(body["items"]) + int(body["metadata"].get("remainingItemCount") or 0)

    async def not_ready(self) -> int:
        """How many objects are not ready at their newest generation."""
        return sum(not _ready(raw) for raw in await self.objects())

    def slow_down(self, latency_ms: int) -> None:
        """Let every call to the vendor take so long from now on."""
        get(f"{self.vendor_url}/latency?to={latency_ms}ms")

    def trouble(self, errors: float, limit: int) -> None:
        """Let a share of the vendor's calls fail, and limit its calls a second (0: no limit)."""
        get(f"{self.vendor_url}/trouble?errors={errors}&limit={limit}")

    def vendor(self) -> Calls:
        """What the vendor has counted so far: calls by method, and the objects held."""
        told = json.loads(get(f"{self.vendor_url}/stats"))
        return Counter({("vendor", name): int(count) for name, count in told.items()})

    def edited(self) -> dict[str, float]:
        """When the vendor last saw a write, in seconds of the clock, by name."""
        told = json.loads(get(f"{self.vendor_url}/edited"))
        return {name: at / 1e9 for name, at in told.items()}

    async def api(self) -> Calls:
        """Requests to the API server so far without the bench's own, as the server counts them."""
        session = self._kube._open()
        async with session.get(f"{self._controlplane.url}/metrics") as answer:
            text = (await answer.read()).decode()
        found: Calls = Counter()
        for labels, count in re.findall(
            r"^apiserver_request_total\{(.+)\} (\S+)$", text, re.MULTILINE
        ):
            of = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if of["resource"] == "leases" and of["verb"] in ("POST", "PUT", "PATCH"):
                found[LEASES] += int(float(count))
            if of["group"] == self.group or of["resource"] in ("events", "secrets"):
                what = of["resource"] + ("/" if of["subresource"] else "") + of["subresource"]
                found[of["verb"], what] += int(float(count))
        found.subtract(self._own)
        return found

    async def set_finalizer_at_admission(self) -> None:
        """Install the policy that sets Auterity's finalizer, and wait until it does."""
        for manifest in manifests.finalizer_policy([PLURAL]):
            plural = {"MutatingAdmissionPolicy": "mutatingadmissionpolicies"}.get(
                manifest["kind"], "mutatingadmissionpolicybindings"
            )
            path = f"/apis/admissionregistration.k8s.io/v1/{plural}"
            await self._kube.call("POST", path, manifest)
        while True:
            body, dry = self._index("trial", "10m"), {"dryRun": "All"}
            # A policy that the API server does not know yet in full is answered with 503.
            with suppress(ClusterUnavailable):
                made = await self._call("POST", self.path, body, params=dry)
                if made["metadata"].get("finalizers"):
                    return
            await asyncio.sleep(0.1)

    def cpu_seconds(self) -> float:
        """What control plane, vendor and this bench have used so far."""
        servers = [process.pid for process in self._controlplane._processes]
        mine = os.times()
        own = mine.user + mine.system + mine.children_user + mine.children_system
        return own + sum(map(cpu_seconds, [*servers, self._vendor.pid]))

    async def _send(self, method: str, requests: list[tuple[str, dict[str, Any]]]) -> None:
        """Many requests, by a program that leaves the cores to what is measured."""
        lines = "".join(f"{method}\t{path}\t{json.dumps(body)}\n" for path, body in requests)
        self._own[method, PLURAL] += len(requests)
        sending = await asyncio.create_subprocess_exec(
            golang.program(ROOT / "bench" / "loader"),
            *("-server", self._controlplane.url, "-ca", str(self._controlplane.ca)),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"TOKEN": self._controlplane.token},
        )
        _, errors = await sending.communicate(lines.encode())
        if sending.returncode:
            raise RuntimeError(errors.decode()[:2000])

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        verb = "LIST" if method == "GET" and path == self.path else method
        self._own[verb, PLURAL] += 1
        return await self._kube.call(method, path, body, **more)

    async def _install(self) -> None:
        definitions = [
            crd.integration(KINDS["VectorIndex"], {"example": ExampleIndexParams}),
            *crd.connections({"example": ExampleConnection}),
        ]
        if self.group == YARDSTICK_GROUP:
            definitions = [_in_group(definitions[0], self.group)]
        for definition in definitions:
            path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            await self._kube.call("POST", path, definition)
        await self._kube.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        if self.group == GROUP:
            await self._connect()
        while True:
            try:
                await self.objects()
            except KubeError:
                await asyncio.sleep(0.1)
            else:
                return

    async def _connect(self) -> None:
        secret = {"metadata": {"name": "example"}, "stringData": {"token": "bench-token"}}
        path = f"/api/v1/namespaces/{NAMESPACE}/secrets"
        await self._kube.call("POST", path, secret)
        self._own["POST", "secrets"] += 1
        token = {"secretKeyRef": {"name": "example", "key": "token"}}
        budget = {"perSecond": 10000, "burst": 10000, "concurrent": self._calls_in_flight}
        body = {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": "Connection",
            "metadata": {"name": "vendor", "namespace": NAMESPACE},
            "spec": {
                "example": {"endpoint": self.vendor_url, "token": token},
                "rateLimit": budget,
            },
        }
        path = f"/apis/{GROUP}/v1alpha1/namespaces/{NAMESPACE}/connections"
        while True:
            try:
                self._own["POST", "connections"] += 1
                await self._kube.call("POST", path, body)
            except KubeError:
                await asyncio.sleep(0.1)
            else:
                return

    def _index(self, name: str, interval: str) -> dict[str, Any]:
        return {
            "apiVersion": f"{self.group}/v1alpha1",
            "kind": "VectorIndex",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {
                "connectionRef": {"name": "vendor"},
                "deletionPolicy": "Delete",
                "interval": interval,
                "dimension": 1536,
                "example": {"replicas": 1, "tags": {"team": "search", "stage": "bench"}},
            },
        }


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def busy_seconds() -> float:
    """What the whole machine has used so far, on all cores."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICK


def resident_kib(pid: int) -> int:
    """The memory of a process that is resident now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])


def get(url: str) -> str:
    """The body of a quick answer. Raises OSError."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def _ready(raw: dict[str, Any]) -> bool:
    status = raw.get("status") or {}
    conditions = status.get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and status.get("observedGeneration") == raw["metadata"]["generation"]


def _in_group(definition: dict[str, Any], group: str) -> dict[str, Any]:
    """The same schema and validation under another name, so that it costs the server the same."""
    moved = deepcopy(definition)
    moved["metadata"]["name"] = f"{PLURAL}.{group}"
    moved["spec"]["group"] = group
    return moved
