"""`taxi status`, and the months that `taxi backfill --missing` and `--changed` select."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime

import pytest
from click.testing import CliRunner
from dagster import AssetMaterialization, DagsterInstance, Definitions

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.cli.commands import main
from taxi_orchestration.cli.selection import months_at_source
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.instance.status import Checks, MonthStatus, Records, check_all_months, known_window, to_do
from taxi_orchestration.loading import Loader
from taxi_orchestration.months import Window
from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.errors import TlcError
from taxi_orchestration.tlc.publications import fetch_publications
from taxi_orchestration.warehouse.load_log import LoadedFile
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.http_host import status
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.programs import TAXI, taxi
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.terminal import COLOUR, run_on_terminal
from taxi_orchestration_tests.support.tlc_host import TlcHost, month_path

APRIL, MAY = date(2024, 4, 1), date(2024, 5, 1)


def make_loaded_file(month: date, etag: str = '"a"', rows: int = 10) -> LoadedFile:
    return LoadedFile(month, "http://x", etag, None, 1, "sha", rows, {}, {}, None)


def make_completed(month: date, **other: object) -> MonthStatus:
    values = {"state": "completed", "file": make_loaded_file(month), "raw_rows": 10, "fact_rows": 9, "rejected_rows": 1}
    return MonthStatus(month, **(values | other))  # type: ignore[arg-type]


SAME, REISSUED = Publication("http://x", True, '"a"'), Publication("http://x", True, '"b"')
NOT_THERE = Publication("http://x", published=False)
UNKNOWN = TlcError("no answer")


@pytest.mark.parametrize(
    ("month", "publication", "expected"),
    [
        (make_completed(JANUARY), SAME, ""),
        (make_completed(JANUARY), NOT_THERE, ""),
        (make_completed(JANUARY), UNKNOWN, ""),
        (make_completed(JANUARY), REISSUED, "taxi backfill --changed"),
        (MonthStatus(JANUARY, "missing"), SAME, "taxi backfill --missing"),
        (MonthStatus(JANUARY, "missing"), NOT_THERE, ""),
        (MonthStatus(JANUARY, "missing"), UNKNOWN, ""),
        (MonthStatus(JANUARY, "failed"), SAME, "taxi backfill 2024-01"),
        (MonthStatus(JANUARY, "failed"), NOT_THERE, ""),
        (make_completed(JANUARY, state="failed"), REISSUED, "taxi backfill 2024-01"),
        (make_completed(JANUARY, state="failed"), NOT_THERE, "no longer published"),
        (make_completed(JANUARY, state="unfinished"), SAME, "taxi backfill 2024-01"),
        (make_completed(JANUARY, checks=Checks(3, ["money_adds_up"], ["x"])), SAME, "fails: money_adds_up"),
        (make_completed(JANUARY, checks=Checks(3, [], ["volume_as_expected"])), SAME, ""),
    ],
)
def test_a_month_has_a_to_do_only_if_a_user_can_change_its_status(
    month: MonthStatus, publication: Publication | TlcError, expected: str
) -> None:
    found = to_do(month, publication)
    assert (expected in found) if expected else (found == "")


def test_missing_months_are_published_and_not_loaded_changed_have_another_file() -> None:
    statuses = {
        JANUARY: make_completed(JANUARY),
        FEBRUARY: make_completed(FEBRUARY),
        MARCH: MonthStatus(MARCH, "missing"),
        APRIL: MonthStatus(APRIL, "failed"),
        MAY: MonthStatus(MAY, "missing"),
    }
    published: dict[date, Publication | TlcError] = {
        JANUARY: SAME,
        FEBRUARY: REISSUED,
        MARCH: SAME,
        APRIL: SAME,
        MAY: NOT_THERE,
    }

    def months(missing: bool, changed: bool, newest_first: bool = False) -> Sequence[date]:
        return months_at_source(statuses, published, missing, changed, newest_first)

    assert months(missing=True, changed=False) == [MARCH, APRIL]
    assert months(missing=False, changed=True) == [FEBRUARY]
    assert months(missing=True, changed=True, newest_first=True) == [APRIL, MARCH, FEBRUARY]


def test_a_host_that_does_not_answer_is_not_asked_for_every_month(tlc: TlcHost) -> None:
    tlc.http.answers.clear()
    months = Window(date(2014, 1, 1), date(2024, 1, 1)).months
    for month in months:
        tlc.http.on(month_path(month), status(503))
    answers = fetch_publications(tlc.url, months)
    assert list(answers) == months
    assert all(isinstance(answer, TlcError) for answer in answers.values())
    assert sum(tlc.requests_for(month, "HEAD") for month in months) < 30


def test_months_with_an_unknown_publication_do_not_affect_the_others(tlc: TlcHost) -> None:
    months = Window(date(2014, 1, 1), date(2016, 1, 1)).months
    tlc.publish(months[-1])
    for month in months[:7]:
        tlc.http.on(month_path(month), status(503))
    answers = fetch_publications(tlc.url, months)
    assert [month for month, answer in answers.items() if isinstance(answer, TlcError)] == months[:7]
    assert [m for m, a in answers.items() if isinstance(a, Publication) and a.published] == [months[-1]]


def test_status_says_what_to_do_and_backfill_does_it(
    tlc: TlcHost,
    environment: dict[str, str],
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    definitions: Definitions,
    backfill: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month)
    Backfill(definitions, instance, months_at_once=2).run([JANUARY, FEBRUARY])
    tlc.publish(FEBRUARY, seed=7)
    tlc.publish(MARCH)

    shown = taxi("status", "--json")
    rows = {row["month"]: row for row in json.loads(shown.stdout)}
    assert shown.returncode == 1, shown.stderr
    assert [rows[key]["to_do"] for key in ("2024-01", "2024-02", "2024-03")] == [
        "",
        "re-issued: taxi backfill --changed",
        "published: taxi backfill --missing",
    ]
    january = rows["2024-01"]
    assert january["checks"] > 16
    assert january["checks"] == january["checks_passed"] + len(january["warned"].split()), january
    assert rows["2024-04"]["published"] is False
    assert rows["2024-04"]["to_do"] == ""

    # Dagster's records are unchanged, so `taxi status` does not import Dagster.
    command = [sys.executable, "-X", "importtime", "-c", "from taxi_orchestration.cli.commands import main; main()"]
    again = subprocess.run([*command, "status"], env={**os.environ, **environment}, capture_output=True, text=True)
    assert "2024-02 re-issued" in again.stdout
    assert not re.search(r"\| +(dagster|dbt|pyarrow|pandas)$", again.stderr, re.MULTILINE)

    capfd.readouterr()
    assert backfill("--missing", "--changed") == 0
    assert re.findall(r"^ (20..-..)", capfd.readouterr().out, re.MULTILINE) == ["2024-02", "2024-03"]
    window = known_window(Warehouse(target, settings.schema_name), Clock().now())
    statuses = month_statuses(Warehouse(target, settings.schema_name), instance, window)
    published = fetch_publications(tlc.url, window.months)
    assert [to_do(statuses[m], published[m]) for m in (JANUARY, FEBRUARY, MARCH)] == ["", "", ""]
    assert tlc.requests_for(JANUARY) == 1
    assert tlc.requests_for(FEBRUARY) == 2

    screen = run_on_terminal([TAXI, "status"], environment)
    assert re.search(r"2024 +■ +■ +■ +· ", screen.text)
    assert "■ 3 loaded" in screen.text
    assert COLOUR.search(screen.screen)
    assert max(map(len, screen.lines[:5])) <= 80
    # The synthetic months end in 2024, so later months seem years late.
    assert "2024-04: not published" in screen.text
    assert screen.returncode == 0, "an unpublished month is nothing that the user can fix"
    tlc.publish(APRIL)
    screen = run_on_terminal([TAXI, "status"], {**environment, "NO_COLOR": "1"})
    assert not COLOUR.search(screen.screen)
    assert "2024-04 published: " in screen.text
    assert screen.returncode == 0, "the month was never requested"
    assert "\x1b" not in run_on_terminal([TAXI, "status", "--all"], {**environment, "TERM": "dumb"}).screen

    # A later record of another process shows at once.
    other_rows = {"dagster/data_version": "of other rows"}
    instance.report_runless_asset_event(AssetMaterialization("raw_trips", partition="2024-01", tags=other_rows))
    # So that the table has its full width.
    changed = taxi("status", COLUMNS="250")
    assert changed.returncode == 1
    assert "2024-01 unfinished: " in changed.stdout
    assert "◧ 1 unfinished" in changed.stdout


def test_status_shows_a_failed_month_that_is_older_than_the_loaded_ones(
    tlc: TlcHost, instance: DagsterInstance, definitions: Definitions
) -> None:
    december = date(2023, 12, 1)
    tlc.publish_bytes(december, b"<html>Sign in</html>")
    backfill = Backfill(definitions, instance, months_at_once=2)
    assert list(backfill.run([december]).failures) == [december]
    tlc.publish(JANUARY)
    # With an empty warehouse, and with a later month loaded.
    for months in ([], [JANUARY]):
        assert backfill.run(months).succeeded
        # Repeated, because Dagster's record is cached.
        for _ in range(2):
            shown = CliRunner().invoke(main, ["status"])
            assert "2023-12 failed: taxi backfill 2023-12\n" in shown.stdout
            assert shown.exit_code == 1
    rows = json.loads(CliRunner().invoke(main, ["status", "--json"]).stdout)
    assert [(row["month"], row["state"]) for row in rows[:2]] == [("2023-12", "failed"), ("2024-01", "completed")]


def test_a_failed_request_for_an_old_month_says_nothing_about_a_new_one(tlc: TlcHost, loader: Loader) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month)
        loader.load_month(month)
    records, now = Records({}, {JANUARY, FEBRUARY}), datetime(2024, 5, 1, tzinfo=UTC)

    def freshness(published: Mapping[date, Publication | TlcError]) -> Finding:
        return check_all_months(loader.warehouse, records, published, now, JANUARY)[1]

    assert freshness({JANUARY: UNKNOWN, FEBRUARY: SAME}).level == "pass"
    about_march = freshness({JANUARY: UNKNOWN, FEBRUARY: SAME, MARCH: TlcError("March is busy.")})
    assert about_march.level == "warn"
    assert about_march.summary == "It is unknown whether a new month is published. March is busy."


def test_without_a_range_or_an_option_backfill_says_what_it_needs() -> None:
    refused = CliRunner().invoke(main, ["backfill"])
    assert refused.exit_code == 2
    assert "--missing" in refused.output


def test_an_unreachable_host_stops_backfill_missing_and_backfill_changed(
    tlc: TlcHost, instance: DagsterInstance, loader: Loader
) -> None:
    tlc.publish(JANUARY)
    loader.load_month(JANUARY)
    refused = taxi("backfill", "--missing", "2024-01", "2024-03", TLC_BASE_URL="http://127.0.0.1:9")
    assert refused.returncode == 1
    assert "the host cannot be reached: Connection refused. Check the network" in refused.stderr
