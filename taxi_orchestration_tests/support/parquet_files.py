"""Parquet files in memory, intact and damaged."""

import io
from datetime import date
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from taxi_orchestration_tests.support.synthetic import month_table


def file_of(table: pa.Table, **options: Any) -> bytes:
    """Return a table as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True, **options)
    return buffer.getvalue()


def damaged(data: bytes) -> bytes:
    """Return a copy of the file with one bit of its pages flipped."""
    column = pq.read_metadata(io.BytesIO(data)).row_group(0).column(0)
    position = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size - 1
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@cache
def file_version(month: date, version: int) -> bytes:
    """Return a version of a month's file: each version has other rows, and version 3 also has a new column."""
    table = month_table(month, 20 * version, seed=version)
    if version == 3:
        table = table.append_column("Airport_Fee", pa.array([1.75] * table.num_rows))
    return file_of(table)
