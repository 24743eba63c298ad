"""Weaviate: one node of the vector database."""

import secrets
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from tools.golang import Module
from tools.loopback import HOST, free_port
from tools.process import Process
from tools.servers.server import Server

SOURCE = "github.com/weaviate/weaviate"


class Weaviate(Server):
    """Calls need `key` as a bearer token; whoever has it is the administrator `user`.

    Its ports for gRPC and for other nodes listen on every interface: no setting tells otherwise.
    """

    name = "weaviate"
    seconds_to_start: ClassVar[float] = 180

    def __init__(self, key: str | None = None) -> None:
        super().__init__()
        self.user = "administrator"
        self.key = key or secrets.token_urlsafe(16)

    @classmethod
    @override
    def install(cls) -> Path:
        return Module("weaviate", {"weaviate": f"{SOURCE}/cmd/weaviate-server"}).build()

    @override
    def prepare(self, installed: Path) -> Process:
        ports = ("GRPC_PORT", "RAFT_PORT", "RAFT_INTERNAL_RPC_PORT", "CLUSTER_GOSSIP_BIND_PORT")
        env = {
            "PERSISTENCE_DATA_PATH": str(self.folder / "data"),
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": self.key,
            "AUTHENTICATION_APIKEY_USERS": self.user,
            "AUTHORIZATION_ADMINLIST_ENABLED": "true",
            "AUTHORIZATION_ADMINLIST_USERS": self.user,
            # None of them calls anyone until objects are written.
            "ENABLE_MODULES": "text2vec-openai,generative-openai,reranker-cohere",
            "CLUSTER_HOSTNAME": "node1",
            "CLUSTER_BIND_ADDR": HOST,
            "CLUSTER_ADVERTISE_ADDR": HOST,
            "CLUSTER_DATA_BIND_PORT": str(free_port()),
            "RAFT_BOOTSTRAP_EXPECT": "1",
            # Alone it waits in vain for others' votes; usually five times as long.
            "RAFT_TIMEOUTS_MULTIPLIER": "1",
            "DISABLE_TELEMETRY": "true",
            "GO_PROFILING_DISABLE": "true",
            "LOG_LEVEL": "warning",
            **{port: str(free_port()) for port in ports},
        }
        args = [str(installed / "weaviate"), "--host", HOST, "--port", str(self.port)]
        args += ["--scheme", "http"]
        return Process(args, log=self.log, cwd=self.folder, env=env)

    @override
    def ready(self) -> bool:
        return self.answers("/v1/.well-known/ready")
