"""Each server starts, does one real thing, and forgets it on reset."""

import json
import smtplib
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any, TypeVar

import boto3
import psycopg
import pytest
from botocore.exceptions import ClientError
from redis import Redis as RedisClient
from redis.exceptions import AuthenticationError

import tests.fakes.keycloak
from tools.loopback import request
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

S = TypeVar("S", bound=Server)


@pytest.fixture
def start() -> Iterator[Callable[[type[S]], S]]:
    """Start a server for one test, or skip the test and say why it cannot be had here."""
    started: list[Server] = []

    def start_(server: type[S]) -> S:
        if reason := server.available():
            pytest.skip(reason)
        running = server()
        started.append(running.start())
        return running

    yield start_
    for running in started:
        running.stop()


def aws(service: str, url: str, key: str = "anyone", secret: str = "anything"):
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="eu-central-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )


def test_moto_refuses_what_no_policy_allows_once_iam_is_enforced(
    start: Callable[[type[Moto]], Moto],
) -> None:
    moto = start(Moto)
    iam = aws("iam", moto.url)
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    as_nobody = aws("s3", moto.url, key["AccessKeyId"], key["SecretAccessKey"])
    as_nobody.list_buckets()

    moto.enforce_iam()

    with pytest.raises(ClientError, match="AccessDenied"):
        as_nobody.list_buckets()
    moto.reset()
    assert aws("iam", moto.url).list_users()["Users"] == []


def test_ministack_keeps_a_guardrail(start: Callable[[type[Ministack]], Ministack]) -> None:
    ministack = start(Ministack)
    bedrock = aws("bedrock", ministack.url)
    made = bedrock.create_guardrail(
        name="polite", blockedInputMessaging="no", blockedOutputsMessaging="no"
    )
    found = bedrock.get_guardrail(guardrailIdentifier=made["guardrailId"])
    assert found["name"] == "polite"

    ministack.reset()

    assert bedrock.list_guardrails()["guardrails"] == []


def test_postgres_checks_passwords_and_finds_nearest_vectors(
    start: Callable[[type[Postgres]], Postgres],
) -> None:
    postgres = start(Postgres)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url, password="wrong")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("create extension vector")
        connection.execute("create table item (embedding vector(2))")
        connection.execute("insert into item values ('[1,0]'), ('[0,1]')")
        nearest = connection.execute("select * from item order by embedding <-> '[0,2]' limit 1")
        assert nearest.fetchone() == ("[0,1]",)

    postgres.reset()

    with psycopg.connect(postgres.url) as connection:
        left = connection.execute("select 1 from pg_extension where extname = 'vector'")
        assert left.fetchone() is None


def test_redis_checks_passwords_and_indexes_json(start: Callable[[type[Redis]], Redis]) -> None:
    redis = start(Redis)
    with pytest.raises(AuthenticationError):
        RedisClient(port=redis.port).ping()
    with RedisClient.from_url(redis.url, protocol=2, decode_responses=True) as client:
        index = ("ON", "JSON", "PREFIX", 1, "item:", "SCHEMA", "$.year", "AS", "year", "NUMERIC")
        client.execute_command("FT.CREATE", "items", *index)
        client.execute_command("JSON.SET", "item:1", "$", '{"year": 2026}')
        found = client.execute_command("FT.SEARCH", "items", "@year:[2026 2026]", "NOCONTENT")
        assert found == [1, "item:1"]

    redis.reset()

    with RedisClient.from_url(redis.url, protocol=2, decode_responses=True) as client:
        assert client.execute_command("FT._LIST") == []


def test_alertmanager_takes_over_a_new_configuration(
    start: Callable[[type[Alertmanager]], Alertmanager],
) -> None:
    alertmanager = start(Alertmanager)
    alertmanager.config_file.write_text("route: {receiver: team}\nreceivers: [{name: team}]\n")
    alertmanager.reload()
    assert _receivers(alertmanager) == ["team"]
    alertmanager.config_file.write_text("route: {receiver: missing}\n")
    with pytest.raises(OSError, match="500"):
        alertmanager.reload()

    alertmanager.reset()

    assert _receivers(alertmanager) == ["nobody"]


def _receivers(alertmanager: Alertmanager) -> list[str]:
    receivers = json.loads(request("GET", f"{alertmanager.url}/api/v2/receivers"))
    return [receiver["name"] for receiver in receivers]


def test_weaviate_keeps_a_collection(start: Callable[[type[Weaviate]], Weaviate]) -> None:
    weaviate = start(Weaviate)
    with pytest.raises(OSError, match="401"):
        request("GET", f"{weaviate.url}/v1/schema")
    made = json.dumps({"class": "Docs", "vectorizer": "none"}).encode()
    headers = {"Authorization": f"Bearer {weaviate.key}"}
    request("POST", f"{weaviate.url}/v1/schema", made, headers)
    assert json.loads(request("GET", f"{weaviate.url}/v1/schema/Docs", headers=headers))

    weaviate.reset()

    schema = json.loads(request("GET", f"{weaviate.url}/v1/schema", headers=headers))
    assert schema["classes"] == []


def test_chroma_keeps_a_collection(start: Callable[[type[Chroma]], Chroma]) -> None:
    chroma = start(Chroma)
    place = f"{chroma.url}/api/v2/tenants/default_tenant/databases/default_database/collections"
    request("POST", place, json.dumps({"name": "docs"}).encode())
    assert [held["name"] for held in json.loads(request("GET", place))] == ["docs"]

    chroma.reset()

    assert json.loads(request("GET", place)) == []


def test_milvus_finds_the_nearest_vector_and_knows_no_collection_that_is_not_there(
    start: Callable[[type[Milvus]], Milvus],
) -> None:
    milvus = start(Milvus)
    key = {"fieldName": "id", "dataType": "Int64", "isPrimary": True}
    place = {"fieldName": "v", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}}
    index = {"fieldName": "v", "indexType": "FLAT", "metricType": "L2"}
    rows = [{"id": 1, "v": [1, 0]}, {"id": 2, "v": [0, 1]}]

    def ask(path: str, **body: object) -> dict[str, Any]:
        content = json.dumps({"collectionName": "docs", **body}).encode()
        return json.loads(request("POST", f"{milvus.url}/v2/vectordb/{path}", content))

    ask("collections/create", schema={"fields": [key, place]})
    ask("indexes/create", indexParams=[index])
    assert ask("entities/insert", data=rows)["data"]["insertCount"] == 2
    (found,) = ask("entities/search", annsField="v", data=[[0, 2]], limit=1)["data"]
    assert found == {"id": 2, "distance": 1.0}

    milvus.reset()

    assert ask("collections/describe")["code"] == 100


def test_mailpit_keeps_the_mail_it_gets(start: Callable[[type[Mailpit]], Mailpit]) -> None:
    mailpit = start(Mailpit)
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.org", "b@example.org", "disk full"
    with smtplib.SMTP("127.0.0.1", mailpit.smtp_port) as smtp:
        smtp.send_message(mail)
    assert _subjects(mailpit) == ["disk full"]

    mailpit.reset()

    assert _subjects(mailpit) == []


def _subjects(mailpit: Mailpit) -> list[str]:
    kept = json.loads(request("GET", f"{mailpit.url}/api/v1/messages"))
    return [message["Subject"] for message in kept["messages"]]


@pytest.mark.timeout(400)
@pytest.mark.xdist_group(tests.fakes.keycloak.__name__)  # its start costs more than its tests
def test_keycloak_keeps_a_client_and_refuses_an_unknown_field() -> None:
    if reason := Keycloak.available():
        pytest.skip(reason)
    keycloak = tests.fakes.keycloak.server()
    keycloak.reset()
    keycloak.admin("POST", "/realms", {"realm": "shop", "enabled": True})
    keycloak.admin("POST", "/realms/shop/clients", {"clientId": "web"})
    (client,) = keycloak.admin("GET", "/realms/shop/clients?clientId=web")
    assert client["clientId"] == "web"
    with pytest.raises(OSError, match="400"):
        keycloak.admin("POST", "/realms/shop/clients", {"clientId": "x", "nonsense": 1})

    keycloak.reset()

    assert [realm["realm"] for realm in keycloak.admin("GET", "/realms")] == ["master"]
