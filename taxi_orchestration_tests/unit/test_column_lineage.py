"""The column lineage of a model, traced in its compiled SQL."""

from typing import Any

import pytest

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.dbt.column_lineage import METADATA_KEY, lineage_metadata

SQL = """
with trips as (select pickup_at, miles, dollars from "taxi"."public"."stg_trips"),
zones as (select * from "taxi"."public"."dim_zones")
select trips.pickup_at::date as day, sum(trips.dollars) / sum(trips.miles) as rate, max(zones.zone) as zone, 1 as one
from trips left join zones on true group by 1
"""
MODEL = "model.taxi.rates"


def relation(name: str, *columns: str, parents: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "name": name,
        "relation_name": f'"taxi"."public"."{name}"',
        "columns": {column: {"data_type": "text"} for column in columns},
        "depends_on": {"nodes": list(parents)},
    }


MANIFEST = {
    "nodes": {
        "model.taxi.stg_trips": relation("stg_trips", "pickup_at", "miles", "dollars"),
        "model.taxi.dim_zones": relation("dim_zones", "zone_id", "zone"),
        MODEL: relation(
            "rates", "day", "rate", "zone", "one", "gone", parents=("model.taxi.stg_trips", "model.taxi.dim_zones")
        ),
    },
    "sources": {},
}


def trace(sql: str | None) -> dict[str, list[str]]:
    metadata = lineage_metadata(MANIFEST, MODEL, sql, AssetKeys(None))
    return {
        column: [f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps]
        for column, deps in (metadata[METADATA_KEY].deps_by_column.items() if metadata else ())
    }


def test_each_column_has_the_columns_that_it_is_computed_from() -> None:
    assert trace(SQL) == {
        "day": ["stg_trips.pickup_at"],
        "rate": ["stg_trips.dollars", "stg_trips.miles"],
        "zone": ["dim_zones.zone"],
        "one": [],
        "gone": [],
    }
    assert trace(None) == {}, "a seed has no SQL"


def test_sql_that_sqlglot_cannot_read_gives_no_lineage_and_a_warning(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert trace("select from where (") == {}
    assert f"{MODEL} gets no column lineage: ParseError" in caplog.text + capfd.readouterr().err
