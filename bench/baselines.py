"""The other ways to bring a month into PostgreSQL: the course's, two usual ones, and the limit of a client."""

import io
import subprocess
import time
from datetime import date
from pathlib import Path

import adbc_driver_postgresql.dbapi
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import requests
import sqlalchemy
from psycopg import sql

from bench.workplace import SCHEMA, Workplace
from taxi_orchestration.instance.storage import DRIVER
from taxi_orchestration.months import next_month
from taxi_orchestration.tlc.client import month_url
from taxi_orchestration.tlc.dataset import DATASET

BASELINE = "baseline"


def course(place: Workplace, month: date) -> float:
    """The course's way: pandas, DELETE by the month of the pickup, `to_sql(method="multi", chunksize=1000)`.

    Seconds from asking for the file to the commit. It loses and doubles rows; it is here for its speed.
    """
    engine = sqlalchemy.create_engine(place.target.url(DRIVER))
    _make_empty(place)
    start = time.perf_counter()
    frame = _download(place, month)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                f"delete from {SCHEMA}.{BASELINE} where {DATASET.pickup} >= :start and {DATASET.pickup} < :end"
            ),
            {"start": month, "end": next_month(month)},
        )
        frame.to_sql(
            BASELINE, connection, schema=SCHEMA, if_exists="append", index=False, method="multi", chunksize=1000
        )
    seconds = time.perf_counter() - start
    engine.dispose()
    return seconds


def pandas_csv(place: Workplace, month: date) -> float:
    """pandas writes CSV, COPY reads it. Seconds from asking for the file to the commit."""
    _make_empty(place)
    start = time.perf_counter()
    frame = _download(place, month).astype({name: "Int64" for name in _INTEGERS})
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, header=False)
    buffer.seek(0)
    columns = sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    with psycopg.connect(place.target.url()) as connection:
        statement = sql.SQL("copy {} ({}) from stdin with (format csv)").format(_table(), columns)
        with connection.cursor().copy(statement) as copy:
            while block := buffer.read(1 << 20):
                copy.write(block)
    return time.perf_counter() - start


def adbc(place: Workplace, month: date) -> float:
    """Arrow's own driver, into the table as it is. Seconds from asking for the file to the commit."""
    _make_empty(place)
    start = time.perf_counter()
    table = pq.read_table(io.BytesIO(_get(place, month)))
    # In append mode it stores whatever bits it is given: the types must be the table's.
    types = {name.lower(): pa.int32() for name in _INTEGERS}
    table = table.rename_columns([name.lower() for name in table.column_names])
    table = table.cast(pa.schema([pa.field(f.name, types.get(f.name, _plain(f.type))) for f in table.schema]))
    with adbc_driver_postgresql.dbapi.connect(place.target.url()) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest(BASELINE, table, mode="append", db_schema_name=SCHEMA)
        connection.commit()
    return time.perf_counter() - start


def limit(place: Workplace, month: date) -> float:
    """psql sends a ready binary file into an empty table of the same columns: no client can do more.

    The month has to be loaded: the file is made of it, before the clock starts.
    """
    file = place.directory / "ready.bin"
    child = sql.Identifier(SCHEMA, f"raw_trips_{month:%Y_%m}")
    with psycopg.connect(place.target.url(), autocommit=True) as connection:
        statement = sql.SQL("copy {} to stdout with (format binary)").format(child)
        with file.open("wb") as out, connection.cursor().copy(statement) as copy:
            for block in copy:
                out.write(block)
        _make_empty(place)
    command = f"\\copy {SCHEMA}.{BASELINE} from '{file}' with (format binary)"
    start = time.perf_counter()
    subprocess.run(["psql", "--no-psqlrc", "--quiet", place.target.url(), "--command", command], check=True)
    seconds = time.perf_counter() - start
    Path(file).unlink()
    return seconds


_INTEGERS = ("vendorid", "ratecodeid", "pulocationid", "dolocationid", "passenger_count", "payment_type", "trip_type")


def _table() -> sql.Identifier:
    return sql.Identifier(SCHEMA, BASELINE)


def _make_empty(place: Workplace) -> None:
    """An empty table with the columns of raw_trips, without its key."""
    with psycopg.connect(place.target.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("drop table if exists {}").format(_table()))
        connection.execute(sql.SQL("create table {} (like {})").format(_table(), sql.Identifier(SCHEMA, "raw_trips")))
        # What the other ways know nothing of.
        for column in ("source_month", "source_row"):
            connection.execute(
                sql.SQL("alter table {} alter column {} drop not null").format(_table(), sql.Identifier(column))
            )
        connection.execute("checkpoint")


def _get(place: Workplace, month: date) -> bytes:
    return requests.get(month_url(place.url, month), timeout=60).content


def _download(place: Workplace, month: date) -> pd.DataFrame:
    frame = pd.read_parquet(io.BytesIO(_get(place, month)))
    return frame.rename(columns=str.lower)


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.string() if kind == pa.large_string() else kind
