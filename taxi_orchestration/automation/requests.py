"""Runs of taxi_pipeline that nobody asked for in person: how they are requested, and found again by their tags."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import dagster as dg

from taxi_orchestration.assets.raw_trips import ONLY_IF_CHANGED, RAW_TRIPS
from taxi_orchestration.automation.jobs import TAXI_PIPELINE
from taxi_orchestration.partitions import key_of, windows_of

ASKED_BY = "taxi/asked_by"
ASKED_AT = "taxi/asked_at"
FILE_VERSION = "taxi/file_version"

MAX_ATTEMPTS = 5
# After the first attempt an hour, then 4, 16 and 64: the fifth is made three and a half days after the first.
FIRST_PAUSE = timedelta(hours=1)
PAUSE_GROWTH = 4

# Runs that are looked at for earlier attempts: more than two years of them.
RECENT_RUNS = 200

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Attempts:
    """How often the same file of a month was asked for, and when last."""

    made: int
    last: datetime

    @property
    def next(self) -> datetime | None:
        """When the next one may be made; None where it takes a person."""
        return None if self.made >= MAX_ATTEMPTS else self.last + FIRST_PAUSE * PAUSE_GROWTH ** (self.made - 1)


def request_of(month: date, version: str, attempt: int, asked_by: str, now: datetime) -> dg.RunRequest:
    """A run for one month whose file has this version; Dagster never makes a second one for the same attempt."""
    key = key_of(month)
    tags = {ASKED_BY: asked_by, ASKED_AT: now.isoformat(), FILE_VERSION: version, ONLY_IF_CHANGED: "true"}
    return dg.RunRequest(run_key=f"{key} {version} {attempt}", job_name=TAXI_PIPELINE, partition_key=key, tags=tags)


def attempts_by(instance: dg.DagsterInstance, asked_by: str) -> dict[tuple[str, str], Attempts]:
    """The attempts that were made so far, by partition key and version of the file."""
    attempts: dict[tuple[str, str], Attempts] = {}
    for run in instance.get_runs(dg.RunsFilter(tags={ASKED_BY: asked_by}), limit=RECENT_RUNS):
        file = (run.tags.get("dagster/partition", ""), run.tags.get(FILE_VERSION, ""))
        asked_at = datetime.fromisoformat(run.tags[ASKED_AT])
        before = attempts.get(file, Attempts(0, asked_at))
        attempts[file] = Attempts(before.made + 1, max(before.last, asked_at))
    return attempts


def is_tried_again(instance: dg.DagsterInstance, run: dg.DagsterRun, asked_by: str) -> bool:
    """Whether another attempt will be made at the file that a failed run could not load.

    Only a file that is not loaded is asked for again: a run that failed after it had loaded its month is the last.
    """
    if run.tags.get(ASKED_BY) != asked_by:
        return False
    outcomes = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_MATERIALIZATION}
    events = [entry.get_dagster_event() for entry in instance.all_logs(run.run_id, of_type=outcomes)]
    is_refused = any(e.is_step_failure and e.step_key == RAW_TRIPS.to_user_string() for e in events)
    is_loaded = any(e.is_step_materialization and e.asset_key == RAW_TRIPS for e in events)
    file = (run.tags.get("dagster/partition", ""), run.tags.get(FILE_VERSION, ""))
    made = attempts_by(instance, asked_by).get(file)
    return is_refused and not is_loaded and made is not None and made.next is not None


def keys_in_progress(instance: dg.DagsterInstance, keys: Iterable[str]) -> set[str]:
    """Which of these partitions a run has that waits or goes on, whoever started it."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
    return {key for key in keys if any(_covers(run.tags, key) for run in runs)}


def words(months: Sequence[date]) -> str:
    """Months in a sentence: those in a row as a range."""
    return ", ".join(str(window) for window in windows_of(months))


def _covers(tags: Mapping[str, str], key: str) -> bool:
    first, last = tags.get("dagster/asset_partition_range_start"), tags.get("dagster/asset_partition_range_end")
    return tags.get("dagster/partition") == key or bool(first and last and first <= key <= last)
