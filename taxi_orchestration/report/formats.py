"""Numbers, sizes, months and moments formatted for readers."""

from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")


def format_count(value: float) -> str:
    """Format a count: 974, 56,600, 1.3 million."""
    if abs(value) < 1_000:
        return f"{value:,.0f}"
    if abs(value) < 999_500:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value / 1e6:.3g} million" if abs(value) < 999_500_000 else f"{value / 1e9:.3g} billion"


def format_bytes(number: int) -> str:
    """Format a size: 1.4 kB, 0.2 MB, 33.0 MB."""
    return f"{number / 1_000_000:,.1f} MB" if number >= 100_000 else f"{number / 1000:,.1f} kB"


def format_money(value: float) -> str:
    """Format dollars: $12.40, $56,600, $1.3 million."""
    sign = "-" if value < 0 else ""
    return f"{sign}${abs(value):,.2f}" if abs(value) < 1_000 else f"{sign}${format_count(abs(value))}"


def format_percent(share: float) -> str:
    """Format a share as a percentage with one or two digits: 47%, 3.2%, 0.04%."""
    percent = share * 100
    if percent == 0 or abs(percent) >= 10:
        return f"{percent:.0f}%"
    return f"{percent:.1f}%" if abs(percent) >= 1 else f"{Decimal(f'{percent:.1g}'):f}%"


def format_change(value: float, before: float) -> str:
    """Format a change against an earlier value: 12% more, 3% fewer, as many."""
    change = value / before - 1
    if abs(change) < 0.005:
        return "as many"
    return f"{format_percent(abs(change))} {'more' if change > 0 else 'fewer'}"


def format_month(month: date) -> str:
    """Format a month with its name: January 2024."""
    return f"{month:%B %Y}"


def format_day(day: date) -> str:
    """Format a day with its weekday: Friday, 2 February 2024."""
    return f"{day:%A}, {day.day} {day:%B %Y}"


def format_moment(moment: datetime) -> str:
    """Format a moment in New York time: 2024-03-05 14:07."""
    return f"{moment.astimezone(NEW_YORK):%Y-%m-%d %H:%M}"


def format_list(items: list[str]) -> str:
    """Join texts for a sentence: a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
