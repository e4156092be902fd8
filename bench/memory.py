"""The peak resident memory of a process that loads one large month."""

import subprocess
import sys
from datetime import date

from bench.results import Goal, Section
from bench.workplace import Workplace, workplace

MONTH = date(2025, 1, 1)
LIMIT_MIB = 300

# Not ru_maxrss: on Linux a new program inherits it from its parent process, which has written the month.
_LOAD = """
import re, sys
from datetime import date
from pathlib import Path
from taxi_orchestration.warehouse.warehouse import open_warehouse
from taxi_orchestration.loading import open_loader
from taxi_orchestration.settings import load_settings
with open_loader(settings := load_settings(), open_warehouse(settings)) as loader:
    load = loader.load_month(date.fromisoformat(sys.argv[1]))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024, load.seconds)
"""


def run(quick: bool) -> Section:
    """Measure the worst case: the whole month is one row group, so that the file gives no limit for a read."""
    sizes = [1_000_000, 5_000_000] if quick else [1_000_000, 5_000_000, 20_000_000]
    rows = []
    with workplace() as place:
        for size in sizes:
            # The writer holds a row group in memory, so it runs in this process, which is not measured.
            place.publish(MONTH, size, row_group_rows=size)
            place.start_over()
            memory, seconds = _measure_load(place)
            rows.append((size, memory, seconds))
    size, memory, _ = rows[-1]
    return Section(
        "Memory",
        [Goal(f"largest resident memory of the loading process at {size:,} rows", memory, "MiB", at_most=LIMIT_MIB)],
        ["rows in one row group", "MiB", "seconds"],
        [[f"{size:,}", f"{memory:.0f}", f"{seconds:.1f}"] for size, memory, seconds in rows],
        quotes={
            "memory_smallest": f"{rows[0][1]:.0f} MiB at {rows[0][0]:,}",
            "memory_largest": f"{memory:.0f} MiB at {size:,}",
        },
    )


def _measure_load(place: Workplace) -> tuple[float, float]:
    command = [sys.executable, "-c", _LOAD, MONTH.isoformat()]
    done = subprocess.run(command, env=place.environment, capture_output=True, text=True, check=True)
    memory, seconds = map(float, done.stdout.split())
    return memory, seconds
