"""What benchmarks give, and the report and plots that are made of it."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import psutil

DIRECTORY = Path(__file__).parent
REPORT = DIRECTORY / "RESULTS.md"
PLOTS = DIRECTORY / "plots"
KEPT = DIRECTORY / "results"

mpl.use("Agg")


@dataclass(frozen=True)
class Goal:
    """One figure against its goal: `at_least` or `at_most`, in the unit of the figure."""

    what: str
    figure: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    measured: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the figure is on the right side of the goal."""
        return (self.at_least is None or self.figure >= self.at_least) and (
            self.at_most is None or self.figure <= self.at_most
        )


@dataclass(frozen=True)
class Section:
    """What one benchmark gives: figures with goals, a table, and the plots it drew."""

    title: str
    goals: Sequence[Goal]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    plots: Sequence[str] = ()
    note: str = ""


def machine() -> str:
    """The machine in a line."""
    memory = psutil.virtual_memory().total / 2**30
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def keep(name: str, section: Section) -> None:
    """Keep what a benchmark gave, until it runs again."""
    KEPT.mkdir(exist_ok=True)
    kept = {"machine": machine(), "day": f"{datetime.now(UTC):%Y-%m-%d}", "section": asdict(section)}
    (KEPT / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")


def write_report(names: Sequence[str]) -> None:
    """Write RESULTS.md anew of what is kept of these benchmarks."""
    kept = [json.loads(path.read_text()) for name in names if (path := KEPT / f"{name}.json").exists()]
    sections = [_section(item["section"]) for item in kept]
    met = [goal for section in sections for goal in section.goals]
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {max(item['day'] for item in kept)}: "
        f"{', '.join(sorted({item['machine'] for item in kept}))}. "
        f"{sum(goal.is_met for goal in met)} of {len(met)} goals met. Both sides of every ratio were measured in one "
        "run, on synthetic months; the seconds depend on the machine.",
        "",
        "| what | figure | goal | met | measured |",
        "|---|---:|---:|---|---|",
        *(_goal_line(goal) for goal in met),
    ]
    for section in sections:
        lines += ["", f"## {section.title}", ""]
        lines += [section.note, ""] if section.note else []
        if section.rows:
            lines += [_row(section.header), _row(["---"] + ["---:"] * (len(section.header) - 1))]
            lines += [_row(row) for row in section.rows]
        lines += [f"\n![{section.title}](plots/{plot})" for plot in section.plots]
    REPORT.write_text("\n".join(lines).replace("\n\n\n", "\n\n") + "\n")


def _section(kept: dict[str, Any]) -> Section:
    return Section(**{**kept, "goals": [Goal(**goal) for goal in kept["goals"]]})


def _goal_line(goal: Goal) -> str:
    wanted = f"≥ {goal.at_least:g}" if goal.at_least is not None else f"≤ {goal.at_most:g}"
    figure = f"{goal.figure:.2f}" if goal.figure < 100 else f"{goal.figure:,.0f}"
    return _row([goal.what, f"{figure} {goal.unit}", wanted, "yes" if goal.is_met else "**no**", goal.measured])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
