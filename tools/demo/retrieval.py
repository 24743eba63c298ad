"""The use case rag-stack, and its application run as a pod of it would be."""

import json
import secrets
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from tools.demo.stage import JSON, ROOT, Stage, use_case
from tools.loopback import HOST

FOLDER = Path("samples/use-cases/rag-stack")


class Retrieval:
    """The use case at the vendors of a stage; `documents` are its manifests as they are applied."""

    documents: list[JSON]

    def __init__(self, it: Stage) -> None:
        self._stage = it
        password = secrets.token_urlsafe(16)
        self._prepare(password)
        played = it.hugging_face["connection"]["huggingFace"]
        token = it.hugging_face["secrets"]["huggingface"]["token"]
        self.documents = use_case(
            FOLDER.name,
            {
                "postgresql": {"host": HOST, "port": it.postgres.port, "sslMode": "disable"},
                "huggingFace": {"endpoint": played["endpoint"]},
            },
            {
                ("passages-database", "password"): password,
                ("hugging-face", "token"): token,
                ("answers", "token"): token,
            },
        )

    def application(self, *args: str) -> str:
        """Run answers.py with the environment of its container; what it prints."""
        done = subprocess.run(
            [sys.executable, ROOT / FOLDER / "answers.py", *args],
            env=self.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"answers.py {args[0]}: {done.stderr.strip()}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """What Kubernetes would give the Deployment's container: from Secrets, as it says."""
        (deployment,) = (d for d in self.documents if d["kind"] == "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return {entry["name"]: self._value(entry) for entry in container["env"]}

    def outputs(self, name: str) -> dict[str, str]:
        """What is in a Secret."""
        raw = json.loads(self._stage.kubectl("get", "secret", name, "-o", "json"))
        return {key: b64decode(value).decode() for key, value in raw["data"].items()}

    def plan(self) -> str:
        """How PostgreSQL finds what is nearest. Of a table so small it would read all of it."""
        environment = self.environment()
        with self._connected("passages") as database:
            database.execute("SET enable_seqscan = off")
            table = Identifier(environment["INDEX_SCHEMA"], environment["INDEX_TABLE"])
            column = Identifier(environment["INDEX_COLUMN"])
            near = SQL(environment["INDEX_OPERATOR"])
            query = SQL(
                "EXPLAIN SELECT id FROM {table} ORDER BY {column} {near} "
                "(SELECT {column} FROM {table} LIMIT 1) LIMIT 2"
            ).format(table=table, column=column, near=near)
            return "\n".join(row[0] for row in database.execute(query))

    def _prepare(self, password: str) -> None:
        """The database, its user and pgvector, which the use case takes for granted."""
        with self._connected("postgres") as database:
            database.execute(SQL("CREATE ROLE vectors LOGIN PASSWORD {}").format(Literal(password)))
            database.execute("CREATE DATABASE passages OWNER vectors")
        with self._connected("passages") as database:
            database.execute("CREATE EXTENSION vector")

    def _connected(self, database: str) -> "psycopg.Connection[tuple[str, ...]]":
        server = self._stage.postgres
        where = f"host={HOST} port={server.port} user={server.user} dbname={database}"
        return psycopg.connect(where, password=server.password, autocommit=True)

    def _value(self, entry: JSON) -> str:
        if "value" in entry:
            return str(entry["value"])
        of = entry["valueFrom"]["secretKeyRef"]
        return self.outputs(of["name"])[of["key"]]
