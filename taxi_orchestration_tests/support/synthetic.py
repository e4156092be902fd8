"""Synthetic months of trips, generated from a seed, for every era and with the irregularities of real months.

For tests and benchmarks: the same arguments give the same bytes (with the same pyarrow).
Proportions follow months that the TLC published; no published row is copied.
"""

import csv
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from taxi_orchestration.months import next_month
from taxi_orchestration.tlc.dataset import DATASET, Column, DataSet, Era

CHUNK_ROWS = 250_000
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_DAY = 86_400
# Of 1,000 trips, the number that start before each hour of the day, as in the TLC's months of 2022 to 2025.
_TRIPS_BEFORE_HOUR = (0, 16, 28, 37, 44, 50, 56, 71, 109, 158, 211, 265, 319, 374,
                      432, 497, 568, 645, 725, 801, 862, 908, 944, 974, 1000)  # fmt: skip
_NULL_TOGETHER = ("store_and_fwd_flag", "ratecodeid", "passenger_count", "payment_type", "trip_type",
                  "congestion_surcharge", "cbd_congestion_fee")  # fmt: skip
_EMPTY = ("ehail_fee",)
_MONEY = ("fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "improvement_surcharge",
          "congestion_surcharge", "cbd_congestion_fee")  # fmt: skip


@dataclass(frozen=True)
class SyntheticMonth:
    """The content of a synthetic month, for comparison with the tables."""

    path: Path
    rows: int
    pickups_outside: int
    total_cents: int


# Column types of a file after another tool has saved it again.
_RESAVED = {"int64": "double", "large_string": "string"}


def file_schema(era: Era, dataset: DataSet = DATASET, *, resaved: bool = False) -> pa.Schema:
    """Return the Arrow schema of an era's files; re-saved files have other types."""
    types = {column.source_name: column.type_in_files(era) or "" for column in dataset.columns_of(era)}
    if resaved:
        types = {name: _RESAVED.get(kind, kind) for name, kind in types.items()}
    return pa.schema([pa.field(name, pa.type_for_alias(kind)) for name, kind in types.items()])


def month_batches(
    month: date,
    rows: int,
    dataset: DataSet = DATASET,
    *,
    seed: int = 0,
    era: Era | None = None,
    resaved: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Yield the trips of a synthetic month in batches of bounded size, in the columns and types of its era."""
    era = era or dataset.era_of(month)
    schema = file_schema(era, dataset, resaved=resaved)
    for start in range(0, rows, CHUNK_ROWS):
        n = min(CHUNK_ROWS, rows - start)
        chunk = _make_chunk(month, rows, start, n, seed, era, dataset)
        arrays = [
            pa.nulls(n) if kind == pa.null() else chunk[column.name].cast(kind)
            for column, kind in zip(dataset.columns_of(era), schema.types, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def month_table(
    month: date,
    rows: int,
    dataset: DataSet = DATASET,
    *,
    seed: int = 0,
    era: Era | None = None,
    resaved: bool = False,
) -> pa.Table:
    """Return a synthetic month as a table, for tests that corrupt it before they write it."""
    schema = file_schema(era or dataset.era_of(month), dataset, resaved=resaved)
    return pa.Table.from_batches(month_batches(month, rows, dataset, seed=seed, era=era, resaved=resaved), schema)


def write_month(
    path: Path,
    month: date,
    rows: int,
    dataset: DataSet = DATASET,
    *,
    seed: int = 0,
    era: Era | None = None,
    resaved: bool = False,
    row_group_rows: int = 1_048_576,
) -> SyntheticMonth:
    """Write a synthetic month as Parquet, and return its totals.

    `resaved` writes the same rows with other bytes and types, as a re-issue may.
    The rows of one row group are held in memory, at about 170 bytes each.
    """
    start, end = _bounds(month)
    outside = cents = 0
    era = era or dataset.era_of(month)
    schema = file_schema(era, dataset, resaved=resaved)
    pickup = [column.name for column in dataset.columns_of(era)].index(dataset.pickup)
    compression = "gzip" if era == "A" else "zstd"
    with pq.ParquetWriter(
        path,
        schema,
        compression="snappy" if resaved else compression,
        compression_level=1 if compression == "gzip" and not resaved else None,
        write_page_checksum=True,
    ) as writer:
        group = schema.empty_table()
        for batch in month_batches(month, rows, dataset, seed=seed, era=era, resaved=resaved):
            pickups = batch.column(pickup).cast(pa.int64()).to_numpy() // 1_000_000
            outside += int(((pickups < start) | (pickups >= end)).sum())
            cents += int(np.rint(batch.column("total_amount").to_numpy() * 100).sum())
            group = pa.concat_tables([group, pa.Table.from_batches([batch])])
            while group.num_rows >= row_group_rows:
                writer.write_table(group.slice(0, row_group_rows), row_group_rows)
                group = group.slice(row_group_rows)
        if group.num_rows:
            writer.write_table(group, row_group_rows)
    return SyntheticMonth(path, rows, outside, cents)


def _bounds(month: date) -> tuple[int, int]:
    """Return the first second of a month and of the next month, counted from 1970."""
    epoch = date(1970, 1, 1)
    return (month - epoch).days * _DAY, (next_month(month) - epoch).days * _DAY


def _pick_values(random: np.random.Generator, rows: int, values: Sequence[int], parts_of_10_000: Sequence[int]) -> Ints:
    """Return random values with the given weights. A lookup table is several times as fast as Generator.choice."""
    table = np.repeat(np.asarray(values, dtype=np.int64), parts_of_10_000)
    return table[random.integers(0, len(table), rows)]


def _pick_positions(random: np.random.Generator, rows: int, share: float, at_least: int = 1) -> Ints:
    """Return a share of the positions of a chunk, in random order; none if the chunk has fewer than 100 rows."""
    count = max(at_least, round(rows * share)) if rows >= 100 else 0
    return random.choice(rows, count, replace=False)


def _make_chunk(
    month: date, rows: int, start: int, n: int, seed: int, era: Era, dataset: DataSet
) -> dict[str, pa.Array]:
    """Return `n` rows from row `start` on, by column name, in the types of the warehouse."""
    random = np.random.default_rng([seed, month.toordinal(), start, sorted(dataset.eras).index(era)])
    wanted = {column.name: column for column in dataset.columns_of(era)}
    pickup, dropoff = _make_times(random, month, rows, start, n, era)
    pickup_zone, dropoff_zone = _make_zones(random, n)
    payment_types = _pick_values(random, n, (1, 2, 3, 4, 5), (6700, 3190, 80, 29, 1))
    rate = _pick_values(random, n, (1, 5, 2, 4, 3, 6, 99), (9450, 480, 30, 15, 15, 2, 8))
    columns: dict[str, Ints] = {
        "vendorid": _pick_values(random, n, (2, 1, 6, 5), (8690, 1300, 6, 4)),
        dataset.pickup: pickup,
        dataset.dropoff: dropoff,
        "store_and_fwd_flag": _pick_values(random, n, (0, 1), (9960, 40)),
        "ratecodeid": rate,
        "pulocationid": pickup_zone,
        "dolocationid": dropoff_zone,
        "passenger_count": _pick_values(random, n, (1, 2, 5, 6, 3, 0, 4, 8), (8500, 800, 200, 150, 140, 130, 70, 10)),
        "payment_type": payment_types,
        "trip_type": np.where(rate == 5, 2, 1),
    }
    distance = np.rint(np.exp(random.normal(0.75, 0.75, n)) * 100).astype(np.int64)
    distance[_pick_positions(random, n, 0.05)] = 0
    columns.update(_make_amounts(random, n, distance, payment_types, era, wanted))
    absurd = _pick_positions(random, n, 0.0001)
    distance[absurd] = random.integers(1_000_000, 36_006_815, len(absurd))
    columns["trip_distance"] = distance
    unknown = np.zeros(n, dtype=np.bool_)
    unknown[_pick_positions(random, n, 0.06)] = True
    columns.update({name: _draw_values(random, column, n) for name, column in wanted.items() if name not in columns})
    _add_refunds(random, n, columns, unknown)
    return {name: _array(column, columns[name], unknown) for name, column in wanted.items()}


def _make_times(random: np.random.Generator, month: date, rows: int, start: int, n: int, era: Era) -> tuple[Ints, Ints]:
    """Return pickups and drop-offs in seconds, roughly in order. Some are outside the month, or end too early."""
    first, end = _bounds(month)
    days = (np.arange(start, start + n) + 0.5) / rows * ((end - first) // _DAY)
    second = np.interp(days % 1 * 1000, _TRIPS_BEFORE_HOUR, np.arange(25) * 3600)
    ideal = first + np.floor(days) * _DAY + second
    pickup = np.clip(ideal + random.normal(0, 3600, n), first, end - 1).astype(np.int64)
    outside = _pick_positions(random, n, 0.0001, at_least=4)
    if len(outside):
        pickup[outside[0::2]] = first - random.integers(1, _DAY, len(outside[0::2]))
        pickup[outside[1::2]] = end + random.integers(0, _DAY, len(outside[1::2]))
        pickup[outside[:2]] = _bounds(date(2009, 1, 1))[0] + np.array([-3600, 3600])
    duration = np.clip(np.exp(random.normal(6.6, 0.7, n)), 1, 6 * 3600).astype(np.int64)
    backwards = _pick_positions(random, n, 0.005 if era == "C" else 0.0002)
    duration[backwards] = -random.integers(1, 3600, len(backwards))
    return pickup, pickup + duration


def _make_zones(random: np.random.Generator, n: int) -> tuple[Ints, Ints]:
    """Return zones 1 to 265 of pickups and drop-offs. A few have most pickups, and most trips end in a nearby zone.

    57,000 trips are in 18,000 combinations of zone and hour and in 5,000 pairs of zones; the 56,551 real trips of
    2024-01 are in 16,516 and 5,314. The number of rows that the marts write depends on this.
    """
    rank = np.minimum(np.exp(np.abs(random.normal(0, 2, n))) - 1, 264).astype(np.int64)
    away = np.abs(rank + np.rint(random.normal(0, 14, n)).astype(np.int64)) % 265
    zone = 1 + (np.arange(265) * 73 + 73) % 265
    return zone[rank], zone[away]


def _make_amounts(
    random: np.random.Generator, n: int, distance: Ints, payment_types: Ints, era: Era, wanted: Container[str]
) -> dict[str, Ints]:
    """Return the amounts in cents. In nearly all rows the amounts that are in `wanted` add up to the total."""
    flag_drop, per_step, improvement = (250, 50, 30) if era == "A" else (300, 70, 100)
    fare = flag_drop + per_step * (distance // 20 + random.integers(0, 6, n))
    tipped = (payment_types == 1) & (random.integers(0, 100, n) < 80)
    money = {
        "fare_amount": fare,
        "extra": _pick_values(random, n, (0, 250, 100, 275, 500), (5700, 2150, 1650, 300, 200)),
        "mta_tax": _pick_values(random, n, (50, 150, 0), (8300, 1300, 400)),
        "tip_amount": np.where(tipped, fare * random.integers(10, 31, n) // 100, 0),
        "tolls_amount": _pick_values(random, n, (0, 694, 318, 1406), (9750, 230, 15, 5)),
        "improvement_surcharge": _pick_values(random, n, (improvement, 0), (9970, 30)),
        "congestion_surcharge": _pick_values(random, n, (0, 275), (6900, 3100)),
    }
    if "cbd_congestion_fee" in wanted:
        money["cbd_congestion_fee"] = _pick_values(random, n, (0, 75), (9290, 710))
    money = {name: cents for name, cents in money.items() if name in wanted}
    total = np.sum(list(money.values()), axis=0)
    unexplained = _pick_positions(random, n, 0.003)
    total[unexplained] += random.integers(1, 500, len(unexplained))
    return money | {"total_amount": total}


def _add_refunds(random: np.random.Generator, n: int, columns: dict[str, Ints], unknown: Mask) -> None:
    """Turn some rows into refunds of the row before: the same trip with negative amounts."""
    charge = 2 * _pick_positions(random, n // 2, 0.0064)
    refund = charge + 1
    unknown[charge] = unknown[refund] = False
    for values in columns.values():
        values[refund] = values[charge]
    for name in (*_MONEY, "total_amount"):
        if name in columns:
            columns[name][refund] *= -1
    columns["payment_type"][refund] = 4


def _draw_values(random: np.random.Generator, column: Column, n: int) -> Ints:
    """Return values for a column that no other column depends on: its codes, or small amounts in cents."""
    numbers = [code for code in column.codes if isinstance(code, int)] if column.type == "int32" else []
    if numbers:
        return np.asarray(numbers, dtype=np.int64)[random.integers(0, len(numbers), n)]
    return random.integers(0, len(column.codes) or 500, n)


def _array(column: Column, values: Ints, unknown: Mask) -> pa.Array:
    """Return a column in the type of the warehouse. All columns of _NULL_TOGETHER are null in the same rows."""
    kind = pa.type_for_alias(column.type)
    mask = unknown if column.name in _NULL_TOGETHER else None
    if column.name in _EMPTY:
        return pa.nulls(len(values), kind)
    if column.type == "timestamp[us]":
        return pa.array(values * 1_000_000, pa.int64()).cast(kind)
    if column.type == "string":
        return pa.DictionaryArray.from_arrays(pa.array(values, pa.int32(), mask=mask), list(column.codes)).cast(kind)
    if column.type == "double":
        return pa.array(values / 100, kind, mask=mask)
    if column.type == "int32":
        return pa.array(values.astype(np.int32), kind, mask=mask)
    raise TypeError(
        f"No synthetic values are settled for {column.source_name} of type {column.type}; settled are timestamp[us], "
        "string with codes, double and int32. Add the type to _array in taxi_orchestration_tests/support/synthetic.py."
    )


def write_zones(path: Path) -> None:
    """Write a table of 265 synthetic zones in the TLC's format: CRLF, "N/A" as a value, two repeated names."""
    boroughs = ("Queens", "Bronx", "Manhattan", "Staten Island", "Brooklyn")
    services = ("Boro Zone", "Boro Zone", "Yellow Zone", "Boro Zone")
    rows: list[tuple[int, str, str, str]] = [(1, "EWR", "Newark Airport", "EWR")]
    rows += [(i, boroughs[i % 5], f"{boroughs[i % 5]} Zone {i}", services[i % 4]) for i in range(2, 264)]
    for i in (132, 138):
        rows[i - 1] = (*rows[i - 1][:3], "Airports")
    for i, repeated in ((57, 56), (104, 103), (105, 103)):
        rows[i - 1] = (i, *rows[repeated - 1][1:])
    rows += [(264, "Unknown", "N/A", "N/A"), (265, "N/A", "Outside of NYC", "N/A")]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
        writer.writerow(("LocationID", "Borough", "Zone", "service_zone"))
        writer.writerows(rows)
