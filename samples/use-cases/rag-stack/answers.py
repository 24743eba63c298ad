"""Keeps passages with their vectors, and answers a question with those nearest to it.

    answers.py keep passages.txt     paragraphs of a file; a passage is kept once
    answers.py ask "When do parcels leave?"

Needs psycopg. Where index and model are, the environment tells: application.yaml fills it from the
Secrets that the operator publishes.
"""

import json
import os
import sys
from pathlib import Path
from urllib.request import Request, urlopen
from uuid import NAMESPACE_OID, uuid5

import psycopg
from psycopg.sql import SQL, Identifier

TABLE = Identifier(os.environ["INDEX_SCHEMA"], os.environ["INDEX_TABLE"])
COLUMN = Identifier(os.environ["INDEX_COLUMN"])
NEAREST = SQL(os.environ["INDEX_OPERATOR"])


def vectors(texts: list[str]) -> list[str]:
    """What the model makes of the texts, as pgvector reads it."""
    request = Request(
        f"{os.environ['EMBEDDER_URL']}/embed",
        data=json.dumps({"inputs": texts}).encode(),
        headers={
            "Authorization": f"Bearer {os.environ['EMBEDDER_TOKEN']}",
            "Content-Type": "application/json",
        },
    )
    with urlopen(request, timeout=60) as answer:
        return [json.dumps(vector) for vector in json.load(answer)]


def keep(index: psycopg.Connection, passages: list[str]) -> None:
    """Store passages; one that is there already is written again."""
    statement = SQL(
        "INSERT INTO {table} (id, {column}, metadata) VALUES (%s, %s::vector, %s) "
        "ON CONFLICT (id) DO UPDATE SET {column} = excluded.{column}"
    ).format(table=TABLE, column=COLUMN)
    rows = [
        (uuid5(NAMESPACE_OID, text), vector, json.dumps({"text": text}))
        for text, vector in zip(passages, vectors(passages), strict=True)
    ]
    index.cursor().executemany(statement, rows)
    print(f"{len(rows)} passages kept in {os.environ['INDEX_TABLE']}")


def ask(index: psycopg.Connection, question: str) -> None:
    """Print the passages nearest to a question, the nearest first."""
    (vector,) = vectors([question])
    query = SQL(
        "SELECT {column} {nearest} %(vector)s::vector AS distance, metadata->>'text' "
        "FROM {table} ORDER BY distance LIMIT 2"
    ).format(table=TABLE, column=COLUMN, nearest=NEAREST)
    for distance, text in index.execute(query, {"vector": vector}):
        print(f"{distance:.2f}  {text}")


def main() -> None:
    """Do what the command line says."""
    command, what = sys.argv[1:]
    # User and password are PGUSER's and PGPASSWORD's.
    with psycopg.connect(os.environ["INDEX_DSN"]) as index:
        if command == "keep":
            keep(index, [" ".join(part.split()) for part in Path(what).read_text().split("\n\n")])
        else:
            ask(index, what)


if __name__ == "__main__":
    main()
