"""A run of benchmarks, one after the other. Each result is stored at once; a failure does not stop the others."""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from bench.results import Results, Section

MISSED, FAILED = 1, 2


def run_benchmarks(
    benchmarks: Mapping[str, Callable[[], Section]],
    order: Sequence[str],
    version: str,
    results: Results | None,
    console: Console,
) -> int:
    """Run the benchmarks, store their results if `results` is given, and return an exit code.

    `order` lists all benchmarks in the order of the report.
    """
    code = 0
    for name, benchmark in benchmarks.items():
        console.rule(name)
        began, section, failure = time.monotonic(), None, ""
        try:
            section = benchmark()
        except Exception as error:  # noqa: BLE001 - one failure must not stop the other benchmarks
            traceback.print_exc()
            failure, code = " ".join(f"{type(error).__name__}: {error}".split())[:200], FAILED
        if section:
            _show(console, section)
            if not all(goal.is_met for goal in section.goals):
                code = code or MISSED
        seconds = time.monotonic() - began
        console.print(f"{name} {'failed' if failure else 'ended'} after {seconds:.0f} s.", highlight=False)
        if results:
            results.keep(name, version, seconds, section, failure)
            results.write_report(order)
    return code


def _show(console: Console, section: Section) -> None:
    for row in [section.header, *section.rows]:
        console.print("  ".join(f"{cell:>20}" for cell in row), highlight=False, soft_wrap=True)
    for goal in section.goals:
        word = "[green]met[/]" if goal.is_met else "[red]not met[/]"
        figures = f"{goal.figure:.2f} {goal.unit} ({goal.wanted}: {word}) {goal.measured}"
        if goal.reason and not goal.is_met:
            figures += f"; {goal.reason}"
        console.print(f"{goal.what}: {figures}", highlight=False, soft_wrap=True)
