"""`python -m tools.argocd`: Argo CD on a control plane of this machine, the parts that sync.

Those are the application controller, the repository server and their Redis; what only serves
people (API server, Dex, notifications) is left out.
"""

import base64
import json
import os
import secrets
import subprocess
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Self

import yaml

from tools import crds, helm
from tools.controlplane import Controlplane
from tools.golang import Module
from tools.loopback import HOST, answers, free_port
from tools.process import Process, Startable
from tools.servers.valkey import Valkey

SOURCE = "github.com/argoproj/argo-cd/v3"
WRAPPER = "git-verify-wrapper.sh"
MODULE = Module(
    "argocd",
    {"argocd": f"{SOURCE}/cmd"},
    files={"crds": f"{SOURCE}//manifests/crds", WRAPPER: f"{SOURCE}//hack/{WRAPPER}"},
)
NAMESPACE = "argocd"
CLUSTER = "here"
"""What Applications call the control plane in `destination.name`."""


def build() -> Path:
    """Return the folder with the one program that is all of Argo CD."""
    return MODULE.build({f"{SOURCE}/common.version": MODULE.pinned(SOURCE)})


def health(found: dict[str, Any], config_map: Path, folder: Path) -> tuple[str, str]:
    """What Argo CD makes of an object under the checks of an `argocd-cm`; its own command."""
    (folder / "object.json").write_text(json.dumps(found))
    args = [str(build() / "argocd"), "admin", "settings", "resource-overrides", "health"]
    args += [str(folder / "object.json"), f"--argocd-cm-path={config_map}"]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    if "STATUS" not in told:
        raise ValueError(f"argocd: {done.stdout}{done.stderr}")
    return told["STATUS"], told.get("MESSAGE", "")


class ArgoCD(Startable):
    """`with ArgoCD(controlplane):`; Applications live in the namespace `argocd`."""

    def __init__(self, controlplane: Controlplane) -> None:
        self._controlplane = controlplane
        self._processes: list[Process] = []
        self._redis = Valkey()

    def start(self) -> Self:
        installed = build()
        self.folder = self._controlplane.folder / "argocd"
        (self.folder / "tmp").mkdir(parents=True)
        self._redis.start()
        try:
            self._settle_in(installed)
            self._launch(installed)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.stop()
        self._processes = []
        self._redis.stop()

    def _settle_in(self, installed: Path) -> None:
        kubectl = self._controlplane.kubectl
        names = ("application", "appproject", "applicationset")
        crds.install(kubectl, [installed / "crds" / f"{name}-crd.yaml" for name in names])
        made = yaml.safe_dump_all(_settings(self._controlplane))
        kubectl("apply", "--server-side", "-f", "-", input=made)

    def _launch(self, installed: Path) -> None:
        env = self._env(installed)
        port, repo_metrics, metrics = free_port(), free_port(), free_port()
        shared = [f"--redis={self._redis.address}", "--loglevel=info"]
        repo_server = [str(installed / "argocd"), f"--address={HOST}", f"--port={port}"]
        repo_server += [f"--metrics-address={HOST}", f"--metrics-port={repo_metrics}"]
        controller = [str(installed / "argocd"), f"--namespace={NAMESPACE}"]
        controller += [f"--kubeconfig={self._controlplane.kubeconfig}"]
        # The metrics know no address of their own: they are on every interface.
        controller += [f"--repo-server={HOST}:{port}", f"--metrics-port={metrics}"]
        for name, args, probed in (
            (
                "repo-server",
                [*repo_server, *shared, "--disable-tls", "--client-ca-path="],
                repo_metrics,
            ),
            (
                "application-controller",
                [*controller, *shared, "--repo-server-plaintext"],
                metrics,
            ),
        ):
            process = Process(
                args,
                log=self.folder / f"{name}.log",
                env={**env, "ARGOCD_BINARY_NAME": f"argocd-{name}"},
                cwd=self.folder,
            )
            process.start()
            self._processes.append(process)
            process.wait_until(partial(answers, f"http://{HOST}:{probed}/healthz"))

    def _env(self, installed: Path) -> dict[str, str]:
        found = [str(installed), str(helm.build().parent), os.environ["PATH"]]
        data = ("TLS_DATA_PATH", "SSH_DATA_PATH", "GPG_DATA_PATH", "GNUPGHOME")
        return {
            "PATH": os.pathsep.join(found),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_PLUGINSOCKFILEPATH": str(self.folder),
            **{f"ARGOCD_{name}": str(self.folder) for name in data},
            **{f"HELM_{name}_HOME": str(self.folder) for name in ("CACHE", "CONFIG", "DATA")},
        }


def _settings(controlplane: Controlplane) -> Iterable[dict[str, Any]]:
    """What Argo CD's own manifests would install, as far as these parts read it."""
    yield _object("Namespace", NAMESPACE, namespaced=False)
    for name in ("cm", "cmd-params-cm", "rbac-cm", "ssh-known-hosts-cm", "tls-certs-cm"):
        yield _object("ConfigMap", f"argocd-{name}")
    yield _object("ConfigMap", "argocd-gpg-keys-cm")
    yield _object("Secret", "argocd-secret", {"server.secretkey": secrets.token_urlsafe(32)})
    access = {
        "bearerToken": controlplane.token,
        "tlsClientConfig": {"caData": base64.b64encode(controlplane.ca.read_bytes()).decode()},
    }
    data = {"name": CLUSTER, "server": controlplane.url, "config": json.dumps(access)}
    cluster = _object("Secret", "cluster-here", data)
    cluster["metadata"]["labels"]["argocd.argoproj.io/secret-type"] = "cluster"
    yield cluster
    project = _object("AppProject", "default")
    anything = [{"group": "*", "kind": "*"}]
    yield {
        **project,
        "apiVersion": "argoproj.io/v1alpha1",
        "spec": {
            "sourceRepos": ["*"],
            "destinations": [{"server": "*", "namespace": "*"}],
            "clusterResourceWhitelist": anything,
        },
    }


def _object(
    kind: str, name: str, data: dict[str, str] | None = None, *, namespaced: bool = True
) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "argocd"}
    meta: dict[str, Any] = {"name": name, "labels": labels}
    if namespaced:
        meta["namespace"] = NAMESPACE
    made: dict[str, Any] = {"apiVersion": "v1", "kind": kind, "metadata": meta}
    return {**made, "stringData": data} if data else made


if __name__ == "__main__":
    print(build())
