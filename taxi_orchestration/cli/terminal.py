"""What `taxi` shows in a terminal: progress while it works, and tables of months."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from threading import Lock
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from taxi_orchestration.cli.backfill import Outcome
from taxi_orchestration.instance.status import MonthStatus, to_do
from taxi_orchestration.loading import Progress
from taxi_orchestration.months import Window, partition_key
from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.tlc.errors import TlcError


class Screen(Progress):
    """A bar for the whole backfill and one for every month that is on its way; lines where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self.seconds: dict[date, float] = {}
        self._began: dict[date, float] = {}
        self._tasks: dict[date, TaskID] = {}
        self._whole: TaskID | None = None
        self._nodes: TaskID | None = None
        self._lock = Lock()
        self._rows = 0
        self._start = time.monotonic()

    def expect(self, months: Sequence[date]) -> None:
        """So many months are going to be loaded."""
        if months:
            self._start = time.monotonic()
            self._whole = self._add(f"{len(months)} months", len(months))

    def warned(self, text: str) -> None:
        """A line."""
        self.console.print(f"taxi: {text}", style="yellow", highlight=False, markup=False, soft_wrap=True)

    def started(self, month: date) -> None:
        """A bar for the month."""
        with self._lock:
            self._began[month] = time.monotonic()
            self._tasks[month] = self._add(f"{partition_key(month)} downloading", None)

    def opened(self, month: date, rows: int) -> None:
        """The bar knows its length."""
        self.bars.update(self._tasks[month], description=f"{partition_key(month)} copying", total=rows)

    def copied(self, month: date, rows: int) -> None:
        """The bar grows."""
        task = self._tasks[month]
        self.bars.advance(task, rows)
        done = int(self.bars.tasks[self.bars.task_ids.index(task)].completed)
        rate = done / (time.monotonic() - self._began[month])
        self.bars.update(task, count=f"{done:,} rows", rate=f"{rate:,.0f} rows/s")
        with self._lock:
            self._rows += rows
            if self._whole is not None:
                whole = self._rows / (time.monotonic() - self._start)
                self.bars.update(self._whole, count=f"{self._rows:,} rows", rate=f"{whole:,.0f} rows/s")

    def loaded(self, month: date, error: Exception | None) -> None:
        """The bar goes, and a line stays."""
        with self._lock:
            self.seconds[month] = time.monotonic() - self._began[month]
            task = self.bars.tasks[self.bars.task_ids.index(self._tasks[month])]
            rows = int(task.completed)
            self.bars.remove_task(task.id)
            if self._whole is not None:
                self.bars.advance(self._whole)
        if error:
            self.console.print(f"[red]{partition_key(month)} not loaded[/]", highlight=False)
        else:
            rate = rows / self.seconds[month]
            self.console.print(f"{partition_key(month)} {rows:>11,} rows {rate:>11,.0f} rows/s", highlight=False)

    def building(self, nodes: int) -> None:
        """A bar for dbt, in place of that of the months before."""
        if self._nodes is not None:
            self.bars.remove_task(self._nodes)
        self._nodes = self._add("dbt models and tests", nodes)

    def built(self) -> None:
        """dbt's bar grows."""
        if self._nodes is None:
            return
        self.bars.advance(self._nodes)
        task = self.bars.tasks[self.bars.task_ids.index(self._nodes)]
        self.bars.update(self._nodes, count=f"{int(task.completed)} of {int(task.total or 0)}")

    def plan(self, window: Window, months: Sequence[date]) -> None:
        """What a backfill would do."""
        for month in months:
            self.console.print(f"would load {partition_key(month)}", highlight=False)
        left = len(window.months) - len(months)
        self.console.print(
            f"{len(months)} of the months {window} to load, {left} to leave as they are.", highlight=False
        )

    def error(self, text: str) -> None:
        """An error written for people."""
        self.console.print(f"taxi: {text}", style="red", highlight=False, markup=False, soft_wrap=True)

    def summary(self, statuses: Mapping[date, MonthStatus], outcome: Outcome) -> None:
        """The table that a backfill ends with, then what failed, and why."""
        self.bars.stop()
        table = Table(
            box=SIMPLE,
            padding=(0, 1, 0, 0),
            title=f"New York {DATASET.label}, by the month of the file",
            title_justify="left",
        )
        for name in ("month", "file rows", "raw_trips", "fct_trips", "rejected", "checks", "seconds"):
            table.add_column(name, justify="left" if name == "month" else "right", no_wrap=True)
        for month, status in sorted(statuses.items()):
            table.add_row(*_summary_row(status, self.seconds.get(month), month in outcome.failures))
        well = [s for s in statuses.values() if s.file]
        totals = [sum(s.file.rows for s in well if s.file), *(sum(getattr(s, n) for s in well) for n in _ROW_COUNTS)]
        table.add_section()
        table.add_row(f"{len(well)} months", *(f"{total:,}" for total in totals), "", "")
        self.console.print(table)
        for month, reason in sorted(outcome.failures.items()):
            self.error(f"{partition_key(month)} was not loaded. {reason}")
        for reason in outcome.run_failures:
            self.error(reason)
        for status in statuses.values():
            for name in status.checks.failed:
                self.error(f"check {name} fails for {partition_key(status.month)}; `make dev` shows its rows.")

    def _add(self, description: str, total: int | None) -> TaskID:
        return self.bars.add_task(description, total=total, count="", rate="")


_ROW_COUNTS = ("raw_rows", "fact_rows", "rejected_rows")


def _summary_row(status: MonthStatus, seconds: float | None, failed: bool) -> list[str]:
    month = partition_key(status.month)
    if status.file is None:
        return [f"[red]{month} {'failed' if failed else status.state}[/]", *[""] * 6]
    counts = [f"{count:,}" for count in (status.file.rows, *(getattr(status, name) for name in _ROW_COUNTS))]
    style = "" if status.is_exact and not failed and not status.checks.failed else "red"
    checks = f"{status.checks.passed} of {status.checks.total}"
    took = f"{seconds:.1f}" if seconds is not None else ""
    cells = [month, *counts, checks, took]
    return [f"[{style}]{cell}[/]" if style else cell for cell in cells]


@contextmanager
def showing_work() -> Iterator[Screen]:
    """A screen on a copy of standard error: a step of Dagster's redirects the original to its log."""
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding) as file:
        screen = Screen(Console(file=file))
        screen.bars.start()
        try:
            yield screen
        finally:
            screen.bars.stop()


def show_status(
    statuses: Mapping[date, MonthStatus],
    published: Mapping[date, Publication | TlcError],
    findings: Sequence[Finding],
    as_json: bool,
) -> None:
    """One row a month, for people or for programs; for people also what there is to say of all months."""
    rows = [_status_row(status, published[month]) for month, status in statuses.items()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    # 80 columns wide.
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("month", "out", "file rows", "fct_trips", "rejected", "checks", "loaded", "run", "state"):
        table.add_column(
            name, justify="right" if name in ("file rows", "fct_trips", "rejected") else "left", no_wrap=True
        )
    for row in rows:
        cells = [row["month"], row["published"], row["rows"], row["fact_rows"], row["rejected_rows"]]
        checks = f"{row['checks_passed']} of {row['checks']}" if row["checks"] else None
        cells += [checks, (row["loaded_at"] or "")[:10], (row["run"] or "")[:8], row["state"]]
        table.add_row(*map(_shown, cells), style="red" if row["to_do"] else "")
    console = Console()
    console.print(table)
    lines = [(f"{row['month']}: {row['to_do']}", "red") for row in rows if row["to_do"]]
    lines += [(f"{row['month']}: warns: {row['warned']}", "yellow") for row in rows if row["warned"]]
    for finding in findings:
        text = finding.summary if finding.level == "pass" else f"{finding.summary} To do: {finding.to_do}"
        lines.append((text, _COLOURS[finding.level]))
    for text, style in lines:
        console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


_COLOURS = {"pass": "", "warn": "yellow", "error": "red"}


def _status_row(status: MonthStatus, publication: Publication | TlcError) -> dict[str, Any]:
    file = status.file
    return {
        "month": partition_key(status.month),
        "published": publication.published if isinstance(publication, Publication) else None,
        "loaded": file is not None,
        "state": status.state,
        "rows": file.rows if file else None,
        "raw_rows": status.raw_rows,
        "fact_rows": status.fact_rows,
        "rejected_rows": status.rejected_rows,
        "checks_passed": status.checks.passed,
        "checks": status.checks.total,
        "warned": ", ".join(status.checks.warned),
        "to_do": to_do(status, publication),
        "loaded_at": file.loaded_at.isoformat(timespec="seconds") if file and file.loaded_at else None,
        "run": status.run_id,
    }


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case True:
            return "yes"
        case False:
            return "no"
        case int():
            return f"{value:,}"
    return str(value)
