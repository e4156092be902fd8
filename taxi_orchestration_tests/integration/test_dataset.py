"""A second data set, made from the object alone: carried to raw_trips, and never mixed with the first."""

from dataclasses import replace
from datetime import date
from typing import Any

import psycopg
import pytest
from psycopg import sql

from taxi_orchestration.loading import RAW_TRIPS_COLUMNS, create_raw_tables, open_loader
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET, Column, DataSet
from taxi_orchestration.warehouse.connection import WarehouseError
from taxi_orchestration.warehouse.months import create_tables

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


def query(target: PostgresTarget, settings: Settings, text: str) -> Rows:
    with psycopg.connect(target.url(), options=f"-c search_path={settings.schema_name}") as connection:
        return connection.execute(text).fetchall()


def tables(target: PostgresTarget, settings: Settings) -> Rows:
    """Every table and column of the schema, and every comment."""
    return query(
        target,
        settings,
        "select attrelid::regclass::text, attname, obj_description(attrelid, 'pg_class'), "
        "col_description(attrelid, attnum) from pg_attribute join pg_class on pg_class.oid = attrelid "
        "where relnamespace = current_schema::regnamespace order by 1, 2",
    )


@pytest.mark.parametrize(("first", "second"), [(DATASET, SHUTTLE), (SHUTTLE, DATASET)], ids=["the first", "the second"])
def test_a_schema_of_another_data_set_is_refused_before_anything_is_touched(
    settings: Settings, target: PostgresTarget, first: DataSet, second: DataSet
) -> None:
    with open_loader(settings, first):
        before = tables(target, settings)
    refusal = f"holds {first.name}, not {second.name}. Nothing was changed. .* set PG_SCHEMA to a schema of its own"
    with pytest.raises(WarehouseError, match=refusal), open_loader(settings, second):
        pass
    assert tables(target, settings) == before


def test_a_schema_of_an_earlier_version_is_known_by_its_columns_and_marked(
    settings: Settings, target: PostgresTarget
) -> None:
    create_tables(target, settings.schema_name, RAW_TRIPS_COLUMNS)
    with pytest.raises(WarehouseError, match=r"another data set \(it has no column started_at\), not shuttle_tripdata"):
        create_raw_tables(target, settings.schema_name, SHUTTLE)
    for _ in range(2):
        create_raw_tables(target, settings.schema_name)
    assert query(target, settings, "select obj_description('raw_trips'::regclass)") == [
        (f"Data set of the TLC: {DATASET.name}",)
    ]


def test_the_comment_that_somebody_wrote_on_raw_trips_stays(settings: Settings, target: PostgresTarget) -> None:
    create_tables(target, settings.schema_name, RAW_TRIPS_COLUMNS)
    with psycopg.connect(target.url()) as connection:
        table = sql.Identifier(settings.schema_name, "raw_trips")
        connection.execute(sql.SQL("comment on table {} is 'Ask Ann first.'").format(table))
    create_raw_tables(target, settings.schema_name)
    assert query(target, settings, "select obj_description('raw_trips'::regclass)") == [("Ask Ann first.",)]
