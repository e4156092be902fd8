"""`python -m bench`: run the benchmarks, show what they give as they end, and write RESULTS.md."""

import sys

import click
from rich.console import Console

from bench import (
    backfills,
    classroom,
    history,
    memory,
    replacement,
    report,
    results,
    run_button,
    run_seconds,
    throughput,
    volume,
)

BENCHMARKS = {
    "throughput": throughput.run,
    "memory": memory.run,
    "run_seconds": run_seconds.run,
    "backfills": backfills.run,
    "history": history.run,
    "report": report.run,
    "run_button": run_button.run,
    "volume": volume.run,
    "replacement": replacement.run,
    "classroom": classroom.run,
}


@click.command()
@click.option("--quick", is_flag=True, help="Smaller months and fewer of them: minutes. Writes no results.")
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
def main(quick: bool, names: tuple[str, ...]) -> None:
    """Run the benchmarks NAMES, or all of them. Ends with 1 where a goal of the full size is not met."""
    console = Console()
    missed = 0
    for name in names or BENCHMARKS:
        console.rule(name)
        section = BENCHMARKS[name](quick)
        for row in [section.header, *section.rows]:
            console.print("  ".join(f"{cell:>24}" for cell in row), highlight=False)
        for goal in section.goals:
            wanted = f"at least {goal.at_least:g}" if goal.at_least is not None else f"at most {goal.at_most:g}"
            word = "[green]met[/]" if goal.is_met else "[red]not met[/]"
            console.print(f"{goal.what}: {goal.figure:.2f} {goal.unit} ({wanted}: {word}) {goal.measured}")
        if not quick:
            missed += sum(not goal.is_met for goal in section.goals)
            results.keep(name, section)
            results.write_report(list(BENCHMARKS))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
