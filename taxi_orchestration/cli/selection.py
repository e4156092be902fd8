"""Selection of the months of a backfill. Neither a terminal nor Dagster here; backfill.py loads the months."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from taxi_orchestration.instance.status import MonthStatus, is_changed, is_published
from taxi_orchestration.months import Window
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.errors import TlcError

Reprocess = Literal["none", "failed", "completed"]

_STATES: Mapping[Reprocess, frozenset[str]] = {
    "none": frozenset({"missing"}),
    "failed": frozenset({"missing", "failed", "unfinished"}),
    "completed": frozenset({"missing", "failed", "unfinished", "completed"}),
}


@dataclass(frozen=True)
class Selection:
    """The months that a backfill loads, in order, and those that its table shows, all in `window`."""

    window: Window
    months: Sequence[date]
    shown: Sequence[date]
    newest_first: bool = False


def months_to_do(
    statuses: Mapping[date, MonthStatus], reprocess: Reprocess = "failed", newest_first: bool = False
) -> list[date]:
    """Return the months that a backfill loads, in order; the options are those of Airflow's `backfill create`."""
    return sorted((m for m, s in statuses.items() if s.state in _STATES[reprocess]), reverse=newest_first)


def months_at_source(
    statuses: Mapping[date, MonthStatus],
    published: Mapping[date, Publication | TlcError],
    missing: bool,
    changed: bool,
    newest_first: bool = False,
) -> list[date]:
    """Return the published months that are not loaded (`missing`), or that were re-issued since (`changed`)."""
    wanted = set()
    for month, status in statuses.items():
        publication = published[month]
        if missing and status.file is None and is_published(publication):
            wanted.add(month)
        if changed and is_changed(status.file, publication):
            wanted.add(month)
    return sorted(wanted, reverse=newest_first)
