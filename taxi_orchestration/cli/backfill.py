"""A backfill executed in this process, as runs on Dagster's storage. No terminal here.

Dagster cannot launch, follow or cancel an asset backfill from a shell, and its daemon polls every 30 seconds. Runs made
here need no daemon, and the UI shows them as one backfill (instance/backfills.py).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from dagster import (
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    Definitions,
    JobDefinition,
    RunConfig,
)

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.raw_trips import NOT_YET_PUBLISHED, LoadConfig
from taxi_orchestration.instance.backfills import RunningBackfill, recorded_backfill
from taxi_orchestration.instance.dagster_names import ROWS, WITHDRAWS_PLAN
from taxi_orchestration.instance.run_tags import schema_of, tags_of_months
from taxi_orchestration.loading import Progress
from taxi_orchestration.months import Window, parse_partition_key, partition_key, windows_of
from taxi_orchestration.settings import student_of

# Months that one run loads.
MONTHS_PER_RUN = 36
# Rows that are loaded before their models are built. A new table is filled on all cores and its keys are built at
# once, and later rows go into it one by one: 150 months of 57,000 rows are built as new tables.
ROWS_PER_BUILD = 10_000_000


@dataclass
class Outcome:
    """The result of a backfill: the reasons of failed months, of failed runs, and of months that are not published.

    A month that is not published is a failure if it was requested alone.
    """

    failures: dict[date, str] = field(default_factory=dict)
    not_published: dict[date, str] = field(default_factory=dict)
    run_failures: list[str] = field(default_factory=list)
    failed_runs: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Return whether all requested months succeeded."""
        return not self.failures and not self.run_failures


@dataclass(frozen=True)
class Backfill:
    """Loads months and builds their models with the assets of `definitions`."""

    definitions: Definitions
    instance: DagsterInstance
    months_at_once: int
    newest_first: bool = False
    months_per_run: int = MONTHS_PER_RUN
    rows_per_build: int = ROWS_PER_BUILD
    progress: Progress = field(default_factory=Progress)

    def run(self, months: Sequence[date], *, is_of_a_range: bool | None = None) -> Outcome:
        """Load and build these months. A failed month does not affect the others; Ctrl-C keeps loaded months.

        `is_of_a_range`: several months were requested, of which some may need nothing.
        """
        outcome = Outcome()
        if not months:
            return outcome
        is_range = len(months) > 1 if is_of_a_range is None else is_of_a_range
        with recorded_backfill(self.instance, self._job, months) as backfill:
            not_built: dict[date, int] = {}
            for some in self._chunks(sorted(months, reverse=self.newest_first)):
                for window in self._ordered(windows_of(some)):
                    not_built |= self._load(backfill, window, is_range, outcome)
                if sum(not_built.values()) >= self.rows_per_build:
                    self._build(backfill, not_built, outcome)
                    not_built = {}
            self._build(backfill, not_built, outcome)
            backfill.has_failures, backfill.not_published = not outcome.succeeded, set(outcome.not_published)
        return outcome

    def _chunks(self, months: list[date]) -> Iterator[list[date]]:
        for start in range(0, len(months), self.months_per_run):
            yield months[start : start + self.months_per_run]

    @property
    def _assets(self) -> AssetKeys:
        return AssetKeys(student_of(schema_of(self._job.run_tags)))

    @property
    def _job(self) -> JobDefinition:
        return self.definitions.resolve_job_def(TAXI_PIPELINE)

    def _load(self, backfill: RunningBackfill, window: Window, is_range: bool, outcome: Outcome) -> dict[date, int]:
        """Load a window; returns the rows of each month that is loaded."""
        config = LoadConfig(months_at_once=self.months_at_once, newest_first=self.newest_first, is_of_a_range=is_range)
        run, events = self._execute(backfill, window, [self._assets.raw_trips], {"raw_trips": config}, outcome)
        outcome.not_published |= _not_published(events, self._assets.raw_trips)
        # A failure that names months has loaded the others; without names it is unknown which months were loaded.
        failed = outcome.failures.keys() & set(window.months)
        if not run.is_success and not failed:
            return {}
        loaded = _loaded(events, self._assets.raw_trips)
        return {month: rows for month, rows in loaded.items() if month not in failed}

    def _build(self, backfill: RunningBackfill, months: Collection[date], outcome: Outcome) -> None:
        assets = set(self._job.asset_layer.executable_asset_keys) - {self._assets.raw_trips}
        for window in self._ordered(windows_of(sorted(months))):
            self._execute(backfill, window, sorted(assets), {}, outcome)

    def _ordered(self, windows: list[Window]) -> list[Window]:
        return list(reversed(windows)) if self.newest_first else windows

    def _execute(
        self,
        backfill: RunningBackfill,
        window: Window,
        assets: Sequence[AssetKey],
        ops: dict[str, LoadConfig],
        outcome: Outcome,
    ) -> tuple[DagsterRun, Sequence[DagsterEvent]]:
        # Dagster would print every event to the terminal; the storage has them all.
        quiet = {"console": {"config": {"log_level": "CRITICAL"}}}
        # Only the user can start this backfill again; the daemon cannot.
        tags = {"dagster/max_retries": "0", **tags_of_months(window)}
        config = RunConfig(ops, loggers=quiet).to_config_dict()
        run, events = backfill.execute(self._job, assets, tags, config, self._report_wait)
        if _was_interrupted(run, events):
            raise KeyboardInterrupt
        for event in events:
            if event.is_step_failure:
                _add_failure(event.step_failure_data, window, outcome)
        if not run.is_success:
            outcome.failed_runs.append(run.run_id)
        return run, events

    def _report_wait(self, event: DagsterEvent) -> None:
        # While the wait goes on Dagster repeats this event with another message.
        if (event.message or "").startswith("Step blocked by limit for pool"):
            # The process of a run on another machine is not visible here: only its user knows whether it is gone.
            self.progress.warned(
                "Another run builds the models. This one waits until it ends. If its machine or container is gone, "
                "terminate it: make dev, Runs, Terminate."
            )


def _loaded(events: Sequence[DagsterEvent], raw_trips: AssetKey) -> dict[date, int]:
    """Return the months that were loaded, with their rows."""
    of_raw_trips = (e for e in events if e.is_step_materialization and e.asset_key == raw_trips)
    made = (event.step_materialization_data.materialization for event in of_raw_trips)
    rows = ((each.partition, each.metadata[ROWS].value) for each in made)
    return {parse_partition_key(key): value for key, value in rows if key and isinstance(value, int)}


def _not_published(events: Sequence[DagsterEvent], raw_trips: AssetKey) -> dict[date, str]:
    """Return the months that are not published, each with the host's answer and the next step."""
    seen = (e for e in events if e.event_type is DagsterEventType.ASSET_OBSERVATION and e.asset_key == raw_trips)
    observations = (event.asset_observation_data.asset_observation for event in seen)
    return {
        parse_partition_key(o.partition): (o.description or "").removeprefix(f"{NOT_YET_PUBLISHED} ")
        for o in observations
        if o.partition and WITHDRAWS_PLAN in o.tags
    }


def _was_interrupted(run: DagsterRun, events: Sequence[DagsterEvent]) -> bool:
    """Return whether Ctrl-C or a user of the UI terminated the run; Dagster returns from it as from a failure."""
    last = events[-1]
    reason = last.job_failure_data.failure_reason if last.event_type is DagsterEventType.RUN_FAILURE else None
    was_cut_off = reason is not None and reason.value == "UNEXPECTED_TERMINATION"
    return was_cut_off or run.status is DagsterRunStatus.CANCELED


def _add_failure(failure: Any, window: Window, outcome: Outcome) -> None:
    """Record a failed step under the months that it names, or as a run failure if it names none."""
    details = failure.user_failure_data
    reasons = details.metadata if details else {}
    months = {
        month: str(reasons[partition_key(month)].value) for month in window.months if partition_key(month) in reasons
    }
    if months:
        outcome.failures |= months
    else:
        outcome.run_failures.append((details.description if details else None) or failure.error_display_string)
