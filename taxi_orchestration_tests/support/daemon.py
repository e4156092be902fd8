"""Dagster's daemon for sensors, schedule and conditions, tick by tick and with a clock of the test's.

The evaluations are the daemon's own; the runs that they request are executed in this process.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from taxi_orchestration.defs.alerts import ALERTS
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.month_watch import MONTH_WATCH
from taxi_orchestration.defs.schedules import MONTHLY_SCHEDULE
from taxi_orchestration.instance.run_tags import TLC_PUBLICATIONS
from taxi_orchestration.months import parse_partition_key, partition_key, windows_of
from taxi_orchestration_tests.support.keys import RAW_TRIPS, TAXI_REPORT


class FakeClock(Clock):
    """Stands still until the test moves it."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def forward(self, **duration: float) -> None:
        self.moment += timedelta(**duration)


def clock_at(year: int, month: int, day: int) -> FakeClock:
    return FakeClock(datetime(year, month, day, 12, tzinfo=UTC))


def sensor_tick(
    repository: dg.RepositoryDefinition, instance: dg.DagsterInstance, name: str, cursor: str | None
) -> Any:
    """One evaluation of a sensor; the events that it tells of are recorded."""
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as context:
        result = repository.get_sensor_def(name).evaluate_tick(context)
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    return result


def schedule_tick(definitions: dg.Definitions, instance: dg.DagsterInstance, moment: datetime) -> Any:
    """One evaluation of the monthly schedule, as it were that moment."""
    repository = definitions.get_repository_def()
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=moment,
        repository_def=repository,
        resources=repository.get_top_level_resources(),
    ) as context:
        return repository.get_schedule_def(MONTHLY_SCHEDULE).evaluate_tick(context)


@dataclass
class Tick:
    """The result of one evaluation of the sensor."""

    requests: list[dg.RunRequest]
    said: str
    observed: list[dg.AssetObservation]

    @property
    def months(self) -> list[str]:
        return [str(request.partition_key) for request in self.requests]


@dataclass
class Daemon:
    """Evaluates the sensors and the conditions of `definitions`, and remembers their cursors."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    clock: FakeClock
    cursors: dict[str, str | None] = field(default_factory=dict)
    conditions: Any = None
    run_keys: set[str] = field(default_factory=set)
    # By the last evaluation of the conditions.
    report_is_due: bool = False

    def __post_init__(self) -> None:
        self.repository = self.definitions.get_repository_def()
        self.models = sorted(
            key
            for key in self.definitions.resolve_job_def(TAXI_PIPELINE).asset_layer.executable_asset_keys
            if key != RAW_TRIPS
        )

    def tick(self) -> Tick:
        """One evaluation of tlc_publications; the same run key is never taken twice, as in the daemon."""
        result = self._sensor(TLC_PUBLICATIONS)
        observed = [event for event in result.asset_events if isinstance(event, dg.AssetObservation)]
        requests = [r for r in result.run_requests or [] if r.run_key not in self.run_keys]
        self.run_keys |= {str(request.run_key) for request in requests}
        return Tick(requests, result.skip_message or "", observed)

    def watch(self) -> None:
        """One evaluation of month_watch."""
        self._sensor(MONTH_WATCH)

    def alert(self) -> None:
        """One evaluation of alerts."""
        self._sensor(ALERTS)

    def _sensor(self, name: str) -> Any:
        result = sensor_tick(self.repository, self.instance, name, self.cursors.get(name))
        self.cursors[name] = result.cursor
        return result

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Execute a run that the sensor requested."""
        return self.execute(request.partition_key, job=str(request.job_name), tags=request.tags)

    def execute(
        self,
        partition_key: str | None,
        selection: list[dg.AssetKey] | None = None,
        job: str = TAXI_PIPELINE,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Execute a job in this process, as a person would start it."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=partition_key,
            asset_selection=selection,
            tags=dict(tags or {}),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )

    def evaluate(self) -> set[str]:
        """One evaluation of all conditions: the months whose models are requested, which must be all models of each."""
        result = dg.evaluate_automation_conditions(self.definitions, self.instance, cursor=self.conditions)
        self.conditions = result.cursor
        requested = {key: result.get_requested_partitions(key) for key in self.models}
        assert len({frozenset(keys) for keys in requested.values()}) == 1, requested
        self.report_is_due = result.get_num_requested(TAXI_REPORT) > 0
        return {str(key) for key in requested[self.models[0]]}

    def make_report(self) -> dg.ExecuteInProcessResult:
        """Make the report that the conditions requested."""
        return self.execute(None, [TAXI_REPORT], job="__ASSET_JOB")

    def build(self, keys: set[str]) -> list[dg.ExecuteInProcessResult]:
        """Build the models of the months that the conditions requested: one run for months in a row, as the daemon."""
        results = []
        for window in windows_of(parse_partition_key(key) for key in keys):
            months: list[date] = window.months
            tags = {
                "dagster/asset_partition_range_start": partition_key(months[0]),
                "dagster/asset_partition_range_end": partition_key(months[-1]),
            }
            one = partition_key(months[0]) if len(months) == 1 else None
            results.append(self.execute(one, self.models, tags=None if one else tags))
        return results
