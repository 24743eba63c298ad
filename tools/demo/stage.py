"""What the demo plays on: control plane, vendors and the operator, all on loopback."""

import json
import os
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.conformance.vendor import merged
from tools import progress
from tools.controlplane import Controlplane
from tools.controlplane.kubectl import Kubectl, KubectlError
from tools.loopback import answers, free_port
from tools.process import Process
from tools.samples import every, parts
from tools.servers.alertmanager import SWALLOW_ALL, Alertmanager
from tools.servers.moto import Moto
from tools.servers.postgres import Postgres

ROOT = Path(__file__).resolve().parent.parent.parent
SYSTEM = "auterity-system"
CONFIG = ("monitoring", "alertmanager-config", "alertmanager.yaml")
JSON = dict[str, Any]


class Stage:
    """Everything that runs; each part is stopped in the reverse order of its start."""

    controlplane: Controlplane
    kubectl: Kubectl
    moto: Moto
    postgres: Postgres
    alertmanager: Alertmanager
    github: JSON
    """Address and credentials of the stand-in for GitHub."""
    hugging_face: JSON
    """The same of that for Hugging Face."""
    operator: Process

    def local(self, vendor: str) -> tuple[JSON, dict[str, dict[str, str]]]:
        """What a sample's Connection and Secrets need to reach the server on this machine."""
        aws = {"aws": {"endpoint": self.moto.url, "region": "eu-west-1"}}
        keys = {"aws": {"accessKeyId": "demo", "secretAccessKey": "demo-secret-key"}}
        match vendor:
            case "sageMaker" | "cognito":
                return aws, keys
            case "pgvector":
                where = {"host": "127.0.0.1", "port": self.postgres.port, "sslMode": "disable"}
                account = {"user": self.postgres.user, "database": "postgres"}
                return (
                    {"postgresql": {**where, **account, "caCertificate": None}},
                    {"postgresql": {"password": self.postgres.password}},
                )
            case "githubActions":
                return self.github["connection"], self.github["secrets"]
            case "alertmanager":
                return {"alertmanager": {"endpoint": self.alertmanager.url}}, {}
            case _:
                raise LookupError(vendor)

    def sample(self, path: str) -> list[JSON]:
        """A sample's documents, with the addresses and credentials of this machine."""
        documents: list[JSON] = list(yaml.safe_load_all((ROOT / "samples" / path).read_text()))
        spec, secrets = self.local(Path(path).stem)
        for document in documents:
            name = document["metadata"]["name"]
            if document["kind"] == "Connection":
                document["spec"] = merged(document["spec"], spec)
            elif document["kind"] == "Secret":
                fitting = secrets.get(name) or (
                    next(iter(secrets.values())) if len(secrets) == 1 else {}
                )
                document["stringData"] |= {
                    k: v for k, v in fitting.items() if k in document["stringData"]
                }
        return documents

    def apply(self, *documents: JSON) -> str:
        """`kubectl apply`; what it prints."""
        return self.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(documents))


def use_case(folder: str, local: JSON, secrets: dict[tuple[str, str], str]) -> list[JSON]:
    """A use case's manifests, with the addresses and credentials of this machine.

    `local` has what a connection's block gets by vendor, `secrets` values by Secret and key.
    """
    paths = every(ROOT / "samples/use-cases" / folder)
    found = [document for path in paths for _, document in parts(path.read_text())]
    for document in found:
        if document["kind"] in ("Connection", "ClusterConnection"):
            block = document["spec"]
            vendor = next(name for name in local if name in block)
            document["spec"] = merged(block, {vendor: local[vendor]})
        elif document["kind"] == "Secret":
            name = document["metadata"]["name"]
            data = document["stringData"]
            document["stringData"] = {k: secrets.get((name, k), v) for k, v in data.items()}
    return found


@contextmanager
def stage() -> Iterator[Stage]:
    """Start everything; stop everything."""
    it = Stage()
    with ExitStack() as stack:
        with progress.step("control plane: etcd, kube-apiserver, controllers"):
            it.controlplane = stack.enter_context(Controlplane())
        it.kubectl = it.controlplane.kubectl
        for name, cls in (("moto", Moto), ("postgres", Postgres), ("alertmanager", Alertmanager)):
            with progress.step(f"vendor: {name}"):
                setattr(it, name, stack.enter_context(cls()))
        _shop(it.postgres)
        with progress.step("vendors: stand-ins for GitHub, held to its API, and Hugging Face"):
            it.github, it.hugging_face = _played(stack, "github_actions", "huggingface")
        with progress.step("CRDs, ServiceAccount and rights of the chart"):
            kubeconfig = _install(it)
        with progress.step("operator"):
            it.operator = _operator(stack, kubeconfig)
        _mount(stack, it)
        yield it


def _played(stack: ExitStack, *names: str) -> list[JSON]:
    """Start stand-ins in tests/fakes; where each is, and its credentials."""
    servers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.serve", name],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
        )
        for name in names
    ]
    for server in servers:
        # Closes its output and waits for its end, after it was told to.
        stack.enter_context(server)
        stack.callback(server.terminate)
    return [json.loads(server.stdout.readline() if server.stdout else "") for server in servers]


def _shop(server: Postgres) -> None:
    """The table that the sample's second index is for: the shop's own, not the operator's."""
    where = f"host=127.0.0.1 port={server.port} user={server.user} dbname=postgres"
    with psycopg.connect(where, password=server.password, autocommit=True) as database:
        database.execute("CREATE EXTENSION vector")
        database.execute("CREATE SCHEMA shop")
        database.execute("CREATE TABLE shop.products (id bigint, picture halfvec(512))")


def _install(it: Stage) -> Path:
    """Install what the chart installs, and log in as its ServiceAccount and nothing more."""
    crds = [str(path) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    it.kubectl("apply", "--server-side", *(part for path in crds for part in ("-f", path)))
    it.kubectl("wait", "--for=condition=Established", "crd", "--all")
    for namespace in (SYSTEM, CONFIG[0]):
        it.kubectl("create", "namespace", namespace)
    it.kubectl("create", "serviceaccount", "auterity", "-n", SYSTEM)
    rules = yaml.safe_load((ROOT / "charts/auterity/files/rules.yaml").read_text())
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "auterity"},
        "rules": [rule for part in rules.values() for rule in part],
    }
    it.apply(role)
    account = f"--serviceaccount={SYSTEM}:auterity"
    it.kubectl("create", "clusterrolebinding", "auterity", "--clusterrole=auterity", account)
    token = it.kubectl("create", "token", "auterity", "-n", SYSTEM).strip()
    it.apply(_secret(*CONFIG, SWALLOW_ALL))
    config = yaml.safe_load(it.controlplane.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = it.controlplane.folder / "operator.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


def _operator(stack: ExitStack, kubeconfig: Path) -> Process:
    address = f"127.0.0.1:{free_port()}"
    options = ["--allow-insecure-endpoints", "--listen", address, "--lease-namespace", SYSTEM]
    operator = Process(
        [sys.executable, "-m", "auterity", "run", *options],
        log=kubeconfig.with_name("operator.log"),
        env={"KUBECONFIG": str(kubeconfig)},
    )
    operator.start()
    stack.callback(operator.stop)
    operator.wait_until(lambda: answers(f"http://{address}/readyz"))
    return operator


def _mount(stack: ExitStack, it: Stage) -> None:
    """Copy Alertmanager's Secret into its file, as the kubelet does with a mounted Secret."""
    done = threading.Event()

    def copy() -> None:
        namespace, name, key = CONFIG
        last = ""
        while not done.wait(0.5):
            try:
                raw = json.loads(it.kubectl("get", "secret", name, "-n", namespace, "-o", "json"))
            except KubectlError:
                continue
            text = b64decode(raw["data"][key]).decode()
            if text != last:
                it.alertmanager.config_file.write_text(text)
                last = text

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(done.set)


def _secret(namespace: str, name: str, key: str, value: str) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {key: value},
    }


def until(what: str, reached: Any, seconds: float = 60) -> None:
    """Wait until `reached()` is true. Raises TimeoutError that says what was waited for."""
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.3)
