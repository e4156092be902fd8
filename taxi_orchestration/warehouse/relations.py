"""The names of the pipeline's tables and views: free, in use by the pipeline, or taken by a foreign object."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.warehouse.warehouse import Warehouse

TABLE = frozenset({"table", "partitioned table"})
VIEW = frozenset({"view"})

# pg_class.relkind, and `type` for a name in pg_type alone, which a table's row type cannot share.
_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "i": "index",
    "I": "partitioned index",
    "c": "composite type",
    "type": "type",
}
_COLUMNS_SHOWN = 5


@dataclass(frozen=True)
class Relation:
    """A table or view that the pipeline makes or reads: its name, its kind in PostgreSQL, and its columns."""

    name: str
    kinds: frozenset[str]
    columns: Collection[str]


def find_relations(
    connection: psycopg.Connection, warehouse: Warehouse, relations: Sequence[Relation], *, to_change: bool = False
) -> set[str]:
    """Return the names of the relations that exist.

    Raises WarehouseError where a foreign object has such a name: an object of another kind, one that lacks more than
    half of the columns (one of another version lacks few), or, with `to_change`, one that another role owns.
    """
    rows = connection.execute(
        """
        select
            relname, relkind::text, pg_get_userbyid(relowner), pg_has_role(relowner, 'usage'),
            array(select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped)
        from pg_class c
        where relnamespace = to_regnamespace(%(schema)s) and relname = any(%(names)s)
        union all
        select typname, 'type', pg_get_userbyid(typowner), pg_has_role(typowner, 'usage'), '{}'
        from pg_type
        where typnamespace = to_regnamespace(%(schema)s) and typname = any(%(names)s) and typrelid = 0
        """,
        {"schema": warehouse.schema, "names": [relation.name for relation in relations]},
    ).fetchall()
    by_name = {relation.name: relation for relation in relations}
    for name, kind_code, owner, is_owned, columns in rows:
        relation, kind = by_name[name], _KINDS.get(kind_code, "object")
        missing = [column for column in relation.columns if column not in columns]
        place = f"{warehouse.schema}.{name} is a {kind} that belongs to {owner}"
        if kind not in relation.kinds:
            found = f"{place}, where the pipeline has a {min(relation.kinds, key=len)}"
        elif 2 * len(missing) > len(relation.columns):
            found = f"{place} and lacks the pipeline's columns {_listed(missing)}"
        elif to_change and not is_owned:
            found = f"{place}, and {warehouse.target.user} may not change it"
        else:
            continue
        raise WarehouseError(f"{found}. Nothing was changed. {_advice(warehouse, name, kind)}")
    return {name for name, *_ in rows}


def refuse_foreign_relations(warehouse: Warehouse, relations: Sequence[Relation]) -> None:
    """Raise WarehouseError where a foreign object has the name of one of these tables and views."""
    with warehouse.connect(f"Looking into schema {warehouse.schema}") as connection:
        find_relations(connection, warehouse, relations, to_change=True)


def _advice(warehouse: Warehouse, name: str, kind: str) -> str:
    # `alter table` renames relations, indexes and sequences of every kind, but no type.
    keyword = sql.SQL("type" if "type" in kind else "table")
    rename = sql.SQL("alter {} {} rename to {}").format(
        keyword, warehouse.identifier(name), sql.Identifier(f"{name}_old")
    )
    return (
        f"Let its owner rename it ({rename.as_string()}), or set PG_SCHEMA or DAGSTER_STUDENT to another schema; then "
        "run it again."
    )


def _listed(columns: Sequence[str]) -> str:
    rest = len(columns) - _COLUMNS_SHOWN
    return ", ".join(columns[:_COLUMNS_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
