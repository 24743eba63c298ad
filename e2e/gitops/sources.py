"""What source-controller does for Flux, for Git branches and the charts in them.

The controller itself cannot be built here (see tools/flux.py). As it would, this fetches what
GitRepositories and HelmCharts name, serves it as archives, and tells of them in their status.
"""

import functools
import hashlib
import http.server
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import yaml

from e2e.gitops.objects import JSON, Objects, condition
from tools import helm
from tools.loopback import HOST


class Sources:
    """`with Sources(objects, folder):`."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self._objects = objects
        self._folder = folder
        self._trees: dict[tuple[str, str], tuple[str, Path]] = {}
        """Revision and files of each GitRepository."""
        self._ended = threading.Event()
        self._problem: Exception | None = None
        serve = functools.partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer((HOST, 0), serve)
        self._threads = [
            threading.Thread(target=self._server.serve_forever, daemon=True),
            threading.Thread(target=self._run, daemon=True),
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join(20)
        self._server.server_close()
        if self._problem is not None:
            raise self._problem

    def _run(self) -> None:
        try:
            while not self._ended.wait(0.3):
                for found in self._objects.every("gitrepositories"):
                    self._repository(found)
                for found in self._objects.every("helmcharts"):
                    self._chart(found)
        except Exception as error:  # noqa: BLE001 - told at the end, by the thread of the tests
            self._problem = error

    def _repository(self, found: JSON) -> None:
        spec, name = found["spec"], found["metadata"]["name"]
        branch = spec["ref"]["branch"]
        commit = _run("git", "ls-remote", spec["url"], f"refs/heads/{branch}").split()[0]
        revision = f"{branch}@sha1:{commit}"
        tree = self._folder / f"{name}-{commit}"
        archive = self._folder / f"{name}-{commit}.tar.gz"

        def make() -> None:
            _run("git", "clone", "--quiet", "--depth=1", f"--branch={branch}", spec["url"], tree)
            _run("git", "-C", tree, "archive", "--format=tar.gz", f"--output={archive}", "HEAD")
            self._trees[found["metadata"]["namespace"], name] = (revision, tree)

        self._tell(found, revision, archive, make)

    def _chart(self, found: JSON) -> None:
        spec, meta = found["spec"], found["metadata"]
        revision, tree = self._trees[meta["namespace"], spec["sourceRef"]["name"]]
        chart = tree / spec["chart"]
        about = yaml.safe_load((chart / "Chart.yaml").read_text())
        # As the controller does for the strategy Revision.
        version = f"{about['version']}+{revision.rpartition(':')[2][:12]}"
        archive = self._folder / f"{about['name']}-{version}.tgz"

        def make() -> None:
            _run(helm.build(), "package", chart, f"--version={version}", "-d", self._folder)

        self._tell(found, version, archive, make)

    def _tell(self, found: JSON, revision: str, archive: Path, make: Callable[[], None]) -> None:
        meta = found["metadata"]
        before = (found.get("status") or {}).get("artifact") or {}
        seen = condition(found).get("observedGeneration") == meta["generation"]
        if before.get("revision") == revision and seen:
            return
        if not archive.exists():
            make()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status: JSON = {
            "observedGeneration": meta["generation"],
            "artifact": {
                "revision": revision,
                "digest": f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}",
                "lastUpdateTime": now,
                "path": archive.name,
                "url": f"http://{HOST}:{self._server.server_port}/{archive.name}",
                "size": archive.stat().st_size,
            },
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Succeeded",
                    "message": f"stored {revision}",
                    "observedGeneration": meta["generation"],
                    "lastTransitionTime": now,
                }
            ],
        }
        self._objects.status(found["kind"], meta["namespace"], meta["name"], status)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def _run(*args: object) -> str:
    done = subprocess.run([*map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{args[:3]}: {done.stderr}"
    return done.stdout
