"""raw_loads: the loaded file of each month of raw_trips. Its columns are the fields of LoadedFile."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, get_type_hints

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from taxi_orchestration.postgres.connection import WarehouseError, connect, translate_errors
from taxi_orchestration.settings import PostgresTarget
from taxi_orchestration.warehouse.relations import TABLE, Relation, find_relations
from taxi_orchestration.warehouse.warehouse import Warehouse


@dataclass(frozen=True)
class LoadedFile:
    """The loaded file of a month, a row of raw_loads: each field is a column with its type, constraint and comment.

    `rows_sha256` is None until the rows are copied.
    """

    source_month: Annotated[date, "date", "primary key", "Month of the file, as its first day."]
    url: Annotated[str, "text", "not null", "URL that the file was downloaded from."]
    etag: Annotated[str | None, "text", "", "ETag of the file, as the host gave it."]
    last_modified: Annotated[
        datetime | None,
        "timestamp with time zone",
        "",
        "When the host says that the file was published: Last-Modified.",
    ]
    bytes: Annotated[int, "bigint", "not null", "Size of the file in bytes."]
    sha256: Annotated[str, "text", "not null", "SHA-256 of the file."]
    rows: Annotated[int, "bigint", "not null", "Number of rows in the file, all of which are in raw_trips."]
    columns: Annotated[Mapping[str, str], "jsonb", "not null", "Columns of the file, with their types in the file."]
    drift: Annotated[
        Mapping[str, Mapping[str, str]],
        "jsonb",
        "not null",
        "How the columns of the file differ from those of its era, and which were left out because the program that "
        "wrote the file added them; empty where none.",
    ]
    dagster_run_id: Annotated[str | None, "text", "", "The Dagster run that loaded the month."]
    rows_sha256: Annotated[
        str | None, "text", "not null", "SHA-256 of the rows; two files with the same rows have the same value."
    ] = None
    loaded_at: Annotated[
        datetime | None, "timestamp with time zone", "not null default now()", "When the month was loaded."
    ] = None


_HINTS = get_type_hints(LoadedFile, include_extras=True)
RAW_LOADS_COLUMNS = {name: " ".join(hint.__metadata__[:2]) for name, hint in _HINTS.items()}
RAW_LOADS_DESCRIPTIONS = [(name, hint.__metadata__[0], hint.__metadata__[2]) for name, hint in _HINTS.items()]
RAW_LOADS = Relation("raw_loads", TABLE, RAW_LOADS_COLUMNS)
_NAMES = sql.SQL(", ").join(map(sql.Identifier, RAW_LOADS_COLUMNS))


class NewerFileLoadedError(WarehouseError):
    """Another process loaded a newer file of the month during a download; the newer file stays."""


def loaded_files(warehouse: Warehouse) -> dict[date, LoadedFile]:
    """Read raw_loads, by month; empty if the table does not exist yet."""
    with warehouse.connect(f"Reading {warehouse.schema}.raw_loads") as connection:
        if not find_relations(connection, warehouse, [RAW_LOADS]):
            return {}
        statement = sql.SQL("select {} from {} order by source_month")
        rows = connection.execute(statement.format(_NAMES, warehouse.identifier(RAW_LOADS.name)))
        return {row[0]: LoadedFile(*row) for row in rows}


def count_months_by_schema(target: PostgresTarget) -> dict[str, int]:
    """Count the loaded months in each schema of a database that has any."""
    with translate_errors("Counting the loaded months", target), connect(target) as connection:
        schemas = connection.execute(
            "select nspname from pg_class join pg_namespace n on n.oid = relnamespace where relname = %s",
            [RAW_LOADS.name],
        ).fetchall()
        months: dict[str, int] = {}
        for (schema,) in schemas:
            statement = sql.SQL("select count(*) from {}").format(sql.Identifier(schema, RAW_LOADS.name))
            (months[schema],) = connection.execute(statement).fetchone() or (0,)
        return {schema: count for schema, count in months.items() if count}


def refuse_older(connection: psycopg.Connection, warehouse: Warehouse, file: LoadedFile, requested_at: float) -> None:
    """Raise NewerFileLoadedError where a newer file was loaded since time.perf_counter() was `requested_at`."""
    # Durations are compared, so that the clocks of the server and of this machine may differ.
    newer = connection.execute(
        sql.SQL(
            """
            select last_modified from {}
            where source_month = %s and last_modified > %s and loaded_at > clock_timestamp() - make_interval(secs => %s)
            """
        ).format(warehouse.identifier(RAW_LOADS.name)),
        [file.source_month, file.last_modified, time.perf_counter() - requested_at],
    ).fetchone()
    if newer:
        raise NewerFileLoadedError(
            f"Loading {file.source_month:%Y-%m} from {file.url} failed: while the file of {file.last_modified} was "
            f"downloaded, another process loaded the file of {newer[0]}, which stays. Load the month again."
        )


def log_load(connection: psycopg.Connection, warehouse: Warehouse, file: LoadedFile) -> None:
    """Write the row of raw_loads that names this file as the file of its month."""
    row = {name: Jsonb(dict(value)) if isinstance(value, Mapping) else value for name, value in vars(file).items()}
    values = [sql.DEFAULT if name == "loaded_at" else sql.Placeholder(name) for name in RAW_LOADS_COLUMNS]
    changes = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in RAW_LOADS_COLUMNS]
    statement = sql.SQL("insert into {} ({}) values ({}) on conflict (source_month) do update set {}").format(
        warehouse.identifier(RAW_LOADS.name), _NAMES, sql.SQL(", ").join(values), sql.SQL(", ").join(changes)
    )
    connection.execute(statement, row)
