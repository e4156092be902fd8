"""Synthetic months: the schema of their era, the irregularities of real months, and reproducible content."""

from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from taxi_orchestration.tlc.dataset import DATASET, Column, Era
from taxi_orchestration_tests.support.synthetic import month_table, write_month, write_zones

MONTHS: dict[Era, date] = {"A": date(2022, 1, 1), "B": date(2024, 1, 1), "C": date(2025, 1, 1)}


@pytest.mark.parametrize("era", ["A", "B", "C"])
def test_a_synthetic_month_has_the_columns_and_types_of_its_era(tmp_path: Path, era: Era) -> None:
    write_month(tmp_path / "month.parquet", MONTHS[era], 1000)
    schema = pq.read_schema(tmp_path / "month.parquet")
    assert schema.names == [column.source_name for column in DATASET.columns_of(era)]
    assert [str(kind) for kind in schema.types] == [column.type_in_files(era) for column in DATASET.columns_of(era)]


def test_the_same_arguments_give_the_same_bytes_and_another_seed_gives_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_month(tmp_path / name, MONTHS["B"], 5000, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_a_resaved_month_has_the_same_rows_in_other_bytes_and_types(tmp_path: Path) -> None:
    write_month(tmp_path / "first", MONTHS["B"], 2000)
    write_month(tmp_path / "again", MONTHS["B"], 2000, resaved=True)
    first, again = pq.read_table(tmp_path / "first"), pq.read_table(tmp_path / "again")
    assert first.schema != again.schema
    assert first.to_pylist() == again.to_pylist()


def test_the_summary_of_a_synthetic_month_matches_its_file(tmp_path: Path) -> None:
    month = write_month(tmp_path / "month.parquet", MONTHS["C"], 300_000)
    table = pq.read_table(month.path)
    pickups = table[DATASET.pickup]
    inside = pc.and_(pc.greater_equal(pickups, datetime(2025, 1, 1)), pc.less(pickups, datetime(2025, 2, 1)))
    assert month.rows == table.num_rows == 300_000
    assert month.pickups_outside == table.num_rows - pc.sum(inside).as_py() > 0
    assert month.total_cents == round(pc.sum(table["total_amount"]).as_py() * 100)


@pytest.mark.parametrize("era", ["A", "B", "C"])
def test_a_synthetic_month_has_the_anomalies_of_real_ones(era: Era) -> None:
    table = month_table(MONTHS[era], 60_000)
    pickups = table[DATASET.pickup]
    assert {2008, 2009} < set(pc.year(pickups).to_pylist())
    assert not pickups.equals(pickups.take(pc.sort_indices(pickups)))
    assert pc.sum(pc.less(table[DATASET.dropoff], pickups)).as_py() > (100 if era == "C" else 0)
    assert 100 < pc.sum(pc.less(table["fare_amount"], 0)).as_py() < 300
    assert pc.max(table["trip_distance"]).as_py() > 10_000
    assert 99 in table["RatecodeID"].to_pylist()
    assert {5, 6} < set(table["VendorID"].to_pylist())
    assert table["ehail_fee"].null_count == table.num_rows
    together = ["store_and_fwd_flag", "RatecodeID", "passenger_count", "payment_type", "congestion_surcharge"]
    nulls = [pc.is_null(table[name]) for name in together]
    assert all(mask.equals(nulls[0]) for mask in nulls)
    assert 0.05 < pc.mean(nulls[0]).as_py() < 0.07


def test_the_amounts_have_two_decimals_and_add_up_in_nearly_all_rows() -> None:
    table = month_table(MONTHS["C"], 60_000)
    names = ["fare_amount", "extra", "mta_tax", "tip_amount", "tolls_amount", "improvement_surcharge",
             "congestion_surcharge", "cbd_congestion_fee", "total_amount"]  # fmt: skip
    amounts = table.select(names).drop_null()
    *parts, total = (pc.multiply(column, 100) for column in amounts.itercolumns())
    summed = parts[0]
    for part in parts[1:]:
        summed = pc.add(summed, part)
    assert pc.max(pc.abs(pc.subtract(total, pc.round(total)))).as_py() < 1e-6
    differing = pc.sum(pc.greater(pc.abs(pc.subtract(summed, total)), 0.5)).as_py()
    assert 0 < differing < amounts.num_rows * 0.01


def test_a_refund_repeats_the_trip_before_it_with_negative_amounts() -> None:
    rows = month_table(MONTHS["B"], 20_000).to_pylist()
    refunds = [i for i, row in enumerate(rows) if row["fare_amount"] < 0]
    same = ("VendorID", DATASET.pickup, DATASET.dropoff, "PULocationID", "DOLocationID")
    assert refunds
    for i in refunds:
        assert all(rows[i][name] == rows[i - 1][name] for name in same)
        assert rows[i]["total_amount"] == -rows[i - 1]["total_amount"]


def test_a_column_of_a_type_without_synthetic_values_is_an_error() -> None:
    column = Column("is_shared", "bool", {"A": "bool"}, "Whether the ride was shared.")
    with pytest.raises(TypeError, match="No synthetic values are settled for is_shared of type bool; settled are"):
        month_table(MONTHS["B"], 10, replace(DATASET, columns=(*DATASET.columns, column)))


def test_a_month_of_a_few_rows_can_be_generated() -> None:
    assert [month_table(MONTHS["C"], rows).num_rows for rows in (0, 1, 2, 3, 99, 101)] == [0, 1, 2, 3, 99, 101]


def test_row_groups_are_as_long_as_asked_for_across_batches(tmp_path: Path) -> None:
    write_month(tmp_path / "one", MONTHS["B"], 600_000, row_group_rows=10**9)
    write_month(tmp_path / "many", MONTHS["B"], 600_000, row_group_rows=200_000)
    one, many = pq.read_table(tmp_path / "one"), pq.read_table(tmp_path / "many")
    assert pq.read_metadata(tmp_path / "one").num_row_groups == 1
    assert pq.read_metadata(tmp_path / "many").num_row_groups == 3
    assert one.equals(many)


def test_the_synthetic_zones_have_the_format_of_the_real_ones(tmp_path: Path) -> None:
    write_zones(tmp_path / "zones.csv")
    text = (tmp_path / "zones.csv").read_bytes().decode()
    header, *lines = text.removesuffix("\r\n").split("\r\n")
    names = [line.split(",")[2] for line in lines]
    assert header == '"LocationID","Borough","Zone","service_zone"'
    assert len(lines) == 265
    assert lines[-1] == '265,"N/A","Outside of NYC","N/A"'
    assert len({name for name in names if names.count(name) > 1}) == 2
