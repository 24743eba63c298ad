"""The Kubernetes API as the tests use it: an administrator's, over `kubectl proxy`."""

import json
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx

from auterity.api import API_VERSION, GROUP, VERSION
from tools.controlplane import Kubectl
from tools.loopback import HOST, answers, free_port
from tools.process import Process

JSON = dict[str, Any]
PLURALS = {
    "VectorIndex": "vectorindexes",
    "Connection": "connections",
    "ClusterConnection": "clusterconnections",
    "ModelDeployment": "modeldeployments",
    "ModelRoute": "modelroutes",
    "Budget": "budgets",
}
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


def path(kind: str, namespace: str = "", name: str = "") -> str:
    """Where objects of a kind are."""
    base = "/api/v1" if kind in ("secrets", "events", "namespaces") else f"/apis/{GROUP}/{VERSION}"
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{base}{within}/{PLURALS.get(kind, kind)}" + (f"/{name}" if name else "")


class Api:
    """Plain calls. Raises httpx.HTTPError where the API server does not answer or refuses."""

    def __init__(self, kubectl: Kubectl, folder: Path) -> None:
        self.kubectl = kubectl
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        args = [str(kubectl.program), f"--kubeconfig={kubectl.kubeconfig}", "proxy"]
        self._proxy = Process([*args, f"--port={port}"], log=folder / "kubectl-proxy.log")

    def start(self) -> None:
        self._proxy.start()
        self._proxy.wait_until(lambda: answers(f"{self.url}/version"))
        self._client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def stop(self) -> None:
        self._client.close()
        self._proxy.stop()

    def create(self, kind: str, namespace: str, body: JSON) -> JSON:
        version = "v1" if kind in ("secrets", "namespaces") else API_VERSION
        names = {"secrets": "Secret", "namespaces": "Namespace"}
        body = {"apiVersion": version, "kind": names.get(kind, kind), **body}
        return self._checked(self._client.post(path(kind, namespace), json=body))

    def patch(self, kind: str, namespace: str, name: str, patch: JSON) -> JSON:
        where = path(kind, namespace, name)
        return self._checked(
            self._client.patch(where, content=json.dumps(patch), headers=MERGE_PATCH)
        )

    def delete(self, kind: str, namespace: str, name: str) -> None:
        self._checked(self._client.delete(path(kind, namespace, name)))

    def find(self, kind: str, namespace: str, name: str) -> JSON | None:
        answer = self._client.get(path(kind, namespace, name))
        return None if answer.status_code == 404 else self._checked(answer)

    def list(self, kind: str, namespace: str = "") -> list[JSON]:
        items: list[JSON] = self._checked(self._client.get(path(kind, namespace)))["items"]
        return items

    @staticmethod
    def _checked(answer: httpx.Response) -> JSON:
        if answer.is_error:
            raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
        found: JSON = answer.json()
        return found


class Witness:
    """Remembers every version of our objects and every Event that the API server ever told."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ended = threading.Event()
        self.lines: list[str] = []
        self.versions: defaultdict[str, list[JSON]] = defaultdict(list)
        """By uid."""
        self._threads = [
            threading.Thread(target=self._watch, args=(kind,), daemon=True)
            for kind in (*PLURALS, "events")
        ]
        self._client = httpx.Client(
            base_url=url, trust_env=False, timeout=httpx.Timeout(10, read=None)
        )

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(10)
        self._client.close()

    def _watch(self, kind: str) -> None:
        version = "0"
        while not self._ended.is_set():
            params = {"watch": "1", "timeoutSeconds": "2", "resourceVersion": version}
            try:
                with self._client.stream("GET", path(kind), params=params) as answer:
                    answer.raise_for_status()
                    for line in answer.iter_lines():
                        version = self._keep(line)
            except (httpx.HTTPError, ValueError):
                # The API server is away, or ended in the middle of a line.
                self._ended.wait(0.2)

    def _keep(self, line: str) -> str:
        told = json.loads(line)
        if told["type"] == "ERROR":
            # The version is too old for the API server: begin anew with what exists.
            return "0"
        found = told["object"]
        self.lines.append(line)
        self.versions[found["metadata"]["uid"]].append({**found, "watched": told["type"]})
        return str(found["metadata"]["resourceVersion"])
