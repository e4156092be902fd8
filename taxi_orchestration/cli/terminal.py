"""The output of `taxi`: tables and the grid of months on standard output, errors on standard error. No Dagster here.

Rich honours NO_COLOR, TERM=dumb and pipes. Progress bars are in screen.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from taxi_orchestration.instance.status import MonthStatus, is_changed, is_published, to_do
from taxi_orchestration.months import Window, count_months, format_months, partition_key, windows_of
from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.tlc.errors import TlcError

if TYPE_CHECKING:
    from taxi_orchestration.cli.backfill import Outcome
    from taxi_orchestration.cli.class_status import StudentStatus


class Sign(NamedTuple):
    """The sign of a month in the grid; `ascii` for terminals without Unicode."""

    name: str
    mark: str
    ascii: str
    style: str


LOADED = Sign("loaded", "■", "#", "green")
FAILED = Sign("failed", "✗", "x", "bold red")
UNFINISHED = Sign("unfinished", "◧", "%", "red")
REISSUED = Sign("re-issued", "↻", "r", "bold yellow")
PUBLISHED = Sign("published", "□", "o", "cyan")
NOT_YET = Sign("not yet", "·", ".", "dim")
UNKNOWN = Sign("not known", "?", "?", "yellow")
SIGNS = (LOADED, FAILED, UNFINISHED, REISSUED, PUBLISHED, NOT_YET, UNKNOWN)
# Requested months that are not as they should be.
NEEDS_ACTION = frozenset({FAILED, UNFINISHED, REISSUED})

_COMMAND = re.compile(r"\btaxi(?= (backfill|class|report|stop|dbt|psql)\b)")
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ROW_COUNTS = ("raw_rows", "fact_rows", "rejected_rows")
_COLOURS = {"pass": "", "warn": "yellow", "error": "red"}


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print a text unwrapped and without markup."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def print_error(text: str) -> None:
    """Print an error message."""
    print_line(Console(stderr=True), f"taxi: {as_typed(text)}", "red")


def print_note(text: str) -> None:
    """Print a note on standard error, apart from output for programs."""
    print_line(Console(stderr=True), as_typed(text))


@contextmanager
def waiting(doing: str) -> Iterator[None]:
    """Show a message on a terminal during a block that takes seconds."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    with console.status(f"{doing} ..."):
        yield


def as_typed(text: str) -> str:
    """Return the text with `taxi` as typed here: its path if it is not on PATH."""
    program, found = Path(sys.argv[0]), shutil.which("taxi")
    if program.name != "taxi" or (found and Path(found).resolve() == program.resolve()):
        return text
    return _COMMAND.sub(lambda _: os.path.relpath(program), text)


def show_plan(window: Window, months: Sequence[date]) -> None:
    """Print what a backfill would load."""
    console = Console()
    for month in months:
        print_line(console, f"would load {partition_key(month)}")
    left = len(window.months) - len(months)
    as_is = "as it is" if left == 1 else "as they are"
    print_line(
        console,
        f"{len(months)} of the {count_months(len(window.months))} {window} to load, {left} to leave {as_is}.",
    )


def show_nothing_to_do(statuses: Mapping[date, MonthStatus]) -> None:
    """Print that the requested months need nothing."""
    done = sum(status.state == "completed" for status in statuses.values())
    are = "is" if done == 1 else "are"
    print_note(f"Nothing to do: {count_months(done)} {are} loaded and built." if done else "Nothing to do.")
    if left := [month for month, status in statuses.items() if status.state in ("failed", "unfinished")]:
        commands = "; ".join(f"taxi backfill {_range(window.months)}" for window in windows_of(left))
        print_note(f"Failed or unfinished, and not requested: {format_months(left)}. Run: {commands}")
    _show_failed_checks(statuses)


def show_summary(
    statuses: Mapping[date, MonthStatus],
    outcome: Outcome,
    seconds: Mapping[date, float],
    elapsed: float,
    logs: Sequence[Path],
) -> None:
    """Print the final table of a backfill, then failures with reasons and dbt's log, and the next step."""
    table = Table(
        box=SIMPLE,
        padding=(0, 1, 0, 0),
        title=f"New York {DATASET.label}, by the month of the file",
        title_justify="left",
    )
    for name in ("month", "file rows", "raw_trips", "fct_trips", "rejected", "checks", "seconds"):
        table.add_column(name, justify="left" if name == "month" else "right", no_wrap=True)
    kept = [month for month in outcome.not_published if statuses[month].file]
    for month, status in sorted(statuses.items()):
        if month in kept or month not in outcome.not_published:
            table.add_row(*_summary_row(status, seconds.get(month), month in outcome.failures))
    loaded = [status for status in statuses.values() if status.file]
    totals = [sum(s.file.rows for s in loaded if s.file), *(sum(getattr(s, n) for s in loaded) for n in _ROW_COUNTS)]
    table.add_section()
    table.add_row(count_months(len(loaded)), *(f"{total:,}" for total in totals), "", "")
    Console().print(table)
    for month, reason in sorted(outcome.failures.items()):
        print_error(f"{partition_key(month)} failed. {reason}")
    for reason in outcome.run_failures:
        print_error(reason)
    for log in logs:
        print_error(f"dbt's log is in {log}")
    _show_failed_checks(statuses)
    if absent := outcome.not_published.keys() - set(kept):
        print_note(f"Not published: {format_months(absent)}. {outcome.not_published[min(absent)]}")
    if kept:
        reason = outcome.not_published[min(kept)]
        print_note(f"No longer published: {format_months(kept)}. The loaded rows are kept. {reason}")
    done = len(seconds.keys() - outcome.failures.keys() - outcome.not_published.keys())
    print_note(f"{count_months(done)} loaded in {elapsed:.1f} s.")
    if outcome.succeeded and loaded:
        print_note("Next: make dev opens the Dagster UI; taxi report draws all months.")


def _show_failed_checks(statuses: Mapping[date, MonthStatus]) -> None:
    for status in statuses.values():
        for name in status.checks.failed:
            print_error(f"check {name} fails for {partition_key(status.month)}; `make dev` shows its rows.")


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


def sign_of(status: MonthStatus, publication: Publication | TlcError) -> Sign:
    """Return the sign of a month in the grid."""
    if status.file is None and isinstance(publication, Publication) and not publication.published:
        return NOT_YET
    if status.state == "failed" or status.checks.failed:
        return FAILED
    if status.state == "missing":
        return PUBLISHED if is_published(publication) else UNKNOWN
    if status.state == "unfinished":
        return UNFINISHED
    return REISSUED if is_changed(status.file, publication) else LOADED


def show_json(statuses: Mapping[date, MonthStatus], published: Mapping[date, Publication | TlcError]) -> None:
    """Print a JSON object for each month, for programs."""
    print(json.dumps([_status_row(status, published[month]) for month, status in statuses.items()], indent=2))


def show_grid(statuses: Mapping[date, MonthStatus], published: Mapping[date, Publication | TlcError]) -> None:
    """Print the grid of years and months with a sign for each month, and a legend."""
    console = Console()
    is_plain = not (console.encoding or "").lower().startswith("utf")
    signs = {month: sign_of(status, published[month]) for month, status in statuses.items()}
    grid = Table(box=None, padding=(0, 1, 0, 0))
    grid.add_column("")
    for name in _MONTH_NAMES:
        grid.add_column(name, justify="center")
    for year in range(min(signs).year, max(signs).year + 1):
        of_year = [signs.get(date(year, number, 1)) for number in range(1, 13)]
        grid.add_row(str(year), *(_marked(sign, is_plain) if sign else "" for sign in of_year))
    console.print(grid)
    found = list(signs.values())
    counted = [_marked(s, is_plain) + Text(f" {found.count(s)} {s.name}") for s in SIGNS if s in found]
    console.print(Text("   ").join(counted), soft_wrap=True)


def _marked(sign: Sign, is_plain: bool) -> Text:
    return Text.assemble((sign.ascii if is_plain else sign.mark, sign.style))


def show_table(statuses: Mapping[date, MonthStatus], published: Mapping[date, Publication | TlcError]) -> None:
    """Print a table with a row for each month, in 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("month", "out", "file rows", "fct_trips", "rejected", "checks", "loaded", "run", "state"):
        table.add_column(
            name, justify="right" if name in ("file rows", "fct_trips", "rejected") else "left", no_wrap=True
        )
    for row in (_status_row(status, published[month]) for month, status in statuses.items()):
        cells = [row["month"], row["published"], row["rows"], row["fact_rows"], row["rejected_rows"]]
        checks = f"{row['checks_passed']} of {row['checks']}" if row["checks"] else None
        cells += [checks, (row["loaded_at"] or "")[:10], (row["run"] or "")[:8], row["state"]]
        table.add_row(*map(_shown, cells), style="red" if row["to_do"] else "")
    Console().print(table)


def show_needs(
    statuses: Mapping[date, MonthStatus],
    published: Mapping[date, Publication | TlcError],
    findings: tuple[Finding, Finding],
) -> None:
    """Print the months that need something, grouped by need, and the findings on all months."""
    coverage, freshness = findings
    console = Console()
    needs: dict[str, list[date]] = {}
    warned: dict[str, list[date]] = {}
    for month, status in statuses.items():
        if text := to_do(status, published[month]):
            needs.setdefault(text.replace(partition_key(month), "{}"), []).append(month)
        if status.checks.warned:
            warned.setdefault(", ".join(status.checks.warned), []).append(month)
    lines = [
        (
            f"{format_months(months)} {text.format(_range(months))}",
            "red" if "{}" in text or "fail" in text else "yellow",
        )
        for text, of_text in needs.items()
        for months in ([w.months for w in windows_of(of_text)] if "{}" in text else [of_text])
    ]
    lines += [(f"{format_months(months)} warns: {names}", "yellow") for names, months in warned.items()]
    answered = not any(isinstance(answer, TlcError) for answer in published.values())
    is_empty = not any(status.file for status in statuses.values())
    # The lines above name its other results by month.
    if is_empty or coverage.level == "error" or (coverage.level == "warn" and not lines and not answered):
        lines.append((_with_to_do(coverage), _COLOURS[coverage.level]))
    if freshness.level != "pass":
        lines.append((_with_to_do(freshness), _COLOURS[freshness.level]))
    for text, style in lines or [("Nothing to do.", "")]:
        print_line(console, as_typed(text), style)


def _with_to_do(finding: Finding) -> str:
    # A terminal would break one long line within a word.
    return f"{finding.summary}\n  To do: {finding.to_do}"


def show_class_json(students: Sequence[StudentStatus]) -> None:
    """Print a JSON object for each student, for programs."""
    print(json.dumps([{**_student_row(student), "wrong": list(student.wrong)} for student in students], indent=2))


def show_class(students: Sequence[StudentStatus]) -> None:
    """Print a table with a row for each student, and below what is wrong."""
    if not students:
        return
    console = Console()
    table = Table(box=None, padding=(0, 1, 0, 0))
    names = ("student", "months", "TLC's rows", "raw_trips", "fct_trips", "rejected", "checks", "last run")
    for name in names:
        numbers = ("months", "TLC's rows", "raw_trips", "fct_trips", "rejected")
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    for student in students:
        row = _student_row(student)
        cells = [row["student"], row["months"], row["rows"], row["raw_rows"], row["fact_rows"], row["rejected_rows"]]
        checks = f"{row['checks_passed']}/{row['checks']}" if row["checks"] else None
        # Without the hour, so that the table fits in 80 columns.
        run = f"{student.last_run.status.lower()} {student.last_run.at:%d %b}" if student.last_run else None
        cells += [checks, run]
        table.add_row(*map(_shown, cells), style="red" if student.wrong else "")
    console.print(table)
    for student in students:
        for sentence in student.wrong:
            print_line(console, f"{student.name}: {sentence}", "red")


def _student_row(student: StudentStatus) -> dict[str, Any]:
    loaded, run = student.loaded, student.last_run
    return {
        "student": student.name,
        "schema": student.schema,
        "months": len(loaded),
        "completed": sum(month.state == "completed" for month in student.months),
        "rows": sum(month.file.rows for month in loaded if month.file),
        **{name: sum(getattr(month, name) for month in loaded) for name in _ROW_COUNTS},
        "checks_passed": sum(month.checks.passed for month in loaded),
        "checks": sum(month.checks.total for month in loaded),
        "last_run": run.id if run else None,
        "last_run_status": run.status if run else None,
        "last_run_at": run.at.isoformat(timespec="seconds") if run else None,
    }


def _range(months: Sequence[date]) -> str:
    """Format contiguous months as arguments of `taxi backfill`."""
    return " ".join(dict.fromkeys((partition_key(months[0]), partition_key(months[-1]))))


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
