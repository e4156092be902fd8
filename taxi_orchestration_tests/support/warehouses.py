"""The warehouse of a test."""

import pytest

from taxi_orchestration.settings import PostgresTarget


def point_at(target: PostgresTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a database the warehouse, as one's own PostgreSQL."""
    variables = {"HOST": target.host, "PORT": str(target.port), "USER": target.user, "PASSWORD": target.password}
    for name, value in {**variables, "DBNAME": target.dbname}.items():
        monkeypatch.setenv(f"PG_{name}", value)
