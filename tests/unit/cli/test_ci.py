"""The snippets for CI: valid YAML and shell, and commands that this command understands."""

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from auterity.cli.files import parse
from auterity.cli.main import app
from auterity.cli.plan import MARKER
from tests.unit.cli.test_import import connection
from tools.generate import ROOT

SNIPPETS = {path.stem: path for path in sorted((ROOT / "docs" / "ci").glob("*.yaml"))}


def scripts(name: str) -> list[str]:
    """The shell of a snippet, step by step."""
    found = yaml.safe_load(SNIPPETS[name].read_text())
    if name == "github":
        steps: list[dict[str, Any]] = found["jobs"]["plan"]["steps"]
        return [step["run"] for step in steps if "run" in step]
    job = found["auterity"]
    return ["\n".join([*job["before_script"], *job["script"]])]


def test_both_are_there():
    assert set(SNIPPETS) == {"github", "gitlab"}


@pytest.mark.parametrize("name", SNIPPETS)
def test_it_is_plain_yaml(name: str):
    text = SNIPPETS[name].read_text()
    (_,), faults = parse(name, text)
    assert faults == []
    for number, line in enumerate(text.splitlines(), 1):
        assert line == line.rstrip(), number
        assert "\t" not in line, number
        assert len(line) - len(line.lstrip()) == 2 * ((len(line) - len(line.lstrip())) // 2), number
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("name", SNIPPETS)
def test_its_shell_is_valid_and_its_commands_are_known(name: str):
    known = 0
    for script in scripts(name):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        for line in script.replace("\\\n", " ").splitlines():
            if line.strip().startswith("auterity "):
                words = re.split(r"[<>]", line)[0]
                _, _, unused = app.parse_args(shlex.split(words)[1:], exit_on_error=False)[:3]
                assert unused == {}
                known += 1
    assert known == 2
    assert MARKER in SNIPPETS[name].read_text()


def test_the_plan_of_a_workflow_posts_what_would_change(tmp_path: Path, pinecone):
    """The workflow's own steps, with everything real but the place where comments are kept."""
    vendor, _ = pinecone
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    file = Path(connection(manifests, vendor))
    first, *_secret = yaml.safe_load_all(file.read_text())
    first["metadata"]["name"] = "pinecone"
    ((name, data),) = type(vendor).secrets.items()
    ((key, value),) = data.items()
    index = {
        "apiVersion": first["apiVersion"],
        "kind": "VectorIndex",
        "metadata": {"name": "docs"},
        "spec": {"connectionRef": {"name": "pinecone"}, **type(vendor).spec},
    }
    file.write_text(yaml.safe_dump_all([first, index]))

    posted = tmp_path / "posted.json"
    program(tmp_path / "auterity", f'exec {sys.executable} -m auterity "$@"')
    program(tmp_path / "gh", f'[[ "$*" == *--jq* ]] || echo "$*" >> {posted}')
    _, check, plan, comment = scripts("github")
    plan = plan.replace("--no-cluster", "--no-cluster --allow-insecure-endpoints")
    plan = plan.replace("{name: pinecone}", f"{{name: {name}}}").replace("apiKey:", f"{key}:")
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "operator"),
        "CLUSTER_NAME": "prod",
        "PINECONE_API_KEY": value,
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "COMMENTS": "repos/acme/shop/issues",
        "NUMBER": "7",
    }
    for script in (check, plan, comment):
        subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script], cwd=tmp_path, env=env, check=True
        )
    assert (tmp_path / "output").read_text() == "code=2\n"
    summary = (tmp_path / "summary").read_text()
    assert summary.startswith(f"{MARKER}\n### Plan: 1 to create.")
    assert value not in summary
    assert (
        "--method POST repos/acme/shop/issues/7/comments --field body=@plan.md"
        in posted.read_text()
    )


def program(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
