"""Requests of automatic runs of taxi_pipeline, for the sensor and the schedule."""

from collections.abc import Collection, Mapping
from datetime import date, datetime

import dagster as dg

from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.raw_trips import ONLY_IF_CHANGED
from taxi_orchestration.instance.run_tags import (
    ATTEMPT,
    FILE_VERSION,
    MAX_ATTEMPTS,
    REQUESTED_AT,
    REQUESTED_BY,
    Attempts,
)
from taxi_orchestration.months import format_months, partition_key
from taxi_orchestration.tlc.client import Publication, is_same_version
from taxi_orchestration.tlc.errors import TlcError
from taxi_orchestration.warehouse.load_log import LoadedFile


def request_of(month: date, version: str, attempt: int, requested_by: str, now: datetime) -> dg.RunRequest:
    """Return the request of a run for one file version of a month; Dagster launches each attempt once."""
    key = partition_key(month)
    tags = {
        REQUESTED_BY: requested_by,
        REQUESTED_AT: now.isoformat(),
        FILE_VERSION: version,
        ATTEMPT: str(attempt),
        ONLY_IF_CHANGED: "true",
    }
    return dg.RunRequest(run_key=f"{key} {version} {attempt}", job_name=TAXI_PIPELINE, partition_key=key, tags=tags)


def plan_requests(
    files: Mapping[date, LoadedFile],
    answers: Mapping[date, Publication | TlcError],
    attempts: Mapping[tuple[str, str], Attempts],
    busy: Collection[str],
    requested_by: str,
    now: datetime,
) -> tuple[list[dg.RunRequest], list[str]]:
    """Plan runs from the host's answers; return the requests, and a sentence on every month."""
    requests: list[dg.RunRequest] = []
    sentences: list[str] = []
    unchanged: list[date] = []
    not_yet: list[date] = []
    publications = {month: a for month, a in answers.items() if isinstance(a, Publication)}
    if not files:
        published = sorted(month for month, publication in publications.items() if publication.published)
        publications = {month: publications[month] for month in published[-1:]}
        sentences.append(
            f"No month is loaded yet. Begins with the newest published month, {format_months(published[-1:])}."
            if published
            else f"No month is loaded yet, and none of {format_months(list(answers))} is known to be published: load "
            "one with `taxi backfill`."
        )
    for month, publication in sorted(publications.items()):
        file = files.get(month)
        if not publication.published and file:
            sentences.append(f"{partition_key(month)} is no longer published; its loaded rows are kept.")
        elif not publication.published:
            not_yet.append(month)
        elif file and is_same_version(publication, file.etag, file.last_modified, file.bytes):
            unchanged.append(month)
        else:
            news = f"{partition_key(month)} was re-issued" if file else f"{partition_key(month)} is published"
            made = attempts.get((partition_key(month), publication.version))
            if partition_key(month) in busy:
                sentences.append(f"{news}; a run of it is queued or in progress.")
            elif made and (why := _reason_to_wait(made, partition_key(month), now)):
                sentences.append(f"{news}; {why}")
            else:
                attempt = made.made + 1 if made else 1
                sentences.append(f"{news} (file {publication.version}): attempt {attempt}.")
                requests.append(request_of(month, publication.version, attempt, requested_by, now))
    if unchanged:
        sentences.append(f"Unchanged: {format_months(unchanged)}.")
    if not_yet:
        sentences.append(f"Not yet published: {format_months(not_yet)}.")
    silent = {month: error for month, error in answers.items() if isinstance(error, TlcError)}
    if silent:
        unknown = format_months(list(silent))
        sentences.append(f"Unknown, requested again at the next tick: {unknown}. {silent[min(silent)]}")
    return requests, sentences


def _reason_to_wait(attempts: Attempts, key: str, now: datetime) -> str | None:
    """Return why a file is not requested again now; None if it is requested."""
    if attempts.next is None:
        return (
            f"this file was not loaded by {MAX_ATTEMPTS} attempts and is requested again only when the TLC "
            f"changes it. See its last run; `taxi backfill {key} {key}` loads it by hand."
        )
    if now < attempts.next:
        return f"attempt {attempts.made} did not load it, the next one is due after {attempts.next:%Y-%m-%d %H:%M} UTC."
    return None
