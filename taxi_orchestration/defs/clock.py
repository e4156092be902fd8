"""The clock of all definitions, replaceable in tests that simulate a year."""

from datetime import UTC, datetime


class Clock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the present time, in UTC."""
        return datetime.now(UTC)
