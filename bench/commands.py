"""Commands that have little to do: the cost of starting Python and of its imports."""

import statistics
from datetime import date

from bench.results import Goal, Section
from bench.workplace import workplace

FIRST = date(2024, 1, 1)
# Name, arguments of `taxi`, limit in seconds, and exit code.
COMMANDS = (
    ("backfill of completed months, nothing to do", ("backfill", "2024-01", "2024-03"), 1.5, 0),
    ("backfill of an invalid month", ("backfill", "2024-13"), 0.5, 2),
    ("taxi status", ("status",), 1.5, 0),
)


def run(quick: bool) -> Section:
    """Load three months, then run each command several times, and report the medians."""
    times = 3 if quick else 7
    with workplace() as place:
        place.publish_range(FIRST, 3)
        place.taxi(*COMMANDS[0][1])
        seconds = {
            what: statistics.median(place.taxi(*arguments, code=code) for _ in range(times))
            for what, arguments, _, code in COMMANDS
        }
    goals = [Goal(what, seconds[what], "s", at_most=wanted) for what, _, wanted, _ in COMMANDS]
    return Section("Commands with little to do", goals, note=f"With three months loaded; medians of {times} runs.")
