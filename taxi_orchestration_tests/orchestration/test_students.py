"""Students in one instance, on one or two databases: they see, wait for, alert on and repair only their own months."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from psycopg import sql
from pytest_httpserver import HTTPServer

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.defs.alerts import ALERTS
from taxi_orchestration.defs.coverage import coverage_evaluation
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.run_requests import request_of
from taxi_orchestration.instance.backfills import end_orphaned_backfills, new_record
from taxi_orchestration.instance.dagster_internals import BulkActionStatus
from taxi_orchestration.instance.dagster_names import workspace
from taxi_orchestration.instance.processes import fail_orphaned_runs, this_process
from taxi_orchestration.instance.run_tags import (
    SCHEMA,
    TLC_PUBLICATIONS,
    attempts_by,
    keys_in_progress,
    requester_tag,
)
from taxi_orchestration.months import parse_range
from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.warehouse import Warehouse, open_warehouse
from taxi_orchestration_tests.support.daemon import QUIET, Sensor, clock_at
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost

QUARTER = parse_range("2024-01", "2024-03", clock_at(2024, 7, 1).now())
UI_JOB = "__ASSET_JOB"


@dataclass
class Student:
    """A student, with the objects that `taxi` and the student's code server use."""

    settings: Settings
    instance: dg.DagsterInstance
    webhook: HTTPServer

    def __post_init__(self) -> None:
        self.assets = AssetKeys(self.settings.student)
        self.definitions = build_definitions(self.settings)
        self.alerts = Sensor(self.definitions.get_repository_def(), self.instance, ALERTS)
        self.pipeline = self.definitions.resolve_job_def(TAXI_PIPELINE)

    @property
    def warehouse(self) -> Warehouse:
        return open_warehouse(self.settings)

    @property
    def states(self) -> list[str]:
        return [status.state for status in month_statuses(self.warehouse, self.instance, QUARTER).values()]

    def tick_alerts(self) -> list[str]:
        """Return the titles of the messages that a tick of the sensor `alerts` sends."""
        seen = len(self.webhook.log)
        self.alerts.tick()
        return [request.get_json()["title"] for request, _ in self.webhook.log[seen:]]

    def requested_by_conditions(self) -> set[Any]:
        result = dg.evaluate_automation_conditions(self.definitions, self.instance)
        return set(result.get_requested_partitions(self.assets.fct_trips))


@pytest.fixture
def create_student(
    tlc: TlcHost, home: Any, server: PostgresTarget, instance: dg.DagsterInstance, httpserver: HTTPServer
) -> Iterator[Callable[..., Student]]:
    """A function that creates students. Their schemas are dropped after the test."""
    httpserver.expect_request("/alerts").respond_with_data("")
    schemas = []

    def create(name: str, target: PostgresTarget = server) -> Student:
        settings = Settings(
            **{
                **{"taxi_home": home, "tlc_base_url": tlc.url, "dagster_student": name, "pg_schema": None},
                **{"pg_host": target.host, "pg_port": target.port, "pg_user": target.user},
                **{"pg_password": target.password, "pg_dbname": target.dbname},
                "taxi_alert_urls": f"json://{httpserver.host}:{httpserver.port}/alerts",
            }
        )
        if target is server:
            schemas.append(sql.Identifier(settings.schema_name))
        return Student(settings, instance, httpserver)

    yield create
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for schema in schemas:
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(schema))


@pytest.fixture
def other_database(server: PostgresTarget) -> Iterator[PostgresTarget]:
    # A fixed name, because the dbt project is parsed again for each database name.
    name = sql.Identifier("database_of_carl")
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(name))
        yield replace(server, dbname="database_of_carl")
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


def test_every_key_pool_and_job_of_a_student_contains_their_name(create_student: Callable[..., Student]) -> None:
    ada = create_student("ada")
    plain = build_definitions(Settings(dagster_student="default", pg_schema=None))
    graph, default_graph = ada.definitions.resolve_asset_graph(), plain.resolve_asset_graph()
    names = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert names == {f"ada/{key.to_user_string()}" for key in default_graph.get_all_asset_keys()}
    assert all(ada.assets.has(key) for key in graph.get_all_asset_keys())
    assert all(ada.assets.has(key.asset_key) for key in graph.asset_check_keys)
    assert len(graph.asset_check_keys) == len(default_graph.asset_check_keys)
    assert {key.name for key in graph.asset_check_keys} == {key.name for key in default_graph.asset_check_keys}
    assert not any(ada.assets.has(key) for key in default_graph.get_all_asset_keys())
    for definitions, pool in ((ada.definitions, "dbt_ada"), (plain, "dbt")):
        ops = definitions.resolve_job_def(UI_JOB).nodes_in_topological_order
        assert {op.definition.pool for op in ops if isinstance(op.definition, dg.OpDefinition)} == {None, pool}
    assert {job.run_tags[SCHEMA] for job in ada.alerts.repository.get_all_jobs() if job.name != UI_JOB} == {
        "dagster_ada"
    }
    # `make dev`, `taxi backfill` and plain `dagster dev` use the same name for the code location.
    assert workspace(None) == yaml.safe_load((PROJECT_DIRECTORY / "workspace.yaml").read_text())
    assert workspace("ada")["load_from"][0]["python_module"]["location_name"] == ada.settings.location_name == "ada"


def test_students_in_one_instance_do_not_see_months_of_other_students(
    create_student: Callable[..., Student], tlc: TlcHost, instance: dg.DagsterInstance, other_database: PostgresTarget
) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month)
    ada, grace, carl = create_student("ada"), create_student("grace"), create_student("carl", other_database)
    assert Backfill(ada.definitions, instance, months_at_once=1).run([JANUARY]).succeeded

    assert ada.states == ["completed", "missing", "missing"]
    assert grace.states == carl.states == ["missing"] * 3
    assert {run.tags[SCHEMA] for run in instance.get_runs()} == {"dagster_ada"}
    of_location = dg.RunsFilter(tags={".dagster/repository": "__repository__@ada"})
    assert instance.get_runs_count() == instance.get_runs_count(of_location) == 2
    assert {record.tags[SCHEMA] for record in instance.get_backfills()} == {"dagster_ada"}

    # The conditions of a student request only the months of that student.
    for student in (grace, carl):
        assert student.pipeline.execute_in_process(
            instance=instance, partition_key="2024-02", asset_selection=[student.assets.raw_trips], run_config=QUIET
        ).success
        assert coverage_evaluation(instance, student.warehouse, DATASET.first_month).passed
        assert student.requested_by_conditions() == {"2024-02"}
        assert student.states == ["missing", "unfinished", "missing"]
    assert ada.requested_by_conditions() == set()
    assert ada.states == ["completed", "missing", "missing"]


def test_students_in_one_instance_wait_for_alert_on_and_repair_only_their_own(
    create_student: Callable[..., Student], tlc: TlcHost, instance: dg.DagsterInstance, other_database: PostgresTarget
) -> None:
    ada, carl = create_student("ada"), create_student("carl", other_database)
    # A run that the UI created and that has not started: it has no tag of this project.
    ui_job = carl.definitions.resolve_job_def(UI_JOB)
    instance.create_run_for_job(
        ui_job,
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={"dagster/partition": "2024-01"},
        asset_selection={carl.assets.raw_trips},
    )
    assert keys_in_progress(instance, carl.assets, ["2024-01"]) == {"2024-01"}
    assert keys_in_progress(instance, ada.assets, ["2024-01"]) == set()

    assert ada.tick_alerts() == carl.tick_alerts() == []
    request = request_of(
        FEBRUARY, "a file", 1, requester_tag(TLC_PUBLICATIONS, carl.assets), clock_at(2024, 5, 1).now()
    )
    failed = carl.pipeline.execute_in_process(
        instance=instance,
        partition_key="2024-02",
        run_config=QUIET,
        tags={**request.tags, "dagster/max_retries": "0"},
        asset_selection=[carl.assets.raw_trips],
        raise_on_error=False,
    )
    assert not failed.success
    assert attempts_by(instance, requester_tag(TLC_PUBLICATIONS, carl.assets)).keys() == {("2024-02", "a file")}
    assert attempts_by(instance, requester_tag(TLC_PUBLICATIONS, ada.assets)) == {}
    assert ada.tick_alerts() == []

    # The processes of a run and of a backfill of carl have ended.
    orphaned = instance.create_run_for_job(
        carl.pipeline, status=dg.DagsterRunStatus.STARTED, tags=carl.pipeline.run_tags
    )
    instance.add_run_tags(orphaned.run_id, make_orphan_tags(orphaned.run_id))
    record = new_record(instance, "lost", carl.pipeline, [JANUARY])
    instance.add_backfill(record._replace(tags={**record.tags, **make_orphan_tags("lost")}))
    end_orphaned_backfills(instance, ada.assets)
    assert fail_orphaned_runs(instance, ada.assets) == []
    assert instance.get_backfill("lost").status is BulkActionStatus.REQUESTED  # type: ignore[union-attr]
    end_orphaned_backfills(instance, carl.assets)
    assert fail_orphaned_runs(instance, carl.assets) == [orphaned.run_id]
    assert instance.get_backfill("lost").status is BulkActionStatus.COMPLETED_FAILED  # type: ignore[union-attr]
    assert ada.tick_alerts() == []


def make_orphan_tags(run_id: str) -> dict[str, str]:
    """Return the tags of an ended process whose PID this process has now."""
    process = this_process(run_id)
    return replace(process, started=process.started - 3600, uptime=process.uptime - 3600).tags()
