"""The sensor month_watch, which checks freshness and coverage: its ticks, with a fake clock and an HTTP server."""

from dataclasses import dataclass

import dagster as dg
import pytest

from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.defs.month_watch import MONTH_WATCH, build_month_watch
from taxi_orchestration.defs.tlc_source import observation
from taxi_orchestration.loading import Loader
from taxi_orchestration.settings import Settings
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration_tests.support.daemon import FakeClock, Sensor, clock_at
from taxi_orchestration_tests.support.http_host import status
from taxi_orchestration_tests.support.keys import COVERAGE, FRESHNESS, PLAIN
from taxi_orchestration_tests.support.months import FEBRUARY, MARCH
from taxi_orchestration_tests.support.tlc_host import TlcHost, month_path


@dataclass
class Watch:
    """The sensor month_watch with a fake clock."""

    settings: Settings
    instance: dg.DagsterInstance
    clock: FakeClock

    def __post_init__(self) -> None:
        repository = build_definitions(self.settings, clock=self.clock).get_repository_def()
        self.sensor = Sensor(repository, self.instance, MONTH_WATCH)

    def tick(self) -> dict[dg.AssetCheckKey, dg.AssetCheckEvaluation]:
        events = self.sensor.tick().asset_events
        return {e.asset_check_key: e for e in events if isinstance(e, dg.AssetCheckEvaluation)}

    def tick_level(self) -> str:
        """Return the recorded level of the freshness check after another tick."""
        self.tick()
        record = self.instance.get_latest_asset_check_evaluation_record(FRESHNESS.key)
        assert record
        assert record.evaluation
        return "pass" if record.evaluation.passed else record.evaluation.severity.value


@pytest.fixture
def watch(settings: Settings, instance: dg.DagsterInstance) -> Watch:
    """The sensor in the middle of May 2024, when March can be published."""
    return Watch(settings, instance, clock_at(2024, 5, 15))


def test_a_published_month_not_loaded_warns_after_a_day_and_fails_after_three(
    tlc: TlcHost, watch: Watch, loader: Loader
) -> None:
    tlc.publish(FEBRUARY)
    loader.load_month(FEBRUARY)
    assert watch.tick_level() == "pass"
    tlc.publish(MARCH)
    assert watch.tick_level() == "pass"
    watch.clock.forward(days=1.5)
    assert watch.tick_level() == "WARN"
    watch.clock.forward(days=2)
    assert watch.tick_level() == "ERROR"
    loader.load_month(MARCH)
    assert watch.tick_level() == "pass"


def test_an_unpublished_month_warns_then_fails_and_a_silent_host_only_warns(
    tlc: TlcHost, watch: Watch, loader: Loader
) -> None:
    tlc.publish(FEBRUARY)
    loader.load_month(FEBRUARY)
    watch.clock.forward(days=32)
    assert watch.tick_level() == "WARN"
    watch.clock.forward(days=25)
    tlc.http.on(month_path(MARCH), status(503))
    assert watch.tick_level() == "WARN"
    assert f"2024-03 ({tlc.url}/" in str(watch.sensor.skip_message)
    assert "the host answered 503" in str(watch.sensor.skip_message)
    tlc.withdraw(MARCH)
    assert watch.tick_level() == "ERROR"


def test_no_request_is_sent_for_a_month_that_was_already_observed(tlc: TlcHost, watch: Watch, loader: Loader) -> None:
    tlc.publish(FEBRUARY)
    loader.load_month(FEBRUARY)
    watch.instance.report_runless_asset_event(observation(PLAIN, MARCH, Publication("http://x", True, etag='"a"')))
    found = watch.tick()
    assert found[FRESHNESS.key].metadata["published, not loaded"].value == "2024-03"
    assert tlc.requests_for(MARCH, "HEAD") == 0


def test_the_same_result_is_recorded_once(tlc: TlcHost, watch: Watch, loader: Loader) -> None:
    tlc.publish(FEBRUARY)
    loader.load_month(FEBRUARY)
    assert set(watch.tick()) == {FRESHNESS.key, COVERAGE.key}
    assert watch.tick() == {}
    assert watch.sensor.skip_message == (
        "2024-02 is the newest month that is loaded; 2024-03 is not overdue. "
        "2024-02: in PostgreSQL, but not in Dagster's record."
    )


def test_no_request_is_sent_if_no_month_is_loaded(tlc: TlcHost, watch: Watch) -> None:
    assert watch.tick_level() == "pass"
    assert not tlc.http.requests


def test_the_check_run_from_the_ui_has_the_same_result(
    tlc: TlcHost, watch: Watch, loader: Loader, instance: dg.DagsterInstance
) -> None:
    tlc.publish(FEBRUARY)
    loader.load_month(FEBRUARY)
    job = dg.define_asset_job("freshness", dg.AssetSelection.checks(FRESHNESS.key))
    definitions = build_definitions(watch.settings, clock=watch.clock)
    result = (
        dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
        .resolve_job_def("freshness")
        .execute_in_process(instance=instance)
    )
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.passed
    assert evaluation.metadata["newest loaded"].value == "2024-02"


def test_month_watch_is_on_by_default_only_if_alerts_are_configured() -> None:
    assert build_month_watch(PLAIN, runs_by_itself=False).default_status is dg.DefaultSensorStatus.STOPPED
    assert build_month_watch(PLAIN, runs_by_itself=True).default_status is dg.DefaultSensorStatus.RUNNING
