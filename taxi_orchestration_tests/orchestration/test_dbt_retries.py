"""Retries of the dbt step: after a lost connection, but not after an error of a model."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from taxi_orchestration.dbt.runner import DbtError, DbtOutcome
from taxi_orchestration.loading import Loader
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration_tests.support.daemon import Daemon, clock_at, list_materialized
from taxi_orchestration_tests.support.interference import RefuseRows
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.tlc_host import TlcHost


@pytest.fixture
def daemon(
    tlc: TlcHost,
    loader: Loader,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
) -> Daemon:
    """A daemon with January loaded."""
    tlc.publish(JANUARY, rows=100)
    loader.load_month(JANUARY)
    return Daemon(definitions, instance, clock_at(2024, 6, 1))


@contextmanager
def terminate_waiting_connections(target: PostgresTarget, schema: str, table: str, times: int) -> Iterator[None]:
    """Lock a table for the duration of the block, and terminate `times` connections that wait for the lock."""

    def terminate() -> None:
        with psycopg.connect(target.url(), autocommit=True) as watcher, psycopg.connect(target.url()) as holder:
            holder.execute(sql.SQL("lock table {}").format(sql.Identifier(schema, table)))
            remaining = times
            while remaining and not is_over.is_set():
                remaining -= len(
                    watcher.execute(
                        "select pg_terminate_backend(pid) from pg_locks "
                        "where not granted and relation = %s::regclass limit 1",
                        [f"{schema}.{table}"],
                    ).fetchall()
                )
                time.sleep(0.02)

    is_over = threading.Event()
    thread = threading.Thread(target=terminate)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def list_retries(result: dg.ExecuteInProcessResult) -> list[str]:
    return [str(event.step_retry_data.error) for event in result.all_events if event.is_step_up_for_retry]


def test_a_connection_cut_while_dbt_runs_is_retried_by_its_step_and_recorded_once(
    daemon: Daemon, settings: Settings, target: PostgresTarget
) -> None:
    assert daemon.execute("2024-01", daemon.models).success
    with terminate_waiting_connections(target, settings.schema_name, "fct_trips", times=1):
        result = daemon.execute("2024-01", daemon.models)
    assert result.success
    assert list_materialized(result) == [key.to_user_string() for key in daemon.models]
    (reason,) = list_retries(result)
    assert "dbt failed for a temporary reason, such as a lost connection, and is retried: fct_trips" in reason


def test_a_model_that_fails_without_a_connection_error_is_not_retried(daemon: Daemon, refuse_rows: RefuseRows) -> None:
    assert daemon.execute("2024-01", daemon.models).success
    with refuse_rows("fct_trips"):
        result = daemon.execute("2024-01", daemon.models)
    assert not result.success
    assert list_retries(result) == []
    assert "fct_trips" not in list_materialized(result)
    assert "int_monthly_revenue_by_file" not in list_materialized(result)


@pytest.mark.parametrize(
    ("message", "can_pass"),
    [
        ('connection to server at "127.0.0.1", port 1 failed: Connection refused', True),
        ("terminating connection due to administrator command", True),
        ("terminating connection due to transaction timeout", False),
        ("deadlock detected", True),
        ("division by zero", False),
    ],
)
def test_a_lost_connection_or_a_deadlock_in_dbt_is_transient_and_a_timeout_is_not(message: str, can_pass: bool) -> None:
    assert DbtOutcome([], [], DbtError(message)).is_transient is can_pass
