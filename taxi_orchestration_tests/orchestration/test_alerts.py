"""The sensor `alerts` on a real instance, with a real webhook that receives the messages."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import dagster as dg
import psycopg
import pytest
from psycopg import sql
from pytest_httpserver import HTTPServer

from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.defs.evaluations import evaluation_of
from taxi_orchestration.defs.jobs import TAXI_PIPELINE, TAXI_REFERENCE
from taxi_orchestration.defs.notify import NotifyError
from taxi_orchestration.defs.run_requests import request_of
from taxi_orchestration.instance.incidents import ALERTS
from taxi_orchestration.instance.partitions import monthly_partitions
from taxi_orchestration.instance.run_tags import MAX_ATTEMPTS, TLC_PUBLICATIONS
from taxi_orchestration.loading import Loader
from taxi_orchestration.postgres.binaries import ServerError
from taxi_orchestration.quality.finding import Finding, Level
from taxi_orchestration.settings import LOCATION, PostgresTarget, Settings, load_settings
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.daemon import QUIET, Sensor
from taxi_orchestration_tests.support.http_host import status
from taxi_orchestration_tests.support.interference import RefuseRows, row_deleting_trigger
from taxi_orchestration_tests.support.keys import (
    COVERAGE,
    FRESHNESS,
    RAW_CHECKS,
    RAW_TRIPS,
    REJECTED_TRIPS,
    TABLES,
    TLC_FILES,
)
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.tlc_host import ZONES, TlcHost

QUARTER = {"dagster/asset_partition_range_start": "2024-01", "dagster/asset_partition_range_end": "2024-03"}
UI = "http://ui.example:3000"
# The tag that `taxi backfill` gives to its runs: the daemon does not retry them.
NO_RETRY = {"dagster/max_retries": "0"}


@dataclass
class Alerts:
    """The sensor `alerts`, and the number of messages that were read from the webhook."""

    settings: Settings
    instance: dg.DagsterInstance
    webhook: HTTPServer
    seen: int = 0

    def __post_init__(self) -> None:
        self.definitions = build_definitions(self.settings)
        self.sensor = Sensor(self.definitions.get_repository_def(), self.instance, ALERTS)

    def tick(self) -> list[Mapping[str, str]]:
        """Return the messages that a tick of the sensor sends."""
        self.sensor.tick()
        return self.take_messages()

    def take_messages(self) -> list[Mapping[str, str]]:
        """Return the messages that the webhook received since the previous call."""
        messages = [request.get_json() for request, _ in self.webhook.log[self.seen :]]
        self.seen = len(self.webhook.log)
        return messages

    def tick_titles(self) -> list[str]:
        """Return the titles of the messages that a tick of the sensor sends."""
        return [message["title"] for message in self.tick()]

    def run_attempt(self, number: int) -> dg.ExecuteInProcessResult:
        """Return the result of a run of raw_trips for February with the tags of a request of tlc_publications."""
        now = datetime(2024, 5, number, tzinfo=UTC)
        request = request_of(FEBRUARY, "a file", number, TLC_PUBLICATIONS, now)
        return self.execute({**request.tags, "dagster/partition": "2024-02"})

    def execute(
        self, tags: Mapping[str, str], selection: Sequence[dg.AssetKey] = (RAW_TRIPS,), job: str = TAXI_PIPELINE
    ) -> dg.ExecuteInProcessResult:
        """Return the result of a run of raw_trips or of other assets."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=tags.get("dagster/partition"),
            asset_selection=list(selection),
            run_config=QUIET,
            tags={**tags, **NO_RETRY},
            raise_on_error=False,
        )

    def record_freshness(self, level: Level, summary: str, months: str = "") -> None:
        """Record a result of the freshness check, as month_watch does."""
        self.record_check(FRESHNESS, level, summary, months)

    def record_check(self, spec: dg.AssetCheckSpec, level: Level, summary: str, months: str = "") -> None:
        """Record a result of a check of all months, as month_watch does."""
        finding = Finding(level, summary, "Ask the TLC.", months=months)
        self.instance.report_runless_asset_event(evaluation_of(spec, finding))

    def execute_check(self, key: dg.AssetCheckKey, first: str = "", last: str = "") -> dg.ExecuteInProcessResult:
        """Return the result of a run of one check, for these months or, as by *Execute* in the UI, for all of them."""
        job = dg.define_asset_job("one_check", dg.AssetSelection.checks(key))
        definitions = dg.Definitions.merge(self.definitions, dg.Definitions(jobs=[job]))
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        return definitions.resolve_job_def("one_check").execute_in_process(
            instance=self.instance,
            run_config=QUIET,
            tags={**(tags if first else {}), **NO_RETRY},
            raise_on_error=False,
        )

    def create_run(self, tags: Mapping[str, str], selection: Sequence[dg.AssetKey] = ()) -> dg.DagsterRun:
        """Return a run of all or of these assets that has recorded what it plans and has not started."""
        job = self.definitions.resolve_job_def(TAXI_PIPELINE)
        return self.instance.create_run_for_job(job, tags=tags, asset_selection=set(selection))

    def create_failed_run(self, tags: Mapping[str, str], reason: str = "The process was killed.") -> dg.DagsterRun:
        """Return a failed run without a failed step."""
        run = self.create_run({"dagster/partition": "2024-02", **tags})
        self.instance.report_run_failed(run, reason)
        return run


@pytest.fixture
def alerts(
    environment: dict[str, str],
    instance: dg.DagsterInstance,
    httpserver: HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    loader: Loader,
) -> Alerts:
    """The sensor after its first tick. The raw tables exist."""
    httpserver.expect_request("/alerts").respond_with_data("")
    monkeypatch.setenv("TAXI_ALERT_URLS", f"json://{httpserver.host}:{httpserver.port}/alerts")
    monkeypatch.setenv("TAXI_UI_URL", UI)
    opened = Alerts(load_settings(), instance, httpserver)
    assert opened.tick() == []
    return opened


def test_a_failed_month_is_reported_once_with_reason_page_and_command_then_resolved(
    alerts: Alerts, tlc: TlcHost
) -> None:
    tlc.publish(JANUARY)
    tlc.publish_bytes(FEBRUARY, b"<html>Sign in</html>")
    tlc.publish(MARCH)
    run = alerts.execute(QUARTER)
    (message,) = alerts.tick()
    assert message["title"] == "taxi: raw_trips failed for 2024-02"
    assert message["type"] == "failure"
    assert "Months: 2024-02" in message["message"]
    assert "Sign in" in message["message"]
    assert f"{UI}/runs/{run.run_id}" in message["message"]
    assert "taxi backfill 2024-02 2024-02" in message["message"]
    assert alerts.sensor.skip_message == "Sent: taxi: raw_trips failed for 2024-02."

    assert alerts.tick() == []
    assert alerts.sensor.skip_message == "Nothing new."
    alerts.execute({"dagster/partition": "2024-02"})
    assert alerts.tick() == [], "the same incident is reported once"

    tlc.publish(FEBRUARY)
    alerts.execute({"dagster/partition": "2024-02"})
    (message,) = alerts.tick()
    assert message["title"] == "taxi: resolved: raw_trips for 2024-02"
    assert message["type"] == "success"
    assert alerts.tick() == []

    tlc.withdraw(FEBRUARY)
    alerts.execute({"dagster/partition": "2024-02"})
    assert alerts.tick_titles() == ["taxi: raw_trips failed for 2024-02"], (
        "an incident that recurs after its resolution is reported again"
    )


def test_a_file_that_is_requested_again_is_reported_only_after_the_last_attempt(alerts: Alerts, tlc: TlcHost) -> None:
    tlc.publish_bytes(FEBRUARY, b"PAR1 damaged PAR1")
    for number in range(1, MAX_ATTEMPTS):
        assert not alerts.run_attempt(number).success
        assert alerts.tick() == [], number
    last = alerts.run_attempt(MAX_ATTEMPTS)
    (message,) = alerts.tick()
    assert message["title"] == "taxi: raw_trips failed for 2024-02"
    assert last.run_id in message["message"]


def test_an_attempt_that_fails_after_the_month_was_loaded_is_reported_at_once(
    alerts: Alerts, tlc: TlcHost, target: PostgresTarget
) -> None:
    tlc.publish(FEBRUARY)
    with row_deleting_trigger(target, alerts.settings.schema_name, FEBRUARY):
        assert not alerts.run_attempt(1).success
    (title,) = alerts.tick_titles()
    assert "check file_is_whole of raw_trips" in title


def test_months_that_fail_between_two_ticks_are_reported_in_one_message(alerts: Alerts, tlc: TlcHost) -> None:
    alerts.execute({"dagster/partition": "2024-01"})
    alerts.execute({"dagster/partition": "2024-02"})
    assert alerts.tick_titles() == ["taxi: raw_trips failed for 2024-01, 2024-02"]


def test_a_failed_check_of_error_level_is_reported_with_its_month_then_resolved(
    alerts: Alerts, tlc: TlcHost, target: PostgresTarget
) -> None:
    tlc.publish(FEBRUARY)
    with row_deleting_trigger(target, alerts.settings.schema_name, FEBRUARY):
        alerts.execute({"dagster/partition": "2024-02"})
    (message,) = alerts.tick()
    assert "check file_is_whole of raw_trips" in message["title"]
    assert "for 2024-02" in message["title"]
    assert "raw_trips has 199" in message["message"]
    assert "--reprocess completed" in message["message"]
    alerts.execute({"dagster/partition": "2024-02"})
    (message,) = alerts.tick()
    assert message["title"].startswith("taxi: resolved: check file_is_whole of raw_trips for 2024-02")


def test_a_check_that_only_warns_is_no_incident(alerts: Alerts, tlc: TlcHost) -> None:
    alerts.record_freshness("warn", "2024-03: published for 2 days, but not loaded.")
    assert alerts.tick() == []


def test_a_failed_mart_is_resolved_only_by_its_own_success(
    alerts: Alerts, tlc: TlcHost, refuse_rows: RefuseRows
) -> None:
    january = {"dagster/partition": "2024-01"}
    tlc.publish(JANUARY)
    assert alerts.execute(january, TABLES).success
    assert alerts.tick_titles() == []
    with refuse_rows("rejected_trips"):
        assert not alerts.execute(january, TABLES).success
    (message,) = alerts.tick()
    assert message["title"] == "taxi: dbt_models failed for 2024-01"
    assert "taxi backfill 2024-01 2024-01 --reprocess completed" in message["message"]
    assert alerts.execute(january, [dg.AssetKey("int_refunds")]).success
    assert alerts.tick_titles() == []
    assert alerts.execute(january, [REJECTED_TRIPS]).success
    assert alerts.tick_titles() == ["taxi: resolved: dbt_models for 2024-01"]


def test_a_step_that_did_not_start_is_no_incident_and_resolves_none(
    alerts: Alerts, tlc: TlcHost, refuse_rows: RefuseRows
) -> None:
    january = {"dagster/partition": "2024-01"}
    tlc.publish(JANUARY)
    assert alerts.execute(january, TABLES).success
    with refuse_rows("rejected_trips"):
        alerts.execute(january, TABLES)
    assert alerts.tick_titles() == ["taxi: dbt_models failed for 2024-01"]
    tlc.withdraw(JANUARY)
    assert not alerts.execute(january, TABLES).success
    assert alerts.tick_titles() == ["taxi: raw_trips failed for 2024-01"], "the models did not run again"
    canceled = alerts.create_run(january, TABLES)
    assert alerts.tick_titles() == [], "the run is in progress"
    alerts.instance.report_run_canceled(canceled, "The user pressed Terminate.")
    assert alerts.tick_titles() == [], "the canceled run materialized nothing, and no step failed"
    tlc.publish(JANUARY)
    assert alerts.execute(january, TABLES).success
    assert alerts.tick_titles() == ["taxi: resolved: dbt_models, raw_trips for 2024-01"]


def test_a_month_with_a_run_in_progress_or_without_a_build_is_no_incident(alerts: Alerts, tlc: TlcHost) -> None:
    tlc.publish(JANUARY)
    assert alerts.execute({"dagster/partition": "2024-01"}).success
    alerts.create_run({"dagster/partition": "2024-02"})
    assert alerts.tick() == []


KNOWN_REASON = dg.AssetCheckKey(REJECTED_TRIPS, "rejected_trips_have_a_known_reason")


def build(alerts: Alerts, tlc: TlcHost, *months: date) -> None:
    """Publish, load and build these months, each in a run."""
    for month in months:
        tlc.publish(month)
        assert alerts.execute({"dagster/partition": f"{month:%Y-%m}"}, TABLES).success


def spoil(alerts: Alerts, target: PostgresTarget, *months: date, reason: str = "no such reason") -> None:
    """Give the rejected rows of these months a reason; any unknown one fails the check KNOWN_REASON."""
    rejected = sql.Identifier(alerts.settings.schema_name, "rejected_trips")
    change = sql.SQL("update {} set rejection_reasons = %s where source_month = any(%s)").format(rejected)
    with psycopg.connect(target.url()) as connection:
        connection.execute(change, [[reason], list(months)])


def test_a_month_that_fails_a_dbt_test_is_resolved_by_that_month_and_no_other(
    alerts: Alerts, tlc: TlcHost, target: PostgresTarget
) -> None:
    build(alerts, tlc, JANUARY, FEBRUARY)
    spoil(alerts, target, JANUARY)
    assert not alerts.execute_check(KNOWN_REASON, "2024-01", "2024-02").success
    assert alerts.tick_titles() == [f"taxi: check {KNOWN_REASON.name} of rejected_trips failed for 2024-01"]
    alerts.execute_check(KNOWN_REASON, "2024-02", "2024-02")
    assert alerts.tick_titles() == []
    assert alerts.execute({"dagster/partition": "2024-01"}, TABLES).success
    assert alerts.tick_titles() == [f"taxi: resolved: check {KNOWN_REASON.name} of rejected_trips for 2024-01"]


def test_all_months_that_fail_a_dbt_test_are_reported_not_only_those_of_the_sample(
    alerts: Alerts, tlc: TlcHost, target: PostgresTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(alerts, tlc, JANUARY, FEBRUARY)
    spoil(alerts, target, JANUARY, FEBRUARY)
    monkeypatch.setattr("taxi_orchestration.defs.dbt_step.SAMPLE_ROWS", 1)
    assert not alerts.execute_check(KNOWN_REASON, "2024-01", "2024-02").success
    assert alerts.tick_titles() == [f"taxi: check {KNOWN_REASON.name} of rejected_trips failed for 2024-01, 2024-02"]


def test_a_dbt_test_of_all_months_is_reported_for_those_that_fail_then_resolved(
    alerts: Alerts, tlc: TlcHost, target: PostgresTarget
) -> None:
    build(alerts, tlc, JANUARY, FEBRUARY)
    spoil(alerts, target, JANUARY)
    assert not alerts.execute_check(KNOWN_REASON).success
    assert alerts.tick_titles() == [f"taxi: check {KNOWN_REASON.name} of rejected_trips failed for 2024-01"]
    spoil(alerts, target, JANUARY, reason="pickup_missing")
    assert alerts.execute_check(KNOWN_REASON).success
    assert alerts.tick_titles() == [f"taxi: resolved: check {KNOWN_REASON.name} of rejected_trips for 2024-01"]


def test_the_deletion_of_an_old_failed_run_sends_no_message(
    alerts: Alerts, tlc: TlcHost, target: PostgresTarget
) -> None:
    build(alerts, tlc, JANUARY)
    spoil(alerts, target, JANUARY)
    failed = alerts.execute_check(KNOWN_REASON, "2024-01", "2024-01")
    assert not failed.success
    assert alerts.execute({"dagster/partition": "2024-01"}, TABLES).success
    alerts.tick()
    alerts.instance.delete_run(failed.run_id)
    # A new event, so that the tick reads the record.
    alerts.record_freshness("pass", "Nothing is overdue.")
    assert alerts.tick_titles() == []


def test_a_failed_step_that_runs_only_checks_is_reported(alerts: Alerts, tlc: TlcHost, target: PostgresTarget) -> None:
    tlc.publish(JANUARY)
    january = {"dagster/partition": "2024-01"}
    assert alerts.execute(january).success
    loads = sql.Identifier(alerts.settings.schema_name, "raw_loads")
    rename = sql.SQL("alter table {} rename column {} to {}")
    names = [sql.Identifier("rows"), sql.Identifier("elsewhere")]
    check = dg.AssetCheckKey(RAW_TRIPS, "file_is_whole")
    with psycopg.connect(target.url(), autocommit=True) as connection:
        connection.execute(rename.format(loads, *names))
        assert not alerts.execute_check(check, "2024-01", "2024-01").success
        (message,) = alerts.tick()
        assert message["title"] == "taxi: raw_trips failed for 2024-01"
        assert "taxi backfill 2024-01 2024-01 --reprocess completed" in message["message"], "the month is completed"
        connection.execute(rename.format(loads, *reversed(names)))
    assert alerts.execute_check(check, "2024-01", "2024-01").success
    assert alerts.tick_titles() == ["taxi: resolved: raw_trips for 2024-01"]


def test_an_unpartitioned_asset_whose_last_run_failed_is_an_incident(alerts: Alerts, tlc: TlcHost) -> None:
    tlc.http.on(ZONES, status(400))
    assert not alerts.execute({}, [dg.AssetKey("raw_zones")], TAXI_REFERENCE).success
    (message,) = alerts.tick()
    assert message["title"] == "taxi: raw_zones failed"
    assert "materialize it again" in message["message"]
    tlc.publish_zones()
    assert alerts.execute({}, [dg.AssetKey("raw_zones")], TAXI_REFERENCE).success
    assert alerts.tick_titles() == ["taxi: resolved: raw_zones"]


def test_alerts_are_sent_even_if_the_warehouse_cannot_be_started(
    alerts: Alerts, tlc: TlcHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_disk_full(settings: Settings) -> Warehouse:
        raise ServerError("The embedded PostgreSQL could not be started: no space left on device.")

    tlc.publish_bytes(JANUARY, b"<html>Sign in</html>")
    assert not alerts.execute({"dagster/partition": "2024-01"}).success
    monkeypatch.setattr("taxi_orchestration.defs.alerts.open_warehouse", raise_disk_full)
    assert alerts.tick_titles() == ["taxi: raw_trips failed for 2024-01"]


def test_an_overdue_month_is_reported_once_then_resolved(alerts: Alerts) -> None:
    alerts.record_freshness("warn", "2024-03: not published 80 days after its end.", "2024-03")
    alerts.record_freshness("error", "2024-03: not published 101 days after its end.", "2024-03")
    (message,) = alerts.tick()
    assert message["title"] == f"taxi: check {FRESHNESS.name} of {TLC_FILES.to_user_string()} failed for 2024-03"
    assert "Months: 2024-03" in message["message"]
    assert "Why: 2024-03: not published 101 days" in message["message"]
    assert "To do: Ask the TLC." in message["message"]
    assert f"See: {UI}/assets/{TLC_FILES.to_user_string()}?view=checks" in message["message"]
    alerts.record_freshness("error", "2024-03: not published 102 days after its end.", "2024-03")
    alerts.record_freshness("error", "2024-03, 2024-04: published, but not loaded.", "2024-03, 2024-04")
    alerts.record_freshness("warn", "The TLC's host does not answer.")
    assert alerts.tick() == []
    alerts.record_freshness("pass", "2024-03 is loaded.")
    (message,) = alerts.tick()
    assert message["title"] == f"taxi: resolved: check {FRESHNESS.name} of {TLC_FILES.to_user_string()}"
    assert f"See: {UI}" in message["message"]


def test_a_gap_resolves_the_incident_of_lost_months_so_that_later_losses_alert(alerts: Alerts) -> None:
    what = f"check {COVERAGE.name} of raw_trips"
    alerts.record_check(COVERAGE, "error", "2024-02: loaded in Dagster's record, but not in PostgreSQL.", "2024-02")
    assert alerts.tick_titles() == [f"taxi: {what} failed for 2024-02"]
    alerts.record_check(COVERAGE, "warn", "2024-03: a gap between loaded months.", "2024-03")
    assert alerts.tick_titles() == [f"taxi: resolved: {what}"]
    alerts.record_check(COVERAGE, "error", "2024-01: loaded in Dagster's record, but not in PostgreSQL.", "2024-01")
    assert alerts.tick_titles() == [f"taxi: {what} failed for 2024-01"]


def test_a_run_that_dagster_retries_is_reported_when_the_last_one_failed(alerts: Alerts) -> None:
    retried = alerts.create_failed_run({"dagster/max_retries": "1"})
    given_up = alerts.create_failed_run({"dagster/max_retries": "1"})
    assert alerts.instance.get_run_by_id(retried.run_id).tags["dagster/will_retry"] == "true"  # type: ignore[union-attr]
    assert alerts.tick() == []
    alerts.instance.add_run_tags(retried.run_id, {"dagster/auto_retry_run_id": "another"})
    assert alerts.tick() == []
    alerts.instance.add_run_tags(given_up.run_id, {"dagster/will_retry": "false"})
    (message,) = alerts.tick()
    assert given_up.run_id in message["message"]
    assert message["title"] == "taxi: raw_trips failed for 2024-02"
    assert "taxi_pipeline: The process was killed." in message["message"]
    assert alerts.tick() == []


def test_no_password_is_in_a_message(alerts: Alerts, target: PostgresTarget) -> None:
    alerts.create_failed_run(NO_RETRY, f"Connecting to {target.url()} with {target.password} failed.")
    (message,) = alerts.tick()
    assert target.password not in str(message)
    assert target.host in message["message"]


def start_sensor(instance: dg.DagsterInstance, name: str) -> Callable[[str, float], None]:
    """Record a sensor that is on, and return a function that records a tick of it: its status and its time."""
    # The daemon records its ticks with these classes. Dagster does not export them.
    from dagster._core.definitions.sensor_definition import SensorType
    from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        InstigatorType,
        SensorInstigatorData,
        TickData,
        TickStatus,
    )
    from dagster._utils.error import SerializableErrorInfo

    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(LOCATION), "__repository__")
    origin = RemoteInstigatorOrigin(repository, name)
    data = SensorInstigatorData(sensor_type=SensorType.STANDARD)
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, data)
    instance.add_instigator_state(state)

    def record_tick(status: str, moment: float) -> None:
        error = SerializableErrorInfo("OSError: disk full", [], "OSError") if status == "FAILURE" else None
        instance.create_tick(
            TickData(
                state.instigator_origin_id,
                name,
                InstigatorType.SENSOR,
                TickStatus[status],
                moment,
                selector_id=state.selector_id,
                error=error,
                run_ids=[],
            )
        )

    return record_tick


def test_a_sensor_that_fails_is_reported_once_then_resolved(alerts: Alerts) -> None:
    record_tick = start_sensor(alerts.instance, TLC_PUBLICATIONS)
    record_tick("SKIPPED", 1.0)
    assert alerts.tick() == []
    record_tick("FAILURE", 2.0)
    (message,) = alerts.tick()
    assert message["title"] == f"taxi: sensor {TLC_PUBLICATIONS} failed"
    assert "disk full" in message["message"]
    record_tick("FAILURE", 3.0)
    assert alerts.tick() == []
    record_tick("SUCCESS", 4.0)
    assert alerts.tick_titles() == [f"taxi: resolved: sensor {TLC_PUBLICATIONS}"]


def test_the_incident_of_a_sensor_that_the_code_no_longer_has_is_resolved(alerts: Alerts) -> None:
    start_sensor(alerts.instance, "removed")("FAILURE", 1.0)
    alerts.sensor.cursor = '{"reported": ["sensor removed|"]}'
    assert alerts.tick_titles() == ["taxi: resolved: sensor removed"]
    assert alerts.tick_titles() == []


def test_the_incident_of_a_month_before_a_new_first_month_is_resolved(
    alerts: Alerts, tlc: TlcHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not alerts.execute({"dagster/partition": "2024-01"}).success
    assert not alerts.execute({"dagster/partition": "2024-02"}).success
    assert alerts.tick_titles() == ["taxi: raw_trips failed for 2024-01, 2024-02"]
    monkeypatch.setenv("TAXI_FIRST_MONTH", "2024-02")
    restarted = Alerts(load_settings(), alerts.instance, alerts.webhook, alerts.seen)
    restarted.sensor.cursor = alerts.sensor.cursor
    # A new event, so that the tick reads the record.
    restarted.record_freshness("pass", "Nothing is overdue.")
    assert restarted.tick_titles() == ["taxi: resolved: raw_trips for 2024-01"]


def test_a_message_that_could_not_be_sent_is_sent_by_a_later_tick(alerts: Alerts, httpserver: HTTPServer) -> None:
    alerts.create_failed_run(NO_RETRY)
    httpserver.clear_all_handlers()
    httpserver.expect_request("/alerts").respond_with_data("", 500)
    with pytest.raises(NotifyError, match="No service accepted"):
        alerts.tick()
    alerts.take_messages()
    httpserver.clear_all_handlers()
    httpserver.expect_request("/alerts").respond_with_data("")
    assert alerts.tick_titles() == ["taxi: raw_trips failed for 2024-02"]


def test_when_alerts_are_turned_on_only_unresolved_failures_are_reported(alerts: Alerts, tlc: TlcHost) -> None:
    alerts.execute({"dagster/partition": "2024-01"})
    alerts.execute({"dagster/partition": "2024-02"})
    tlc.publish(JANUARY)
    alerts.execute({"dagster/partition": "2024-01"})
    alerts.sensor.cursor = None
    assert alerts.tick_titles() == ["taxi: raw_trips failed for 2024-02"]


def test_incidents_that_the_previous_version_reported_are_not_reported_again(alerts: Alerts, tlc: TlcHost) -> None:
    alerts.execute({"dagster/partition": "2024-01"})
    alerts.sensor.cursor = '{"after": 5, "told": ["raw_trips|2024-01", "raw_trips|2024-02"], "undecided": []}'
    assert alerts.tick_titles() == ["taxi: resolved: raw_trips for 2024-02"]


def test_a_tick_over_150_months_takes_less_than_a_second_of_cpu(alerts: Alerts) -> None:
    months = monthly_partitions().get_partition_keys(datetime(2026, 3, 15, tzinfo=UTC))
    assert len(months) == 150
    for first in range(0, 150, 30):
        chunk = months[first : first + 30]
        tags = {"dagster/asset_partition_range_start": chunk[0], "dagster/asset_partition_range_end": chunk[-1]}
        run = alerts.create_run({**tags, **NO_RETRY})
        for month in chunk if first else chunk[1:]:
            alerts.instance.report_runless_asset_event(dg.AssetMaterialization(RAW_TRIPS, partition=month))
            for spec in RAW_CHECKS[-1:] if first else RAW_CHECKS:
                evaluation = evaluation_of(spec, Finding("warn", "Half as many rows."), month)
                alerts.instance.report_runless_asset_event(evaluation)
        alerts.instance.report_run_failed(run, "The process was killed.")
    assert alerts.tick_titles() == [
        "taxi: raw_trips failed for 2013-08",
        "taxi: dbt_models failed for 2016-02 to 2026-01 (120 months)",
    ]

    cpu = time.process_time()
    assert alerts.tick() == []
    # CPU time, because the elapsed time depends on the load of the machine.
    assert time.process_time() - cpu < 1


def test_the_sensor_exists_only_if_an_alert_url_is_set(alerts: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert alerts.sensor.repository.has_sensor_def(ALERTS)
    monkeypatch.delenv("TAXI_ALERT_URLS")
    assert not build_definitions(load_settings()).get_repository_def().has_sensor_def(ALERTS)
