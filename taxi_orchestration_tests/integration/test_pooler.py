"""PgBouncer in transaction mode in front of the warehouse: each transaction may run in another server session."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import date

import psycopg
import pytest
from dagster import DagsterInstance

from taxi_orchestration.instance.opening import open_instance
from taxi_orchestration.months import Window
from taxi_orchestration.postgres import session
from taxi_orchestration.settings import PostgresTarget, SettingsError
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.clusters import running_pooler
from taxi_orchestration_tests.support.months import content_of_file, contents_of_schema
from taxi_orchestration_tests.support.programs import Programs, taxi
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.warehouses import point_at, storage_database

WINTER = Window(date(2023, 12, 1), date(2024, 5, 1))


@pytest.fixture(scope="module")
def pooler(server: PostgresTarget) -> Iterator[PostgresTarget]:
    """The embedded server behind PgBouncer, which has three server sessions, so that clients share each of them."""
    with running_pooler(server, {"pool_mode": "transaction", "default_pool_size": "3"}) as target:
        yield target


@pytest.fixture
def files(
    tlc: TlcHost, pooler: PostgresTarget, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> dict[date, bytes]:
    """The files of five published months, with the pooler as the warehouse."""
    point_at(pooler, monkeypatch)
    return {month: tlc.publish(month, seed=month.month).path.read_bytes() for month in WINTER.months}


def test_two_backfills_at_once_through_a_pooler_are_exact_and_leave_no_setting(
    files: dict[date, bytes],
    pooler: PostgresTarget,
    server: PostgresTarget,
    environment: dict[str, str],
    instance: DagsterInstance,
    programs: Programs,
) -> None:
    started = [programs.taxi("backfill", "2023-12", "2024-03"), programs.taxi("backfill", "2024-02", "2024-04")]
    outputs = [program.communicate(timeout=600)[0] for program in started]
    assert [program.returncode for program in started] == [0, 0], outputs
    schema = environment["PG_SCHEMA"]
    assert contents_of_schema(pooler, schema) == {month: content_of_file(data) for month, data in files.items()}
    statuses = month_statuses(Warehouse(pooler, schema), instance, WINTER).values()
    assert {(status.state, status.is_exact) for status in statuses} == {("completed", True)}
    for arguments in (["dbt", "debug", "--connection"], ["psql", "--", "-Atc", "select count(*) from fct_trips"]):
        done = taxi(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    assert 900 < int(done.stdout) <= 1000

    query = "select lower(name), setting from pg_settings where lower(name) = any(%s) order by 1"
    names = [[*session.SETTINGS, "lock_timeout", "default_transaction_isolation", "statement_timeout"]]
    with psycopg.connect(server.url()) as direct:
        expected = direct.execute(query, names).fetchall()
    with ExitStack() as stack:
        # Three open transactions, so that each uses another server session of the pooler.
        clients = [stack.enter_context(psycopg.connect(pooler.url())) for _ in range(3)]
        assert [client.execute(query, names).fetchall() for client in clients] == [expected] * 3


def test_psql_through_a_transaction_pooler_prints_how_to_set_the_search_path(files: dict[date, bytes]) -> None:
    assert "begin; set local search_path = dagster_default,public;" in taxi("psql", stdin="select 1;").stderr


def test_a_pooler_that_refuses_pgoptions_is_an_error_that_names_pgoptions(
    files: dict[date, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=64MB")
    done = taxi("status")
    assert done.returncode == 2
    assert "Unset PGOPTIONS" in done.stderr


@pytest.mark.parametrize(
    "settings", [{}, {"ignore_startup_parameters": "options"}], ids=["options refused", "options ignored"]
)
def test_dagsters_storage_behind_a_pooler_is_refused(
    settings: dict[str, str],
    server: PostgresTarget,
    instance: DagsterInstance,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = storage_database()
    with running_pooler(server, {"pool_mode": "transaction", **settings}) as pooler:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", replace(pooler, dbname=name).url())
        with pytest.raises(SettingsError, match=r"behind a pooler .* Set DAGSTER_POSTGRES_URL to the server itself"):
            open_instance().__enter__()
