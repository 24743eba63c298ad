"""What a bench runs on: a real control plane, a vendor in Go, and the operator as a process."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any


from auterity.api import crd
from auterity.api.kinds import KINDS
from auterity.runtime.cluster import collection
from auterity.runtime.kube import Kube, KubeError
from tests.example.provider import ExampleConnection, ExampleIndexParams
from tools import golang
from tools.controlplane import Controlplane
from tools.loopback import free_port

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "bench-token"
NAMESPACE = "default"
TICK = os.sysconf("SC_CLK_TCK")


class Rig:
    """Control plane, vendor and one operator."""

    def __init__(self, latency: str, calls_in_flight: int) -> None:
        self.latency = latency
        self.calls_in_flight = calls_in_flight
        self.folder = Path(tempfile.mkdtemp(prefix="auterity-bench-"))
        self.vendor_url = ""
        self.operator: subprocess.Popen[bytes] | None = None
        self.health = free_port()
        self.kube = Kube()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        """Start control plane and vendor; stop everything at the end."""
        program = golang.program(ROOT / "bench" / "vendor")
        controlplane = Controlplane()
        vendor = subprocess.Popen(
            [program, "-latency", self.latency], stdout=subprocess.PIPE, text=True
        )
        assert vendor.stdout is not None
        self.vendor_url = vendor.stdout.readline().strip()
        try:
            await asyncio.to_thread(controlplane.start)
            os.environ["KUBECONFIG"] = str(controlplane.kubeconfig)
            await self._install()
            yield self
        finally:
            await self.kube.close()
            self.stop_operator()
            vendor.kill()
            vendor.wait()
            controlplane.stop()

    def start_operator(self, workers: int) -> None:
        """Start the operator with the example provider as another package brings it."""
        package = self.folder / "example-1.dist-info"
        package.mkdir(exist_ok=True)
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
        (package / "entry_points.txt").write_text(
            "[auterity.providers]\nexample = tests.example.provider\n"
        )
        command = [sys.executable, "-m", "auterity", "run", "--allow-insecure-endpoints"]
        command += ["--listen", f"127.0.0.1:{self.health}", "--workers", str(workers)]
        command += ["--log-format", "json", "--log-level", "warning"]
        self.operator = subprocess.Popen(
            command,
            stderr=(self.folder / "operator.log").open("ab"),
            env={**os.environ, "PYTHONPATH": f"{self.folder}:{ROOT}"},
        )

    def stop_operator(self) -> None:
        """Ask it to stop, and wait."""
        if self.operator is not None:
            self.operator.terminate()
            self.operator.wait(30)
            self.operator = None

    async def ready(self) -> None:
        """Wait until the operator has learned what exists."""
        while await asyncio.to_thread(self._get, f"http://127.0.0.1:{self.health}/readyz") is None:
            await asyncio.sleep(0.05)

    def cpu_seconds(self) -> float:
        """What the operator has used so far."""
        assert self.operator is not None
        fields = Path(f"/proc/{self.operator.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory_kib(self) -> int:
        """What of it is resident now."""
        assert self.operator is not None
        status = Path(f"/proc/{self.operator.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])

    def api_writes(self) -> dict[str, float]:
        """Writes to the API server so far, by what is written."""
        text = self._get(f"http://127.0.0.1:{self.health}/metrics") or ""
        found = re.findall(r'auterity_api_writes_total\{resource="(.+?)",verb="(.+?)"\} (\S+)', text)
        return {f"{verb} {resource}": float(count) for resource, verb, count in found}

    def vendor(self) -> dict[str, Any]:
        """What the vendor has counted."""
        return dict(json.loads(self._get(f"{self.vendor_url}/stats") or "{}"))

    async def create(self, count: int, first: int = 0) -> None:
        """Create so many objects, as fast as the API server takes them."""
        path = collection("VectorIndex", NAMESPACE)
        await _in_parallel(
            self.kube.call("POST", path, _index(f"i{n:05}", 1)) for n in range(first, first + count)
        )

    async def not_ready(self) -> int:
        """How many objects are not ready at their newest generation."""
        waiting = 0
        async for raw in self.kube.list(collection("VectorIndex", NAMESPACE)):
            status = raw.get("status") or {}
            conditions = status.get("conditions") or ()
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            fresh = status.get("observedGeneration") == raw["metadata"]["generation"]
            waiting += not (ready and fresh)
        return waiting

    async def _install(self) -> None:
        definitions = [
            crd.integration(KINDS["VectorIndex"], {"example": ExampleIndexParams}),
            *crd.connections({"example": ExampleConnection}),
        ]
        for definition in definitions:
            await self.kube.call(
                "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition
            )
        secret = {"metadata": {"name": "example"}, "stringData": {"token": TOKEN}}
        await self.kube.call("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", secret)
        token = {"secretKeyRef": {"name": "example", "key": "token"}}
        spec = {
            "example": {"endpoint": self.vendor_url, "token": token},
            "rateLimit": {
                "perSecond": 10000,
                "burst": 10000,
                "concurrent": self.calls_in_flight,
            },
        }
        body = {**_object("Connection", "vendor"), "spec": spec}
        while True:
            try:
                await self.kube.call("POST", collection("Connection", NAMESPACE), body)
            except KubeError:
                await asyncio.sleep(0.1)
            else:
                return

    @staticmethod
    def _get(url: str) -> str | None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return None


def _index(name: str, replicas: int) -> dict[str, Any]:
    spec = {
        "connectionRef": {"name": "vendor"},
        "deletionPolicy": "Delete",
        "dimension": 1536,
        "example": {"replicas": replicas, "tags": {"team": "search", "stage": "bench"}},
    }
    return {**_object("VectorIndex", name), "spec": spec}


def _object(kind: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "integrations.auterity.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
    }


async def _in_parallel(calls: Any, most: int = 20) -> None:
    slots = asyncio.Semaphore(most)

    async def one(call: Any) -> None:
        async with slots:
            await call

    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(one(call))


