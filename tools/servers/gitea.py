"""Gitea, a Git forge."""

import base64
import getpass
import json
import secrets
import subprocess
from pathlib import Path
from typing import Any

from typing_extensions import override

from tools.golang import Module
from tools.loopback import HOST, request
from tools.process import Process
from tools.servers.server import Server

SOURCE = "code.gitea.io/gitea"
PARTS = ("options", "public", "templates")
CONFIG = """\
RUN_USER = {user}
RUN_MODE = prod
; Gitea refuses to run as root otherwise. Here it is on loopback and gone soon.
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
WORK_PATH = {folder}
[server]
HTTP_ADDR = {host}
HTTP_PORT = {port}
ROOT_URL = {url}/
STATIC_ROOT_PATH = {installed}
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[security]
INSTALL_LOCK = true
SECRET_KEY = {secret}
[service]
DISABLE_REGISTRATION = true
[log]
LEVEL = warn
[indexer]
ISSUE_INDEXER_TYPE = db
[actions]
ENABLED = false
"""


class Gitea(Server):
    """The administrator is `user` with `password`; whoever asks may read."""

    name = "gitea"

    def __init__(self) -> None:
        super().__init__()
        self.user = "keeper"
        self.password = secrets.token_urlsafe(16)

    @classmethod
    @override
    def install(cls) -> Path:
        return Module(
            "gitea",
            {"gitea": SOURCE},
            files={part: f"{SOURCE}//{part}" for part in PARTS},
            tags="sqlite,sqlite_unlock_notify",
            cgo=True,
        ).build()

    @override
    def prepare(self, installed: Path) -> Process:
        config = self.folder / "app.ini"
        config.touch(mode=0o600)
        config.write_text(
            CONFIG.format(
                user=getpass.getuser(),
                folder=self.folder,
                host=HOST,
                port=self.port,
                url=self.url,
                installed=installed,
                secret=secrets.token_urlsafe(32),
            )
        )
        program = [str(installed / "gitea"), f"--config={config}"]
        self._run([*program, "migrate"])
        account = [f"--username={self.user}", f"--password={self.password}", "--admin"]
        account += ["--email=keeper@git.example", "--must-change-password=false"]
        self._run([*program, "admin", "user", "create", *account])
        return Process([*program, "web"], log=self.log, cwd=self.folder, env=self._env)

    @override
    def ready(self) -> bool:
        return self.answers("/api/healthz")

    def make_repository(self, name: str) -> str:
        """Make an empty public repository; its URL."""
        self.api("POST", "/user/repos", {"name": name, "default_branch": "main"})
        return f"{self.url}/{self.user}/{name}.git"

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Call the API under `/api/v1` as the administrator."""
        known = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        content = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Basic {known}"}
        answer = request(method, f"{self.url}/api/v1{path}", content, headers)
        return json.loads(answer) if answer else None

    @property
    def _env(self) -> dict[str, str]:
        # Git's own settings of whoever runs this have no say.
        return {"HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1"}

    def _run(self, args: list[str]) -> None:
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", **self._env}
        done = subprocess.run(
            args, cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"gitea: {done.stdout[-2000:]}{done.stderr[-2000:]}")
