"""A platform team's Git repository: the operator's chart, and what a team declares."""

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from auterity.api import API_VERSION
from auterity.providers.catalogue import catalogue
from e2e.numbered import NumberedIndex
from e2e.vendors import Account
from tests.example.provider import ExampleIndex
from tools.generate import ROOT, files
from tools.servers.gitea import Gitea

JSON = dict[str, Any]
TEAM = "search"
CONNECTIONS, INTEGRATIONS = f"teams/{TEAM}/connections", f"teams/{TEAM}/integrations"


class Repository:
    """On a forge, with a working copy."""

    def __init__(self, forge: Gitea, folder: Path) -> None:
        self.url = forge.make_repository("platform")
        self.folder = folder
        known = base64.b64encode(f"{forge.user}:{forge.password}".encode()).decode()
        # Known to this working copy alone.
        self._git("init", "--quiet", "--initial-branch=main")
        self._git("config", "http.extraHeader", f"Authorization: Basic {known}")
        self._git("config", "user.name", "platform")
        self._git("config", "user.email", "platform@git.example")
        self._git("remote", "add", "origin", self.url)

    def write(self, path: str, *documents: JSON) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump_all(documents))

    def copy(self, source: Path, path: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)

    def remove(self, path: str) -> None:
        (self.folder / path).unlink()

    def push(self, message: str) -> str:
        """Commit everything and push it; the commit."""
        self._git("add", "--all")
        self._git("commit", "--quiet", f"--message={message}")
        self._git("push", "--quiet", "origin", "main")
        return self._git("rev-parse", "HEAD")

    def add_chart(self) -> None:
        """The chart of this project, with our stand-ins' vendor blocks in its CRDs."""
        shutil.copytree(ROOT / "charts/auterity", self.folder / "charts/auterity")
        found = {**catalogue(), **{(p.kind, p.vendor): p for p in (ExampleIndex, NumberedIndex)}}
        for path, text in files(found).items():
            if path.startswith("charts/"):
                (self.folder / path).write_text(text)

    def _git(self, *args: str) -> str:
        command = ["git", "-C", str(self.folder), *args]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"git {args[0]}: {done.stderr}"
        return done.stdout.strip()


def connection(account: Account, secret: str = "vendor") -> JSON:
    token = {"secretKeyRef": {"name": secret, "key": "token"}}
    block = {"endpoint": account.url, "token": token}
    return _manifest("Connection", "vendor", {account.vendor: block}, wave=-1)


def secret(token: str, name: str = "vendor") -> JSON:
    made = _manifest("Secret", name, None, wave=-1)
    return {**made, "apiVersion": "v1", "stringData": {"token": token}}


def namespace() -> JSON:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TEAM}}


def index(name: str, **spec: object) -> JSON:
    """A VectorIndex: of the last wave, which is the default."""
    body = {"connectionRef": {"name": "vendor"}, "dimension": 8, "example": {"replicas": 1}}
    return _manifest("VectorIndex", name, {**body, "deletionPolicy": "Delete", **spec})


def _manifest(kind: str, name: str, spec: JSON | None, wave: int | None = None) -> JSON:
    meta: JSON = {"name": name, "namespace": TEAM}
    if wave is not None:
        meta["annotations"] = {"argocd.argoproj.io/sync-wave": str(wave)}
    made: JSON = {"apiVersion": API_VERSION, "kind": kind, "metadata": meta}
    return made if spec is None else {**made, "spec": spec}
