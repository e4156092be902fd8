"""dbt whose connection is cut: its step is run again; what fails by itself is not."""

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
from taxi_orchestration_tests.support.daemon import Daemon, clock_at
from taxi_orchestration_tests.support.interference import Refusing
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.tlc_host import TlcHost


@pytest.fixture
def daemon(
    tlc: TlcHost,
    loader: Loader,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
) -> Daemon:
    """With one month loaded."""
    tlc.publish(JANUARY, rows=100)
    loader.load_month(JANUARY)
    return Daemon(definitions, instance, clock_at(2024, 6, 1))


@contextmanager
def cut_while_it_reads(target: PostgresTarget, schema: str, table: str, times: int) -> Iterator[None]:
    """Lock a table, and cut so many of the connections that come to wait for it."""

    def cut() -> None:
        with psycopg.connect(target.url(), autocommit=True) as watcher, psycopg.connect(target.url()) as holder:
            holder.execute(sql.SQL("lock table {}").format(sql.Identifier(schema, table)))
            left = times
            while left and not over.is_set():
                left -= len(
                    watcher.execute(
                        "select pg_terminate_backend(pid) from pg_locks "
                        "where not granted and relation = %s::regclass limit 1",
                        [f"{schema}.{table}"],
                    ).fetchall()
                )
                time.sleep(0.02)

    over = threading.Event()
    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def built(result: dg.ExecuteInProcessResult) -> list[str]:
    keys = (event.asset_key for event in result.all_events if event.is_step_materialization)
    return sorted(key.to_user_string() for key in keys if key)


def retries_of(result: dg.ExecuteInProcessResult) -> list[str]:
    return [str(event.step_retry_data.error) for event in result.all_events if event.is_step_up_for_retry]


def test_a_connection_cut_while_dbt_runs_is_retried_by_its_step_and_recorded_once(
    daemon: Daemon, settings: Settings, target: PostgresTarget
) -> None:
    assert daemon.execute("2024-01", daemon.models).success
    with cut_while_it_reads(target, settings.schema_name, "fct_trips", times=1):
        result = daemon.execute("2024-01", daemon.models)
    assert result.success
    assert built(result) == [key.to_user_string() for key in daemon.models]
    (reason,) = retries_of(result)
    assert "dbt failed for a temporary reason, such as a lost connection, and is retried: fct_trips" in reason


def test_a_model_that_fails_by_itself_is_not_tried_again(daemon: Daemon, refusing: Refusing) -> None:
    assert daemon.execute("2024-01", daemon.models).success
    with refusing("fct_trips"):
        result = daemon.execute("2024-01", daemon.models)
    assert not result.success
    assert retries_of(result) == []
    assert "fct_trips" not in built(result)
    assert "int_monthly_revenue_by_file" not in built(result)


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
def test_an_error_of_dbts_is_temporary_unless_a_rule_of_the_server_made_it(message: str, can_pass: bool) -> None:
    assert DbtOutcome([], [], DbtError(message)).is_transient is can_pass
