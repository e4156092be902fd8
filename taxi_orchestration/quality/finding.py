"""What a check found: said once, shown by Dagster, told by an alert."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

Level = Literal["pass", "warn", "error"]

SAMPLE_ROWS = 5


@dataclass(frozen=True)
class Finding:
    """One sentence on what is so, what to do now, the numbers behind it, and a few rows.

    `warn` is worth a look, `error` means that somebody who reads the data would be misled.
    """

    level: Level
    summary: str
    to_do: str = "Nothing."
    counts: Mapping[str, int | float | str] = field(default_factory=dict)
    sample: Sequence[Mapping[str, Any]] = ()
    # To be drawn, with the last month as the one that the finding is about. Of a pass there is nothing to see.
    rows_by_month: Mapping[date, int] = field(default_factory=dict)
    # Of a check of all months, those that it is about.
    months: str = ""
