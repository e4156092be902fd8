"""The warehouse of a test."""

import pytest

from taxi_orchestration.settings import PostgresTarget


def point_at(target: PostgresTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Select a database as the warehouse with PG_* variables, as a user does with their own PostgreSQL."""
    variables = {"HOST": target.host, "PORT": str(target.port), "USER": target.user, "PASSWORD": target.password}
    for name, value in {**variables, "DBNAME": target.dbname}.items():
        monkeypatch.setenv(f"PG_{name}", value)
