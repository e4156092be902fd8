"""A backfill in this process: which months, in which order, as runs on Dagster's own storage. No terminal here.

Dagster has nothing that launches, follows or cancels an asset backfill from a shell, and its daemon looks only every 30
seconds; runs made here need no daemon, and the UI shows them as one backfill like its own (instance/backfills.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from dagster import (
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    Definitions,
    JobDefinition,
)

from taxi_orchestration.asset_keys import RAW_TRIPS
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.instance.attempts import tags_of_months
from taxi_orchestration.instance.backfills import RunningBackfill, recorded_backfill
from taxi_orchestration.instance.status import MonthStatus, is_changed, is_published
from taxi_orchestration.months import Window, partition_key, windows_of
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.errors import TlcError

Reprocess = Literal["none", "failed", "completed"]

# Months that are loaded before their models are built: enough that dbt's start is nothing beside its work, and few
# enough that a long backfill shows results on the way and loses little when it is interrupted.
MONTHS_PER_BUILD = 36

_STATES: Mapping[Reprocess, frozenset[str]] = {
    "none": frozenset({"missing"}),
    "failed": frozenset({"missing", "failed", "unfinished"}),
    "completed": frozenset({"missing", "failed", "unfinished", "completed"}),
}


@dataclass
class Outcome:
    """What a backfill did: the reason of each month that failed, and of each run that did."""

    failures: dict[date, str] = field(default_factory=dict)
    run_failures: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Whether everything that was asked for is done."""
        return not self.failures and not self.run_failures


def months_to_do(
    statuses: Mapping[date, MonthStatus], reprocess: Reprocess = "failed", newest_first: bool = False
) -> list[date]:
    """The months that a backfill would load, in its order; the words are those of Airflow's `backfill create`."""
    return sorted((m for m, s in statuses.items() if s.state in _STATES[reprocess]), reverse=newest_first)


def months_at_source(
    statuses: Mapping[date, MonthStatus],
    published: Mapping[date, Publication | TlcError],
    missing: bool,
    changed: bool,
    newest_first: bool = False,
) -> list[date]:
    """The months that the TLC has and nobody loaded (`missing`), and those that it has re-issued since (`changed`)."""
    wanted = set()
    for month, status in statuses.items():
        publication = published[month]
        if missing and status.file is None and is_published(publication):
            wanted.add(month)
        if changed and is_changed(status.file, publication):
            wanted.add(month)
    return sorted(wanted, reverse=newest_first)


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
        if not months:
            return outcome
        with recorded_backfill(self.instance, self._job, months) as backfill:
            for some in _chunks(sorted(months, reverse=self.newest_first)):
                loaded: list[date] = []
                for window in self._ordered(windows_of(some)):
                    loaded += self._load(backfill, window, outcome)
                for window in self._ordered(windows_of(loaded)):
                    self._build(backfill, window, outcome)
            backfill.has_failures = not outcome.succeeded
        return outcome

    @property
    def _job(self) -> JobDefinition:
        return self.definitions.resolve_job_def(TAXI_PIPELINE)

    def _load(self, backfill: RunningBackfill, window: Window, outcome: Outcome) -> list[date]:
        config = {
            "ops": {"raw_trips": {"config": {"months_at_once": self.months_at_once, "newest_first": self.newest_first}}}
        }
        if self._execute(backfill, window, [RAW_TRIPS], config, outcome):
            return window.months
        # A failure that names months has loaded the others; one that names none may have loaded anything.
        failed = outcome.failures.keys() & set(window.months)
        return [month for month in window.months if failed and month not in failed]

    def _build(self, backfill: RunningBackfill, window: Window, outcome: Outcome) -> None:
        assets = set(self._job.asset_layer.executable_asset_keys) - {RAW_TRIPS}
        self._execute(backfill, window, sorted(assets), {}, outcome)

    def _ordered(self, windows: list[Window]) -> list[Window]:
        return list(reversed(windows)) if self.newest_first else windows

    def _execute(
        self,
        backfill: RunningBackfill,
        window: Window,
        assets: Sequence[AssetKey],
        config: Mapping[str, Any],
        outcome: Outcome,
    ) -> bool:
        # Dagster would print every event to the terminal; they are all in its storage.
        config = {**config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        # Whoever began this backfill begins it again: the daemon has no way to.
        tags = {"dagster/max_retries": "0", **tags_of_months(window)}
        run, events = backfill.execute(self._job, assets, tags, config)
        if _was_interrupted(run, events):
            raise KeyboardInterrupt
        for event in events:
            if event.is_step_failure:
                _add_failure(event.step_failure_data, window, outcome)
        return run.is_success


def _was_interrupted(run: DagsterRun, events: Sequence[DagsterEvent]) -> bool:
    """Whether Ctrl-C or somebody in the UI ended the run; Dagster itself returns from it as from any other failure."""
    last = events[-1]
    reason = last.job_failure_data.failure_reason if last.event_type is DagsterEventType.RUN_FAILURE else None
    was_cut_off = reason is not None and reason.value == "UNEXPECTED_TERMINATION"
    return was_cut_off or run.status is DagsterRunStatus.CANCELED


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
