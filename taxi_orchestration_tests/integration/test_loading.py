"""Loads of months and zones from HTTP into PostgreSQL; a load that fails adds and removes nothing."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import sql

from taxi_orchestration import loading
from taxi_orchestration.loading import Loader, LoadStoppedError, Progress
from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.tlc.client import TlcClient
from taxi_orchestration.tlc.errors import BadFileError, LocalFileError, NotPublishedError
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration_tests.support.http_host import ok, silent
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.synthetic import month_table
from taxi_orchestration_tests.support.tlc_host import ZONE_SHAPES, ZONES, TlcHost, month_path
from taxi_orchestration_tests.support.warehouses import fetch_rows

ERA_A, ERA_C = date(2022, 1, 1), date(2025, 1, 1)


def query(loader: Loader, text: str) -> list[tuple[Any, ...]]:
    return fetch_rows(loader.warehouse.target, loader.warehouse.schema, text)


def fetch_everything(loader: Loader) -> tuple[list[tuple[Any, ...]], ...]:
    tables = ("raw_trips order by source_month, source_row", "raw_loads order by 1", "raw_zones order by 1")
    return tuple(query(loader, f"select * from {table}") for table in tables)


def write_parquet(table: pa.Table, path: Path) -> bytes:
    pq.write_table(table, path)
    return path.read_bytes()


def test_a_month_of_each_era_is_loaded_completely_and_to_the_cent(tlc: TlcHost, loader: Loader) -> None:
    published = {month: tlc.publish(month, rows=500) for month in (ERA_A, JANUARY, ERA_C)}
    loads = {month: loader.load_month(month, run_id="run") for month in published}
    found = query(
        loader,
        "select source_month, count(*), round(sum(total_amount)::numeric * 100)::int, count(cbd_congestion_fee) > 0 "
        "from raw_trips group by 1 order by 1",
    )
    assert found == [(month, m.rows, m.total_cents, month == ERA_C) for month, m in published.items()]
    assert [load.era for load in loads.values()] == ["A", "B", "C"]
    for month, load in loads.items():
        assert load.pickups_outside == published[month].pickups_outside
        assert load.file.bytes == published[month].path.stat().st_size
        assert len(load.preview) == 5
        assert load.rows_per_second > 0
        recorded = loaded_files(loader.warehouse)[month]
        assert replace(recorded, loaded_at=None) == load.file
        assert recorded.etag
        assert recorded.last_modified
    assert list(loader.scratch.iterdir()) == []


def test_a_re_issue_replaces_the_month_and_the_same_rows_keep_their_digest(tlc: TlcHost, loader: Loader) -> None:
    tlc.publish(JANUARY)
    first = loader.load_month(JANUARY)
    tlc.publish(JANUARY, resaved=True)
    resaved = loader.load_month(JANUARY)
    tlc.publish(JANUARY, rows=300, seed=1)
    other = loader.load_month(JANUARY)
    assert resaved.file.sha256 != first.file.sha256
    assert resaved.file.rows_sha256 == first.file.rows_sha256
    assert resaved.file.drift["other_types"]
    assert (resaved.rows_before, other.rows_before) == (200, 200)
    assert other.file.rows_sha256 != first.file.rows_sha256
    assert query(loader, "select count(*) from raw_trips") == [(300,)]


def test_the_progress_receives_every_row(tlc: TlcHost, loader: Loader) -> None:
    events: list[tuple[str, object]] = []

    class RecordingProgress(Progress):
        def started(self, month: date) -> None:
            events.append(("started", month))

        def opened(self, month: date, rows: int) -> None:
            events.append(("opened", rows))

        def copied(self, month: date, rows: int) -> None:
            events.append(("copied", rows))

        def loaded(self, month: date, error: Exception | None) -> None:
            events.append(("loaded", error))

    tlc.publish(JANUARY, rows=70_000)
    loader.load_month(JANUARY, progress=RecordingProgress())
    assert events[:2] == [("started", JANUARY), ("opened", 70_000)]
    assert events[-1] == ("loaded", None)
    assert sum(rows for event, rows in events if event == "copied") == 70_000  # type: ignore[misc]


def test_months_are_loaded_in_the_order_given(tlc: TlcHost, loader: Loader) -> None:
    months = [MARCH, JANUARY, FEBRUARY]
    for month in months:
        tlc.publish(month, rows=100)
    assert [month for month, _ in loader.load_months(months, 1)] == months


def test_a_load_that_is_stopped_before_its_end_changes_nothing(tlc: TlcHost, loader: Loader) -> None:
    tlc.publish(JANUARY, rows=200)
    loader.load_month(JANUARY)
    before = fetch_everything(loader)
    tlc.publish(JANUARY, rows=100_000, seed=1)
    stop = threading.Event()

    class StopOnFirstRows(Progress):
        def copied(self, month: date, rows: int) -> None:
            stop.set()

    with pytest.raises(LoadStoppedError):
        loader.load_month(JANUARY, progress=StopOnFirstRows(), stop=stop)
    assert fetch_everything(loader) == before
    assert list(loader.scratch.iterdir()) == []


def test_a_load_that_is_stopped_after_its_last_rows_were_read_changes_nothing(tlc: TlcHost, loader: Loader) -> None:
    tlc.publish(JANUARY, rows=300)
    stop = threading.Event()

    class StopOnRows(Progress):
        def copied(self, month: date, rows: int) -> None:
            if rows:
                stop.set()

    with pytest.raises(LoadStoppedError):
        loader.load_month(JANUARY, progress=StopOnRows(), stop=stop)
    assert query(loader, "select count(*) from raw_loads") == [(0,)]


def test_ending_a_range_early_does_not_wait_for_a_silent_host(tlc: TlcHost, loader: Loader) -> None:
    tlc.publish(JANUARY)
    tlc.http.on(month_path(FEBRUARY), silent(3))
    loads = replace(loader, stop_seconds=0.2).load_months([JANUARY, FEBRUARY, MARCH], 2)
    assert next(loads)[0] == JANUARY
    started = time.monotonic()
    loads.close()
    assert time.monotonic() - started < 2
    assert query(loader, "select source_month from raw_loads") == [(JANUARY,)]


def test_the_zones_are_those_of_the_file_and_n_a_is_text_and_not_null(loader: Loader) -> None:
    assert loader.load_zones() == 265
    assert query(loader, "select count(*), max(locationid) from raw_zones") == [(265, 265)]
    assert query(loader, "select * from raw_zones where locationid >= 264 order by 1") == [
        (264, "Unknown", "N/A", "N/A"),
        (265, "N/A", "Outside of NYC", "N/A"),
    ]
    assert query(loader, r"select count(*) from raw_zones where service_zone ~ '[\r\n]'") == [(0,)]


def test_the_zone_shapes_are_geojson_with_the_ids_of_the_zone_table(loader: Loader) -> None:
    for _ in range(2):
        assert loader.load_zone_shapes() == 7
    shapes = dict(query(loader, "select zone_id, polygons from raw_zone_shapes"))
    assert sorted(shapes) == [1, 2, 56, 57, 103, 104, 105]
    assert query(loader, "select borough, zone_name from raw_zone_shapes where zone_id = 57") == [("Queens", "Corona")]
    ring = shapes[1][0][0]
    assert ring[0] == ring[-1]
    assert all(980_000 <= x <= 985_000 for x, _ in ring)


def test_a_missing_or_invalid_file_of_shapes_leaves_the_shapes_as_they_were(tlc: TlcHost, loader: Loader) -> None:
    loader.load_zone_shapes()
    for body in (b"<html>", b"PK\x03\x04 and no more"):
        tlc.http.on(ZONE_SHAPES, ok(body))
        with pytest.raises(BadFileError):
            loader.load_zone_shapes()
    del tlc.http.answers[ZONE_SHAPES]
    with pytest.raises(NotPublishedError, match="shapes of the taxi zones"):
        loader.load_zone_shapes()
    assert query(loader, "select count(*) from raw_zone_shapes") == [(7,)]


def test_zones_that_the_tlc_removes_are_deleted_and_new_ones_are_added(tlc: TlcHost, loader: Loader) -> None:
    loader.load_zones()
    tlc.http.on(ZONES, ok(b'"LocationID","Borough","Zone","service_zone"\r\n7,"Queens","Astoria, \xc3\xa9","Boro"\r\n'))
    assert loader.load_zones() == 1
    assert query(loader, "select * from raw_zones") == [(7, "Queens", "Astoria, é", "Boro")]


def test_zones_that_cannot_be_stored_are_refused_and_change_nothing(tlc: TlcHost, loader: Loader) -> None:
    loader.load_zones()
    before = fetch_everything(loader)
    for rows in (
        b'1,"a","b","c"\r\n1,"a","b","c"\r\n',
        b'9999999999,"a","b","c"\r\n',
        b'1,"a\x00","b","c"\r\n',
        b'1,"a","b","c","too much"\r\n',
    ):
        tlc.http.on(ZONES, ok(b'"LocationID","Borough","Zone","service_zone"\r\n' + rows))
        with pytest.raises((BadFileError, WarehouseError)):
            loader.load_zones()
        assert fetch_everything(loader) == before


def test_a_new_column_keeps_its_first_type_if_no_value_is_lost(tlc: TlcHost, loader: Loader, tmp_path: Path) -> None:
    for month, values in ((JANUARY, pa.array([3] * 200, pa.int64())), (FEBRUARY, pa.array([4.0] * 200))):
        table = month_table(month, 200).append_column("airport_fee", values)
        tlc.publish_bytes(month, write_parquet(table, tmp_path / "month.parquet"))
        loader.load_month(month)
    assert query(loader, "select source_month, sum(airport_fee)::int from raw_trips group by 1 order by 1") == [
        (JANUARY, 600),
        (FEBRUARY, 800),
    ]
    table = month_table(MARCH, 200).append_column("airport_fee", pa.array([2.5] * 200))
    tlc.publish_bytes(MARCH, write_parquet(table, tmp_path / "month.parquet"))
    with pytest.raises(BadFileError, match=r"airport_fee, row 1: 2\.5 would be lost as int64"):
        loader.load_month(MARCH)


def test_a_new_column_that_another_load_has_just_added_with_another_type_is_adopted(
    tlc: TlcHost, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for month, values in ((JANUARY, pa.array([2.5] * 200)), (FEBRUARY, pa.array([4] * 200, pa.int64()))):
        table = month_table(month, 200).append_column("airport_fee", values)
        tlc.publish_bytes(month, write_parquet(table, tmp_path / "month.parquet"))
    loader.load_month(JANUARY)
    # February looked at the table before January was committed.
    known: Iterator[dict[str, pa.DataType]] = iter([{}])
    find_types = loading.arrow_types
    monkeypatch.setattr(loading, "arrow_types", lambda *args: next(known, None) or find_types(*args))
    load = loader.load_month(FEBRUARY)
    assert load.file.drift["new_columns"] == {"airport_fee": "int64, added as double precision"}
    assert query(loader, "select sum(airport_fee) from raw_trips") == [(200 * 6.5,)]


def test_a_new_column_of_a_type_changed_by_hand_is_loaded_or_refused_in_words(
    tlc: TlcHost, loader: Loader, tmp_path: Path
) -> None:
    table = month_table(JANUARY, 200).append_column("airport_fee", pa.array([3] * 200, pa.int64()))
    tlc.publish_bytes(JANUARY, write_parquet(table, tmp_path / "month.parquet"))
    loader.load_month(JANUARY)
    change = "alter table {} alter column airport_fee type {}"
    with loader.warehouse.connect("Changing a type") as connection:
        name = loader.warehouse.identifier("raw_trips")
        connection.execute(sql.SQL(change).format(name, sql.SQL("integer")))
    loader.load_month(JANUARY)
    with loader.warehouse.connect("Changing a type") as connection:
        connection.execute(sql.SQL(change).format(name, sql.SQL("numeric")))
    before = tlc.requests_for(JANUARY)
    with pytest.raises(WarehouseError, match="airport_fee should be bigint, but is numeric"):
        loader.load_month(JANUARY)
    assert tlc.requests_for(JANUARY) == before + 1


def test_the_digest_depends_on_the_names_of_new_columns_and_not_on_their_order(
    tlc: TlcHost, loader: Loader, tmp_path: Path
) -> None:
    def digest_of(**columns: int) -> str | None:
        table = month_table(JANUARY, 200)
        for name, value in columns.items():
            table = table.append_column(name, pa.array([value] * 200, pa.int64()))
        tlc.publish_bytes(JANUARY, write_parquet(table, tmp_path / "month.parquet"))
        return loader.load_month(JANUARY).file.rows_sha256

    assert digest_of(fee_a=1, fee_b=2) == digest_of(fee_b=2, fee_a=1)
    assert digest_of(fee_a=1) != digest_of(fee_b=1)


def test_a_disk_full_during_one_month_stops_no_other_month_and_the_error_names_it(
    tlc: TlcHost, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month)
    download = TlcClient.download

    def fail_for_january(client: TlcClient, month: date, *args: Any, **options: Any) -> Any:
        if month == JANUARY:
            raise OSError(28, "No space left on device")
        return download(client, month, *args, **options)

    def fail_for_zones(client: TlcClient, directory: Path) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TlcClient, "download", fail_for_january)
    monkeypatch.setattr(TlcClient, "download_zones", fail_for_zones)
    with pytest.raises(LocalFileError, match=r"Loading the zones: .* No space left"):
        loader.load_zones()
    outcomes = dict(loader.load_months([JANUARY, FEBRUARY], at_once=2))
    assert isinstance(outcomes[FEBRUARY], loading.MonthLoad)
    assert isinstance(outcomes[JANUARY], LocalFileError)
    assert f"Loading 2024-01: the file could not be stored in {loader.scratch}: No space left" in str(outcomes[JANUARY])


def test_rows_of_a_dbt_test_are_read_even_if_its_sql_ends_with_a_comment(loader: Loader) -> None:
    assert loader.warehouse.rows_of("select 1 as a where 'x%' like 'x%' -- all", limit=5) == [{"a": 1}]


def test_the_months_of_a_dbt_test_are_those_of_all_its_rows(loader: Loader) -> None:
    february = "select date '2024-02-01' as source_month, n from generate_series(1, 2000) as n"
    query = f"{february} union all select date '2024-01-01', 0 union all select null, 0 -- 100%"
    assert loader.warehouse.months_of(query) == ["2024-01", "2024-02"]
    assert loader.warehouse.months_of("select 1 as a") == []
