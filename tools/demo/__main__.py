"""`make demo`: custom resources become real objects at real servers, and stay so."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import boto3
import psycopg
import yaml
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from tools.controlplane.kubectl import KubectlError
from tools.demo.retrieval import FOLDER, Retrieval
from tools.demo.stage import Stage, stage, until
from tools.loopback import request

SAMPLES = (
    "vector-indexes/pgvector.yaml",
    "model-deployments/sageMaker.yaml",
    "ci-pipeline-bindings/githubActions.yaml",
    "alert-routes/alertmanager.yaml",
    "identity-providers/cognito.yaml",
)
READY = '.status.conditions[?(@.type=="Ready")]'
TABLE = (
    "custom-columns=KIND:.kind,NAME:.metadata.name,"
    f"READY:{READY}.status,REASON:{READY}.reason,VENDOR:.status.vendor,ID:.status.id"
)
EVENTS = "custom-columns=OBJECT:.involvedObject.name,REASON:.reason,MESSAGE:.message"
console = Console(highlight=False, width=110)


def main() -> int:
    """Play every scene; 0 if all went as told."""
    started = time.monotonic()
    console.rule("[bold]Auterity: integrations as Kubernetes objects")
    try:
        with stage() as it:
            play(it)
    except (TimeoutError, KubectlError, AssertionError) as failure:
        console.print(f"\n[bold red]The demo failed:[/] {failure}")
        return 1
    console.rule(f"[bold green]Done in {time.monotonic() - started:.0f} s, everything torn down")
    return 0


def play(it: Stage) -> None:
    """The scenes, in order."""
    objects = apply_five_kinds(it)
    become_ready(it, objects)
    tamper(it, objects["VectorIndex"])
    edit(it, objects["AlertRoute"])
    use(it)
    refuse(it, objects["VectorIndex"])
    delete(it, objects["ModelDeployment"])
    run(it, "get", "events", "-A", "--field-selector=reportingComponent=auterity", "-o", EVENTS)


def apply_five_kinds(it: Stage) -> dict[str, dict[str, Any]]:
    """Apply one sample a kind: a Connection with its Secret, and the integration."""
    scene("Declare: one object of each kind", "kubectl apply -f samples/")
    objects = {}
    for path in SAMPLES:
        documents = it.sample(path)
        integrations = [d for d in documents if d["kind"] not in ("Secret", "Connection")]
        integration = integrations[0]
        objects[integration["kind"]] = integration
        console.print(f"[bold]$ kubectl apply -f samples/{path}")
        spec = yaml.safe_dump(integration, sort_keys=False)
        console.print(Syntax(_short(spec), "yaml", theme="ansi_dark", background_color="default"))
        console.print(Text(it.apply(*documents).strip(), "dim"))
    return objects


def become_ready(it: Stage, objects: dict[str, dict[str, Any]]) -> None:
    """Show the table until every object is ready."""
    scene("Watch: the operator makes the vendors match", "kubectl get integrations -A")
    last = ""

    def all_ready() -> bool:
        nonlocal last
        table = it.kubectl("get", "integrations", "-A", "-o", TABLE)
        if table != last:
            console.print(Text(table))
            last = table
        rows = json.loads(it.kubectl("get", "integrations", "-A", "-o", "json"))["items"]
        return objects.keys() <= {row["kind"] for row in rows} and all(map(_ready, rows))

    until("every object becoming ready", all_ready)
    run(it, "get", "integrations", "-A", "-o", TABLE)


def tamper(it: Stage, index: dict[str, Any]) -> None:
    """Change the index in PostgreSQL behind the operator's back; it mends it."""
    scene("Drift: someone drops the index in PostgreSQL", "DROP INDEX ...")
    where = f"host=127.0.0.1 port={it.postgres.port} user={it.postgres.user}"
    with psycopg.connect(
        where, dbname="postgres", password=it.postgres.password, autocommit=True
    ) as database:

        def indexes() -> list[str]:
            found = database.execute(
                "SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%USING hnsw%'"
            )
            return [row[0] for row in found]

        console.print(f"before:  [cyan]{indexes()[0]}")
        name = indexes()[0].split("INDEX ")[1].split(" ON")[0]
        schema = indexes()[0].split(" ON ")[1].split(".")[0]
        database.execute(f"DROP INDEX {schema}.{name}")
        console.print(f"[bold]$ psql -c 'DROP INDEX {schema}.{name}'\nnow:     [red]{indexes()}")
        console.print("The interval would notice; an annotation asks for a look now:")
        now = datetime.now(UTC).isoformat()
        annotation = f"integrations.auterity.io/requestedAt={now}"
        run(it, "annotate", "vidx", index["metadata"]["name"], annotation)
        until("the index coming back", indexes)
        console.print(f"mended:  [green]{indexes()[0]}")


def edit(it: Stage, route: dict[str, Any]) -> None:
    """Edit the alert route; Alertmanager has the change."""
    scene("Edit: repeat alerts every hour", "kubectl patch aroute ...")
    meta = route["metadata"]

    def loaded() -> str:
        status = json.loads(request("GET", f"{it.alertmanager.url}/api/v2/status"))
        return str(status["config"]["original"])

    patch = json.dumps({"spec": {"repeatInterval": "1h"}})
    run(it, "patch", "aroute", meta["name"], "-n", meta["namespace"], "--type=merge", "-p", patch)
    until("Alertmanager loading the change", lambda: "repeat_interval: 1h" in loaded())
    lines = [line for line in loaded().splitlines() if "repeat_interval" in line]
    console.print(f"Alertmanager runs with: [green]{'; '.join(line.strip() for line in lines)}")


def use(it: Stage) -> None:
    """An application finds index and model by the Secrets that the operator publishes."""
    scene("Use: an application that knows nothing but Secrets", f"kubectl apply -f {FOLDER}/")
    retrieval = Retrieval(it)
    console.print(Text(it.apply(*retrieval.documents).strip(), "dim"))
    integrations = ("vectorindex/passages", "modeldeployment/embedder")
    run(it, "wait", "--for=condition=Ready", *integrations, "--timeout=50s")
    for name, keys in (("passages-index", ("dsn", "table")), ("embedder-endpoint", ("url",))):
        told = retrieval.outputs(name)
        console.print(f"Secret {name}: [cyan]{', '.join(f'{k}: {told[k]}' for k in keys)}")
    console.print(
        "Hugging Face and its model are played: a vector is a text's words, hashed. PostgreSQL and "
        "its index are real, and so is the way to both."
    )
    question = "When is the refund of my returns paid, and to which card?"
    program, passages = FOLDER / "answers.py", FOLDER / "passages.txt"
    console.print(f"[bold]$ {program.name} keep {passages.name}")
    console.print(Text(retrieval.application("keep", str(passages)).strip()))
    console.print(f"[bold]$ {program.name} ask '{question}'")
    answer = retrieval.application("ask", question).strip()
    console.print(Text(answer, "green"))
    if "Returns are accepted" not in answer.splitlines()[0]:
        raise AssertionError("the nearest passage is not the one about returns")
    plan = retrieval.plan()
    if "Index Scan using passages_index" not in plan:
        raise AssertionError(f"PostgreSQL does not use the index:\n{plan}")
    console.print("PostgreSQL's plan: [cyan]Index Scan using passages_index")


def refuse(it: Stage, index: dict[str, Any]) -> None:
    """What is wrong is refused, and the message names the field."""
    scene(
        "Mistakes: the API server refuses them and names the field", "kubectl apply -f wrong.yaml"
    )
    name = index["metadata"]["name"]
    pinecone = {"cloud": "aws", "region": "us-east-1"}
    for what, spec in (
        ("two vendors at once", {"pinecone": pinecone}),
        ("another dimension", {"dimension": index["spec"]["dimension"] + 1}),
        ("an unknown metric", {"metric": "manhattan"}),
    ):
        console.print(f"[bold]{what}")
        try:
            it.kubectl("patch", "vidx", name, "--type=merge", "-p", json.dumps({"spec": spec}))
        except KubectlError as refusal:
            console.print(Text(_told(str(refusal)), "red"))
        else:
            raise AssertionError(f"the API server took {what}")


def delete(it: Stage, model: dict[str, Any]) -> None:
    """Delete the model deployment; it is gone at AWS too."""
    scene("Delete: gone here, gone at the vendor", "kubectl delete mdep ...")
    aws = boto3.client(
        "sagemaker",
        region_name="eu-west-1",
        endpoint_url=it.moto.url,
        aws_access_key_id="demo",
        aws_secret_access_key="demo-secret-key",  # noqa: S106 - any key does at moto
    )

    def held() -> dict[str, list[str]]:
        return {
            "endpoints": [e["EndpointName"] for e in aws.list_endpoints()["Endpoints"]],
            "models": [m["ModelName"] for m in aws.list_models()["Models"]],
        }

    console.print(f"at AWS before: [cyan]{held()}")
    run(it, "delete", "mdep", model["metadata"]["name"], "--timeout=60s")
    console.print(f"at AWS after:  [green]{held()}")
    if any(held().values()):
        raise AssertionError("something is left at AWS")


def scene(title: str, command: str) -> None:
    """Announce a scene."""
    console.print()
    console.rule(f"[bold cyan]{title}[/]  [dim]{command}", align="left")


def run(it: Stage, *args: str) -> None:
    """Run kubectl and show it."""
    console.print(f"[bold]$ kubectl {' '.join(args)}")
    console.print(Text(it.kubectl(*args).rstrip()))


def _ready(row: dict[str, Any]) -> bool:
    conditions = row.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _told(refusal: str) -> str:
    """The API server's own words: the lines that name a field."""
    words = refusal[refusal.index("is invalid: ") + len("is invalid: ") :]
    return "\n".join(line for line in words.splitlines() if line.strip() and "<nil>" not in line)


def _short(text: str, most: int = 22) -> str:
    lines = text.splitlines()
    return "\n".join(lines if len(lines) <= most else [*lines[:most], "..."])


if __name__ == "__main__":
    sys.exit(main())
