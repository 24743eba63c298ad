"""The quick start, step by step: its commands are run, and what they print is what it shows."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from e2e.conftest import Cluster
from e2e.operator_process import OperatorProcess
from e2e.team import PATIENCE
from tools.generate import ROOT
from tools.servers.postgres import Postgres

PAGE = ROOT / "docs/quick-start.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OPTION = "--allow-insecure-endpoints"
AGE = re.compile(r"\b(\d+(ms|s|m))+\b")


@dataclass(frozen=True)
class Step:
    """A command and what the page says that it prints."""

    command: str
    shown: str


def steps() -> Iterator[Step]:
    for block in BLOCK.findall(PAGE.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield Step(command, shown.strip())


def plain(text: str) -> list[str]:
    """Lines without their padding and without ages."""
    return [AGE.sub("AGE", " ".join(line.split())) for line in text.strip().splitlines()]


class Reader:
    """Someone who follows the page, with a PostgreSQL beside the cluster instead of in it."""

    def __init__(self, cluster: Cluster, postgres: Postgres) -> None:
        self._kubectl = cluster.kubectl
        self._port = postgres.port
        self._database = f"host=127.0.0.1 port={postgres.port} dbname=postgres user=postgres"

    def follow(self, command: str) -> str | None:
        """What the command prints; None where there is nothing to compare."""
        handlers: tuple[tuple[str, Callable[[str], str | None]], ...] = (
            (r"make ", self._make),
            (r"kubectl apply --server-side -f crds/", lambda _: None),
            (r"\.venv/bin/auterity run ", self._run),
            (r"kubectl (rollout status|port-forward) ", lambda _: None),
            (r"kubectl exec deployment/postgresql -- psql ", self._psql),
            (r"kubectl ", self._shell),
        )
        handle = next(handle for start, handle in handlers if re.match(start, command))
        return handle(command)

    def _make(self, command: str) -> None:
        target = command.split()[1]
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)

    def _run(self, command: str) -> None:
        assert command.split()[1:] == ["run", OPTION]

    def _psql(self, command: str) -> str:
        statement = command.split(' -tAc "')[1].removesuffix('"')
        with psycopg.connect(
            self._database, password="only-for-trying", autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            if cursor.description is None:
                return str(cursor.statusmessage)
            return "\n".join("|".join(map(str, row)) for row in cursor)

    def _shell(self, command: str) -> str:
        text = command.replace(
            "kubectl ", f"{self._kubectl.program} --kubeconfig={self._kubectl.kubeconfig} ", 1
        )
        given = None
        if named := re.search(r"-f (samples/\S+)", text):
            given = (ROOT / named[1]).read_text()
            given = given.replace("host: 127.0.0.1", f"host: 127.0.0.1\n    port: {self._port}")
            text = text.replace(named[1], "-")
        done = subprocess.run(
            ["bash", "-c", text],
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout + done.stderr


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    if reason := Postgres.available():
        pytest.skip(reason)
    server = Postgres()
    server.start()
    with psycopg.connect(server.url, dbname="postgres", autocommit=True) as connection:
        connection.execute("ALTER ROLE postgres PASSWORD 'only-for-trying'")
    yield server
    server.stop()


def test_the_quick_start_does_what_it_says(
    cluster: Cluster, operator: OperatorProcess, postgres: Postgres
):
    reader = Reader(cluster, postgres)
    told: list[str] = []
    wrong: list[str] = []
    for step in steps():
        printed = reader.follow(step.command)
        deadline = time.monotonic() + PATIENCE
        # An Event comes a moment after the status that it is about.
        while " get events " in step.command and plain(printed or "") != plain(step.shown):
            if time.monotonic() > deadline:
                break
            printed = reader.follow(step.command)
        told += [f"$ {step.command}", printed or ""]
        if printed is not None and plain(printed) != plain(step.shown):
            wrong.append(f"{step.command}\n--- shown\n{step.shown}\n--- printed\n{printed}")
    reader.follow("kubectl delete -f samples/use-cases/quick-start/postgresql.yaml")
    print("\n".join(told))
    assert not wrong, "\n\n".join(wrong)
