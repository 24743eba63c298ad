"""`auterity plan` and `import` beside a running operator: what they foresee is what happens."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from auterity.api import API_VERSION
from e2e.api import JSON
from e2e.conftest import Cluster, Installation
from e2e.operator_process import ROOT
from e2e.team import Team
from e2e.vendors import Account, Vendors

WRITES = ("POST", "PATCH", "PUT", "DELETE")


def auterity(
    cluster: Cluster, installation: Installation, *args: str, stdin: str = ""
) -> tuple[int, str, str]:
    """Call the command as a person with a kubeconfig would."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("auterity")), *args],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            **os.environ,
            "KUBECONFIG": str(cluster.kubeconfig),
            "PYTHONPATH": f"{ROOT / 'operator'}:{installation.packages}:{ROOT}",
        },
    )
    return done.returncode, done.stdout, done.stderr


def writes(account: Account) -> int:
    return sum(account.ask("requests", method) for method in WRITES)


def manifest(team: Team, name: str, **spec: Any) -> JSON:
    return {
        "apiVersion": API_VERSION,
        "kind": "VectorIndex",
        "metadata": {"name": name, "namespace": team.namespace},
        "spec": team.spec(**spec),
    }


def test_a_plan_foresees_what_the_operator_then_does(
    vendors: Vendors, team: Team, cluster: Cluster, installation: Installation
):
    account = vendors.open()
    team.connect(account)
    team.index("docs")
    team.until_ready("docs")
    before = (writes(account), team.find("docs"))

    def planned(*documents: JSON) -> tuple[int, list[JSON]]:
        flags = ("-n", team.namespace, "--allow-insecure-endpoints", "-o", "json")
        text = yaml.safe_dump_all(documents)
        code, out, err = auterity(cluster, installation, "plan", "-f", "-", *flags, stdin=text)
        assert account.token not in out + err
        assert out, err
        objects: list[JSON] = json.loads(out)["objects"]
        return code, objects

    # Connection, Secret and status come from the cluster: the mark is known to be ours.
    code, (index,) = planned(manifest(team, "docs"))
    assert (code, index["action"], index["id"]) == (0, "None", "docs"), index

    edited = manifest(team, "docs", example={"replicas": 3, "tags": {"team": "b"}})
    code, (index, more) = planned(edited, manifest(team, "more"))
    assert code == 2
    assert (index["action"], more["action"]) == ("Update", "Create")
    foreseen = [change["field"] for change in index["changes"]]
    assert foreseen == ["example.replicas", "example.tags.team"]
    assert (writes(account), team.find("docs")) == before
    assert set(account.holds()) == {"docs"}

    team.apply("docs", edited["spec"])
    team.until("docs", lambda _: account.holds()["docs"]["replicas"] == 3)
    team.until_ready("docs")
    code, (index,) = planned(edited)
    assert (code, index["action"]) == (0, "None")

    code, (index,) = planned(manifest(team, "docs", externalName="other"))
    assert (code, index["message"]) == (1, "spec.externalName cannot change")


def test_what_exists_is_imported_and_taken_over(
    vendors: Vendors,
    team: Team,
    cluster: Cluster,
    installation: Installation,
    tmp_path: Path,
):
    account = vendors.open()
    team.connect(account)
    account.ask("foreign", {}, "legacy", None)
    before = (writes(account), account.holds())
    flags = ("-n", team.namespace, "--allow-insecure-endpoints")
    code, _out, err = auterity(
        *(cluster, installation, "import", "vidx", "example", "--connection", "vendor"),
        *("-d", str(tmp_path), *flags),
    )
    assert code == 0, err
    assert (writes(account), account.holds()) == before

    text = (tmp_path / "legacy.yaml").read_text()
    strictly = ("check", "--strict", "-n", team.namespace, str(tmp_path))
    code, out, _ = auterity(cluster, installation, *strictly)
    assert (code, "Connection vendor is not in the files" in out) == (1, True)
    assert auterity(cluster, installation, *strictly, "--cluster")[0] == 0
    made = yaml.safe_load(text)
    assert made["metadata"] == {"name": "legacy", "namespace": team.namespace}
    team.apply("legacy", made["spec"])
    team.made.append(("VectorIndex", team.namespace, "legacy"))
    team.until_ready("legacy")
    taken = account.holds()["legacy"]
    assert taken["tags"].pop("owner").endswith(f"/{team.namespace}/legacy")
    assert taken == before[1]["legacy"]
