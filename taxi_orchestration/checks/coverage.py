"""Which months there are: at the TLC, in PostgreSQL, in Dagster's record, and where these disagree."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import date

from dagster import AssetCheckEvaluation, AssetCheckSpec, AssetKey, AssetRecordsFilter, DagsterInstance

from taxi_orchestration.assets.tlc_source import TLC_FILES
from taxi_orchestration.checks.finding import Finding, evaluation_of
from taxi_orchestration.partitions import Window, key_of, month_of, next_month, windows_of
from taxi_orchestration.settings import PostgresTarget
from taxi_orchestration.warehouse.measures import months_in_raw_trips

COVERAGE = AssetCheckSpec(
    "every_published_month_is_loaded",
    asset=AssetKey("raw_trips"),
    description=(
        "Of all months: what the TLC has published is loaded, without gaps, and Dagster's record and PostgreSQL agree "
        "on what is. What is published is known from the sensor tlc_publications."
    ),
)

_PAGE = 500


def check_coverage(
    in_postgres: AbstractSet[date], in_dagster: AbstractSet[date], published: AbstractSet[date] | None
) -> Finding:
    """Whether every published month from the oldest loaded one on is loaded, and Dagster and PostgreSQL agree on it.

    `published` is None where nobody has asked the TLC yet.
    """
    known = in_postgres | in_dagster
    if not known:
        return Finding("good", "No month has been loaded yet.", "taxi backfill 2024-01 2024-03")
    everything = Window(min(known), next_month(max(known))).months
    not_loaded = sorted(m for m in (published or ()) if m > min(known) and m not in in_postgres | in_dagster)
    lost = sorted(in_dagster - in_postgres)
    unknown = sorted(in_postgres - in_dagster)
    gaps = [m for m in everything if m not in known and m not in not_loaded]
    counts: dict[str, int | float | str] = {
        "months in PostgreSQL": len(in_postgres),
        "months in Dagster": len(in_dagster),
        "published, not loaded": _listed(not_loaded) if published is not None else "nobody has asked the TLC yet",
        "in Dagster, not in PostgreSQL": _listed(lost),
        "in PostgreSQL, unknown to Dagster": _listed(unknown),
        "gaps": _listed(gaps),
    }
    problems: list[tuple[Sequence[date], str, str]] = [
        (lost, "loaded says Dagster, but not in PostgreSQL", "Load them again: " + _commands(lost)),
        (unknown, "in PostgreSQL, but Dagster does not know of it", "Load them again: " + _commands(unknown)),
        (not_loaded, "published, but not loaded", "taxi backfill --missing"),
        (gaps, "a gap between loaded months", "If they should be there: taxi backfill --missing"),
    ]
    found = [(f"{_listed(months)}: {what}.", to_do) for months, what, to_do in problems if months]
    if not found:
        return Finding("good", f"{_listed(in_postgres)}: in PostgreSQL, and Dagster agrees.", counts=counts)
    return Finding(
        "error" if lost else "warn",
        " ".join(says for says, _ in found),
        " ".join(dict.fromkeys(to_do for _, to_do in found)),
        counts,
        months=_listed({month for months, *_ in problems for month in months}),
    )


def coverage_evaluation(instance: DagsterInstance, target: PostgresTarget, schema: str) -> AssetCheckEvaluation:
    """The check of all months, from what is in PostgreSQL and in Dagster's record now. Asks the TLC nothing."""
    in_dagster = {month_of(key) for key in instance.get_materialized_partitions(COVERAGE.asset_key)}
    finding = check_coverage(months_in_raw_trips(target, schema), in_dagster, observed_months(instance))
    return evaluation_of(COVERAGE, finding)


def observed_months(instance: DagsterInstance) -> set[date] | None:
    """The months that were published when last seen to change; None where nobody has looked yet."""
    latest: dict[date, bool] = {}
    cursor = None
    while True:
        page = instance.fetch_observations(AssetRecordsFilter(TLC_FILES), _PAGE, cursor)
        for record in page.records:
            observation = record.asset_observation
            if record.partition_key and observation and "published" in observation.metadata:
                latest.setdefault(month_of(record.partition_key), bool(observation.metadata["published"].value))
        if not page.has_more:
            return {month for month, is_published in latest.items() if is_published} if latest else None
        cursor = page.cursor


def _listed(months: Iterable[date]) -> str:
    """Months in a row as one range, so that a long list stays short."""
    return ", ".join(map(str, windows_of(months))) or "none"


def _commands(months: Iterable[date]) -> str:
    return "; ".join(
        f"taxi backfill {key_of(window.start)} {key_of(window.months[-1])} --reprocess completed"
        for window in windows_of(months)
    )
