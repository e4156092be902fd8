"""The result of a check: written once, shown by Dagster, sent by an alert."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

Level = Literal["pass", "warn", "error"]

SAMPLE_ROWS = 5


@dataclass(frozen=True)
class Finding:
    """A summary of one sentence, the next step, the numbers behind the summary, and a few sample rows.

    `warn` deserves attention; `error` means that the data would mislead its readers.
    """

    level: Level
    summary: str
    to_do: str = "Nothing."
    counts: Mapping[str, int | float | str] = field(default_factory=dict)
    sample: Sequence[Mapping[str, Any]] = ()
    # Drawn as a chart that marks the last month. A pass has no chart.
    rows_by_month: Mapping[date, int] = field(default_factory=dict)
    # In a check of all months, the months of the finding.
    months: str = ""
