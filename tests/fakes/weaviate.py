"""The real thing: Weaviate 1.35.2, one node, built from its Go module."""

import atexit
import json
from functools import cache
from typing import Any, ClassVar
from urllib.request import ProxyHandler, Request, build_opener

from auterity.providers.weaviate.index import MARK, WeaviateIndex
from tests.conformance.vendor import Edit, Refusal, Vendor
from tools.servers.weaviate import Weaviate as Server

JSON = dict[str, Any]
KEY = "wv-9tQ4xKp2-adminADMIN-7mRs"
OTHER_KEY = "wv-1bN8zLf5-wrongWRONG-3kTd"


@cache
def server() -> Server:
    """One server serves all tests of a process."""
    started = Server(KEY).start()
    atexit.register(started.stop)
    return started


def ask(method: str, path: str, body: Any = None) -> Any:
    """A call of an outsider."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{server().url}/v1{path}", data, headers, method=method)
    with build_opener(ProxyHandler({})).open(request, timeout=30) as answer:
        raw = answer.read()
    return json.loads(raw) if raw else None


class Weaviate(Vendor):
    provider = WeaviateIndex
    takes_time = True
    spec: ClassVar[JSON] = {
        "dimension": 512,
        "metric": "dotProduct",
        "weaviate": {
            "description": "Articles of the help centre",
            "vectorName": "body",
            "hnsw": {"maxConnections": 16, "efConstruction": 64, "ef": 100},
            "vectorizer": {
                "module": "text2vec-openai",
                "settings": {
                    "model": "text-embedding-3-small",
                    "dimensions": "512",
                    "vectorizeClassName": "false",
                },
            },
            "generative": {"module": "generative-openai", "settings": {"model": "gpt-4o"}},
            "properties": {
                "title": {"dataType": "text", "description": "Its heading"},
                "tags": {"dataType": "text[]", "tokenization": "field", "indexSearchable": False},
            },
            "invertedIndex": {"indexTimestamps": True, "bm25B": 0.5},
            "multiTenancy": {"enabled": True, "autoTenantCreation": True},
        },
    }
    edits = (
        Edit("another description", {"weaviate": {"description": "Articles, and answers"}}),
        Edit("a wider search", {"weaviate": {"hnsw": {"ef": 200, "filterStrategy": "sweeping"}}}),
        Edit("Weaviate's own search", {"weaviate": {"hnsw": {"ef": -1, "dynamicEfMax": 700}}}),
        Edit("a compressed copy", {"weaviate": {"quantization": "rq"}}),
        Edit(
            "a property described otherwise",
            {"weaviate": {"properties": {"title": {"description": "What it is about"}}}},
        ),
        Edit(
            "a property added",
            {"weaviate": {"properties": {"year": {"dataType": "int", "indexRangeFilters": True}}}},
        ),
        Edit(
            "an answering model",
            {
                "weaviate": {
                    "generative": {"settings": {"model": "gpt-4o-mini", "temperature": "0.2"}}
                }
            },
        ),
        Edit(
            "a module added",
            {
                "weaviate": {
                    "reranker": {"module": "reranker-cohere", "settings": {"model": "rerank"}}
                }
            },
        ),
        Edit(
            "keyword search", {"weaviate": {"invertedIndex": {"bm25K1": 1.5, "stopwords": "none"}}}
        ),
        Edit(
            "tenants",
            {
                "weaviate": {
                    "multiTenancy": {"autoTenantCreation": False, "autoTenantActivation": True}
                }
            },
        ),
        Edit("deleted objects", {"weaviate": {"deletionStrategy": "DeleteOnConflict"}}),
        Edit(
            "nothing but a vector",
            {"weaviate": {"description": None, "generative": None, "invertedIndex": None}},
        ),
    )
    immutable: ClassVar[JSON] = {"dimension": 256, "metric": "cosine"}
    refusal = Refusal(
        {"weaviate": {"replicationFactor": 3}}, "enough weaviate nodes for replication"
    )
    secrets: ClassVar[dict[str, dict[str, str]]] = {"weaviate": {"apiKey": KEY}}
    wrong_secrets: ClassVar[dict[str, dict[str, str]]] = {"weaviate": {"apiKey": OTHER_KEY}}

    @classmethod
    def missing(cls) -> str | None:
        return Server.available()

    async def start(self) -> None:
        self.url = server().url

    async def stop(self) -> None:
        await self.reset()

    async def reset(self) -> None:
        self.slow = False
        for held in ask("GET", "/schema")["classes"]:
            ask("DELETE", f"/schema/{held['class']}")

    def connection(self, endpoint: str | None) -> JSON:
        return {
            "endpoint": endpoint,
            "apiKey": {"secretKeyRef": {"name": "weaviate", "key": "apiKey"}},
        }

    async def count(self) -> int:
        """Collections, and the properties of them."""
        classes = ask("GET", "/schema")["classes"]
        return sum(1 + len(held["properties"] or []) for held in classes)

    async def tamper(self, id: str) -> str:
        held = ask("GET", f"/schema/{id}")
        held["vectorConfig"]["body"]["vectorIndexConfig"]["ef"] = 33
        ask("PUT", f"/schema/{id}", held)
        return "hnsw.ef"

    async def vanish(self, id: str) -> None:
        ask("DELETE", f"/schema/{id}")

    async def foreign(self, spec: JSON, name: str, owner: str | None) -> None:
        own = spec["weaviate"]
        vectorizer = {"model": "text-embedding-3-small", "dimensions": 512}
        vector = {
            "vectorizer": {"text2vec-openai": {**vectorizer, "vectorizeClassName": False}},
            "vectorIndexType": "hnsw",
            "vectorIndexConfig": {"distance": "dot", "maxConnections": 16, "efConstruction": 64},
        }
        ask(
            "POST",
            "/schema",
            {
                "class": name,
                "description": "Made by hand" + (f"\n{MARK}{owner}" if owner else ""),
                "vectorConfig": {own["vectorName"]: vector},
                "properties": [{"name": "stars", "dataType": ["number"]}],
                "invertedIndexConfig": {"indexTimestamps": True},
                "multiTenancyConfig": {"enabled": True},
            },
        )
