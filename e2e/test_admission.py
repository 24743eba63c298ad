"""The webhook on a real API server: what it refuses, warns of, and never holds up."""

import base64
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from auterity.api import API_VERSION
from e2e.conftest import SYSTEM, Cluster, Installation
from e2e.operator_process import OperatorProcess
from e2e.team import PATIENCE, Team
from e2e.vendors import Account, Vendors
from tools import helm
from tools.controlplane import KubectlError, Source
from tools.generate import ROOT
from tools.loopback import HOST, free_port

NAME = "guarded-auterity"
UNLIMITED = {"perSecond": 10000, "burst": 10000, "concurrent": 50}
VISITS = "auterity_visits_total"


@dataclass
class Guard:
    """Two replicas behind one configuration: writes are asked of the first, deletions of both."""

    cluster: Cluster
    replicas: list[OperatorProcess]
    ports: list[int]

    def configuration(self) -> dict:
        raw = self.cluster.kubectl("get", "validatingwebhookconfiguration", NAME, "--output=json")
        return json.loads(raw)

    def bundle(self) -> str:
        (bundle,) = {
            one["clientConfig"].get("caBundle") for one in self.configuration()["webhooks"]
        }
        return base64.b64decode(bundle or "").decode()

    def said(self, *args: str, document: dict | None = None) -> tuple[list[str], str]:
        """What a user reads of a kubectl command: its warnings, and its refusal if there is one."""
        kubectl = self.cluster.kubectl
        done = subprocess.run(
            [kubectl.program, f"--kubeconfig={kubectl.kubeconfig}", *args],
            input=None if document is None else json.dumps(document),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = done.stderr.splitlines()
        warnings = [
            line.removeprefix("Warning: ") for line in lines if line.startswith("Warning: ")
        ]
        return warnings, done.stderr if done.returncode else ""

    def applied(self, team: Team, name: str, spec: dict, kind: str = "VectorIndex") -> list[str]:
        """The warnings of an apply that is not refused."""
        warnings, refusal = self.tried(team, name, spec, kind)
        assert not refusal
        return warnings

    def tried(
        self, team: Team, name: str, spec: dict, kind: str = "VectorIndex", *more: str
    ) -> tuple[list[str], str]:
        document = team.document(name, spec, kind)
        told = self.said("apply", "--filename=-", *more, document=document)
        if not told[1] and not more:
            team.made.append((kind, "" if kind == "ClusterConnection" else team.namespace, name))
        return told

    def until_told(self, told: list[str], *args: str, document: dict | None = None) -> None:
        """Wait until a dry run is warned of this: replicas learn a moment later what there is."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.said(*args, "--dry-run=server", document=document)) != (told, ""):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)

    def until_applied(self, team: Team, name: str, spec: dict, told: list[str]) -> None:
        """Apply what this is told of, by a replica that knows by now what there is."""
        document = team.document(name, spec)
        self.until_told(told, "apply", "--filename=-", document=document)
        assert self.applied(team, name, spec) == told

    def until_asked(self) -> None:
        """An API server takes a moment to ask a new webhook, or one with another certificate."""
        document = {
            "apiVersion": API_VERSION,
            "kind": "Connection",
            "metadata": {"name": "probe", "namespace": "default"},
            "spec": {
                "numbered": {
                    "endpoint": "http://127.0.0.1",
                    "token": {"secretKeyRef": {"name": "a", "key": "a"}},
                }
            },
        }
        deadline = time.monotonic() + PATIENCE
        while not self.said("create", "--dry-run=server", "-f", "-", document=document)[0]:
            assert time.monotonic() < deadline, "the webhook is not asked"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def guard(cluster: Cluster, installation: Installation, api) -> Iterator[Guard]:
    if cluster.source is not Source.EMBEDDED:
        pytest.skip("the API server of this cluster cannot call this machine")
    ports = [free_port(), free_port()]
    account = installation.rights(NAME)
    documents = [d for d in yaml.safe_load_all(rendered()) if d and d["kind"] != "Service"]
    (configuration,) = [d for d in documents if d["kind"] == "ValidatingWebhookConfiguration"]
    for webhook, port in zip(configuration["webhooks"], ports, strict=True):
        assert webhook["clientConfig"].pop("service")["name"] == f"{NAME}-admission"
        webhook["clientConfig"]["url"] = f"https://{HOST}:{port}/"
    text = yaml.safe_dump_all(documents)
    replicas = [
        installation.operator(
            f"guard-{number}",
            account,
            f"--admission={NAME}",
            f"--admission-listen={HOST}:{port}",
        )
        for number, port in enumerate(ports)
    ]
    cluster.kubectl("apply", "--server-side", "-f", "-", input=text)
    try:
        # Together: the Secret is made by one of them.
        for replica in replicas:
            replica.start()
        for replica in replicas:
            replica.wait_until_ready()
        found = Guard(cluster, replicas, ports)
        found.until_asked()
        yield found
    finally:
        cluster.kubectl("delete", "-f", "-", "--ignore-not-found", input=text)
        for replica in replicas:
            replica.kill()


def rendered() -> str:
    done = subprocess.run(
        [
            *(str(helm.build()), "template", NAME, str(ROOT / "charts/auterity")),
            *(f"--namespace={SYSTEM}", "--set=admission.enabled=true"),
            "--show-only=templates/admission.yaml",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture
def team(guard: Guard, new_team) -> Team:
    return new_team()


@pytest.fixture
def account(vendors: Vendors) -> Account:
    return vendors.open()


def test_both_replicas_serve_with_the_one_certificate_that_is_trusted(guard: Guard):
    trusting = ssl.create_default_context(cadata=guard.bundle())
    assert "BEGIN CERTIFICATE" in guard.bundle()
    for port in guard.ports:
        with (
            socket.create_connection((HOST, port)) as plain,
            trusting.wrap_socket(plain, server_hostname=HOST) as secured,
        ):
            assert secured.getpeercert()
    kubectl = guard.cluster.kubectl
    raw = kubectl("get", "secret", f"{NAME}-admission", f"--namespace={SYSTEM}", "--output=json")
    data = json.loads(raw)["data"]
    assert base64.b64decode(data["ca.crt"]).decode() == guard.bundle()
    key = base64.b64decode(data["tls.key"]).decode().splitlines()[1]
    for replica in guard.replicas:
        told = replica.log.read_text()
        assert "PRIVATE KEY" not in told
        assert key not in told


def test_what_cannot_work_is_refused_by_the_fields_name(
    guard: Guard, account: Account, vendors: Vendors, team: Team
):
    team.connect(account)
    other = vendors.open("numbered")
    team.create("other", other.block(), kind="Connection")
    shared = {
        **account.block(),
        "secretNamespace": team.namespace,
        "allowedNamespaces": ["nobody-*"],
    }
    name = f"shared-{team.namespace}"
    team.create(name, shared, kind="ClusterConnection")

    def refused(**changes: Any) -> str:
        # The replica that is asked learns a moment later what there is.
        deadline = time.monotonic() + PATIENCE
        dry = ("VectorIndex", "--dry-run=server")
        while not (told := guard.tried(team, "docs", team.spec(**changes), *dry))[1]:
            assert time.monotonic() < deadline, told
            time.sleep(0.2)
        warnings, refusal = guard.tried(team, "docs", team.spec(**changes))
        assert refusal, warnings
        before = 'admission webhook "write.integrations.auterity.io" denied the request: '
        assert before in refusal
        return refusal.split(before)[1].strip()

    assert refused(connectionRef={"name": "other"}) == (
        "spec.connectionRef: Connection 'other' is a connection to numbered; "
        "example needs one to example"
    )
    assert refused(connectionRef={"kind": "ClusterConnection", "name": name}) == (
        f"spec.connectionRef: ClusterConnection '{name}' may not be used from namespace "
        f"'{team.namespace}': it is not in its spec.allowedNamespaces"
    )
    assert refused(dependsOn=[{"kind": "Nonesuch", "name": "a"}]).startswith(
        "spec.dependsOn[0]: there is no kind of integration called 'Nonesuch'; known: AlertRoute, "
    )
    assert refused(dependsOn=[{"kind": "VectorIndex", "name": "docs"}]) == (
        "spec.dependsOn[0]: an object cannot wait for itself"
    )
    assert refused(createOnly=["nonesuch"]) == (
        "spec.createOnly: nonesuch is no field of this kind"
    )
    spec = team.spec(externalName="Up_per")
    spec["pinecone"] = {"cloud": "aws", "region": "us-east-1"}
    del spec["example"]
    spec["connectionRef"] = {"name": "later"}
    _, refusal = guard.tried(team, "docs", spec)
    assert (
        "spec.externalName: Pinecone takes 1 to 45 lower-case letters, digits and inner hyphens"
        in refusal
    )
    assert team.find("docs") is None


def test_what_is_risky_is_warned_of(guard: Guard, account: Account, team: Team):
    team.connect(account)
    careful = {"deletionPolicy": "Retain"}
    guard.until_applied(team, "plain", team.spec(**careful), [])
    assert guard.applied(team, "plain", team.spec(**careful, interval="5m")) == []
    assert guard.applied(team, "early", team.spec(**careful, connectionRef={"name": "later"})) == [
        "spec.connectionRef: Connection 'later' does not exist yet"
    ]
    assert guard.applied(team, "plain", team.spec(driftPolicy="Report", ttl="999h")) == [
        "spec.deletionPolicy: Delete deletes the data at example with this object",
        (
            "spec.ttl: the data at example is deleted 999h after creation, whatever deletionPolicy "
            "says"
        ),
        (
            "spec.driftPolicy: Report leaves changes made at the vendor as they are, with "
            "Ready=True; watch status.drift"
        ),
    ]
    assert guard.applied(team, "plain", team.spec(driftPolicy="Report", ttl="998h"))[0].startswith(
        "spec.ttl: the data at example is deleted 998h after creation"
    )
    claimed = (
        "spec.externalName: 'plain' at example is claimed by VectorIndex "
        f"{team.namespace}/plain: only one of them can have it"
    )
    guard.until_applied(team, "twin", team.spec(**careful, externalName="plain"), [claimed])
    waits: Any = {"dependsOn": [{"kind": "VectorIndex", "name": "nobody"}], **careful}
    assert guard.applied(team, "waits", team.spec(**waits)) == [
        "spec.dependsOn[0]: there is no VectorIndex 'nobody' yet"
    ]
    shared = {**account.block(), "secretNamespace": team.namespace, "allowedNamespaces": ["*"]}
    assert guard.applied(team, f"open-{team.namespace}", shared, "ClusterConnection") == [
        "spec.allowedNamespaces: * lets every namespace of the cluster use these credentials",
        "spec.example.endpoint: http sends credentials and data unencrypted; use https",
    ]


def test_deletions_are_warned_of_by_the_other_replica(guard: Guard, account: Account, team: Team):
    team.connect(account)
    team.index("docs")
    team.until_ready("docs")
    namespace = f"--namespace={team.namespace}"
    kept = [
        (
            "Connection 'vendor' is kept until nothing uses it any more: "
            f"VectorIndex {team.namespace}/docs"
        )
    ]
    delete_connection = ("delete", "connection", "vendor", "--wait=false", namespace)
    guard.until_told(kept, *delete_connection)
    assert guard.said(*delete_connection) == (kept, "")
    warned = ["spec.deletionPolicy: Delete deletes docs and its data at example"]
    assert guard.said("delete", "vectorindex", "docs", "--wait=false", namespace) == (warned, "")
    team.until_gone("docs")
    team.until_gone("vendor", "Connection")


def test_status_finalizers_and_old_mistakes_are_held_up_by_nothing(
    guard: Guard, vendors: Vendors, team: Team
):
    guard.applied(team, "docs", team.spec(connectionRef={"name": "later"}))
    team.until_reason("docs", "DependencyNotReady", words="does not exist")
    # Only now it is wrong.
    other = vendors.open("numbered")
    team.secret("vendor", token=other.token)
    team.create("later", other.block(), kind="Connection")
    team.until_ready("later", "Connection")
    team.until(
        "docs",
        lambda o: "does not exist" not in json.dumps(o["status"]["conditions"]),
    )
    team.annotate("docs", requestedAt="now")
    team.until("docs", lambda o: o["status"].get("lastHandledReconcileAt") == "now")
    wrong = (
        "spec.connectionRef: Connection 'later' is a connection to numbered; "
        "example needs one to example"
    )
    edit = team.spec(connectionRef={"name": "later"}, suspend=True)
    guard.until_applied(team, "docs", edit, [wrong])
    team.until_reason("docs", "Suspended")
    # First: what may have been made is not found at the wrong vendor, and then it is gone at once.
    team.annotate("docs", forget="true")
    team.delete("docs")
    team.until_gone("docs")


def test_at_rest_nothing_is_written(guard: Guard, account: Account, team: Team, figure):
    team.connect(account, direct=True, rateLimit=UNLIMITED)
    for number in range(10):
        team.index(f"index-{number}", interval="1s")
    for number in range(10):
        team.until_ready(f"index-{number}")

    def counted(metric: str) -> float:
        return sum(replica.metric(metric) for replica in guard.replicas)

    def writes() -> float:
        return sum(replica.writes() for replica in guard.replicas)

    def until_visited(times: int) -> None:
        since = counted(VISITS)
        team.until("index-0", lambda _: counted(VISITS) >= since + 10 * times)

    # An Event comes after the status that it is about.
    until_visited(2)
    before, begun = writes(), time.monotonic()
    until_visited(6)
    assert writes() == before
    seconds = time.monotonic() - begun
    sizes = ", ".join(f"{replica.resident_mib:.0f}" for replica in guard.replicas)
    figure(f"0 writes in {seconds:.0f} s; {sizes} MiB resident with admission on")


def test_an_answer_is_quick(guard: Guard, account: Account, team: Team, figure):
    team.connect(account)
    took = []
    for number in range(30):
        start = time.monotonic()
        team.api.create(
            "VectorIndex",
            team.namespace,
            {"metadata": {"name": f"index-{number}"}, "spec": team.spec(suspend=True)},
        )
        took.append(time.monotonic() - start)
        team.made.append(("VectorIndex", team.namespace, f"index-{number}"))
    took.sort()
    figure(f"creation with admission: median {took[15] * 1000:.0f} ms, worst {took[-1] * 1000:.0f}")
    assert took[15] < 1


def test_where_no_operator_answers_the_policy_decides(guard: Guard, team: Team, figure):
    """Last of all: it kills both replicas."""
    wrong = team.spec(createOnly=["nonesuch"])
    assert guard.tried(team, "docs", wrong)[1]
    guard.applied(team, "kept", team.spec(suspend=True))
    for replica in guard.replicas:
        replica.kill()
    start = time.monotonic()
    assert guard.tried(team, "docs", wrong) == ([], ""), "Ignore: it is let through"
    figure(f"without an operator a write takes {time.monotonic() - start:.1f} s")

    fail = json.dumps([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}])
    where = ("validatingwebhookconfiguration", NAME)
    guard.cluster.kubectl("patch", *where, "--type=json", f"--patch={fail}")
    deadline = time.monotonic() + PATIENCE
    # Nothing is made: what is there already as it is applied would not be sent again.
    dry = ("VectorIndex", "--dry-run=server")
    while not (refusal := guard.tried(team, "more", wrong, *dry)[1]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert 'failed calling webhook "write.integrations.auterity.io"' in refusal
    namespace = f"--namespace={team.namespace}"
    assert guard.said("annotate", "vectorindex", "kept", "a=b", namespace) == ([], "")
    status = ("patch", "vectorindex", "kept", "--subresource=status", "--type=merge", namespace)
    assert guard.said(*status, '--patch={"status": {"url": "https://x"}}') == ([], "")
    assert guard.said("delete", "vectorindex", "docs", "--wait=false", namespace)[1] == ""
    with pytest.raises(KubectlError, match="failed calling webhook"):
        team.apply("kept", team.spec(suspend=True, interval="7m"))
