"""A backfill in this process: which months, in which order, as runs on Dagster's own storage. No terminal here.

Dagster has nothing that launches, follows or cancels an asset backfill from a shell, and its daemon looks only every 30
seconds; runs made here need no daemon, and the UI shows them, their checks and their months like any other.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from dagster import (
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    ExecuteInProcessResult,
)

from taxi_orchestration.asset_keys import RAW_TRIPS
from taxi_orchestration.defs.interruption import STARTED_BY_TAG
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.instance.processes import process_tags
from taxi_orchestration.months import Window, partition_key, windows_of

# Months that are loaded before their models are built: enough that dbt's start is nothing beside its work, and few
# enough that a long backfill shows results on the way and loses little when it is interrupted.
MONTHS_PER_BUILD = 36


@dataclass
class Outcome:
    """What a backfill did: the reason of each month that failed, and of each run that did, with their ids."""

    failures: dict[date, str] = field(default_factory=dict)
    run_failures: list[str] = field(default_factory=list)
    failed_runs: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether everything that was asked for is done."""
        return not self.failures and not self.run_failures


@dataclass(frozen=True)
class Backfill:
    """Loads months and builds their models with the pipeline of `definitions`."""

    definitions: Definitions
    instance: DagsterInstance
    months_at_once: int
    newest_first: bool = False

    def run(self, months: Sequence[date]) -> Outcome:
        """Load and build these months. A month that fails leaves the others alone; Ctrl-C keeps what is loaded."""
        outcome = Outcome()
        for some in _chunks(sorted(months, reverse=self.newest_first)):
            loaded: list[date] = []
            for window in self._ordered(windows_of(some)):
                loaded += self._load(window, outcome)
            for window in self._ordered(windows_of(loaded)):
                self._build(window, outcome)
        return outcome

    def _load(self, window: Window, outcome: Outcome) -> list[date]:
        config = {
            "ops": {"raw_trips": {"config": {"months_at_once": self.months_at_once, "newest_first": self.newest_first}}}
        }
        if self._execute(window, [RAW_TRIPS], config, outcome):
            return window.months
        # A failure that names months has loaded the others; one that names none may have loaded anything.
        failed = outcome.failures.keys() & set(window.months)
        return [month for month in window.months if failed and month not in failed]

    def _build(self, window: Window, outcome: Outcome) -> None:
        keys = self.definitions.resolve_job_def(TAXI_PIPELINE).asset_layer.executable_asset_keys
        self._execute(window, sorted(key for key in keys if key != RAW_TRIPS), {}, outcome)

    def _ordered(self, windows: list[Window]) -> list[Window]:
        return list(reversed(windows)) if self.newest_first else windows

    def _execute(
        self, window: Window, selection: Sequence[AssetKey], config: Mapping[str, Any], outcome: Outcome
    ) -> bool:
        run_id = str(uuid.uuid4())
        # Whoever began this backfill begins it again: the daemon has no way to.
        tags = {STARTED_BY_TAG: "taxi backfill", "dagster/max_retries": "0"} | process_tags(run_id)
        key = None
        if len(window.months) == 1:
            key = partition_key(window.start)
        else:
            tags["dagster/asset_partition_range_start"] = partition_key(window.start)
            tags["dagster/asset_partition_range_end"] = partition_key(window.months[-1])
        try:
            result = self.definitions.resolve_job_def(TAXI_PIPELINE).execute_in_process(
                # Dagster would print every event to the terminal; they are all in its storage.
                run_config={**config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                instance=self.instance,
                partition_key=key,
                asset_selection=selection,
                tags=tags,
                run_id=run_id,
                raise_on_error=False,
            )
        except KeyboardInterrupt:
            run = self.instance.get_run_by_id(run_id)
            if run and not run.is_finished:
                self.instance.report_run_canceled(run, "Interrupted in the terminal before it began.")
            raise
        if _was_interrupted(result):
            raise KeyboardInterrupt
        for event in result.all_events:
            if event.is_step_failure:
                _add_failure(event.step_failure_data, window, outcome)
        if not result.success:
            outcome.failed_runs.append(run_id)
        return result.success


def _was_interrupted(result: ExecuteInProcessResult) -> bool:
    """Whether Ctrl-C or somebody in the UI ended the run; Dagster itself returns from it as from any other failure."""
    last = result.all_events[-1]
    reason = last.job_failure_data.failure_reason if last.event_type is DagsterEventType.RUN_FAILURE else None
    was_cut_off = reason is not None and reason.value == "UNEXPECTED_TERMINATION"
    return was_cut_off or result.dagster_run.status is DagsterRunStatus.CANCELED


def _add_failure(failure: Any, window: Window, outcome: Outcome) -> None:
    """Sort a failed step under the months that it names, or under the runs where it names none."""
    told = failure.user_failure_data
    reasons = told.metadata if told else {}
    months = {
        month: str(reasons[partition_key(month)].value) for month in window.months if partition_key(month) in reasons
    }
    if months:
        outcome.failures |= months
    else:
        outcome.run_failures.append((told.description if told else None) or failure.error_display_string)


def _chunks(months: list[date]) -> Iterator[list[date]]:
    for start in range(0, len(months), MONTHS_PER_BUILD):
        yield months[start : start + MONTHS_PER_BUILD]
