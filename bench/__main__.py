"""`python -m bench`: run the benchmarks, show what they give as they end, and write RESULTS.md."""

import signal
import sys
from functools import partial

import click
from rich.console import Console

from bench import (
    backfills,
    classroom,
    commands,
    fresh_clone,
    memory,
    peers,
    replacement,
    report,
    suite,
    throughput,
    ui,
    volume,
)
from bench.results import Results
from bench.results import version as version_measured
from bench.runner import FAILED, MISSED, run_benchmarks

BENCHMARKS = {
    "backfills": backfills.run,
    "commands": commands.run,
    "ui": ui.run,
    "throughput": throughput.run,
    "peers": peers.run,
    "classroom": classroom.run,
    "replacement": replacement.run,
    "memory": memory.run,
    "fresh_clone": fresh_clone.run,
    "report": report.run,
    "volume": volume.run,
    "suite": suite.run,
}
# Longer than all others together: run where it is named.
NAMED_ONLY = {"suite"}


@click.command()
@click.option("--quick", is_flag=True, help="Smaller months and fewer of them: minutes. Writes no results.")
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
def main(quick: bool, names: tuple[str, ...]) -> None:
    """Run the benchmarks NAMES, or all of them but suite.

    A run of all begins RESULTS.md anew. One with NAMES joins it where that is of the same version and machine, and
    else only shows what it measured. Ends with 1 where a goal of the full size is not met, with 2 where a benchmark
    failed; the others go on then.
    """
    # Whoever ends it leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(FAILED))
    version, results = version_measured(), Results()
    keeps = not quick and (not names or results.is_of(version))
    if keeps and not names:
        results.start_over()
    chosen = names or [name for name in BENCHMARKS if name not in NAMED_ONLY]
    code = run_benchmarks(
        {name: partial(BENCHMARKS[name], quick) for name in chosen},
        list(BENCHMARKS),
        version,
        results if keeps else None,
        Console(),
    )
    if keeps:
        results.update_pages()
    else:
        click.echo("RESULTS.md is as it was: these figures are not of its run.")
    sys.exit(0 if quick and code == MISSED else code)


if __name__ == "__main__":
    main()
