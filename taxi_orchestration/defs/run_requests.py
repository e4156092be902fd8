"""Runs of taxi_pipeline that nobody asked for in person: when and how they are requested, and found by their tags."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import dagster as dg

from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.raw_trips import ONLY_IF_CHANGED
from taxi_orchestration.months import Window, format_months, next_month, parse_partition_key, partition_key
from taxi_orchestration.tlc.client import Publication, version_of
from taxi_orchestration.tlc.errors import TlcError
from taxi_orchestration.warehouse.months import LoadedFile

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
    key = partition_key(month)
    tags = {ASKED_BY: asked_by, ASKED_AT: now.isoformat(), FILE_VERSION: version, ONLY_IF_CHANGED: "true"}
    return dg.RunRequest(run_key=f"{key} {version} {attempt}", job_name=TAXI_PIPELINE, partition_key=key, tags=tags)


def file_of_run(run: dg.DagsterRun) -> tuple[str, str]:
    """The partition key and the version of the file that a run was requested for."""
    return run.tags.get("dagster/partition", ""), run.tags.get(FILE_VERSION, "")


def attempts_by(instance: dg.DagsterInstance, asked_by: str) -> dict[tuple[str, str], Attempts]:
    """The attempts that were made so far, by partition key and version of the file."""
    attempts: dict[tuple[str, str], Attempts] = {}
    for run in instance.get_runs(dg.RunsFilter(tags={ASKED_BY: asked_by}), limit=RECENT_RUNS):
        file = file_of_run(run)
        asked_at = datetime.fromisoformat(run.tags[ASKED_AT])
        before = attempts.get(file, Attempts(0, asked_at))
        attempts[file] = Attempts(before.made + 1, max(before.last, asked_at))
    return attempts


def keys_in_progress(instance: dg.DagsterInstance, keys: Iterable[str]) -> set[str]:
    """Which of these partitions a run has that waits or goes on, whoever started it."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
    return set(keys) & {month for run in runs for month in months_of_run(run)}


def months_of_run(run: dg.DagsterRun) -> list[str]:
    """The partition keys of a run, by its tags."""
    first, last = run.tags.get("dagster/asset_partition_range_start"), run.tags.get("dagster/asset_partition_range_end")
    if first and last:
        return [
            partition_key(month)
            for month in Window(parse_partition_key(first), next_month(parse_partition_key(last))).months
        ]
    return [run.tags["dagster/partition"]] if "dagster/partition" in run.tags else []


def plan_requests(
    files: Mapping[date, LoadedFile],
    answers: Mapping[date, Publication | TlcError],
    attempts: Mapping[tuple[str, str], Attempts],
    busy: Collection[str],
    asked_by: str,
    now: datetime,
) -> tuple[list[dg.RunRequest], list[str]]:
    """Plan the runs that the host's answers ask for; returns them, and a sentence on every month."""
    requests: list[dg.RunRequest] = []
    said: list[str] = []
    unchanged: list[date] = []
    not_yet: list[date] = []
    publications = {month: a for month, a in answers.items() if isinstance(a, Publication)}
    if not files:
        published = sorted(month for month, publication in publications.items() if publication.published)
        publications = {month: publications[month] for month in published[-1:]}
        said.append(
            f"No month is loaded yet: begins with the newest that is published, {format_months(published[-1:])}."
            if published
            else f"No month is loaded yet, and none of {format_months(list(answers))} is known to be published: load "
            "one with `taxi backfill`."
        )
    for month, publication in sorted(publications.items()):
        file = files.get(month)
        if not publication.published and file:
            said.append(f"{partition_key(month)} was withdrawn by the TLC; what was loaded of it is kept.")
        elif not publication.published:
            not_yet.append(month)
        elif file and version_of(file.etag, file.last_modified, file.bytes) == publication.version:
            unchanged.append(month)
        else:
            news = f"{partition_key(month)} was re-issued" if file else f"{partition_key(month)} is published"
            made = attempts.get((partition_key(month), publication.version))
            if partition_key(month) in busy:
                said.append(f"{news}; a run for it waits or goes on already.")
            elif made and (why := _reason_to_wait(made, partition_key(month), now)):
                said.append(f"{news}; {why}")
            else:
                attempt = made.made + 1 if made else 1
                said.append(f"{news} (file {publication.version}): attempt {attempt}.")
                requests.append(request_of(month, publication.version, attempt, asked_by, now))
    if unchanged:
        said.append(f"Unchanged: {format_months(unchanged)}.")
    if not_yet:
        said.append(f"Not yet published: {format_months(not_yet)}.")
    silent = {month: error for month, error in answers.items() if isinstance(error, TlcError)}
    if silent:
        said.append(f"Not known, asked again with the next tick: {format_months(list(silent))}. {silent[min(silent)]}")
    return requests, said


def _reason_to_wait(attempts: Attempts, key: str, now: datetime) -> str | None:
    """Why a file that was asked for before is not asked for now; None if it is."""
    if attempts.next is None:
        return (
            f"this file could not be loaded in {MAX_ATTEMPTS} attempts and is asked for again only when the TLC "
            f"changes it. See its last run; `taxi backfill {key} {key}` loads it by hand."
        )
    if now < attempts.next:
        return f"attempt {attempts.made} failed, the next is made after {attempts.next:%Y-%m-%d %H:%M} UTC."
    return None
