"""A second data set, defined by its DataSet object only: loaded into raw_trips, and never mixed with the first."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from psycopg import sql

from taxi_orchestration.loading import open_loader
from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.quality.columns import check_columns
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET, Column, DataSet
from taxi_orchestration.tlc.errors import BadFileError, NotPublishedError
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.measures import measure_months
from taxi_orchestration.warehouse.raw_tables import TABLE_COMMENTS, create_raw_tables
from taxi_orchestration.warehouse.warehouse import Warehouse, open_warehouse
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.warehouses import fetch_rows

Rows = list[tuple[Any, ...]]

TIMES = {DATASET.pickup: "Started_At", DATASET.dropoff: "Ended_At"}
SHUTTLE = DataSet(
    name="shuttle_tripdata",
    label="shuttle",
    file_pattern="shuttle-{month:%Y_%m}.parquet",
    eras={"A": date(2019, 5, 1), "B": date(2020, 1, 1), "C": date(2020, 3, 1)},
    pickup="started_at",
    dropoff="ended_at",
    columns=(
        *(
            replace(column, source_name=TIMES.get(column.name, column.source_name))
            for column in DATASET.columns
            if column.name not in ("vendorid", "ehail_fee")
        ),
        Column("operator", "int32", {"A": "int64"}, "Operator of the shuttle.", aliases=("Operator_Number",)),
        Column("door", "string", {"C": "string"}, "Door of the entry.", codes={"F": "front", "R": "rear"}),
    ),
)
OLD, NEW = date(2019, 5, 1), date(2020, 3, 1)


COUNTS = (
    "select source_month, count(*), round(sum(total_amount)::numeric * 100)::int from raw_trips group by 1 order by 1"
)


def query(target: PostgresTarget, settings: Settings, text: str) -> Rows:
    return fetch_rows(target, settings.schema_name, text)


@pytest.fixture
def host(tlc: TlcHost, tmp_path: Path) -> TlcHost:
    """The download host of the settings, with months of the second data set."""
    (tmp_path / "shuttle").mkdir()
    return TlcHost(tlc.http, tmp_path / "shuttle", SHUTTLE)


def test_a_second_data_set_needs_only_its_dataset_object_to_reach_raw_trips(
    host: TlcHost, settings: Settings, target: PostgresTarget, tmp_path: Path
) -> None:
    published = {month: host.publish(month, seed=1) for month in (OLD, NEW)}
    renamed = pq.read_table(published[NEW].path)
    names = ["OPERATOR_NUMBER" if name == "operator" else name for name in renamed.column_names]
    pq.write_table(renamed.rename_columns(names), tmp_path / "renamed.parquet")
    host.publish_bytes(NEW, (tmp_path / "renamed.parquet").read_bytes())
    with open_loader(settings, open_warehouse(settings), SHUTTLE) as loader:
        loads = {month: loader.load_month(month) for month in published}
        with pytest.raises(NotPublishedError, match="Downloading shuttle 2020-01"):
            loader.load_month(date(2020, 1, 1))
    assert [load.era for load in loads.values()] == ["A", "C"]
    assert not any(any(load.file.drift.values()) for load in loads.values())
    assert loads[NEW].file.url == f"{host.url}/trip-data/shuttle-2020_03.parquet"
    assert query(target, settings, COUNTS) == [(month, 200, published[month].total_cents) for month in published]
    found = query(
        target,
        settings,
        "select count(started_at), count(operator), count(distinct operator) > 1, count(distinct door) "
        "from raw_trips group by source_month order by source_month",
    )
    assert found == [(200, 200, True, 0), (200, 200, True, 2)]
    columns = query(
        target, settings, "select attname from pg_attribute where attrelid = 'raw_trips'::regclass and attnum > 2"
    )
    assert {name for (name,) in columns} == {column.name for column in SHUTTLE.columns}
    measure = measure_months(Warehouse(target, settings.schema_name), OLD, date(2020, 4, 1), SHUTTLE.pickup)
    assert {month: found.pickups_outside for month, found in measure.items()} == {
        month: load.pickups_outside for month, load in loads.items()
    }
    for month, file in loaded_files(Warehouse(target, settings.schema_name)).items():
        assert check_columns(month, file.columns, dataset=SHUTTLE).level == "pass"


def test_a_file_of_the_first_data_set_is_refused_by_the_second(
    tlc: TlcHost, host: TlcHost, settings: Settings, target: PostgresTarget
) -> None:
    host.publish_bytes(NEW, tlc.publish(JANUARY).path.read_bytes())
    with (
        open_loader(settings, open_warehouse(settings), SHUTTLE) as loader,
        pytest.raises(BadFileError, match=f"is a file of {DATASET.label}"),
    ):
        loader.load_month(NEW)
    assert loaded_files(Warehouse(target, settings.schema_name)) == {}


def fetch_tables(target: PostgresTarget, settings: Settings) -> Rows:
    """Return every table and column of the schema, with their comments."""
    return query(
        target,
        settings,
        "select attrelid::regclass::text, attname, obj_description(attrelid, 'pg_class'), "
        "col_description(attrelid, attnum) from pg_attribute join pg_class on pg_class.oid = attrelid "
        "where relnamespace = current_schema::regnamespace order by 1, 2",
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [(DATASET, SHUTTLE), (SHUTTLE, DATASET)],
    ids=["schema of the first data set", "schema of the second data set"],
)
def test_a_schema_of_another_data_set_is_refused_before_anything_is_changed(
    settings: Settings, target: PostgresTarget, first: DataSet, second: DataSet
) -> None:
    with open_loader(settings, open_warehouse(settings), first):
        before = fetch_tables(target, settings)
    refusal = f"holds {first.name}, not {second.name}. Nothing was changed. .* set PG_SCHEMA to a schema of its own"
    with pytest.raises(WarehouseError, match=refusal), open_loader(settings, open_warehouse(settings), second):
        pass
    assert fetch_tables(target, settings) == before


def test_a_schema_of_an_earlier_version_is_recognized_by_its_columns_and_marked(
    settings: Settings, target: PostgresTarget
) -> None:
    create_raw_tables(Warehouse(target, settings.schema_name))
    with psycopg.connect(target.url()) as connection:
        table = sql.Identifier(settings.schema_name, "raw_trips")
        connection.execute(sql.SQL("comment on table {} is null").format(table))
    with pytest.raises(WarehouseError, match=r"another data set \(it has no column started_at\), not shuttle_tripdata"):
        create_raw_tables(Warehouse(target, settings.schema_name), SHUTTLE)
    for _ in range(2):
        create_raw_tables(Warehouse(target, settings.schema_name))
    assert query(target, settings, "select obj_description('raw_trips'::regclass)") == [
        (f"Data set of the TLC: {DATASET.name}. {TABLE_COMMENTS['raw_trips']}",)
    ]


def test_a_comment_that_a_user_wrote_on_raw_trips_is_kept(settings: Settings, target: PostgresTarget) -> None:
    create_raw_tables(Warehouse(target, settings.schema_name))
    with psycopg.connect(target.url()) as connection:
        table = sql.Identifier(settings.schema_name, "raw_trips")
        connection.execute(sql.SQL("comment on table {} is 'Ask Ann first.'").format(table))
    create_raw_tables(Warehouse(target, settings.schema_name))
    assert query(target, settings, "select obj_description('raw_trips'::regclass)") == [("Ask Ann first.",)]
