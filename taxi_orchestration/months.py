"""Months as dates, partition keys and windows, and how many are loaded side by side. No Dagster."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from taxi_orchestration.tlc.dataset import DATASET

KEY_FORMAT = "%Y-%m"

# The day of the second month after a month, 42 to 45 days after its end.
DAY_OF_PUBLICATION = 15


# Each month that is loaded takes a connection of the server.
MOST_MONTHS_AT_ONCE = 32


class MonthError(ValueError):
    """A month or range that cannot be loaded; the message gives the reason and the expected form."""


@dataclass(frozen=True)
class Window:
    """Consecutive months, half-open: from the first day of `start` to before the first day of `end`."""

    start: date
    end: date

    @classmethod
    def through(cls, first: date, last: date) -> "Window":
        """Return the months from `first` to `last`, both included."""
        return cls(first, next_month(last))

    @property
    def months(self) -> list[date]:
        """Return the months of the window, oldest first."""
        months = [self.start]
        while (following := next_month(months[-1])) < self.end:
            months.append(following)
        return months

    @property
    def keys(self) -> tuple[str, str]:
        """Return the partition keys of the first and the last month."""
        return partition_key(self.start), partition_key(add_months(self.end, -1))

    def __str__(self) -> str:
        first, last = self.keys
        return first if first == last else f"{first} to {last}"


def default_months_at_once() -> int:
    """Return how many months are loaded side by side unless somebody says: as many as there are cores."""
    return min(os.cpu_count() or 1, MOST_MONTHS_AT_ONCE)


def partition_key(month: date) -> str:
    """Return the partition key of a month: `2024-01`."""
    return month.strftime(KEY_FORMAT)


def parse_partition_key(key: str) -> date:
    """Return the first day of the month of a Dagster partition key. Raises ValueError for another text."""
    return datetime.strptime(key, KEY_FORMAT).date()


def next_month(month: date) -> date:
    """Return the first day of the following month."""
    return add_months(month, 1)


def add_months(month: date, months: int) -> date:
    """Return the first day of the month that is `months` (also negative) later."""
    years, zero_based = divmod(month.year * 12 + month.month - 1 + months, 12)
    return date(years, zero_based + 1, 1)


def newest_month(now: datetime) -> date:
    """Return the newest month that can be published, the newest partition: the TLC has never taken under 45 days."""
    return add_months(date(now.year, now.month, 1), -2 if now.day >= DAY_OF_PUBLICATION else -3)


def parse_month(text: str, now: datetime) -> date:
    """Parse a month written as `2024-01` or as a day of the month, `2024-01-31`; return its first day.

    Raises MonthError for invalid text and for a month that cannot have a file.
    """
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}(-[0-9]{2})?", text):
            raise ValueError
        month = date.fromisoformat(text if len(text) > len("2024-01") else f"{text}-01").replace(day=1)
    except ValueError:
        raise MonthError(f"{text!r} is not a month. Write it as YYYY-MM, for example 2024-01.") from None
    newest = newest_month(now)
    if month < DATASET.first_month:
        first = partition_key(DATASET.first_month)
        raise MonthError(f"{text} is before {first}, where {DATASET.label} begins. Choose a later month.")
    if month > newest:
        raise MonthError(
            f"{text} cannot be published yet: the newest possible month is {partition_key(newest)}, "
            "because the TLC publishes a month about two months late."
        )
    return month


def parse_range(first: str, last: str, now: datetime) -> Window:
    """Return the window of two months given as text, both included. Raises MonthError."""
    start, final = parse_month(first, now), parse_month(last, now)
    if start > final:
        raise MonthError(f"The range {first} to {last} runs backwards: put the older month first.")
    return Window.through(start, final)


def windows_of(months: Iterable[date]) -> list[Window]:
    """Return the fewest windows that hold exactly these months, oldest first."""
    windows: list[Window] = []
    for month in sorted(set(months)):
        if windows and windows[-1].end == month:
            windows[-1] = Window.through(windows[-1].start, month)
        else:
            windows.append(Window.through(month, month))
    return windows


def format_months(months: Iterable[date]) -> str:
    """Format months for a sentence: consecutive months as one range, so that a long list stays short."""
    return ", ".join(map(str, windows_of(months))) or "none"


def count_months(number: int) -> str:
    """Format a number of months for a sentence."""
    return f"{number:,} month{'' if number == 1 else 's'}"
