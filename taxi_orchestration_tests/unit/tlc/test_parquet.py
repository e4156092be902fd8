"""A month's parquet file: accepted files, refused files, and the error messages."""

import random
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from taxi_orchestration.settings import TLC_BASE_URL
from taxi_orchestration.tlc import parquet
from taxi_orchestration.tlc.contract import arrow_schema
from taxi_orchestration.tlc.dataset import DATASET, Column, Era
from taxi_orchestration.tlc.errors import BadFileError, UnsupportedFileError
from taxi_orchestration.tlc.parquet import MAX_COLUMNS, MAX_TEXT_BYTES, MonthFile
from taxi_orchestration_tests.support.synthetic import file_schema, month_table, write_month

MONTHS: dict[Era, date] = {"A": date(2022, 1, 1), "B": date(2024, 1, 1), "C": date(2025, 1, 1)}
MONTH = MONTHS["B"]
URL = f"https://host.example/trip-data/{DATASET.file_name(MONTH)}"
ARROW_SCHEMA = arrow_schema(DATASET)
ROWS = 300


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "month.parquet"


@pytest.fixture
def table() -> pa.Table:
    """A valid month of era B. Tests change it to make it invalid."""
    return month_table(MONTH, ROWS)


def read(path: Path, month: date = MONTH, *, batch_rows: int = 128, **options: Any) -> tuple[MonthFile, pa.Table]:
    """Return the file and all of its rows."""
    with MonthFile.open(path, month, URL, **options) as file:
        rows = pa.Table.from_batches(file.batches(batch_rows), file.schema)
    return file, rows


def expect_refusal(path: Path, month: date = MONTH, kind: type[BadFileError] = BadFileError, **options: Any) -> str:
    """Return the message of the error that refuses a file. Check that it names month and URL."""
    with pytest.raises(BadFileError) as raised:
        read(path, month, **options)
    assert raised.type is kind
    message = str(raised.value)
    assert f"{month:%Y-%m}" in message
    assert URL in message
    assert "Nothing was loaded." in message
    return message


def replace_column(table: pa.Table, name: str, values: Any, new_name: str | None = None) -> pa.Table:
    """Return the table with new values, and optionally a new name, for one column."""
    return table.set_column(table.column_names.index(name), new_name or name, values)


def replace_value(table: pa.Table, name: str, row: int, value: Any, kind: pa.DataType) -> pa.Table:
    """Return the table with one value of a column (rows count from 1) replaced, and with another column type."""
    values = table[name].to_pylist()
    values[row - 1] = value
    return replace_column(table, name, pa.array(values, kind))


# Accepted files


@pytest.mark.parametrize("era", ["A", "B", "C"])
def test_a_month_of_every_era_is_read_with_the_contracts_columns_without_drift(path: Path, era: Era) -> None:
    written = write_month(path, MONTHS[era], 5000)
    file, rows = read(path, MONTHS[era])
    assert rows.schema.equals(ARROW_SCHEMA)
    assert (file.era, file.rows, file.new_columns) == (era, 5000, {})
    assert not file.drift
    assert file.pickups_outside == written.pickups_outside
    assert round(pc.sum(rows["total_amount"]).as_py() * 100) == written.total_cents
    assert (rows["cbd_congestion_fee"].null_count == 5000) == (era != "C")


@pytest.mark.parametrize("era", ["A", "B", "C"])
def test_every_value_is_read_unchanged(path: Path, era: Era) -> None:
    write_month(path, MONTHS[era], ROWS)
    _, rows = read(path, MONTHS[era])
    source = pq.read_table(path)
    for name in source.column_names:
        assert rows[name.lower()].to_pylist() == source[name].to_pylist()


def test_a_resaved_month_is_read_with_the_same_rows_and_its_drift_is_described(path: Path, tmp_path: Path) -> None:
    write_month(path, MONTH, ROWS)
    write_month(tmp_path / "again.parquet", MONTH, ROWS, resaved=True)
    file, rows = read(tmp_path / "again.parquet")
    assert rows.equals(read(path)[1])
    assert file.drift.other_types == {
        "store_and_fwd_flag": "string, not large_string",
        **dict.fromkeys(("ratecodeid", "passenger_count", "payment_type", "trip_type"), "double, not int64"),
    }


@pytest.mark.parametrize("batch_rows", [1, 7, 100, 1000])
def test_the_rows_and_their_order_do_not_depend_on_batches_or_row_groups(
    path: Path, tmp_path: Path, batch_rows: int
) -> None:
    write_month(path, MONTH, ROWS)
    write_month(tmp_path / "groups.parquet", MONTH, ROWS, row_group_rows=33)
    assert read(tmp_path / "groups.parquet", batch_rows=batch_rows)[1].equals(read(path)[1])


def test_a_file_says_which_columns_and_types_it_has(path: Path) -> None:
    write_month(path, MONTH, ROWS)
    file, _ = read(path)
    assert list(file.columns) == file_schema("B").names
    assert (file.columns["VendorID"], file.columns["store_and_fwd_flag"]) == ("int32", "large_string")


def test_a_column_is_read_under_an_alias(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)
    expected = read(path)[1]
    pq.write_table(replace_column(table, "fare_amount", table["fare_amount"], "Metered_Fare"), path)
    columns = [replace(c, aliases=("metered_fare",)) if c.name == "fare_amount" else c for c in DATASET.columns]
    file, rows = read(path, dataset=replace(DATASET, columns=tuple(columns)))
    assert rows.equals(expected)
    assert not file.drift


def test_a_required_column_of_a_later_era_does_not_refuse_older_files(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)
    toll = Column("toll_road", "double", {"C": "double"}, "Toll of a road that was built in 2025.")
    file, rows = read(path, dataset=replace(DATASET, columns=(*DATASET.columns, toll)))
    assert rows["toll_road"].null_count == ROWS
    assert not file.drift


def test_columns_are_matched_by_name_in_any_order_and_case(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path)
    expected = read(path)[1]
    shuffled = table.select(table.column_names[::-1])
    pq.write_table(shuffled.rename_columns([name.upper() for name in shuffled.column_names]), path)
    file, rows = read(path)
    assert rows.equals(expected)
    assert not file.drift


def test_an_optional_column_that_is_missing_is_null_and_reported(path: Path, table: pa.Table) -> None:
    pq.write_table(table.drop_columns(["trip_type", "ehail_fee"]), path)
    file, rows = read(path)
    assert rows["trip_type"].null_count == ROWS
    assert file.drift.missing_columns == {"ehail_fee": "null in all rows", "trip_type": "null in all rows"}


@pytest.mark.parametrize(
    ("values", "words", "postgres", "arrived"),
    [
        (pa.array([7] * ROWS, pa.int16()), "int16, added as bigint", "bigint", 7),
        (pa.array([0.75] * ROWS, pa.float32()), "float, added as double precision", "double precision", 0.75),
        (pa.array([True] * ROWS), "bool, added as boolean", "boolean", True),
        (pa.array(["new"] * ROWS), "string, added as text", "text", "new"),
        (pa.array([date(2024, 1, 2)] * ROWS), "date32[day], added as date", "date", date(2024, 1, 2)),
        (
            pa.array([datetime(2024, 1, 2)] * ROWS, pa.timestamp("ms")),
            "timestamp[ms], added as timestamp without time zone",
            "timestamp without time zone",
            datetime(2024, 1, 2),
        ),
        (
            pa.array([Decimal("0.75")] * ROWS, pa.decimal128(9, 2)),
            "decimal128(9, 2), added as double precision",
            "double precision",
            0.75,
        ),
    ],
)
def test_an_added_column_is_read_after_the_known_ones_and_is_reported(
    path: Path, table: pa.Table, values: pa.Array, words: str, postgres: str, arrived: Any
) -> None:
    pq.write_table(table.append_column("New_Fee", values), path)
    file, rows = read(path)
    assert rows.column_names == [*ARROW_SCHEMA.names, "new_fee"]
    assert rows["new_fee"].to_pylist() == [arrived] * ROWS
    assert file.new_columns == {"new_fee": postgres}
    assert file.drift.new_columns == {"new_fee": words}


def test_an_added_column_of_nothing_but_nulls_is_reported_and_left_out(path: Path, table: pa.Table) -> None:
    pq.write_table(table.append_column("new_fee", pa.nulls(ROWS)), path)
    file, rows = read(path)
    assert rows.column_names == ARROW_SCHEMA.names
    assert (file.new_columns, list(file.drift.new_columns)) == ({}, ["new_fee"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("VendorID", pa.int8()),
        ("VendorID", pa.uint64()),
        ("VendorID", pa.float32()),
        ("payment_type", pa.decimal128(5, 2)),
        ("trip_distance", pa.float32()),
        ("store_and_fwd_flag", pa.binary()),
        ("store_and_fwd_flag", pa.dictionary(pa.int32(), pa.string())),
        (DATASET.pickup, pa.timestamp("ms")),
        (DATASET.pickup, pa.timestamp("ns")),
    ],
)
def test_another_type_without_loss_is_accepted_and_reported(
    path: Path, table: pa.Table, name: str, kind: pa.DataType
) -> None:
    if name == "trip_distance":
        table = replace_column(table, name, pa.array([0.5] * ROWS))
    pq.write_table(replace_column(table, name, pa.array(table[name].to_pylist(), kind)), path)
    file, rows = read(path)
    assert rows[name.lower()].to_pylist() == table[name].to_pylist()
    assert list(file.drift.other_types) == [name.lower()]


def test_whole_numbers_are_accepted_as_amounts(path: Path, table: pa.Table) -> None:
    pq.write_table(replace_column(table, "fare_amount", pa.array(range(ROWS), pa.int64())), path)
    assert read(path)[1]["fare_amount"].to_pylist() == list(map(float, range(ROWS)))


def test_decimals_are_read_as_the_nearest_doubles(path: Path, table: pa.Table) -> None:
    cents = [Decimal(i * 7919 % 100_000_007) / 100 for i in range(ROWS)]
    pq.write_table(replace_column(table, "fare_amount", pa.array(cents, pa.decimal128(15, 2))), path)
    assert read(path)[1]["fare_amount"].to_pylist() == [float(value) for value in cents]


def test_nulls_everywhere_but_in_the_pickups_are_kept(path: Path, table: pa.Table) -> None:
    for name in table.column_names:
        if name != DATASET.pickup:
            table = replace_column(table, name, pa.nulls(ROWS, table[name].type))
    pq.write_table(table, path)
    _, rows = read(path)
    assert rows["vendorid"].null_count == rows["store_and_fwd_flag"].null_count == ROWS


def test_nan_in_an_amount_is_kept_and_is_not_null(path: Path, table: pa.Table) -> None:
    pq.write_table(replace_value(table, "tip_amount", 3, float("nan"), pa.float64()), path)
    tips = read(path)[1]["tip_amount"]
    assert pc.is_nan(tips[2]).as_py()
    assert tips.null_count == 0


def test_a_file_with_bad_text_that_no_row_uses_is_accepted(path: Path, table: pa.Table) -> None:
    flags = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array(["N", "a\0b"]))
    pq.write_table(replace_column(table, "store_and_fwd_flag", flags), path)
    assert set(read(path)[1]["store_and_fwd_flag"].to_pylist()) == {"N"}


def test_the_pickups_outside_are_known_only_once_all_rows_have_been_read(path: Path) -> None:
    write_month(path, MONTH, ROWS)
    with MonthFile.open(path, MONTH, URL) as file:
        batches = file.batches(100)
        next(batches)
        with pytest.raises(RuntimeError, match="once all batches have been read"):
            _ = file.pickups_outside
        list(batches)
        assert file.pickups_outside == 4


# Other writers


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
@pytest.mark.parametrize("page_version", ["1.0", "2.0"])
@pytest.mark.parametrize("text", ["dictionary", "PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
def test_a_month_in_any_encoding_and_compression_is_read_exactly(
    path: Path, table: pa.Table, text: str, page_version: str, compression: str
) -> None:
    expected = pa.table([table[name].cast(ARROW_SCHEMA.field(name.lower()).type) for name in table.column_names],
                        ARROW_SCHEMA.names[: table.num_columns])  # fmt: skip
    numbers = {pa.float64(): "BYTE_STREAM_SPLIT", pa.large_string(): text}
    encodings = {field.name: numbers.get(field.type, "DELTA_BINARY_PACKED") for field in table.schema}
    for row_group_size, checksum in ((ROWS, True), (77, False)):
        pq.write_table(
            table,
            path,
            compression=compression,
            data_page_version=page_version,
            use_dictionary=text == "dictionary",
            column_encoding=None if text == "dictionary" else encodings,
            write_page_checksum=checksum,
            row_group_size=row_group_size,
            data_page_size=200,
        )
        file, rows = read(path)
        assert rows.select(expected.column_names).equals(expected)
        assert not file.drift


@pytest.mark.parametrize("text", ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
def test_text_whose_encoding_changes_within_a_file_is_read_once(path: Path, table: pa.Table, text: str) -> None:
    # A page with only nulls has no values, and so no encoding that the reader must support.
    flags = [None] * 200 + table["store_and_fwd_flag"].to_pylist()[200:]
    table = replace_column(table, "store_and_fwd_flag", pa.array(flags, pa.string()))
    encoding = {"store_and_fwd_flag": text}
    pq.write_table(table, path, use_dictionary=False, column_encoding=encoding, row_group_size=100)
    rows = read(path, batch_rows=70)[1]
    assert rows["store_and_fwd_flag"].to_pylist() == flags
    assert rows[DATASET.pickup].equals(table[DATASET.pickup])


def test_a_long_text_that_is_repeated_by_prefixes_is_refused_before_it_is_decoded(
    path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_TEXT_BATCH_BYTES", 2**20)
    flags = pa.array(["x" * 300_000] * ROWS)
    encoding = {"store_and_fwd_flag": "DELTA_BYTE_ARRAY"}
    changed = replace_column(table, "store_and_fwd_flag", flags)
    pq.write_table(changed, path, use_dictionary=False, column_encoding=encoding)
    del flags, changed
    assert path.stat().st_size < 100_000
    sizes: list[int] = []
    to_text = parquet._to_text

    def measure_and_convert(array: pa.Array) -> pa.Array:
        sizes.append(array.nbytes)
        return to_text(array)

    monkeypatch.setattr(parquet, "_to_text", measure_and_convert)
    assert f"text of more than {MAX_TEXT_BYTES:,} bytes" in expect_refusal(path, batch_rows=ROWS)
    assert max(sizes) <= 2**20


def test_a_feature_that_pyarrow_does_not_support_is_not_reported_as_damage(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, compression="snappy")
    content = path.read_bytes()
    for name in table.column_names:
        # In the footer, the codec follows the column's path: 1 is Snappy, and 3 is LZO, which pyarrow cannot read.
        codec = len(name).to_bytes() + name.encode() + b"\x15"
        content = content.replace(codec + b"\x02", codec + b"\x06")
    path.write_bytes(content)
    message = expect_refusal(path, kind=UnsupportedFileError)
    assert f"pyarrow {pa.__version__} cannot read what parquet-cpp-arrow" in message
    assert "LZO" in message
    assert "upgrade pyarrow" in message
    assert "damaged" not in message


def test_a_later_page_that_cannot_be_read_is_named_in_a_file_without_texts(path: Path, table: pa.Table) -> None:
    pq.write_table(table.drop_columns(["store_and_fwd_flag"]), path, compression="snappy", row_group_size=150)
    # The compression of a column in the second row group becomes one that pyarrow lacks.
    head, codec, tail = path.read_bytes().rpartition(b"\x08VendorID\x15\x02")
    path.write_bytes(head + codec[:-1] + b"\x06" + tail)
    assert "cannot read what" in expect_refusal(path, kind=UnsupportedFileError, batch_rows=100)


def test_dates_beyond_the_years_of_postgresql_are_refused(path: Path, table: pa.Table) -> None:
    days = pa.array([0] * 9 + [3_000_000] + [0] * (ROWS - 10), pa.int32()).cast(pa.date32())
    pq.write_table(table.append_column("seen", days), path)
    message = expect_refusal(path)
    assert "column seen, row 10: " in message
    assert "not in the years 1 to 9999" in message


def test_many_columns_of_long_texts_are_read_in_small_batches(
    path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_TEXT_BATCH_BYTES", 2**20)
    for number in range(20):
        table = table.append_column(f"text_{number}", pa.array(["x" * MAX_TEXT_BYTES] * ROWS))
    pq.write_table(table, path)
    with MonthFile.open(path, MONTH, URL) as file:
        batches = list(file.batches(ROWS))
    assert sum(batch.num_rows for batch in batches) == ROWS
    assert max(batch.nbytes for batch in batches) < 2**21


def test_many_row_groups_with_large_dictionaries_are_refused(path: Path, table: pa.Table) -> None:
    texts = pa.array([f"{number:01000}" for number in range(1000)])
    flags = pa.DictionaryArray.from_arrays(pa.array([0] * 10, pa.int32()), texts)
    table = replace_column(table.slice(0, 10), "store_and_fwd_flag", flags)
    pq.write_table(table, path, row_group_size=1, compression="zstd")
    assert re.search(r"its 10 row groups unpack to [\d,]+ bytes in 10 rows", expect_refusal(path))


INT96_TIMES = [datetime(2500, 1, 1), datetime(1677, 9, 1), datetime.min, datetime.max, None, datetime(2024, 1, 1, 7)]


def test_int96_timestamps_are_read_without_overflow_and_their_type_is_reported(path: Path, table: pa.Table) -> None:
    times = pa.array(INT96_TIMES * (ROWS // 6), pa.timestamp("us"))
    table = replace_column(table, DATASET.dropoff, times).append_column("seen", times)
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    file, rows = read(path)
    assert rows[DATASET.dropoff].to_pylist() == rows["seen"].to_pylist() == times.to_pylist()
    assert file.columns[DATASET.dropoff] == "int96"
    assert file.drift.other_types[DATASET.dropoff] == "int96, not timestamp[us]"
    assert file.drift.new_columns == {"seen": "int96, added as timestamp without time zone"}


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("ns", 1_704_067_200_000_000_001, "2024-01-01 00:00:00.000000001"),
        ("ns", -1, "1969-12-31 23:59:59.999999999"),
        ("s", 568_025_136_000, "19970-01-01 00:00:00"),
        ("s", 10_000_000_000_000, "<value out of range: 10000000000000000>"),
    ],
)
def test_an_int96_timestamp_that_would_be_lost_is_shown_as_it_is_in_the_file(
    path: Path, table: pa.Table, unit: str, value: int, shown: str
) -> None:
    times = table[DATASET.dropoff].cast(pa.timestamp(unit), safe=False).cast(pa.int64()).to_pylist()
    times[202] = value
    changed = replace_column(table, DATASET.dropoff, pa.array(times, pa.timestamp(unit)))
    pq.write_table(changed, path, use_deprecated_int96_timestamps=True)
    assert f"column {DATASET.dropoff}, row 203: {shown}" in expect_refusal(path)


@pytest.mark.parametrize("name", ["__index_level_0__", "__null_dask_index__", "_hoodie_commit_time", "_Dlt-Id"])
def test_a_column_that_the_writer_added_is_left_out_and_reported(path: Path, table: pa.Table, name: str) -> None:
    pq.write_table(table.append_column(name, pa.array(range(ROWS))), path)
    file, rows = read(path)
    assert rows.column_names == ARROW_SCHEMA.names
    assert (file.new_columns, dict(file.drift.left_out)) == ({}, {name: "a column that its writer added"})


@pytest.mark.parametrize("name", [None, "row id", "Unnamed: 0"])
def test_the_index_of_pandas_is_left_out_and_reported(path: Path, table: pa.Table, name: str | None) -> None:
    labels = pd.Index([f"trip {row}" for row in range(ROWS)], name=name)
    table.to_pandas().set_index(labels).to_parquet(path)
    file, rows = read(path)
    assert rows.column_names == ARROW_SCHEMA.names
    assert dict(file.drift.left_out) == {name or "__index_level_0__": "the index of pandas"}


def test_a_column_of_the_tlcs_that_is_the_index_of_pandas_is_read_as_data(path: Path, table: pa.Table) -> None:
    table.to_pandas().set_index("VendorID").to_parquet(path)
    file, rows = read(path)
    assert rows["vendorid"].to_pylist() == table["VendorID"].to_pylist()
    assert not file.drift.left_out


@pytest.mark.parametrize(
    "noted", [b"", b"[]", b"{", b'{"index_columns": 7}', b'{"index_columns": [null, {}]}', b"\xff"]
)
def test_invalid_metadata_of_pandas_is_ignored(path: Path, table: pa.Table, noted: bytes) -> None:
    pq.write_table(table.replace_schema_metadata({"pandas": noted}), path)
    assert read(path)[1].num_rows == ROWS


# Advice

FAULTS: dict[str, tuple[Any, ...]] = {
    "row numbers of pandas": (lambda t: t.append_column("Unnamed: 0", t["VendorID"]), "index=False"),
    "a space in a name": (
        lambda t: t.rename_columns([f"{n} " if n == "trip_type" else n for n in t.column_names]),
        "name the column trip_type, without spaces",
    ),
    "two columns that differ only in case": (
        lambda t: t.append_column("vendorid", t["VendorID"]),
        "the columns VendorID and vendorid are both vendorid",
        "write it with one of the two",
    ),
    "an empty name": (lambda t: t.append_column("", t["VendorID"]), "leave the column out, or name it with 1 to 63"),
    "a column of raw_trips": (lambda t: t.append_column("source_row", t["VendorID"]), "leave out source_month and"),
    "a system column of PostgreSQL": (
        lambda t: t.append_column("ctid", t["VendorID"]),
        "another name, since PostgreSQL",
    ),
    "a column missing": (lambda t: t.drop_columns(["VendorID"]), "write it with all columns of the TLC"),
    "text for an amount": (
        lambda t: replace_column(t, "fare_amount", t["fare_amount"].cast(pa.string())),
        "write it as double",
    ),
    "a time zone": (
        lambda t: replace_column(t, DATASET.pickup, t[DATASET.pickup].cast(pa.timestamp("us", "UTC"))),
        "without a zone (in Spark timestamp_ntz",
    ),
    "a fraction": (
        lambda t: replace_column(t, "VendorID", pa.array([1.5] * ROWS)),
        "write the TLC's value in that row",
    ),
    "a list": (lambda t: t.append_column("fees", pa.array([[1]] * ROWS)), "leave it out, or write it as a number"),
    "no rows": (lambda t: t.slice(0, 0), "it has no rows", "Copy the TLC's file to host.example again"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_error_for_a_mirrors_file_names_its_writer_and_what_to_change(
    path: Path, table: pa.Table, fault: str
) -> None:
    damage, *words = FAULTS[fault]
    metadata = {"pandas": '{"pandas_version": "2.2.3"}'}
    pq.write_table(damage(table).replace_schema_metadata(metadata), path)
    message = expect_refusal(path)
    assert all(part in message for part in words), message
    assert "unset TLC_BASE_URL" in message
    assert fault == "no rows" or "a copy that pandas 2.2.3, parquet-cpp-arrow version" in message
    assert "re-issued the file" not in message
    assert "dataset.py" not in message


@pytest.mark.parametrize("fault", FAULTS)
def test_the_error_for_the_tlcs_own_file_does_not_advise_to_rewrite_it(path: Path, table: pa.Table, fault: str) -> None:
    pq.write_table(FAULTS[fault][0](table), path)
    with pytest.raises(BadFileError) as raised, MonthFile.open(path, MONTH, f"{TLC_BASE_URL}/x.parquet") as file:
        list(file.batches())
    message = str(raised.value)
    assert ("once the TLC has re-issued the file" in message) != ("extend taxi_orchestration/tlc/dataset" in message)
    assert "TLC_BASE_URL" not in message
    assert "copy" not in message.lower()


@pytest.mark.parametrize(
    ("noted", "writer"),
    [
        ({"org.apache.spark.version": "3.5.1"}, "Spark 3.5.1, parquet-cpp-arrow"),
        ({"org.apache.spark.version": "\n\x1b[31m" + "9" * 500}, "Spark  [31m99999"),
        ({}, "a copy that parquet-cpp-arrow"),
    ],
)
def test_the_writer_is_named_as_in_the_footer_on_one_line(
    path: Path, table: pa.Table, noted: dict[str, str], writer: str
) -> None:
    pq.write_table(table.append_column("", table["VendorID"]).replace_schema_metadata(noted), path)
    message = expect_refusal(path)
    assert writer in message
    assert message.isprintable()
    assert len(message) < 600


@pytest.mark.parametrize("limit", ["MAX_ROWS", "MAX_COLUMNS", "MAX_ROW_BYTES"])
def test_the_error_for_an_exceeded_limit_says_where_to_raise_it(
    path: Path, table: pa.Table, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_COLUMNS", 20 if limit != "MAX_COLUMNS" else 19)
    monkeypatch.setattr(parquet, "MAX_ROW_BYTES", 0 if limit == "MAX_ROW_BYTES" else 4000)
    monkeypatch.setattr(parquet, "GROUP_OVERHEAD_BYTES", 0)
    pq.write_table(table, path)
    options: dict[str, Any] = {"max_rows": 7} if limit == "MAX_ROWS" else {}
    assert f"raise {limit} in taxi_orchestration.tlc.parquet" in expect_refusal(path, **options)


# Invalid and damaged files


@pytest.mark.parametrize("content", [b"", b"PAR1", b"<html></html>", b"PAR1" + b"x" * 1000 + b"PAR1"])
def test_a_file_that_is_not_parquet_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "cannot be read as parquet" in expect_refusal(path)


def test_a_file_without_its_footer_is_refused(path: Path) -> None:
    write_month(path, MONTH, ROWS)
    path.write_bytes(path.read_bytes()[:-500])
    assert "footer is damaged" in expect_refusal(path)


def test_a_file_with_a_damaged_footer_is_refused(path: Path) -> None:
    write_month(path, MONTH, ROWS)
    content = bytearray(path.read_bytes())
    content[-2000:-1900] = b"\xff" * 100
    path.write_bytes(content)
    expect_refusal(path)


def test_a_missing_file_is_not_reported_as_damaged(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MonthFile.open(path, MONTH, URL)


def test_a_checksum_reveals_a_damaged_page_and_the_error_names_its_place(path: Path) -> None:
    write_month(path, MONTH, 5000, row_group_rows=1000)
    column = pq.read_metadata(path).row_group(3).column(8)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    assert "a page is damaged at or after row 3,001" in expect_refusal(path, batch_rows=500)


def test_no_single_flipped_bit_in_the_pages_ever_changes_a_value(path: Path) -> None:
    write_month(path, MONTH, 1000)
    content = path.read_bytes()
    expected = read(path)[1]
    pages_end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    rng = random.Random(0)
    detected = 0
    for _ in range(150):
        damaged = bytearray(content)
        damaged[rng.randrange(4, pages_end)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            assert read(path)[1].equals(expected)
        except BadFileError:
            detected += 1
    assert detected > 100


def test_no_single_flipped_bit_in_the_footer_raises_anything_but_bad_file_error(path: Path) -> None:
    write_month(path, MONTH, 100)
    content = path.read_bytes()
    footer_start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    rng = random.Random(0)
    detected = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.randrange(footer_start, len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            read(path)
        except BadFileError:
            detected += 1
    assert detected > 50


@pytest.mark.parametrize(("rows", "inside"), [(50, 0), (200, 1)])
def test_another_months_file_is_refused_even_if_a_pickup_is_of_this_month(path: Path, rows: int, inside: int) -> None:
    write_month(path, date(2024, 2, 1), rows)
    found = f"only {inside} of its {rows} pickups lie in 2024-01: it is another month's file"
    assert found in expect_refusal(path)


def test_a_file_of_nothing_but_nulls_is_refused(path: Path, table: pa.Table) -> None:
    pq.write_table(pa.table({name: pa.nulls(ROWS) for name in table.column_names}), path)
    assert "only 0 of its 300 pickups" in expect_refusal(path)


def test_fewer_rows_than_the_footer_declares_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_month(path, MONTH, ROWS)
    decoded = MonthFile._decoded
    monkeypatch.setattr(MonthFile, "_decoded", lambda self, rows: list(decoded(self, rows))[:-1])
    assert "the footer has 300 rows, but the pages have 256" in expect_refusal(path)


# Limits


def test_rows_beyond_the_limit_are_refused_before_any_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_month(path, MONTH, ROWS)
    monkeypatch.setattr(MonthFile, "batches", lambda *_: pytest.fail("rows were read"))
    assert "it has 300 rows; the limit is 299" in expect_refusal(path, max_rows=299)


def test_a_million_rows_compressed_to_kilobytes_are_refused_by_their_number(path: Path, table: pa.Table) -> None:
    bomb = pa.concat_tables([table.slice(0, 1)] * 1000).combine_chunks()
    pq.write_table(pa.concat_tables([bomb] * 1000), path, compression="zstd")
    assert path.stat().st_size < 200_000
    assert "the limit is 500,000" in expect_refusal(path, max_rows=500_000)


def test_columns_beyond_the_limit_are_refused(path: Path, table: pa.Table) -> None:
    for i in range(MAX_COLUMNS):
        table = table.append_column(f"c{i}", pa.nulls(ROWS, pa.int8()))
    pq.write_table(table, path)
    assert f"it has 120 columns; the limit is {MAX_COLUMNS}" in expect_refusal(path)


def test_a_long_text_that_is_repeated_by_a_dictionary_is_refused_before_decoding(path: Path, table: pa.Table) -> None:
    flags = pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int32()), pa.array(["x" * 1_000_000]))
    pq.write_table(replace_column(table, "store_and_fwd_flag", flags), path)
    before = pa.default_memory_pool().max_memory()
    assert f"text of more than {MAX_TEXT_BYTES:,} bytes" in expect_refusal(path)
    assert pa.default_memory_pool().max_memory() - before < 100_000_000


# Columns


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        (["VendorID", "tpep_pickup_datetime", "tpep_dropoff_datetime", "total_amount"], "yellow taxi"),
        (["dispatching_base_num", "pickup_datetime", "dropOff_datetime"], "for-hire vehicles"),
        (["hvfhs_license_num", "dispatching_base_num", "pickup_datetime"], "high-volume for-hire vehicles"),
    ],
    ids=["yellow", "for-hire", "high-volume"],
)
def test_a_file_of_another_data_set_is_refused_and_the_error_names_that_data_set(
    path: Path, columns: list[str], label: str
) -> None:
    pq.write_table(pa.table({name: [1] for name in columns}), path)
    assert (
        f"it is a file of {label}, as its columns show. Nothing was loaded. Copy the TLC's file to host.example again"
        in expect_refusal(path)
    )


@pytest.mark.parametrize("name", ["VendorID", DATASET.pickup, "PULocationID", "total_amount"])
def test_a_required_column_that_is_missing_is_refused(path: Path, table: pa.Table, name: str) -> None:
    pq.write_table(table.drop_columns([name]), path)
    assert f"required columns are missing ({name})" in expect_refusal(path)


def test_a_required_column_that_was_renamed_is_refused_and_the_new_name_shown(path: Path, table: pa.Table) -> None:
    pq.write_table(replace_column(table, "PULocationID", table["PULocationID"], "pickup_zone"), path)
    message = expect_refusal(path)
    assert "missing (PULocationID) and unknown columns are present (pickup_zone), perhaps renamed" in message


def test_an_optional_column_that_was_renamed_is_reported_as_missing_and_new(path: Path, table: pa.Table) -> None:
    pq.write_table(replace_column(table, "trip_type", table["trip_type"], "kind_of_trip"), path)
    file, rows = read(path)
    assert (list(file.drift.missing_columns), list(file.drift.new_columns)) == (["trip_type"], ["kind_of_trip"])
    assert rows["kind_of_trip"].to_pylist() == table["trip_type"].to_pylist()


@pytest.mark.parametrize(
    "name",
    ['fee"; drop table raw_trips; --', "a b", "", "1st", "x" * 64, "fee.usd", "f\u0435e", "\u212aind", "source_row",
     "xmin", "nul\0", "Source_Month"],
)  # fmt: skip
def test_a_hostile_or_reserved_column_name_is_refused(path: Path, table: pa.Table, name: str) -> None:
    pq.write_table(table.append_column(name, pa.array([1] * ROWS)), path)
    assert "cannot be a column of raw_trips" in expect_refusal(path)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1]] * ROWS),
        pa.array([{"a": 1}] * ROWS),
        pa.array([b"x"] * ROWS),
        pa.array([1] * ROWS, pa.time32("s")),
        pa.array([Decimal(1)] * ROWS, pa.decimal128(38, 2)),
    ],
)
def test_an_added_column_without_a_defined_postgres_type_is_refused(
    path: Path, table: pa.Table, values: pa.Array
) -> None:
    pq.write_table(table.append_column("new_fee", values), path)
    assert "the new column new_fee is of type" in expect_refusal(path)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("VendorID", pa.array(["2"] * ROWS)),
        ("VendorID", pa.array([True] * ROWS)),
        ("fare_amount", pa.array(["7.50"] * ROWS)),
        ("fare_amount", pa.array([Decimal("7.5")] * ROWS, pa.decimal128(38, 2))),
        (DATASET.pickup, pa.array([date(2024, 1, 5)] * ROWS)),
        (DATASET.pickup, pa.array(["2024-01-05 10:00:00"] * ROWS)),
        (DATASET.pickup, pa.array([1_704_500_000] * ROWS)),
        ("store_and_fwd_flag", pa.array([1] * ROWS)),
    ],
)
def test_a_type_that_means_something_else_is_refused(path: Path, table: pa.Table, name: str, values: pa.Array) -> None:
    pq.write_table(replace_column(table, name, values), path)
    assert f"column {name} is of type {values.type}, which cannot be loaded" in expect_refusal(path)


# Values


@pytest.mark.parametrize(
    ("name", "kind", "value", "shown"),
    [
        ("payment_type", pa.float64(), 1.5, "1.5"),
        ("payment_type", pa.float64(), float("nan"), "nan"),
        ("payment_type", pa.float64(), float("inf"), "inf"),
        ("payment_type", pa.float64(), 1e300, "1e+300"),
        ("payment_type", pa.decimal128(5, 2), Decimal("1.25"), "1.25"),
        ("passenger_count", pa.int64(), 2**31, "2147483648"),
        ("VendorID", pa.int64(), -(2**31) - 1, "-2147483649"),
        ("fare_amount", pa.int64(), 2**53 + 1, "9007199254740993"),
    ],
)
def test_a_number_that_would_be_lost_is_refused_with_its_row_and_value(
    path: Path, table: pa.Table, name: str, kind: pa.DataType, value: Any, shown: str
) -> None:
    if name == "fare_amount":
        table = replace_column(table, name, pa.array([1] * ROWS))
    pq.write_table(replace_value(table, name, 201, value, kind), path, row_group_size=150)
    assert f"column {name}, row 201: {shown} would be lost" in expect_refusal(path)


def test_the_first_of_several_lost_values_is_the_one_that_is_named(path: Path, table: pa.Table) -> None:
    table = replace_value(table, "payment_type", 250, 2.5, pa.float64())
    pq.write_table(replace_value(table, "payment_type", 131, 1.5, pa.float64()), path)
    assert "column payment_type, row 131: 1.5" in expect_refusal(path)


def test_nanoseconds_are_accepted_if_they_are_whole_microseconds(path: Path, table: pa.Table) -> None:
    nanoseconds = table[DATASET.dropoff].cast(pa.timestamp("ns")).cast(pa.int64()).to_pylist()
    nanoseconds[6] += 1
    changed = pa.array(nanoseconds, pa.timestamp("ns"))
    pq.write_table(replace_column(table, DATASET.dropoff, changed), path)
    message = expect_refusal(path)
    assert f"column {DATASET.dropoff}, row 7: 2024-01-" in message
    assert "would be lost as timestamp[us]" in message


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "+00:00"])
def test_timestamps_with_a_zone_are_refused(path: Path, table: pa.Table, zone: str) -> None:
    zoned = table[DATASET.pickup].cast(pa.timestamp("us", tz=zone))
    pq.write_table(replace_column(table, DATASET.pickup, zoned), path)
    message = expect_refusal(path)
    assert f"column {DATASET.pickup} has the time zone {zone}" in message
    assert "New York wall-clock time" in message


@pytest.mark.parametrize("microseconds", [-(2**63) + 1, 2**63 - 1])
def test_a_time_outside_the_years_1_to_9999_is_refused(path: Path, table: pa.Table, microseconds: int) -> None:
    times = table[DATASET.dropoff].cast(pa.int64()).to_pylist()
    times[9] = microseconds
    pq.write_table(replace_column(table, DATASET.dropoff, pa.array(times, pa.timestamp("us"))), path)
    message = expect_refusal(path)
    assert f"column {DATASET.dropoff}, row 10:" in message
    assert "not in the years 1 to 9999" in message


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
@pytest.mark.parametrize(
    ("value", "reason"), [(b"N\0", "NUL"), (b"\xff\xfe", "UTF8"), (b"x" * 2000, "more than 1,000 bytes")]
)
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_text_that_postgres_cannot_hold_is_refused_with_its_row_and_value(
    path: Path, table: pa.Table, kind: pa.DataType, value: bytes, reason: str, use_dictionary: bool
) -> None:
    binary = pa.large_binary() if kind == pa.large_string() else pa.binary()
    flags = pa.array([b"N"] * 141 + [None, value] + [b"Y"] * (ROWS - 143), binary).view(kind)
    pq.write_table(replace_column(table, "store_and_fwd_flag", flags), path, use_dictionary=use_dictionary)
    message = expect_refusal(path)
    assert f"column store_and_fwd_flag, row 143: {value[:60]!r}" in message
    assert reason in message


def test_text_beyond_ascii_is_kept(path: Path, table: pa.Table) -> None:
    flags = ["Ñ", "是", "🚕", "", None] * (ROWS // 5)
    pq.write_table(replace_column(table, "store_and_fwd_flag", pa.array(flags, pa.large_string())), path)
    assert read(path)[1]["store_and_fwd_flag"].to_pylist() == flags


def test_a_pickup_in_the_repeated_hour_of_november_is_kept_as_it_is(path: Path) -> None:
    month = date(2024, 11, 1)
    table = month_table(month, ROWS)
    times = [datetime(2024, 11, 3, 1, 30)] * ROWS
    pq.write_table(replace_column(table, DATASET.pickup, pa.array(times, pa.timestamp("us"))), path)
    assert read(path, month)[1][DATASET.pickup].to_pylist() == times


@pytest.mark.parametrize(
    ("month", "inside", "outside"),
    [
        (date(2024, 2, 1), datetime(2024, 2, 29, 23, 59, 59, 999999), datetime(2024, 3, 1)),
        (date(2023, 12, 1), datetime(2023, 12, 31, 23, 59, 59, 999999), datetime(2024, 1, 1)),
        (date(2024, 1, 1), datetime(2024, 1, 1), datetime(2023, 12, 31, 23, 59, 59, 999999)),
    ],
)
def test_a_month_begins_and_ends_to_the_microsecond(
    path: Path, month: date, inside: datetime, outside: datetime
) -> None:
    times = [inside] * (ROWS - 3) + [outside, None, outside]
    table = replace_column(month_table(month, ROWS), DATASET.pickup, pa.array(times, pa.timestamp("us")))
    pq.write_table(table, path)
    assert read(path, month)[0].pickups_outside == 3


# Memory


def test_a_month_in_one_giant_row_group_is_read_in_bounded_memory(path: Path) -> None:
    write_month(path, MONTHS["C"], 2_000_000, row_group_rows=2_000_000)
    code = """
import resource, sys
from datetime import date
from pathlib import Path
from taxi_orchestration.tlc.parquet import MonthFile
unit = 1 if sys.platform == "darwin" else 1024
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with MonthFile.open(Path(sys.argv[1]), date(2025, 1, 1), "test") as file:
    assert sum(batch.num_rows for batch in file.batches()) == 2_000_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit // 2**20)
"""
    result = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    assert int(result.stdout) < 150


# The TLC's own files

REAL_MONTHS = [
    (f"trip-data/{DATASET.file_name(date(2022, 1, 1))}", 62_495, 4, "1093070.80", "A"),
    (f"trip-data/{DATASET.file_name(date(2022, 2, 1))}", 69_399, 23, "1234537.15", "A"),
    (f"trip-data/{DATASET.file_name(date(2023, 12, 1))}", 64_215, 4, "1557922.15", "B"),
    (f"trip-data/{DATASET.file_name(date(2024, 1, 1))}", 56_551, 2, "1266922.59", "B"),
    (f"trip-data/{DATASET.file_name(date(2024, 2, 1))}", 53_577, 6, "1212653.08", "B"),
    (f"trip-data/{DATASET.file_name(date(2024, 3, 1))}", 57_457, 10, "1316042.93", "B"),
    (f"trip-data/{DATASET.file_name(date(2024, 4, 1))}", 56_471, 4, "1319373.05", "B"),
    (f"trip-data/{DATASET.file_name(date(2025, 1, 1))}", 48_326, 43, "1093822.36", "C"),
    (f"reissued/{DATASET.file_name(date(2024, 3, 1))}", 57_457, 10, "1316042.93", "B"),
]


def parse_file_month(name: str) -> date:
    return date.fromisoformat(f"{name.removesuffix('.parquet')[-7:]}-01")


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "count", "outside", "total", "era"), REAL_MONTHS)
def test_a_published_month_is_read_with_its_rows_and_its_total_to_the_cent(
    real_months: Path, name: str, count: int, outside: int, total: str, era: Era
) -> None:
    file, rows = read(real_months / name, parse_file_month(name), batch_rows=32_768)
    assert (rows.num_rows, file.pickups_outside, file.era) == (count, outside, era)
    assert f"{pc.sum(rows['total_amount']).as_py():.2f}" == total
    assert rows.schema.equals(ARROW_SCHEMA)
    assert bool(file.drift) == name.startswith("reissued")


@pytest.mark.real_data
def test_the_reissued_month_has_the_rows_of_the_first_issue(real_months: Path) -> None:
    name = DATASET.file_name(date(2024, 3, 1))
    first, again = (read(real_months / at / name, parse_file_month(name)) for at in ("trip-data", "reissued"))
    assert first[1].equals(again[1])


@pytest.mark.real_data
def test_the_congestion_relief_fee_of_2025_is_read(real_months: Path) -> None:
    name = f"trip-data/{DATASET.file_name(date(2025, 1, 1))}"
    fee = read(real_months / name, parse_file_month(name))[1]["cbd_congestion_fee"]
    assert len(fee) - fee.null_count == 46_490


@pytest.mark.real_data
def test_a_published_month_that_was_truncated_is_refused(real_months: Path) -> None:
    name = f"broken/{DATASET.file_name(date(2025, 2, 1))}"
    assert "footer is damaged" in expect_refusal(real_months / name, parse_file_month(name))
