"""The output of `taxi`: the grid of months, the commands that months need, and fast errors for bad arguments."""

import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from click.testing import CliRunner
from rich.console import Console

from taxi_orchestration.cli import terminal
from taxi_orchestration.cli.backfill import Outcome
from taxi_orchestration.cli.class_status import LastRun, StudentStatus
from taxi_orchestration.cli.commands import describe_interrupt, main
from taxi_orchestration.cli.screen import Screen
from taxi_orchestration.cli.terminal import as_typed
from taxi_orchestration.instance.status import Checks, MonthStatus
from taxi_orchestration.months import MonthError, Window, count_months, parse_range
from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.errors import TlcError
from taxi_orchestration.warehouse.load_log import LoadedFile
from taxi_orchestration_tests.support.months import JANUARY
from taxi_orchestration_tests.support.terminal import run_on_terminal

NOW = datetime(2024, 5, 15, 12, tzinfo=UTC)
SAME, OTHER = Publication("http://x", True, '"a"'), Publication("http://x", True, '"b"')
UNPUBLISHED, NO_ANSWER = Publication("http://x", published=False), TlcError("no answer")
PASS = Finding("pass", "All is well.")


def make_complete_status(month: date = JANUARY, **other: object) -> MonthStatus:
    file = LoadedFile(month, "http://x", '"a"', None, 1, "sha", 10, {}, {}, None)
    values = {"state": "completed", "file": file, "raw_rows": 10, "fact_rows": 9, "rejected_rows": 1}
    return MonthStatus(month, **(values | other))  # type: ignore[arg-type]


def make_missing_status(month: date = JANUARY) -> MonthStatus:
    return MonthStatus(month, "missing")


@pytest.mark.parametrize(
    ("status", "publication", "sign"),
    [
        (make_complete_status(), SAME, terminal.LOADED),
        (make_complete_status(), NO_ANSWER, terminal.LOADED),
        (make_complete_status(), OTHER, terminal.REISSUED),
        (make_complete_status(state="failed"), SAME, terminal.FAILED),
        (make_complete_status(checks=Checks(3, ["money_adds_up"])), SAME, terminal.FAILED),
        (make_complete_status(state="unfinished"), SAME, terminal.UNFINISHED),
        (make_missing_status(), SAME, terminal.PUBLISHED),
        (make_missing_status(), UNPUBLISHED, terminal.NOT_YET),
        (MonthStatus(JANUARY, "failed"), UNPUBLISHED, terminal.NOT_YET),
        (MonthStatus(JANUARY, "failed"), SAME, terminal.FAILED),
        (make_missing_status(), NO_ANSWER, terminal.UNKNOWN),
    ],
)
def test_a_month_has_the_sign_of_its_status(
    status: MonthStatus, publication: Publication | TlcError, sign: terminal.Sign
) -> None:
    assert terminal.sign_of(status, publication) is sign


def capture_needs(
    statuses: Mapping[date, MonthStatus],
    published: Mapping[date, Publication | TlcError],
    capsys: pytest.CaptureFixture[str],
    coverage: Finding = PASS,
    freshness: Finding = PASS,
) -> list[str]:
    terminal.show_needs(statuses, published, (coverage, freshness))
    return capsys.readouterr().out.splitlines()


def test_months_with_the_same_to_do_are_one_line_and_months_without_are_omitted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    months = Window(JANUARY, date(2024, 8, 1)).months
    statuses = {month: make_complete_status(month) for month in months}
    published: dict[date, Publication | TlcError] = dict.fromkeys(months, SAME)
    for month in months[1:3]:
        statuses[month] = make_complete_status(month, state="failed")
    statuses[months[4]] = make_complete_status(months[4], state="failed")
    statuses[months[5]] = make_missing_status(months[5])
    published[months[6]] = OTHER
    uncovered = Finding("warn", "2024-06: published, but not loaded.", "taxi backfill --missing")
    assert capture_needs(statuses, published, capsys, uncovered) == [
        "2024-02 to 2024-03 failed: taxi backfill 2024-02 2024-03",
        "2024-05 failed: taxi backfill 2024-05",
        "2024-06 published: taxi backfill --missing",
        "2024-07 re-issued: taxi backfill --changed",
    ]


def test_status_says_if_there_is_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert capture_needs({JANUARY: make_complete_status()}, {JANUARY: SAME}, capsys) == ["Nothing to do."]


def test_findings_about_all_months_together_are_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    lost = Finding("error", "2024-02: loaded in Dagster's record, but not in PostgreSQL.", "Load it again.")
    late = Finding("warn", "2024-03: not published 80 days after its end.", "Look at the TLC's page.")
    assert capture_needs({JANUARY: make_complete_status()}, {JANUARY: SAME}, capsys, lost, late) == [
        "2024-02: loaded in Dagster's record, but not in PostgreSQL.",
        "  To do: Load it again.",
        "2024-03: not published 80 days after its end.",
        "  To do: Look at the TLC's page.",
    ]


def test_with_nothing_to_do_the_failed_months_that_were_not_requested_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    months = Window(JANUARY, date(2024, 6, 1)).months
    states = ("completed", "failed", "unfinished", "completed", "failed")
    terminal.show_nothing_to_do(
        {month: make_complete_status(month, state=state) for month, state in zip(months, states, strict=True)}
    )
    assert capsys.readouterr().err.splitlines() == [
        "Nothing to do: 2 months are loaded and built.",
        "Failed or unfinished, and not requested: 2024-02 to 2024-03, 2024-05. "
        "Run: taxi backfill 2024-02 2024-03; taxi backfill 2024-05",
    ]


def test_lost_months_are_named_once_even_if_the_warehouse_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    lost = Finding("error", "2024-01: loaded in Dagster's record, but not in PostgreSQL.", "Load it again.")
    assert capture_needs({JANUARY: make_missing_status()}, {JANUARY: UNPUBLISHED}, capsys, lost) == [
        "2024-01: loaded in Dagster's record, but not in PostgreSQL.",
        "  To do: Load it again.",
    ]


def test_a_month_that_a_retry_loads_again_is_counted_once() -> None:
    screen = Screen(Console(file=StringIO()), 2)
    for _ in range(2):
        screen.started(JANUARY)
        screen.loaded(JANUARY, WarehouseError("no connection"))
    (bar,) = screen._bars.tasks
    assert (bar.completed, bar.fields["count"].split("  ")[0]) == (1, "1 of 2 months")


def test_a_loaded_month_that_the_host_no_longer_has_stays_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    months = Window(JANUARY, date(2024, 4, 1)).months
    statuses = {month: make_complete_status(month) for month in months[:2]} | {
        months[2]: make_missing_status(months[2])
    }
    outcome = Outcome(not_published={month: f"{month:%Y-%m} is not there." for month in months[1:]})
    terminal.show_summary(statuses, outcome, dict.fromkeys(months, 1.0), 3.0, [])
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines() if line.startswith(" 2024")] == ["2024-01", "2024-02"]
    assert "2 months" in shown.out
    assert "Not published: 2024-03. 2024-03 is not there." in shown.err
    assert "No longer published: 2024-02. The loaded rows are kept. 2024-02 is not there." in shown.err
    assert "1 month loaded in 3.0 s." in shown.err
    assert "Next: make dev" in shown.err


def test_a_summary_without_a_loaded_month_gives_a_reason_and_no_next_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    months = Window(JANUARY, date(2024, 3, 1)).months
    outcome = Outcome(not_published={month: f"{month:%Y-%m} is not there." for month in reversed(months)})
    statuses = {month: make_missing_status(month) for month in months}
    terminal.show_summary(statuses, outcome, dict.fromkeys(months, 1.0), 3.0, [])
    assert capsys.readouterr().err.splitlines() == [
        "Not published: 2024-01 to 2024-02. 2024-01 is not there.",
        "0 months loaded in 3.0 s.",
    ]


def test_a_hundred_and_fifty_months_fit_on_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    months = Window(date(2013, 8, 1), date(2026, 2, 1)).months
    terminal.show_grid({month: make_complete_status(month) for month in months}, dict.fromkeys(months, SAME))
    lines = capsys.readouterr().out.splitlines()
    assert len(months) == 150
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert sum(line.count("■") for line in lines[:-1]) == 150
    assert lines[-1] == "■ 150 loaded"


def test_a_class_fits_in_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file = LoadedFile(JANUARY, "http://x", '"a"', None, 1, "sha", 1_971_156, {}, {}, None)
    month = make_complete_status(file=file, raw_rows=1_971_156, fact_rows=1_971_156, checks=Checks(961, []))
    terminal.show_class(
        [
            StudentStatus("ada", "dagster_ada", [month], LastRun("1", "SUCCESS", NOW)),
            StudentStatus("bob", "dagster_bob", wrong=["code: no_such_module"]),
        ]
    )
    header, ada, bob, wrong = capsys.readouterr().out.splitlines()
    assert ada.split() == ["ada", "1", *["1,971,156"] * 3, "1", "961/961", "success", "15", "May"]
    assert max(map(len, (header, ada, bob))) <= 80
    assert wrong == "bob: code: no_such_module"


def test_a_number_of_months_is_written_in_singular_or_plural() -> None:
    assert [count_months(number) for number in (0, 1, 3)] == ["0 months", "1 month", "3 months"]


def test_a_date_stands_for_its_month() -> None:
    assert parse_range("2024-01-01", "2024-03-31", NOW) == parse_range("2024-01", "2024-03", NOW)
    assert parse_range("2023-12-01", "2023-12-01", NOW) == parse_range("2023-12", "2023-12", NOW)
    with pytest.raises(MonthError, match="is not a month"):
        parse_range("2024-01-32", "2024-03", NOW)


LARGE = "dagster|pydantic|psycopg|requests|rich"
BAD_ARGUMENTS = {
    "backfill 2024-02 2024-01": LARGE,
    "backfill": LARGE,
    "no-such": LARGE,
    "--help": LARGE,
    "report --output /no/such/report.html": "dagster",
    "class serve --port 3000 --read-only-port 3000": "dagster",
}


@pytest.mark.parametrize("arguments", BAD_ARGUMENTS)
def test_bad_arguments_are_refused_before_large_libraries_are_imported(arguments: str) -> None:
    command = [sys.executable, "-X", "importtime", "-c", "from taxi_orchestration.cli.commands import main; main()"]
    done = subprocess.run([*command, *arguments.split()], cwd=PROJECT_DIRECTORY, capture_output=True, text=True)
    assert done.returncode == (0 if arguments == "--help" else 2)
    assert not re.search(rf"\| +({BAD_ARGUMENTS[arguments]})$", done.stderr, re.MULTILINE)


def test_only_an_interrupted_backfill_that_skips_what_is_done_is_to_be_continued() -> None:
    assert describe_interrupt(None) == "interrupted."
    assert "begins again" in describe_interrupt("completed")
    assert "skips what is done" in describe_interrupt("failed")


@pytest.mark.parametrize("group", [(), ("class",)])
def test_the_help_of_a_group_cuts_no_summary_at_80_columns(group: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*group, "--help"], terminal_width=80).stdout
    assert "status" in shown
    assert "..." not in shown.replace("ARGS]...", "")


def test_commands_in_messages_are_shown_as_the_user_started_taxi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["bin/taxi"])
    monkeypatch.setenv("PATH", "")
    assert as_typed("Add one: taxi class add ada. It runs until taxi stop") == (
        "Add one: bin/taxi class add ada. It runs until bin/taxi stop"
    )
    assert as_typed("New York taxi months") == "New York taxi months"


def test_the_bar_shows_the_bytes_of_a_download_and_a_pipe_gets_a_line_with_them() -> None:
    progress = """
from datetime import date
from taxi_orchestration.cli.screen import showing_progress
month = date(2024, 1, 1)
with showing_progress(1, verbose=False) as screen:
    screen.started(month)
    screen.downloaded(month, 1_000_000, 3_400_000)
    screen.downloaded(month, 3_400_000, 3_400_000)
    screen.opened(month, 300)
    screen.copied(month, 300)
    screen.loaded(month, None)
"""
    command = [sys.executable, "-c", progress]
    shown = run_on_terminal(command, {}, cwd=PROJECT_DIRECTORY)
    assert shown.returncode == 0, shown.text
    assert any("1 of 1 month  300 rows  3.4 MB" in line for line in shown.lines), shown.lines
    piped = subprocess.run(command, cwd=PROJECT_DIRECTORY, capture_output=True, text=True)
    assert re.fullmatch(r"2024-01 +300 rows +3\.4 MB +\d+\.\d s", piped.stderr.strip()), piped.stderr


def test_the_environment_is_installed_by_uv_or_by_pip_with_a_line_of_progress(tmp_path: Path) -> None:
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with ZipFile(wheel, "w") as file:
        file.writestr("tiny.py", "")
        file.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        file.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("tiny-1.0.dist-info/RECORD", "")
    script = str(PROJECT_DIRECTORY / ".ci" / "pip_install.py")
    options = ["--no-index", "--target", str(tmp_path / "there")]
    shown = run_on_terminal([sys.executable, script, *options, str(wheel)], {"PATH": "/usr/bin:/bin"})
    assert shown.returncode == 0, shown.text
    assert "Installing 1 package, " in shown.text
    assert re.fullmatch(r"The environment is ready, after \d+ s\.", shown.lines[-1])
    with_uv = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "UV_CACHE_DIR": str(tmp_path / "cache")}
    options[-1] = str(tmp_path / "uv")
    shown = run_on_terminal([sys.executable, script, *options, str(wheel)], with_uv)
    assert re.fullmatch(r"The environment is ready, after \d+ s with uv\.", shown.lines[-1])
    assert (tmp_path / "uv" / "tiny.py").exists()
    refused = subprocess.run(
        [sys.executable, script, "--no-index", "nothing-of-that-name"], capture_output=True, text=True, env=with_uv
    )
    assert refused.returncode == 1
    assert "No matching distribution found for nothing-of-that-name" in refused.stderr
