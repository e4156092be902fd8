"""The same month with other tools: each replaces the month in its documented way, and then its rows are counted."""

import io
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import requests
from psycopg import sql

from bench.results import Goal, Section
from bench.workplace import MONTH_ROWS, SCHEMA, Workplace, workplace
from taxi_orchestration.instance.storage import DRIVER
from taxi_orchestration.months import next_month
from taxi_orchestration.postgres.binaries import MAJOR, find_psql
from taxi_orchestration.tlc.client import month_url
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.raw_tables import partition_of

MONTH = date(2024, 1, 1)
TABLE = "peer_trips"
COURSE = "course: pandas to_sql after DELETE"
# Larger months take minutes with the course's way, for only one column of the table.
LARGEST = {COURSE: MONTH_ROWS}


def run(quick: bool) -> Section:
    """Load a month and replace it several times; report the median of the replacements and the number of rows."""
    sizes = [MONTH_ROWS] if quick else [MONTH_ROWS, 250_000]
    seconds: dict[str, dict[int, float]] = {}
    counts: dict[str, int] = {}
    with workplace() as place:
        for size in sizes:
            place.publish(MONTH, size)
            for name, way in WAYS.items():
                if size <= LARGEST.get(name, size):
                    taken, counts[name] = _measure_replacement(place, name, way, 1 if quick or name == COURSE else 3)
                    seconds.setdefault(name, {})[size] = taken
                    if name != COURSE and counts[name] != size:
                        raise RuntimeError(f"{name} left {counts[name]} rows of a file of {size}")
    ours, small = seconds["taxi"], sizes[0]
    fastest = min(taken[small] for name, taken in seconds.items() if name != "taxi")
    return Section(
        "Peers",
        [
            Goal(
                f"one month of {small:,} rows replaced, against the fastest peer",
                fastest / ours[small],
                "×",
                at_least=1,
                measured=f"{ours[small]:.2f} against {fastest:.2f} s",
            ),
            Goal(
                f"one month of {small:,} rows replaced, against the course's way",
                seconds[COURSE][small] / ours[small],
                "×",
                at_least=40,
                measured=f"{ours[small]:.2f} against {seconds[COURSE][small]:.1f} s",
            ),
        ],
        ["one month replaced", *(text for size in sizes for text in (f"{size:,} rows, s", "rows a second"))],
        [
            [
                name,
                *(
                    text
                    for size in sizes
                    for text in ((f"{of[size]:.2f}", f"{size / of[size]:,.0f}") if size in of else ("", ""))
                ),
            ]
            for name, of in seconds.items()
        ],
        note="From the request of the file to the commit, with the same host, file and server. Each way leaves as many "
        "rows as the file has"
        + ("" if counts[COURSE] == small else f", except the course's: {counts[COURSE]:,} of {small:,}")
        + ". Ours includes the checks of the file, its digest, the primary key and the entry in raw_loads; the others "
        "do none of that. Versions are in constraints.txt.",
        quotes={
            "month": f"{ours[small]:.2f} s",
            "month_course": f"{seconds[COURSE][small]:.1f} s",
            "month_ratio": f"{seconds[COURSE][small] / ours[small]:.0f}",
        },
    )


def _measure_replacement(
    place: Workplace, name: str, way: Callable[[Workplace, date], None], times: int
) -> tuple[float, int]:
    """Return the median of the seconds of a replacement, and the number of rows after it."""
    place.start_over()
    with psycopg.connect(place.target.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(SCHEMA)))
    taken = []
    for _ in range(times + 1):
        place.settle()
        start = time.perf_counter()
        way(place, MONTH)
        taken.append(time.perf_counter() - start)
    table = "raw_trips" if name == "taxi" else TABLE
    with psycopg.connect(place.target.url()) as connection:
        query = sql.SQL("select count(*) from {}").format(sql.Identifier(SCHEMA, table))
        ((count,),) = connection.execute(query).fetchall()
    return statistics.median(taken[1:]), count


def measure_course(place: Workplace, month: date) -> float:
    """Return the seconds of the course's way for a month that is not loaded yet, and drop its table."""
    start = time.perf_counter()
    _replace_with_course(place, month)
    seconds = time.perf_counter() - start
    with psycopg.connect(place.target.url()) as connection:
        connection.execute(sql.SQL("drop table {}").format(sql.Identifier(SCHEMA, TABLE)))
    return seconds


def measure_limit(place: Workplace, month: date) -> float:
    """Return the seconds of psql for a ready binary file into an empty table: no client can be faster.

    The month must be loaded: the file is exported from it before the measurement starts.
    """
    file = place.directory / "ready.bin"
    table = sql.Identifier(SCHEMA, TABLE)
    with psycopg.connect(place.target.url(), autocommit=True) as connection:
        child = sql.Identifier(SCHEMA, partition_of(month))
        statement = sql.SQL("copy {} to stdout with (format binary)").format(child)
        with file.open("wb") as out, connection.cursor().copy(statement) as copy:
            for block in copy:
                out.write(block)
        connection.execute(sql.SQL("drop table if exists {}").format(table))
        connection.execute(sql.SQL("create table {} (like {})").format(table, sql.Identifier(SCHEMA, "raw_trips")))
        connection.execute("checkpoint")
    command = f"\\copy {SCHEMA}.{TABLE} from '{file}' with (format binary)"
    start = time.perf_counter()
    subprocess.run([find_psql(MAJOR), "--no-psqlrc", "--quiet", place.target.url(), "--command", command], check=True)
    seconds = time.perf_counter() - start
    Path(file).unlink()
    return seconds


def _replace_with_taxi(place: Workplace, month: date) -> None:
    with place.loader() as loader:
        loader.load_month(month)


def _replace_with_course(place: Workplace, month: date) -> None:
    """DELETE by the month of the pickup, then `to_sql(method="multi", chunksize=1000)`: loses and duplicates rows."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(place.target.url(DRIVER))
    frame = _read_frame(place, month)
    with engine.begin() as connection:
        if sqlalchemy.inspect(connection).has_table(TABLE, schema=SCHEMA):
            connection.execute(
                sqlalchemy.text(
                    f"delete from {SCHEMA}.{TABLE} where {DATASET.pickup} >= :start and {DATASET.pickup} < :end"
                ),
                {"start": month, "end": next_month(month)},
            )
        frame.to_sql(TABLE, connection, schema=SCHEMA, if_exists="append", index=False, method="multi", chunksize=1000)
    engine.dispose()


def _replace_with_pandas(place: Workplace, month: date) -> None:
    """COPY of CSV that pandas writes, after a DELETE in the same transaction."""
    import pandas as pd
    import sqlalchemy

    frame = _read_frame(place, month).convert_dtypes().assign(source_month=pd.Timestamp(month))
    engine = sqlalchemy.create_engine(place.target.url(DRIVER))
    frame.head(0).to_sql(TABLE, engine, schema=SCHEMA, if_exists="append", index=False)
    engine.dispose()
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, header=False)
    with psycopg.connect(place.target.url()) as connection:
        _delete_month(connection, month)
        statement = sql.SQL("copy {} from stdin with (format csv)").format(sql.Identifier(SCHEMA, TABLE))
        with connection.cursor().copy(statement) as copy:
            copy.write(buffer.getvalue())


def _replace_with_adbc(place: Workplace, month: date) -> None:
    """Ingestion by Arrow's database driver, after a DELETE in the same transaction."""
    import adbc_driver_postgresql.dbapi

    table = _read_arrow(place, month)
    with adbc_driver_postgresql.dbapi.connect(place.target.url()) as connection, connection.cursor() as cursor:
        has_table = _has_table(place)
        if has_table:
            cursor.execute(_compose_delete(month).as_string())
        cursor.adbc_ingest(TABLE, table, mode="append" if has_table else "create", db_schema_name=SCHEMA)
        connection.commit()


def _replace_with_polars(place: Workplace, month: date) -> None:
    """`write_database` of polars with its ADBC engine, after a DELETE."""
    import polars as pl

    frame = pl.read_parquet(io.BytesIO(_download(place, month))).with_columns(pl.lit(month).alias("source_month"))
    has_table = _has_table(place)
    if has_table:
        with psycopg.connect(place.target.url()) as connection:
            _delete_month(connection, month)
    # With this driver "append" fails if the table does not exist.
    mode: Any = "append" if has_table else "fail"
    frame.write_database(f"{SCHEMA}.{TABLE}", place.target.url(), engine="adbc", if_table_exists=mode)


def _make_dlt_replacement(disposition: Any) -> Callable[[Workplace, date], None]:
    """Return a replacement by a dlt pipeline from an Arrow table to the destination postgres."""

    def replace(place: Workplace, month: date) -> None:
        import dlt

        os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
        pipeline = dlt.pipeline(
            pipeline_name=TABLE,
            pipelines_dir=str(place.directory / "dlt" / str(disposition)),
            destination=dlt.destinations.postgres(place.target.url()),
            dataset_name=SCHEMA,
        )
        trips = dlt.resource(
            [_read_arrow(place, month)], name=TABLE, write_disposition=disposition, merge_key="source_month"
        )
        pipeline.run(trips).raise_on_failed_jobs()

    return replace


WAYS: dict[str, Callable[[Workplace, date], None]] = {
    "taxi": _replace_with_taxi,
    "ADBC: adbc_ingest after DELETE": _replace_with_adbc,
    "polars: write_database (ADBC) after DELETE": _replace_with_polars,
    "pandas: COPY of CSV after DELETE": _replace_with_pandas,
    "dlt: merge (delete-insert) by month": _make_dlt_replacement({"disposition": "merge", "strategy": "delete-insert"}),
    "dlt: replace of the table": _make_dlt_replacement("replace"),
    COURSE: _replace_with_course,
}


def _download(place: Workplace, month: date) -> bytes:
    return requests.get(month_url(place.url, month), timeout=60).content


def _read_frame(place: Workplace, month: date) -> Any:
    import pandas as pd

    return pd.read_parquet(io.BytesIO(_download(place, month))).rename(columns=str.lower)


def _read_arrow(place: Workplace, month: date) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(_download(place, month)))
    table = table.rename_columns([name.lower() for name in table.column_names])
    return table.append_column("source_month", pa.repeat(pa.scalar(month), table.num_rows))


def _has_table(place: Workplace) -> bool:
    with psycopg.connect(place.target.url()) as connection:
        return connection.execute("select to_regclass(%s)", [f"{SCHEMA}.{TABLE}"]).fetchone() != (None,)


def _delete_month(connection: psycopg.Connection, month: date) -> None:
    connection.execute(_compose_delete(month))


def _compose_delete(month: date) -> sql.Composed:
    """Return the DELETE of a month, composed for drivers with other placeholders too."""
    return sql.SQL("delete from {} where source_month = {}").format(sql.Identifier(SCHEMA, TABLE), month)
