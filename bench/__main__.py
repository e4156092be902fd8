"""`python -m bench`: run the benchmarks, print each result as soon as it exists, and write RESULTS.md."""

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
    previous,
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
    "previous": previous.run,
    "suite": suite.run,
}
# Takes longer than all other benchmarks together, so it runs only if it is named.
NAMED_ONLY = {"suite"}


@click.command()
@click.option("--quick", is_flag=True, help="Use fewer and smaller months; takes minutes. Writes no results.")
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
def main(quick: bool, names: tuple[str, ...]) -> None:
    """Run the benchmarks NAMES, or all of them except suite.

    A run of all benchmarks replaces RESULTS.md. A run with NAMES updates RESULTS.md if that has the same version and
    machine; otherwise it only prints its figures. The exit code is 1 if a goal is missed at full size, and 2 if a
    benchmark fails; the other benchmarks still run.
    """
    # SIGTERM raises SystemExit, so that every benchmark stops its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(FAILED))
    version, results = version_measured(), Results()
    is_kept = not quick and (not names or results.is_of(version))
    if is_kept and not names:
        results.start_over()
    selected = names or [name for name in BENCHMARKS if name not in NAMED_ONLY]
    code = run_benchmarks(
        {name: partial(BENCHMARKS[name], quick) for name in selected},
        list(BENCHMARKS),
        version,
        results if is_kept else None,
        Console(),
    )
    if is_kept:
        results.update_pages()
    else:
        click.echo("RESULTS.md is unchanged: these figures are not part of it.")
    sys.exit(0 if quick and code == MISSED else code)


if __name__ == "__main__":
    main()
