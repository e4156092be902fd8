"""Tables of dbt that no longer match their models."""

import re
from functools import partial
from typing import Any

from psycopg import sql

from taxi_orchestration.dbt.runner import DbtOutcome, invoke_dbt, prepared_project
from taxi_orchestration.loading import Loader
from taxi_orchestration.settings import Settings
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.warehouses import connect_to_schema, fetch_rows

COLUMNS = """
    select attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum)
    from pg_attribute where attrelid = 'fct_trips'::regclass and attnum > 0 and not attisdropped order by 1
"""
CONSTRAINTS = "select conname, pg_get_constraintdef(oid) from pg_constraint where conrelid = 'fct_trips'::regclass"
# The definitions without the names of the indexes, which dbt generates.
INDEXES = """
    select split_part(pg_get_indexdef(indexrelid), ' ON ', 2) from pg_index
    where indrelid = 'fct_trips'::regclass order by 1
"""


def test_a_table_that_differs_from_its_model_is_refused_until_a_full_refresh(
    tlc: TlcHost, loader: Loader, settings: Settings
) -> None:
    tlc.publish(JANUARY)
    loader.load_month(JANUARY)
    loader.load_zones()
    artifacts, warehouse = prepared_project(settings), loader.warehouse

    def build(*options: str) -> DbtOutcome:
        # The view on fct_trips, and everything upstream of it.
        selection = ["--select", "+trips", "--exclude-resource-type", "test", "unit_test"]
        return invoke_dbt(["build", "--quiet", *selection, *options], warehouse, artifacts)

    fetch = partial(fetch_rows, warehouse.target, warehouse.schema)

    def fetch_table() -> list[Any]:
        rows = "select to_jsonb(t) from fct_trips t order by source_month, source_row"
        return [fetch(COLUMNS), sorted(fetch(CONSTRAINTS)), fetch(INDEXES), fetch(rows)]

    assert build().error is None
    expected = fetch_table()
    with connect_to_schema(warehouse.target, warehouse.schema) as connection:
        connection.execute("comment on column fct_trips.source_row is 'of an earlier version'")
    assert build().error is None
    assert fetch_table() == expected
    (key,) = (name for name, definition in fetch(CONSTRAINTS) if definition.startswith("PRIMARY KEY"))
    with connect_to_schema(warehouse.target, warehouse.schema) as connection:
        connection.execute(
            sql.SQL("alter table fct_trips alter is_refund drop not null, drop constraint {}").format(
                sql.Identifier(key)
            )
        )
    error = str(build().error)
    assert "is_refund is boolean, not boolean not null" in error
    assert re.search(r"it has (\d) of (?!\1)\d keys and checks", error)
    with connect_to_schema(warehouse.target, warehouse.schema) as connection:
        connection.execute("drop view if exists trips")
        connection.execute("alter table fct_trips alter source_row type bigint, drop pickup_at, add surprise integer")
    error = str(build().error)
    for difference in (
        "source_row is bigint not null, not integer not null",
        "pickup_at is missing",
        "surprise is not in the model",
    ):
        assert difference in error
    assert "taxi dbt build --full-refresh --select fct_trips+" in error
    for _ in range(2):
        assert build("--full-refresh").error is None
        assert fetch_table() == expected
