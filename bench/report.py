"""The page of 150 months: its size, and the time and memory of `taxi report`."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import psycopg
from psycopg import sql

from bench.results import Goal, Section
from bench.workplace import FIRST_MONTH, SCHEMA, Workplace, workplace

MONTHS = 150
LIMIT_BYTES = 5_000_000
LIMIT_SECONDS = 10
LIMIT_MIB = 600
TABLES = (
    *("raw_loads", "trip_quality", "int_monthly_revenue_by_file"),
    *("int_zone_flows_by_file", "int_hourly_zone_activity_by_file"),
)
# Like the TLC's shapes after simplification: 263 outlines of 26 points on average.
ZONES, POINTS = 263, 26

# `taxi report` in a new process, which prints its own peak memory in MiB and its CPU in seconds.
_REPORT = """
import re, sys, time
from pathlib import Path
from taxi_orchestration.cli.commands import main
sys.argv = ["taxi", "report", "--output", sys.argv[1]]
try:
    main()
finally:
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024, time.process_time())
"""


def run(quick: bool) -> Section:
    """Load and build one month, copy its results for the other months, and run `taxi report` three times."""
    count = 24 if quick else MONTHS
    with workplace() as place:
        place.publish(FIRST_MONTH)
        place.start_over()
        place.taxi("backfill", f"{FIRST_MONTH:%Y-%m}", f"{FIRST_MONTH:%Y-%m}")
        _copy_month(place, count)
        _add_shapes(place)
        place.settle()
        measured = [_measure_report(place) for _ in range(3)]
        page = place.directory / "report.html"
        size, parts = page.stat().st_size, _measure_parts(page.read_text(encoding="utf-8"))
    seconds, cpu, _ = min(measured)
    memory = max(memory for *_, memory in measured)
    return Section(
        "The report",
        [
            Goal(f"size of the report of {count} months", size / 1e6, "MB", at_most=LIMIT_BYTES / 1e6),
            Goal(
                f"taxi report of {count} months",
                seconds,
                "s",
                at_most=LIMIT_SECONDS,
                reason=f"{cpu:.1f} s of it CPU of Python, which draws; PostgreSQL adds up meanwhile",
            ),
            Goal(f"largest resident memory of taxi report of {count} months", memory, "MiB", at_most=LIMIT_MIB),
        ],
        ["part of the report", "kB"],
        [[name, f"{bytes_ / 1e3:,.0f}"] for name, bytes_ in parts.items()],
        note="Months of 57,000 rows, and zone shapes with as many points as the TLC's. Best of three runs.",
    )


def _measure_report(place: Workplace) -> tuple[float, float, float]:
    """Return the seconds, the CPU seconds and the peak MiB of one `taxi report`."""
    command = [sys.executable, "-c", _REPORT, str(place.directory / "report.html")]
    start = time.perf_counter()
    done = subprocess.run(command, env=place.environment, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    memory, cpu = map(float, done.stdout.split())
    return seconds, cpu, memory


def _copy_month(place: Workplace, count: int) -> None:
    """Copy the rows of the first month, in all tables that the report's marts add up, for each other month."""
    with psycopg.connect(place.target.url()) as connection:
        connection.execute(sql.SQL("set search_path = {}").format(sql.Identifier(SCHEMA)))
        for table in TABLES:
            columns = connection.execute(sql.SQL("table {} limit 0").format(sql.Identifier(table))).description or []
            values = [_shift_value(column.name) for column in columns]
            connection.execute(
                sql.SQL("insert into {0} select {1} from {0}, generate_series(1, %s) as months (later)").format(
                    sql.Identifier(table), sql.SQL(", ").join(values)
                ),
                [count - 1],
            )


def _shift_value(column: str) -> sql.Composable:
    """Return a column's value in the copy for a later month. Days keep their distance from the month of the file."""
    month = sql.SQL("({} + make_interval(months => later))::date")
    match column:
        case "source_month" | "pickup_month":
            return month.format(sql.Identifier(column))
        case "pickup_date":
            return sql.SQL("pickup_date - source_month + ") + month.format(sql.Identifier("source_month"))
        case _:
            return sql.Identifier(column)


def _add_shapes(place: Workplace) -> None:
    """Insert outlines for the zones: the workplace's host has none."""
    turns = np.linspace(0, 2 * np.pi, POINTS)
    rows = []
    for zone in range(ZONES):
        x, y = 920_000 + zone % 17 * 9_000, 130_000 + zone // 17 * 9_000
        ring = [[round(x + 4_000 * np.cos(turn)), round(y - 4_000 * np.sin(turn))] for turn in turns]
        rows.append((zone + 1, "Borough", f"Zone {zone + 1}", json.dumps([[ring]])))
    with psycopg.connect(place.target.url()) as connection:
        table = sql.Identifier(SCHEMA, "raw_zone_shapes")
        connection.cursor().executemany(sql.SQL("insert into {} values (%s, %s, %s, %s)").format(table), rows)


def _measure_parts(page: str) -> dict[str, int]:
    """Return the bytes of each part of the page."""
    parts = {
        "data": r'<script type="application/json".*?</script>',
        "scripts": r'<script type="module">.*?</script>',
        "drawings": r"<svg.*?</svg>",
        "tables": r"<table.*?</table>",
    }
    found = {name: sum(map(len, map(str.encode, re.findall(of, page, re.DOTALL)))) for name, of in parts.items()}
    return {**found, "the rest": len(page.encode()) - sum(found.values())}
