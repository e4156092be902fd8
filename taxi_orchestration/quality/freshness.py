"""The check that the newest published month is loaded, and that the TLC itself is not late.

Not Dagster's FreshnessPolicy, which evaluates the last load of any month: loading 2019 again would make it fresh.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from taxi_orchestration.months import next_month, partition_key
from taxi_orchestration.quality.finding import Finding, Level

LOADED_WARN, LOADED_ERROR = timedelta(days=1), timedelta(days=3)
TLC_WARN, TLC_ERROR = timedelta(days=75), timedelta(days=100)

# Months end at midnight in New York.
_NEW_YORK = ZoneInfo("America/New_York")


def check_freshness(
    now: datetime, published: Mapping[date, datetime | None], loaded: AbstractSet[date], *, error: str = ""
) -> Finding:
    """Check that the newest published month is loaded in time, and that the TLC's next month is not overdue.

    `published` has the time since when each month is known to be published, or None; `error` is that of a request for
    a month after the newest loaded one, empty if the host answered all.
    """
    if not loaded:
        to_do = "Load a month first: taxi backfill MONTH"
        return Finding("pass", "No month has been loaded yet, so none is expected.", to_do)
    newest_loaded = max(loaded)
    waiting = {month: since for month, since in published.items() if month > newest_loaded}
    newest = max({*waiting, newest_loaded})
    expected = next_month(newest)
    overdue = now - datetime.combine(next_month(expected), time(), _NEW_YORK)
    months = ", ".join(map(partition_key, sorted(waiting)))
    counts: dict[str, int | float | str] = {
        "newest loaded": partition_key(newest_loaded),
        "published, not loaded": months or "none",
        "next month expected": partition_key(expected),
        "days since its end": max(overdue.days, 0),
    }
    if waiting:
        known = [now - since for since in waiting.values() if since]
        longest = max(known, default=LOADED_ERROR)
        level = _level(longest, LOADED_WARN, LOADED_ERROR)
        if level != "pass":
            days = f"{longest.days} day{'' if longest.days == 1 else 's'}"
            since = f"for {days}" if known else "for an unknown time"
            return Finding(
                level,
                f"{months}: published {since}, but not loaded.",
                "See the ticks of the sensor tlc_publications, or load the months: taxi backfill --missing "
                f"{partition_key(next_month(newest_loaded))} {partition_key(newest)}",
                counts,
                months=months,
            )
    if error:
        return Finding(
            "warn",
            f"It is unknown whether a new month is published. {error}",
            "Try again later.",
            counts,
        )
    level = _level(overdue, TLC_WARN, TLC_ERROR)
    if level != "pass":
        return Finding(
            level,
            f"{partition_key(expected)}: not published {overdue.days} days after its end; the TLC takes about 60 days.",
            "See https://www.nyc.gov/site/tlc/about/tlc-trip-record-data.page",
            counts,
            months=partition_key(expected),
        )
    return Finding(
        "pass",
        f"{partition_key(newest)} is the newest month that is {'published' if waiting else 'loaded'}; "
        f"{partition_key(expected)} is not overdue.",
        counts=counts,
    )


def _level(time_passed: timedelta, warn: timedelta, error: timedelta) -> Level:
    if time_passed > error:
        return "error"
    return "warn" if time_passed > warn else "pass"
