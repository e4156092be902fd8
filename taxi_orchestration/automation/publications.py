"""What the TLC's host says of months, and which runs that asks for: of the sensor and of the schedule alike."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime

import dagster as dg

from taxi_orchestration.automation.requests import MAX_ATTEMPTS, Attempts, request_of, words
from taxi_orchestration.partitions import key_of
from taxi_orchestration.tlc.client import Publication, TlcClient, version_of
from taxi_orchestration.tlc.errors import TlcError
from taxi_orchestration.warehouse.months import LoadedFile

MAX_REQUESTS = 30
REQUESTS_AT_ONCE = 8
# Four rounds of requests to a host that does not answer take 20 of the 60 seconds that Dagster gives a tick.
CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 3.0


def ask(base_url: str, months: Sequence[date], attempts: int = 1) -> dict[date, Publication | TlcError]:
    """What the host says of each month, or why that is not known."""

    def answer(month: date) -> Publication | TlcError:
        try:
            return client.publication(month)
        except TlcError as error:
            return error

    with (
        TlcClient(
            base_url,
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            total_timeout=CONNECT_TIMEOUT + READ_TIMEOUT,
            attempts=attempts,
        ) as client,
        ThreadPoolExecutor(REQUESTS_AT_ONCE) as executor,
    ):
        return dict(zip(months, executor.map(answer, months), strict=True))


def decide(
    files: Mapping[date, LoadedFile],
    answers: Mapping[date, Publication | TlcError],
    attempts: Mapping[tuple[str, str], Attempts],
    busy: Collection[str],
    asked_by: str,
    now: datetime,
) -> tuple[list[dg.RunRequest], list[str]]:
    """The runs to request, and what there is to say of every month."""
    requests: list[dg.RunRequest] = []
    said: list[str] = []
    unchanged: list[date] = []
    not_yet: list[date] = []
    publications = {month: a for month, a in answers.items() if isinstance(a, Publication)}
    if not files:
        published = sorted(month for month, publication in publications.items() if publication.published)
        publications = {month: publications[month] for month in published[-1:]}
        said.append(
            f"No month is loaded yet: begins with the newest that is published, {words(published[-1:])}."
            if published
            else f"No month is loaded yet, and none of {words(list(answers))} is known to be published: load one with "
            "`taxi backfill`."
        )
    for month, publication in sorted(publications.items()):
        file = files.get(month)
        if not publication.published and file:
            said.append(f"{key_of(month)} was withdrawn by the TLC; what was loaded of it is kept.")
        elif not publication.published:
            not_yet.append(month)
        elif file and version_of(file.etag, file.last_modified, file.bytes) == publication.version:
            unchanged.append(month)
        else:
            news = f"{key_of(month)} was re-issued" if file else f"{key_of(month)} is published"
            made = attempts.get((key_of(month), publication.version))
            if key_of(month) in busy:
                said.append(f"{news}; a run for it waits or goes on already.")
            elif made and (why := why_not_again(made, key_of(month), now)):
                said.append(f"{news}; {why}")
            else:
                attempt = made.made + 1 if made else 1
                said.append(f"{news} (file {publication.version}): attempt {attempt}.")
                requests.append(request_of(month, publication.version, attempt, asked_by, now))
    if unchanged:
        said.append(f"Unchanged: {words(unchanged)}.")
    if not_yet:
        said.append(f"Not yet published: {words(not_yet)}.")
    silent = {month: error for month, error in answers.items() if isinstance(error, TlcError)}
    if silent:
        said.append(f"Not known, asked again with the next tick: {words(list(silent))}. {silent[min(silent)]}")
    return requests, said


def why_not_again(attempts: Attempts, key: str, now: datetime) -> str | None:
    """Why a file that was asked for before is not asked for now; None if it is."""
    if attempts.next is None:
        return (
            f"this file could not be loaded in {MAX_ATTEMPTS} attempts and is asked for again only when the TLC "
            f"changes it. See its last run; `taxi backfill {key} {key}` loads it by hand."
        )
    if now < attempts.next:
        return f"attempt {attempts.made} failed, the next is made after {attempts.next:%Y-%m-%d %H:%M} UTC."
    return None
