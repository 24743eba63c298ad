"""`python -m tools.servers`: install every server and say which this machine cannot have."""

from tools.servers.alertmanager import Alertmanager
from tools.servers.chroma import Chroma
from tools.servers.keycloak import Keycloak
from tools.servers.mailpit import Mailpit
from tools.servers.milvus import Milvus
from tools.servers.ministack import Ministack
from tools.servers.moto import Moto
from tools.servers.postgres import Postgres
from tools.servers.redis import Redis
from tools.servers.server import Server
from tools.servers.weaviate import Weaviate

SERVERS: tuple[type[Server], ...] = (
    Alertmanager,
    Chroma,
    Keycloak,
    Mailpit,
    Milvus,
    Ministack,
    Moto,
    Postgres,
    Redis,
    Weaviate,
)

for server in SERVERS:
    print(server.available() or f"{server.name}: ready", flush=True)
