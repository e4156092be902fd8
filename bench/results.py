"""The results of benchmarks, and the report on them: one run of one version on one machine."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from timeit import timeit
from typing import Any

import psutil

from taxi_orchestration.settings import PROJECT_DIRECTORY

DIRECTORY = Path(__file__).parent
# A figure in a page: [figure](path of RESULTS.md "name of the figure").
QUOTE = re.compile(r'\[([^\]]*)\]\(((?:\.\./)*bench/RESULTS\.md[^ )]*) "([^"]+)"\)')


@dataclass(frozen=True)
class Goal:
    """One figure and its goal, `at_least` or `at_most`, in the unit of the figure.

    `measured` gives the measurements behind the figure; `reason` explains a missed goal.
    """

    what: str
    figure: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    measured: str = ""
    reason: str = ""

    @property
    def is_met(self) -> bool:
        """Return whether the figure meets the goal."""
        return (self.at_least is None or self.figure >= self.at_least) and (
            self.at_most is None or self.figure <= self.at_most
        )

    @property
    def wanted(self) -> str:
        """Return the goal as text."""
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(frozen=True)
class Section:
    """The result of a benchmark: goals, a table, plots as PNG by file name, and the figures that pages quote."""

    title: str
    goals: Sequence[Goal]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    plots: Mapping[str, bytes] = field(default_factory=dict)
    note: str = ""
    quotes: Mapping[str, str] = field(default_factory=dict)


def machine() -> str:
    """Return a description of the machine in one line."""
    memory = psutil.virtual_memory().total / 2**30
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return f"{os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def version() -> str:
    """Return the measured commit, with a mark if the code differs from it."""
    commit = _git("rev-parse", "--short=10", "HEAD")
    changed = _git("status", "--porcelain", "--", ".", ":!*.md", ":!bench/plots", ":!bench/results")
    return f"{commit} with changes" if changed else commit


@dataclass(frozen=True)
class Results:
    """The stored results of a run in `directory`: one file per benchmark, and the report on all."""

    directory: Path = DIRECTORY

    @property
    def _files(self) -> Path:
        return self.directory / "results"

    @property
    def _plots(self) -> Path:
        return self.directory / "plots"

    def start_over(self) -> None:
        """Remove the stored results and plots of an earlier run."""
        for path in [*self._files.glob("*.json"), *self._plots.glob("*.png")]:
            path.unlink()

    def is_of(self, version: str) -> bool:
        """Return whether all stored results are of this version and machine, so that a benchmark can be added."""
        return {(item["version"], item["machine"]) for item in self._read()} == {(version, machine())}

    def keep(self, name: str, version: str, seconds: float, section: Section | None, failure: str) -> None:
        """Store the result or the failure of a benchmark, until the benchmark runs again."""
        self._files.mkdir(exist_ok=True)
        self._plots.mkdir(exist_ok=True)
        plots = section.plots if section else {}
        for file, png in plots.items():
            (self._plots / file).write_bytes(png)
        kept = {
            "name": name,
            "version": version,
            "machine": machine(),
            "additions": round(timeit("count += 1", "count = 0", number=5_000_000), 2),
            "ended": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            "seconds": round(seconds),
            "failure": failure,
            "section": {**asdict(section), "plots": list(plots)} if section else None,
        }
        (self._files / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")

    def write_report(self, names: Sequence[str]) -> None:
        """Write RESULTS.md from the stored results; `names` are all benchmarks in the order of the report."""
        kept = sorted(self._read(), key=lambda item: names.index(item["name"]))
        sections = [
            Section(**{**s, "goals": [Goal(**g) for g in s["goals"]], "plots": dict.fromkeys(s["plots"], b"")})
            for item in kept
            if (s := item["section"])
        ]
        goals = [goal for section in sections for goal in section.goals]
        additions = [item["additions"] for item in kept]
        failed = [f"{item['name']} ({item['failure']})" for item in kept if item["failure"]]
        missing = [name for name in names if name not in {item["name"] for item in kept}]
        lines = [
            "# Benchmarks",
            "",
            f"Commit {kept[0]['version']}, measured by `make bench`, which ended "
            f"{max(item['ended'] for item in kept)} UTC, on {kept[0]['machine']}. "
            f"{sum(goal.is_met for goal in goals)} of {len(goals)} goals met. Everything was measured in one run, on "
            "synthetic months. Seconds depend on the machine, and on what its host does besides: five million "
            f"additions in Python took {min(additions)} to {max(additions)} s.",
            "",
            *([f"Failed: {'; '.join(failed)}.", ""] if failed else []),
            *([f"Not run: {', '.join(missing)}.", ""] if missing else []),
            "| benchmark | figure | goal | met | measured | reason |",
            "|---|---:|---:|---|---|---|",
            *(_goal_line(goal) for goal in goals),
        ]
        for section in sections:
            lines += ["", f"## {section.title}", ""]
            lines += [section.note, ""] if section.note else []
            if section.rows:
                lines += [_row(section.header), _row(["---"] + ["---:"] * (len(section.header) - 1))]
                lines += [_row(row) for row in section.rows]
            lines += [f"\n![{section.title}](plots/{plot})" for plot in section.plots]
        durations = ", ".join(f"{item['name']} {item['seconds']} s" for item in kept)
        minutes = sum(item["seconds"] for item in kept) / 60
        lines += ["", "## Duration of the benchmarks", "", f"{minutes:.0f} minutes: {durations}."]
        (self.directory / "RESULTS.md").write_text("\n".join(lines).replace("\n\n\n", "\n\n") + "\n")

    def quotable(self) -> dict[str, str]:
        """Return the figures that a page may quote, by name."""
        sections = [item["section"] for item in self._read() if item["section"]]
        return {name: text for section in sections for name, text in section["quotes"].items()}

    def update_pages(self) -> None:
        """Write the figures into the pages that quote them."""
        figures = self.quotable()
        for page in pages():
            text = page.read_text(encoding="utf-8")
            new = QUOTE.sub(lambda found: f'[{figures.get(found[3], found[1])}]({found[2]} "{found[3]}")', text)
            if new != text:
                page.write_text(new, encoding="utf-8")

    def _read(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self._files.glob("*.json"))]


def pages() -> list[Path]:
    """Return the pages that may quote figures."""
    return [PROJECT_DIRECTORY / "README.md", *sorted((PROJECT_DIRECTORY / "docs").rglob("*.md"))]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _goal_line(goal: Goal) -> str:
    figure = f"{goal.figure:.2f}" if goal.figure < 100 else f"{goal.figure:,.0f}"
    verdict = ["yes", goal.measured, ""] if goal.is_met else ["**no**", goal.measured, goal.reason]
    return _row([goal.what, f"{figure} {goal.unit}", goal.wanted, *verdict])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
