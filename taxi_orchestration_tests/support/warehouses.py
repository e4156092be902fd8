"""The warehouse and Dagster's storage of a test."""

import os
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from taxi_orchestration.settings import PostgresTarget

MARTS = ("fct_trips", "rejected_trips", "hourly_zone_activity", "zone_flows", "monthly_summary", "monthly_revenue",
         "trip_quality")  # fmt: skip


def connect_to_schema(target: PostgresTarget, schema: str) -> psycopg.Connection:
    """Open a connection with the schema as its search path."""
    return psycopg.connect(target.url(), options=f"-c search_path={schema}")


def fetch_rows(target: PostgresTarget, schema: str, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query with the schema as the search path."""
    with connect_to_schema(target, schema) as connection:
        return connection.execute(query).fetchall()


def storage_database() -> str:
    """Return the name of the database of Dagster's storage."""
    return str(make_url(os.environ["DAGSTER_POSTGRES_URL"]).database)


def point_at(target: PostgresTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Select a database as the warehouse with PG_* variables, as a user does with their own PostgreSQL."""
    variables = {"HOST": target.host, "PORT": str(target.port), "USER": target.user, "PASSWORD": target.password}
    for name, value in {**variables, "DBNAME": target.dbname}.items():
        monkeypatch.setenv(f"PG_{name}", value)
