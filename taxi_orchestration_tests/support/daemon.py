"""Dagster's daemon for sensors, the schedule and conditions, run tick by tick with a fake clock.

The evaluations are those of Dagster; the runs that they request are executed in this process.
"""

from collections.abc import Mapping, Sequence
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

# The run config of runs that log nothing to the console.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class FakeClock(Clock):
    """A clock that stands still until the test moves it."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def now(self) -> datetime:
        return self.moment

    def forward(self, **duration: float) -> None:
        self.moment += timedelta(**duration)


def clock_at(year: int, month: int, day: int) -> FakeClock:
    return FakeClock(datetime(year, month, day, 12, tzinfo=UTC))


@dataclass
class Sensor:
    """A sensor with its cursor, and the skip message of its last tick."""

    repository: dg.RepositoryDefinition
    instance: dg.DagsterInstance
    name: str
    cursor: str | None = None
    skip_message: str | None = None

    def tick(self) -> Any:
        """Evaluate the sensor once, record the asset events of the result as the daemon does, and return the result."""
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=self.repository,
            resources=self.repository.get_top_level_resources(),
        ) as context:
            result = self.repository.get_sensor_def(self.name).evaluate_tick(context)
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        self.cursor, self.skip_message = result.cursor, result.skip_message
        return result


def list_materialized(result: dg.ExecuteInProcessResult, partition: str | None = None) -> list[str]:
    """Return the assets that the steps of a run materialized, sorted; only those of one partition if it is given."""
    events = [event for event in result.all_events if event.is_step_materialization]
    keys = (event.asset_key for event in events if partition in (None, event.partition))
    return sorted(key.to_user_string() for key in keys if key)


def schedule_tick(definitions: dg.Definitions, instance: dg.DagsterInstance, moment: datetime) -> Any:
    """Evaluate the monthly schedule for the tick at `moment`, and return the result."""
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
    """The result of one evaluation of the sensor tlc_publications."""

    requests: list[dg.RunRequest]
    skip_reason: str
    observed: list[dg.AssetObservation]

    @property
    def months(self) -> list[str]:
        return [str(request.partition_key) for request in self.requests]


@dataclass
class Daemon:
    """The sensors and conditions of `definitions`, evaluated by the test."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    clock: FakeClock
    conditions: Any = None
    run_keys: set[str] = field(default_factory=set)
    # Set by the last evaluation of the conditions.
    report_is_due: bool = False

    def __post_init__(self) -> None:
        repository = self.definitions.get_repository_def()
        self.sensors = {
            name: Sensor(repository, self.instance, name) for name in (TLC_PUBLICATIONS, MONTH_WATCH, ALERTS)
        }
        self.models = sorted(
            key
            for key in self.definitions.resolve_job_def(TAXI_PIPELINE).asset_layer.executable_asset_keys
            if key != RAW_TRIPS
        )

    def tick(self) -> Tick:
        """Evaluate tlc_publications once, and return its result. As in the daemon, a run key is accepted only once."""
        result = self.sensors[TLC_PUBLICATIONS].tick()
        observed = [event for event in result.asset_events if isinstance(event, dg.AssetObservation)]
        requests = [r for r in result.run_requests or [] if r.run_key not in self.run_keys]
        self.run_keys |= {str(request.run_key) for request in requests}
        return Tick(requests, result.skip_message or "", observed)

    def watch(self) -> None:
        """Evaluate month_watch once."""
        self.sensors[MONTH_WATCH].tick()

    def alert(self) -> None:
        """Evaluate alerts once."""
        self.sensors[ALERTS].tick()

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """Execute a run that the sensor requested, and return its result."""
        return self.execute(request.partition_key, job=str(request.job_name), tags=request.tags)

    def execute(
        self,
        partition_key: str | None,
        selection: Sequence[dg.AssetKey] | None = None,
        job: str = TAXI_PIPELINE,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Execute a job in this process, as a manual launch does, and return its result."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=partition_key,
            asset_selection=selection and list(selection),
            tags=dict(tags or {}),
            run_config=QUIET,
            raise_on_error=False,
        )

    def evaluate(self) -> set[str]:
        """Evaluate all conditions once, and return the months whose models are requested.

        Fails if the models are not all requested for the same months.
        """
        result = dg.evaluate_automation_conditions(self.definitions, self.instance, cursor=self.conditions)
        self.conditions = result.cursor
        requested = {key: result.get_requested_partitions(key) for key in self.models}
        assert len({frozenset(keys) for keys in requested.values()}) == 1, requested
        self.report_is_due = result.get_num_requested(TAXI_REPORT) > 0
        return {str(key) for key in requested[self.models[0]]}

    def make_report(self) -> dg.ExecuteInProcessResult:
        """Materialize the report that the conditions requested, and return the result."""
        return self.execute(None, [TAXI_REPORT], job="__ASSET_JOB")

    def build(self, keys: set[str]) -> list[dg.ExecuteInProcessResult]:
        """Build the models of the months that the conditions requested, and return the results of the runs.

        As in the daemon, consecutive months are one run.
        """
        results = []
        for window in windows_of(parse_partition_key(key) for key in keys):
            months: list[date] = window.months
            tags = {
                "dagster/asset_partition_range_start": partition_key(months[0]),
                "dagster/asset_partition_range_end": partition_key(months[-1]),
            }
            single_key = partition_key(months[0]) if len(months) == 1 else None
            results.append(self.execute(single_key, self.models, tags=None if single_key else tags))
        return results
