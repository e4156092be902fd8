"""What time it is, for whatever decides by the calendar: in one place, so that a year can pass in a test."""

from datetime import UTC, datetime


class Clock:
    """The time of this machine."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return datetime.now(UTC)
