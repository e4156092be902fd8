"""The check of the months at the TLC, in PostgreSQL and in Dagster's record for disagreement."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import date

from taxi_orchestration.months import Window, format_months, next_month, windows_of
from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.tlc.dataset import DATASET

# Months to begin with, unless the project begins later.
_EXAMPLE = Window(date(2024, 1, 1), date(2024, 4, 1))


def check_coverage(
    in_postgres: AbstractSet[date],
    in_dagster: AbstractSet[date],
    published: AbstractSet[date] | None,
    first_month: date = DATASET.first_month,
) -> Finding:
    """Check that every published month since the oldest loaded one is loaded, and that Dagster and PostgreSQL agree.

    `published` is None if the publications have not been fetched yet. Months before `first_month`, where the project
    begins, are left out.
    """
    in_postgres = {month for month in in_postgres if month >= first_month}
    in_dagster = {month for month in in_dagster if month >= first_month}
    known = in_postgres | in_dagster
    if not known:
        begin = max(_EXAMPLE.start, first_month)
        example = Window(begin, max(_EXAMPLE.end, next_month(begin)))
        return Finding("pass", "No month has been loaded yet.", f"taxi backfill {' '.join(example.keys)}")
    everything = Window.through(min(known), max(known)).months
    not_loaded = sorted(m for m in (published or ()) if m > min(known) and m not in in_postgres | in_dagster)
    lost = sorted(in_dagster - in_postgres)
    unknown = sorted(in_postgres - in_dagster)
    gaps = [m for m in everything if m not in known and m not in not_loaded]
    counts: dict[str, int | float | str] = {
        "months in PostgreSQL": len(in_postgres),
        "months in Dagster": len(in_dagster),
        "published, not loaded": format_months(not_loaded) if published is not None else "not fetched yet",
        "in Dagster, not in PostgreSQL": format_months(lost),
        "in PostgreSQL, unknown to Dagster": format_months(unknown),
        "gaps": format_months(gaps),
    }
    problems: list[tuple[Sequence[date], str, str]] = [
        (lost, "loaded in Dagster's record, but not in PostgreSQL", "Load the months again: " + _commands(lost)),
        (unknown, "in PostgreSQL, but not in Dagster's record", "Load the months again: " + _commands(unknown)),
        (not_loaded, "published, but not loaded", "taxi backfill --missing"),
        (gaps, "a gap between loaded months", "Load the published months: taxi backfill --missing"),
    ]
    found = [(f"{format_months(months)}: {what}.", to_do) for months, what, to_do in problems if months]
    if not found:
        return Finding("pass", f"{format_months(in_postgres)}: in PostgreSQL and in Dagster's record.", counts=counts)
    return Finding(
        "error" if lost else "warn",
        " ".join(summary for summary, _ in found),
        " ".join(dict.fromkeys(to_do for _, to_do in found)),
        counts,
        months=format_months({month for months, *_ in problems for month in months}),
    )


def _commands(months: Iterable[date]) -> str:
    return "; ".join(f"taxi backfill {' '.join(w.keys)} --reprocess completed" for w in windows_of(months))
