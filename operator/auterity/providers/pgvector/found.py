"""What PostgreSQL's catalogue tells of vector indexes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from auterity.api.vector_index import Metric
from auterity.providers.pgvector.params import Method, PgvectorIndexParams
from auterity.transport.postgresql import Row, lock_of

MARK: Final = "auterity: "
"""Begins the last line of the comment on what is ours; the owner follows."""
METRICS: Final = {
    Metric.COSINE: ("cosine_ops", "<=>"),
    Metric.EUCLIDEAN: ("l2_ops", "<->"),
    Metric.DOT_PRODUCT: ("ip_ops", "<#>"),
}
"""The ending of the operator class, and the operator that queries order by."""
DEFAULTS: Final = {"m": "16", "ef_construction": "64", "lists": "100"}

FACTS: Final = """
    SELECT n.nspname AS schema, c.relname AS name, c.relkind IN ('r', 'p') AS is_table,
        c.relnatts = 0 AS is_bare, obj_description(c.oid, 'pg_class') AS comment,
        i.indisvalid AS valid, am.amname AS method, oc.opcname AS opclass,
        c.reloptions AS options, t.relname AS table_name, col.attname AS column_name,
        col.typname AS column_type, nullif(col.atttypmod, -1) AS dimension, work.going_on
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    LEFT JOIN pg_am am ON am.oid = c.relam AND am.amname IN ('hnsw', 'ivfflat')
    LEFT JOIN pg_opclass oc ON oc.oid = i.indclass[0]
    LEFT JOIN pg_class t ON t.oid = i.indrelid
    LEFT JOIN LATERAL (
        SELECT a.attname, ty.typname, a.atttypmod
        FROM pg_attribute a JOIN pg_type ty ON ty.oid = a.atttypid
        WHERE a.attrelid = coalesce(i.indrelid, c.oid) AND a.attnum > 0 AND NOT a.attisdropped
            AND ty.typname IN ('vector', 'halfvec')
            AND (i.indexrelid IS NULL OR a.attnum = i.indkey[0])
        ORDER BY a.attnum LIMIT 1
    ) col ON true
    CROSS JOIN (
        SELECT jsonb_object_agg(l.objid::text, jsonb_build_object('pid', l.pid, 'phase', p.phase,
            'quarters', CASE WHEN p.tuples_total > 0 THEN 4 * p.tuples_done / p.tuples_total
                WHEN p.blocks_total > 0 THEN 4 * p.blocks_done / p.blocks_total END)) AS going_on
        FROM pg_locks l LEFT JOIN pg_stat_progress_create_index p ON p.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
            AND l.classid = %(locks)s::bigint::oid
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) work
"""
"""Facts about relations, and what work of ours is going on in the database."""
SOME: Final = " WHERE n.nspname = %(schema)s AND c.relname = ANY(%(names)s)"
ALL: Final = r"""
    WHERE n.nspname NOT LIKE 'pg\_%%' AND n.nspname <> 'information_schema'
        AND (am.amname IS NOT NULL OR (c.relkind IN ('r', 'p') AND col.attname IS NOT NULL))
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object of ours is. Its id is the qualified name, with the table if it has one."""

    schema: str
    name: str
    table: str | None
    """The existing table that is indexed; None if the table is ours too."""

    @classmethod
    def of(cls, want: PgvectorIndexParams) -> Self:
        """Where it is wanted."""
        return cls(want.schema_, want.name, want.table)

    @classmethod
    def parse(cls, id: str) -> Self:
        """Where the object of an id is."""
        parts = re.findall(r'"((?:[^"]|"")*)"|([^".]+)', id)
        schema, *table, name = (quoted.replace('""', '"') or plain for quoted, plain in parts)
        return cls(schema, name, table[0] if table else None)

    @property
    def id(self) -> str:
        """The id, with quotes where SQL wants them."""
        parts = [self.schema, self.table, self.name] if self.table else [self.schema, self.name]
        return ".".join(
            part if re.fullmatch("[a-z_][a-z0-9_]*", part) else '"' + part.replace('"', '""') + '"'
            for part in parts
        )

    @property
    def index(self) -> str:
        """The name of the index."""
        return self.name if self.table else f"{self.name}_index"

    @property
    def new(self) -> str:
        """The name of the index that is being built, or of the table that stands for it."""
        return f"{self.index}__new"

    @property
    def old(self) -> str:
        """The name of an index that was replaced."""
        return f"{self.index}__old"

    @property
    def names(self) -> list[str]:
        """Every name that something of ours can have."""
        return [self.name, self.index, self.new, self.old]


@dataclass(frozen=True, slots=True)
class Index:
    """An index of pgvector's."""

    table: str
    column: str | None
    method: Method
    metric: Metric | None
    parameters: Mapping[str, str]
    valid: bool

    @classmethod
    def of(cls, row: Row | None) -> Self | None:
        """None unless the relation is an index of pgvector's."""
        if row is None or row["method"] is None:
            return None
        ending = str(row["opclass"]).partition("_")[2]
        return cls(
            table=row["table_name"],
            column=row["column_name"],
            method=Method(row["method"]),
            metric=next((m for m, (ops, _) in METRICS.items() if ops == ending), None),
            parameters=dict(option.split("=", 1) for option in row["options"] or ()),
            valid=row["valid"],
        )

    def parameter(self, name: str) -> int:
        """A parameter, also where it is pgvector's default."""
        return int(self.parameters.get(name, DEFAULTS[name]))

    def fits(self, want: PgvectorIndexParams) -> bool:
        """Whether it is what is wanted, and usable."""
        return (
            self.valid
            and (self.column, self.method, self.metric) == (want.column, want.method, want.metric)
            and all(self.parameter(name) == value for name, value in want.options.items())
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What is there of one object."""

    place: Place
    root: Row | None
    """The relation of that name: the table, the index, or the ticket of an index to come."""
    index: Index | None
    new: Index | None
    """Being built, or left by a build that was interrupted."""
    old: Index | None
    """Replaced, and to be dropped."""
    work: Row | None
    """What is being done to it now, by whatever process."""

    @classmethod
    def among(cls, place: Place, named: Mapping[str, Row]) -> Self | None:
        """The object's part of a schema's relations by name; None if there is nothing."""
        root = named.get(place.name)
        index, new, old = (
            found if (found := Index.of(named.get(name))) and found.table == table else None
            for table in [place.table or place.name]
            for name in (place.index, place.new, place.old)
        )
        if root is None and new is None and old is None:
            return None
        going_on = next(iter(named.values()))["going_on"] or {}
        work = going_on.get(str(lock_of(place.id) % (1 << 32)))
        return cls(place, root, index, new, old, work)

    @property
    def is_ticket(self) -> bool:
        """Whether it is the empty table that stands for an index to come."""
        return bool(self.root and self.root["is_table"] and self.root["is_bare"])

    @property
    def is_alien(self) -> bool:
        """Whether the name is taken by something of another sort."""
        if self.root is None:
            return False
        if self.place.table is None:
            return bool(not self.root["is_table"] or self.root["is_bare"])
        return self.index is None and not self.is_ticket

    @property
    def is_unfinished(self) -> bool:
        """Whether a build has not come to its end."""
        invalid = self.index is not None and not self.index.valid
        return bool(self.new or self.old or self.is_ticket or invalid)

    @property
    def comment(self) -> str:
        """The comment on it."""
        return str((self.root or {}).get("comment") or "")

    @property
    def owner(self) -> str | None:
        """Whose mark it carries."""
        last = self.comment.rpartition("\n")[2]
        marked = last.startswith(MARK) and not self.is_alien
        return last.removeprefix(MARK) if marked else None

    @property
    def progress(self) -> str:
        """How far the work is: in quarters, so that the status is not written at every look."""
        if self.work is None or self.work["phase"] is None:
            return "the index is being replaced"
        text = f"the index is being built: {self.work['phase']}"
        quarters = self.work["quarters"]
        return text if quarters is None else f"{text}, {quarters * 25} %"
