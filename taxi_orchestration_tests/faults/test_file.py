"""Faulty files, which are refused before a commit, and files of unusual form, which are loaded without loss.

unit/tlc/test_parquet.py tests the errors of the reader in detail; the tests here check the content of the database.
"""

import io
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import sql

from taxi_orchestration.loading import Loader
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc import parquet
from taxi_orchestration.tlc.client import TlcClient
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.tlc.errors import BadFileError
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, content_of_file, contents_of_schema
from taxi_orchestration_tests.support.parquet_files import damaged, file_of
from taxi_orchestration_tests.support.synthetic import month_table
from taxi_orchestration_tests.support.tlc_host import TlcHost

TABLE = month_table(JANUARY, 200)
PICKUP, DROPOFF = DATASET.pickup, DATASET.dropoff


def replace_column(name: str, values: object, kind: pa.DataType | None = None) -> pa.Table:
    """Return the month with other values in one column."""
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values = pa.array(values, kind)
    return TABLE.set_column(TABLE.column_names.index(name), name, values)


def replace_value(name: str, value: object, kind: pa.DataType) -> pa.Table:
    """Return the month with one other value in the middle of a column."""
    values = TABLE[name].cast(kind).to_pylist()
    return replace_column(name, [*values[:99], value, *values[100:]], kind)


def replace_text(raw: bytes) -> pa.Table:
    """Return the month with one text value in raw bytes, which pyarrow itself would not write."""
    values = pa.array([b"N"] * 99 + [raw] + [b"N"] * 100)
    return replace_column("store_and_fwd_flag", pa.Array.from_buffers(pa.string(), 200, values.buffers()))


def set_lzo_codec(content: bytes) -> bytes:
    """Return the file with codec 3 (LZO), which pyarrow lacks, in the footer; it follows the path of each column."""
    for name in TABLE.column_names:
        codec = len(name).to_bytes() + name.encode() + b"\x15"
        content = content.replace(codec + b"\x02", codec + b"\x06")
    return content


GOOD = file_of(TABLE)
REFUSED: dict[str, Callable[[], bytes]] = {
    "not parquet": lambda: b"PAR1 but no more than that PAR1",
    "footer damaged": lambda: GOOD[:-300] + bytes(100) + GOOD[-200:],
    "a page damaged": lambda: damaged(GOOD),
    "no rows": lambda: file_of(TABLE.slice(0, 0)),
    "a required column missing": lambda: file_of(TABLE.drop_columns([PICKUP])),
    "a required column renamed": lambda: file_of(
        TABLE.rename_columns([f"{n}_utc" if n == PICKUP else n for n in TABLE.column_names])
    ),
    "two columns that differ only in case": lambda: file_of(TABLE.append_column("VENDORID", TABLE["VendorID"])),
    "a hostile column name": lambda: file_of(TABLE.append_column('x"; drop table raw_trips; --', TABLE["VendorID"])),
    "row numbers of pandas": lambda: file_of(TABLE.append_column("Unnamed: 0", TABLE["VendorID"])),
    "a space at the end of a name": lambda: file_of(
        TABLE.rename_columns([f"{n} " if n == "trip_type" else n for n in TABLE.column_names])
    ),
    "a compression that pyarrow does not support": lambda: set_lzo_codec(file_of(TABLE)),
    "a column named like the key": lambda: file_of(TABLE.append_column("source_row", TABLE["VendorID"])),
    "a fraction in a code": lambda: file_of(replace_value("RatecodeID", 1.5, pa.float64())),
    "NaN in a code": lambda: file_of(replace_value("payment_type", float("nan"), pa.float64())),
    "a code beyond 32 bits": lambda: file_of(replace_value("PULocationID", 2**31, pa.int64())),
    "text for a number": lambda: file_of(replace_value("fare_amount", "12 dollars", pa.string())),
    "nanoseconds that are not whole microseconds": lambda: file_of(
        replace_column(PICKUP, TABLE[PICKUP].cast(pa.int64()).to_numpy() * 1000 + 1, pa.timestamp("ns"))
    ),
    "a timestamp with a time zone": lambda: file_of(
        replace_column(PICKUP, TABLE[PICKUP].cast(pa.timestamp("us", "UTC")))
    ),
    "text with NUL": lambda: file_of(replace_text(b"\0")),
    "text that is not UTF-8": lambda: file_of(replace_text(b"\xff")),
    "nothing but nulls": lambda: file_of(
        pa.table({name: pa.nulls(200, kind) for name, kind in zip(TABLE.column_names, TABLE.schema.types, strict=True)})
    ),
    "another month's file": lambda: file_of(month_table(FEBRUARY, 200)),
}
# A part of the error message: the position and value that would be lost, or the next step.
NAMED = {
    "not parquet": "footer is damaged",
    "a page damaged": "page is damaged",
    "no rows": "no rows",
    "another month's file": "another month's file",
    "a required column missing": f"required columns are missing ({PICKUP})",
    "row numbers of pandas": "index=False",
    "a space at the end of a name": "name the column trip_type, without spaces",
    "a compression that pyarrow does not support": "upgrade pyarrow",
    "a fraction in a code": "column RatecodeID, row 100: 1.5 would be lost",
    "NaN in a code": "column payment_type, row 100: nan would be lost",
    "a code beyond 32 bits": "column PULocationID, row 100: 2147483648 would be lost",
    "text for a number": "column fare_amount is of type string, which cannot be loaded as double",
    "nanoseconds that are not whole microseconds": (
        f"column {PICKUP}, row 1: {TABLE[PICKUP][0].as_py()}.000000001 would be lost"
    ),
    "a timestamp with a time zone": f"column {PICKUP} has the time zone UTC",
    "text with NUL": r"column store_and_fwd_flag, row 100: b'\x00' would be lost",
    "text that is not UTF-8": r"column store_and_fwd_flag, row 100: b'\xff' would be lost",
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_bad_file_is_refused_and_the_month_stays_as_it_was(
    fault: str, loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    tlc.publish_bytes(JANUARY, GOOD)
    loader.load_month(JANUARY)
    recorded = loaded_files(loader.warehouse)
    tlc.publish_bytes(JANUARY, REFUSED[fault]())
    with pytest.raises(BadFileError, match="2024-01") as refused:
        loader.load_month(JANUARY)
    assert NAMED.get(fault, "") in str(refused.value)
    assert tlc.url in str(refused.value)
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: content_of_file(GOOD)}
    assert loaded_files(loader.warehouse) == recorded
    assert not list(loader.scratch.iterdir())


ACCEPTED: dict[str, Callable[[], pa.Table]] = {
    "an optional column missing": lambda: TABLE.drop_columns(["ehail_fee"]),
    "a column added": lambda: TABLE.append_column("airport_fee", pa.array([1.25] * 200)),
    "columns in another order and case": lambda: TABLE.select(TABLE.column_names[::-1]).rename_columns(
        [name.upper() for name in TABLE.column_names[::-1]]
    ),
    "codes as doubles": lambda: replace_column("payment_type", TABLE["payment_type"].cast(pa.float64())),
    "amounts as decimals": lambda: replace_column("fare_amount", TABLE["fare_amount"].cast(pa.decimal128(12, 2))),
    "timestamps in milliseconds": lambda: replace_column(PICKUP, TABLE[PICKUP].cast(pa.timestamp("ms"))),
    "timestamps in nanoseconds": lambda: replace_column(PICKUP, TABLE[PICKUP].cast(pa.timestamp("ns"))),
    "nulls in every optional column": lambda: replace_column("passenger_count", pa.nulls(200, pa.int64())),
    "dictionary-encoded text": lambda: replace_column(
        "store_and_fwd_flag", TABLE["store_and_fwd_flag"].cast(pa.string()).combine_chunks().dictionary_encode()
    ),
}


@pytest.mark.parametrize("difference", ACCEPTED)
def test_a_file_with_harmless_differences_is_loaded_without_loss(
    difference: str, loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    table = ACCEPTED[difference]()
    tlc.publish_bytes(JANUARY, file_of(table))
    loader.load_month(JANUARY)
    found = contents_of_schema(target, settings.schema_name)[JANUARY]
    arrived = {name for row in found.rows for name, _ in row}
    same_values = TABLE if arrived == {name for row in content_of_file(GOOD).rows for name, _ in row} else table
    assert found.rows == content_of_file(file_of(same_values)).rows


ENCODINGS: dict[str, dict[str, Any]] = {
    "text as DELTA_LENGTH_BYTE_ARRAY": {
        "use_dictionary": False,
        "column_encoding": {"store_and_fwd_flag": "DELTA_LENGTH_BYTE_ARRAY"},
        "data_page_version": "2.0",
    },
    "text as DELTA_BYTE_ARRAY": {
        "use_dictionary": False,
        "column_encoding": {"store_and_fwd_flag": "DELTA_BYTE_ARRAY"},
        "compression": "brotli",
    },
    "timestamps as INT96": {"use_deprecated_int96_timestamps": True, "row_group_size": 33},
}


@pytest.mark.parametrize("difference", ENCODINGS)
def test_a_file_with_other_parquet_encodings_is_loaded_without_loss(
    difference: str, loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    tlc.publish_bytes(JANUARY, file_of(TABLE, **ENCODINGS[difference]))
    loader.load_month(JANUARY)
    assert contents_of_schema(target, settings.schema_name)[JANUARY].rows == content_of_file(GOOD).rows


def test_a_column_that_the_writer_added_is_not_added_to_the_table(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    labels = [f"trip {row}" for row in range(200)]
    buffer = io.BytesIO()
    table = TABLE.append_column("_hoodie_commit_time", TABLE["VendorID"])
    table.to_pandas(types_mapper=pd.ArrowDtype).set_index(pd.Index(labels)).to_parquet(buffer)
    tlc.publish_bytes(JANUARY, buffer.getvalue())
    left_out = loader.load_month(JANUARY).file.drift["left_out"]
    assert left_out == {
        "_hoodie_commit_time": "a column that its writer added",
        "__index_level_0__": "the index of pandas",
    }
    assert contents_of_schema(target, settings.schema_name)[JANUARY].rows == content_of_file(GOOD).rows
    with psycopg.connect(target.url()) as connection:
        loads = sql.SQL("select drift -> 'left_out' from {}").format(sql.Identifier(settings.schema_name, "raw_loads"))
        assert connection.execute(loads).fetchall() == [(left_out,)]


def test_nan_in_an_amount_stays_nan_and_does_not_become_null(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    tlc.publish_bytes(JANUARY, file_of(replace_value("tip_amount", float("nan"), pa.float64())))
    loader.load_month(JANUARY)
    row = dict(contents_of_schema(target, settings.schema_name)[JANUARY].rows[99])
    assert row["tip_amount"] != row["tip_amount"]


@pytest.fixture
def footer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch that fails the test if a page of a file is decoded: decoding takes the memory."""
    monkeypatch.setattr(parquet.MonthFile, "_decoded", lambda *_: pytest.fail("a page was read"))


def test_a_file_with_too_many_rows_is_refused_before_any_row_is_read(
    loader: Loader,
    tlc: TlcHost,
    target: PostgresTarget,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    footer_only: None,
) -> None:
    monkeypatch.setitem(parquet.MonthFile.open.__func__.__kwdefaults__, "max_rows", 100)  # type: ignore[attr-defined]
    tlc.publish_bytes(JANUARY, GOOD)
    with pytest.raises(BadFileError, match="200"):
        loader.load_month(JANUARY)
    assert contents_of_schema(target, settings.schema_name) == {}


@pytest.mark.parametrize("column", ["store_and_fwd_flag", "a new column"])
def test_a_file_that_decompresses_to_too_much_text_is_refused_before_it_is_read(
    column: str, loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings, footer_only: None
) -> None:
    texts = pa.array(["x" * 50_000 + str(row) for row in range(200)])
    bomb = TABLE.append_column("note", texts) if column == "a new column" else replace_column(column, texts)
    buffer = io.BytesIO()
    pq.write_table(bomb, buffer, compression="zstd")
    assert buffer.tell() < 50_000
    tlc.publish_bytes(JANUARY, buffer.getvalue())
    with pytest.raises(BadFileError, match=r"unpacks to 10,0\d\d,\d\d\d bytes in 200 rows"):
        loader.load_month(JANUARY)
    assert contents_of_schema(target, settings.schema_name) == {}


def test_a_file_with_too_many_bytes_is_refused_before_it_is_downloaded(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    tlc.publish_bytes(JANUARY, GOOD)
    with TlcClient(tlc.url, max_bytes=1000) as client, pytest.raises(BadFileError, match="1,000 bytes"):
        replace(loader, tlc=client).load_month(JANUARY)
    assert contents_of_schema(target, settings.schema_name) == {}


def test_a_pickup_of_another_year_stays_with_the_month_of_its_file(
    loader: Loader, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    data = file_of(replace_value(PICKUP, datetime(2008, 12, 31, 23, 59), pa.timestamp("us")))
    tlc.publish_bytes(JANUARY, data)
    assert loader.load_month(JANUARY).pickups_outside >= 1
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: content_of_file(data)}
