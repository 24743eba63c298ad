"""etcd, kube-apiserver and kube-controller-manager as one thing to start and stop."""

import fcntl
import json
import secrets
import shutil
import ssl
import tempfile
import time
from base64 import b64encode
from pathlib import Path
from typing import Self, TextIO

import trustme

from tools.controlplane.binaries import build
from tools.controlplane.kubectl import Kubectl
from tools.loopback import HOST, answers, free_port
from tools.process import Process, Startable

# Without nodes nothing needs the rest: what is listed publishes credentials, collects garbage,
# empties namespaces, adds up ClusterRoles, turns a Deployment into (pending) pods and tells a
# PodDisruptionBudget where it stands.
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "disruption-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "validatingadmissionpolicy-status-controller",
)


class Controlplane(Startable):
    """A Kubernetes API with TLS, RBAC and the controllers that need no node.

    With `folder` its data, address and credentials outlive it and are used again by the next one
    started there, when `keep_data` is set; otherwise everything is deleted when it stops.
    """

    def __init__(self, folder: Path | None = None, *, keep_data: bool = False) -> None:
        self._given_folder = folder
        self._keep_data = keep_data
        self._processes: list[Process] = []
        self._claim: TextIO | None = None
        self.restarts: list[float] = []
        """When the API server was started again. It refuses much until it has read what is allowed.
        """

    folder: Path
    """Where its data, logs and credentials are, from `start` on."""
    url: str
    token: str
    """A bearer token of the group system:masters."""
    kubectl: Kubectl

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def ca(self) -> Path:
        """The certificate that clients verify the server by."""
        return self.folder / "ca.crt"

    def start(self) -> Self:
        programs = build()
        self.folder = self._given_folder or Path(tempfile.mkdtemp(prefix="auterity-controlplane-"))
        self._claim_folder()
        self._prepare()
        self.kubectl = Kubectl(programs / "kubectl", self.kubeconfig)
        etcd_url = f"http://{HOST}:{free_port()}"
        self._etcd = Process(self._etcd_args(programs, etcd_url), log=self.folder / "etcd.log")
        self._apiserver = Process(
            self._apiserver_args(programs, etcd_url), log=self.folder / "kube-apiserver.log"
        )
        self._controllers = Process(
            self._controllers_args(programs), log=self.folder / "kube-controller-manager.log"
        )
        self._processes = [self._etcd, self._apiserver, self._controllers]
        try:
            self._etcd.start()
            self._apiserver.start()
            self._wait_for_apiserver()
            self._controllers.start()
            self._controllers.wait_until(self._serves_accounts)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.stop()
        self._processes = []
        if self._claim is None:
            return
        if not self._keep_data:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._claim.close()
        self._claim = None

    def restart_apiserver(self) -> None:
        """Stop the API server and start it again on the same port and data."""
        # Its graceful end would wait for every open watch.
        self._apiserver.stop(seconds=1)
        self.restarts.append(time.time())
        self._apiserver.start()
        self._wait_for_apiserver()

    def wait(self) -> None:
        """Return when one of the processes has ended."""
        while not any(process.ended_within(0.5) for process in self._processes):
            pass

    def answers(self, path: str) -> bool:
        """Tell whether the API server answers a GET by its administrator with success."""
        return answers(
            f"{self.url}{path}", {"Authorization": f"Bearer {self.token}"}, tls=self._tls
        )

    def _wait_for_apiserver(self) -> None:
        self._apiserver.wait_until(lambda: self.answers("/readyz"))

    def _serves_accounts(self) -> bool:
        # The last thing a fresh cluster gets, and what `kubectl create token` and pods start from.
        return self.answers("/api/v1/namespaces/default/serviceaccounts/default")

    def _claim_folder(self) -> None:
        """Make the folder ours alone: it will be deleted, so it must not be anyone else's."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = self.folder / "controlplane.lock"
        if not mark.exists() and any(self.folder.iterdir()):
            raise FileExistsError(f"{self.folder} holds something else than a control plane")
        claim = mark.open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            claim.close()
            raise FileExistsError(f"a control plane is running in {self.folder}") from None
        self._claim = claim

    def _prepare(self) -> None:
        """Lay down credentials and address, or take over those that are there."""
        if self.kubeconfig.exists():
            config = json.loads(self.kubeconfig.read_text())
            self.url = config["clusters"][0]["cluster"]["server"]
            self.token = config["users"][0]["user"]["token"]
        else:
            self._issue()
        self._tls = ssl.create_default_context(cafile=str(self.ca))

    def _issue(self) -> None:
        self.url = f"https://{HOST}:{free_port()}"
        self.token = secrets.token_urlsafe(32)
        self._write("tokens.csv", f"{self.token},admin,admin,system:masters\n".encode())
        authority = trustme.CA(organization_name="auterity")
        server = authority.issue_cert(HOST, "localhost", "kubernetes.default.svc")
        authority.cert_pem.write_to_path(self.ca)
        self._write("server.crt", b"".join(blob.bytes() for blob in server.cert_chain_pems))
        self._write("server.key", server.private_key_pem.bytes())
        accounts = authority.issue_cert("serviceaccounts", key_type=trustme.KeyType.RSA)
        self._write("serviceaccounts.key", accounts.private_key_pem.bytes())
        # JSON is YAML; written last, because it says that the rest is there.
        self._write("kubeconfig", json.dumps(self._kubeconfig(), indent=2).encode())

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)

    def _kubeconfig(self) -> dict[str, object]:
        authority = b64encode(self.ca.read_bytes()).decode()
        cluster = {"server": self.url, "certificate-authority-data": authority}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "auterity", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": self.token}}],
            "contexts": [{"name": "auterity", "context": {"cluster": "auterity", "user": "admin"}}],
            "current-context": "auterity",
        }

    def _etcd_args(self, programs: Path, url: str) -> list[str]:
        return [
            str(programs / "etcd"),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            # One member has no peers, yet it insists on an address for them.
            f"--listen-peer-urls=http://{HOST}:0",
            # A crash of the machine may lose the data: it is a test's.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver_args(self, programs: Path, etcd_url: str) -> list[str]:
        key = self.folder / "serviceaccounts.key"
        return [
            str(programs / "kube-apiserver"),
            f"--etcd-servers={etcd_url}",
            f"--bind-address={HOST}",
            f"--secure-port={self.url.rpartition(':')[2]}",
            f"--tls-cert-file={self.folder / 'server.crt'}",
            f"--tls-private-key-file={self.folder / 'server.key'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-account-issuer={self.url}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
        ]

    def _controllers_args(self, programs: Path) -> list[str]:
        return [
            str(programs / "kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--service-account-private-key-file={self.folder / 'serviceaccounts.key'}",
            f"--root-ca-file={self.ca}",
            "--leader-elect=false",
            # The default of 20 a second makes a namespace with hundreds of objects die slowly.
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            "--secure-port=0",
        ]
