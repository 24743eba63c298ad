"""`auterity check` finds what the API server and the operator would refuse, and says where."""

import json
from pathlib import Path

import pytest
import yaml

from auterity.api import API_VERSION
from auterity.cli.files import parse
from auterity.cli.main import app, main
from auterity.cli.schema import faults
from auterity.providers import catalogue
from tests.conformance.conftest import STAND_INS
from tests.conformance.vendor import JSON
from tools.generate import ROOT

INDEX = """\
# Comments and other kinds are no matter.
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: integrations.auterity.io/v1alpha1
kind: VectorIndex
metadata:
  name: docs
spec:
  connectionRef: {name: pinecone}
  dimension: 8
  metric: cosine
  pinecone:
    cloud: aws
    region: us-east-1
    tags:
      team: search
"""
CONNECTION = """\
apiVersion: integrations.auterity.io/v1alpha1
kind: Connection
metadata: {name: pinecone}
spec:
  pinecone:
    apiKey: {secretKeyRef: {name: pinecone, key: apiKey}}
"""


def told(text: str) -> list[tuple[int, str, str]]:
    manifests, broken = parse("a.yaml", text)
    found = broken + [fault for one in manifests if one.ours for fault in faults(one)]
    return [(fault.line, fault.field, fault.message) for fault in found]


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    code = app(args, result_action="return_value", exit_on_error=False)
    return code, capsys.readouterr().out


def test_a_valid_manifest_has_no_fault():
    assert told(INDEX) == []
    assert told(CONNECTION) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("dimension: 8", "dimension: 0", 12, "spec.dimension", "greater than or equal to 1"),
        ("dimension: 8", "dimension: '8'", 12, "spec.dimension", "valid integer"),
        ("  dimension: 8\n", "", 10, "spec.dimension", "is required"),
        ("metric: cosine", "metric: manhattan", 13, "spec.metric", "'cosine'"),
        ("dimension: 8", "dimensions: 8", 12, "spec.dimensions", "did you mean dimension?"),
        ("region:", "regoin:", 16, "spec.pinecone.regoin", "did you mean region?"),
        ("team: search", "team: ''", 18, "spec.pinecone.tags.team", "at least 1"),
        ("cloud: aws", "byoc: a\n    cloud: aws", 14, "spec.pinecone", "exactly one of cloud"),
        ("pinecone:\n", "pinecone: 7\n  gone:\n", 14, "spec.pinecone", "must be an object"),
        ("  pinecone:\n", "  nonesuch:\n", 10, "spec", "exactly one vendor block, of "),
        ("name: docs", "name: Docs", 9, "metadata.name", "is not a name"),
        ("v1alpha1", "v1", 6, "apiVersion", "serves v1alpha1"),
        ("kind: VectorIndex", "kind: VectorIndx", 7, "kind", "did you mean VectorIndex?"),
        ("spec:", "spec: 7\nmore:", 10, "spec", "is required"),
        ("dimension: 8", "dimension: 8\n  interval: soon", 13, "spec.interval", "match pattern"),
        ("dimension: 8", "createOnly: [size]\n  dimension: 8", 12, "spec.createOnly[0]", "size"),
        ("dimension: 8", "dimension: 8\n  dimension: 9", 13, "spec.dimension", "given twice"),
        ("{name: pinecone}", "{name: pinecone, kind: Link}", 11, "spec.connectionRef.kind", "Conn"),
        ("team: search", "team: search\nstatus: {id: x}\nextra: 1", 20, "extra", "not a field"),
    ],
)
def test_a_fault_names_its_line_and_field(old: str, new: str, line: int, field: str, words: str):
    assert old in INDEX
    found = told(INDEX.replace(old, new))
    assert any((at, path) == (line, field) and words in text for at, path, text in found), found


def test_a_keyed_list_takes_no_key_twice():
    spec = {**STAND_INS["CIPipelineBinding-githubActions"].spec, "connectionRef": {"name": "a"}}
    spec["variables"] = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    found = told(yaml.safe_dump(manifest("CIPipelineBinding", spec)))
    assert ("spec.variables[1]", "is given twice") in [(field, words) for _, field, words in found]


@pytest.mark.parametrize("name", STAND_INS)
def test_the_spec_of_every_stand_in_is_valid_and_an_unknown_field_is_not(name: str):
    cls = STAND_INS[name]
    spec = {**cls.spec, "connectionRef": {"name": "vendor"}}
    kind, vendor = cls.provider.kind, cls.provider.vendor
    assert told(yaml.safe_dump(manifest(kind, spec))) == []
    spec[vendor] = {**(spec[vendor] or {}), "nonesuchAtAll": 1}
    found = told(yaml.safe_dump(manifest(kind, spec)))
    assert [field for _, field, _ in found] == [f"spec.{vendor}.nonesuchAtAll"]


def test_every_sample_is_valid(capsys):
    code, out = run(capsys, "check", "-f", str(ROOT / "samples"), "-o", "json")
    answer = json.loads(out)
    assert [f for f in answer["faults"] if f["severity"] == "error"] == []
    assert answer["checked"] > len(catalogue())
    assert code == 0


def test_yaml_that_cannot_be_read_is_told_by_its_line_and_never_quoted():
    ((line, field, words),) = told('apiVersion: v1\nstringData: {key: "hunter2-secret\n')
    assert line >= 2
    assert field == ""
    assert "hunter2" not in words


def test_what_is_refused_is_not_quoted_where_it_could_be_a_secret():
    text = CONNECTION.replace("{secretKeyRef: {name: pinecone, key: apiKey}}", "hunter2-secret")
    assert "hunter2" not in json.dumps(told(text))
    assert told(text)


def test_objects_refer_to_what_is_there(capsys, tmp_path: Path):
    file = tmp_path / "a.yaml"
    file.write_text(INDEX)
    code, out = run(capsys, "check", str(file))
    assert code == 0
    assert "Connection pinecone is not in the files" in out
    code, out = run(capsys, "check", "--strict", str(file))
    assert code == 1

    file.write_text(f"{INDEX}---\n{CONNECTION}")
    code, out = run(capsys, "check", "--strict", str(file))
    assert (code, out.strip()) == (
        0,
        "2 objects checked, 1 of other kinds passed over: no fault found",
    )

    other = CONNECTION.replace("  pinecone:\n    apiKey", "  qdrant:\n    apiKey")
    file.write_text(f"{INDEX}---\n{other}")
    code, out = run(capsys, "check", str(file))
    assert code == 1
    assert "for another vendor: it has no pinecone block" in out


def test_a_namespace_that_a_cluster_connection_does_not_allow_is_told(capsys, tmp_path: Path):
    shared = CONNECTION.replace("kind: Connection", "kind: ClusterConnection").replace(
        "spec:", "spec:\n  secretNamespace: ops\n  allowedNamespaces: [team-*]"
    )
    index = INDEX.replace("{name: pinecone}", "{kind: ClusterConnection, name: pinecone}")
    (tmp_path / "a.yaml").write_text(f"{shared}---\n{index}")
    _, out = run(capsys, "check", str(tmp_path), "-n", "search")
    assert "does not allow namespace search" in out
    code, out = run(capsys, "check", "--strict", str(tmp_path), "-n", "team-a")
    assert (code, "no fault found" in out) == (0, True)


def test_the_same_object_twice_is_told(capsys, tmp_path: Path):
    (tmp_path / "a.yaml").write_text(f"{CONNECTION}---\n{INDEX}---\n{INDEX}")
    code, out = run(capsys, "check", str(tmp_path))
    assert code == 1
    assert "a.yaml:13 too" in out


def test_a_list_is_its_items():
    listed = {"apiVersion": "v1", "kind": "List", "items": [yaml.safe_load(CONNECTION)]}
    manifests, _ = parse("a.json", json.dumps(listed, indent=1))
    assert [one.label for one in manifests] == ["Connection pinecone"]
    assert manifests[0].line(("spec", "pinecone")) > 5


def test_standard_input_and_markdown(capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(INDEX.replace("cosine", "man|hattan @all")))
    code, out = run(capsys, "check", "-f", "-", "-o", "markdown")
    assert code == 1
    assert "| standard input:13 | error | VectorIndex docs |" in out
    assert "@all" not in out


def test_exit_codes_of_the_command_itself(monkeypatch, capsys):
    for args in (["check", "-f", "nonesuch.yaml"], ["check", "--nonesuch"], ["nonesuch"]):
        monkeypatch.setattr("sys.argv", ["auterity", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
    assert "nonesuch.yaml does not exist" in capsys.readouterr().err


def manifest(kind: str, spec: JSON) -> JSON:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "a"}, "spec": spec}


ROUTE = """\
apiVersion: integrations.auterity.io/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec:
  candidates:
    - name: first
    - name: second
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("- name: second", "- name: first", 7, "spec.candidates[1]", "given twice"),
        ("- name: second", "- nam: second", 7, "spec.candidates[1].nam", "did you mean name?"),
        ("spec:", "spec:\n  failover: {after: soon}", 5, "spec.failover.after", "pattern"),
        ("spec:", "spec:\n  connectionRef: {name: a}", 5, "spec.connectionRef", "is not a field"),
    ],
)
def test_what_is_wrong_with_a_route_is_told(old: str, new: str, line: int, field: str, words: str):
    assert told(ROUTE) == []
    found = told(ROUTE.replace(old, new))
    assert [f for f in found if f[:2] == (line, field) and words in f[2]], found


def test_candidates_that_are_not_in_the_files_are_warned_of(tmp_path: Path, capsys):
    file = tmp_path / "a.yaml"
    file.write_text(ROUTE)
    code, shown = run(capsys, "check", str(file))
    assert code == 0
    assert "spec.candidates[1].name: ModelDeployment second is not in the files" in shown


BUDGET = """\
apiVersion: integrations.auterity.io/v1alpha1
kind: Budget
metadata: {name: models}
spec:
  hourly: 1.5
  onExceed: Refuse
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ("1.5", "0", 5, "spec.hourly", "greater than or equal to 0.0001"),
        ("Refuse", "Stop", 6, "spec.onExceed", "'Refuse' or 'Warn'"),
        ("hourly", "hourli", 5, "spec.hourli", "did you mean hourly?"),
    ],
)
def test_what_is_wrong_with_a_budget_is_told(old: str, new: str, line: int, field: str, words: str):
    assert told(BUDGET) == []
    found = told(BUDGET.replace(old, new))
    assert [f for f in found if f[:2] == (line, field) and words in f[2]], found
