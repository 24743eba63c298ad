"""A person with kubectl, who calls the commands for people."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.operator_process import ROOT
from e2e.team import Team

BIN = Path(sys.executable).parent


@dataclass
class Person:
    """Calls `kubectl auterity` in a namespace, with an administrator's rights unless told else."""

    kubectl: Path
    kubeconfig: Path
    packages: Path
    secrets: set[str]

    def run(
        self,
        *args: str,
        namespace: str | None = None,
        kubeconfig: Path | None = None,
        code: int = 0,
    ) -> str:
        """What it prints, errors included."""
        scope = [f"--namespace={namespace}"] if namespace else []
        return self.call("auterity", *args, *scope, kubeconfig=kubeconfig, code=code)

    def call(self, *args: str, kubeconfig: Path | None = None, code: int = 0) -> str:
        """The same of any command of kubectl."""
        done = subprocess.run(
            [str(self.kubectl), *args],
            env={
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                "HOME": os.environ.get("HOME", "/"),
                "KUBECONFIG": str(kubeconfig or self.kubeconfig),
                "PYTHONPATH": f"{ROOT / 'operator'}:{self.packages}:{ROOT}",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        told = done.stdout + done.stderr
        assert done.returncode == code, told
        assert "Traceback" not in told
        assert not [secret for secret in self.secrets if secret in told]
        return told

    def why(self, team: Team, target: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.run("why", target, "--output=json", namespace=team.namespace)
        )
        return found
