"""The progress of a backfill: two bars on a terminal, else a line for each month."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from threading import Lock

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from taxi_orchestration.cli.terminal import print_line
from taxi_orchestration.loading import Progress
from taxi_orchestration.months import count_months, partition_key
from taxi_orchestration.report.formats import format_bytes
from taxi_orchestration.tlc.errors import NotPublishedError

# The share of the download in a month's part of the bar; the rest is the copying of rows.
_DOWNLOAD_SHARE = 0.5


@dataclass
class _Month:
    """A month in progress."""

    began: float
    bytes: int = 0
    total_bytes: int | None = None
    rows: int = 0
    total_rows: int = 0

    @property
    def share(self) -> float:
        """Return the done share of the month, from 0 to 1."""
        if self.total_rows:
            return _DOWNLOAD_SHARE + (1 - _DOWNLOAD_SHARE) * self.rows / self.total_rows
        return _DOWNLOAD_SHARE * self.bytes / self.total_bytes if self.total_bytes else 0.0


class Screen(Progress):
    """The progress of a backfill, called from several threads. `verbose` shows dbt's log too."""

    def __init__(self, console: Console, months: int, verbose: bool = False) -> None:
        self.seconds: dict[date, float] = {}
        """The seconds of each month from the first byte to the commit."""
        self._console = console
        self._months = months
        self._verbose = verbose
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._on_the_way: dict[date, _Month] = {}
        self._rows, self._bytes = 0, 0
        self._lock = Lock()
        self._bars = Bars(
            TextColumn("{task.description:8}"),
            BarColumn(bar_width=18),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            # dbt would print its log above the bars if it was imported while they are shown.
            redirect_stdout=False,
            redirect_stderr=False,
            # A higher rate would take CPU from the work.
            refresh_per_second=5,
        )
        # Shown before the import of Dagster, which takes a while.
        self._loading = self._bars.add_task("Loading", total=months, count=f"0 of {count_months(months)}")
        self._building: TaskID | None = None

    def start(self) -> None:
        """Show the bars on a terminal."""
        if self._is_live:
            self._bars.start()

    def stop(self) -> None:
        """Remove the bars."""
        self._bars.stop()

    def warned(self, text: str) -> None:
        """Print a line."""
        print_line(self._console, f"taxi: {text}", "yellow")

    def started(self, month: date) -> None:
        """Start the time of the month."""
        with self._lock:
            self._on_the_way[month] = _Month(time.monotonic())

    def downloaded(self, month: date, received: int, total: int | None) -> None:
        """Advance the bar by the received bytes."""
        with self._lock:
            on_the_way = self._on_the_way[month]
            # A retried download begins at zero.
            self._bytes += max(received - on_the_way.bytes, 0)
            on_the_way.bytes, on_the_way.total_bytes = received, total
            self._update()

    def opened(self, month: date, rows: int) -> None:
        """Set the number of rows to copy."""
        with self._lock:
            self._on_the_way[month].total_rows = rows

    def copied(self, month: date, rows: int) -> None:
        """Advance the bar by the copied rows."""
        with self._lock:
            self._on_the_way[month].rows += rows
            self._rows += rows
            self._update()

    def loaded(self, month: date, error: Exception | None) -> None:
        """Count the month, and print a line for it if there are no bars."""
        with self._lock:
            ended = self._on_the_way.pop(month)
            self.seconds[month] = time.monotonic() - ended.began
            self._update()
        if self._is_live:
            return
        if isinstance(error, NotPublishedError):
            print_line(self._console, f"{partition_key(month)} not published")
        elif error:
            print_line(self._console, f"{partition_key(month)} not loaded", "red")
        else:
            size = format_bytes(ended.bytes)
            text = f"{partition_key(month)} {ended.rows:>11,} rows {size:>9} {self.seconds[month]:>7.1f} s"
            print_line(self._console, text)

    def building(self, nodes: int) -> None:
        """Show the bar of dbt, replacing that of earlier months."""
        if self._building is not None:
            self._bars.remove_task(self._building)
        self._building = self._bars.add_task("Building", total=nodes, count=_of_nodes(0, nodes))

    def built(self) -> None:
        """Advance the bar of dbt."""
        if self._building is not None:
            self._bars.advance(self._building)
            task = self._bars.tasks[self._bars.task_ids.index(self._building)]
            self._bars.update(self._building, count=_of_nodes(int(task.completed), int(task.total or 0)))

    def logged(self, line: str) -> None:
        """Print a line of dbt's log if `verbose`."""
        if self._verbose:
            self._console.print(Text.from_ansi(line), soft_wrap=True)

    def _update(self) -> None:
        # A month that a retry loads again is on the way again.
        done = len(self.seconds.keys() - self._on_the_way.keys())
        count = f"{done} of {count_months(self._months)}  {self._rows:,} rows  {format_bytes(self._bytes)}"
        completed = done + sum(month.share for month in self._on_the_way.values())
        self._bars.update(self._loading, completed=completed, count=count)


def _of_nodes(done: int, nodes: int) -> str:
    # dbt's selection adds nodes to the requested number.
    return f"{done} of {max(done, nodes)} models and tests"


@contextmanager
def showing_progress(months: int, verbose: bool) -> Iterator[Screen]:
    """Open a screen on a copy of standard error, which Dagster's steps redirect to their log."""
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding) as file:
        screen = Screen(Console(file=file), months, verbose)
        screen.start()
        try:
            yield screen
        finally:
            screen.stop()
