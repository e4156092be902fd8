"""Months of trips made from a seed, of every era, with the oddities of real ones.

For tests and benchmarks: the same arguments give the same bytes (with the same pyarrow).
Proportions follow months that the TLC published; no row of theirs is in here.
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
# Trips up to each hour of the day, of 1,000: as in the TLC's months of 2022 to 2025.
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


# What other tools make of the types of a file.
_RESAVED = {"int64": "double", "large_string": "string"}


def file_schema(era: Era, dataset: DataSet = DATASET, *, resaved: bool = False) -> pa.Schema:
    """The Arrow schema of an era's files; re-saved ones have other types."""
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
    """The trips of a made month in the columns and types of its era's files, in batches of bounded size."""
    era = era or dataset.era_of(month)
    schema = file_schema(era, dataset, resaved=resaved)
    for start in range(0, rows, CHUNK_ROWS):
        n = min(CHUNK_ROWS, rows - start)
        chunk = _chunk(month, rows, start, n, seed, era, dataset)
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
    """A made month as a table, for tests that spoil it before they write it."""
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
    """Write a made month as parquet. `resaved` gives the same rows in other bytes and types, as a re-issue may.

    The rows of one row group are held in memory, at some 170 bytes each.
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
    """The first second of a month and of the next one, counted from 1970."""
    epoch = date(1970, 1, 1)
    return (month - epoch).days * _DAY, (next_month(month) - epoch).days * _DAY


def _pick(random: np.random.Generator, rows: int, values: Sequence[int], parts_of_10_000: Sequence[int]) -> Ints:
    """Values drawn with the given weights; a look-up of 10,000 is several times as fast as Generator.choice."""
    table = np.repeat(np.asarray(values, dtype=np.int64), parts_of_10_000)
    return table[random.integers(0, len(table), rows)]


def _some(random: np.random.Generator, rows: int, share: float, at_least: int = 1) -> Ints:
    """A share of the positions of a chunk, in no order; none of them in a chunk too small for oddities."""
    count = max(at_least, round(rows * share)) if rows >= 100 else 0
    return random.choice(rows, count, replace=False)


def _chunk(month: date, rows: int, start: int, n: int, seed: int, era: Era, dataset: DataSet) -> dict[str, pa.Array]:
    """The rows from `start` on, `n` of them, by column name in the types of the warehouse."""
    random = np.random.default_rng([seed, month.toordinal(), start, sorted(dataset.eras).index(era)])
    wanted = {column.name: column for column in dataset.columns_of(era)}
    pickup, dropoff = _times(random, month, rows, start, n, era)
    pickup_zone, dropoff_zone = _zones(random, n)
    card = _pick(random, n, (1, 2, 3, 4, 5), (6700, 3190, 80, 29, 1))
    rate = _pick(random, n, (1, 5, 2, 4, 3, 6, 99), (9450, 480, 30, 15, 15, 2, 8))
    columns: dict[str, Ints] = {
        "vendorid": _pick(random, n, (2, 1, 6, 5), (8690, 1300, 6, 4)),
        dataset.pickup: pickup,
        dataset.dropoff: dropoff,
        "store_and_fwd_flag": _pick(random, n, (0, 1), (9960, 40)),
        "ratecodeid": rate,
        "pulocationid": pickup_zone,
        "dolocationid": dropoff_zone,
        "passenger_count": _pick(random, n, (1, 2, 5, 6, 3, 0, 4, 8), (8500, 800, 200, 150, 140, 130, 70, 10)),
        "payment_type": card,
        "trip_type": np.where(rate == 5, 2, 1),
    }
    distance = np.rint(np.exp(random.normal(0.75, 0.75, n)) * 100).astype(np.int64)
    distance[_some(random, n, 0.05)] = 0
    columns.update(_money(random, n, distance, card, era, wanted))
    absurd = _some(random, n, 0.0001)
    distance[absurd] = random.integers(1_000_000, 36_006_815, len(absurd))
    columns["trip_distance"] = distance
    unknown = np.zeros(n, dtype=np.bool_)
    unknown[_some(random, n, 0.06)] = True
    columns.update({name: _draw(random, column, n) for name, column in wanted.items() if name not in columns})
    _refund(random, n, columns, unknown)
    return {name: _array(column, columns[name], unknown) for name, column in wanted.items()}


def _times(random: np.random.Generator, month: date, rows: int, start: int, n: int, era: Era) -> tuple[Ints, Ints]:
    """Pickups and drop-offs in seconds: roughly in order, a few from other months or years, some ending too early."""
    first, end = _bounds(month)
    days = (np.arange(start, start + n) + 0.5) / rows * ((end - first) // _DAY)
    second = np.interp(days % 1 * 1000, _TRIPS_BEFORE_HOUR, np.arange(25) * 3600)
    ideal = first + np.floor(days) * _DAY + second
    pickup = np.clip(ideal + random.normal(0, 3600, n), first, end - 1).astype(np.int64)
    outside = _some(random, n, 0.0001, at_least=4)
    if len(outside):
        pickup[outside[0::2]] = first - random.integers(1, _DAY, len(outside[0::2]))
        pickup[outside[1::2]] = end + random.integers(0, _DAY, len(outside[1::2]))
        pickup[outside[:2]] = _bounds(date(2009, 1, 1))[0] + np.array([-3600, 3600])
    duration = np.clip(np.exp(random.normal(6.6, 0.7, n)), 1, 6 * 3600).astype(np.int64)
    backwards = _some(random, n, 0.005 if era == "C" else 0.0002)
    duration[backwards] = -random.integers(1, 3600, len(backwards))
    return pickup, pickup + duration


def _zones(random: np.random.Generator, n: int) -> tuple[Ints, Ints]:
    """Zones 1 to 265 of pickups and drop-offs: a few have most pickups, and most trips end in a zone not far away.

    57,000 trips fall into 18,000 zones and hours and 5,000 pairs of zones; 56,551 real ones of 2024-01 into 16,516 and
    5,314. How much the marts have to write depends on that.
    """
    rank = np.minimum(np.exp(np.abs(random.normal(0, 2, n))) - 1, 264).astype(np.int64)
    away = np.abs(rank + np.rint(random.normal(0, 14, n)).astype(np.int64)) % 265
    zone = 1 + (np.arange(265) * 73 + 73) % 265
    return zone[rank], zone[away]


def _money(
    random: np.random.Generator, n: int, distance: Ints, card: Ints, era: Era, wanted: Container[str]
) -> dict[str, Ints]:
    """The amounts in cents, those that are wanted adding up to the total in nearly all rows."""
    flag_drop, per_step, improvement = (250, 50, 30) if era == "A" else (300, 70, 100)
    fare = flag_drop + per_step * (distance // 20 + random.integers(0, 6, n))
    tipped = (card == 1) & (random.integers(0, 100, n) < 80)
    money = {
        "fare_amount": fare,
        "extra": _pick(random, n, (0, 250, 100, 275, 500), (5700, 2150, 1650, 300, 200)),
        "mta_tax": _pick(random, n, (50, 150, 0), (8300, 1300, 400)),
        "tip_amount": np.where(tipped, fare * random.integers(10, 31, n) // 100, 0),
        "tolls_amount": _pick(random, n, (0, 694, 318, 1406), (9750, 230, 15, 5)),
        "improvement_surcharge": _pick(random, n, (improvement, 0), (9970, 30)),
        "congestion_surcharge": _pick(random, n, (0, 275), (6900, 3100)),
    }
    if "cbd_congestion_fee" in wanted:
        money["cbd_congestion_fee"] = _pick(random, n, (0, 75), (9290, 710))
    money = {name: cents for name, cents in money.items() if name in wanted}
    total = np.sum(list(money.values()), axis=0)
    unexplained = _some(random, n, 0.003)
    total[unexplained] += random.integers(1, 500, len(unexplained))
    return money | {"total_amount": total}


def _refund(random: np.random.Generator, n: int, columns: dict[str, Ints], unknown: Mask) -> None:
    """Let some rows take back the charge of the row before: the same trip, the amounts negative."""
    charge = 2 * _some(random, n // 2, 0.0064)
    refund = charge + 1
    unknown[charge] = unknown[refund] = False
    for values in columns.values():
        values[refund] = values[charge]
    for name in (*_MONEY, "total_amount"):
        if name in columns:
            columns[name][refund] *= -1
    columns["payment_type"][refund] = 4


def _draw(random: np.random.Generator, column: Column, n: int) -> Ints:
    """Values for a column that no other depends on: its codes, or small amounts in cents."""
    numbers = [code for code in column.codes if isinstance(code, int)] if column.type == "int32" else []
    if numbers:
        return np.asarray(numbers, dtype=np.int64)[random.integers(0, len(numbers), n)]
    return random.integers(0, len(column.codes) or 500, n)


def _array(column: Column, values: Ints, unknown: Mask) -> pa.Array:
    """A column in the type of the warehouse; what is null is null in all columns of the cluster together."""
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
    """Write a table of 265 made zones in the form of the TLC's: CRLF, "N/A" as a value, two names that repeat."""
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
