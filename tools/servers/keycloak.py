"""Keycloak, for machines with Java and Maven."""

import json
import re
import secrets
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from typing_extensions import override

from tools import cache, progress
from tools.loopback import HOST, free_port, request
from tools.process import Process
from tools.servers.server import Server

VERSION = "26.7.3"
JAVA = 17
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"
# What Keycloak compiles into itself; a start with anything else would build it again.
BUILD_OPTIONS = ["--db=dev-mem", "--cache=local", "--health-enabled=true"]


class Keycloak(Server):
    """The administrator of the realm `master` is `user` with `password`."""

    name = "keycloak"
    seconds_to_start: ClassVar[float] = 300

    def __init__(self, java: str = "") -> None:
        """`java`: more options of the Java virtual machine."""
        super().__init__()
        self.java = java
        self.user = "admin"
        self.password = secrets.token_urlsafe(16)
        self._token = ""
        self._token_until = 0.0

    @classmethod
    @override
    def install(cls) -> Path:
        maven = _maven()
        _check_java()
        artifact = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:tar.gz"

        def make(folder: Path) -> None:
            args = [
                maven,
                "-q",
                "-B",
                COPY,
                f"-Dartifact={artifact}",
                f"-DoutputDirectory={folder}",
            ]
            progress.run(f"fetching Keycloak {VERSION}", args, cwd=folder)
            (archive,) = folder.glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
            archive.unlink()
            program = str(folder / f"keycloak-{VERSION}" / "bin" / "kc.sh")
            progress.run("building Keycloak", [program, "build", *BUILD_OPTIONS], cwd=folder)

        return cache.once("keycloak", [VERSION, *BUILD_OPTIONS], make) / f"keycloak-{VERSION}"

    @override
    def prepare(self, installed: Path) -> Process:
        self._management_port = free_port()
        self._token_until = 0.0
        env = {
            "KC_BOOTSTRAP_ADMIN_USERNAME": self.user,
            "KC_BOOTSTRAP_ADMIN_PASSWORD": self.password,
            # With the full compiler: without it, the keys of a new realm take five times as long.
            "JAVA_OPTS_APPEND": f"-Xmx600m {self.java}",
        }
        args = [
            str(installed / "bin" / "kc.sh"),
            "start",
            "--optimized",
            "--http-enabled=true",
            "--hostname-strict=false",
            f"--http-host={HOST}",
            f"--http-port={self.port}",
            f"--http-management-port={self._management_port}",
        ]
        # kc.sh is the parent of Java and passes SIGTERM on, but could not pass on a SIGKILL.
        return Process(args, log=self.log, env=env, cwd=self.folder, orphan_signal=signal.SIGTERM)

    @override
    def ready(self) -> bool:
        return self.answers("/realms/master")

    @override
    def reset(self) -> None:
        """Delete every realm but `master`."""
        for realm in self.admin("GET", "/realms"):
            if realm["realm"] != "master":
                self.admin("DELETE", f"/realms/{quote(realm['realm'])}")

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """Call the Admin REST API under `/admin` as the administrator."""
        headers = {"Authorization": f"Bearer {self._current_token()}"}
        content = None if body is None else json.dumps(body).encode()
        answer = request(method, f"{self.url}/admin{path}", content, headers)
        return json.loads(answer) if answer else None

    def _current_token(self) -> str:
        # To check a password costs Keycloak more than most calls, by design.
        if time.monotonic() > self._token_until:
            told = self._log_in()
            self._token = told["access_token"]
            self._token_until = time.monotonic() + told["expires_in"] / 2
        return self._token

    def _log_in(self) -> Any:
        form = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": self.user,
            "password": self.password,
        }
        url = f"{self.url}/realms/master/protocol/openid-connect/token"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return json.loads(request("POST", url, urlencode(form).encode(), headers))


def _maven() -> str:
    if (found := shutil.which("mvn")) is None:
        raise cache.InstallError("Maven (mvn) is not installed")
    return found


def _check_java() -> None:
    if (found := shutil.which("java")) is None:
        raise cache.InstallError("Java is not installed")
    done = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', done.stderr)
    if version is None or int(version[1]) < JAVA:
        raise cache.InstallError(f"Java {JAVA} or newer is needed")
