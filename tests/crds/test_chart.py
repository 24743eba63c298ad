"""The chart renders with Helm itself, and what it renders runs under the restricted standard."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from auterity.api import GROUP
from auterity.cli.main import app
from auterity.cli.run import run as run_operator
from auterity.engine.prices import Prices, read
from auterity.runtime.admission import served_names
from tests.contract.openapi import specs_folder, specs_missing
from tests.crds.conftest import JSON, Api
from tools import cache, helm
from tools.controlplane import KubectlError
from tools.generate import ROOT

CHART = ROOT / "charts" / "auterity"
SERVES_POLICIES = "--api-versions=admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
LONG = "a-release-with-a-name-that-is-as-long-as-helm-allows1"
MONITORING = "monitoring.coreos.com/v1"
# The CRDs are half a megabyte, which the loader in Python takes ten times as long to read.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# The first call on a machine builds Helm.
pytestmark = pytest.mark.timeout(1200)

EVERYTHING_OFF: JSON = {
    "replicaCount": 1,
    "crds": {"enabled": False},
    "serviceAccount": {"create": False, "name": "given"},
    "rbac": {"create": False, "aggregate": False},
    "podDisruptionBudget": {"enabled": False},
    "podSecurityContext": None,
    "securityContext": None,
    "resources": None,
    "metrics": {"podAnnotations": False},
}
EVERYTHING_ON: JSON = {
    "replicaCount": 16,
    "image": {
        "registry": "mirror.example.org",
        "repository": "team/auterity",
        "digest": f"sha256:{'0' * 64}",
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "mirror"}],
    "commonLabels": {"cost-centre": "platform"},
    "watchNamespaces": ["team-a", "team-b"],
    "kinds": {"disabled": ["ModelDeployment", "AlertRoute"]},
    "clusterName": "prod",
    "lendIdentity": True,
    "prices": {
        "sageMaker": {
            "as_of": "2026-12-01",
            "source": "our contract",
            "items": {"ml.m5.large": 0.09},
            "regions": {"eu-west-1": {"ml.m5.large": 0}},
        }
    },
    "logFormat": "console",
    "logLevel": "debug",
    "extraArgs": ["--workers=50"],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"}],
    "extraEnvFrom": [{"configMapRef": {"name": "proxy"}}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/own", "readOnly": True}],
    "finalizerAtAdmission": True,
    "admission": {"enabled": True, "failurePolicy": "Fail", "timeoutSeconds": 3},
    "serviceAccount": {"annotations": {"note": "ours"}},
    "workloadIdentity": {
        "aws": {"roleArn": "arn:aws:iam::123456789012:role/auterity"},
        "google": {"serviceAccount": "auterity@project.iam.gserviceaccount.com"},
        "azure": {"clientId": "11111111-1111-1111-1111-111111111111", "tenantId": "ours"},
    },
    "deploymentAnnotations": {"reloader": "yes"},
    "podAnnotations": {"sidecar": "no"},
    "podLabels": {"team": "platform"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "Exists"}]}
                ]
            }
        }
    },
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "priorityClassName": "system-cluster-critical",
    "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    "podDisruptionBudget": {"maxUnavailable": "25%"},
    "networkPolicy": {
        "enabled": True,
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
        "apiServerCidrs": ["10.0.0.1/32"],
        "vendorPorts": [443, 5432],
        "extraIngress": [{"ports": [{"port": 9000}]}],
        "extraEgress": [{"ports": [{"port": 9001}]}],
    },
    "metrics": {
        "service": {"labels": {"of": "metrics"}, "annotations": {"note": "ours"}},
        "serviceMonitor": {
            "enabled": True,
            "namespace": "monitoring",
            "labels": {"release": "prometheus"},
            "scrapeTimeout": "10s",
            "relabelings": [{"targetLabel": "cluster", "replacement": "prod"}],
            "metricRelabelings": [{"action": "labeldrop", "regex": "pod"}],
        },
        "prometheusRule": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "alertLabels": {"team": "platform"},
            "disabled": ["AuterityApprovalWaits"],
            "extraRules": [{"alert": "Ours", "expr": "auterity_replicas < 2"}],
        },
        "dashboard": {"enabled": True, "annotations": {"folder": "Platform"}},
    },
}
MATRIX: dict[str, JSON] = {
    "as it comes": {},
    "everything off": EVERYTHING_OFF,
    "everything on": EVERYTHING_ON,
    "a long name": {**EVERYTHING_ON, "fullnameOverride": "x" * 63, "nameOverride": "y" * 63},
    "CRDs that go with it": {"crds": {"keep": False}},
}


@pytest.fixture(scope="module")
def program() -> Path:
    try:
        return helm.build()
    except cache.InstallError as reason:
        pytest.skip(f"no Helm on this machine: {reason}")


def run(program: Path, *args: str, values: JSON | None = None) -> str:
    given = ["--values=-"] if values is not None else []
    done = subprocess.run(
        [program, *args, *given],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return done.stdout


def rendered(
    program: Path, *args: str, release: str = "ours", values: JSON | None = None
) -> list[JSON]:
    args = ("template", release, str(CHART), "--namespace=ops", *args)
    text = run(program, *args, values=values)
    return [document for document in yaml.load_all(text, Loader=LOADER) if document]


def of_kind(documents: list[JSON], kind: str) -> list[JSON]:
    return [document for document in documents if document["kind"] == kind]


def named(documents: list[JSON], kind: str, name: str) -> JSON:
    (found,) = [d for d in of_kind(documents, kind) if d["metadata"]["name"] == name]
    return found


def pod_of(documents: list[JSON]) -> JSON:
    (deployment,) = of_kind(documents, "Deployment")
    pod: JSON = deployment["spec"]["template"]
    return pod


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_helm_finds_no_fault(program: Path, values: JSON) -> None:
    assert "0 chart(s) failed" in run(program, "lint", "--strict", str(CHART), values=values)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
@pytest.mark.parametrize("release", ["ours", LONG])
def test_everything_has_a_valid_name_of_its_own(program: Path, values: JSON, release: str) -> None:
    documents = rendered(program, SERVES_POLICIES, release=release, values=values)
    seen = [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in documents]
    assert len(seen) == len(set(seen))
    for document in documents:
        metadata = document["metadata"]
        subdomain = document["kind"].startswith(("Custom", "Mutating"))
        assert len(metadata["name"]) <= (253 if subdomain else 63)
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", metadata["name"])
        assert metadata["labels"]["app.kubernetes.io/part-of"] == "auterity"
        for value in metadata["labels"].values():
            assert re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", value)
            assert len(value) <= 63


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_the_api_server_would_take_everything(program: Path, api: Api, values: JSON) -> None:
    for namespace in ("ops", "team-a", "team-b"):
        api.kubectl(
            "apply",
            "-f",
            "-",
            input=f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}",
        )
    documents = [
        document
        for document in rendered(program, SERVES_POLICIES, values=values)
        # Of the Prometheus operator, which is held against its own schema below.
        if document["apiVersion"] != MONITORING
        # Those of the other tests are there, with more vendors.
        and document["kind"] != "CustomResourceDefinition"
    ]
    text = yaml.safe_dump_all(documents)
    told = api.kubectl(
        *("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"), input=text
    )
    assert told.count("serverside-applied (server dry run)") == len(documents)


def test_crds_are_installed_as_they_are_and_outlive_the_release(program: Path) -> None:
    found = of_kind(rendered(program), "CustomResourceDefinition")
    assert {crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in found} == {"keep"}

    plain = of_kind(rendered(program, "--set=crds.keep=false"), "CustomResourceDefinition")
    committed = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    by_name = sorted(plain, key=lambda crd: crd["metadata"]["name"])
    assert by_name == sorted(committed, key=lambda crd: crd["metadata"]["name"])


def test_crds_can_be_left_out(program: Path) -> None:
    documents = rendered(program, "--set=crds.enabled=false")

    assert of_kind(documents, "CustomResourceDefinition") == []
    assert len(of_kind(documents, "Deployment")) == 1


def test_every_namespace_is_watched_unless_some_are_named(program: Path) -> None:
    everywhere = rendered(program)
    assert [b["metadata"]["name"] for b in of_kind(everywhere, "ClusterRoleBinding")] == [
        "ours-auterity-cluster",
        "ours-auterity",
    ]

    some = rendered(program, "--set=watchNamespaces={a,b}")
    # Its own namespace is where the replicas' Leases are.
    assert [b["metadata"]["namespace"] for b in of_kind(some, "RoleBinding")] == ["a", "b", "ops"]
    assert [b["metadata"]["name"] for b in of_kind(some, "ClusterRoleBinding")] == [
        "ours-auterity-cluster"
    ]
    (deployment,) = of_kind(some, "Deployment")
    assert arguments(deployment) == ["--namespace=a", "--namespace=b"]


def test_a_kind_that_is_switched_off_is_nowhere(program: Path) -> None:
    values = {
        "kinds": {"disabled": ["VectorIndex"]},
        "finalizerAtAdmission": True,
        "admission": {"enabled": True},
    }
    usual = rendered(program, SERVES_POLICIES, values={**values, "kinds": {"disabled": []}})
    without = rendered(program, SERVES_POLICIES, values=values)

    assert "vectorindexes" in yaml.safe_dump_all(usual)
    assert "vectorindexes" not in yaml.safe_dump_all(without)
    assert len(usual) == len(without) + 1
    (deployment,) = of_kind(without, "Deployment")
    assert "--without-kind=VectorIndex" in arguments(deployment)


@pytest.mark.parametrize("kind", ["Nonsense", "Connection", "ClusterConnection"])
def test_what_is_no_kind_of_integration_cannot_be_switched_off(program: Path, kind: str) -> None:
    with pytest.raises(ValueError, match=f"no kind of integration is called {kind}"):
        rendered(program, f"--set=kinds.disabled={{{kind}}}")


def test_several_replicas_roll_and_one_of_them_stays_through_maintenance(program: Path) -> None:
    usual = rendered(program)
    (deployment,) = of_kind(usual, "Deployment")
    assert deployment["spec"]["replicas"] > 1
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    spread = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
    selector = deployment["spec"]["selector"]
    assert [one["labelSelector"] for one in spread] == [selector, selector]
    assert of_kind(usual, "PodDisruptionBudget")
    # With one, a budget would keep every node from being drained.
    assert not of_kind(rendered(program, "--set=replicaCount=1"), "PodDisruptionBudget")
    with pytest.raises(ValueError, match="replicaCount"):
        rendered(program, "--set=replicaCount=0")


def arguments(deployment: JSON) -> list[str]:
    """What its container is started with, beside what is always the same."""
    args: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[:3] == ["run", "--log-format=json", "--log-level=info"]
    assert args[3] == "--replica-name=$(POD_NAME)"
    return args[4:]


def test_the_operator_understands_what_it_is_started_with(program: Path) -> None:
    container = pod_of(rendered(program, values=EVERYTHING_ON))["spec"]["containers"][0]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert environment["POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"

    command, bound, ignored = app.parse_args(container["args"])[:3]
    assert command is run_operator
    assert bound.arguments == {
        "namespace": ["team-a", "team-b"],
        "without_kind": ["ModelDeployment", "AlertRoute"],
        "cluster_name": "prod",
        "replica_name": "$(POD_NAME)",
        "lend_identity": True,
        "prices": [Path("/etc/auterity/prices.yaml")],
        "admission": "ours-auterity",
        "workers": 50,
        "log_format": "console",
        "log_level": "debug",
    }
    assert ignored == {}


def test_what_users_add_reaches_the_pod(program: Path) -> None:
    pod = pod_of(rendered(program, values=EVERYTHING_ON))
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert container["image"] == f"mirror.example.org/team/auterity@sha256:{'0' * 64}"
    assert spec["imagePullSecrets"] == [{"name": "mirror"}]
    assert pod["metadata"]["labels"].items() >= {
        ("cost-centre", "platform"),
        ("team", "platform"),
        ("azure.workload.identity/use", "true"),
    }
    # With a ServiceMonitor, annotations would have the pods scraped twice.
    assert pod["metadata"]["annotations"].keys() == {"sidecar", "checksum/prices"}
    assert container["env"][2:] == EVERYTHING_ON["extraEnv"]
    assert container["envFrom"] == EVERYTHING_ON["extraEnvFrom"]
    assert container["volumeMounts"][2:] == EVERYTHING_ON["extraVolumeMounts"]
    assert spec["volumes"][2:] == EVERYTHING_ON["extraVolumes"]
    for same in (
        *("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"),
        *("priorityClassName", "dnsConfig"),
    ):
        assert spec[same] == EVERYTHING_ON[same]


def configured(documents: list[JSON], what: str) -> list[JSON]:
    """The ConfigMaps of that name behind the release's."""
    found = of_kind(documents, "ConfigMap")
    return [one for one in found if one["metadata"]["name"].endswith(f"-{what}")]


def test_prices_reach_the_operator_in_a_file_that_it_can_read(
    program: Path, tmp_path: Path
) -> None:
    found = rendered(program, values=EVERYTHING_ON)
    (lists,) = configured(found, "prices")
    spec = pod_of(found)["spec"]
    (volume,) = (one for one in spec["volumes"] if one["name"] == "prices")
    (mount,) = (m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "prices")
    assert volume["configMap"]["name"] == lists["metadata"]["name"]
    (name,) = lists["data"]
    assert f"--prices={mount['mountPath']}/{name}" in spec["containers"][0]["args"]

    file = tmp_path / name
    file.write_text(lists["data"][name])
    prices = Prices(read(file))
    there = prices.find("sageMaker", "ml.m5.large", "eu-west-1")
    elsewhere = prices.find("sageMaker", "ml.m5.large", "us-east-1")
    assert there is not None
    assert elsewhere is not None
    assert (there.amount, elsewhere.amount) == (0, 0.09)
    assert configured(rendered(program), "prices") == []


def test_pods_get_an_identity_at_each_cloud(program: Path) -> None:
    (account,) = of_kind(rendered(program, values=EVERYTHING_ON), "ServiceAccount")
    identity = EVERYTHING_ON["workloadIdentity"]
    assert account["metadata"]["annotations"] == {
        "note": "ours",
        "eks.amazonaws.com/role-arn": identity["aws"]["roleArn"],
        "iam.gke.io/gcp-service-account": identity["google"]["serviceAccount"],
        "azure.workload.identity/client-id": identity["azure"]["clientId"],
        "azure.workload.identity/tenant-id": identity["azure"]["tenantId"],
    }
    (plain,) = of_kind(rendered(program), "ServiceAccount")
    assert "annotations" not in plain["metadata"]


def test_the_policy_is_installed_on_request_where_it_is_served(program: Path) -> None:
    kind, wanted = "MutatingAdmissionPolicy", "--set=finalizerAtAdmission=true"

    (policy,) = of_kind(rendered(program, wanted, SERVES_POLICIES), kind)
    assert "namespaceSelector" not in policy["spec"]["matchConstraints"]
    assert of_kind(rendered(program, wanted), kind) == []
    assert of_kind(rendered(program, SERVES_POLICIES), kind) == []


def test_the_policy_sets_finalizers_only_where_they_are_taken_off_again(program: Path) -> None:
    values = {"finalizerAtAdmission": True, "watchNamespaces": ["a", "b"]}
    documents = rendered(program, SERVES_POLICIES, values=values)
    (policy,) = of_kind(documents, "MutatingAdmissionPolicy")
    (selected,) = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert (selected["operator"], selected["values"]) == ("In", ["a", "b"])
    (binding,) = of_kind(documents, "MutatingAdmissionPolicyBinding")
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]


def test_the_admission_webhook_reaches_the_operator_and_never_holds_up_its_writes(
    program: Path,
) -> None:
    documents = rendered(program, values=EVERYTHING_ON)
    (configuration,) = of_kind(documents, "ValidatingWebhookConfiguration")
    service = named(documents, "Service", "ours-auterity-admission")

    assert served_names(configuration) == ["ours-auterity-admission.ops.svc"]
    ports = {port["name"]: port for port in pod_of(documents)["spec"]["containers"][0]["ports"]}
    assert ports[service["spec"]["ports"][0]["targetPort"]]["containerPort"] == 9443
    for webhook in configuration["webhooks"]:
        selected = webhook["namespaceSelector"]["matchExpressions"]
        assert ["team-a", "team-b"] in [
            one["values"] for one in selected if one["operator"] == "In"
        ]
        assert webhook["timeoutSeconds"] == 3
        for rule in webhook["rules"]:
            # Of status and finalizers there are subresources, or conditions that pass them over.
            assert not any("/" in resource for resource in rule["resources"])
    write, delete = configuration["webhooks"]
    assert (write["failurePolicy"], delete["failurePolicy"]) == ("Fail", "Ignore")
    role = named(documents, "ClusterRole", "ours-auterity-admission")
    assert role["rules"][0]["resourceNames"] == [configuration["metadata"]["name"]]
    rules = named(documents, "Role", "ours-auterity-admission")["rules"]
    names = [rule["resourceNames"] for rule in rules if "resourceNames" in rule]
    assert names == [[f"{configuration['metadata']['name']}-admission"]]


def test_people_get_rights_with_the_roles_they_have_anyway(program: Path, api: Api) -> None:
    documents = rendered(program)
    roles = [d for d in of_kind(documents, "ClusterRole") if "aggregate" in json.dumps(d)]
    assert len(roles) == 3
    api.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(roles))
    for role in ("view", "edit", "admin"):
        binding = f"{role}-er"
        api.kubectl("create", "rolebinding", binding, f"--clusterrole={role}", f"--user={role}-er")

    def may(user: str, verb: str, resource: str) -> bool:
        try:
            told = api.kubectl("auth", "can-i", verb, f"{resource}.{GROUP}", f"--as={user}-er")
        except KubectlError:
            return False
        return told == "yes\n"

    deadline = time.monotonic() + 30
    while not may("admin", "delete", "connections"):
        assert time.monotonic() < deadline, "the roles were not aggregated"
        time.sleep(0.3)
    rights = {
        (role, verb, resource): may(role, verb, resource)
        for role in ("view", "edit", "admin")
        for verb in ("list", "create")
        for resource in ("vectorindexes", "connections")
    }
    assert [key for key, has in rights.items() if not has] == [
        ("view", "create", "vectorindexes"),
        ("view", "create", "connections"),
        ("edit", "create", "connections"),
    ]


def test_the_network_policy_lets_in_probes_and_out_what_is_needed(program: Path) -> None:
    (usual,) = of_kind(rendered(program, "--set=networkPolicy.enabled=true"), "NetworkPolicy")
    assert usual["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert usual["spec"]["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    assert [[port["port"] for port in rule["ports"]] for rule in usual["spec"]["egress"]] == [
        [53, 53],
        [443, 6443],
        [443],
    ]
    (tight,) = of_kind(rendered(program, values=EVERYTHING_ON), "NetworkPolicy")
    assert [[port["port"] for port in rule["ports"]] for rule in tight["spec"]["ingress"]] == [
        ["http"],
        ["admission"],
        [9000],
    ]
    assert [[port["port"] for port in rule["ports"]] for rule in tight["spec"]["egress"]] == [
        [53, 53],
        [443, 6443],
        [443, 5432],
        [80, 987, 988],
        [9001],
    ]
    assert tight["spec"]["egress"][1]["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]


def test_prometheus_finds_the_metrics(program: Path) -> None:
    documents = rendered(program, values=EVERYTHING_ON)
    (monitor,) = of_kind(documents, "ServiceMonitor")
    service = named(documents, "Service", "ours-auterity-metrics")
    assert monitor["metadata"]["namespace"] == "monitoring"
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["ops"]}
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert wanted.items() <= pod_of(documents)["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    (annotated,) = [pod_of(rendered(program))["metadata"]["annotations"]]
    assert annotated["prometheus.io/port"] == "8080"


def test_the_rules_are_as_the_prometheus_operator_wants_them(program: Path) -> None:
    (rule,) = of_kind(rendered(program, values=EVERYTHING_ON), "PrometheusRule")
    alerts = rule["spec"]["groups"][0]["rules"]
    names = [alert["alert"] for alert in alerts]
    ours = [
        alert["alert"] for alert in yaml.safe_load((CHART / "alerts.yaml").read_text())["alerts"]
    ]
    assert names == [*(name for name in ours if name != "AuterityApprovalWaits"), "Ours"]
    assert {alert["labels"]["team"] for alert in alerts[:-1]} == {"platform"}
    if missing := specs_missing():
        pytest.skip(missing)
    jsonschema = pytest.importorskip("jsonschema")
    described = json.loads((specs_folder() / "prometheus-operator.crds.schema.json").read_text())
    schema = {**described, "$ref": "#/definitions/PrometheusRule.v1"}
    jsonschema.Draft7Validator(schema).validate(rule)


def test_the_dashboard_is_what_grafanas_sidecar_looks_for(program: Path) -> None:
    documents = rendered(program, values=EVERYTHING_ON)
    (dashboard,) = configured(documents, "dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    (text,) = dashboard["data"].values()
    assert json.loads(text) == json.loads((CHART / "dashboard.json").read_text())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nonsense=1", "additional properties 'nonsense' not allowed"),
        ("metrics.nonsense=1", "additional properties 'nonsense' not allowed"),
        ("crds.keep=yes", "/crds/keep"),
        ("watchNamespaces={A}", "/watchNamespaces/0"),
        ("image.digest=latest", "/image/digest"),
        ("workloadIdentity.aws.roleArn=auterity", "/workloadIdentity/aws/roleArn"),
        ("admission.failurePolicy=Warn", "/admission/failurePolicy"),
        ("terminationGracePeriodSeconds=5", "/terminationGracePeriodSeconds"),
        ("serviceAccount.create=false", "serviceAccount.name is needed"),
    ],
)
def test_wrong_values_are_refused(program: Path, value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rendered(program, f"--set={value}")


def fields(schema: JSON, path: str = "") -> Iterator[str]:
    """Every value that a closed schema knows."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}"
        yield from fields(inner, f"{path}{name}.")


def given(values: JSON, schema: JSON, path: str = "") -> Iterator[str]:
    """Every value that is set, as deep as the schema is closed."""
    for name, value in values.items():
        yield f"{path}{name}"
        inner = schema["properties"].get(name, {})
        if isinstance(value, dict) and "properties" in inner:
            yield from given(value, inner, f"{path}{name}.")


def test_every_value_has_a_default_and_a_place_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    # Helm itself brings `global` to every chart; of others' types only the names are held.
    known = {
        name
        for name in fields(schema)
        if name not in {"global", "resources.claims"} and not name.startswith("affinity.")
    }
    assert set(given(values, schema)) == known


def test_its_pod_is_admitted_where_only_restricted_ones_are(program: Path, api: Api) -> None:
    api.kubectl("create", "namespace", "restricted")
    api.kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")
    values = "--set=crds.enabled=false,watchNamespaces={restricted},rbac.aggregate=false"
    documents = rendered(program, values, "--namespace=restricted")
    api.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(documents))

    def pods() -> list[JSON]:
        listed = json.loads(api.kubectl("get", "pods", "--namespace=restricted", "-o", "json"))
        found: list[JSON] = listed["items"]
        return found

    deadline = time.monotonic() + 60
    while not pods():
        assert time.monotonic() < deadline, api.kubectl("get", "events", "--namespace=restricted")
        time.sleep(0.5)
    assert pods()[0]["spec"]["serviceAccountName"] == "ours-auterity"
